/*
 * gpu_check_drift.c: representation drift on the device against plain sums in double precision: widths, strides and alignments
 * that the kernel reads in different ways, rows of NaN behind those that count, chunks, and the same bits a second time.
 */
#include "gpu_case.h"

#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2 };

struct sample {
    tamis_dtype dtype;
    long long rows, width, in_stride, out_stride; /* in elements */
    int shift;                                    /* elements that h_in begins behind an aligned address */
};

static const struct sample samples[] = {
    {TAMIS_BF16, 5000, 4096, 4096, 4096, 0}, /* as a model has it */
    {TAMIS_FP16, 3000, 2880, 2888, 2896, 8}, /* aligned, with room between rows */
    {TAMIS_BF16, 700, 1003, 1003, 1003, 0},  /* rows begin anywhere */
    {TAMIS_FP16, 700, 1003, 1008, 1008, 0},  /* aligned, with a part of 16 bytes at a row's end */
    {TAMIS_BF16, 2049, 64, 64, 80, 1},       /* one of two begins at an odd element */
    {TAMIS_BF16, 1, 8, 8, 8, 0},             {TAMIS_FP16, 33, 1, 1, 1, 0},
    {TAMIS_BF16, 40, 16384, 16384, 16384, 0}, /* the widest models */
};
int gpu_check_drift_count(void) { return (int)(sizeof samples / sizeof *samples); }

/* Hidden states of one buffer: random numbers, and what is not to be read: NaN. */
static unsigned short *make_rows(const struct sample *s, long long stride, int shift, unsigned long long seed, size_t *bytes)
{
    const size_t count = (size_t)(s->rows * stride) + 16;
    unsigned short *rows = malloc(2 * count);
    *bytes = 2 * count;
    if (!rows) return NULL;
    for (size_t i = 0; i < count; i++) rows[i] = 0x7fff;
    for (long long row = 0; row < s->rows; row++)
        for (long long i = 0; i < s->width; i++) {
            const unsigned long long random = gpu_random(&seed);
            const unsigned short sign = (unsigned short)(random >> 16 & 0x8000);
            /* 2^-2 to 2^2, either sign; a row in 50 is zero. */
            const int exponent = s->dtype == TAMIS_BF16 ? 125 : 13, bits = s->dtype == TAMIS_BF16 ? 7 : 10;
            const unsigned short size = (unsigned short)((exponent << bits) + (int)(random & ((4u << bits) - 1)));
            rows[shift + row * stride + i] = row % 50 == 49 ? 0 : sign | size;
        }
    return rows;
}

static double mean_drift(const struct sample *s, const unsigned short *in, const unsigned short *out)
{
    double sum = 0;
    for (long long row = 0; row < s->rows; row++) {
        double change = 0, before = 0;
        for (long long i = 0; i < s->width; i++) {
            const double x = (double)gpu_element(s->dtype, in[row * s->in_stride + i]);
            const double y = (double)gpu_element(s->dtype, out[row * s->out_stride + i]);
            change += (y - x) * (y - x);
            before += x * x;
        }
        sum += sqrt(change) / (sqrt(before) + 1e-8);
    }
    return sum / (double)s->rows;
}

struct buffers {
    tamis_context *context;
    tamis_drift *drift;
    unsigned short *in, *out; /* on the host */
    void *device_in, *device_out, *state;
    size_t in_bytes, out_bytes;
};

static bool open_buffers(struct buffers *b, const struct sample *s, tamis_context *context, tamis_store *store)
{
    *b = (struct buffers){.context = context};
    b->in = make_rows(s, s->in_stride, s->shift, 5, &b->in_bytes);
    b->out = make_rows(s, s->out_stride, 0, 6, &b->out_bytes);
    return b->in && b->out && tamis_drift_create(&b->drift, context, store, s->dtype, LAYERS, s->width) == TAMIS_OK &&
           tamis_memory_alloc(&b->device_in, context, b->in_bytes) == TAMIS_OK &&
           tamis_memory_alloc(&b->device_out, context, b->out_bytes) == TAMIS_OK &&
           tamis_memory_alloc(&b->state, context, tamis_drift_state_bytes(b->drift)) == TAMIS_OK &&
           tamis_memory_write(context, b->device_in, b->in, b->in_bytes, NULL) == TAMIS_OK &&
           tamis_memory_write(context, b->device_out, b->out, b->out_bytes, NULL) == TAMIS_OK;
}

static void close_buffers(struct buffers *b)
{
    tamis_memory_free(b->context, b->device_in);
    tamis_memory_free(b->context, b->device_out);
    tamis_memory_free(b->context, b->state);
    tamis_drift_free(b->drift);
    free(b->in);
    free(b->out);
}

