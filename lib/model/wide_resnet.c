/* SPDX-License-Identifier: BSD-2-Clause */
/* Pre-activation WideResNet-depth-width with SiLU, its layers named as in the public WRN-28-10 checkpoints. */
#include <stdio.h>

#include "model/layers.h"

#define WIDE_RESNET_GROUPS 3
#define WIDE_RESNET_MAX_DEPTH 1000
#define WIDE_RESNET_USUAL_WIDTH 10
#define WIDE_RESNET_MAX_WIDTH 64

/* A 3x3 convolution with stride 2 halves a side, rounding up as its 1x1 shortcut does. For even sides, the paper's
 * case, that means padding at the right and the bottom only. */
static cso_window block_window(cso_shape shape, int32_t stride)
{
    cso_window window = cso_window_square(3, stride, 1);
    for (int i = 0; i < 2 && stride == 2; i++) {
        window.pad_begin[i] = shape.dimension[1 + i] % 2 == 0 ? 0 : 1;
    }
    return window;
}

typedef struct tap_list {
    int *value;
    int count;
} tap_list;

static int add_block(cso_layers *layers, int group, int block, int input, int64_t channels, int32_t stride,
                     tap_list *taps)
{
    char prefix[CSO_LAYER_NAME_SIZE / 2], name[CSO_LAYER_NAME_SIZE];
    snprintf(prefix, sizeof prefix, "layer.%d.block.%d", group, block);

    cso_layers_name(layers, name, "%s.batchnorm_0", prefix);
    int value = cso_layers_batch_norm(layers, name, input);
    cso_layers_name(layers, name, "%s.act_0", prefix);
    const int activated = cso_layers_plain(layers, CSO_OP_SILU, name, value);

    const cso_window first = block_window(cso_layers_shape(layers, activated), stride);
    cso_layers_name(layers, name, "%s.conv_0", prefix);
    value = taps->value[taps->count++] = cso_layers_convolution(layers, name, activated, channels, &first, false);
    cso_layers_name(layers, name, "%s.batchnorm_1", prefix);
    value = cso_layers_batch_norm(layers, name, value);
    cso_layers_name(layers, name, "%s.act_1", prefix);
    value = cso_layers_plain(layers, CSO_OP_SILU, name, value);
    const cso_window second = cso_window_square(3, 1, 1);
    cso_layers_name(layers, name, "%s.conv_1", prefix);
    value = taps->value[taps->count++] = cso_layers_convolution(layers, name, value, channels, &second, false);

    int shortcut = input;
    if (cso_layers_shape(layers, input).dimension[0] != channels || stride != 1) {
        const cso_window window = cso_window_square(1, stride, 0);
        cso_layers_name(layers, name, "%s.shortcut", prefix);
        shortcut = cso_layers_convolution(layers, name, activated, channels, &window, false);
        if (group > 0) {
            taps->value[taps->count++] = shortcut;
        }
    }
    cso_layers_name(layers, name, "%s.add", prefix);
    return cso_layers_add(layers, name, value, shortcut);
}

carso_status cso_wide_resnet_build(carso_context *context, const carso_model_options *options, carso_model *model)
{
    const int32_t depth = options->depth, width = options->width == 0 ? WIDE_RESNET_USUAL_WIDTH : options->width;
    if (depth < 10 || depth > WIDE_RESNET_MAX_DEPTH || (depth - 4) % 6 != 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "depth %d of the WideResNet is not 6n + 4 in 10..%d; 10, 16, 22, 28 and 34 are usual", depth,
                        WIDE_RESNET_MAX_DEPTH);
    }
    if (width < 1 || width > WIDE_RESNET_MAX_WIDTH) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "width %d of the WideResNet is not in 0..%d", width,
                        WIDE_RESNET_MAX_WIDTH);
    }

    const int blocks = (depth - 4) / 6;
    tap_list taps = {NULL, 0};
    taps.value = cso_allocate(context, (size_t)(WIDE_RESNET_GROUPS * blocks) * 3, sizeof *taps.value);
    if (taps.value == NULL) {
        return cso_fail_memory(context, "taps");
    }

    cso_layers layers = {.context = context, .seed = options->seed};
    layers.status = cso_graph_create(context, &layers.graph);
    const cso_shape image = {3, {model->channels, model->height, model->width}};
    const cso_window window = cso_window_square(3, 1, 1);
    int value = cso_layers_input(&layers, "image", image);
    value = cso_layers_standardise(&layers, "standardise", value, model->channels, model->mean, model->deviation);
    value = cso_layers_convolution(&layers, "init_conv", value, 16, &window, false);
    for (int group = 0; group < WIDE_RESNET_GROUPS; group++) {
        for (int block = 0; block < blocks; block++) {
            value = add_block(&layers, group, block, value, (int64_t)(16 << group) * width,
                              group > 0 && block == 0 ? 2 : 1, &taps);
        }
    }
    value = cso_layers_batch_norm(&layers, "batchnorm", value);
    value = cso_layers_plain(&layers, CSO_OP_SILU, "act", value);
    value = cso_layers_plain(&layers, CSO_OP_GLOBAL_AVERAGE_POOL, "pool", value);
    value = cso_layers_linear(&layers, "logits", "logits", value, model->classes, true);
    carso_status status = layers.status;
    if (status == CARSO_OK) {
        status = cso_model_set_classifier(model, layers.graph, value, taps.value, taps.count);
    } else {
        cso_graph_destroy(layers.graph);
    }
    cso_release(context, taps.value);
    return status;
}
