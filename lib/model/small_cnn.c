/* SPDX-License-Identifier: BSD-2-Clause */
/* Three convolutions and a linear layer, for small images. */
#include "model/layers.h"

#define SMALL_CNN_CONVOLUTIONS 3
#define SMALL_CNN_MAX_WIDTH 64

carso_status cso_small_cnn_build(carso_context *context, const carso_model_options *options, carso_model *model)
{
    const int32_t width = options->width == 0 ? 1 : options->width;
    if (width < 1 || width > SMALL_CNN_MAX_WIDTH) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "width %d of the small CNN is not in 0..%d", width,
                        SMALL_CNN_MAX_WIDTH);
    }

    cso_layers layers = {.context = context, .seed = options->seed};
    layers.status = cso_graph_create(context, &layers.graph);
    const cso_shape image = {3, {model->channels, model->height, model->width}};
    int value = cso_layers_input(&layers, "image", image);
    value = cso_layers_standardise(&layers, "standardise", value, model->channels, model->mean, model->deviation);
    int tap[SMALL_CNN_CONVOLUTIONS];
    for (int i = 0; i < SMALL_CNN_CONVOLUTIONS; i++) {
        char name[CSO_LAYER_NAME_SIZE];
        const cso_window window = cso_window_square(3, i == 0 ? 1 : 2, 1);
        cso_layers_name(&layers, name, "conv_%d", i);
        value = tap[i] = cso_layers_convolution(&layers, name, value, (int64_t)(16 << i) * width, &window, true);
        cso_layers_name(&layers, name, "relu_%d", i);
        value = cso_layers_plain(&layers, CSO_OP_RELU, name, value);
    }
    value = cso_layers_plain(&layers, CSO_OP_FLATTEN, "flatten", value);
    value = cso_layers_linear(&layers, "logits", "logits", value, model->classes, true);
    if (layers.status != CARSO_OK) {
        cso_graph_destroy(layers.graph);
        return layers.status;
    }
    return cso_model_set_classifier(model, layers.graph, value, tap, SMALL_CNN_CONVOLUTIONS);
}
