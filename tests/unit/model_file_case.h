/* SPDX-License-Identifier: BSD-2-Clause */
/* A fixture: a small model, in a file of the temporary folder. */
#ifndef TEST_MODEL_FILE_CASE_H
#define TEST_MODEL_FILE_CASE_H

#include <check.h>
#include <string.h>

#include "base/json.h"
#include "base/safetensors.h"
#include "counted_folder.h"
#include "model/run.h"

#define MODEL "model.safetensors"
#define CHANGED "changed.safetensors"
#define CLASSES 4
#define MOST_TENSORS 256
#define MOST_SETTINGS 16

static inline void require(carso_status status)
{
    char message[1024];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(status == CARSO_OK, "%s: %s", carso_status_str(status), message);
}

static inline bool message_has(const char *part)
{
    char message[1024];
    carso_context_message(context, message, sizeof message);
    return strstr(message, part) != NULL;
}

static inline carso_model *build(void)
{
    static const char *const names[CLASSES] = {"shirt", "caf\xc3\xa9", "\"quoted\"", ""};
    carso_model_options options;
    carso_purifier_options purifier;
    carso_model *classifier = NULL, *model = NULL, *derived = NULL;
    json_t *provenance = json_pack("{s:s, s:[f]}", "data", "none", "epsilon", 0.1);
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.image_height = options.image_width = 28;
    options.classes = CLASSES;
    options.class_names = names;
    options.mean[0] = 0.286f;
    options.deviation[0] = 0.353f;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = 4;
    purifier.latent_size = 2;
    purifier.seed_channels = 16;
    require(carso_model_create(context, &options, &classifier));
    require(carso_model_add_purifier(classifier, &purifier, &model));
    require(cso_model_derive(model, NULL, NULL, provenance, &derived));
    json_decref(provenance);
    carso_model_destroy(classifier);
    carso_model_destroy(model);
    return derived;
}

static inline void set_up_with_model(void)
{
    set_up_with_folder();
    carso_model *model = build();
    require(carso_model_save(model, scratch_file(MODEL)));
    carso_model_destroy(model);
}

/* The file's parts, to be changed and written again. */
typedef struct model_parts {
    cso_safetensors *file;
    cso_tensor_write tensor[MOST_TENSORS];
    size_t tensor_count;
    const char *key[MOST_SETTINGS];
    const char *value[MOST_SETTINGS];
    size_t setting_count;
} model_parts;

static inline void take_apart(model_parts *parts)
{
    static const char *const key[] = {"format", "graph",   "logits",   "taps",
                                      "input",  "classes", "purifier", "provenance"};
    memset(parts, 0, sizeof *parts);
    require(cso_safetensors_open(context, scratch_file(MODEL), &parts->file));
    ck_assert_uint_lt(cso_safetensors_count(parts->file), MOST_TENSORS - 4);
    for (size_t i = 0; i < cso_safetensors_count(parts->file); i++) {
        const cso_tensor *tensor = cso_safetensors_at(parts->file, i);
        cso_tensor_write *copy = &parts->tensor[parts->tensor_count++];
        *copy =
            (cso_tensor_write){.name = tensor->name, .type = tensor->type, .rank = tensor->rank, .data = tensor->data};
        memcpy(copy->dimension, tensor->dimension, sizeof copy->dimension);
    }
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        parts->key[parts->setting_count] = key[i];
        parts->value[parts->setting_count] = cso_safetensors_metadata(parts->file, key[i]);
        ck_assert_ptr_nonnull(parts->value[parts->setting_count]);
        parts->setting_count++;
    }
}

/* Writes, loads, and gives the parts up. */
static inline carso_status reload(model_parts *parts, carso_model **out)
{
    require(cso_safetensors_write(context, scratch_file(CHANGED), parts->tensor, parts->tensor_count, parts->key,
                                  parts->value, parts->setting_count));
    cso_safetensors_release(parts->file);
    return carso_model_load(context, scratch_file(CHANGED), out);
}

/* value NULL: left out. */
static inline void set(model_parts *parts, const char *key, const char *value)
{
    for (size_t i = 0; i < parts->setting_count; i++) {
        if (strcmp(parts->key[i], key) != 0) {
            continue;
        }
        parts->value[i] = value;
        if (value == NULL) {
            parts->setting_count--;
            parts->key[i] = parts->key[parts->setting_count];
            parts->value[i] = parts->value[parts->setting_count];
        }
        return;
    }
    ck_abort_msg("no setting %s", key);
}

static inline void drop_prefix(model_parts *parts, const char *prefix)
{
    for (size_t i = parts->tensor_count; i-- > 0;) {
        if (strncmp(parts->tensor[i].name, prefix, strlen(prefix)) == 0) {
            parts->tensor[i] = parts->tensor[--parts->tensor_count];
        }
    }
}

#endif
