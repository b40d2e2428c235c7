/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Andriushchenko, Croce, Flammarion, Hein, "Square attack: a query-efficient black-box adversarial attack via random
 * search", 2020. On an objective with draws, losses are compared as they come, each from fresh draws.
 */
#include "attack/square.h"

#include <math.h>
#include <string.h>

#include "attack/ball.h"

#define INITIAL_SHARE 0.8 /* of the image's pixels, as AutoAttack has it */
#define TILES 5           /* along a side at the start, l2 */
/* Words of the random stream that one query may use, but for one sign per channel. */
#define QUERY_WORDS 5

typedef struct square {
    uint32_t *words;
    double *pattern; /* [height * width] */
} square;

static void square_close(cso_search_run *run)
{
    const carso_context *const context = run->objective->context;
    square *const own = run->own;
    if (!own) {
        return;
    }
    cso_release(context, own->words);
    cso_release(context, own->pattern);
    cso_release(context, own);
}

static carso_status square_open(cso_search_run *run)
{
    const carso_context *const context = run->objective->context;
    const cso_search *const search = run->search;
    square *const own = cso_allocate(context, 1, sizeof *own);
    run->own = own;
    if (!own) {
        return cso_fail_memory(context, "attack points");
    }
    /* Stripes want a sign per channel and column; tiles, each at least one pixel, one per channel and one more. */
    own->words = cso_allocate(context, run->size + (size_t)search->height * (size_t)search->width + QUERY_WORDS,
                              sizeof *own->words);
    own->pattern = cso_allocate(context, (size_t)search->height * (size_t)search->width, sizeof *own->pattern);
    if (!own->words || !own->pattern) {
        return cso_fail_memory(context, "attack points");
    }
    return CARSO_OK;
}

static double sign_of(uint32_t word)
{
    return word >> 31 ? 1.0 : -1.0;
}

static int below(uint32_t word, int count)
{
    return (int)((uint64_t)word * (uint64_t)count >> 32);
}

/* Share of the image's pixels that a window of this query has. */
static double window_share(int query, int queries)
{
    static const int ends[] = {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000};
    const int scaled = (int)((int64_t)query * 10000 / queries);
    double share = INITIAL_SHARE;
    for (size_t k = 0; k < sizeof ends / sizeof *ends && scaled > ends[k]; k++) {
        share /= 2.0;
    }
    return share;
}

static int shorter_side(const cso_search *search)
{
    return search->height < search->width ? search->height : search->width;
}

static void start_stripes(cso_search_run *run, int64_t i)
{
    const cso_search *const search = run->search;
    square *const own = run->own;
    const float *const original = run->original + (size_t)i * run->size;
    const cso_random stream = {search->seed, search->purpose, search->image_index[i], (uint32_t)run->number};
    cso_random_words(&stream, 0, (size_t)search->channels * (size_t)search->width, own->words);
    size_t j = 0;
    for (int c = 0; c < search->channels; c++) {
        for (int h = 0; h < search->height; h++) {
            for (int w = 0; w < search->width; w++, j++) {
                run->wanted[j] =
                    (double)original[j] + sign_of(own->words[c * search->width + w]) * search->epsilon[i];
            }
        }
    }
}

static void propose_linf(cso_search_run *run, int64_t i, double share, const uint32_t *words)
{
    const cso_search *const search = run->search;
    const size_t start = (size_t)i * run->size;
    const float *const original = run->original + start, *const best = run->best + start;
    const int height = search->height, width = search->width;
    int side = (int)lround(sqrt(share * height * width));
    side = side < 1 ? 1 : side < shorter_side(search) ? side : shorter_side(search);
    const int top = below(words[0], height - side + 1), left = below(words[1], width - side + 1);
    for (size_t j = 0; j < run->size; j++) {
        run->wanted[j] = (double)best[j];
    }
    for (int c = 0; c < search->channels; c++) {
        for (int h = top; h < top + side; h++) {
            for (int w = left; w < left + side; w++) {
                const size_t j = ((size_t)c * (size_t)height + (size_t)h) * (size_t)width + (size_t)w;
                run->wanted[j] = (double)original[j] + sign_of(words[QUERY_WORDS + c]) * search->epsilon[i];
            }
        }
    }
}

