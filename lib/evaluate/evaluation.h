/* SPDX-License-Identifier: BSD-2-Clause */
/* An evaluation under way, and the parts that it is made of. */
#ifndef CSO_EVALUATE_EVALUATION_H
#define CSO_EVALUATE_EVALUATION_H

#include "base/random.h"
#include "base/sha256.h"
#include "evaluate/columns.h"
#include "evaluate/protocol.h"

/* Images whose gradients are compared with finite differences: the first of all. */
#define CSO_CHECKED_IMAGES 8

/* Predictions of one set of images. */
typedef struct cso_score_columns {
    int32_t *correct;  /* predictions that are right, of the M */
    int32_t *majority; /* the label predicted most often; -1: logits are not finite */
} cso_score_columns;

/* What is known of the originals, per objective; all NULL where the protocol does not need it. */
typedef struct cso_clean_columns {
    int32_t *selected; /* right predictions with the draws that choose */
    cso_score_columns score;
    double *spread;            /* of the draws' logits, relative to that of the classes' mean logits */
    uint8_t *probability_like; /* every draw's logits are in [0, 1] and sum to 1 */
    double *gradient_error;    /* relative; NaN: not checked */
} cso_clean_columns;

/* Of one attack on an image. */
typedef enum cso_attack_state {
    CSO_STATE_LEFT_OUT = 0, /* the image was broken before */
    CSO_STATE_ATTACKED = 1,
    CSO_STATE_OUTSIDE = 2 /* the point was outside of the ball or the range, and is not used */
} cso_attack_state;

/* Per cell; where [attacks] is said, rows of as many entries. */
typedef struct cso_cell_columns {
    float *image;
    int32_t *best;     /* attack that made the point kept, -1: it is the original */
    int32_t *selected; /* right predictions of the point kept, with the draws that choose */
    cso_score_columns score, eight_bit;
    uint8_t *eight_bit_outside; /* no 8-bit image near the point is inside of the ball */
    uint8_t *state;             /* [attacks] cso_attack_state */
    int32_t *attack_selected;   /* [attacks] right predictions of this attack's point, with the draws that choose */
    double *first_loss, *last_loss, *zero_gradient, *tiny_gradient; /* [attacks] */
    double *weak_gradient;      /* [attacks] as in cso_attack_report, as the following */
    int32_t *vanished_from, *fell_from; /* [attacks] */
    uint8_t *non_finite;        /* [attacks] */
} cso_cell_columns;

struct carso_evaluation {
    carso_context *context;
    carso_model *model; /* NULL: to look at only */
    json_t *configuration, *class_names;
    json_t *commands; /* that repeat it, as the caller told: of a merged one, each shard's */
    char model_hash[CSO_SHA256_TEXT], data_hash[CSO_SHA256_TEXT], configuration_hash[CSO_SHA256_TEXT];
    cso_protocol protocol;
    int norm, aggregation, batch, shard, shards, classes;
    int32_t shape[3];
    size_t image_size;
    uint64_t seed, first_image;
    carso_loss_callback loss_function;
    void *loss_user;
    int64_t total; /* images of all shards */
    cso_columns columns;
    int64_t *position;
    int32_t *label;
    float *original;
    cso_clean_columns clean[2]; /* by carso_objective */
    cso_cell_columns *cell;
    uint64_t units_done;
    double *seconds; /* [cell_count][most_attacks + 1]: of each attack, and of scoring */
    int most_attacks;
    char *result;
};

/* Units: of each batch first the originals, then for each cell its attacks and its scoring. */
typedef enum cso_unit_kind { CSO_UNIT_ORIGINALS, CSO_UNIT_ATTACK, CSO_UNIT_SCORING } cso_unit_kind;
typedef struct cso_unit {
    cso_unit_kind kind;
    int cell, attack;
    int64_t first, count; /* rows */
} cso_unit;

uint64_t cso_evaluation_units(const carso_evaluation *evaluation);
cso_unit cso_evaluation_unit(const carso_evaluation *evaluation, uint64_t number);
int64_t cso_evaluation_finished_rows(const carso_evaluation *evaluation);

/* Makes all that hangs on configuration, rows and total; both must be set. */
carso_status cso_evaluation_prepare(carso_evaluation *evaluation, const char *where);

/* Progress of a unit as a part of the whole, for the callbacks of calls below. */
typedef struct cso_unit_progress {
    carso_progress_callback callback;
    void *user;
    double before, share, total; /* cost */
} cso_unit_progress;
int cso_unit_forward(const carso_progress *progress, void *user); /* user: a cso_unit_progress */

/* lib/evaluate/scoring.c. Images [count] with their rows; out arrays are indexed by image, and may be NULL but for correct. */
typedef struct cso_score_request {
    carso_objective objective;
    const float *images;
    const int64_t *row;
    int64_t count;
    cso_purpose purpose;
    int32_t *correct, *majority;
    double *spread;
    uint8_t *probability_like;
    cso_unit_progress *progress;
} cso_score_request;
carso_status cso_score(const carso_evaluation *evaluation, const cso_score_request *request);
/* Predictions that an image is scored on: M, of the classifier 1. */
int cso_score_repeats(const carso_evaluation *evaluation, carso_objective objective);

/* lib/evaluate/cost.c, all in evaluations of the classifier */
void cso_evaluation_cost(const carso_evaluation *evaluation, double *out_done, double *out_left);
/* Of the unit that comes next. */
double cso_unit_cost(const carso_evaluation *evaluation, const cso_unit *unit);

/* lib/evaluate/create.c */
carso_status cso_evaluation_allocate(carso_context *context, carso_evaluation **out);
carso_status cso_configuration_hash(const carso_context *context, const json_t *configuration,
                                    char out[CSO_SHA256_TEXT]);
/* lib/evaluate/assault.c */
carso_status cso_evaluation_attack(carso_evaluation *evaluation, const cso_unit *unit, cso_unit_progress *progress);
/* lib/evaluate/bounds.c */
bool cso_inside(const carso_evaluation *evaluation, double epsilon, const float *original, const float *point);
/* The 8-bit image nearest to point, in l-infinity a level nearer to the original where it would leave the ball. False: it is outside. */
bool cso_eight_bit(const carso_evaluation *evaluation, double epsilon, const float *original, const float *point,
                   float *out);
/* lib/evaluate/gradient_check.c: the relative error of each image's directional derivative; rows first .. */
carso_status cso_gradient_check(carso_evaluation *evaluation, carso_objective objective, int64_t first, int64_t count);
/* lib/evaluate/interval.c: 95 % interval of the mean of shares [count], each of repeats predictions. */
void cso_interval(const double *share, int64_t count, int repeats, double *mean, double *low, double *high);
/* lib/evaluate/flags.c: a new array; NULL where memory ran out. */
json_t *cso_evaluation_flags(const carso_evaluation *evaluation);

#endif
