/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "counted_context.h"
#include "graph/graph.h"

static void expect_message(const char *part)
{
    char message[CSO_MESSAGE_SIZE];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, part) != NULL, "the message is \"%s\", without \"%s\"", message, part);
}

/* Parameters are named by their shape: "w_16x3x3x3", "bias_16". */
typedef struct shop {
    int asked;
} shop;

static carso_status look_up(void *user, const char *name, cso_parameter **out)
{
    shop *it = user;
    int64_t dimension[4];
    int rank = 0;
    const char *at = strrchr(name, '_');
    it->asked++;
    *out = NULL;
    if (at == NULL || strncmp(name, "missing", 7) == 0) {
        return cso_fail(context, CARSO_ERROR_NOT_FOUND, "there is no tensor '%s'", name);
    }
    while (at != NULL && rank < 4) {
        dimension[rank++] = strtol(at + 1, NULL, 10);
        at = strchr(at + 1, 'x');
    }
    return cso_parameter_create(context, rank, dimension, NULL, out);
}

/* Texts here have ' for ", which makes them readable in C. */
static carso_status parse(const char *text, size_t size, json_t **out)
{
    static char quoted[8192];
    ck_assert_uint_le(size, sizeof quoted);
    for (size_t i = 0; i < size; i++) {
        quoted[i] = text[i] == '\'' ? '"' : text[i];
    }
    return cso_json_parse(context, quoted, size, "graph", out);
}

static carso_status read_text(const char *text, size_t size, cso_graph **out)
{
    json_t *json;
    shop it = {0};
    *out = NULL;
    carso_status status = parse(text, size, &json);
    if (status != CARSO_OK) {
        return status;
    }
    status = cso_graph_from_json(context, json, look_up, &it, out);
    json_decref(json);
    return status;
}

/* Every operation, with every attribute away from its default at least once. */
static const char whole[] =
    "{'inputs':[{'name':'image','shape':[3,16,12]},{'name':'code','shape':[24]}],'nodes':["
    "{'op':'standardise','name':'std','inputs':['image'],"
    "'attributes':{'mean':[0.1,0.2,0.3],'deviation':[0.5,0.25,0.1]}},"
    "{'op':'convolution','name':'conv','inputs':['std'],"
    "'parameters':{'weight':'w_6x3x3x3','bias':'b_6'},"
    "'attributes':{'stride':[2,1],'dilation':[1,2],'pad_begin':[0,2],'pad_end':[1,2]}},"
    "{'op':'convolution','name':'grouped','inputs':['conv'],'parameters':{'weight':'w_6x1x1x1'},"
    "'attributes':{'groups':6}},"
    "{'op':'batch_norm','name':'norm','inputs':['grouped'],"
    "'parameters':{'weight':'g_6','bias':'h_6','running_mean':'m_6','running_var':'v_6'},"
    "'attributes':{'epsilon':0.001,'momentum':0.5}},"
    "{'op':'leaky_relu','name':'leaky','inputs':['norm'],'attributes':{'slope':0.2}},"
    "{'op':'silu','name':'silu','inputs':['leaky']},"
    "{'op':'tanh','name':'tanh','inputs':['silu']},"
    "{'op':'add','name':'sum','inputs':['tanh','norm']},"
    "{'op':'scale','name':'scaled','inputs':['sum'],'attributes':{'factor':-3.5}},"
    "{'op':'concatenate','name':'both','inputs':['scaled','sum','scaled']},"
    "{'op':'max_pool','name':'max','inputs':['both'],"
    "'attributes':{'kernel':[3,2],'stride':[2,2],'pad_begin':[1,0],'pad_end':[1,1]}},"
    "{'op':'average_pool','name':'mean','inputs':['max'],"
    "'attributes':{'kernel':[2,2],'pad_end':[1,0],'count_padding':true}},"
    "{'op':'global_average_pool','name':'pooled','inputs':['mean']},"
    "{'op':'linear','name':'fc','inputs':['pooled'],'parameters':{'weight':'w_24x18','bias':'b_24'}},"
    "{'op':'relu','name':'relu','inputs':['fc']},"
    "{'op':'add','name':'mixed','inputs':['relu','code']},"
    "{'op':'unflatten','name':'seed','inputs':['mixed'],'attributes':{'shape':[6,2,2]}},"
    "{'op':'transposed_convolution','name':'up','inputs':['seed'],'parameters':{'weight':'w_6x3x3x3'},"
    "'attributes':{'stride':[2,2],'pad_begin':[1,1],'pad_end':[1,1],'output_padding':[1,0]}},"
    "{'op':'sigmoid','name':'squashed','inputs':['up']},"
    "{'op':'flatten','name':'flat','inputs':['squashed']}]}";

