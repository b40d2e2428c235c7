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

#include "carso/carso.h"
#include "carso/data.hpp"
#include "carso/evaluate.hpp"
#include "carso/model.hpp"
#include "carso/train.hpp"

#endif
