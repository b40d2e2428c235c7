/* SPDX-License-Identifier: BSD-2-Clause */
/* The purifier's networks, for any taps and image: docs/purifier.md, after tables 4, 6 to 11 and 13 of the paper. */
#include <stdio.h>

#include "model/layers.h"

#define SLOPE 0.2f
#define SMALLEST_IMAGE 28
#define DECODER_DOUBLINGS 4
#define MAX_FEATURES 65536

/* Sides over this make encoders deeper and shrink faster. */
#define SMALL_SIDE 32
#define LARGE_TAP_SIDE 64

static int convolution_block(cso_layers *layers, const char *prefix, int input, int64_t channels,
                             const cso_window *window)
{
    char name[CSO_LAYER_NAME_SIZE];
    cso_layers_name(layers, name, "%s.0", prefix);
    int value = cso_layers_convolution(layers, name, input, channels, window, false);
    cso_layers_name(layers, name, "%s.1", prefix);
    value = cso_layers_batch_norm(layers, name, value);
    cso_layers_name(layers, name, "%s.2", prefix);
    return cso_layers_leaky_relu(layers, name, value, SLOPE);
}

/* output: name of the last value. */
static int linear_block(cso_layers *layers, const char *prefix, const char *output, int input, int64_t features)
{
    char name[CSO_LAYER_NAME_SIZE];
    cso_layers_name(layers, name, "%s.0", prefix);
    int value = cso_layers_linear(layers, name, name, input, features, false);
    cso_layers_name(layers, name, "%s.1", prefix);
    value = cso_layers_batch_norm(layers, name, value);
    return cso_layers_leaky_relu(layers, output, value, SLOPE);
}

static int64_t halve(int64_t number)
{
    return number / 2 + number % 2;
}

/* One layer of a tap's encoder: unpadded where the kernel fits, stride 2 where the tap is large; per direction. */
static cso_window tap_window(cso_shape shape)
{
    cso_window window = cso_window_square(3, 1, 0);
    for (int i = 0; i < 2; i++) {
        const int64_t side = shape.dimension[1 + i];
        window.stride[i] = side > LARGE_TAP_SIDE ? 2 : 1;
        window.pad_begin[i] = window.pad_end[i] = side < 3 ? 1 : 0;
    }
    return window;
}

static int tap_encoder(cso_layers *layers, int index, int tap, int depth)
{
    char prefix[CSO_LAYER_NAME_SIZE / 2];
    int value = tap;
    int64_t channels = cso_layers_shape(layers, tap).dimension[0];
    for (int i = 0; i < depth; i++) {
        channels = halve(channels);
        snprintf(prefix, sizeof prefix, "repr_compressors.%d.%d", index, i);
        const cso_window window = tap_window(cso_layers_shape(layers, value));
        value = convolution_block(layers, prefix, value, channels, &window);
    }
    snprintf(prefix, sizeof prefix, "repr_compressors.%d.flatten", index);
    return cso_layers_plain(layers, CSO_OP_FLATTEN, prefix, value);
}

static void build_condition(cso_layers *layers, const carso_model *model, int condition_size)
{
    const int depth = model->height <= SMALL_SIDE && model->width <= SMALL_SIDE ? 3 : 4;
    int *code = cso_allocate(layers->context, (size_t)model->tap_count, sizeof *code);
    if (code == NULL) {
        if (layers->status == CARSO_OK) {
            layers->status = cso_fail_memory(layers->context, "tap encoders");
        }
        return;
    }
    /* All inputs first, so that input i is tap i. */
    for (int i = 0; i < model->tap_count; i++) {
        char name[CSO_LAYER_NAME_SIZE];
        const cso_value *tap = &model->classifier->value[model->tap[i]];
        cso_layers_name(layers, name, "tap.%s", tap->name);
        code[i] = cso_layers_input(layers, name, tap->shape);
    }
    for (int i = 0; i < model->tap_count; i++) {
        if (model->classifier->value[model->tap[i]].shape.rank == 3) {
            code[i] = tap_encoder(layers, i, code[i], depth);
        }
    }
    const int all = cso_layers_concatenate(layers, "repr_fcn_compressor.0", code, model->tap_count);
    linear_block(layers, "repr_fcn_compressor.1", "condition", all, condition_size);
    cso_release(layers->context, code);
}

