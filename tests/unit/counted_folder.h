/* SPDX-License-Identifier: BSD-2-Clause */
/* The fixture of counted_context.h with a temporary folder as well. */
#ifndef TEST_COUNTED_FOLDER_H
#define TEST_COUNTED_FOLDER_H

#include "counted_context.h"
#include "scratch_folder.h"

static void set_up_with_folder(void)
{
    set_up();
    scratch_create();
}

static void tear_down_with_folder(void)
{
    scratch_remove();
    tear_down();
}

#endif
