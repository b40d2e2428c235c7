/* SPDX-License-Identifier: BSD-2-Clause */
/* The built-in protocols and ensembles, in the form in which an application may state its own. */
#include <string.h>

#include "evaluate/protocol.h"

typedef struct named_text {
    const char *name, *text;
} named_text;

/* Steps and queries of AutoAttack as published; rand on the paper's own aggregation. */
static const named_text ensembles[] = {
    {"standard", "[{'name': 'apgd-ce', 'method': 'apgd', 'loss': 'cross-entropy', 'steps': 100, 'early_stop': true},"
                 " {'name': 'apgd-t', 'method': 'apgd-targeted', 'loss': 'dlr', 'steps': 100, 'target_classes': 9, 'early_stop': true},"
                 " {'name': 'fab-t', 'method': 'fab-targeted', 'loss': 'margin', 'steps': 100, 'target_classes': 9},"
                 " {'name': 'square', 'method': 'square', 'loss': 'margin', 'queries': 5000, 'early_stop': true}]"},
    {"rand", "[{'name': 'apgd-ce', 'method': 'apgd', 'loss': 'carso-cross-entropy', 'steps': 100, 'eot': 20},"
             " {'name': 'apgd-dlr', 'method': 'apgd', 'loss': 'carso-dlr', 'steps': 100, 'eot': 20}]"},
    /* Cheap ones first, but what knows less than a gradient after the first that follows one: what it then still breaks
     * speaks against the gradients. */
    {"adaptive",
     "[{'name': 'pgd-first', 'method': 'pgd', 'loss': 'margin', 'steps': 20, 'eot': 1},"
     " {'name': 'noise', 'method': 'noise', 'loss': 'margin', 'restarts': 10},"
     " {'name': 'fixed-noise', 'method': 'apgd', 'loss': 'margin', 'steps': 100, 'eot': 2, 'fixed_draws': true},"
     " {'name': 'transfer', 'method': 'apgd', 'objective': 'classifier', 'loss': 'margin', 'steps': 100},"
     " {'name': 'apgd-margin', 'method': 'apgd', 'loss': 'margin', 'steps': 100, 'eot': 20},"
     " {'name': 'apgd-mean-ce', 'method': 'apgd', 'loss': 'cross-entropy', 'steps': 100, 'eot': 20},"
     " {'name': 'apgd-probability-ce', 'method': 'apgd', 'loss': 'probability-cross-entropy', 'steps': 100, 'eot': 20},"
     " {'name': 'apgd-log-odds', 'method': 'apgd', 'loss': 'log-odds', 'steps': 100, 'eot': 20},"
     " {'name': 'apgd-ce', 'method': 'apgd', 'loss': 'carso-cross-entropy', 'steps': 100, 'eot': 20},"
     " {'name': 'apgd-dlr', 'method': 'apgd', 'loss': 'carso-dlr', 'steps': 100, 'eot': 20},"
     " {'name': 'pgd-eot', 'method': 'pgd', 'loss': 'margin', 'steps': 200, 'eot': 20},"
     " {'name': 'square', 'method': 'square', 'loss': 'margin', 'queries': 1000, 'eot': 4}]"},
    {NULL, NULL}};

static const named_text protocols[] = {
    {"quick",
     "{'name': 'quick', 'epsilons': ['8/255'], 'draws': 8, 'repeats': 4, 'sections': ["
     " {'name': 'classifier', 'objective': 'classifier', 'attacks': ["
     "  {'name': 'pgd', 'method': 'pgd', 'loss': 'cross-entropy', 'steps': 20},"
     "  {'name': 'noise', 'method': 'noise', 'loss': 'margin', 'restarts': 5},"
     "  {'name': 'apgd-margin', 'method': 'apgd', 'loss': 'margin', 'steps': 20, 'early_stop': true},"
     "  {'name': 'square', 'method': 'square', 'loss': 'margin', 'queries': 100, 'early_stop': true}]},"
     " {'name': 'defence', 'objective': 'defence', 'attacks': ["
     "  {'name': 'pgd-eot', 'method': 'pgd', 'loss': 'margin', 'steps': 20, 'eot': 2},"
     "  {'name': 'noise', 'method': 'noise', 'loss': 'margin', 'restarts': 3},"
     "  {'name': 'transfer', 'method': 'apgd', 'objective': 'classifier', 'loss': 'margin', 'steps': 20},"
     "  {'name': 'apgd-mean-ce', 'method': 'apgd', 'loss': 'cross-entropy', 'steps': 20, 'eot': 2}]},"
     " {'name': 'guard', 'objective': 'defence', 'epsilons': [0.95], 'guard': true, 'attacks': ["
     "  {'name': 'pgd-eot', 'method': 'pgd', 'loss': 'margin', 'steps': 20, 'eot': 1}]},"
     " {'name': 'guard of the classifier', 'objective': 'classifier', 'epsilons': [0.95], 'guard': true, 'attacks': ["
     "  {'name': 'pgd', 'method': 'pgd', 'loss': 'margin', 'steps': 20}]}]}"},
    {"paper",
     "{'name': 'paper', 'epsilons': ['8/255'], 'draws': 8, 'repeats': 10, 'sections': ["
     " {'name': 'classifier standard', 'objective': 'classifier', 'attacks': ['standard']},"
     " {'name': 'defence rand', 'objective': 'defence', 'attacks': ['rand']},"
     " {'name': 'defence pgd-eot', 'objective': 'defence', 'attacks': ["
     "  {'name': 'pgd-eot', 'method': 'pgd', 'loss': 'carso-cross-entropy', 'steps': 200, 'step_size': 0.007, 'eot': 20}]},"
     " {'name': 'guard', 'objective': 'defence', 'epsilons': [0.95], 'guard': true, 'attacks': ["
     "  {'name': 'pgd-eot', 'method': 'pgd', 'loss': 'carso-cross-entropy', 'steps': 50, 'eot': 4}]}]}"},
    {"adaptive",
     "{'name': 'adaptive', 'epsilons': ['8/255'], 'draws': 8, 'repeats': 10, 'sections': ["
     " {'name': 'classifier standard', 'objective': 'classifier', 'attacks': ['standard']},"
     " {'name': 'defence adaptive', 'objective': 'defence', 'attacks': ['adaptive']},"
     " {'name': 'guard', 'objective': 'defence', 'epsilons': [0.95], 'guard': true, 'attacks': ["
     "  {'name': 'pgd-eot', 'method': 'pgd', 'loss': 'margin', 'steps': 50, 'eot': 4}]},"
     " {'name': 'steps', 'objective': 'defence', 'curve': [1, 5, 20, 100], 'attacks': ["
     "  {'name': 'pgd-eot', 'method': 'pgd', 'loss': 'margin', 'eot': 4}]}]}"},
    {NULL, NULL}};

static const char *find(const named_text *table, const char *name)
{
    for (; table->name; table++) {
        if (strcmp(table->name, name) == 0) {
            return table->text;
        }
    }
    return NULL;
}

const char *cso_protocol_text(const char *name)
{
    return find(protocols, name);
}

const char *cso_ensemble_text(const char *name)
{
    return find(ensembles, name);
}
