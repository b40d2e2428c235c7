/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * The interface for C++17: handles that destroy themselves, exceptions in place of statuses, results without copies.
 *
 *   carso::context context;
 *   carso::model model = carso::model::load(context, "model.safetensors");
 *   carso::images images(pixels, 28, 28, CARSO_ORDER_GRAY, count);
 *   carso::prediction prediction = model.predict_robust(images);
 *   for (std::int32_t label : prediction.labels()) ...
 *
 * Header only: it belongs to the application, and is no part of the library's binary interface. Option structs are the
 * C ones, initialised. Callbacks are the C ones: exceptions must not leave them. Thread-safety is that of the C calls.
 */
#ifndef CARSO_CARSO_HPP
#define CARSO_CARSO_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "carso/carso.h"

namespace carso
{

/** A failed call: the library's message and status. */
class error : public std::runtime_error
{
public:
    error(carso_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
    carso_status status() const noexcept { return status_; }

private:
    carso_status status_;
};

/** A row of values in memory that another object holds, and that it must outlive. Empty where a result has none. */
template <typename T> class view
{
public:
    view() noexcept = default;
    view(const T *data, std::size_t size) noexcept : data_(data), size_(data != nullptr ? size : 0) {}
    const T *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    const T *begin() const noexcept { return data_; }
    const T *end() const noexcept { return data_ + size_; }
    const T &operator[](std::size_t index) const noexcept { return data_[index]; }
    const T &at(std::size_t index) const
    {
        if (index >= size_)
            throw std::out_of_range("carso::view::at");
        return data_[index];
    }
    /** Values first .. first + count - 1, for one image or draw of several. */
    view part(std::size_t first, std::size_t count) const
    {
        if (first > size_ || count > size_ - first)
            throw std::out_of_range("carso::view::part");
        return view(data_ + first, count);
    }

private:
    const T *data_ = nullptr;
    std::size_t size_ = 0;
};

namespace detail
{

template <typename T, void (*destroy)(T *)> struct destroyer {
    void operator()(T *handle) const noexcept { destroy(handle); }
};

template <typename T, void (*destroy)(T *)> using handle = std::unique_ptr<T, destroyer<T, destroy>>;

[[noreturn]] inline void throw_failure(carso_status status, const carso_context *context)
{
    std::string message;
    if (context != nullptr && status != CARSO_CANCELLED) {
        std::size_t length = carso_context_message(context, nullptr, 0);
        message.resize(length + 1);
        length = carso_context_message(context, &message[0], message.size());
        message.resize(length < message.size() ? length : message.size() - 1);
    }
    throw error(status, message.empty() ? carso_status_str(status) : message);
}

inline void check(carso_status status, const carso_context *context)
{
    if (status != CARSO_OK)
        throw_failure(status, context);
}

} // namespace detail

/* Option structs, filled with the defaults; see the C headers for their fields. */
#define CARSO_INITIALISED(type)                                              \
    struct type : carso_##type {                                             \
        type() noexcept { carso_##type##_init(this, sizeof(carso_##type)); } \
    }
CARSO_INITIALISED(context_options);
CARSO_INITIALISED(model_options);
CARSO_INITIALISED(purifier_options);
CARSO_INITIALISED(predict_options);
CARSO_INITIALISED(gradient_options);
CARSO_INITIALISED(attack_options);
CARSO_INITIALISED(purifier_training_options);
CARSO_INITIALISED(classifier_training_options);
CARSO_INITIALISED(read_options);
CARSO_INITIALISED(dataset_options);
CARSO_INITIALISED(reader_options);
#undef CARSO_INITIALISED

/** Images that the caller holds, dense and interleaved unless the fields are changed. */
struct images : carso_images {
    images() noexcept { carso_images_init(this, sizeof(carso_images)); }
    images(const std::uint8_t *pixels, int image_width, int image_height, carso_pixel_order image_order,
           std::uint64_t image_count = 1) noexcept
        : images(pixels, CARSO_PIXEL_UINT8, image_width, image_height, image_order, image_count)
    {
    }
    images(const float *pixels, int image_width, int image_height, carso_pixel_order image_order,
           std::uint64_t image_count = 1) noexcept
        : images(pixels, CARSO_PIXEL_FLOAT32, image_width, image_height, image_order, image_count)
    {
    }

private:
    images(const void *pixels, carso_pixel_type pixel_type, int image_width, int image_height,
           carso_pixel_order image_order, std::uint64_t image_count) noexcept
        : images()
    {
        data = pixels;
        count = image_count;
        width = image_width;
        height = image_height;
        type = pixel_type;
        order = image_order;
    }
};

/** Backend, threads, memory. Models, data sets and trainers keep it alive: this object may go before they do. */
class context
{
public:
    explicit context(const carso_context_options &options = context_options())
    {
        carso_context *made = nullptr;
        const carso_status status = carso_context_create(&options, &made);
        if (status != CARSO_OK)
            throw error(status, creation_message(options, status));
        handle_.reset(made);
    }
    carso_context *get() const noexcept { return handle_.get(); }
    std::string backend() const { return carso_context_backend(get()); }
    std::int32_t threads() const noexcept { return carso_context_threads(get()); }
    carso_memory memory() const
    {
        carso_memory memory{};
        memory.struct_size = sizeof memory;
        detail::check(carso_context_memory(get(), &memory), get());
        return memory;
    }

private:
    /* There is no context to ask, and the reason only goes to a log: try again with one that keeps it. */
    static std::string creation_message(const carso_context_options &options, carso_status status)
    {
        std::string message;
        context_options asking;
        std::memcpy(static_cast<carso_context_options *>(&asking), &options,
                    options.struct_size < sizeof(carso_context_options) ? options.struct_size
                                                                        : sizeof(carso_context_options));
        asking.struct_size = sizeof(carso_context_options);
        asking.log = keep_message;
        asking.log_user = &message;
        carso_context *made = nullptr;
        if (carso_context_create(&asking, &made) == CARSO_OK)
            carso_context_destroy(made);
        return message.empty() ? carso_status_str(status) : message;
    }
    static void keep_message(carso_log_level level, const char *text, void *user) noexcept
    {
        try {
            if (level == CARSO_LOG_ERROR)
                *static_cast<std::string *>(user) = text;
        } catch (const std::bad_alloc &) {
            /* the status has to do */
        }
    }

