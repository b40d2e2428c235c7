/* SPDX-License-Identifier: BSD-2-Clause */
/* Curves of accuracy, drawn as SVG. */
#include <math.h>
#include <string.h>

#include "report.h"

#define WIDTH 640
#define HEIGHT 300
#define LEFT 46
#define RIGHT 16
#define TOP 12
#define BOTTOM 40
#define MOST_POINTS 66
#define MOST_SERIES 8
#define COLOURS 4

typedef struct point {
    double at, accuracy, low, high;
} point;

typedef struct series {
    const char *name;
    point point[MOST_POINTS];
    int count;
} series;

typedef struct chart {
    series line[MOST_SERIES];
    int count;
    bool steps; /* over steps, spread evenly; else over epsilon */
} chart;

static void add_point(series *line, double at, const json_t *score)
{
    if (line->count == MOST_POINTS || !json_is_number(json_object_get(score, "accuracy"))) {
        return;
    }
    /* In order. */
    int place = line->count++;
    for (; place > 0 && line->point[place - 1].at > at; place--) {
        line->point[place] = line->point[place - 1];
    }
    line->point[place] = (point){at, report_real(score, "accuracy"), report_real(score, "low"), report_real(score, "high")};
}

/* Of each section with this role a line, from the clean accuracy on. */
static void gather(const json_t *result, const char *role, chart *out)
{
    const json_t *cells = json_object_get(result, "cells");
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const json_t *cell = json_array_get(cells, i);
        const char *name = report_string(cell, "section");
        double at = report_real(cell, out->steps ? "steps" : "epsilon");
        int found = 0;
        if (strcmp(report_string(cell, "role"), role) != 0 || (!out->steps && at <= 0)) {
            continue;
        }
        while (found < out->count && strcmp(out->line[found].name, name) != 0) {
            found++;
        }
        if (found == out->count) {
            if (out->count == MOST_SERIES) {
                continue;
            }
            out->line[out->count++] = (series){.name = name};
            add_point(&out->line[found], 0,
                      json_object_get(json_object_get(result, "clean"), report_string(cell, "objective")));
        }
        add_point(&out->line[found], at, json_object_get(cell, "score"));
    }
}

static double most(const chart *held)
{
    double largest = 0;
    for (int i = 0; i < held->count; i++) {
        for (int j = 0; j < held->line[i].count; j++) {
            largest = fmax(largest, held->line[i].point[j].at);
        }
    }
    return largest > 0 ? largest : 1;
}

/* Steps grow by factors: their logarithm is what is even. */
static double across(const chart *held, double at)
{
    double share = held->steps ? log1p(at) / log1p(most(held)) : at / most(held);
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double down(double accuracy) { return TOP + (1 - accuracy) * (HEIGHT - TOP - BOTTOM); }

static void draw_axes(report *page, const chart *held)
{
    for (int i = 0; i <= 5; i++) {
        double level = i / 5.0;
        fprintf(page->stream, "<line class=\"%s\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.1f</text>\n",
                i == 0 ? "axis" : "grid", LEFT, WIDTH - RIGHT, down(level), down(level), LEFT - 6, down(level) + 4, level);
    }
    double last = -100;
    for (int i = 0; i < held->count; i++) {
        for (int j = 0; j < held->line[i].count; j++) {
            double at = held->line[i].point[j].at, place = across(held, at);
            if (i > 0 || place - last < 44) {
                continue;
            }
            last = place;
            fprintf(page->stream, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n", place,
                    HEIGHT - BOTTOM + 18, at);
        }
    }
    fprintf(page->stream, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", (LEFT + WIDTH - RIGHT) / 2,
            HEIGHT - 4, held->steps ? "steps" : "epsilon");
}

static void draw_line(report *page, const chart *held, int number)
{
    static const char *const dashes[] = {"none", "7 4", "2 3", "10 3 2 3"};
    const series *line = &held->line[number];
    fprintf(page->stream, "<g class=\"s%d\" stroke=\"currentColor\" fill=\"none\" stroke-width=\"2\"><polyline stroke-dasharray=\"%s\" points=\"",
            number % COLOURS, dashes[number % COLOURS]);
    for (int j = 0; j < line->count; j++) {
        fprintf(page->stream, "%.1f,%.1f ", across(held, line->point[j].at), down(line->point[j].accuracy));
    }
    fputs("\"/>", page->stream);
    for (int j = 0; j < line->count; j++) {
        const point *here = &line->point[j];
        double x = across(held, here->at);
        fprintf(page->stream, "<line stroke-width=\"1\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                              "<circle fill=\"currentColor\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>",
                x, x, down(here->low), down(here->high), x, down(here->accuracy));
        report_text(page, line->name);
        fprintf(page->stream, ": %.4f at %.4g</title></circle>", here->accuracy, here->at);
    }
    fputs("</g>\n", page->stream);
}

static void draw(report *page, const chart *held, const char *title)
{
    if (held->count == 0) {
        return;
    }
    fprintf(page->stream, "<div class=\"together\"><h2>%s</h2>\n<div class=\"key\">", title);
    for (int i = 0; i < held->count; i++) {
        static const char *const marks[] = {"&mdash;&mdash;", "&ndash; &ndash;", "&middot;&middot;&middot;", "&mdash;&middot;"};
        fprintf(page->stream, "<span><b class=\"s%d\">%s</b> ", i % COLOURS, marks[i % COLOURS]);
        report_text(page, held->line[i].name);
        fputs("</span>", page->stream);
    }
    fprintf(page->stream, "</div>\n<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"%s\">\n", WIDTH, HEIGHT, WIDTH,
            HEIGHT, title);
    draw_axes(page, held);
    for (int i = 0; i < held->count; i++) {
        draw_line(page, held, i);
    }
    fputs("</svg>\n<p class=\"soft\">At 0 the clean images. Bars: 95 % intervals.</p></div>\n", page->stream);
}

void report_epsilon_chart(report *page)
{
    chart held = {0};
    gather(page->result, "plain", &held);
    draw(page, &held, "Accuracy against epsilon");
}

void report_steps_chart(report *page)
{
    chart held = {.steps = true};
    gather(page->result, "steps", &held);
    draw(page, &held, "Accuracy against steps");
}
