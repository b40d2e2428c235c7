/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef GLYPHS_H
#define GLYPHS_H

#include <stdbool.h>
#include <stdint.h>

#define GLYPH_WIDTH 5
#define GLYPH_HEIGHT 7

/* Whether the point at (x, y) of a character is set; unknown characters are blank. */
bool glyph_point(char character, int x, int y);

#endif
