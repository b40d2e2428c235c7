/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A ring of batches. Threads claim the images of the list in order, a few at a time, as far as the ring has room; the
 * caller takes whole batches, and claims images itself rather than wait for threads that are not there or behind.
 */
#include "data/reader.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Enough that the lock costs nothing, few enough that a batch is shared. */
#define CLAIM 4
#define MOST_THREADS 8

typedef struct ring_slot {
    uint8_t *pixels;
    int32_t *labels;
    int32_t *statuses;
    char **messages;
    uint64_t done; /* images read */
} ring_slot;

/* Who reads: each with a message of its own, so that what is wrong with one image is not told of another. */
typedef struct hand {
    carso_reader *reader;
    carso_dataset view;    /* the data set, in context */
    carso_context context; /* memory and messages alone */
    pthread_mutex_t lock;
    char message[CSO_MESSAGE_SIZE];
    pthread_t thread;
    bool running;
} hand;

struct carso_reader {
    const carso_dataset *dataset;
    carso_context *context;
    pid_t process;
    carso_read_options reading;
    bool keep_going;
    uint64_t *indices; /* [count]; NULL: from first on */
    uint64_t first, count, batch;
    uint64_t slots;
    ring_slot *slot;
    int threads;
    hand *hands; /* [threads + 1]: the last is the caller's */

    pthread_mutex_t lock; /* of what follows, and of the slots' done */
    pthread_cond_t room;  /* there is something to claim, or stop is set */
    pthread_cond_t progress;
    uint64_t claimed;  /* images */
    uint64_t returned; /* batches that the caller is done with */
    bool handed_out;
    bool stop;
};

static uint64_t batch_size(const carso_reader *reader, uint64_t number)
{
    const uint64_t left = reader->count - number * reader->batch;
    return left < reader->batch ? left : reader->batch;
}

/* Number of images claimed from *out_position on, all of one batch; 0: none now. Locked. */
static uint64_t claim(carso_reader *reader, uint64_t *out_position)
{
    const uint64_t position = reader->claimed, number = position / reader->batch;
    if (position == reader->count || number - reader->returned >= reader->slots) {
        return 0;
    }
    const uint64_t left = number * reader->batch + batch_size(reader, number) - position;
    const uint64_t count = left < CLAIM ? left : CLAIM;
    reader->claimed += count;
    *out_position = position;
    return count;
}

static void read_images(hand *own, uint64_t position, uint64_t count)
{
    const carso_reader *reader = own->reader;
    ring_slot *slot = &reader->slot[position / reader->batch % reader->slots];
    const size_t size = own->view.image_size;
    for (uint64_t i = position; i < position + count; i++) {
        const size_t place = (size_t)(i % reader->batch);
        const uint64_t index = reader->indices == NULL ? reader->first + i : reader->indices[i];
        uint8_t *pixels = slot->pixels + place * size;
        carso_status status =
            cso_dataset_read(&own->view, &index, 1, &reader->reading, pixels, &slot->labels[place]);
        if (status != CARSO_OK) {
            memset(pixels, 0, size);
            slot->messages[place] = cso_duplicate_string(&own->context, own->message);
            status = slot->messages[place] == NULL ? cso_fail_memory(&own->context, "a message") : status;
        }
        slot->statuses[place] = (int32_t)status;
    }
}

