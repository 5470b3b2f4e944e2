/*
 * api_drift.c: the public functions on representation drift: checks of arguments, then drift.c's sums or the backend.
 */
#include "api.h"
#include "drift.h"

#include <math.h>
#include <stdlib.h>

#define LAYERS_MOST 1024
#define WIDTH_MOST (1 << 24)
#define STATE_ALIGN 8

static tamis_status check_size(int64_t value, int64_t most, const char *name)
{
    if (value >= 1 && value <= most) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "%s is %lld: it must be from 1 to %lld", name, (long long)value, (long long)most);
}

tamis_status tamis_drift_create(tamis_drift **out, tamis_context *context, tamis_store *store, tamis_dtype dtype,
                                int32_t layers, int64_t width)
{
    tamisi_error_clear();
    TAMIS_TRY(tamisi_check_pointer(out, "out"));
    *out = NULL;
    TAMIS_TRY(tamisi_check_pointer(context, "context"));
    if (!store && context->device != TAMIS_DEVICE_CPU)
        return tamisi_fail(TAMIS_EINVAL, "store: is NULL, which the CPU backend alone can do without");
    if (dtype != TAMIS_BF16 && dtype != TAMIS_FP16)
        return tamisi_fail(TAMIS_EINVAL, "dtype is %d: it must be TAMIS_BF16 or TAMIS_FP16", (int)dtype);
    TAMIS_TRY(check_size(layers, LAYERS_MOST, "layers"));
    TAMIS_TRY(check_size(width, WIDTH_MOST, "width"));

    tamis_drift *drift = calloc(1, sizeof *drift);
    if (!drift) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a drift");
    *drift = (tamis_drift){context, dtype, layers, width, NULL};
    const tamis_status status = context->backend->drift_open(drift, store);
    if (status != TAMIS_OK) {
        free(drift);
        return status;
    }
    *out = drift;
    return TAMIS_OK;
}

void tamis_drift_free(tamis_drift *drift)
{
    if (!drift) return;
    drift->context->backend->drift_close(drift);
    free(drift);
}

size_t tamis_drift_state_bytes(const tamis_drift *drift)
{
    return drift ? (size_t)drift->layers * sizeof(struct tamisi_drift_layer) : 0;
}

/* What every call on a state begins with. */
static tamis_status check_state(const tamis_drift *drift, const void *state, tamis_stream stream)
{
    TAMIS_TRY(tamisi_check_pointer(drift, "drift"));
    TAMIS_TRY(tamisi_check_pointer(state, "state"));
    if ((uintptr_t)state % STATE_ALIGN != 0)
        return tamisi_fail(TAMIS_EINVAL, "state: must be aligned to %d bytes", STATE_ALIGN);
    return tamisi_check_stream(drift->context, stream);
}

tamis_status tamis_drift_reset(const tamis_drift *drift, void *state, tamis_stream stream)
{
    tamisi_error_clear();
    TAMIS_TRY(check_state(drift, state, stream));
    return drift->context->backend->drift_reset(drift, state, stream);
}

static tamis_status check_rows(const tamis_drift *drift, const void *data, int64_t stride, int64_t rows, const char *name)
{
    int64_t elements;
    TAMIS_TRY(tamisi_check_pointer(data, name));
    if ((uintptr_t)data % sizeof(uint16_t) != 0) return tamisi_fail(TAMIS_EINVAL, "%s: must be aligned to its elements", name);
    if (stride < drift->width)
        return tamisi_fail(TAMIS_EINVAL, "%s_stride is %lld: it must be at least the width, %lld", name, (long long)stride,
                           (long long)drift->width);
    if (__builtin_mul_overflow(rows, stride, &elements) || elements > INT64_MAX / (int64_t)sizeof(uint16_t))
        return tamisi_fail(TAMIS_EINVAL, "%s: its rows pass the end of the address space", name);
    return TAMIS_OK;
}

tamis_status tamis_drift_add(const tamis_drift *drift, void *state, int32_t layer, const void *h_in, int64_t h_in_stride,
                             const void *h_out, int64_t h_out_stride, int64_t rows, tamis_stream stream)
{
    tamisi_error_clear();
    TAMIS_TRY(check_state(drift, state, stream));
    if (layer < 0 || layer >= drift->layers)
        return tamisi_fail(TAMIS_EINVAL, "layer is %d: it must be from 0 to %d", layer, drift->layers - 1);
    if (rows < 0) return tamisi_fail(TAMIS_EINVAL, "rows is %lld: it must not be negative", (long long)rows);
    if (rows == 0) return TAMIS_OK;
    TAMIS_TRY(check_rows(drift, h_in, h_in_stride, rows, "h_in"));
    TAMIS_TRY(check_rows(drift, h_out, h_out_stride, rows, "h_out"));
    const struct tamisi_drift_rows given = {h_in, h_out, h_in_stride, h_out_stride, rows};
    return drift->context->backend->drift_add(drift, (struct tamisi_drift_layer *)state + layer, &given, stream);
}

tamis_status tamis_drift_read(double *out, const tamis_drift *drift, const void *state, tamis_stream stream)
{
    tamisi_error_clear();
    TAMIS_TRY(tamisi_check_pointer(out, "out"));
    TAMIS_TRY(check_state(drift, state, stream));
    const size_t bytes = tamis_drift_state_bytes(drift);
    struct tamisi_drift_layer *host = malloc(bytes);
    if (!host) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a drift");
    tamis_status status = drift->context->backend->memory_read(drift->context, host, state, bytes, stream);
    if (status == TAMIS_OK) status = tamisi_drift_means(out, host, drift->layers);
    free(host);
    return status;
}

tamis_status tamis_drift_layers(int32_t *sparse, size_t capacity, size_t *needed, const double *drifts, size_t layers,
                                double delta)
{
    double threshold;
    size_t count = 0;
    tamisi_error_clear();
    if (capacity > 0) TAMIS_TRY(tamisi_check_pointer(sparse, "sparse"));
    TAMIS_TRY(tamisi_check_pointer(drifts, "drifts"));
    TAMIS_TRY(check_size(layers > LAYERS_MOST ? LAYERS_MOST + 1 : (int64_t)layers, LAYERS_MOST, "layers"));
    if (!(delta >= 0 && delta <= 1)) return tamisi_fail(TAMIS_EINVAL, "delta is %g: it must be from 0 to 1", delta);
    for (size_t i = 0; i < layers; i++)
        if (!isfinite(drifts[i]) || drifts[i] < 0)
            return tamisi_fail(TAMIS_EINVAL, "drifts: that of layer %zu is %g: it must be finite, and not negative", i,
                               drifts[i]);
    TAMIS_TRY(tamisi_drift_threshold(&threshold, drifts, layers, delta));
    for (size_t i = 0; i < layers; i++) {
        if (drifts[i] > threshold) continue;
        if (count < capacity) sparse[count] = (int32_t)i;
        count++;
    }
    if (needed) *needed = count;
    return TAMIS_OK;
}
