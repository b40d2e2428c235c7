/* SPDX-License-Identifier: BSD-2-Clause */
#include "text_table.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct text_table {
    int columns;
    int cells; /* the headings are the first */
    int capacity;
    char **cell;
    bool failed; /* memory ran out: what is there is printed with a remark */
};

static void append(text_table *table, char *text)
{
    if (table->cells == table->capacity) {
        int capacity = table->capacity ? 2 * table->capacity : 64;
        char **grown = realloc(table->cell, (size_t)capacity * sizeof *grown);
        if (!grown) {
            table->failed = true;
            free(text);
            return;
        }
        table->cell = grown;
        table->capacity = capacity;
    }
    table->cell[table->cells++] = text;
}

text_table *text_table_create(int columns, const char *const *headings)
{
    text_table *table = calloc(1, sizeof *table);
    if (table) {
        table->columns = columns;
        for (int i = 0; i < columns; i++) {
            text_table_cell(table, "%s", headings[i]);
        }
    }
    return table;
}

void text_table_cell(text_table *table, const char *format, ...)
{
    char *text;
    va_list arguments;
    if (!table || table->failed) {
        return;
    }
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) {
        table->failed = true;
        return;
    }
    append(table, text);
}

/* In characters, not bytes. */
static int text_width(const char *text)
{
    int width = 0;
    for (; *text; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static bool is_number(const char *text)
{
    return isdigit((unsigned char)text[0]) || (text[0] && strchr("+-.", text[0]) && isdigit((unsigned char)text[1]));
}

void text_table_print(const text_table *table, FILE *stream)
{
    if (!table) {
        fputs("(a table was left out: out of memory)\n", stream);
        return;
    }
    for (int i = 0; i < table->cells; i++) {
        int column = i % table->columns, widest = 0;
        bool last = column == table->columns - 1 || i == table->cells - 1;
        bool right =
            column > 0 && column + table->columns < table->cells && is_number(table->cell[column + table->columns]);
        for (int j = column; j < table->cells; j += table->columns) {
            int width = text_width(table->cell[j]);
            widest = width > widest ? width : widest;
        }
        int padding = widest - text_width(table->cell[i]);
        fprintf(stream, "%s%*s%s%*s", column ? "  " : "", right ? padding : 0, "", table->cell[i],
                right || last ? 0 : padding, "");
        if (last) {
            fputc('\n', stream);
        }
    }
    if (table->failed) {
        fputs("(the table is cut: out of memory)\n", stream);
    }
}

void text_table_destroy(text_table *table)
{
    if (table) {
        for (int i = 0; i < table->cells; i++) {
            free(table->cell[i]);
        }
        free(table->cell);
        free(table);
    }
}