/* Layer 0 from `in` to `out` in two chunks, layer 1 from `out` to `in`: so that normalised drifts tell the two apart. */
static bool accumulate(const struct buffers *b, const struct sample *s, tamis_stream stream)
{
    const unsigned short *in = (const unsigned short *)b->device_in + s->shift, *out = b->device_out;
    const long long first = s->rows / 3;
    return tamis_drift_reset(b->drift, b->state, stream) == TAMIS_OK &&
           tamis_drift_add(b->drift, b->state, 0, in, s->in_stride, out, s->out_stride, first, stream) == TAMIS_OK &&
           tamis_drift_add(b->drift, b->state, 0, in + first * s->in_stride, s->in_stride, out + first * s->out_stride,
                           s->out_stride, s->rows - first, stream) == TAMIS_OK &&
           tamis_drift_add(b->drift, b->state, 1, out, s->out_stride, in, s->in_stride, s->rows, stream) == TAMIS_OK;
}

static bool measure(const struct buffers *b, const struct sample *s, double drifts[LAYERS])
{
    return accumulate(b, s, NULL) && tamis_drift_read(drifts, b->drift, b->state, NULL) == TAMIS_OK;
}

static bool is_right(const struct sample *s, const struct buffers *b, const double drifts[LAYERS])
{
    struct sample back = *s;
    back.in_stride = s->out_stride;
    back.out_stride = s->in_stride;
    const double there = mean_drift(s, b->in + s->shift, b->out), again = mean_drift(&back, b->out, b->in + s->shift);
    const double wanted = there / (there + again), off = fabs(drifts[0] / wanted - 1);
    if (off > 1e-6) printf("  a drift of %.9g, %.9g would be right\n", drifts[0], wanted);
    return off <= 1e-6; /* squares are summed in fp32 */
}

bool gpu_check_drift(int number, tamis_context *context, tamis_store *store)
{
    const struct sample *s = &samples[number];
    struct buffers b;
    double drifts[LAYERS], again[LAYERS];
    bool ok = open_buffers(&b, s, context, store) && measure(&b, s, drifts) && measure(&b, s, again);
    if (!ok) printf("  %s\n", tamis_last_error());
    if (ok && memcmp(drifts, again, sizeof drifts) != 0) {
        printf("  a second run gives other bits\n");
        ok = false;
    }
    ok = ok && is_right(s, &b, drifts);
    close_buffers(&b);
    return ok;
}

void gpu_check_drift_name(char *out, size_t size, int number)
{
    const struct sample *s = &samples[number];
    snprintf(out, size, "drift: %s, %lld rows of %lld, strides %lld and %lld%s", s->dtype == TAMIS_BF16 ? "bf16" : "fp16",
             s->rows,
             s->width, s->in_stride, s->out_stride, s->shift ? ", shifted" : "");
}

/* ---- in a CUDA graph */

struct graphs { /* the driver's functions */
    int (*begin)(tamis_stream, int);
    int (*end)(tamis_stream, void **);
    int (*instantiate)(void **, void *, unsigned long long);
    int (*launch)(void *, tamis_stream);
};

static bool find_functions(struct graphs *out, void *cuda)
{
    const struct {
        const char *name;
        void *function;
    } wanted[] = {{"cuStreamBeginCapture_v2", &out->begin},
                  {"cuStreamEndCapture", &out->end},
                  {"cuGraphInstantiateWithFlags", &out->instantiate},
                  {"cuGraphLaunch", &out->launch}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *address = dlsym(cuda, wanted[i].name);
        if (!address) return false;
        memcpy(wanted[i].function, &address, sizeof address);
    }
    return true;
}

/* Captured, then replayed twice: a reset within the graph makes each replay begin anew. */
static bool replay(const struct graphs *graphs, const struct buffers *b, const struct sample *s, tamis_stream stream)
{
    const int thread_local_mode = 1;
    void *graph = NULL, *exec = NULL;
    bool ok = graphs->begin(stream, thread_local_mode) == 0 && accumulate(b, s, stream);
    ok = graphs->end(stream, &graph) == 0 && ok && graphs->instantiate(&exec, graph, 0) == 0;
    for (int i = 0; i < 2 && ok; i++) ok = graphs->launch(exec, stream) == 0;
    return ok;
}

bool gpu_check_drift_graph(tamis_context *context, tamis_store *store, void *cuda)
{
    const struct sample *s = &samples[0];
    struct graphs graphs;
    struct buffers b;
    tamis_stream stream = NULL;
    double eager[LAYERS], replayed[LAYERS];
    bool ok = find_functions(&graphs, cuda) && tamis_stream_create(&stream, context) == TAMIS_OK;
    ok = open_buffers(&b, s, context, store) && ok && measure(&b, s, eager) && replay(&graphs, &b, s, stream) &&
         tamis_drift_read(replayed, b.drift, b.state, stream) == TAMIS_OK && memcmp(eager, replayed, sizeof eager) == 0;
    close_buffers(&b);
    tamis_stream_free(context, stream);
    return ok;
}
