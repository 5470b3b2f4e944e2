/*
 * cpu_drift.c: representation drift on the CPU: the kernel's sums, one index of the threads' loop each, in double precision.
 * Layer: beside the CPU's stages.
 */
#include "cpu_stage.h"
#include "drift.h"
#include "half.h"

#include <math.h>
#include <string.h>

tamis_status tamisi_cpu_drift_open(tamis_drift *drift, tamis_store *store)
{
    (void)store;
    drift->state = NULL;
    return TAMIS_OK;
}

void tamisi_cpu_drift_close(tamis_drift *drift) { drift->state = NULL; }

tamis_status tamisi_cpu_drift_reset(const tamis_drift *drift, void *state, tamis_stream stream)
{
    (void)stream;
    memset(state, 0, tamis_drift_state_bytes(drift));
    return TAMIS_OK;
}

static double drift_of(const uint16_t *in, const uint16_t *out, int64_t width, tamis_dtype dtype)
{
    double change = 0, before = 0;
    for (int64_t i = 0; i < width; i++) {
        const double x = tamisi_half_to_float(in[i], dtype), moved = tamisi_half_to_float(out[i], dtype) - x;
        change += moved * moved;
        before += x * x;
    }
    return sqrt(change) / (sqrt(before) + 1e-8);
}

struct work {
    const tamis_drift *drift;
    struct tamisi_drift_layer *layer;
    const struct tamisi_drift_rows *given;
};

static void add_to_sum(void *payload, long long index)
{
    const struct work *work = payload;
    const struct tamisi_drift_rows *given = work->given;
    const uint16_t *in = given->h_in, *out = given->h_out;
    double sum = 0;
    for (int64_t row = index; row < given->rows; row += TAMIS_DRIFT_BLOCKS)
        sum += drift_of(in + row * given->in_stride, out + row * given->out_stride, work->drift->width, work->drift->dtype);
    work->layer->sums[index] += sum;
}

tamis_status tamisi_cpu_drift_add(const tamis_drift *drift, struct tamisi_drift_layer *layer,
                                  const struct tamisi_drift_rows *given, tamis_stream stream)
{
    const struct tamisi_cpu *cpu = drift->context->state;
    struct work work = {drift, layer, given};
    (void)stream;
    tamisi_cpu_threads_run(cpu->threads, TAMIS_DRIFT_BLOCKS, add_to_sum, &work);
    layer->counted += given->rows;
    return TAMIS_OK;
}
