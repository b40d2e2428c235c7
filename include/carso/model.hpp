/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Models, predictions, gradients and attacks. Include carso/carso.hpp.
 */
#ifndef CARSO_MODEL_HPP
#define CARSO_MODEL_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "carso/attack.h"
#include "carso/context.hpp"
#include "carso/model.h"
#include "carso/predict.h"

namespace carso
{

using model_options = detail::initialised<carso_model_options, carso_model_options_init>;
using purifier_options = detail::initialised<carso_purifier_options, carso_purifier_options_init>;
using predict_options = detail::initialised<carso_predict_options, carso_predict_options_init>;
using gradient_options = detail::initialised<carso_gradient_options, carso_gradient_options_init>;
using attack_options = detail::initialised<carso_attack_options, carso_attack_options_init>;

/** What a prediction holds; the views are valid as long as this object, moved or not. */
class prediction
{
public:
    prediction(carso_prediction *owned, std::size_t image_size) noexcept : handle_(owned), image_size_(image_size) {}
    const carso_prediction *get() const noexcept { return handle_.get(); }

    std::size_t count() const noexcept { return static_cast<std::size_t>(carso_prediction_count(get())); }
    std::size_t classes() const noexcept { return static_cast<std::size_t>(carso_prediction_classes(get())); }
    std::size_t draws() const noexcept { return static_cast<std::size_t>(carso_prediction_draws(get())); }
    /** Components of an image: channels * height * width. */
    std::size_t image_size() const noexcept { return image_size_; }

    /** [count] */
    view<std::int32_t> labels() const noexcept { return {carso_prediction_labels(get()), count()}; }
    /** [count][classes] */
    view<double> probabilities() const noexcept { return {carso_prediction_probabilities(get()), count() * classes()}; }
    view<double> log_odds() const noexcept { return {carso_prediction_log_odds(get()), count() * classes()}; }
    /** [draws][count][classes] */
    view<double> logits() const noexcept { return {carso_prediction_logits(get()), draws() * count() * classes()}; }
    /** [count] */
    view<std::int32_t> agreement() const noexcept { return {carso_prediction_agreement(get()), count()}; }
    /** [draws][count][channels][height][width] */
    view<float> reconstructions() const noexcept
    {
        return {carso_prediction_reconstructions(get()), draws() * count() * image_size()};
    }
    /** Probabilities of one image's classes. */
    view<double> probabilities(std::size_t image) const { return probabilities().part(image * classes(), classes()); }

private:
    detail::handle<carso_prediction, carso_prediction_destroy> handle_;
    std::size_t image_size_;
};

/** What an attack made; the views are valid as long as this object, moved or not. */
class attack_result
{
public:
    attack_result(carso_attack_result *owned, std::size_t image_size) noexcept : handle_(owned), image_size_(image_size)
    {
    }
    const carso_attack_result *get() const noexcept { return handle_.get(); }

    std::size_t count() const noexcept { return static_cast<std::size_t>(carso_attack_result_count(get())); }
    /** [count][channels][height][width] */
    view<float> images() const noexcept { return {carso_attack_result_images(get()), count() * image_size_}; }
    /** [count], as the following */
    view<double> first_loss() const noexcept { return {carso_attack_result_first_loss(get()), count()}; }
    view<double> last_loss() const noexcept { return {carso_attack_result_last_loss(get()), count()}; }
    view<std::uint8_t> non_finite() const noexcept { return {carso_attack_result_non_finite(get()), count()}; }
    view<double> zero_gradient() const noexcept { return {carso_attack_result_zero_gradient(get()), count()}; }
    view<double> tiny_gradient() const noexcept { return {carso_attack_result_tiny_gradient(get()), count()}; }
    view<std::uint32_t> non_finite_losses() const noexcept
    {
        return {carso_attack_result_non_finite_losses(get()), count()};
    }
    view<std::uint32_t> non_finite_gradients() const noexcept
    {
        return {carso_attack_result_non_finite_gradients(get()), count()};
    }
    /** Of FAB, else empty. */
    view<double> distance() const noexcept { return {carso_attack_result_distance(get()), count()}; }
    std::size_t step_count() const noexcept { return static_cast<std::size_t>(carso_attack_result_step_count(get())); }
    carso_attack_step step(std::size_t index) const
    {
        carso_attack_step found;
        found.struct_size = sizeof found;
        if (carso_attack_result_get_step(get(), index, &found) != CARSO_OK)
            throw std::out_of_range("carso::attack_result::step");
        return found;
    }

private:
    detail::handle<carso_attack_result, carso_attack_result_destroy> handle_;
    std::size_t image_size_;
};

/** d loss / d image and what it was computed from; losses are empty with a logit_gradient. */
struct gradient {
    std::vector<float> values;  /**< [count][channels][height][width] */
    std::vector<double> losses; /**< [count] */
    std::vector<double> logits; /**< [draws][count][classes] */
};

/** An attack that was cancelled, met numbers that are not finite or whose loss failed: what it has nevertheless. */
class attack_error : public error
{
public:
    attack_error(const error &reason, attack_result &&partial)
        : error(reason), result_(std::make_shared<const attack_result>(std::move(partial)))
    {
    }
    const attack_result &result() const noexcept { return *result_; }

private:
    std::shared_ptr<const attack_result> result_; /* exceptions are copied */
};

/** A gradient with numbers that are not finite, all the same. */
class gradient_error : public error
{
public:
    gradient_error(const error &reason, gradient &&partial)
        : error(reason), result_(std::make_shared<const gradient>(std::move(partial)))
    {
    }
    const gradient &result() const noexcept { return *result_; }

private:
    std::shared_ptr<const gradient> result_;
};

/** A classifier and, optionally, its purifier. Immutable: any number of threads may share it. */
class model
{
public:
    explicit model(carso_model *owned) : handle_(owned)
    {
        info_.struct_size = sizeof info_;
        detail::check(carso_model_get_info(owned, &info_), carso_model_context(owned));
    }
    static model load(const context &where, const std::string &path)
    {
        carso_model *made = nullptr;
        detail::check(carso_model_load(where.get(), path.c_str(), &made), where.get());
        return model(made);
    }
    /** The memory must outlive the model and stay unchanged. */
    static model load_memory(const context &where, const void *data, std::size_t size)
    {
        carso_model *made = nullptr;
        detail::check(carso_model_load_memory(where.get(), data, size, &made), where.get());
        return model(made);
    }
    static model create(const context &where, const carso_model_options &options = model_options())
    {
        carso_model *made = nullptr;
        detail::check(carso_model_create(where.get(), &options, &made), where.get());
        return model(made);
    }
    model add_purifier(const carso_purifier_options &options = purifier_options()) const
    {
        carso_model *made = nullptr;
        check(carso_model_add_purifier(get(), &options, &made));
        return model(made);
    }
    /** This structure with the weights of safetensors files. */
    model import_weights(const std::vector<std::string> &paths) const
    {
        std::vector<const char *> names;
        for (const std::string &path : paths)
            names.push_back(path.c_str());
        carso_model *made = nullptr;
        check(carso_model_import(get(), names.data(), names.size(), &made));
        return model(made);
    }
    /** Number of tensors of a golden file that the model departs from. */
    std::int32_t verify(const std::string &golden, double tolerance = 1e-4) const
    {
        std::int32_t departures = 0;
        check(carso_model_verify(get(), golden.c_str(), tolerance, nullptr, nullptr, &departures));
        return departures;
    }
    void save(const std::string &path) const { check(carso_model_save(get(), path.c_str())); }

