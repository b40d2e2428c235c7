/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two trainers have in common. */
#ifndef CSO_TRAIN_TRAINER_H
#define CSO_TRAIN_TRAINER_H

#include <jansson.h>

#include "carso/train.h"
#include "train/purifier_step.h"
#include "train/weights.h"

struct cso_safetensors;

typedef enum cso_trainer_kind { CSO_TRAIN_PURIFIER, CSO_TRAIN_CLASSIFIER } cso_trainer_kind;

/* Roles of cso_weight.state. */
enum { CSO_STATE_FIRST_MOMENT, CSO_STATE_SECOND_MOMENT, CSO_STATE_SLOW, CSO_PURIFIER_STATES };
enum { CSO_STATE_VELOCITY, CSO_CLASSIFIER_STATES };

typedef struct cso_classifier_network {
    cso_graph *classifier; /* trainable copy, BatchNorm in evaluation mode */
    cso_program *train;    /* image -> logits, BatchNorm in training mode, gradients to the parameters */
    cso_program *attack;   /* the same on the same parameters, BatchNorm in evaluation mode, gradient to the image */
} cso_classifier_network;

/* Where batches come from, as the caller tells. */
typedef struct cso_trainer_data {
    char name[256];
    uint64_t images, batch; /* of an epoch, of a step; 0: not told */
    int32_t crop_padding, mirror; /* as in carso_read_options */
} cso_trainer_data;

struct carso_trainer {
    carso_context *context;
    carso_model *model; /* that training began with: structure, settings, and the frozen classifier */
    cso_trainer_kind kind;
    uint64_t step; /* done */
    int64_t sub_batch;
    bool collapse_reported;
    cso_trainer_data data;
    cso_weights *weights;
    carso_purifier_training_options purifier_options;
    cso_purifier_network *purifier;
    carso_classifier_training_options classifier_options;
    cso_classifier_network classifier;
};

/* A batch made dense. */
typedef struct cso_train_batch {
    int64_t count;
    const float *images; /* [count][C][H][W] */
    const int32_t *labels; /* checked against the classes; NULL: none given */
} cso_train_batch;

carso_status cso_trainer_create_purifier(const carso_model *model, const carso_purifier_training_options *options,
                                         carso_trainer **out);
carso_status cso_trainer_create_classifier(const carso_model *model, const carso_classifier_training_options *options,
                                           carso_trainer **out);
/* What both begin with: a trainer that holds its model and has neither network nor weights yet. */
carso_status cso_trainer_begin(const carso_model *model, cso_trainer_kind kind, int64_t sub_batch, carso_trainer **out);
void cso_trainer_destroy(carso_trainer *trainer); /* accepts NULL */

/* given: its name aside. INVALID_ARGUMENT where it differs from what was told before, or anything is out of range. */
carso_status cso_trainer_set_data(carso_trainer *trainer, const char *name, const cso_trainer_data *given);
/* {"name", "images", "batch", "crop_padding", "mirror"}; NULL where memory ran out. */
json_t *cso_trainer_data_to_json(const cso_trainer_data *data);

/* report: step, epoch and sizes are filled by cso_trainer_step; the rest by the kinds' own functions. A failure leaves weights,
 * running statistics and step as they were. */
carso_status cso_trainer_step(carso_trainer *trainer, const cso_train_batch *batch, carso_train_report *report);
/* The kinds' own: gradients are zero; they add the batch's and fill the report. */
carso_status cso_purifier_gradients(carso_trainer *trainer, const cso_train_batch *batch, carso_train_report *report);
carso_status cso_classifier_gradients(carso_trainer *trainer, const cso_train_batch *batch, carso_train_report *report);
/* The kinds' own: from gradients to weights on the host, of a step that nothing is wrong with. */
carso_status cso_purifier_update(carso_trainer *trainer, carso_train_report *report);
carso_status cso_classifier_update(carso_trainer *trainer, carso_train_report *report);
void cso_classifier_network_clear(cso_classifier_network *network);

/* NON_FINITE with step and quantity, unless value is finite. */
carso_status cso_trainer_check_finite(const carso_trainer *trainer, double value, const char *quantity);

/* The model reached, with its provenance. */
carso_status cso_trainer_model(const carso_trainer *trainer, carso_model **out);

carso_status cso_checkpoint_write(const carso_trainer *trainer, const char *path);
carso_status cso_checkpoint_read(carso_context *context, struct cso_safetensors *file, const char *path,
                                 carso_trainer **out);

#endif
