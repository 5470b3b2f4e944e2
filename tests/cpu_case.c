/*
 * cpu_case.c: making, running and closing the cases of cpu_case.h. The brute-force reference is in cpu_brute.c.
 */
#define _GNU_SOURCE
#include "cpu_case.h"

#include "half.h"
#include "npy.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_BYTES 256

unsigned long long cpu_random(unsigned long long *state)
{
    unsigned long long z = *state += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* ---- guarded memory: its size, aligned like the memory itself, then the bytes, then the guard */

void *guarded_alloc(size_t bytes)
{
    const size_t total = (GUARD_BYTES + bytes + GUARD_BYTES + 255) / 256 * 256;
    unsigned char *base = aligned_alloc(256, total);
    ck_assert_ptr_nonnull(base);
    memcpy(base, &bytes, sizeof bytes);
    memset(base + GUARD_BYTES, 0xff, bytes);
    memset(base + GUARD_BYTES + bytes, 0xa5, GUARD_BYTES);
    return base + GUARD_BYTES;
}

void guarded_check(const void *memory)
{
    const unsigned char *data = memory;
    size_t bytes;
    memcpy(&bytes, data - GUARD_BYTES, sizeof bytes);
    for (size_t i = 0; i < GUARD_BYTES; i++) /* not ck_assert, which is slow even where it holds */
        if (data[bytes + i] != 0xa5) ck_abort_msg("byte %zu past the end was written", i);
}

void guarded_free(void *memory)
{
    if (!memory) return;
    guarded_check(memory);
    free((unsigned char *)memory - GUARD_BYTES);
}

/* ---- inputs */

static uint16_t *random_rows(unsigned long long *state, size_t count, tamis_dtype dtype)
{
    uint16_t *rows = guarded_alloc(count * sizeof *rows);
    for (size_t i = 0; i < count; i++) {
        const unsigned long long r = cpu_random(state); /* about normal: the sum of four uniform numbers */
        const unsigned long long sum = (r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48);
        rows[i] = tamisi_half_from_float((float)(((double)sum / 65536.0 - 2.0) * 1.7320508), dtype);
    }
    return rows;
}

size_t cpu_case_elements(const struct cpu_case *c, int heads)
{
    return (size_t)c->problem.batch * (size_t)heads * (size_t)c->problem.seq_len * (size_t)c->problem.head_dim;
}

void cpu_case_open(struct cpu_case *c)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    unsigned long long state = c->seed;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = c->threads;
    options.precision = c->precision;
    ck_assert_msg(tamis_context_create(&c->context, &options) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_msg(tamis_plan_create(&c->plan, c->context, NULL, &c->problem) == TAMIS_OK, "%s", tamis_last_error());
    const long long before = c->problem.seq_len - c->problem.selection.window;
    c->candidates = before > 0 ? before : 0;
    c->capacity = tamis_plan_capacity(c->plan);
    c->index_heads = tamis_plan_index_heads(c->plan);
    c->compact_heads = tamis_plan_compact_heads(c->plan);
    if (c->q) return;
    c->q = random_rows(&state, cpu_case_elements(c, c->problem.q_heads), c->problem.dtype);
    c->k = random_rows(&state, cpu_case_elements(c, c->problem.kv_heads), c->problem.dtype);
    c->v = random_rows(&state, cpu_case_elements(c, c->problem.kv_heads), c->problem.dtype);
}

static void free_outputs(struct cpu_case *c)
{
    guarded_free(c->output);
    guarded_free(c->lse);
    guarded_free(c->score);
    guarded_free(c->kept);
    guarded_free(c->indices);
    free(c->wide);
}

void cpu_case_close(struct cpu_case *c)
{
    tamis_plan_free(c->plan);
    tamis_context_free(c->context);
    free_outputs(c);
    guarded_free(c->q);
    guarded_free(c->k);
    guarded_free(c->v);
    free(c->reference_score);
    free(c->reference_output);
    free(c->reference_kept);
    free(c->reference_indices);
}

/* ---- reference cases */

static void *load_array(const char *folder, const char *file, enum npy_type type, bool guarded)
{
    char path[PATH_MAX];
    struct npy npy;
    snprintf(path, sizeof path, "%s/%s.npy", folder, file);
    ck_assert_msg(npy_read(&npy, path) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq((int)npy.type, (int)type);
    void *data = guarded ? guarded_alloc(npy.bytes) : malloc(npy.bytes + 1);
    ck_assert_ptr_nonnull(data);
    memcpy(data, npy.data, npy.bytes);
    npy_free(&npy);
    return data;
}

static void load_problem(struct cpu_case *c, const char *folder)
{
    tamis_problem *problem = &c->problem;
    char path[PATH_MAX], line[256], key[32];
    double value;
    snprintf(path, sizeof path, "%s/case.yaml", folder);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "no %s", path);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%31[a-z_]: %lf", key, &value) != 2) continue;
        if (strcmp(key, "batch") == 0) problem->batch = (int32_t)value;
        if (strcmp(key, "q_heads") == 0) problem->q_heads = (int32_t)value;
        if (strcmp(key, "kv_heads") == 0) problem->kv_heads = (int32_t)value;
        if (strcmp(key, "seq_len") == 0) problem->seq_len = (int64_t)value;
        if (strcmp(key, "head_dim") == 0) problem->head_dim = (int32_t)value;
        if (strcmp(key, "window") == 0) problem->selection.window = (int32_t)value;
        if (strcmp(key, "pool") == 0) problem->selection.pool = (int32_t)value;
        if (strcmp(key, "min_tokens") == 0) problem->selection.min_tokens = (int64_t)value;
        if (strcmp(key, "coverage") == 0) problem->selection.coverage = value;
    }
    fclose(file);
    problem->selection.policy = TAMIS_COVERAGE;
}