    detail::handle<carso_context, carso_context_destroy> handle_;
};

/** Names of the backends in this build, in order of preference. */
inline std::vector<std::string> backends()
{
    std::vector<std::string> names;
    for (std::size_t i = 0; i < carso_backend_count(); i++)
        names.emplace_back(carso_backend_name(i));
    return names;
}

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
    void set_data(const std::string &name, std::uint64_t images, std::uint64_t batch)
    {
        detail::check(carso_trainer_set_data(get(), name.c_str(), images, batch), context_);
    }
    void save(const std::string &path) const { detail::check(carso_trainer_save(get(), path.c_str()), context_); }

private:
    trainer(carso_trainer *owned, carso_context *where) noexcept : handle_(owned), context_(where) {}

    detail::handle<carso_trainer, carso_trainer_destroy> handle_;
    carso_context *context_; /* kept alive by the trainer */
};

/** A data set; any number of threads may read it. */
class dataset
{
public:
    dataset(const context &where, const std::string &path, carso_split split) : context_(where.get())
    {
        carso_dataset *made = nullptr;
        detail::check(carso_dataset_open(where.get(), path.c_str(), split, &made), context_);
        take(made);
    }
    dataset(const context &where, const std::string &path, const carso_dataset_options &options) : context_(where.get())
    {
        carso_dataset *made = nullptr;
        detail::check(carso_dataset_open_with(where.get(), path.c_str(), &options, &made), context_);
        take(made);
    }
    /** Image files, and folders of them at any depth, without labels. */
    dataset(const context &where, const std::vector<std::string> &paths,
            const carso_dataset_options &options = dataset_options())
        : context_(where.get())
    {
        carso_dataset *made = nullptr;
        std::vector<const char *> names;
        for (const std::string &path : paths)
            names.push_back(path.c_str());
        detail::check(carso_dataset_open_files(where.get(), names.data(), names.size(), &options, &made), context_);
        take(made);
    }
    const carso_dataset *get() const noexcept { return handle_.get(); }
    const carso_dataset_info &info() const noexcept { return info_; }
    std::string class_name(std::int32_t index) const
    {
        const char *const name = carso_dataset_class_name(get(), index);
        if (name == nullptr)
            throw std::out_of_range("carso::dataset::class_name");
        return name;
    }
    /** Into the caller's vectors, which are resized: pixels [count][height][width][channels], labels [count]. */
    void read(const std::vector<std::uint64_t> &indices, std::vector<std::uint8_t> &pixels,
              std::vector<std::int32_t> &labels, const carso_read_options &options = read_options()) const
    {
        const std::size_t image = static_cast<std::size_t>(info_.height) * static_cast<std::size_t>(info_.width) *
                                  static_cast<std::size_t>(info_.channels);
        pixels.resize(indices.size() * image);
        labels.resize(indices.size());
        detail::check(carso_dataset_read(get(), indices.data(), indices.size(), &options, pixels.data(), labels.data()),
                      context_);
    }
    /** Describes what read put into pixels. */
    carso::images describe(const std::vector<std::uint8_t> &pixels, std::size_t count) const noexcept
    {
        return carso::images(pixels.data(), info_.width, info_.height,
                             info_.channels == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB, count);
    }
    /** Path of an image's file, empty where images have none of their own. */
    std::string file(std::uint64_t index) const
    {
        const char *const path = carso_dataset_file(get(), index);
        return path == nullptr ? std::string() : std::string(path);
    }
    /** The context, for messages; kept alive by the data set. */
    carso_context *context_handle() const noexcept { return context_; }
    std::vector<std::uint64_t> shuffle(std::uint64_t seed, std::uint64_t epoch) const
    {
        std::vector<std::uint64_t> indices(static_cast<std::size_t>(info_.count));
        detail::check(carso_dataset_shuffle(get(), seed, epoch, indices.data()), context_);
        return indices;
    }

private:
    void take(carso_dataset *made)
    {
        handle_.reset(made);
        info_.struct_size = sizeof info_;
        detail::check(carso_dataset_get_info(made, &info_), context_);
    }

