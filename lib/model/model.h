/* SPDX-License-Identifier: BSD-2-Clause */
/* A model in memory: graphs, settings, and the programs made of them on first use. */
#ifndef CSO_MODEL_MODEL_H
#define CSO_MODEL_MODEL_H

#include "carso/model.h"
#include "graph/program.h"

/* Programs that predictions and gradients need; each is made on first use, under the model's lock, and kept. */
typedef enum cso_model_program {
    CSO_PROGRAM_CLASSIFY,          /* image -> logits */
    CSO_PROGRAM_CLASSIFY_GRADIENT, /* the same, gradient to the image */
    CSO_PROGRAM_CONDITION,         /* image -> taps -> condition */
    CSO_PROGRAM_CONDITION_GRADIENT,
    CSO_PROGRAM_PURIFY,        /* latent, condition -> reconstruction */
    CSO_PROGRAM_DRAW,          /* latent, condition -> reconstruction -> logits; outputs: logits, reconstruction */
    CSO_PROGRAM_DRAW_GRADIENT, /* the same outputs, gradient to the condition */
    CSO_PROGRAM_COUNT
} cso_model_program;

/* The purifier's graphs; the names of their parameters are those of docs/model-format.md. */
typedef struct cso_purifier {
    int32_t condition_size, latent_size, seed_channels;
    cso_graph *condition; /* inputs: the taps in order; last value "condition" */
    /* inputs: "image" (in [0, 1], standardised inside), "condition"; values "mean", "log_variance". NULL: left out of
     * the file */
    cso_graph *encoder;
    cso_graph *decoder; /* inputs: "latent", "condition"; values "pre_sigmoid", "reconstruction" */
} cso_purifier;

struct carso_model {
    atomic_int references;
    carso_context *context;
    /* input "image" in [0, 1] -> value logits; reference-counted through the model it came from */
    cso_graph *classifier;
    atomic_int *classifier_references;
    int logits; /* value index */
    int32_t channels, height, width, classes;
    int tap_count;
    int *tap; /* value indices */
    float mean[3], deviation[3];
    char **class_name;      /* classes entries, or NULL */
    json_t *provenance;     /* what it was trained on and how: an object, may be NULL */
    cso_purifier *purifier; /* NULL: none */
    char *description;      /* made on first use */
    pthread_mutex_t lock;
    cso_program *program[CSO_PROGRAM_COUNT];
};

void cso_model_retain(carso_model *model);

/* lib/model/model.c. A model without classifier, which the builders and the loader fill; carso_model_destroy takes it
 * at any stage. */
carso_status cso_model_allocate(carso_context *context, carso_model **out);
/* Checks channels, sizes, classes and standardisation of options and copies them, class names included, into model. */
carso_status cso_model_set_input(carso_model *model, const carso_model_options *options);
/* names NULL: the classes' numbers. Needs model->classes. */
carso_status cso_model_set_class_names(carso_model *model, const char *const *names);
/* Takes over graph (also on failure). */
carso_status cso_model_set_classifier(carso_model *model, cso_graph *graph, int logits, const int *tap, int tap_count);
/* A model that shares this one's classifier and has its settings, without purifier. */
carso_status cso_model_share_classifier(const carso_model *model, carso_model **out);
uint64_t cso_graph_parameter_numbers(const cso_graph *graph);
uint64_t cso_graph_multiply_adds(const cso_graph *graph);

/* lib/model/small_cnn.c, wide_resnet.c: the classifier graph, its logits and taps. */
carso_status cso_small_cnn_build(carso_context *context, const carso_model_options *options, carso_model *model);
carso_status cso_wide_resnet_build(carso_context *context, const carso_model_options *options, carso_model *model);

/* A new reference to the parameter of that name, which has exactly that shape, or a failure with a message. */
typedef carso_status (*cso_shaped_lookup)(void *user, const char *name, int rank, const int64_t *dimension,
                                          cso_parameter **out);

/* lib/model/purifier.c: by tables 4, 6 to 11 and the rules of docs/purifier.md for any taps and image.
 * lookup NULL: random weights from seed; else parameters by name (names as in the model file without "purifier."). */
carso_status cso_purifier_build(carso_context *context, const carso_model *model, const carso_purifier_options *options,
                                cso_shaped_lookup lookup, void *user, bool with_encoder, cso_purifier **out);
void cso_purifier_destroy(carso_context *context, cso_purifier *purifier); /* accepts NULL */

/* lib/model/initialise.c: a constant parameter with PyTorch's default initial values: weights and biases uniform within
 * 1 / sqrt(fan_in), by (seed, purpose INITIAL_WEIGHTS, hash of the name); BatchNorm's weight and running variance 1,
 * its bias and running mean 0. fan_in 0: the constant. */
carso_status cso_initial_parameter(carso_context *context, uint64_t seed, const char *name, int rank,
                                   const int64_t *dimension, int64_t fan_in, float constant, cso_parameter **out);

/* lib/model/programs.c */
carso_status cso_model_get_program(carso_model *model, cso_model_program which, cso_program **out);

/* lib/model/derive.c. The same graph with constant parameters, in evaluation mode. Names of values are kept, their
 * indices need not be. choose returns a new reference to what stands in place of parameter index, of the same shape;
 * NULL: that parameter itself, or a constant copy. */
typedef carso_status (*cso_parameter_choice)(void *user, const cso_graph *source, int index, cso_parameter **out);
carso_status cso_graph_copy_constant(const cso_graph *source, cso_parameter_choice choose, void *user, cso_graph **out);

/* A model with the same classifier structure and settings whose parameters are those given by
 * graphs (trainers use it to make the model they reached): takes constant copies of the host values. Either graph set
 * may be NULL: kept from model; but a new classifier without a purifier leaves model's purifier out, which was trained
 * for another. provenance: copied; NULL: kept from model. */
carso_status cso_model_derive(const carso_model *model, const cso_graph *classifier, const cso_purifier *purifier,
                              json_t *provenance, carso_model **out);

/* lib/model/model_describe.c: a new object. */
carso_status cso_model_describe_json(const carso_model *model, json_t **out);

/* lib/model/model_file.c. extra tensors and metadata make a checkpoint of a model file; names of extra tensors begin
 * with "checkpoint.". Loading ignores such tensors; from: the open file is retained by what was mapped. */
struct cso_safetensors;
struct cso_tensor_write;
carso_status cso_model_write(const carso_model *model, const char *path, const struct cso_tensor_write *extra,
                             size_t extra_count, const char *const *keys, const char *const *values,
                             size_t metadata_count);
carso_status cso_model_from_file(carso_context *context, struct cso_safetensors *file, carso_model **out);
/* NON_FINITE or BAD_FORMAT unless all weights are finite and no variance is negative. where: begins the message. */
carso_status cso_model_check_values(const carso_model *model, const char *where);

/* lib/model/import.c: carso_model_import, with the files open. path: their names, for messages. */
carso_status cso_model_import(const carso_model *model, struct cso_safetensors *const *file, const char *const *path,
                              size_t count, carso_model **out);

/* lib/model/verify.c: carso_model_verify, with the file open. */
carso_status cso_model_verify(carso_model *model, const struct cso_safetensors *golden, double tolerance,
                              carso_deviation_callback callback, void *user, int32_t *out_departures);

#endif