    carso_model *get() const noexcept { return handle_.get(); }
    const carso_model_info &info() const noexcept { return info_; }
    /** Components of an image: channels * height * width. */
    std::size_t image_size() const noexcept
    {
        return static_cast<std::size_t>(info_.channels) * static_cast<std::size_t>(info_.image_height) *
               static_cast<std::size_t>(info_.image_width);
    }
    std::string class_name(std::int32_t index) const
    {
        const char *const name = carso_model_class_name(get(), index);
        if (name == nullptr)
            throw std::out_of_range("carso::model::class_name");
        return name;
    }
    /** As JSON. */
    std::string describe() const
    {
        const char *const text = carso_model_describe(get());
        if (text == nullptr)
            throw std::bad_alloc();
        return text;
    }

    prediction predict(const carso_images &batch, const carso_predict_options &options = predict_options()) const
    {
        return run(carso_predict, batch, options);
    }
    prediction purify(const carso_images &batch, const carso_predict_options &options = predict_options()) const
    {
        return run(carso_purify, batch, options);
    }
    prediction predict_robust(const carso_images &batch, const carso_predict_options &options = predict_options()) const
    {
        return run(carso_predict_robust, batch, options);
    }

    /** labels [count], or NULL where the options carry a logit_gradient. gradient_error where NON_FINITE. */
    gradient differentiate(const carso_images &batch, const std::int32_t *labels,
                           const carso_gradient_options &options = gradient_options()) const
    {
        const std::size_t count = static_cast<std::size_t>(batch.count);
        const bool defence = options.objective == CARSO_OBJECTIVE_DEFENCE;
        /* Draws that the call will refuse need no room. */
        const std::size_t draws = defence && options.draws > 0 ? static_cast<std::size_t>(options.draws) : 1;
        gradient result;
        result.values.resize(count * image_size());
        if (options.logit_gradient == nullptr)
            result.losses.resize(count);
        result.logits.resize(draws * count * static_cast<std::size_t>(info_.classes));
        const carso_status status =
            carso_gradient(get(), &batch, labels, &options, result.values.data(),
                           result.losses.empty() ? nullptr : result.losses.data(), result.logits.data());
        try {
            check(status);
        } catch (const error &reason) {
            if (status == CARSO_ERROR_NON_FINITE)
                throw gradient_error(reason, std::move(result));
            throw;
        }
        return result;
    }

    /** labels [count]: the true ones. attack_error where CANCELLED, CALLBACK or NON_FINITE. */
    attack_result attack(const carso_images &batch, const std::int32_t *labels,
                         const carso_attack_options &options = attack_options()) const
    {
        carso_attack_result *made = nullptr;
        const carso_status status = carso_attack(get(), &batch, labels, &options, &made);
        attack_result result(made, image_size());
        try {
            check(status);
        } catch (const error &reason) {
            if (made != nullptr)
                throw attack_error(reason, std::move(result));
            throw;
        }
        return result;
    }

private:
    template <typename Call>
    prediction run(Call call, const carso_images &batch, const carso_predict_options &options) const
    {
        carso_prediction *made = nullptr;
        check(call(get(), &batch, &options, &made));
        return prediction(made, image_size());
    }
    void check(carso_status status) const { detail::check(status, carso_model_context(get())); }

    detail::handle<carso_model, carso_model_destroy> handle_;
    carso_model_info info_;
};

} // namespace carso
#endif