static void *work(void *argument)
{
    hand *own = argument;
    carso_reader *reader = own->reader;
    pthread_mutex_lock(&reader->lock);
    while (!reader->stop) {
        uint64_t position;
        const uint64_t count = claim(reader, &position);
        if (count == 0) {
            pthread_cond_wait(&reader->room, &reader->lock);
            continue;
        }
        pthread_mutex_unlock(&reader->lock);
        read_images(own, position, count);
        pthread_mutex_lock(&reader->lock);
        const uint64_t number = position / reader->batch;
        ring_slot *slot = &reader->slot[number % reader->slots];
        slot->done += count;
        if (slot->done == batch_size(reader, number)) {
            pthread_cond_signal(&reader->progress);
        }
    }
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

static void prepare_hand(carso_reader *reader, hand *own)
{
    own->reader = reader;
    pthread_mutex_init(&own->lock, NULL);
    own->context.allocator = reader->context->allocator;
    own->context.message_lock = &own->lock;
    own->context.message = own->message;
    own->view = *reader->dataset;
    own->view.context = &own->context;
}

static void start_threads(carso_reader *reader)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < reader->threads; i++) {
        hand *own = &reader->hands[i];
        own->running = pthread_create(&own->thread, NULL, work, own) == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int processors(void)
{
    const long online = sysconf(_SC_NPROCESSORS_ONLN) / 2;
    return online < 1 ? 1 : online > MOST_THREADS ? MOST_THREADS : (int)online;
}

static bool allocate_slots(carso_reader *reader)
{
    const carso_context *context = reader->context;
    const size_t batch = (size_t)reader->batch;
    reader->slot = cso_allocate(context, (size_t)reader->slots, sizeof *reader->slot);
    for (uint64_t i = 0; reader->slot != NULL && i < reader->slots; i++) {
        ring_slot *slot = &reader->slot[i];
        slot->pixels = cso_allocate_raw(context, batch, reader->dataset->image_size);
        slot->labels = cso_allocate_raw(context, batch, sizeof *slot->labels);
        slot->statuses = cso_allocate_raw(context, batch, sizeof *slot->statuses);
        slot->messages = cso_allocate(context, batch, sizeof *slot->messages);
        if (slot->pixels == NULL || slot->labels == NULL || slot->statuses == NULL || slot->messages == NULL) {
            return false;
        }
    }
    return reader->slot != NULL;
}

carso_status cso_reader_open(const carso_dataset *dataset, const uint64_t *indices, uint64_t count,
                             const carso_reader_options *options, carso_reader **out)
{
    carso_context *context = dataset->context;
    *out = NULL;
    carso_reader *reader = cso_allocate(context, 1, sizeof *reader);
    if (reader == NULL) {
        return cso_fail_memory(context, "a reader");
    }
    reader->context = context;
    cso_context_retain(context);
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->room, NULL);
    pthread_cond_init(&reader->progress, NULL);
    reader->dataset = dataset;
    reader->process = getpid();
    reader->reading = *options->reading;
    reader->keep_going = options->keep_going != 0;
    reader->first = options->first;
    reader->count = count;
    reader->batch = options->batch < count ? options->batch : count;
    const uint64_t batches = (count - 1) / reader->batch + 1;
    reader->slots = (uint64_t)options->ahead + 1 < batches ? (uint64_t)options->ahead + 1 : batches;
    const int threads = options->threads > 0 ? options->threads : processors();

    bool complete = allocate_slots(reader);
    reader->hands = cso_allocate(context, (size_t)threads + 1, sizeof *reader->hands);
    complete = complete && reader->hands != NULL;
    if (indices != NULL && complete) {
        reader->indices = cso_allocate_raw(context, (size_t)count, sizeof *indices);
        complete = reader->indices != NULL;
    }
    if (!complete) {
        cso_reader_destroy(reader);
        return cso_fail_memory(context, "batches read ahead");
    }
    if (indices != NULL) {
        memcpy(reader->indices, indices, (size_t)count * sizeof *indices);
    }
    for (int i = 0; i <= threads; i++) {
        prepare_hand(reader, &reader->hands[i]);
    }
    reader->threads = threads;
    start_threads(reader);
    *out = reader;
    return CARSO_OK;
}

static void clear_messages(carso_reader *reader, ring_slot *slot)
{
    for (uint64_t i = 0; slot->messages != NULL && i < reader->batch; i++) {
        cso_release(reader->context, slot->messages[i]);
        slot->messages[i] = NULL;
    }
}

/* The caller is done with the batch that it holds. */
static void take_back(carso_reader *reader)
{
    clear_messages(reader, &reader->slot[reader->returned % reader->slots]);
    pthread_mutex_lock(&reader->lock);
    reader->slot[reader->returned % reader->slots].done = 0;
    reader->returned++;
    reader->handed_out = false;
    pthread_cond_broadcast(&reader->room);
    pthread_mutex_unlock(&reader->lock);
}