START_TEST(every_operation_goes_there_and_back)
{
    cso_graph *graph;
    cso_graph *again;
    json_t *json;
    json_t *json_again;
    shop it = {0};
    bool seen[CSO_OP_COUNT] = {false};
    ck_assert_int_eq(read_text(whole, strlen(whole), &graph), CARSO_OK);
    for (int i = 0; i < graph->node_count; i++) {
        seen[graph->node[i].kind] = true;
    }
    for (int i = 0; i < CSO_OP_COUNT; i++) {
        ck_assert_msg(seen[i], "%s is not tested", cso_op_kind_name((cso_op_kind)i));
    }
    const cso_attributes *conv = &graph->node[1].attributes;
    ck_assert_int_eq(conv->stride[0], 2);
    ck_assert_int_eq(conv->stride[1], 1);
    ck_assert_int_eq(conv->dilation[1], 2);
    ck_assert_int_eq(conv->pad_begin[1], 2);
    ck_assert_int_eq(conv->pad_end[0], 1);
    ck_assert_float_eq(graph->node[0].attributes.deviation[2], 0.1F);
    ck_assert_float_eq(graph->node[4].attributes.slope, 0.2F);
    ck_assert(graph->node[11].attributes.count_padding);
    const cso_shape *up = &graph->value[cso_graph_find_value(graph, "up")].shape;
    ck_assert_int_eq(up->dimension[0], 3);
    ck_assert_int_eq(up->dimension[1], 4);
    ck_assert_int_eq(up->dimension[2], 3);

    ck_assert_int_eq(cso_graph_to_json(graph, &json), CARSO_OK);
    ck_assert_int_eq(cso_graph_from_json(context, json, look_up, &it, &again), CARSO_OK);
    ck_assert_int_eq(it.asked, graph->parameter_count);
    ck_assert_int_eq(again->value_count, graph->value_count);
    for (int i = 0; i < graph->value_count; i++) {
        ck_assert_str_eq(again->value[i].name, graph->value[i].name);
        ck_assert_mem_eq(&again->value[i].shape, &graph->value[i].shape, sizeof(cso_shape));
    }
    for (int i = 0; i < graph->node_count; i++) {
        const cso_node *node = &graph->node[i];
        const cso_node *node_again = &again->node[i];
        ck_assert_int_eq((int)node_again->kind, (int)node->kind);
        ck_assert_int_eq(node_again->input_count, node->input_count);
        ck_assert_mem_eq(node_again->input, node->input, (size_t)node->input_count * sizeof(int));
        ck_assert_mem_eq(node_again->parameter, node->parameter, sizeof node->parameter);
        ck_assert_mem_eq(&node_again->attributes, &node->attributes, sizeof node->attributes);
    }
    ck_assert_int_eq(cso_graph_to_json(again, &json_again), CARSO_OK);
    ck_assert(json_equal(json, json_again));
    json_decref(json);
    json_decref(json_again);
    cso_graph_destroy(graph);
    cso_graph_destroy(again);
}
END_TEST

START_TEST(what_is_neutral_is_not_written)
{
    static const char text[] =
        "{'inputs':[{'name':'x','shape':[1,4,4]}],'nodes':[{'op':'convolution','name':'c','inputs':['x'],"
        "'parameters':{'weight':'w_1x1x3x3'},'attributes':{'stride':[1,1],'dilation':[1,1],'groups':1,"
        "'pad_begin':[0,0]}},{'op':'relu','name':'r','inputs':['c'],'attributes':{},'parameters':{}}]}";
    static const char written[] =
        "{'inputs':[{'name':'x','shape':[1,4,4]}],'nodes':[{'inputs':['x'],'name':'c','op':'convolution',"
        "'parameters':{'weight':'w_1x1x3x3'}},{'inputs':['c'],'name':'r','op':'relu'}]}";
    cso_graph *graph;
    json_t *json;
    json_t *expected;
    size_t size;
    ck_assert_int_eq(read_text(text, strlen(text), &graph), CARSO_OK);
    ck_assert_int_eq(cso_graph_to_json(graph, &json), CARSO_OK);
    char *result = cso_json_text(context, json, &size);
    ck_assert_ptr_nonnull(result);
    ck_assert_uint_eq(size, strlen(written));
    ck_assert_int_eq(parse(written, strlen(written), &expected), CARSO_OK);
    ck_assert(json_equal(json, expected));
    cso_release(context, result);
    json_decref(json);
    json_decref(expected);
    cso_graph_destroy(graph);
}
END_TEST