    detail::handle<carso_dataset, carso_dataset_destroy> handle_;
    carso_context *context_; /* kept alive by the data set */
    carso_dataset_info info_;
};

/** Batches of a data set, which must outlive it, read ahead on threads of the library's own. */
class reader
{
public:
    /** The images of indices in their order. */
    reader(const dataset &source, const std::vector<std::uint64_t> &indices,
           const carso_reader_options &options = reader_options())
        : reader(source, indices.data(), indices.size(), options)
    {
    }
    /** All images. */
    explicit reader(const dataset &source, const carso_reader_options &options = reader_options())
        : reader(source, nullptr, source.info().count - options.first, options)
    {
    }
    /** False at the end of the list. What batch points to is valid until the next call. */
    bool next(carso_read_batch &batch)
    {
        batch.struct_size = sizeof batch;
        detail::check(carso_reader_next(handle_.get(), &batch), context_);
        return batch.count > 0;
    }

private:
    reader(const dataset &source, const std::uint64_t *indices, std::uint64_t count, const carso_reader_options &options)
        : context_(source.context_handle())
    {
        carso_reader *made = nullptr;
        detail::check(carso_reader_open(source.get(), indices, count, &options, &made), context_);
        handle_.reset(made);
    }

    detail::handle<carso_reader, carso_reader_destroy> handle_;
    carso_context *context_; /* kept alive by the reader */
};

/** A PNG or JPEG file, decoded. */
class image
{
public:
    image(const context &where, const std::string &path)
    {
        carso_image *made = nullptr;
        detail::check(carso_image_read(where.get(), path.c_str(), &made), where.get());
        handle_.reset(made);
        detail::check(carso_image_get_images(made, &description_), where.get());
    }
    const carso_image *get() const noexcept { return handle_.get(); }
    /** To be passed to any call that takes images; valid as long as this object, moved or not. */
    const carso::images &description() const noexcept { return description_; }

private:
    detail::handle<carso_image, carso_image_destroy> handle_;
    carso::images description_;
};

/** Writes one of the images to an 8-bit PNG file, which appears whole or not at all. */
inline void write_png(const context &where, const std::string &path, const carso_images &batch, std::uint64_t index = 0)
{
    detail::check(carso_image_write_png(where.get(), path.c_str(), &batch, index), where.get());
}

} // namespace carso
#endif