static void build_encoder(cso_layers *layers, const carso_model *model, int condition_size, int latent_size)
{
    const cso_shape image = {3, {model->channels, model->height, model->width}};
    const cso_shape features = {1, {condition_size, 0, 0}};
    const cso_window window = cso_window_square(3, 2, 1);
    int value = cso_layers_input(layers, "image", image);
    int code[2];
    code[1] = cso_layers_input(layers, "condition", features);
    value = cso_layers_standardise(layers, "standardise", value, model->channels, model->mean, model->deviation);
    value = convolution_block(layers, "input_compressor.0", value, 2 * (int64_t)model->channels, &window);
    value = convolution_block(layers, "input_compressor.1", value, 4 * (int64_t)model->channels, &window);
    code[0] = cso_layers_plain(layers, CSO_OP_FLATTEN, "input_compressor.flatten", value);
    value = cso_layers_concatenate(layers, "joint_fcn_compressor.0", code, 2);
    value = linear_block(layers, "joint_fcn_compressor.1", "joint_fcn_compressor.1.2", value, latent_size);

    cso_layers_linear(layers, "mean", "to_mean", value, latent_size, true);
    cso_layers_linear(layers, "log_variance", "to_logvar", value, latent_size, true);
}

/* side[0]: the seed's; side[i]: after transposed convolution i. */
static void decoder_sides(int64_t target, int64_t side[DECODER_DOUBLINGS + 1])
{
    side[DECODER_DOUBLINGS] = target;
    for (int i = DECODER_DOUBLINGS; i > 0; i--) {
        side[i - 1] = halve(side[i]);
    }
}

/* The paper's 32x32 decoder starts from 3x3 and shrinks 33 to 32 at the end, unlike all other sizes. */
static bool is_paper_small(const carso_model *model)
{
    return model->height == 32 && model->width == 32;
}

static void build_decoder(cso_layers *layers, const carso_model *model, int condition_size, int latent_size,
                          int seed_channels)
{
    const int64_t channels[DECODER_DOUBLINGS] = {seed_channels, seed_channels / 2, seed_channels / 4,
                                                 seed_channels / 8};
    const bool paper_small = is_paper_small(model);
    int64_t side[2][DECODER_DOUBLINGS + 1];
    decoder_sides(paper_small ? 33 : model->height, side[0]);
    decoder_sides(paper_small ? 33 : model->width, side[1]);

    const cso_shape latent = {1, {latent_size, 0, 0}}, condition = {1, {condition_size, 0, 0}};
    int code[2];
    code[0] = cso_layers_input(layers, "latent", latent);
    code[1] = cso_layers_input(layers, "condition", condition);
    const cso_shape seed = {3, {seed_channels, side[0][0], side[1][0]}};
    int value = cso_layers_concatenate(layers, "decoder.0.0", code, 2);
    value = cso_layers_linear(layers, "decoder.0.1", "decoder.0.1", value,
                              seed.dimension[0] * seed.dimension[1] * seed.dimension[2], true);
    value = cso_layers_leaky_relu(layers, "decoder.0.2", value, SLOPE);
    value = cso_layers_unflatten(layers, "decoder.0.3", value, seed);

    for (int i = 0; i < DECODER_DOUBLINGS; i++) {
        char name[CSO_LAYER_NAME_SIZE];
        cso_window window = cso_window_square(3, 2, 1);
        for (int j = 0; j < 2; j++) {
            window.output_padding[j] = side[j][i + 1] % 2 == 0 ? 1 : 0;
        }
        cso_layers_name(layers, name, "decoder.%d.0", i + 1);
        value = cso_layers_transposed_convolution(layers, name, name, value, channels[i], &window, false);
        cso_layers_name(layers, name, "decoder.%d.1", i + 1);
        value = cso_layers_batch_norm(layers, name, value);
        cso_layers_name(layers, name, "decoder.%d.2", i + 1);
        value = cso_layers_leaky_relu(layers, name, value, SLOPE);
    }
    const cso_window last = cso_window_square(paper_small ? 2 : 3, 1, 1);
    value = cso_layers_transposed_convolution(layers, "pre_sigmoid", "decoder.5", value, model->channels, &last, true);
    cso_layers_plain(layers, CSO_OP_SIGMOID, "reconstruction", value);
}

