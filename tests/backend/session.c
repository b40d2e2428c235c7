/* SPDX-License-Identifier: BSD-2-Clause */
#include "session.h"

#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

session_options session_options_default(void)
{
    return (session_options){.in_place = -1, .fill = 0xff};
}

static size_t element_size(const carso_context *context)
{
    return context->backend->element == CSO_F64 ? sizeof(double) : sizeof(float);
}

/* Position in the backend's layout of the element at position i in C, H, W order. */
static size_t device_position(const carso_context *context, const cso_shape *shape, size_t i)
{
    if (shape->rank == 1 || context->backend->layout == CSO_NCHW) {
        return i;
    }
    const size_t channels = (size_t)shape->dimension[0];
    const size_t space = (size_t)(shape->dimension[1] * shape->dimension[2]);
    const size_t image = i / (channels * space);
    const size_t c = i / space % channels;
    return image * channels * space + i % space * channels + c;
}

static void *to_device_form(const carso_context *context, const cso_shape *shape, const double *values, size_t count)
{
    unsigned char *form = test_allocate(count, element_size(context));
    for (size_t i = 0; i < count; i++) {
        const size_t position = device_position(context, shape, i);
        if (context->backend->element == CSO_F64) {
            ((double *)form)[position] = values[i];
        } else {
            ((float *)form)[position] = (float)values[i];
        }
    }
    return form;
}

static carso_status create_tensor(const session *it, const cso_shape *shape, const double *values, guarded_buffer *out)
{
    const size_t count = trial_tensor_count(it->trial, shape);
    carso_status status =
        guarded_buffer_create(it->context, count * element_size(it->context), it->options.fill, out);
    if (status == CARSO_OK && values != NULL) {
        void *form = to_device_form(it->context, shape, values, count);
        status = guarded_buffer_write(it->context, out, form);
        free(form);
    }
    return status;
}

static carso_status read_values(const carso_context *context, const cso_shape *shape, const guarded_buffer *buffer,
                                size_t count, double *values)
{
    unsigned char *form = test_allocate(count, element_size(context));
    const carso_status status = guarded_buffer_read(context, buffer, form);
    for (size_t i = 0; i < count; i++) {
        const size_t position = device_position(context, shape, i);
        values[i] = context->backend->element == CSO_F64 ? ((double *)form)[position]
                                                         : (double)((float *)form)[position];
    }
    free(form);
    return status;
}

carso_status parameter_create(const carso_context *context, const trial_parameter *source, bool trainable,
                              cso_parameter **out)
{
    float *host = test_allocate(source->count, sizeof *host);
    cso_parameter *constant = NULL;
    for (size_t i = 0; i < source->count; i++) {
        host[i] = (float)source->value[i];
    }
    *out = NULL;
    carso_status status = cso_parameter_create(context, source->rank, source->dimension, host, &constant);
    free(host);
    if (status == CARSO_OK && trainable) {
        status = cso_parameter_create_trainable(constant, out);
        cso_parameter_release(constant);
    } else {
        *out = constant;
    }
    return status;
}

static carso_status create_parameters(session *it)
{
    for (int p = 0; p < it->trial->parameter_count; p++) {
        if (it->options.parameter != NULL) {
            it->parameter[p] = it->options.parameter[p];
            cso_parameter_retain(it->parameter[p]);
            continue;
        }
        const carso_status status =
            parameter_create(it->context, &it->trial->parameter[p], it->options.trainable, &it->parameter[p]);
        if (status != CARSO_OK) {
            return status;
        }
    }
    return CARSO_OK;
}

/* The operation is only lent to prepare: it is overwritten afterwards. */
static carso_status prepare_direction(session *it, cso_direction direction)
{
    const cso_backend *backend = it->context->backend;
    session_direction *own = &it->direction[direction];
    cso_shape shape[TRIAL_MOST_SOURCES];
    cso_op op = it->trial->op;
    memcpy(shape, it->trial->shape, sizeof shape);
    op.input = shape;
    op.direction = direction;
    memcpy(op.parameter, it->parameter, sizeof op.parameter);
    if (direction != CSO_FORWARD) {
        op.epilogue = (cso_epilogue){0};
    }
    if (!backend->supports(it->context->device, &op)) {
        return CARSO_ERROR_UNSUPPORTED;
    }
    carso_status status = backend->prepare(it->context->device, &op, &own->kernel);
    memset(&op, 0xa5, sizeof op);
    memset(shape, 0xa5, sizeof shape);
    if (status == CARSO_OK) {
        status = guarded_buffer_create(it->context, backend->workspace_size(own->kernel), it->options.fill,
                                       &own->workspace);
    }
    return status;
}

