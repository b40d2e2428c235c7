/* SPDX-License-Identifier: BSD-2-Clause */
/* What APGD, Square and FAB share: runs from several starts towards several targets, of which each image keeps the best. */
#ifndef CSO_ATTACK_SEARCH_H
#define CSO_ATTACK_SEARCH_H

#include "attack/pgd.h"

typedef struct cso_search {
    int iterations;              /* steps or queries of a run */
    int channels, height, width; /* Square */
    int classes;                 /* FAB */
    int restarts, eot;
    bool early_stop; /* leaves an image alone once it is wrong in all eot evaluations, and keeps that point */
    bool random_start;
    carso_norm norm;
    const double *epsilon; /* per image */
    uint64_t seed;
    cso_purpose purpose;
    const uint64_t *image_index;
    /* NULL, or [target_sets][count]: restarts runs for each set. */
    const int32_t *targets;
    int target_sets;
    bool judged_untargeted; /* the losses reported, and the choice of a run, are those without a target */
    bool fixed_draws;       /* of each run */
    /* NULL, or what the losses reported and the choice of a run are of, in place of what is attacked. Its eot. */
    const cso_objective *judge;
    int judge_eot;
    const char *unit;
    carso_progress_callback progress;
    void *progress_user;
} cso_search;

/* One run from one start. */
typedef struct cso_search_run {
    const cso_objective *objective;
    const cso_search *search;
    const float *original;
    const int32_t *targets; /* of this run, or NULL */
    int64_t count;
    size_t size; /* of an image */
    int number;
    uint8_t *done;      /* not to be moved any more: wrong where that ends it, or not finite in this run */
    float *current;     /* points to evaluate */
    float *best;        /* point of the largest loss in this run */
    double *best_loss;  /* NaN: none was finite */
    double *wanted;     /* [size]: scratch */
    cso_mean_query mean; /* result of the last evaluation of current */
    uint8_t *non_finite; /* at any time */
    uint8_t *broken;     /* early_stop: it ended there, maybe at the image itself */
    int iteration; /* set by the method: what progress says, and evaluations are counted for */
    double *distance; /* FAB: of the nearest misclassified point, over all runs; else NULL */
    void *own;        /* of the method */
} cso_search_run;

typedef struct cso_search_method {
    carso_status (*open)(cso_search_run *run); /* sets own */
    void (*close)(cso_search_run *run);        /* after open, even where that failed */
    /* From current = best = the originals. */
    carso_status (*run)(cso_search_run *run);
    bool wants_gradient;
    bool keeps_latest; /* a run sets best_loss where its best replaces that of earlier ones, whatever the loss */
} cso_search_method;

/*
 * Evaluates current where not done. An image that is not finite, or wrong where that ends it, is done. improved
 * [count], or NULL: 1 where best was replaced.
 */
carso_status cso_search_evaluate(cso_search_run *run, bool with_gradient, uint8_t *improved);
carso_status cso_search_progress(cso_search_run *run);

/*
 * As cso_pgd_run in what it returns and reports, but that first_loss is that of the image itself, and that the point
 * with the largest loss is kept, the image itself where none has a larger one. Where the objective
 * has draws, the loss of the point kept is evaluated once more with fresh ones: those that chose it flatter it.
 */
carso_status cso_search_perform(const cso_search_method *method, const cso_objective *objective,
                                const cso_search *search, const float *images, const int32_t *labels, int64_t count,
                                float *adversarial, const cso_attack_report *report);

/* Evaluations of the objective by one run at most. */
#define CSO_SEARCH_EVALUATIONS(iterations) ((uint64_t)(iterations) + 3)

#endif