/* Rows first .. first + rows - 1 of a pattern of that many columns: sign times concentric rectangles, of length 1. */
static void add_rectangles(double *pattern, int first, int rows, int columns, double sign)
{
    const int middle_row = rows / 2 + 1, middle_column = columns / 2 + 1;
    double sum = 0.0;
    for (int h = 0; h < rows; h++) {
        for (int w = 0; w < columns; w++) {
            pattern[(first + h) * columns + w] = 0.0;
        }
    }
    for (int k = 0; k < (middle_row > middle_column ? middle_row : middle_column); k++) {
        for (int h = middle_row - 1 - k < 0 ? 0 : middle_row - 1 - k; h < rows && h < middle_row + k; h++) {
            for (int w = middle_column - 1 - k < 0 ? 0 : middle_column - 1 - k; w < columns && w < middle_column + k;
                 w++) {
                pattern[(first + h) * columns + w] += 1.0 / ((k + 1.0) * (k + 1.0));
            }
        }
    }
    for (int j = first * columns; j < (first + rows) * columns; j++) {
        sum += pattern[j] * pattern[j];
    }
    for (int j = first * columns; j < (first + rows) * columns; j++) {
        pattern[j] *= sign / sqrt(sum);
    }
}

/* eta of the paper: two halves of opposite signs, of length 1 together. */
static void make_pattern(double *pattern, int side)
{
    add_rectangles(pattern, 0, side / 2, side, 1.0);
    add_rectangles(pattern, side / 2, side - side / 2, side, -1.0);
    for (int j = 0; j < side * side; j++) {
        pattern[j] /= side > 1 ? sqrt(2.0) : 1.0;
    }
}

static double pattern_at(const double *pattern, int side, int h, int w, bool transposed)
{
    return pattern[transposed ? w * side + h : h * side + w];
}

/* wanted is a difference from the image; scales it to epsilon and adds the image. */
static void stretch(cso_search_run *run, int64_t i)
{
    const float *const original = run->original + (size_t)i * run->size;
    double sum = 0.0;
    for (size_t j = 0; j < run->size; j++) {
        sum += run->wanted[j] * run->wanted[j];
    }
    const double factor = sum > 0.0 ? run->search->epsilon[i] / sqrt(sum) : 0.0;
    for (size_t j = 0; j < run->size; j++) {
        run->wanted[j] = (double)original[j] + factor * run->wanted[j];
    }
}

static void start_tiles(cso_search_run *run, int64_t i)
{
    const cso_search *const search = run->search;
    square *const own = run->own;
    const int height = search->height, width = search->width, fifth = shorter_side(search) / TILES;
    const int side = fifth < 1 ? 1 : fifth, rows = height / side, columns = width / side;
    const cso_random stream = {search->seed, search->purpose, search->image_index[i], (uint32_t)run->number};
    cso_random_words(&stream, 0, (size_t)rows * (size_t)columns * ((size_t)search->channels + 1), own->words);
    make_pattern(own->pattern, side);
    memset(run->wanted, 0, run->size * sizeof *run->wanted);
    const uint32_t *word = own->words;
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++, word += search->channels + 1) {
            for (int c = 0; c < search->channels; c++) {
                for (int h = 0; h < side; h++) {
                    for (int w = 0; w < side; w++) {
                        run->wanted[((size_t)c * (size_t)height + (size_t)(height % side / 2 + row * side + h)) *
                                        (size_t)width +
                                    (size_t)(width % side / 2 + column * side + w)] =
                            sign_of(word[1 + c]) * pattern_at(own->pattern, side, h, w, word[0] >> 31);
                    }
                }
            }
        }
    }
    stretch(run, i);
}

typedef struct window {
    int top, left, side;
} window;

static bool inside(const window *one, int h, int w)
{
    return h >= one->top && h < one->top + one->side && w >= one->left && w < one->left + one->side;
}