static carso_status create_backward_buffers(session *it)
{
    const op_trial *trial = it->trial;
    carso_status status = create_tensor(it, &trial->op.output, trial->gradient, &it->gradient);
    if (status == CARSO_OK && trial->needed != NULL) {
        const bool output = trial_needs_output(trial->op.kind);
        status = create_tensor(it, output ? &trial->op.output : &trial->shape[0], trial->needed, &it->needed);
    }
    for (int i = 0; i < trial->op.input_count && status == CARSO_OK; i++) {
        status = create_tensor(it, &trial->shape[i], NULL, &it->data_gradient[i]);
    }
    for (int p = 0; p < 2 && p < trial->parameter_count && status == CARSO_OK; p++) {
        status = guarded_buffer_create(it->context, trial->parameter[p].count * element_size(it->context),
                                       it->options.fill, &it->parameter_gradient[p]);
    }
    return status;
}

static bool runs_backward(const session *it)
{
    return !it->options.forward_only && !trial_has_epilogue(it->trial);
}

carso_status session_create(carso_context *context, const op_trial *trial, const session_options *options, session *out)
{
    const cso_backend *backend = context->backend;
    *out = (session){.context = context, .trial = trial, .options = *options};
    out->options.trainable = options->trainable || trial->op.attributes.training;
    carso_status status = create_parameters(out);
    if (status == CARSO_OK) {
        status = prepare_direction(out, CSO_FORWARD);
    }
    if (status == CARSO_OK && runs_backward(out)) {
        status = prepare_direction(out, CSO_BACKWARD_DATA);
        if (status == CARSO_OK && trial_has_parameter_gradients(trial) && out->options.trainable) {
            status = prepare_direction(out, CSO_BACKWARD_PARAMETERS);
        }
        if (status == CARSO_OK) {
            status = create_backward_buffers(out);
        }
    }
    for (int i = 0; i < trial->source_count && status == CARSO_OK; i++) {
        status = create_tensor(out, &trial->shape[i], trial->source[i], &out->source[i]);
    }
    if (status == CARSO_OK && options->in_place < 0) {
        status = create_tensor(out, &trial->op.output, NULL, &out->output);
    }
    if (status == CARSO_OK) {
        cso_op op = trial->op;
        memcpy(op.parameter, out->parameter, sizeof op.parameter);
        const size_t bytes = backend->saved_size(context->device, &op);
        if (bytes > 0) {
            status = guarded_buffer_create(context, bytes, options->fill, &out->saved);
        }
    }
    if (status != CARSO_OK) {
        session_destroy(out);
    }
    return status;
}

void session_destroy(session *it)
{
    const cso_backend *backend = it->context->backend;
    for (int d = 0; d < 3; d++) {
        if (it->direction[d].kernel != NULL) {
            backend->kernel_destroy(it->context->device, it->direction[d].kernel);
        }
        guarded_buffer_destroy(it->context, &it->direction[d].workspace);
    }
    for (int i = 0; i < TRIAL_MOST_SOURCES; i++) {
        guarded_buffer_destroy(it->context, &it->source[i]);
    }
    for (int i = 0; i < TRIAL_MOST_INPUTS; i++) {
        guarded_buffer_destroy(it->context, &it->data_gradient[i]);
    }
    for (int p = 0; p < 2; p++) {
        guarded_buffer_destroy(it->context, &it->parameter_gradient[p]);
    }
    guarded_buffer_destroy(it->context, &it->output);
    guarded_buffer_destroy(it->context, &it->saved);
    guarded_buffer_destroy(it->context, &it->gradient);
    guarded_buffer_destroy(it->context, &it->needed);
    for (int p = 0; p < CSO_MAX_PARAMETERS; p++) {
        cso_parameter_release(it->parameter[p]);
        it->parameter[p] = NULL;
    }
}

static carso_status run_direction(session *it, cso_direction direction, const void *const *input, void *const *output)
{
    const cso_backend *backend = it->context->backend;
    const cso_arguments arguments = {
        .input = input,
        .output = output,
        .saved = it->saved.data,
        .workspace = it->direction[direction].workspace.data,
    };
    int state = 0;
    if (backend->begin != NULL) {
        backend->begin(it->context->device, &state);
    }
    const carso_status status = backend->run(it->context->device, it->direction[direction].kernel, &arguments);
    if (backend->end != NULL) {
        backend->end(it->context->device, state);
    }
    return status;
}

