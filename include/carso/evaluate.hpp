/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Evaluations. Include carso/carso.hpp.
 */
#ifndef CARSO_EVALUATE_HPP
#define CARSO_EVALUATE_HPP

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include "carso/evaluate.h"
#include "carso/model.hpp"

namespace carso
{

using evaluation_options = detail::initialised<carso_evaluation_options, carso_evaluation_options_init>;

/**
 * The accuracy that is left under attacks, step by step, so that it can be saved in between. One thread at a time. The
 * views are of the images that are finished, and valid until a step is taken or this object goes.
 */
class evaluation
{
public:
    /** labels [count]: the true ones. The images are copied. */
    evaluation(const model &of, const carso_images &batch, const std::int32_t *labels,
               const carso_evaluation_options &options = evaluation_options())
        : context_(carso_model_context(of.get()))
    {
        carso_evaluation *made = nullptr;
        detail::check(carso_evaluation_create(of.get(), &batch, labels, &options, &made), context_);
        take(made);
    }
    /** A file of save, to look at: it takes no steps. */
    static evaluation open(const context &where, const std::string &path)
    {
        carso_evaluation *made = nullptr;
        detail::check(carso_evaluation_open(where.get(), path.c_str(), &made), where.get());
        return evaluation(made, where.get());
    }
    /** The files of all shards, in any order. */
    static evaluation merge(const context &where, const std::vector<std::string> &paths)
    {
        std::vector<const char *> names;
        for (const std::string &path : paths)
            names.push_back(path.c_str());
        carso_evaluation *made = nullptr;
        detail::check(carso_evaluation_merge(where.get(), names.data(), names.size(), &made), where.get());
        return evaluation(made, where.get());
    }
    carso_evaluation *get() const noexcept { return handle_.get(); }

    /** One step; false once there is none left. After an error it can be tried again. */
    bool step(carso_progress_callback progress = nullptr, void *user = nullptr)
    {
        std::int32_t finished = 0;
        detail::check(carso_evaluation_step(get(), progress, user, &finished), context_);
        return finished == 0;
    }
    /** All steps that are left. */
    void run(carso_progress_callback progress = nullptr, void *user = nullptr)
    {
        while (step(progress, user)) {
        }
    }
    void save(const std::string &path) const { detail::check(carso_evaluation_save(get(), path.c_str()), context_); }
    /** Goes on from a file of save; this evaluation must be new, and of the same model, images, labels and options. */
    void resume(const std::string &path) { detail::check(carso_evaluation_resume(get(), path.c_str()), context_); }

    /** How it is repeated: files keep it, and the result has it in "commands". */
    void set_command(const std::string &command)
    {
        detail::check(carso_evaluation_set_command(get(), command.c_str()), context_);
    }

    /** Configuration, figures and flags, as JSON. */
    std::string result() const
    {
        const char *const text = carso_evaluation_result(get());
        if (text == nullptr)
            throw std::bad_alloc();
        return text;
    }
    std::size_t count() const noexcept { return static_cast<std::size_t>(carso_evaluation_count(get())); }
    /** Components of an image: channels * height * width. */
    std::size_t image_size() const noexcept { return image_size_; }

    /** [count][channels][height][width]: the originals, and what the attacks of one of the result's cells made of them,
     * empty where there is no such cell. */
    view<float> originals() const noexcept { return images(-1); }
    view<float> images(std::int32_t cell) const noexcept
    {
        return {carso_evaluation_images(get(), cell), count() * image_size_};
    }
    /** [count]: index among the images that were given. */
    view<std::int64_t> positions() const noexcept { return {carso_evaluation_positions(get()), count()}; }
    /** [count]: the true ones. */
    view<std::int32_t> labels() const noexcept { return {carso_evaluation_labels(get()), count()}; }
    /** [count]: majority of the predictions that score a cell; of the originals, -1: the classifier's, -2: the defence's.
     * Empty where there is none. */
    view<std::int32_t> predictions(std::int32_t cell) const noexcept
    {
        return {carso_evaluation_predictions(get(), cell), count()};
    }

private:
    evaluation(carso_evaluation *owned, carso_context *where) noexcept : context_(where) { take(owned); }
    void take(carso_evaluation *owned) noexcept
    {
        std::int32_t shape[3];
        handle_.reset(owned);
        carso_evaluation_shape(owned, shape);
        for (const std::int32_t side : shape)
            image_size_ *= static_cast<std::size_t>(side);
    }

    detail::handle<carso_evaluation, carso_evaluation_destroy> handle_;
    carso_context *context_; /* kept alive by the evaluation */
    std::size_t image_size_ = 1;
};

} // namespace carso
#endif