START_TEST(training_is_not_written)
{
    static const char text[] =
        "{'inputs':[{'name':'x','shape':[4]}],'nodes':[{'op':'batch_norm','name':'n','inputs':['x'],"
        "'parameters':{'weight':'a_4','bias':'b_4','running_mean':'c_4','running_var':'d_4'}}]}";
    cso_graph *graph;
    cso_graph *training;
    json_t *json;
    json_t *json_training;
    ck_assert_int_eq(read_text(text, strlen(text), &graph), CARSO_OK);
    ck_assert_int_eq(cso_graph_clone_trainable(graph, true, &training), CARSO_OK);
    ck_assert_int_eq(cso_graph_to_json(graph, &json), CARSO_OK);
    ck_assert_int_eq(cso_graph_to_json(training, &json_training), CARSO_OK);
    ck_assert(json_equal(json, json_training));
    json_decref(json);
    json_decref(json_training);
    cso_graph_destroy(graph);
    cso_graph_destroy(training);
}
END_TEST

START_TEST(a_shared_parameter_is_looked_up_once)
{
    static const char text[] = "{'inputs':[{'name':'x','shape':[4]}],'nodes':["
                               "{'op':'linear','name':'a','inputs':['x'],'parameters':{'weight':'w_4x4'}},"
                               "{'op':'linear','name':'b','inputs':['a'],'parameters':{'weight':'w_4x4'}}]}";
    cso_graph *graph;
    json_t *json;
    shop it = {0};
    ck_assert_int_eq(parse(text, strlen(text), &json), CARSO_OK);
    ck_assert_int_eq(cso_graph_from_json(context, json, look_up, &it, &graph), CARSO_OK);
    ck_assert_int_eq(it.asked, 1);
    ck_assert_int_eq(graph->parameter_count, 1);
    ck_assert_int_eq(graph->parameter[0].parameter->references, 1);
    json_decref(json);
    cso_graph_destroy(graph);
}
END_TEST

#define ONE_INPUT "{'inputs':[{'name':'x','shape':[1,4,4]}],'nodes':["
#define NODE(op, rest) ONE_INPUT "{'op':'" op "','name':'n','inputs':['x']" rest "}]}"
#define CONV(attributes) NODE("convolution", ",'parameters':{'weight':'w_1x1x3x3'},'attributes':{" attributes "}")
#define STANDARDISE(attributes) NODE("standardise", ",'attributes':{" attributes "}")

