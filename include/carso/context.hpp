/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Contexts, and the images that all calls take. Include carso/carso.hpp.
 */
#ifndef CARSO_CONTEXT_HPP
#define CARSO_CONTEXT_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "carso/handle.hpp"
#include "carso/image.h"

namespace carso
{

using context_options = detail::initialised<carso_context_options, carso_context_options_init>;

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

} // namespace carso
#endif
