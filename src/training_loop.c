/* SPDX-License-Identifier: BSD-2-Clause */
#include "training_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "assault.h"
#include "progress.h"
#include "scoring.h"

/* A task under way. */
typedef struct loop {
    const training_task *task;
    carso_context *context;
    carso_trainer *trainer;
    carso_dataset *data;
    carso_dataset *test; /* NULL: no validation */
    char *checkpoint;
} loop;

void training_defaults(training_settings *training)
{
    common_defaults(&training->common);
    training->validate = 1000;
    training->save_minutes = 5;
}

static exit_status checkpoint_path(const training_settings *training, char **out_path)
{
    int made = training->checkpoint ? asprintf(out_path, "%s", training->checkpoint)
                                    : asprintf(out_path, "%s.checkpoint", training->output);
    exit_status status = STATUS_OK;
    if (made < 0) {
        *out_path = NULL;
        complain("out of memory");
        return STATUS_FAILURE;
    }
    if (strcmp(*out_path, training->output) == 0) {
        complain("--checkpoint: %s is the model to write; once that is written, the checkpoint is removed", *out_path);
        status = STATUS_USAGE;
    } else if (!session_can_write(training->output, false) || !session_can_write(*out_path, false)) {
        status = STATUS_FAILURE;
    }
    if (status != STATUS_OK) {
        free(*out_path);
        *out_path = NULL;
    }
    return status;
}

static exit_status resume(const training_settings *training, carso_context *context, const char *checkpoint,
                          carso_trainer **out_trainer)
{
    *out_trainer = NULL;
    if (!training->resume) {
        return STATUS_OK;
    }
    carso_status status = carso_trainer_load(context, checkpoint, out_trainer);
    return status == CARSO_OK ? STATUS_OK : session_failure(context, status, "cannot resume from %s", checkpoint);
}

static uint64_t images_used(const training_settings *training, const carso_dataset *data)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_dataset_get_info(data, &info);
    uint64_t most = (uint64_t)training->most_images;
    return most > 0 && most < info.count ? most : info.count;
}

static exit_status tell_of_data(const training_task *task, carso_context *context, const carso_dataset *data,
                                carso_trainer *trainer, const char *checkpoint)
{
    char *whole = realpath(task->dataset, NULL);
    const char *slash = whole ? strrchr(whole, '/') : NULL;
    carso_status status = carso_trainer_set_data(trainer, slash && slash[1] ? slash + 1 : task->dataset,
                                                 images_used(task->settings, data), (uint64_t)task->settings->batch,
                                                 &task->augmentation);
    free(whole);
    if (status == CARSO_OK) {
        return STATUS_OK;
    }
    return task->settings->resume ? session_failure(context, status, "cannot resume from %s", checkpoint)
                                  : session_failure(context, status, "cannot start training");
}

static carso_status open_test(const training_settings *training, carso_context *context, const char *path,
                              carso_dataset **out_test)
{
    *out_test = NULL;
    if (training->validate == 0) {
        return CARSO_OK;
    }
    carso_status status = carso_dataset_open(context, path, CARSO_SPLIT_TEST, out_test);
    if (status == CARSO_ERROR_NOT_FOUND) {
        char message[1024];
        carso_context_message(context, message, sizeof message);
        complain("warning: no test images, the accuracy is not measured: %s", message);
        return CARSO_OK;
    }
    return status;
}

/* 0 after a complaint. */
static int32_t steps_per_epoch(const training_settings *training, const carso_dataset *data)
{
    uint64_t used = images_used(training, data);
    if (used < (uint64_t)training->batch) {
        complain("--batch: %lld images are more than the %llu of the data set", (long long)training->batch,
                 (unsigned long long)used);
        return 0;
    }
    return (int32_t)(used / (uint64_t)training->batch);
}

/* Over the steps of an epoch that this run took: all, those after an interruption, or those before it failed. */
typedef struct epoch_sums {
    int steps, of;
    double loss, reconstruction, kl, diversity, accuracy;
    carso_train_report last;
} epoch_sums;

static void add_report(epoch_sums *sums, const carso_train_report *report)
{
    sums->steps++;
    sums->loss += report->loss;
    sums->reconstruction += report->reconstruction;
    sums->kl += report->kl;
    sums->diversity += report->draw_diversity;
    sums->accuracy += report->accuracy;
    sums->last = *report;
}