void cpu_case_load(struct cpu_case *c, const char *name)
{
    const char *source = getenv("TAMIS_SOURCE_DIR");
    char folder[PATH_MAX - 64];
    snprintf(folder, sizeof folder, "%s/tests/reference/%s", source ? source : ".", name);
    load_problem(c, folder);
    c->q = load_array(folder, "q", NPY_U16, true);
    c->k = load_array(folder, "k", NPY_U16, true);
    c->v = load_array(folder, "v", NPY_U16, true);
    c->reference_score = load_array(folder, "score", NPY_F32, false);
    c->reference_kept = load_array(folder, "kept", NPY_I32, false);
    c->reference_indices = load_array(folder, "indices", NPY_I32, false);
    c->reference_output = load_array(folder, "output", NPY_F32, false);
    for (int b = 0; b < c->problem.batch; b++)
        if (c->reference_kept[b] > c->reference_capacity) c->reference_capacity = c->reference_kept[b];
}

/* ---- running */

/* A tensor over new guarded memory, in the case's layout; given rows are copied in, else it is poison. */
static tamis_tensor place(const struct cpu_case *c, const uint16_t *rows, int heads)
{
    const long long dim = c->problem.head_dim, seq_len = c->problem.seq_len, batch_stride = heads * seq_len * dim;
    tamis_tensor tensor = {guarded_alloc(cpu_case_elements(c, heads) * 2), batch_stride, seq_len * dim, dim};
    if (c->token_major) {
        tensor.head_stride = dim;
        tensor.token_stride = heads * dim;
    }
    for (long long row = 0; rows && row < c->problem.batch * heads * seq_len; row++)
        memcpy((uint16_t *)tensor.data + row / (heads * seq_len) * batch_stride +
                   row / seq_len % heads * tensor.head_stride + row % seq_len * tensor.token_stride,
               rows + row * dim, (size_t)dim * 2);
    return tensor;
}

