/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/purifier_step.h"

#include <math.h>

#include "train/vae_loss.h"

enum { ENCODE_CONDITION, ENCODE_MEAN, ENCODE_LOG_VARIANCE, ENCODE_OUTPUTS };
enum { DECODE_LATENT, DECODE_CONDITION, DECODE_INPUTS };

/* Values of src by name, as they are called in dst after an append. */
static carso_status find_value(const cso_graph *src, const char *name, const int *value, int *out)
{
    const int found = cso_graph_find_value(src, name);
    if (found < 0) {
        return cso_fail(src->context, CARSO_ERROR_BAD_FORMAT, "the purifier has no value called %s", name);
    }
    *out = value[found];
    return CARSO_OK;
}

static carso_status append(cso_graph *dst, const cso_graph *src, const char *prefix, const int *input, bool training,
                           int **out_value)
{
    *out_value = cso_allocate(dst->context, (size_t)src->value_count, sizeof **out_value);
    if (!*out_value) {
        return cso_fail_memory(dst->context, "values of a graph");
    }
    return cso_graph_append(dst, src, prefix, input, training, *out_value);
}

static carso_status create_encode(cso_purifier_network *network)
{
    const carso_context *context = network->context;
    const carso_model *model = network->model;
    int *classifier_value = NULL, *condition_value = NULL, *encoder_value = NULL, *tap = NULL;
    cso_graph *graph = NULL;
    carso_status status = cso_graph_create(network->context, &graph);
    if (status) {
        return status;
    }
    const cso_shape shape = {3, {model->channels, model->height, model->width}};
    int image;
    status = cso_graph_add_input(graph, "image", shape, &image);
    if (status) {
        goto done;
    }
    status = append(graph, model->classifier, "classifier.", &image, false, &classifier_value);
    if (status) {
        goto done;
    }
    tap = cso_allocate(context, (size_t)model->tap_count, sizeof *tap);
    if (!tap) {
        status = cso_fail_memory(context, "taps");
        goto done;
    }
    for (int i = 0; i < model->tap_count; i++) {
        tap[i] = classifier_value[model->tap[i]];
    }
    status = append(graph, network->condition, "condition.", tap, true, &condition_value);
    if (status) {
        goto done;
    }
    int output[ENCODE_OUTPUTS];
    status = find_value(network->condition, "condition", condition_value, &output[ENCODE_CONDITION]);
    if (status) {
        goto done;
    }
    const int encoder_input[2] = {image, output[ENCODE_CONDITION]};
    status = append(graph, network->encoder, "encoder.", encoder_input, true, &encoder_value);
    if (status) {
        goto done;
    }
    status = find_value(network->encoder, "mean", encoder_value, &output[ENCODE_MEAN]);
    if (status) {
        goto done;
    }
    status = find_value(network->encoder, "log_variance", encoder_value, &output[ENCODE_LOG_VARIANCE]);
    if (status) {
        goto done;
    }
    network->condition_size = cso_shape_count(&graph->value[output[ENCODE_CONDITION]].shape);
    network->latent_size = cso_shape_count(&graph->value[output[ENCODE_MEAN]].shape);
    const cso_program_request request = {.output = output, .output_count = ENCODE_OUTPUTS, .parameter_gradients = true};
    status = cso_program_create(graph, &request, &network->encode);
done:
    cso_release(context, tap);
    cso_release(context, encoder_value);
    cso_release(context, condition_value);
    cso_release(context, classifier_value);
    cso_graph_destroy(graph);
    return status;
}

static carso_status create_decoder_program(cso_purifier_network *network, bool training, const char *output_name,
                                           cso_program **out)
{
    const carso_context *context = network->context;
    int *value = NULL;
    cso_graph *graph = NULL;
    carso_status status = cso_graph_create(network->context, &graph);
    if (status) {
        return status;
    }
    int input[DECODE_INPUTS], output;
    status = cso_graph_add_input(graph, "latent", (cso_shape){1, {network->latent_size}}, &input[DECODE_LATENT]);
    if (status) {
        goto done;
    }
    status = cso_graph_add_input(graph, "condition", (cso_shape){1, {network->condition_size}}, &input[DECODE_CONDITION]);
    if (status) {
        goto done;
    }
    status = append(graph, network->decoder, "decoder.", input, training, &value);
    if (status) {
        goto done;
    }
    status = find_value(network->decoder, output_name, value, &output);
    if (status) {
        goto done;
    }
    const cso_program_request request = {
        .output = &output,
        .output_count = 1,
        .gradient_input = training ? input : NULL,
        .gradient_input_count = training ? DECODE_INPUTS : 0,
        .parameter_gradients = training,
    };
    status = cso_program_create(graph, &request, out);
done:
    cso_release(context, value);
    cso_graph_destroy(graph);
    return status;
}