static const guarded_buffer *output_buffer(const session *it)
{
    return it->options.in_place >= 0 ? &it->source[it->options.in_place] : &it->output;
}

carso_status session_forward(session *it)
{
    const void *input[TRIAL_MOST_SOURCES];
    void *const output[1] = {output_buffer(it)->data};
    for (int i = 0; i < it->trial->source_count; i++) {
        input[i] = it->source[i].data;
    }
    return run_direction(it, CSO_FORWARD, input, output);
}

static void *wanted(const session *it, int position, const guarded_buffer *buffer)
{
    return it->options.unwanted >> position & 1 ? NULL : buffer->data;
}

carso_status session_backward(session *it)
{
    const op_trial *trial = it->trial;
    carso_status status = CARSO_OK;
    if (it->direction[CSO_BACKWARD_DATA].kernel != NULL) {
        const void *const input[2] = {it->gradient.data, trial->needed != NULL ? it->needed.data : NULL};
        void *output[TRIAL_MOST_INPUTS + 2] = {0};
        for (int i = 0; i < trial->op.input_count; i++) {
            output[i] = wanted(it, i, it->options.backward_in_place ? &it->gradient : &it->data_gradient[i]);
        }
        if (trial->op.attributes.training) {
            output[1] = wanted(it, 1, &it->parameter_gradient[0]);
            output[2] = wanted(it, 2, &it->parameter_gradient[1]);
        }
        status = run_direction(it, CSO_BACKWARD_DATA, input, output);
    }
    if (status == CARSO_OK && it->direction[CSO_BACKWARD_PARAMETERS].kernel != NULL) {
        const void *const input[2] = {it->gradient.data, it->source[0].data};
        void *const output[2] = {wanted(it, 0, &it->parameter_gradient[0]),
                                 trial->parameter_count > 1 ? wanted(it, 1, &it->parameter_gradient[1]) : NULL};
        status = run_direction(it, CSO_BACKWARD_PARAMETERS, input, output);
    }
    return status;
}

static carso_status collect_tensor(const session *it, outcome *out, const char *name, int index, const cso_shape *shape,
                                   size_t count, const guarded_buffer *buffer)
{
    outcome_part *part = &out->part[out->count++];
    snprintf(part->name, sizeof part->name, index < 0 ? "%s" : "%s%d", name, index);
    part->count = count;
    part->value = test_allocate(count, sizeof *part->value);
    return read_values(it->context, shape, buffer, count, part->value);
}

static const cso_shape *vector_shape(void)
{
    static const cso_shape shape = {.rank = 1}; /* parameters are dense in the same order everywhere */
    return &shape;
}

static carso_status collect_running(const session *it, outcome *out)
{
    static const char *const name[2] = {"running mean", "running variance"};
    carso_status status = CARSO_OK;
    for (int i = 0; i < 2 && status == CARSO_OK; i++) {
        cso_parameter *parameter = it->parameter[2 + i];
        outcome_part *part = &out->part[out->count++];
        snprintf(part->name, sizeof part->name, "%s", name[i]);
        part->count = parameter->count;
        part->value = test_allocate(part->count, sizeof *part->value);
        if (it->context->backend->element == CSO_F64) {
            memcpy(part->value, parameter->data, part->count * sizeof(double)); /* exact, which _download is not */
            continue;
        }
        status = cso_parameter_download(parameter);
        for (size_t k = 0; k < part->count; k++) {
            part->value[k] = (double)cso_parameter_host(parameter)[k];
        }
    }
    return status;
}

static winograd_points points_of(const session *it, cso_direction direction)
{
    const cso_kernel *kernel = it->direction[direction].kernel;
    const char *name = kernel != NULL ? it->context->backend->kernel_name(kernel) : "";
    return strstr(name, "winograd") == NULL            ? WINOGRAD_NONE
           : strstr(name, "winograd4_complex") == NULL ? WINOGRAD_REAL
                                                       : WINOGRAD_COMPLEX;
}