/* Until the batch is read, with a hand in it where images of it are not yet claimed. */
static void complete_batch(carso_reader *reader, uint64_t number)
{
    const uint64_t size = batch_size(reader, number), end = number * reader->batch + size;
    ring_slot *slot = &reader->slot[number % reader->slots];
    pthread_mutex_lock(&reader->lock);
    while (slot->done < size) {
        uint64_t position;
        const uint64_t count = reader->claimed < end ? claim(reader, &position) : 0;
        if (count == 0) {
            pthread_cond_wait(&reader->progress, &reader->lock);
            continue;
        }
        pthread_mutex_unlock(&reader->lock);
        read_images(&reader->hands[reader->threads], position, count);
        pthread_mutex_lock(&reader->lock);
        slot->done += count;
    }
    pthread_mutex_unlock(&reader->lock);
}

/* Of the image itself, as opposed to what would befall any other as well. */
static bool is_of_image(int32_t status)
{
    return status == CARSO_ERROR_NOT_FOUND || status == CARSO_ERROR_IO || status == CARSO_ERROR_BAD_FORMAT ||
           status == CARSO_ERROR_UNSUPPORTED;
}

carso_status cso_reader_next(carso_reader *reader, carso_read_batch *out)
{
    if (reader->process != getpid()) {
        return cso_fail(reader->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_reader_next: the reader was opened before this process was forked, and its threads are "
                        "not here; open one in this process");
    }
    if (reader->handed_out) {
        take_back(reader);
    }
    const uint64_t number = reader->returned;
    *out = (carso_read_batch){.first = number * reader->batch};
    if (number * reader->batch >= reader->count) {
        out->first = reader->count;
        return CARSO_OK;
    }
    complete_batch(reader, number);
    const ring_slot *slot = &reader->slot[number % reader->slots];
    out->count = batch_size(reader, number);
    for (uint64_t i = 0; i < out->count; i++) {
        const int32_t status = slot->statuses[i];
        if (status != CARSO_OK && !(reader->keep_going && is_of_image(status))) {
            const char *message = slot->messages[i];
            return message == NULL ? cso_fail_memory(reader->context, "a message")
                                   : cso_fail(reader->context, (carso_status)status, "%s", message);
        }
    }
    out->pixels = slot->pixels;
    out->labels = slot->labels;
    out->statuses = slot->statuses;
    out->messages = (const char *const *)slot->messages;
    reader->handed_out = true;
    return CARSO_OK;
}

const carso_context *cso_reader_context(const carso_reader *reader) { return reader->context; }

static void end_threads(carso_reader *reader)
{
    pthread_mutex_lock(&reader->lock);
    reader->stop = true;
    pthread_cond_broadcast(&reader->room);
    pthread_mutex_unlock(&reader->lock);
    for (int i = 0; i < reader->threads; i++) {
        if (reader->hands[i].running) {
            pthread_join(reader->hands[i].thread, NULL);
        }
    }
    for (int i = 0; i <= reader->threads; i++) {
        pthread_mutex_destroy(&reader->hands[i].lock);
    }
    pthread_cond_destroy(&reader->room);
    pthread_cond_destroy(&reader->progress);
    pthread_mutex_destroy(&reader->lock);
}

void cso_reader_destroy(carso_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    carso_context *context = reader->context;
    /* In a forked process the locks are as the threads left them: memory is all that there is to give back. */
    if (reader->process == getpid() && reader->threads > 0) {
        end_threads(reader);
    }
    for (uint64_t i = 0; reader->slot != NULL && i < reader->slots; i++) {
        ring_slot *slot = &reader->slot[i];
        clear_messages(reader, slot);
        cso_release(context, slot->messages);
        cso_release(context, slot->statuses);
        cso_release(context, slot->labels);
        cso_release(context, slot->pixels);
    }
    cso_release(context, reader->slot);
    cso_release(context, reader->hands);
    cso_release(context, reader->indices);
    cso_release(context, reader);
    carso_context_destroy(context);
}
