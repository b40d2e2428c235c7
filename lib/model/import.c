/* SPDX-License-Identifier: BSD-2-Clause */
/* Weights from files of other programs into a model's structure. What is read is hostile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/safetensors.h"
#include "model/model.h"
#include "model/tensor_report.h"

#define MOST_TENSORS 1000000
#define COUNTER "num_batches_tracked"
#define NAME_SIZE (CSO_MAX_NAME + 64)

/* What the names of a file stand for: prefix is what they lack to be those of a model file. */
typedef struct file_kind {
    const char *prefix;
    bool (*has)(const carso_model *model, const char *name);
} file_kind;

typedef struct source {
    const cso_tensor *tensor;
    cso_safetensors *file;
    const char *path;
    char *name; /* as in a model file */
    bool used;
} source;

typedef struct importer {
    carso_context *context;
    source *sources; /* by name */
    size_t count;
    cso_tensor_report report;
    const char *prefix; /* of the graph that is being filled */
} importer;

static const char *after(const char *name, const char *prefix)
{
    const size_t length = strlen(prefix);
    return strncmp(name, prefix, length) == 0 ? name + length : NULL;
}

static bool is_counter(const char *name)
{
    const char *dot = strrchr(name, '.');
    return strcmp(dot == NULL ? name : dot + 1, COUNTER) == 0;
}

static bool classifier_has(const carso_model *model, const char *name)
{
    return cso_graph_find_parameter(model->classifier, name) >= 0;
}

