/* SPDX-License-Identifier: BSD-2-Clause */
#define CSO_LOOPS cso_loops_portable
#define CSO_LOOPS_NAME "portable"
#define CSO_TARGET
#include "backends/onednn/loops_template.h"