/* Options with zeros replaced by the defaults of table 13; checked. */
static carso_status resolve_options(const carso_context *context, const carso_model *model,
                                    carso_purifier_options *options)
{
    const bool large = model->height > SMALL_SIDE || model->width > SMALL_SIDE;
    if (options->condition_size == 0) {
        options->condition_size = large ? 768 : 512;
    }
    if (options->latent_size == 0) {
        options->latent_size = large ? 192 : 128;
    }
    if (options->condition_size < 1 || options->condition_size > MAX_FEATURES) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "condition size %d of the purifier is not in 1..%d",
                        options->condition_size, MAX_FEATURES);
    }
    if (options->latent_size < 1 || options->latent_size > MAX_FEATURES) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "latent size %d of the purifier is not in 1..%d",
                        options->latent_size, MAX_FEATURES);
    }
    if (options->seed_channels < 16 || options->seed_channels > 1024 || options->seed_channels % 8 != 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%d seed channels of the purifier are not a multiple of 8 in 16..1024; the paper has 256",
                        options->seed_channels);
    }
    if (model->height < SMALLEST_IMAGE || model->width < SMALLEST_IMAGE) {
        return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                        "a purifier needs images of at least %dx%d, this model's have %dx%d", SMALLEST_IMAGE,
                        SMALLEST_IMAGE, model->height, model->width);
    }
    if (model->tap_count < 1) {
        return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                        "the model names no taps, so that a purifier would have no input");
    }
    return CARSO_OK;
}

carso_status cso_purifier_build(carso_context *context, const carso_model *model, const carso_purifier_options *options,
                                cso_shaped_lookup lookup, void *user, bool with_encoder, cso_purifier **out)
{
    *out = NULL;
    carso_purifier_options resolved = *options;
    carso_status status = resolve_options(context, model, &resolved);
    if (status != CARSO_OK) {
        return status;
    }
    cso_purifier *purifier = cso_allocate(context, 1, sizeof *purifier);
    if (purifier == NULL) {
        return cso_fail_memory(context, "purifier");
    }
    purifier->condition_size = resolved.condition_size;
    purifier->latent_size = resolved.latent_size;
    purifier->seed_channels = resolved.seed_channels;

    cso_layers layers = {.context = context, .seed = resolved.seed, .lookup = lookup, .user = user};
    layers.status = cso_graph_create(context, &purifier->condition);
    layers.graph = purifier->condition;
    build_condition(&layers, model, resolved.condition_size);
    if (layers.status == CARSO_OK && with_encoder) {
        layers.status = cso_graph_create(context, &purifier->encoder);
        layers.graph = purifier->encoder;
        build_encoder(&layers, model, resolved.condition_size, resolved.latent_size);
    }
    if (layers.status == CARSO_OK) {
        layers.status = cso_graph_create(context, &purifier->decoder);
        layers.graph = purifier->decoder;
        build_decoder(&layers, model, resolved.condition_size, resolved.latent_size, resolved.seed_channels);
    }
    if (layers.status != CARSO_OK) {
        cso_purifier_destroy(context, purifier);
        return layers.status;
    }
    *out = purifier;
    return CARSO_OK;
}

void cso_purifier_destroy(carso_context *context, cso_purifier *purifier)
{
    if (purifier == NULL) {
        return;
    }
    cso_graph_destroy(purifier->condition);
    cso_graph_destroy(purifier->encoder);
    cso_graph_destroy(purifier->decoder);
    cso_release(context, purifier);
}
