/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * What the parts of the wrapper share: failures, views of results, owners of handles. Include carso/carso.hpp.
 */
#ifndef CARSO_HANDLE_HPP
#define CARSO_HANDLE_HPP

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>

#include "carso/context.h"

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

/** An option struct of C, filled with the defaults. */
template <typename T, void (*initialise)(T *, std::size_t)> struct initialised : T {
    initialised() noexcept { initialise(this, sizeof(T)); }
};

} // namespace detail

} // namespace carso
#endif