carso_status session_collect(const session *it, outcome *out)
{
    const op_trial *trial = it->trial;
    *out = (outcome){0};
    carso_status status =
        collect_tensor(it, out, "y", -1, &trial->op.output, trial_output_count(trial), output_buffer(it));
    out->part[0].winograd = points_of(it, CSO_FORWARD);
    if (status == CARSO_OK && trial->op.attributes.training) {
        status = collect_running(it, out);
    }
    if (it->direction[CSO_BACKWARD_DATA].kernel != NULL) {
        for (int i = 0; i < trial->op.input_count && status == CARSO_OK; i++) {
            status = collect_tensor(it, out, "dx", i, &trial->shape[i], trial_source_count(trial, i),
                                    it->options.backward_in_place ? &it->gradient : &it->data_gradient[i]);
            out->part[out->count - 1].winograd = points_of(it, CSO_BACKWARD_DATA);
        }
    }
    const bool parameters = it->direction[CSO_BACKWARD_PARAMETERS].kernel != NULL ||
                            (it->direction[CSO_BACKWARD_DATA].kernel != NULL && trial->op.attributes.training);
    for (int p = 0; parameters && p < 2 && p < trial->parameter_count && status == CARSO_OK; p++) {
        status = collect_tensor(it, out, "dp", p, vector_shape(), trial->parameter[p].count,
                                &it->parameter_gradient[p]);
    }
    return status;
}

/* What was written into a buffer is still there, bit for bit. */
static bool unchanged(const session *it, const guarded_buffer *buffer, const cso_shape *shape, const double *values)
{
    if (buffer->base == NULL || values == NULL) {
        return true;
    }
    void *expected = to_device_form(it->context, shape, values, trial_tensor_count(it->trial, shape));
    void *found = test_allocate(buffer->bytes, 1);
    const bool same =
        guarded_buffer_read(it->context, buffer, found) == CARSO_OK && memcmp(expected, found, buffer->bytes) == 0;
    free(expected);
    free(found);
    return same;
}

static bool guards_intact(const session *it, const guarded_buffer *buffers, int count)
{
    for (int i = 0; i < count; i++) {
        if (!guarded_buffer_intact(it->context, &buffers[i])) {
            return false;
        }
    }
    return true;
}

const char *session_damage(const session *it)
{
    const op_trial *trial = it->trial;
    for (int d = 0; d < 3; d++) {
        if (!guarded_buffer_intact(it->context, &it->direction[d].workspace)) {
            return "guards of the workspace";
        }
    }
    if (!guards_intact(it, it->source, TRIAL_MOST_SOURCES)) {
        return "guards of an input";
    }
    if (!guards_intact(it, it->data_gradient, TRIAL_MOST_INPUTS)) {
        return "guards of a gradient to an input";
    }
    if (!guards_intact(it, it->parameter_gradient, 2)) {
        return "guards of a gradient to a parameter";
    }
    if (!guards_intact(it, &it->output, 1)) {
        return "guards of the output";
    }
    if (!guards_intact(it, &it->saved, 1)) {
        return "guards of the saved bytes";
    }
    if (!guards_intact(it, &it->gradient, 1) || !guards_intact(it, &it->needed, 1)) {
        return "guards of what the backward run reads";
    }
    for (int i = 0; i < trial->source_count; i++) {
        if (i != it->options.in_place && !unchanged(it, &it->source[i], &trial->shape[i], trial->source[i])) {
            return "an input";
        }
    }
    if (!it->options.backward_in_place && !unchanged(it, &it->gradient, &trial->op.output, trial->gradient)) {
        return "the gradient to the output";
    }
    const bool output = trial_needs_output(trial->op.kind);
    if (!unchanged(it, &it->needed, output ? &trial->op.output : &trial->shape[0], trial->needed)) {
        return "the value that the backward run reads";
    }
    return NULL;
}

carso_status session_run(carso_context *context, const op_trial *trial, const session_options *options, outcome *out,
                         const char **damage)
{
    session it;
    *out = (outcome){0};
    carso_status status = session_create(context, trial, options, &it);
    if (status != CARSO_OK) {
        return status;
    }
    status = session_forward(&it);
    if (status == CARSO_OK) {
        status = session_backward(&it);
    }
    if (status == CARSO_OK) {
        status = session_collect(&it, out);
    }
    if (damage != NULL) {
        *damage = session_damage(&it);
    }
    session_destroy(&it);
    return status;
}

void outcome_clear(outcome *it)
{
    for (int i = 0; i < it->count; i++) {
        free(it->part[i].value);
    }
    *it = (outcome){0};
}

const outcome_part *outcome_find(const outcome *it, const char *name)
{
    for (int i = 0; i < it->count; i++) {
        if (strcmp(it->part[i].name, name) == 0) {
            return &it->part[i];
        }
    }
    return NULL;
}
