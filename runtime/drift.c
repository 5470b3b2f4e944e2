/*
 * drift.c: representation drift as arithmetic: from accumulated sums to normalised drifts, and which layers are at or below a
 * quantile of them (operator definition, "Which layers are sparse"). Pure; layer: as drift.h says.
 */
#include "drift.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double mean_of(const struct tamisi_drift_layer *layer)
{
    double sum = 0;
    for (int i = 0; i < TAMIS_DRIFT_BLOCKS; i++) sum += layer->sums[i];
    return sum / (double)layer->counted;
}

tamis_status tamisi_drift_means(double *out, const struct tamisi_drift_layer *state, int layers)
{
    double total = 0;
    for (int layer = 0; layer < layers; layer++) {
        if (state[layer].counted <= 0)
            return tamisi_fail(TAMIS_EINVAL, "state: layer %d has no rows: tamis_drift_reset comes first, then tamis_drift_add "
                                             "for every layer", layer);
        const double mean = mean_of(&state[layer]);
        if (!isfinite(mean))
            return tamisi_fail(TAMIS_EINVAL, "state: the drift of layer %d is not finite: its hidden states are not", layer);
        total += mean;
    }
    if (!(total > 0)) return tamisi_fail(TAMIS_EINVAL, "state: no layer drifts at all, so that there is no part of it to tell");
    for (int layer = 0; layer < layers; layer++) out[layer] = mean_of(&state[layer]) / total;
    return TAMIS_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

tamis_status tamisi_drift_threshold(double *out, const double *values, size_t count, double delta)
{
    double *ordered = malloc(count * sizeof *ordered);
    if (!ordered) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the drifts");
    memcpy(ordered, values, count * sizeof *ordered);
    qsort(ordered, count, sizeof *ordered, compare_doubles);
    *out = ordered[(size_t)(delta * (double)(count - 1))];
    free(ordered);
    return TAMIS_OK;
}
