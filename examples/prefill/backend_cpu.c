/*
 * backend_cpu.c: the prefill's arithmetic in plain C, one thread: for small models, and what the GPU's is compared with.
 * Storage is rounded where the GPU rounds it; sums are in float, or double where that is as easy.
 */
#define _POSIX_C_SOURCE 200809L
#include "prefill.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- numbers */

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float half_to_float(uint16_t bits, tamis_dtype dtype)
{
    if (dtype == TAMIS_BF16) return float_of((uint32_t)bits << 16);
    const int exponent = bits >> 10 & 31;
    const float magnitude = exponent == 31 ? (bits & 1023 ? NAN : INFINITY)
                            : exponent     ? ldexpf((float)(1024 + (bits & 1023)), exponent - 25)
                                           : ldexpf((float)(bits & 1023), -24);
    return bits & 0x8000 ? -magnitude : magnitude;
}

/* To nearest, ties to even. */
uint16_t half_from_float(float value, tamis_dtype dtype)
{
    const uint32_t bits = bits_of(value);
    if (isnan(value)) return dtype == TAMIS_BF16 ? 0x7fc0 : 0x7e00;
    if (dtype == TAMIS_BF16) return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const float magnitude = fabsf(value);
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    if (magnitude < 0x1p-14f) return sign | (uint16_t)lrintf(magnitude * 0x1p24f);
    const uint32_t rounded = bits_of(magnitude) + 0xfff + (bits >> 13 & 1);
    return sign | (uint16_t)((rounded >> 13) - (112 << 10));
}

/* A counter's bits, well mixed (the finaliser of MurmurHash3), to a uniform number. kernels.cu has the same. */
float prefill_random(uint32_t seed, uint64_t index, float deviation)
{
    uint32_t x = (uint32_t)index * 0x9e3779b9u ^ (uint32_t)(index >> 32) * 0x85ebca6bu ^ seed * 0xc2b2ae35u;
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    x ^= x >> 16;
    return ((float)(int32_t)(x >> 8) - 8388607.5f) * (deviation * 2.0647625e-7f); /* sqrt(3) / 2^23 */
}

/* ---- the table */

static float *widen(const void *in, int64_t count, tamis_dtype dtype)
{
    const uint16_t *from = in;
    float *out = malloc((size_t)count * sizeof *out);
    if (!out) die("out of memory");
    for (int64_t i = 0; i < count; i++) out[i] = half_to_float(from[i], dtype);
    return out;
}

static void gemm(struct backend *backend, void *out, int64_t out_stride, const void *in, int64_t in_stride, const void *weight,
                 int64_t rows, int n, int k, int flags)
{
    float *wide = widen(weight, (int64_t)n * k, backend->dtype);
    for (int64_t row = 0; row < rows; row++) {
        float *x = widen((const uint16_t *)in + row * in_stride, k, backend->dtype);
        for (int j = 0; j < n; j++) {
            uint16_t *half = (uint16_t *)out + row * out_stride + j;
            double sum = 0;
            for (int i = 0; i < k; i++) sum += (double)x[i] * wide[(int64_t)j * k + i];
            if (flags & GEMM_FLOAT) {
                ((float *)out)[row * out_stride + j] = (float)sum;
                continue;
            }
            if (flags & GEMM_ADD) sum += half_to_float(*half, backend->dtype);
            *half = half_from_float((float)sum, backend->dtype);
        }
        free(x);
    }
    free(wide);
}

static void rms_norm(struct backend *backend, void *out, const void *in, const void *weight, int64_t rows, int width,
                     float epsilon)
{
    float *scales = widen(weight, width, backend->dtype);
    for (int64_t row = 0; row < rows; row++) {
        float *x = widen((const uint16_t *)in + row * width, width, backend->dtype);
        uint16_t *to = (uint16_t *)out + row * width;
        double squares = 0;
        for (int i = 0; i < width; i++) squares += (double)x[i] * x[i];
        const double factor = 1 / sqrt(squares / width + epsilon);
        for (int i = 0; i < width; i++) to[i] = half_from_float((float)(x[i] * factor * scales[i]), backend->dtype);
        free(x);
    }
    free(scales);
}

static void rope(struct backend *backend, void *rows_of_heads, int64_t stride, const float *angles, int64_t rows, int heads,
                 int head_dim)
{
    const int half = head_dim / 2;
    for (int64_t row = 0; row < rows; row++)
        for (int head = 0; head < heads; head++)
            for (int i = 0; i < half; i++) {
                uint16_t *low = (uint16_t *)rows_of_heads + row * stride + head * head_dim + i, *high = low + half;
                const float cosine = angles[(row * half + i) * 2], sine = angles[(row * half + i) * 2 + 1];
                const float a = half_to_float(*low, backend->dtype), b = half_to_float(*high, backend->dtype);
                *low = half_from_float(a * cosine - b * sine, backend->dtype);
                *high = half_from_float(b * cosine + a * sine, backend->dtype);
            }
}

static void swiglu(struct backend *backend, void *gate_up, int64_t rows, int inner)
{
    for (int64_t row = 0; row < rows; row++)
        for (int i = 0; i < inner; i++) {
            uint16_t *gate = (uint16_t *)gate_up + row * 2 * inner + i;
            const float x = half_to_float(*gate, backend->dtype), up = half_to_float(gate[inner], backend->dtype);
            *gate = half_from_float(x / (1 + expf(-x)) * up, backend->dtype);
        }
}

static void embed(struct backend *backend, void *out, const void *table, const int32_t *ids, int64_t rows, int width)
{
    (void)backend;
    for (int64_t row = 0; row < rows; row++)
        memcpy((uint16_t *)out + row * width, (const uint16_t *)table + (int64_t)ids[row] * width, 2 * (size_t)width);
}

static void copy(struct backend *backend, void *to, const void *from, size_t bytes)
{
    (void)backend;
    memcpy(to, from, bytes);
}

static void fill(struct backend *backend, void *out, int64_t count, uint32_t seed, float deviation)
{
    for (int64_t i = 0; i < count; i++)
        ((uint16_t *)out)[i] = half_from_float(prefill_random(seed, (uint64_t)i, deviation), backend->dtype);
}

static void mark(struct backend *backend, int slot)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ((double *)backend->state)[slot] = 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static double between(struct backend *backend, int from, int to)
{
    const double *marks = backend->state;
    return marks[to] - marks[from];
}

static size_t memory(struct backend *backend, size_t *total)
{
    (void)backend;
    return *total = 0;
}

static void close_cpu(struct backend *backend) { free(backend->state); }

static const struct backend_table cpu_table = {"CPU", gemm, rms_norm, rope,    swiglu, embed,
                                               copy,  fill, mark,     between, memory, close_cpu};

void backend_cpu_open(struct backend *out, int threads, tamis_dtype dtype)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = threads;
    *out = (struct backend){.table = &cpu_table, .dtype = dtype, .device = "CPU", .state = calloc(MOST_MARKS, sizeof(double))};
    if (!out->state) die("out of memory");
    need(tamis_context_create(&out->context, &options), "the CPU");
}

void backend_close(struct backend *backend)
{
    backend->table->close(backend);
    tamis_stream_free(backend->context, backend->stream);
    tamis_context_free(backend->context);
}
