/*
 * drift.h: representation drift: the handle, what lies in its device memory, and the sums that need no device. Layer: above
 * plan.h's context; api_drift.c checks arguments, cpu_drift.c and gpu_drift.c accumulate.
 *
 * The state is TAMIS_DRIFT_BLOCKS doubles a layer and a 64-bit count of rows behind them, layer after layer. Which sum a row
 * goes to follows from its place in the call alone, and sums are added up in order: so results are the same bits each time.
 */
#ifndef TAMISI_DRIFT_H
#define TAMISI_DRIFT_H

#include "drift_args.h"
#include "plan.h"

struct tamis_drift {
    tamis_context *context;
    tamis_dtype dtype;
    int32_t layers;
    int64_t width;
    void *state; /* the backend's: its loaded kernel */
};

struct tamisi_drift_layer {
    double sums[TAMIS_DRIFT_BLOCKS];
    long long counted;
};

/* One call's hidden states, which have been checked. */
struct tamisi_drift_rows {
    const void *h_in, *h_out;
    int64_t in_stride, out_stride, rows;
};

/* A layer's mean drift of the rows so far: normalised over `layers`, to sum 1. TAMIS_EINVAL: the message says what is wrong. */
tamis_status tamisi_drift_means(double *out, const struct tamisi_drift_layer *state, int layers);

/*
 * The largest of the values at or below the `delta` quantile by linear interpolation, which is the value at the whole part of
 * delta * (count - 1) of those in order: the layers at or below the one are those at or below the other. Values have been
 * checked, count is at least 1. TAMIS_ENOMEM.
 */
tamis_status tamisi_drift_threshold(double *out, const double *values, size_t count, double delta);

#endif
