/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network: values (tensors whose shape is known but for the batch), nodes (operations, in an order in which they can
 * run) and named parameters. Building checks everything, so that a graph that exists is valid.
 */
#ifndef CSO_GRAPH_GRAPH_H
#define CSO_GRAPH_GRAPH_H

#include <jansson.h>

#include "graph/name_index.h"
#include "graph/parameter.h"

#define CSO_GRAPH_MAX_NODES 16384
#define CSO_GRAPH_MAX_INPUTS 16384    /* of a graph, and of a concatenation */
#define CSO_GRAPH_MAX_PARAMETERS 65536
#define CSO_MAX_NAME 1023             /* bytes: printable ASCII without the space */
#define CSO_MAX_DIMENSION 65536       /* of an image tensor's side or channels */
#define CSO_MAX_FEATURES (1 << 26)    /* of a rank 1 tensor, and elements of a rank 3 tensor */

typedef struct cso_value {
    char *name; /* unique in the graph; a node's output has the node's name */
    cso_shape shape;
    int producer; /* node index, or -1: a graph input */
} cso_value;

typedef struct cso_node {
    cso_op_kind kind;
    cso_attributes attributes;
    int input_count;
    int *input; /* value indices */
    int parameter[CSO_MAX_PARAMETERS]; /* indices into the graph's parameters, -1: none */
    int output; /* value index */
} cso_node;

typedef struct cso_named_parameter {
    char *name; /* "layer.0.block.0.conv_0.weight" */
    cso_parameter *parameter;
} cso_named_parameter;

typedef struct cso_graph {
    carso_context *context;
    int value_count, node_count, parameter_count, input_count;
    cso_value *value;
    cso_node *node;
    cso_named_parameter *parameter;
    int *input; /* value indices, in order of creation */
    int value_capacity, node_capacity, parameter_capacity, input_capacity;
    cso_name_index value_index, parameter_index;
} cso_graph;

/* context must outlive the graph. */
carso_status cso_graph_create(carso_context *context, cso_graph **out);
void cso_graph_destroy(cso_graph *graph); /* accepts NULL; releases its parameters */

carso_status cso_graph_add_input(cso_graph *graph, const char *name, cso_shape shape, int *out_value);
/* Takes a reference to parameter. Names are unique; INVALID_ARGUMENT otherwise. */
carso_status cso_graph_add_parameter(cso_graph *graph, const char *name, cso_parameter *parameter, int *out_index);
/* parameter: CSO_MAX_PARAMETERS indices, or NULL: none. Infers and checks shapes; the message names the node, what was
 * expected and what was found. shape: UNFLATTEN's output, NULL for others. attributes NULL: the defaults; those that the
 * kind does not use are zeroed, and a convolution's kernel is taken from its weight. On failure the graph is as it was. */
carso_status cso_graph_add_node(cso_graph *graph, cso_op_kind kind, const cso_attributes *attributes, const char *name,
                                const int *input, int input_count, const int *parameter, const cso_shape *shape,
                                int *out_value);

/* Appends src's nodes to dst: src input i becomes dst value input_value[i]; names get prefix (may be ""); parameters are
 * shared, and a parameter that dst has already (same pointer) is reused. training: BatchNorm nodes normalise with batch
 * statistics, whatever they do in src (they then need trainable parameters). On failure dst may have some of the nodes.
 * out_value (may be NULL): src.value_count entries, the dst value of each src value. */
carso_status cso_graph_append(cso_graph *dst, const cso_graph *src, const char *prefix, const int *input_value,
                              bool training, int *out_value);
/* The same graph, its values, nodes and parameters at the same indices, with every parameter replaced by a trainable
 * copy, and BatchNorm in training where training. */
carso_status cso_graph_clone_trainable(const cso_graph *src, bool training, cso_graph **out);

int cso_graph_find_value(const cso_graph *graph, const char *name); /* -1: none */
int cso_graph_find_parameter(const cso_graph *graph, const char *name);

/* INVALID_ARGUMENT unless name can name a value or a parameter (CSO_MAX_NAME). what: "a node". */
carso_status cso_graph_check_name(const carso_context *context, const char *what, const char *name);

/* JSON form (docs/graph.md). from_json makes parameters by calling lookup for each name, which returns a new
 * reference or fails with a message. Hostile input: every index, count, shape, name and number is checked. */
typedef carso_status (*cso_parameter_lookup)(void *user, const char *name, cso_parameter **out);
carso_status cso_graph_to_json(const cso_graph *graph, json_t **out);
carso_status cso_graph_from_json(carso_context *context, const json_t *json, cso_parameter_lookup lookup, void *user,
                                 cso_graph **out);

/* Facts about kinds. */
const char *cso_op_kind_name(cso_op_kind kind); /* "convolution", as in the JSON form */
bool cso_op_kind_parse(const char *name, cso_op_kind *out);
/* Shape of the output; INVALID_ARGUMENT with a message that begins with where. parameters as in cso_op. */
carso_status cso_op_infer(const carso_context *context, const char *where, cso_op_kind kind,
                          const cso_attributes *attributes, const cso_shape *input, int input_count,
                          cso_parameter *const *parameter, const cso_shape *shape, cso_shape *out);
int64_t cso_shape_count(const cso_shape *shape);
/* INVALID_ARGUMENT unless rank is 1 or 3 and the sizes are within the limits above. what: "the output". */
carso_status cso_shape_check(const carso_context *context, const char *where, const char *what, const cso_shape *shape);
/* Multiply-adds per image of node, 0 for kinds that are not products. */
uint64_t cso_graph_node_multiply_adds(const cso_graph *graph, int node);
/* Attributes with neutral values: strides, dilations, groups 1, epsilon 1e-5, momentum .1, factor 1. */
cso_attributes cso_attributes_default(void);
/* given without what kind does not use (zeroed); a kernel of 0 comes from a convolution's weight. channels: of the input. */
cso_attributes cso_attributes_for(cso_op_kind kind, const cso_attributes *given, const cso_parameter *weight,
                                  int64_t channels);
/* Name of parameter position in the JSON form: "weight", "bias", "running_mean", "running_var". */
const char *cso_parameter_role(int position);

#endif
