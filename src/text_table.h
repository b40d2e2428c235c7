/* SPDX-License-Identifier: BSD-2-Clause */
/* Tables of text for the terminal: columns as wide as what they hold. */
#ifndef TEXT_TABLE_H
#define TEXT_TABLE_H

#include <stdbool.h>
#include <stdio.h>

typedef struct text_table text_table;

/* NULL where memory ran out; every other call accepts NULL and then does nothing. columns: as many as headings. */
text_table *text_table_create(int columns, const char *const *headings);
/* Appends a cell, filling rows from left to right. Cells that begin with a digit, a sign or a point are aligned right. */
void text_table_cell(text_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_table_print(const text_table *table, FILE *stream);
void text_table_destroy(text_table *table);

#endif