static const struct {
    const char *text;
    const char *message;
    carso_status status; /* 0: BAD_FORMAT */
} refused[] = {
    {"[]", "graph: it must be an object"},
    {"{}", "\"inputs\" is missing"},
    {"{'inputs':[]}", "\"nodes\" is missing"},
    {"{'inputs':{},'nodes':[]}", "\"inputs\" is not"},
    {"{'inputs':[],'nodes':7}", "\"nodes\" is not"},
    {"{'inputs':[],'nodes':[],'output':'x'}", "graph: unknown key \"output\""},
    /* Inputs. */
    {"{'inputs':[7],'nodes':[]}", "graph input 0: it must be an object"},
    {"{'inputs':[{'shape':[1]}],'nodes':[]}", "graph input 0: \"name\" is missing"},
    {"{'inputs':[{'name':'x'}],'nodes':[]}", "\"shape\" must be an array of 1 to 3 integers"},
    {"{'inputs':[{'name':'x','shape':[1],'type':1}],'nodes':[]}", "unknown key \"type\""},
    {"{'inputs':[{'name':'x','shape':[]}],'nodes':[]}", "\"shape\" must be an array"},
    {"{'inputs':[{'name':'x','shape':[1,2]}],'nodes':[]}", "input 'x': its shape has rank 2"},
    {"{'inputs':[{'name':'x','shape':[1,2,3,4]}],'nodes':[]}", "\"shape\" must be an array"},
    {"{'inputs':[{'name':'x','shape':[0]}],'nodes':[]}", "input 'x': its shape is [0]"},
    {"{'inputs':[{'name':'x','shape':[-1]}],'nodes':[]}", "\"shape\" must hold integers of 0 to"},
    {"{'inputs':[{'name':'x','shape':[1.0]}],'nodes':[]}", "\"shape\" must hold integers of 0 to"},
    {"{'inputs':[{'name':'x','shape':['1']}],'nodes':[]}", "\"shape\" must hold integers of 0 to"},
    {"{'inputs':[{'name':'x','shape':[9223372036854775807]}],'nodes':[]}", "\"shape\" must hold integers"},
    {"{'inputs':[{'name':'x','shape':[65536,65536,65536]}],'nodes':[]}", "at most 67108864 elements"},
    {"{'inputs':[{'name':'x','shape':[1]},{'name':'x','shape':[1]}],'nodes':[]}", "are named 'x'"},
    {"{'inputs':[{'name':'','shape':[1]}],'nodes':[]}", "must have 1 to 1023 characters"},
    {"{'inputs':[{'name':'a\\nb','shape':[1]}],'nodes':[]}", "not printable ASCII"},
    {"{'inputs':[{'name':7,'shape':[1]}],'nodes':[]}", "\"name\" is not a string"},
    /* Nodes. */
    {ONE_INPUT "7]}", "node 0: not an object"},
    {ONE_INPUT "{'op':'relu','inputs':['x']}]}", "node 0: \"name\" is missing"},
    {ONE_INPUT "{'name':'n','inputs':['x']}]}", "node 0 'n': \"op\" is missing"},
    {ONE_INPUT "{'op':'relu','name':'n'}]}", "node 0 'n': \"inputs\" is missing"},
    {ONE_INPUT "{'op':'relu','name':'n','inputs':[]}]}", "node 0 'n': it has no inputs"},
    {ONE_INPUT "{'op':'relu','name':'n','inputs':'x'}]}", "\"inputs\" is not"},
    {ONE_INPUT "{'op':'relu','name':'n','inputs':[0]}]}", "\"inputs\" must hold names of values"},
    {ONE_INPUT "{'op':'relu','name':'x','inputs':['x']}]}", "are named 'x'"},
    {NODE("dropout", ""), "node 0 'n': there is no operation \"dropout\""},
    {NODE("re\\u0007lu", ""), "there is no operation \"(not printable)\""},
    {NODE("relu", ",'attribute':{}"), "node 0 'n': unknown key \"attribute\""},
    {NODE("relu", ",'attributes':[]"), "\"attributes\" must be an object"},
    {NODE("relu", ",'parameters':[]"), "it must be an object"},
    {NODE("add", ""), "node 'n' (add): it has 1 inputs; it must have 2"},
    /* Cycles: of one node, of two, and what is merely out of order. */
    {ONE_INPUT "{'op':'add','name':'n','inputs':['x','n']}]}", "uses the value 'n', which no input or earlier"},
    {ONE_INPUT "{'op':'add','name':'a','inputs':['x','b']},{'op':'relu','name':'b','inputs':['a']}]}",
     "node 0 'a': it uses the value 'b', which no input or earlier node defines"},
    {ONE_INPUT "{'op':'relu','name':'a','inputs':['b']},{'op':'relu','name':'b','inputs':['x']}]}", "without a cycle"},
    /* Attributes. */
    {NODE("relu", ",'attributes':{'slope':0.1}"), "this operation has no attribute \"slope\""},
    {NODE("relu", ",'attributes':{'shape':[1,4,4]}"), "this operation has no attribute \"shape\""},
    {CONV("'kernel':[3,3]"), "this operation has no attribute \"kernel\""},
    {CONV("'padding':[1,1]"), "this operation has no attribute \"padding\""},
    {CONV("'training':true"), "this operation has no attribute \"training\""},
    {CONV("'stride':2"), "\"stride\" must be an array of 2 integers"},
    {CONV("'stride':[2]"), "\"stride\" must be an array of 2 integers"},
    {CONV("'stride':[2,2,2]"), "\"stride\" must be an array of 2 integers"},
    {CONV("'stride':[2,2.5]"), "\"stride\" must hold integers of 0 to"},
    {CONV("'stride':[0,1]"), "node 'n' (convolution): stride is 0"},
    {CONV("'stride':[2147483648,1]"), "\"stride\" must hold integers of 0 to"},
    {CONV("'pad_begin':[-1,0]"), "\"pad_begin\" must hold integers of 0 to"},
    {CONV("'pad_begin':[2147483647,0]"), "pad_begin is 2147483647"},
    {CONV("'groups':[1,1]"), "\"groups\" must be an integer"},
    {CONV("'groups':0"), "groups is 0"},
    {CONV("'groups':9223372036854775807"), "\"groups\" must be an integer"},
    {NODE("average_pool", ",'attributes':{'kernel':[2,2],'count_padding':1}"),
     "\"count_padding\" must be true or false"},
    {NODE("max_pool", ",'attributes':{'kernel':[2,2],'count_padding':true}"), "no attribute \"count_padding\""},
    {NODE("max_pool", ""), "kernel is 0"},
    {NODE("leaky_relu", ",'attributes':{'slope':'0.2'}"), "\"slope\" must be a number"},
    {NODE("leaky_relu", ",'attributes':{'slope':-0.2}"), "slope is -0.2"},
    {NODE("scale", ",'attributes':{'factor':1e39}"), "\"factor\" must be a number that float32 can hold"},
    {NODE("scale", ",'attributes':{'factor':null}"), "\"factor\" must be a number"},
    {STANDARDISE("'mean':[1,2,3]"), "one number for each of the input's channels"},
    {STANDARDISE("'mean':1"), "one number for each of the input's channels"},
    {STANDARDISE("'mean':[true]"), "\"mean\" must be a number"},
    {STANDARDISE("'deviation':[0]"), "deviation is 0"},
    {STANDARDISE("'deviation':[1e-60]"), "deviation is 0"},
    {"{'inputs':[{'name':'x','shape':[6,1,1]}],'nodes':[{'op':'standardise','name':'n','inputs':['x'],"
     "'attributes':{'mean':[1,2,3,4,5,6]}}]}",
     "at most 4"},
    {NODE("flatten", "},{'op':'unflatten','name':'u','inputs':['n']"), "it needs a shape"},
    {NODE("flatten", "},{'op':'unflatten','name':'u','inputs':['n'],'attributes':{'shape':[4,4]}"), "it needs a shape"},
    {NODE("flatten", "},{'op':'unflatten','name':'u','inputs':['n'],'attributes':{'shape':[1,3,5]}"),
     "does not have the input's 16 elements"},
    /* Parameters. */
    {NODE("convolution", ""), "parameter weight is missing"},
    {NODE("convolution", ",'parameters':{'kernel':'w_1x1x3x3'}"), "unknown key \"kernel\""},
    {NODE("convolution", ",'parameters':{'weight':7}"), "the name of a parameter must be a string"},
    {NODE("convolution", ",'parameters':{'weight':'w 1x1x3x3'}"), "not printable ASCII"},
    {NODE("convolution", ",'parameters':{'weight':'w_1x2x3x3'}"), "does not fit 1 input channels"},
    {NODE("relu", ",'parameters':{'weight':'w_1'}"), "takes no parameter weight"},
    {NODE("convolution", ",'parameters':{'weight':'missing_1x1x3x3'}"), "there is no tensor 'missing_1x1x3x3'",
     CARSO_ERROR_NOT_FOUND},
    /* Told by the parser. */
    {ONE_INPUT "{'op':'relu','op':'tanh','name':'n','inputs':['x']}]}", "uplicate"},
    {ONE_INPUT, "graph"},
};