typedef struct validation {
    bool measured;
    double classifier, attacked, robust;
} validation;

static exit_status validate(const loop *run, const samples *held, validation *out)
{
    carso_model *model;
    score plain;
    carso_status made = carso_trainer_get_model(run->trainer, &model);
    if (made != CARSO_OK) {
        return session_failure(run->context, made, "cannot make a model of the weights reached");
    }
    bool quiet = run->task->settings->common.quiet;
    exit_status status = score_images(model, held, held->pixels, run->task->purifier ? 8 : 1, CARSO_AGGREGATE_CARSO,
                                      run->task->purifier ? 1 : 0, 0, "validation", quiet, &plain);
    if (status == STATUS_OK) {
        out->measured = true;
        *(run->task->purifier ? &out->robust : &out->classifier) = plain.mean;
        score_release(&plain);
    }
    if (status == STATUS_OK && !run->task->purifier && run->task->epsilon > 0) {
        carso_attack_options options;
        assault attack;
        carso_attack_options_init(&options, sizeof options);
        options.epsilon = run->task->epsilon;
        options.steps = 20;
        options.step_size = run->task->epsilon / 8;
        status = assault_run(model, held, &options, "validation under PGD-20", quiet, &attack);
        if (status == STATUS_OK) {
            status = score_images(model, held, attack.pixels, 1, 0, 0, 0, "validation", quiet, &plain);
            assault_release(&attack);
        }
        if (status == STATUS_OK) {
            out->attacked = plain.mean;
            score_release(&plain);
        }
    }
    carso_model_destroy(model);
    return status;
}

static void print_epoch(const loop *run, int64_t epoch, const epoch_sums *sums, const validation *measured,
                        double seconds)
{
    double n = sums->steps;
    if (run->task->settings->common.json) {
        json_t *line = json_pack("{s:I, s:i, s:f, s:f, s:f, s:f}", "epoch", (json_int_t)epoch, "steps", sums->steps, "loss",
                                 sums->loss / n, "learning_rate", sums->last.learning_rate, "gradient_norm",
                                 sums->last.gradient_norm, "seconds", seconds);
        if (run->task->purifier) {
            json_object_set_new(line, "reconstruction", json_real(sums->reconstruction / n));
            json_object_set_new(line, "kl", json_real(sums->kl / n));
            json_object_set_new(line, "beta", json_real(sums->last.beta));
            json_object_set_new(line, "draw_diversity", json_real(sums->diversity / n));
            json_object_set_new(line, "collapsed", json_boolean(sums->last.collapsed));
        } else {
            json_object_set_new(line, "accuracy", json_real(sums->accuracy / n));
            json_object_set_new(line, "epsilon", json_real(sums->last.epsilon));
        }
        if (measured->measured && run->task->purifier) {
            json_object_set_new(line, "test_defence", json_real(measured->robust));
        } else if (measured->measured) {
            json_object_set_new(line, "test_classifier", json_real(measured->classifier));
            json_object_set_new(line, "test_attacked", json_real(measured->attacked));
        }
        session_print_json(line);
    } else if (run->task->purifier) {
        printf("epoch %lld/%lld  loss %.2f  reconstruction %.2f  KL %.3f  beta %.3f  diversity %.4f  rate %.3g",
               (long long)epoch, (long long)run->task->settings->epochs, sums->loss / n, sums->reconstruction / n,
               sums->kl / n, sums->last.beta, sums->diversity / n, sums->last.learning_rate);
        if (measured->measured) {
            printf("  test: defence %.3f", measured->robust);
        }
    } else {
        printf("epoch %lld/%lld  loss %.4f  accuracy %.3f  epsilon %.4f  rate %.3g", (long long)epoch,
               (long long)run->task->settings->epochs, sums->loss / n, sums->accuracy / n, sums->last.epsilon,
               sums->last.learning_rate);
        if (measured->measured) {
            printf("  test: clean %.3f, PGD-20 %.3f", measured->classifier, measured->attacked);
        }
    }
    if (!run->task->settings->common.json) {
        printf("  %.0f s", seconds);
        if (sums->steps < sums->of) {
            printf(", over %d of %d steps", sums->steps, sums->of);
        }
        printf("\n");
    }
    fflush(stdout);
}