/* The output back in (B, H, L, D), and as floats; frees the tensor. */
static void take_output(struct cpu_case *c, tamis_tensor *tensor)
{
    const long long dim = c->problem.head_dim, seq_len = c->problem.seq_len, heads = c->problem.q_heads;
    const size_t count = cpu_case_elements(c, c->problem.q_heads);
    c->output = guarded_alloc(count * 2);
    for (long long row = 0; row < c->problem.batch * heads * seq_len; row++)
        memcpy(c->output + row * dim,
               (uint16_t *)tensor->data + row / (heads * seq_len) * tensor->batch_stride +
                   row / seq_len % heads * tensor->head_stride + row % seq_len * tensor->token_stride,
               (size_t)dim * 2);
    guarded_free(tensor->data);
    c->wide = malloc(count * sizeof *c->wide);
    ck_assert_ptr_nonnull(c->wide);
    tamisi_half_read_float(c->wide, c->output, count, c->problem.dtype);
}

/* New poisoned outputs in place of the last run's. */
static void make_outputs(struct cpu_case *c)
{
    const size_t batch = (size_t)c->problem.batch, heads = (size_t)c->problem.q_heads;
    free_outputs(c);
    c->output = NULL;
    c->lse = guarded_alloc(batch * heads * (size_t)c->problem.seq_len * sizeof(float));
    c->score = guarded_alloc(batch * heads * (size_t)c->candidates * sizeof(float));
    c->kept = guarded_alloc(batch * sizeof(int32_t));
    c->indices = guarded_alloc(batch * (size_t)c->index_heads * (size_t)c->capacity * sizeof(int32_t));
}

void cpu_case_run(struct cpu_case *c)
{
    const size_t bytes = tamis_plan_workspace_bytes(c->plan);
    void *workspace = guarded_alloc(bytes);
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    make_outputs(c);
    args.q = place(c, c->q, c->problem.q_heads);
    args.k = place(c, c->k, c->problem.kv_heads);
    args.v = place(c, c->v, c->problem.kv_heads);
    args.output = place(c, NULL, c->problem.q_heads);
    args.lse = c->lse;
    args.score = c->score;
    args.kept = c->kept;
    args.indices = c->indices;
    ck_assert_msg(tamis_run(c->plan, &args, workspace, bytes, NULL) == TAMIS_OK, "%s", tamis_last_error());
    guarded_free(workspace);
    guarded_free(args.q.data);
    guarded_free(args.k.data);
    guarded_free(args.v.data);
    take_output(c, &args.output);
    guarded_check(c->lse);
    guarded_check(c->score);
    guarded_check(c->kept);
    guarded_check(c->indices);
}

static tamis_tensor compact_tensor(const struct cpu_case *c, int heads)
{
    const long long dim = c->problem.head_dim, rows = c->capacity;
    const size_t elements = (size_t)(c->problem.batch * heads * rows * dim);
    return (tamis_tensor){guarded_alloc(elements * 2), heads * rows * dim, rows * dim, dim};
}

/* Rows before kept[b] hold numbers, those behind still the poison. */
static void check_compact(const struct cpu_case *c, const tamis_tensor *tensor, int heads)
{
    const long long dim = c->problem.head_dim;
    for (long long row = 0; row < c->problem.batch * heads * c->capacity; row++) {
        const bool written = row % c->capacity < c->kept[row / c->capacity / heads];
        const uint16_t *data = (uint16_t *)tensor->data + row * dim;
        for (long long d = 0; d < dim; d++)
            if ((data[d] == 0xffff) == written) ck_abort_msg("row %lld: written: %d", row, !written);
    }
}

