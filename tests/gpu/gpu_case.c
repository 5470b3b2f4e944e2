/*
 * gpu_case.c: arrays and inputs of gpu_case.h. The checks are in gpu_check_rows.c.
 */
#define _GNU_SOURCE
#include "gpu_case.h"

#include "half.h"

#include <pthread.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { guard_bytes = 4096 };

unsigned long long gpu_random(unsigned long long *state)
{
    unsigned long long z = *state += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* About normal: the sum of four uniform numbers, scaled to variance 1. */
static float random_normal(unsigned long long *state)
{
    const unsigned long long r = gpu_random(state);
    const double sum = (double)(r & 0xffff) + (double)(r >> 16 & 0xffff) + (double)(r >> 32 & 0xffff) + (double)(r >> 48);
    return (float)((sum / 65536.0 - 2.0) * 1.7320508);
}

static unsigned short to_bits(tamis_dtype dtype, float value) { return tamisi_half_from_float(value, dtype); }

float gpu_element(tamis_dtype dtype, unsigned short bits) { return tamisi_half_to_float(bits, dtype); }

void gpu_elements(double *out, tamis_dtype dtype, const unsigned short *bits, int count)
{
    tamisi_half_read_double(out, bits, (size_t)count, dtype);
}

static bool passed(tamis_status status, const char *what)
{
    if (status == TAMIS_OK) return true;
    printf("  %s: %s %s\n", what, tamis_last_error(), tamis_last_error_detail());
    return false;
}

static bool array_open(struct gpu_array *array, tamis_context *context, size_t bytes)
{
    array->bytes = bytes ? bytes : 1;
    array->host = malloc(array->bytes);
    void *device = NULL;
    if (!array->host || !passed(tamis_memory_alloc(&device, context, array->bytes + 2 * guard_bytes), "allocating"))
        return false;
    array->device = (char *)device + guard_bytes;
    return true;
}

static void array_close(struct gpu_array *array, tamis_context *context)
{
    free(array->host);
    if (array->device) tamis_memory_free(context, array->device - guard_bytes);
    *array = (struct gpu_array){NULL, NULL, 0};
}

static bool array_poison(struct gpu_array *array, tamis_context *context, int byte)
{
    char *poison = malloc(array->bytes + 2 * guard_bytes);
    if (!poison) return false;
    memset(poison, 0xa5, array->bytes + 2 * guard_bytes);
    memset(poison + guard_bytes, byte, array->bytes);
    const tamis_status status = tamis_memory_write(context, array->device - guard_bytes, poison,
                                                   array->bytes + 2 * guard_bytes, NULL);
    free(poison);
    return passed(status, "poisoning");
}

static bool array_fetch(struct gpu_array *array, tamis_context *context, const char *name)
{
    unsigned char guards[2 * guard_bytes];
    if (!passed(tamis_memory_read(context, array->host, array->device, array->bytes, NULL), "reading") ||
        !passed(tamis_memory_read(context, guards, array->device - guard_bytes, guard_bytes, NULL), "reading") ||
        !passed(tamis_memory_read(context, guards + guard_bytes, array->device + array->bytes, guard_bytes, NULL), "reading"))
        return false;
    for (int i = 0; i < 2 * guard_bytes; i++)
        if (guards[i] != 0xa5) {
            printf("  %s: written out of bounds\n", name);
            return false;
        }
    return true;
}

/* ---- inputs, filled by one thread a core */

struct fill {
    unsigned short *data;
    long long begin, end;
    tamis_dtype dtype;
    double scale;
    unsigned long long seed;
};

static void *fill_part(void *argument)
{
    const struct fill *fill = argument;
    for (long long i = fill->begin; i < fill->end; i++) {
        unsigned long long state = fill->seed + (unsigned long long)i * 0x632be59bd9b4e019ull;
        fill->data[i] = to_bits(fill->dtype, (float)fill->scale * random_normal(&state));
    }
    return NULL;
}

static void fill_array(struct gpu_array *array, tamis_dtype dtype, double scale, unsigned long long seed)
{
    enum { max_threads = 64 };
    pthread_t threads[max_threads];
    struct fill parts[max_threads];
    int count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (count > max_threads) count = max_threads;
    const long long elements = (long long)(array->bytes / 2);
    for (int i = 0; i < count; i++) {
        parts[i] = (struct fill){array->host, elements * i / count, elements * (i + 1) / count, dtype, scale, seed};
        if (pthread_create(&threads[i], NULL, fill_part, &parts[i]) != 0) abort();
    }
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

/* The first element of every query becomes the same number, and that of each key what then adds `climb` and spikes. */
static void add_climb(struct gpu_case *c)
{
    enum { query = 32, spike_log2 = 1000 };
    const tamis_problem *p = &c->problem;
    const double to_element = sqrt((double)p->head_dim) * 0.6931471805599453 / query;
    unsigned short *q = c->q.host, *k = c->k.host;
    const long long dim = p->head_dim, q_rows = (long long)c->q.bytes / 2 / dim, k_rows = (long long)c->k.bytes / 2 / dim;
    for (long long i = 0; i < q_rows; i++) q[i * dim] = to_bits(p->dtype, query);
    for (long long i = 0; i < k_rows; i++) {
        const long long at = i % p->seq_len;
        double log2 = c->climb * (1.0 - (double)at / (double)p->seq_len);
        if (c->spike_every > 0 && at % c->spike_every == 0) log2 += spike_log2;
        k[i * dim] = to_bits(p->dtype, (float)(log2 * to_element));
    }
}

bool gpu_case_fill(struct gpu_case *c)
{
    unsigned long long state = c->seed;
    fill_array(&c->q, c->problem.dtype, c->sharpness, gpu_random(&state));
    fill_array(&c->k, c->problem.dtype, 1.0, gpu_random(&state));
    fill_array(&c->v, c->problem.dtype, 1.0, gpu_random(&state));
    if (c->climb > 0 || c->spike_every > 0) add_climb(c);
    if (c->has_map) fill_array(&c->map, c->problem.dtype, 1.0 / sqrt((double)c->problem.head_dim), gpu_random(&state));
    struct gpu_array *inputs[] = {&c->q, &c->k, &c->v, &c->map};
    for (int i = 0; i < (c->has_map ? 4 : 3); i++)
        if (!passed(tamis_memory_write(c->context, inputs[i]->device, inputs[i]->host, inputs[i]->bytes, c->stream), "filling"))
            return false;
    return true;
}

/* ---- the case */

static tamis_tensor plain(const struct gpu_case *c, const struct gpu_array *array, int heads)
{
    const int64_t head = c->problem.seq_len * c->problem.head_dim;
    return (tamis_tensor){array->device, heads * head, head, c->problem.head_dim};
}

bool gpu_case_open(struct gpu_case *c, tamis_context *context, tamis_store *store)
{
    const tamis_problem *p = &c->problem;
    c->context = context;
    if (c->sharpness == 0.0) c->sharpness = 1.0;
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    if (c->options) options = *c->options;
    if (c->has_map) options.output_map = 1;
    if (!passed(tamis_plan_create_with(&c->plan, context, store, p, &options), "planning")) return false;
    const size_t rows = (size_t)p->batch * (size_t)p->q_heads * (size_t)p->seq_len;
    const size_t kv_rows = (size_t)p->batch * (size_t)p->kv_heads * (size_t)p->seq_len, row = 2 * (size_t)p->head_dim;
    const int64_t candidates = p->seq_len > p->selection.window ? p->seq_len - p->selection.window : 0;
    const size_t lists = (size_t)p->batch * (size_t)tamis_plan_index_heads(c->plan);
    const bool opened = array_open(&c->q, context, rows * row) && array_open(&c->k, context, kv_rows * row) &&
                        array_open(&c->v, context, kv_rows * row) && array_open(&c->output, context, rows * row) &&
                        array_open(&c->lse, context, rows * 4) &&
                        array_open(&c->score, context, (size_t)p->batch * (size_t)p->q_heads * (size_t)candidates * 4) &&
                        array_open(&c->kept, context, (size_t)p->batch * 4) &&
                        array_open(&c->indices, context, lists * (size_t)tamis_plan_capacity(c->plan) * 4) &&
                        array_open(&c->workspace, context, tamis_plan_workspace_bytes(c->plan)) &&
                        (!c->has_map || array_open(&c->map, context, (size_t)p->q_heads * (size_t)p->head_dim * row));
    if (!opened) return false;
    c->args = (tamis_run_args)TAMIS_RUN_ARGS_INIT;
    c->args.q = plain(c, &c->q, p->q_heads);
    c->args.k = plain(c, &c->k, p->kv_heads);
    c->args.v = plain(c, &c->v, p->kv_heads);
    c->args.output = plain(c, &c->output, p->q_heads);
    c->args.lse = (float *)(void *)c->lse.device;
    c->args.score = (float *)(void *)c->score.device;
    c->args.kept = (int32_t *)(void *)c->kept.device;
    c->args.indices = (int32_t *)(void *)c->indices.device;
    c->args.output_map = c->map.device;
    return gpu_case_fill(c);
}

void gpu_case_close(struct gpu_case *c)
{
    struct gpu_array *arrays[] = {&c->q,     &c->k,    &c->v,       &c->output,   &c->lse,
                                  &c->score, &c->kept, &c->indices, &c->workspace, &c->map};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) array_close(arrays[i], c->context);
    tamis_plan_free(c->plan);
    c->plan = NULL;
}

bool gpu_case_poison(struct gpu_case *c)
{
    /* 0xff bytes are a NaN in every float type; the workspace too, since its content must not matter. */
    return array_poison(&c->output, c->context, 0xff) && array_poison(&c->lse, c->context, 0xff) &&
           array_poison(&c->score, c->context, 0xff) && array_poison(&c->workspace, c->context, 0xff) &&
           array_poison(&c->kept, c->context, 0x7f) && array_poison(&c->indices, c->context, 0x7f);
}

bool gpu_case_poison_rows(struct gpu_case *c)
{
    return array_poison(&c->output, c->context, 0xff) && array_poison(&c->lse, c->context, 0xff);
}

bool gpu_case_run(struct gpu_case *c)
{
    const size_t bytes = tamis_plan_workspace_bytes(c->plan);
    return passed(tamis_run(c->plan, &c->args, c->workspace.device, bytes, c->stream), "running") &&
           passed(tamis_stream_synchronize(c->context, c->stream), "waiting");
}

bool gpu_case_fetch(struct gpu_case *c)
{
    return array_fetch(&c->output, c->context, "output") && array_fetch(&c->lse, c->context, "lse") &&
           array_fetch(&c->score, c->context, "score") && array_fetch(&c->kept, c->context, "kept") &&
           array_fetch(&c->indices, c->context, "indices") && array_fetch(&c->workspace, c->context, "workspace");
}
