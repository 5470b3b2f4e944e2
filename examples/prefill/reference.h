/* reference.h: the same forward in double precision, from the same weights; see reference.c. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "prefill.h"

/*
 * Logits (vocabulary) of the last of `tokens` tokens, all layers dense; and the layers' drifts, normalised. With a seed that is
 * not 0 all that the prefill stores is rounded to the backend's dtype at random: up as likely as it is near. Many seeds say how
 * far roundings, and nothing else, take the logits of this model and prompt.
 */
void reference_forward(double *logits, double *drifts, struct backend *backend, const struct model *model,
                       const struct weights *weights, const int32_t *ids, int tokens, uint32_t seed);

#endif