carso_status cso_purifier_network_create(const carso_model *model, cso_purifier_network **out)
{
    *out = NULL;
    carso_context *context = model->context;
    if (!model->purifier) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "the model has no purifier to train; add one first");
    }
    if (!model->purifier->encoder) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "the model's purifier has no encoder, which training needs; start from a new purifier or from a checkpoint");
    }
    cso_purifier_network *network = cso_allocate(context, 1, sizeof *network);
    if (!network) {
        return cso_fail_memory(context, "the purifier in training");
    }
    network->context = context;
    network->model = (carso_model *)model;
    cso_model_retain(network->model);
    network->image_size = (int64_t)model->channels * model->height * model->width;
    carso_status status = cso_graph_clone_trainable(model->purifier->condition, false, &network->condition);
    if (!status) {
        status = cso_graph_clone_trainable(model->purifier->encoder, false, &network->encoder);
    }
    if (!status) {
        status = cso_graph_clone_trainable(model->purifier->decoder, false, &network->decoder);
    }
    if (!status) {
        status = create_encode(network);
    }
    if (!status) {
        status = create_decoder_program(network, true, "pre_sigmoid", &network->decode);
    }
    if (!status) {
        status = create_decoder_program(network, false, "reconstruction", &network->draw);
    }
    if (status) {
        cso_purifier_network_destroy(network);
        return status;
    }
    *out = network;
    return CARSO_OK;
}

void cso_purifier_network_destroy(cso_purifier_network *network)
{
    if (!network) {
        return;
    }
    carso_context *context = network->context;
    cso_program_destroy(network->encode);
    cso_program_destroy(network->decode);
    cso_program_destroy(network->draw);
    cso_graph_destroy(network->condition);
    cso_graph_destroy(network->encoder);
    cso_graph_destroy(network->decoder);
    /* The model may hold the last reference to the context. */
    cso_context_retain(context);
    carso_model_destroy(network->model);
    cso_release(context, network);
    carso_context_destroy(context);
}

carso_status cso_purifier_network_batch_limit(cso_purifier_network *network, int64_t *out)
{
    int64_t encode = 0, decode = 0;
    carso_status status = cso_program_batch_limit(network->encode, &encode);
    if (!status) {
        status = cso_program_batch_limit(network->decode, &decode);
    }
    if (status) {
        return status;
    }
    /* Arenas grow in proportion to the batch, so that both together fit where b / encode + b / decode <= 1. */
    const double both = floor(1 / (1 / (double)encode + 1 / (double)decode));
    *out = both < 2 ? 2 : both > 65536 ? 65536 : (int64_t)both;
    return CARSO_OK;
}

/* Host side of a step, one allocation each. */
typedef struct step_arrays {
    double *condition, *mean, *log_variance, *latent, *pixel;
    double *condition_gradient, *mean_gradient, *log_variance_gradient, *latent_gradient, *pixel_gradient;
} step_arrays;

static carso_status allocate_arrays(const cso_purifier_network *network, int64_t count, step_arrays *arrays)
{
    const struct {
        double **array;
        int64_t size;
    } wanted[] = {
        {&arrays->condition, network->condition_size},
        {&arrays->mean, network->latent_size},
        {&arrays->log_variance, network->latent_size},
        {&arrays->latent, network->latent_size},
        {&arrays->pixel, network->image_size},
        {&arrays->condition_gradient, network->condition_size},
        {&arrays->mean_gradient, network->latent_size},
        {&arrays->log_variance_gradient, network->latent_size},
        {&arrays->latent_gradient, network->latent_size},
        {&arrays->pixel_gradient, network->image_size},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        *wanted[i].array = cso_allocate_raw(network->context, (size_t)(count * wanted[i].size), sizeof(double));
        if (!*wanted[i].array) {
            return cso_fail_memory(network->context, "a training step's arrays");
        }
    }
    return CARSO_OK;
}

static void release_arrays(const cso_purifier_network *network, step_arrays *arrays)
{
    cso_release(network->context, arrays->condition);
    cso_release(network->context, arrays->mean);
    cso_release(network->context, arrays->log_variance);
    cso_release(network->context, arrays->latent);
    cso_release(network->context, arrays->pixel);
    cso_release(network->context, arrays->condition_gradient);
    cso_release(network->context, arrays->mean_gradient);
    cso_release(network->context, arrays->log_variance_gradient);
    cso_release(network->context, arrays->latent_gradient);
    cso_release(network->context, arrays->pixel_gradient);
}

static void copy(const double *source, int64_t count, double *destination)
{
    if (destination) {
        for (int64_t i = 0; i < count; i++) {
            destination[i] = source[i];
        }
    }
}

