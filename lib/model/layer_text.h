/* SPDX-License-Identifier: BSD-2-Clause */
/* Layers as the paper's tables write them: "Conv2D(ch_in=3, ch_out=6, ks=3, s=2, p=1, b=False)". */
#ifndef CSO_MODEL_LAYER_TEXT_H
#define CSO_MODEL_LAYER_TEXT_H

#include "graph/graph.h"

#define CSO_LAYER_TEXT_SIZE 256

/*
 * Numbers that differ between the directions are "height x width"; padding that differs between the ends "begin:end".
 * Dilation, groups and BatchNorm's epsilon are there where they are not the usual ones.
 */
void cso_layer_text(const cso_graph *graph, const cso_node *node, char text[CSO_LAYER_TEXT_SIZE]);

#endif
