/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Training. Include carso/carso.hpp.
 */
#ifndef CARSO_TRAIN_HPP
#define CARSO_TRAIN_HPP

#include <cstdint>
#include <string>

#include "carso/data.hpp"
#include "carso/model.hpp"
#include "carso/train.h"

namespace carso
{

using purifier_training_options = detail::initialised<carso_purifier_training_options, carso_purifier_training_options_init>;
using classifier_training_options = detail::initialised<carso_classifier_training_options, carso_classifier_training_options_init>;

/** Weights in training. One thread at a time. */
class trainer
{
public:
    static trainer purifier(const model &from, const carso_purifier_training_options &options)
    {
        carso_trainer *made = nullptr;
        carso_context *const where = carso_model_context(from.get());
        detail::check(carso_trainer_create_purifier(from.get(), &options, &made), where);
        return trainer(made, where);
    }
    static trainer classifier(const model &from, const carso_classifier_training_options &options)
    {
        carso_trainer *made = nullptr;
        carso_context *const where = carso_model_context(from.get());
        detail::check(carso_trainer_create_classifier(from.get(), &options, &made), where);
        return trainer(made, where);
    }
    static trainer load(const context &where, const std::string &path)
    {
        carso_trainer *made = nullptr;
        detail::check(carso_trainer_load(where.get(), path.c_str(), &made), where.get());
        return trainer(made, where.get());
    }

    carso_trainer *get() const noexcept { return handle_.get(); }
    /** labels [count] */
    carso_train_report step(const carso_images &batch, const std::int32_t *labels)
    {
        carso_train_report report;
        report.struct_size = sizeof report;
        detail::check(carso_train_step(get(), &batch, labels, &report), context_);
        return report;
    }
    std::uint64_t steps_done() const noexcept { return carso_trainer_step(get()); }
    model reached() const
    {
        carso_model *made = nullptr;
        detail::check(carso_trainer_get_model(get(), &made), context_);
        return model(made);
    }
    /** Where the batches come from: kept in checkpoints and in the model's provenance. */
    void set_data(const std::string &name, std::uint64_t images, std::uint64_t batch,
                  const carso_read_options &reading = read_options())
    {
        detail::check(carso_trainer_set_data(get(), name.c_str(), images, batch, &reading), context_);
    }
    /** Whether a training that goes on has these options; the error names the first that differs. */
    void check(const carso_purifier_training_options &options) const
    {
        detail::check(carso_trainer_check_purifier(get(), &options), context_);
    }
    void check(const carso_classifier_training_options &options) const
    {
        detail::check(carso_trainer_check_classifier(get(), &options), context_);
    }
    void save(const std::string &path) const { detail::check(carso_trainer_save(get(), path.c_str()), context_); }

private:
    trainer(carso_trainer *owned, carso_context *where) noexcept : handle_(owned), context_(where) {}

    detail::handle<carso_trainer, carso_trainer_destroy> handle_;
    carso_context *context_; /* kept alive by the trainer */
};

} // namespace carso
#endif