static carso_status forward(const cso_purifier_network *network, const cso_purifier_batch *batch, cso_plan *encode,
                            cso_plan *decode, step_arrays *arrays, cso_purifier_losses *losses)
{
    const int64_t latents = batch->count * network->latent_size;
    const int64_t pixels = batch->count * network->image_size;
    carso_status status = cso_plan_write(encode, 0, batch->images, CSO_F32);
    if (!status) {
        status = cso_plan_forward(encode);
    }
    if (!status) {
        status = cso_plan_read(encode, ENCODE_CONDITION, arrays->condition, CSO_F64);
    }
    if (!status) {
        status = cso_plan_read(encode, ENCODE_MEAN, arrays->mean, CSO_F64);
    }
    if (!status) {
        status = cso_plan_read(encode, ENCODE_LOG_VARIANCE, arrays->log_variance, CSO_F64);
    }
    if (status) {
        return status;
    }
    cso_reparameterise(arrays->mean, arrays->log_variance, batch->noise, (size_t)latents, arrays->latent);
    status = cso_plan_write(decode, DECODE_LATENT, arrays->latent, CSO_F64);
    if (!status) {
        status = cso_plan_write(decode, DECODE_CONDITION, arrays->condition, CSO_F64);
    }
    if (!status) {
        status = cso_plan_forward(decode);
    }
    if (!status) {
        status = cso_plan_read(decode, 0, arrays->pixel, CSO_F64);
    }
    if (status) {
        return status;
    }
    const cso_divergence divergence =
        cso_divergence_loss(arrays->mean, arrays->log_variance, batch->count, network->latent_size, batch->free_bits,
                            batch->beta * batch->scale, arrays->mean_gradient, arrays->log_variance_gradient);
    losses->reconstruction =
        cso_pixel_loss(arrays->pixel, batch->targets, (size_t)pixels, batch->scale, arrays->pixel_gradient);
    losses->divergence = divergence.sum;
    losses->total = losses->reconstruction + batch->beta * divergence.term;
    copy(arrays->mean, latents, losses->mean);
    copy(arrays->log_variance, latents, losses->log_variance);
    copy(arrays->condition, batch->count * network->condition_size, losses->condition);
    copy(arrays->pixel, pixels, losses->pre_sigmoid);
    return CARSO_OK;
}

static carso_status backward(const cso_purifier_network *network, const cso_purifier_batch *batch, cso_plan *encode,
                             cso_plan *decode, step_arrays *arrays)
{
    carso_status status = cso_plan_write_gradient(decode, 0, arrays->pixel_gradient, CSO_F64);
    if (!status) {
        status = cso_plan_backward(decode);
    }
    if (!status) {
        status = cso_plan_read_gradient(decode, DECODE_LATENT, arrays->latent_gradient, CSO_F64);
    }
    if (!status) {
        status = cso_plan_read_gradient(decode, DECODE_CONDITION, arrays->condition_gradient, CSO_F64);
    }
    if (status) {
        return status;
    }
    cso_reparameterise_gradient(arrays->log_variance, batch->noise, arrays->latent_gradient,
                                (size_t)(batch->count * network->latent_size), arrays->mean_gradient,
                                arrays->log_variance_gradient);
    status = cso_plan_write_gradient(encode, ENCODE_CONDITION, arrays->condition_gradient, CSO_F64);
    if (!status) {
        status = cso_plan_write_gradient(encode, ENCODE_MEAN, arrays->mean_gradient, CSO_F64);
    }
    if (!status) {
        status = cso_plan_write_gradient(encode, ENCODE_LOG_VARIANCE, arrays->log_variance_gradient, CSO_F64);
    }
    return status ? status : cso_plan_backward(encode);
}

carso_status cso_purifier_step(cso_purifier_network *network, const cso_purifier_batch *batch,
                               cso_purifier_losses *losses)
{
    cso_plan *encode = NULL, *decode = NULL;
    step_arrays arrays = {0};
    carso_status status = allocate_arrays(network, batch->count, &arrays);
    if (!status) {
        status = cso_program_acquire(network->encode, batch->count, &encode);
    }
    if (!status) {
        status = cso_program_acquire(network->decode, batch->count, &decode);
    }
    if (!status) {
        status = forward(network, batch, encode, decode, &arrays, losses);
    }
    if (!status && isfinite(losses->total)) {
        status = backward(network, batch, encode, decode, &arrays);
    }
    if (decode) {
        cso_plan_release(decode);
    }
    if (encode) {
        cso_plan_release(encode);
    }
    release_arrays(network, &arrays);
    return status;
}

carso_status cso_purifier_diversity(cso_purifier_network *network, int64_t count, const double *condition,
                                    const double *first_latent, const double *second_latent, double *out)
{
    const carso_context *context = network->context;
    const int64_t pixels = count * network->image_size;
    const double *latent[2] = {first_latent, second_latent};
    cso_plan *plan = NULL;
    double *image = cso_allocate_raw(context, (size_t)(2 * pixels), sizeof *image);
    if (!image) {
        return cso_fail_memory(context, "reconstructions");
    }
    carso_status status = cso_program_acquire(network->draw, count, &plan);
    if (!status) {
        status = cso_plan_write(plan, DECODE_CONDITION, condition, CSO_F64);
    }
    for (int i = 0; !status && i < 2; i++) {
        status = cso_plan_write(plan, DECODE_LATENT, latent[i], CSO_F64);
        if (!status) {
            status = cso_plan_forward(plan);
        }
        if (!status) {
            status = cso_plan_read(plan, 0, image + i * pixels, CSO_F64);
        }
    }
    if (!status) {
        double sum = 0;
        for (int64_t i = 0; i < pixels; i++) {
            const double difference = image[i] - image[pixels + i];
            sum += difference * difference;
        }
        *out = sqrt(sum / (double)pixels);
    }
    if (plan) {
        cso_plan_release(plan);
    }
    cso_release(context, image);
    return status;
}