START_TEST(what_is_wrong_is_named)
{
    cso_graph *graph = (cso_graph *)context;
    const carso_status expected = refused[_i].status == CARSO_OK ? CARSO_ERROR_BAD_FORMAT : refused[_i].status;
    const carso_status status = read_text(refused[_i].text, strlen(refused[_i].text), &graph);
    ck_assert_msg(status == expected, "status %d for %s", (int)status, refused[_i].text);
    ck_assert_ptr_null(graph);
    expect_message(refused[_i].message);
}
END_TEST

/* Any byte of a good text replaced, left out or cut off: a graph or a status, and nothing lost. */
START_TEST(damaged_texts_do_no_harm)
{
    static const char replacement[] = {'\0', '"', '}', '[', ',', '-', '9', 'e', '\\', (char)0xff};
    static char text[sizeof whole];
    const size_t size = strlen(whole);
    size_t refusals = 0;
    for (size_t at = 0; at < size; at++) {
        for (size_t i = 0; i <= sizeof replacement; i++) {
            cso_graph *graph;
            carso_status status;
            memcpy(text, whole, size);
            if (i < sizeof replacement) {
                text[at] = replacement[i];
                status = read_text(text, size, &graph);
            } else {
                memmove(text + at, text + at + 1, size - at - 1);
                status = read_text(text, size - 1, &graph);
            }
            refusals += status != CARSO_OK;
            ck_assert_int_eq(status == CARSO_OK, graph != NULL);
            cso_graph_destroy(graph);
        }
        cso_graph *graph;
        ck_assert_int_eq(read_text(whole, at, &graph), CARSO_ERROR_BAD_FORMAT);
    }
    ck_assert_uint_gt(refusals, size);
}
END_TEST