/* What the loop holds in memory. */
typedef struct loop_state {
    uint64_t *order;
    carso_reader *reader; /* of the epoch under way */
    carso_images images;
    samples test;
    int32_t steps_per_epoch;
    double saved_at;
} loop_state;

static exit_status save_checkpoint(const loop *run, loop_state *state)
{
    carso_status status = carso_trainer_save(run->trainer, run->checkpoint);
    state->saved_at = session_seconds();
    return status == CARSO_OK ? STATUS_OK
                              : session_failure(run->context, status, "cannot save the checkpoint %s", run->checkpoint);
}

static exit_status interrupted(const loop *run, loop_state *state)
{
    exit_status status = save_checkpoint(run, state);
    if (status == STATUS_OK) {
        complain("interrupted after %llu steps; '--resume' goes on from %s",
                 (unsigned long long)carso_trainer_step(run->trainer), run->checkpoint);
        status = STATUS_INTERRUPTED;
    }
    return status;
}

static exit_status take_step(const loop *run, loop_state *state, carso_train_report *report)
{
    carso_read_batch batch = {.struct_size = sizeof batch};
    carso_status status = carso_reader_next(state->reader, &batch);
    if (status != CARSO_OK) {
        return session_failure(run->context, status, "cannot read the training images");
    }
    state->images.data = batch.pixels;
    report->struct_size = sizeof *report;
    status = carso_train_step(run->trainer, &state->images, batch.labels, report);
    return status == CARSO_OK ? STATUS_OK : session_failure(run->context, status, "training stopped");
}

/* Reads the batches of an epoch from step on, while the steps before them are computed. */
static carso_status open_reader(const loop *run, loop_state *state, uint64_t epoch, uint64_t step)
{
    carso_reader_options options;
    carso_read_options augmentation = run->task->augmentation;
    carso_reader_options_init(&options, sizeof options);
    augmentation.seed = (uint64_t)run->task->settings->common.seed;
    augmentation.epoch = epoch;
    options.batch = (uint64_t)run->task->settings->batch;
    options.reading = &augmentation;
    return carso_reader_open(run->data, state->order + step * options.batch,
                             ((uint64_t)state->steps_per_epoch - step) * options.batch, &options, &state->reader);
}

/* The permutation of the whole data set, less the images that --images leaves out. */
static carso_status epoch_order(const loop *run, uint64_t epoch, uint64_t *order)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    uint64_t used = images_used(run->task->settings, run->data), kept = 0;
    carso_dataset_get_info(run->data, &info);
    carso_status status = carso_dataset_shuffle(run->data, (uint64_t)run->task->settings->common.seed, epoch, order);
    for (uint64_t i = 0; status == CARSO_OK && i < info.count; i++) {
        if (order[i] < used) {
            order[kept++] = order[i];
        }
    }
    return status;
}

static exit_status run_epoch(const loop *run, loop_state *state, uint64_t epoch, epoch_sums *sums)
{
    char title[64];
    progress_bar bar;
    uint64_t steps = (uint64_t)state->steps_per_epoch;
    carso_status shuffled = epoch_order(run, epoch, state->order);
    if (shuffled != CARSO_OK) {
        return session_failure(run->context, shuffled, "cannot shuffle the data set");
    }
    uint64_t first = carso_trainer_step(run->trainer) - epoch * steps;
    carso_status opened = open_reader(run, state, epoch, first);
    if (opened != CARSO_OK) {
        return session_failure(run->context, opened, "cannot read the training images");
    }
    snprintf(title, sizeof title, "epoch %llu/%lld", (unsigned long long)epoch + 1, (long long)run->task->settings->epochs);
    progress_start(&bar, title, run->task->settings->common.quiet);
    exit_status status = STATUS_OK;
    for (uint64_t step = first; step < steps && status == STATUS_OK; step++) {
        carso_train_report report;
        status = take_step(run, state, &report);
        if (status != STATUS_OK) {
            break;
        }
        add_report(sums, &report);
        if (run->task->purifier) {
            snprintf(bar.note, sizeof bar.note, "loss %.2f, KL %.3f", report.loss, report.kl);
        } else {
            snprintf(bar.note, sizeof bar.note, "loss %.4f, accuracy %.3f", report.loss, report.accuracy);
        }
        progress_update(&bar, step + 1, steps, "steps");
        if (session_interrupted()) {
            progress_finish(&bar);
            status = interrupted(run, state);
        } else if (session_seconds() - state->saved_at > 60 * run->task->settings->save_minutes) {
            status = save_checkpoint(run, state);
        }
    }
    progress_finish(&bar);
    carso_reader_destroy(state->reader);
    state->reader = NULL;
    return status;
}

