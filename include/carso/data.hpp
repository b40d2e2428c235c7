/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Data sets and image files. Include carso/carso.hpp.
 */
#ifndef CARSO_DATA_HPP
#define CARSO_DATA_HPP

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "carso/context.hpp"
#include "carso/data.h"

namespace carso
{

using read_options = detail::initialised<carso_read_options, carso_read_options_init>;
using dataset_options = detail::initialised<carso_dataset_options, carso_dataset_options_init>;
using reader_options = detail::initialised<carso_reader_options, carso_reader_options_init>;

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
