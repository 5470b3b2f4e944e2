/* reference.h: the same forward in double precision, from the same weights and without rounding between; see reference.c. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "prefill.h"

/* Logits (vocabulary) of the last of `tokens` tokens, all layers dense; and the layers' drifts, normalised. */
void reference_forward(double *logits, double *drifts, struct backend *backend, const struct model *model,
                       const struct weights *weights, const int32_t *ids, int tokens);

#endif