START_TEST(sizes_that_multiply_are_stopped)
{
    /* Each node doubles the channels: 2^31 of them after 31 nodes, were there no limit. */
    char text[8192];
    cso_graph *graph;
    int length = snprintf(text, sizeof text, "{'inputs':[{'name':'v0','shape':[1,1,1]}],'nodes':[");
    for (int i = 0; i < 31; i++) {
        length += snprintf(text + length, sizeof text - (size_t)length,
                           "%s{'op':'concatenate','name':'v%d','inputs':['v%d','v%d']}", i > 0 ? "," : "", i + 1, i, i);
    }
    length += snprintf(text + length, sizeof text - (size_t)length, "]}");
    ck_assert_int_eq(read_text(text, (size_t)length, &graph), CARSO_ERROR_BAD_FORMAT);
    expect_message("node 'v17' (concatenate): the output is [131072][1][1]");
}
END_TEST

START_TEST(too_many_nodes_are_refused)
{
    cso_graph *graph;
    shop it = {0};
    json_t *json = json_object();
    json_t *nodes = json_array();
    for (int i = 0; i <= CSO_GRAPH_MAX_NODES; i++) {
        json_array_append_new(nodes, json_object());
    }
    json_object_set_new(json, "inputs", json_array());
    json_object_set_new(json, "nodes", nodes);
    ck_assert_int_eq(cso_graph_from_json(context, json, look_up, &it, &graph), CARSO_ERROR_BAD_FORMAT);
    expect_message("nodes");
    json_decref(json);
}
END_TEST

START_TEST(every_failing_allocation_is_survived)
{
    const long before = counts.held;
    for (long n = 1;; n++) {
        cso_graph *graph;
        json_t *json = NULL;
        counts.failing = counts.made + n;
        carso_status status = read_text(whole, strlen(whole), &graph);
        if (status == CARSO_OK) {
            status = cso_graph_to_json(graph, &json);
        }
        const bool failed = counts.made >= counts.failing;
        counts.failing = 0;
        json_decref(json);
        cso_graph_destroy(graph);
        ck_assert_int_eq(counts.held, before);
        if (!failed) {
            ck_assert_int_eq(status, CARSO_OK);
            ck_assert_int_gt(n, 100);
            break;
        }
        ck_assert_int_eq(status, CARSO_ERROR_OUT_OF_MEMORY);
    }
}
END_TEST

/* The JSON library's own memory, whose functions the program may replace. */
static long json_allocations_left;

static void *json_allocate(size_t size)
{
    return --json_allocations_left < 0 ? NULL : malloc(size);
}

START_TEST(writing_survives_json_without_memory)
{
    cso_graph *graph;
    json_t *json;
    json_malloc_t allocate;
    json_free_t release;
    ck_assert_int_eq(read_text(whole, strlen(whole), &graph), CARSO_OK);
    json_get_alloc_funcs(&allocate, &release);
    json_set_alloc_funcs(json_allocate, free);
    for (long n = 0;; n++) {
        json_allocations_left = n;
        const carso_status status = cso_graph_to_json(graph, &json);
        if (status == CARSO_OK) {
            ck_assert_int_gt(n, 100);
            break;
        }
        ck_assert_int_eq(status, CARSO_ERROR_OUT_OF_MEMORY);
        ck_assert_ptr_null(json);
    }
    json_decref(json);
    json_set_alloc_funcs(allocate, release);
    cso_graph_destroy(graph);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("graph_json");
    TCase *tests = tcase_create("graph_json");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, every_operation_goes_there_and_back);
    tcase_add_test(tests, what_is_neutral_is_not_written);
    tcase_add_test(tests, training_is_not_written);
    tcase_add_test(tests, a_shared_parameter_is_looked_up_once);
    tcase_add_loop_test(tests, what_is_wrong_is_named, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(tests, damaged_texts_do_no_harm);
    tcase_add_test(tests, sizes_that_multiply_are_stopped);
    tcase_add_test(tests, too_many_nodes_are_refused);
    tcase_add_test(tests, every_failing_allocation_is_survived);
    tcase_add_test(tests, writing_survives_json_without_memory);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