static exit_status load_test_images(const loop *run, loop_state *state)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    if (!run->test || run->task->settings->validate == 0) {
        return STATUS_OK;
    }
    carso_dataset_get_info(run->test, &info);
    uint64_t count =
        (uint64_t)run->task->settings->validate < info.count ? (uint64_t)run->task->settings->validate : info.count;
    return samples_from_dataset(run->context, run->test, 0, count, &state->test);
}

static exit_status allocate(const loop *run, loop_state *state)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_dataset_get_info(run->data, &info);
    state->order = malloc((size_t)info.count * sizeof *state->order);
    if (!state->order) {
        complain("out of memory");
        return STATUS_FAILURE;
    }
    carso_images_init(&state->images, sizeof state->images);
    state->images.count = (uint64_t)run->task->settings->batch;
    state->images.width = info.width;
    state->images.height = info.height;
    state->images.order = info.channels == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    state->saved_at = session_seconds();
    state->steps_per_epoch = steps_per_epoch(run->task->settings, run->data);
    return load_test_images(run, state);
}

static exit_status write_model(const loop *run)
{
    carso_model *model;
    carso_status made = carso_trainer_get_model(run->trainer, &model);
    if (made == CARSO_OK) {
        made = carso_model_save(model, run->task->settings->output);
        carso_model_destroy(model);
    }
    if (made != CARSO_OK) {
        return session_failure(run->context, made, "cannot write the model %s", run->task->settings->output);
    }
    /* The checkpoint is a whole model and more; once the model is written it has served. */
    if (remove(run->checkpoint) != 0 && errno != ENOENT) {
        complain("warning: cannot remove %s: %s", run->checkpoint, strerror(errno));
    }
    return STATUS_OK;
}

static exit_status train(const loop *run)
{
    loop_state state = {0};
    exit_status status = allocate(run, &state);
    double started = session_seconds();
    while (status == STATUS_OK) {
        uint64_t epoch = carso_trainer_step(run->trainer) / (uint64_t)state.steps_per_epoch;
        epoch_sums sums = {.of = state.steps_per_epoch};
        validation measured = {0};
        if (epoch >= (uint64_t)run->task->settings->epochs) {
            break;
        }
        double epoch_started = session_seconds();
        status = run_epoch(run, &state, epoch, &sums);
        if (status == STATUS_OK && state.test.count > 0) {
            status = validate(run, &state.test, &measured);
        }
        if (sums.steps > 0 && (status == STATUS_OK || status == STATUS_UNTRUSTED)) {
            print_epoch(run, (int64_t)epoch + 1, &sums, &measured, session_seconds() - epoch_started);
        }
        if (status == STATUS_INTERRUPTED && carso_trainer_step(run->trainer) % (uint64_t)state.steps_per_epoch == 0) {
            status = interrupted(run, &state); /* while validating */
        } else if (status == STATUS_OK) {
            status = save_checkpoint(run, &state);
        }
    }
    if (status == STATUS_OK) {
        status = write_model(run);
    }
    if (status == STATUS_OK && !run->task->settings->common.json) {
        printf("wrote %s after %.0f seconds\n", run->task->settings->output, session_seconds() - started);
    }
    free(state.order);
    samples_release(&state.test);
    return status;
}

