/* SPDX-License-Identifier: BSD-2-Clause */
/* The fixture of counted_context.h with a temporary folder as well. */
#ifndef TEST_COUNTED_FOLDER_H
#define TEST_COUNTED_FOLDER_H

#include "base/context.h"
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

/* The context's. */
static inline const char *message(void)
{
    static char text[CSO_MESSAGE_SIZE];
    carso_context_message(context, text, sizeof text);
    return text;
}

#endif