static bool purifier_has(const carso_model *model, const char *name)
{
    static const char *const parts[] = {"input_compressor.",     "repr_compressors.", "repr_fcn_compressor.",
                                        "joint_fcn_compressor.", "to_mean.",          "to_logvar.",
                                        "decoder."};
    (void)model;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (after(name, parts[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* name begins with numbers, each followed by a point; returns what follows so many of them, NULL where there are not. */
static const char *after_numbers(const char *name, int count, int *last)
{
    for (int i = 0; i < count; i++) {
        const size_t digits = strspn(name, "0123456789");
        if (digits == 0 || digits > 6 || name[digits] != '.') {
            return NULL;
        }
        *last = atoi(name);
        name += digits + 1;
    }
    return *name >= '0' && *name <= '9' ? NULL : name;
}

static bool is_block(const char *name, int numbers)
{
    int last = 0;
    return after_numbers(name, numbers, &last) != NULL && last <= 1;
}

/* "12.0.1.weight": tap, layer, convolution or BatchNorm. */
static bool tap_encoders_have(const carso_model *model, const char *name)
{
    (void)model;
    return is_block(name, 3);
}

static bool representation_encoder_has(const carso_model *model, const char *name)
{
    (void)model;
    return name[0] == '1' && is_block(name, 2);
}

static bool decoder_has(const carso_model *model, const char *name)
{
    (void)model;
    return is_block(name, 2) || after(name, "5.") != NULL;
}

static bool whole_has(const carso_model *model, const char *name)
{
    const char *rest = after(name, "classifier.");
    if (rest != NULL) {
        return classifier_has(model, rest);
    }
    rest = after(name, "purifier.");
    return rest != NULL && purifier_has(model, rest);
}

/* Where two fit as many names, the earlier is meant. */
static const file_kind kinds[] = {
    {"", whole_has},
    {"classifier.", classifier_has},
    {"purifier.", purifier_has},
    {"purifier.repr_compressors.", tap_encoders_have},
    {"purifier.repr_fcn_compressor.", representation_encoder_has},
    {"purifier.decoder.", decoder_has},
};

/* Length of what all names begin with, up to its last point. */
static size_t common_prefix(const cso_safetensors *file)
{
    const char *first = cso_safetensors_at(file, 0)->name;
    size_t length = strlen(first);
    for (size_t i = 1; i < cso_safetensors_count(file); i++) {
        const char *name = cso_safetensors_at(file, i)->name;
        size_t same = 0;
        while (same < length && name[same] == first[same]) {
            same++;
        }
        length = same;
    }
    length = length < CSO_MAX_NAME ? length : CSO_MAX_NAME;
    while (length > 0 && first[length - 1] != '.') {
        length--;
    }
    return length;
}

/* The kind, and how much of the names to strip, by which most of them make sense. */
static carso_status recognise(const carso_model *model, const cso_safetensors *file, const char *path,
                              const file_kind **out_kind, size_t *out_strip)
{
    const size_t count = cso_safetensors_count(file);
    size_t best = 0;
    *out_kind = NULL;
    *out_strip = 0;
    if (count == 0) {
        return cso_fail(model->context, CARSO_ERROR_BAD_FORMAT, "%s: holds no tensors", path);
    }
    const char *first = cso_safetensors_at(file, 0)->name;
    const size_t common = common_prefix(file);
    for (size_t strip = 0; strip <= common; strip++) {
        if (strip > 0 && first[strip - 1] != '.') {
            continue;
        }
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            size_t fitting = 0;
            for (size_t j = 0; j < count; j++) {
                const char *name = cso_safetensors_at(file, j)->name + strip;
                fitting += kinds[i].has(model, name) && !is_counter(name) ? 1 : 0;
            }
            if (fitting > best) {
                best = fitting;
                *out_kind = &kinds[i];
                *out_strip = strip;
            }
        }
    }
    if (best == 0) {
        return cso_fail(model->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: none of its %zu tensors, such as '%.100s', is named like weights of this model or of its "
                        "purifier",
                        path, count, cso_printable(first));
    }
    return CARSO_OK;
}

static carso_status add_file(importer *import, const carso_model *model, cso_safetensors *file, const char *path)
{
    const file_kind *kind = NULL;
    size_t strip = 0;
    const carso_status status = recognise(model, file, path, &kind, &strip);
    if (status != CARSO_OK) {
        return status;
    }
    if (strip > 0) {
        cso_log(import->context, CARSO_LOG_INFO, "%s: names begin with '%.*s', which is left out", path, (int)strip,
                cso_printable(cso_safetensors_at(file, 0)->name));
    }
    for (size_t i = 0; i < cso_safetensors_count(file); i++) {
        const cso_tensor *tensor = cso_safetensors_at(file, i);
        char name[NAME_SIZE];
        if (is_counter(tensor->name)) {
            continue;
        }
        /* A name that is cut off fits nothing, and is reported. */
        snprintf(name, sizeof name, "%s%s", kind->prefix, tensor->name + strip);
        source *added = &import->sources[import->count];
        *added = (source){.tensor = tensor, .file = file, .path = path};
        added->name = cso_duplicate_string(import->context, name);
        if (added->name == NULL) {
            return cso_fail_memory(import->context, "names of tensors");
        }
        import->count++;
    }
    return CARSO_OK;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(((const source *)left)->name, ((const source *)right)->name);
}

static carso_status gather(importer *import, const carso_model *model, cso_safetensors *const *file,
                           const char *const *path, size_t count)
{
    size_t most = 0;
    for (size_t i = 0; i < count; i++) {
        most += cso_safetensors_count(file[i]);
    }
    if (most > MOST_TENSORS) {
        return cso_fail(import->context, CARSO_ERROR_BAD_FORMAT,
                        "%zu tensors are more than the %d that an import takes", most, MOST_TENSORS);
    }
    import->sources = cso_allocate(import->context, most, sizeof *import->sources);
    if (import->sources == NULL) {
        return cso_fail_memory(import->context, "lists of tensors");
    }
    for (size_t i = 0; i < count; i++) {
        const carso_status status = add_file(import, model, file[i], path[i]);
        if (status != CARSO_OK) {
            return status;
        }
    }
    qsort(import->sources, import->count, sizeof *import->sources, compare_names);
    for (size_t i = 1; i < import->count; i++) {
        if (strcmp(import->sources[i - 1].name, import->sources[i].name) == 0) {
            import->sources[i].used = true; /* reported, once */
            cso_tensor_report_unexpected(&import->report, import->sources[i].name, ", which is there twice");
        }
    }
    return CARSO_OK;
}

static source *find_source(const importer *import, const char *prefix, const char *name)
{
    char full[NAME_SIZE];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const source key = {.name = full};
    source *found =
        import->count == 0 ? NULL
                           : bsearch(&key, import->sources, import->count, sizeof *import->sources, compare_names);
    while (found != NULL && found > import->sources && strcmp(found[-1].name, full) == 0) {
        found--; /* of doubles the first */
    }
    return found;
}

static bool any_begins_with(const importer *import, const char *prefix)
{
    for (size_t i = 0; i < import->count; i++) {
        if (after(import->sources[i].name, prefix) != NULL) {
            return true;
        }
    }
    return false;
}

static void check_graph(importer *import, const cso_graph *graph, const char *prefix)
{
    for (int i = 0; graph != NULL && i < graph->parameter_count; i++) {
        const cso_named_parameter *named = &graph->parameter[i];
        const cso_parameter *parameter = named->parameter;
        source *found = find_source(import, prefix, named->name);
        char full[NAME_SIZE];
        snprintf(full, sizeof full, "%s%s", prefix, named->name);
        if (found == NULL) {
            cso_tensor_report_missing(&import->report, full);
            continue;
        }
        found->used = true;
        if (!cso_tensor_fits(found->tensor, parameter->rank, parameter->dimension)) {
            cso_tensor_report_wrong(&import->report, full, found->tensor, parameter->rank, parameter->dimension);
        }
    }
}

static void check_unused(importer *import)
{
    for (size_t i = 0; i < import->count; i++) {
        if (!import->sources[i].used) {
            cso_tensor_report_unexpected(&import->report, import->sources[i].name, "");
        }
    }
}

/* A cso_parameter_choice, after the checks. */
static carso_status take_parameter(void *user, const cso_graph *graph, int index, cso_parameter **out)
{
    const importer *import = user;
    const source *found = find_source(import, import->prefix, graph->parameter[index].name);
    if (found == NULL) {
        return cso_fail(import->context, CARSO_ERROR_INTERNAL, "tensor '%.200s' was there and is not",
                        graph->parameter[index].name);
    }
    return cso_parameter_create_mapped(import->context, found->tensor->rank, found->tensor->dimension,
                                       found->tensor->data, found->file, out);
}

static carso_status fill_graph(importer *import, const cso_graph *graph, const char *prefix, cso_graph **out)
{
    import->prefix = prefix;
    return cso_graph_copy_constant(graph, take_parameter, import, out);
}

/* {"imported": ["file.safetensors", ..]}: an import has no other history. */
static carso_status name_files(const carso_context *context, const char *const *path, size_t count, json_t **out)
{
    json_t *names = json_array();
    *out = json_pack("{s:O}", "imported", names);
    bool complete = names != NULL && *out != NULL;
    for (size_t i = 0; complete && i < count; i++) {
        const char *slash = strrchr(path[i], '/');
        json_t *name = json_string(slash == NULL ? path[i] : slash + 1);
        complete = json_array_append_new(names, name != NULL ? name : json_string("(not UTF-8)")) == 0;
    }
    json_decref(names);
    return complete ? CARSO_OK : cso_fail_memory(context, "provenance");
}

static carso_status build(importer *import, const carso_model *model, bool with_classifier, bool with_purifier,
                          bool with_encoder, json_t *provenance, carso_model **out)
{
    cso_graph *classifier = NULL;
    cso_purifier purifier = {0};
    carso_status status = CARSO_OK;
    if (with_classifier) {
        status = fill_graph(import, model->classifier, "classifier.", &classifier);
    }
    if (with_purifier) {
        const cso_purifier *shape = model->purifier;
        purifier = (cso_purifier){.condition_size = shape->condition_size,
                                  .latent_size = shape->latent_size,
                                  .seed_channels = shape->seed_channels};
        if (status == CARSO_OK) {
            status = fill_graph(import, shape->condition, "purifier.", &purifier.condition);
        }
        if (status == CARSO_OK && with_encoder) {
            status = fill_graph(import, shape->encoder, "purifier.", &purifier.encoder);
        }
        if (status == CARSO_OK) {
            status = fill_graph(import, shape->decoder, "purifier.", &purifier.decoder);
        }
    }
    if (status == CARSO_OK) {
        status = cso_model_derive(model, classifier, with_purifier ? &purifier : NULL, provenance, out);
    }
    cso_graph_destroy(classifier);
    cso_graph_destroy(purifier.condition);
    cso_graph_destroy(purifier.encoder);
    cso_graph_destroy(purifier.decoder);
    return status;
}

carso_status cso_model_import(const carso_model *model, cso_safetensors *const *file, const char *const *path,
                              size_t count, carso_model **out)
{
    carso_context *context = model->context;
    importer import = {.context = context, .report = {.log = context}};
    carso_model *made = NULL;
    json_t *provenance = NULL;
    bool with_classifier = false, with_purifier = false, with_encoder = false;
    *out = NULL;
    carso_status status = gather(&import, model, file, path, count);
    if (status == CARSO_OK) {
        with_classifier = any_begins_with(&import, "classifier.");
        with_purifier = any_begins_with(&import, "purifier.");
        with_encoder = any_begins_with(&import, "purifier.input_compressor.") ||
                       any_begins_with(&import, "purifier.joint_fcn_compressor.") ||
                       any_begins_with(&import, "purifier.to_mean.") || any_begins_with(&import, "purifier.to_logvar.");
        if (with_purifier && model->purifier == NULL) {
            status = cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                              "the files hold a purifier, the model to import into has none that would say its shapes");
        }
    }
    if (status == CARSO_OK) {
        with_encoder = with_encoder && model->purifier != NULL && model->purifier->encoder != NULL;
        if (with_classifier) {
            check_graph(&import, model->classifier, "classifier.");
        }
        if (with_purifier) {
            check_graph(&import, model->purifier->condition, "purifier.");
            check_graph(&import, with_encoder ? model->purifier->encoder : NULL, "purifier.");
            check_graph(&import, model->purifier->decoder, "purifier.");
        }
        check_unused(&import);
        status = cso_tensor_report_finish(&import.report, context, "import");
    }
    if (status == CARSO_OK) {
        status = name_files(context, path, count, &provenance);
    }
    if (status == CARSO_OK) {
        status = build(&import, model, with_classifier, with_purifier, with_encoder, provenance, &made);
    }
    if (status == CARSO_OK) {
        status = cso_model_check_values(made, "import");
    }
    if (status != CARSO_OK) {
        carso_model_destroy(made);
        made = NULL;
    }
    json_decref(provenance);
    for (size_t i = 0; i < import.count; i++) {
        cso_release(context, import.sources[i].name);
    }
    cso_release(context, import.sources);
    *out = made;
    return status;
}
