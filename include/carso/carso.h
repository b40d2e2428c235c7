/* SPDX-License-Identifier: BSD-2-Clause */
/** Everything. */
#ifndef CARSO_CARSO_H
#define CARSO_CARSO_H

#include "carso/attack.h"
#include "carso/context.h"
#include "carso/data.h"
#include "carso/evaluate.h"
#include "carso/image.h"
#include "carso/model.h"
#include "carso/predict.h"
#include "carso/train.h"
#include "carso/version.h"

#endif
