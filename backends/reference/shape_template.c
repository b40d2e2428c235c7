/* SPDX-License-Identifier: BSD-2-Clause */
/* Operations that only move numbers. */

static void run_concatenate(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t total = cso_reference_count(&op->output);
    int64_t start = 0;
    for (int k = 0; k < op->input_count; k++) {
        const int64_t part = cso_reference_count(&op->input[k]);
        const size_t bytes = (size_t)part * sizeof(real);
        for (int64_t n = 0; n < op->batch; n++) {
            if (op->direction == CSO_FORWARD) {
                memcpy((real *)arguments->output[0] + n * total + start, (const real *)arguments->input[k] + n * part,
                       bytes);
            } else if (arguments->output[k] != NULL) {
                memcpy((real *)arguments->output[k] + n * part, (const real *)arguments->input[0] + n * total + start,
                       bytes);
            }
        }
        start += part;
    }
}

/* Flatten and unflatten, either way: the layout here is C, H, W. */
static void run_copy(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    if (arguments->output[0] != NULL) {
        memcpy(arguments->output[0], arguments->input[0],
               (size_t)(op->batch * cso_reference_count(&op->output)) * sizeof(real));
    }
}