/* Whether the network of a training that goes on is of the sizes that are asked for. */
static exit_status check_network(const loop *run, const carso_model *wanted)
{
    carso_model *model;
    carso_model_info has = {.struct_size = sizeof has}, now = {.struct_size = sizeof now};
    const carso_status status = carso_trainer_get_model(run->trainer, &model);
    if (status != CARSO_OK) {
        return session_failure(run->context, status, "cannot resume from %s", run->checkpoint);
    }
    carso_model_get_info(model, &has);
    carso_model_get_info(wanted, &now);
    carso_model_destroy(model);
    if (has.has_purifier != now.has_purifier) {
        complain("cannot resume from %s: it is of the training of a %s", run->checkpoint,
                 has.has_purifier ? "purifier" : "classifier");
        return STATUS_FAILURE;
    }
    const struct {
        const char *name;
        uint64_t has, now;
    } size[] = {{"channels of the images", (uint64_t)has.channels, (uint64_t)now.channels},
                {"height of the images", (uint64_t)has.image_height, (uint64_t)now.image_height},
                {"width of the images", (uint64_t)has.image_width, (uint64_t)now.image_width},
                {"number of classes", (uint64_t)has.classes, (uint64_t)now.classes},
                {"number of the classifier's parameters", has.classifier_parameters, now.classifier_parameters},
                {"number of the classifier's multiply-adds", has.classifier_multiply_adds,
                 now.classifier_multiply_adds},
                {"condition size", (uint64_t)has.condition_size, (uint64_t)now.condition_size},
                {"latent size", (uint64_t)has.latent_size, (uint64_t)now.latent_size},
                {"number of the purifier's parameters", has.purifier_parameters, now.purifier_parameters}};
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++) {
        if (size[i].has != size[i].now) {
            complain("cannot resume from %s: the %s is %llu in the training, and now should be %llu; it goes on with "
                     "what it began with alone",
                     run->checkpoint, size[i].name, (unsigned long long)size[i].has, (unsigned long long)size[i].now);
            return STATUS_FAILURE;
        }
    }
    return STATUS_OK;
}

/* Of a run that resumes the trainer is there. */
static exit_status begin_or_check(loop *run)
{
    const training_task *const task = run->task;
    const bool resumes = run->trainer != NULL;
    const int32_t steps = steps_per_epoch(task->settings, run->data);
    carso_model *model = NULL;
    carso_status made = CARSO_OK;
    if (steps == 0) {
        return STATUS_USAGE;
    }
    exit_status status = task->new_model(task->user, run->data, run->context, &model);
    if (status == STATUS_OK && resumes) {
        status = check_network(run, model);
    } else if (status == STATUS_OK) {
        made = task->new_trainer(task->user, steps, model, &run->trainer);
        status = made == CARSO_OK ? STATUS_OK : session_failure(run->context, made, "cannot start training");
    }
    if (status == STATUS_OK) {
        status = tell_of_data(task, run->context, run->data, run->trainer, run->checkpoint);
    }
    if (status == STATUS_OK && resumes) {
        made = task->check_trainer(task->user, steps, run->trainer);
        status = made == CARSO_OK
                     ? STATUS_OK
                     : session_failure(run->context, made, "cannot resume from %s", run->checkpoint);
    }
    carso_model_destroy(model);
    return status;
}

exit_status training_run(const training_task *task)
{
    const training_settings *settings = task->settings;
    loop run = {.task = task};
    exit_status status = checkpoint_path(settings, &run.checkpoint);
    if (status != STATUS_OK) {
        return status;
    }
    run.context = session_open(&settings->common);
    if (!run.context) {
        free(run.checkpoint);
        return STATUS_FAILURE;
    }
    carso_status opened = carso_dataset_open(run.context, task->dataset, CARSO_SPLIT_TRAIN, &run.data);
    if (opened == CARSO_OK) {
        opened = open_test(settings, run.context, task->dataset, &run.test);
    }
    status = opened == CARSO_OK ? resume(settings, run.context, run.checkpoint, &run.trainer)
                                : session_failure(run.context, opened, "cannot open %s", task->dataset);
    if (status == STATUS_OK) {
        status = begin_or_check(&run);
    }
    if (status == STATUS_OK) {
        status = train(&run);
    }
    carso_trainer_destroy(run.trainer);
    carso_dataset_destroy(run.test);
    carso_dataset_destroy(run.data);
    carso_context_destroy(run.context);
    free(run.checkpoint);
    return status;
}