/* One channel: what the second window held, and its share of what epsilon leaves over, moves into the first. */
static void move_mass(double *delta, int height, int width, const window *first, const window *second,
                      const double *pattern, bool transposed, double sign, double spare)
{
    double first_square = 0.0, both_square = spare, new_square = 0.0;
    for (int h = 0; h < height; h++) {
        for (int w = 0; w < width; w++) {
            const double square_here = delta[h * width + w] * delta[h * width + w];
            if (inside(first, h, w)) {
                first_square += square_here;
            }
            if (inside(first, h, w) || inside(second, h, w)) {
                both_square += square_here;
            }
        }
    }
    for (int h = 0; h < height; h++) {
        for (int w = 0; w < width; w++) {
            double *const here = delta + h * width + w;
            if (inside(first, h, w)) {
                *here = sign * pattern_at(pattern, first->side, h - first->top, w - first->left, transposed) +
                        *here / (1e-12 + sqrt(first_square));
                new_square += *here * *here;
            } else if (inside(second, h, w)) {
                *here = 0.0;
            }
        }
    }
    const double factor = sqrt(both_square) / (1e-12 + sqrt(new_square));
    for (int h = first->top; h < first->top + first->side; h++) {
        for (int w = first->left; w < first->left + first->side; w++) {
            delta[h * width + w] *= factor;
        }
    }
}

static void propose_l2(cso_search_run *run, int64_t i, double share, const uint32_t *words)
{
    const cso_search *const search = run->search;
    square *const own = run->own;
    const size_t start = (size_t)i * run->size;
    const float *const original = run->original + start, *const best = run->best + start;
    const int height = search->height, width = search->width;
    int side = (int)lround(sqrt(share * height * width));
    side = side < 3 ? 3 : side + 1 - side % 2;
    side = side < shorter_side(search) ? side : shorter_side(search);
    const window first = {below(words[0], height - side + 1), below(words[1], width - side + 1), side};
    const window second = {below(words[2], height - side + 1), below(words[3], width - side + 1), side};
    double sum = 0.0;
    for (size_t j = 0; j < run->size; j++) {
        run->wanted[j] = (double)best[j] - (double)original[j];
        sum += run->wanted[j] * run->wanted[j];
    }
    const double spare = fmax(search->epsilon[i] * search->epsilon[i] - sum, 0.0) / search->channels;
    make_pattern(own->pattern, side);
    for (int c = 0; c < search->channels; c++) {
        move_mass(run->wanted + (size_t)c * (size_t)height * (size_t)width, height, width, &first, &second,
                  own->pattern, words[4] >> 31, sign_of(words[QUERY_WORDS + c]), spare);
    }
    stretch(run, i);
}

static void propose(cso_search_run *run, int64_t i, int query)
{
    const cso_search *const search = run->search;
    square *const own = run->own;
    const bool l2 = search->norm == CARSO_NORM_L2;
    if (query == 0) {
        (l2 ? start_tiles : start_stripes)(run, i);
    } else {
        const size_t words = QUERY_WORDS + (size_t)search->channels;
        const cso_random stream = {search->seed, CSO_PURPOSE_ATTACK_SEARCH, search->image_index[i],
                                   (uint32_t)run->number};
        cso_random_words(&stream, (uint64_t)query * words, words, own->words);
        (l2 ? propose_l2 : propose_linf)(run, i, window_share(query, search->iterations), own->words);
    }
    cso_ball_project(search->norm, run->wanted, run->original + (size_t)i * run->size, search->epsilon[i], run->size,
                     run->current + (size_t)i * run->size);
}

static carso_status square_run(cso_search_run *run)
{
    carso_status status = CARSO_OK;
    for (int query = 0; query < run->search->iterations && status == CARSO_OK; query++) {
        for (int64_t i = 0; i < run->count; i++) {
            if (!run->done[i]) {
                propose(run, i, query);
            }
        }
        run->iteration = query;
        status = cso_search_evaluate(run, false, NULL);
        run->iteration = query + 1;
        if (status == CARSO_OK) {
            status = cso_search_progress(run);
        }
    }
    return status;
}

carso_status cso_square_run(const cso_objective *objective, const cso_search *search, const float *images,
                            const int32_t *labels, int64_t count, float *adversarial, const cso_attack_report *report)
{
    static const cso_search_method method = {square_open, square_close, square_run, false, false};
    return cso_search_perform(&method, objective, search, images, labels, count, adversarial, report);
}