void cpu_case_steps(struct cpu_case *c)
{
    const tamis_plan *plan = c->plan;
    const size_t batch = (size_t)c->problem.batch, candidates = (size_t)c->candidates;
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    const int q_heads = c->problem.q_heads;
    void *work = guarded_alloc(bytes);
    make_outputs(c);
    tamis_tensor q = place(c, c->q, q_heads), k = place(c, c->k, c->problem.kv_heads);
    tamis_tensor v = place(c, c->v, c->problem.kv_heads), output = place(c, NULL, q_heads);
    tamis_tensor compact_q = compact_tensor(c, q_heads), compact_output = compact_tensor(c, q_heads);
    tamis_tensor compact_k = compact_tensor(c, c->compact_heads), compact_v = compact_tensor(c, c->compact_heads);
    float *rank = guarded_alloc(batch * (size_t)c->index_heads * candidates * sizeof(float));
    float *mean = guarded_alloc(batch * candidates * sizeof(float));
    float *compact_lse = guarded_alloc(batch * (size_t)q_heads * (size_t)c->capacity * sizeof(float));

    ck_assert_int_eq(tamis_score(plan, &q, &k, c->score, rank, mean, work, bytes, NULL), TAMIS_OK);
    ck_assert_int_eq(tamis_select(plan, rank, mean, c->kept, c->indices, work, bytes, NULL), TAMIS_OK);
    ck_assert_int_eq(tamis_compress(plan, &q, &k, &v, c->kept, c->indices, &compact_q, &compact_k, &compact_v, work, bytes,
                                    NULL), TAMIS_OK);
    check_compact(c, &compact_q, q_heads);
    check_compact(c, &compact_k, c->compact_heads);
    check_compact(c, &compact_v, c->compact_heads);
    ck_assert_int_eq(tamis_attend(plan, &compact_q, &compact_k, &compact_v, c->kept, &compact_output, compact_lse, work,
                                  bytes, NULL), TAMIS_OK);
    check_compact(c, &compact_output, q_heads);
    ck_assert_int_eq(tamis_decompress(plan, &compact_output, compact_lse, c->kept, c->indices, &output, c->lse, work, bytes,
                                      NULL), TAMIS_OK);

    void *const used[] = {work,           q.data,         k.data,         v.data, compact_q.data, compact_k.data,
                          compact_v.data, compact_output.data, rank, mean,   compact_lse};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++) guarded_free(used[i]);
    take_output(c, &output);
}

/* ---- comparing */

void cpu_case_check(const struct cpu_case *c, struct equal_report *report)
{
    const struct equal_case reference = {.problem = &c->problem,
                                         .q = c->q,
                                         .k = c->k,
                                         .v = c->v,
                                         .score = c->reference_score,
                                         .kept = c->reference_kept,
                                         .indices = c->reference_indices,
                                         .capacity = c->reference_capacity,
                                         .output = c->reference_output};
    const struct equal_result result = {c->kept, c->indices, c->capacity, c->wide};
    ck_assert_int_eq(equal_check(report, &reference, &result), TAMIS_OK);
    ck_assert_msg(report->equal, "%s", report->message);
}

void cpu_case_assert_same(const struct cpu_case *a, const struct cpu_case *b)
{
    const size_t batch = (size_t)a->problem.batch, heads = (size_t)a->problem.q_heads;
    ck_assert_mem_eq(a->kept, b->kept, batch * sizeof(int32_t));
    ck_assert_int_eq(a->capacity, b->capacity);
    for (size_t list = 0; list < batch * (size_t)a->index_heads; list++)
        ck_assert_mem_eq(a->indices + list * (size_t)a->capacity, b->indices + list * (size_t)a->capacity,
                         (size_t)a->kept[list / (size_t)a->index_heads] * sizeof(int32_t));
    if (a->candidates > 0) ck_assert_mem_eq(a->score, b->score, batch * heads * (size_t)a->candidates * sizeof(float));
    ck_assert_mem_eq(a->lse, b->lse, batch * heads * (size_t)a->problem.seq_len * sizeof(float));
    ck_assert_mem_eq(a->output, b->output, cpu_case_elements(a, a->problem.q_heads) * sizeof(uint16_t));
}
