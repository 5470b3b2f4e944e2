/*
 * bench.c: one figure: arrays on the device, filled and poisoned, one run that is checked, then the rounds. As
 * examples/bench/peers.py times its kernels: two runs to warm up, then each run between two events, and the median.
 */
#define _GNU_SOURCE
#include "bench.h"

#include "error.h"
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WARM_UPS 2
#define PAUSE_NS 150000000 /* before the rounds: a GPU that is hot from the last problem runs at a lower clock */

tamis_status bench_begin(struct bench *out, tamis_context *context, int rounds, unsigned long long seed)
{
    *out = (struct bench){.context = context, .rounds = rounds, .random = seed};
    nvml_open(&out->nvml, context);
    TAMIS_TRY(tamis_stream_create(&out->stream, context));
    TAMIS_TRY(stopwatch_open(&out->watch, context));
    out->watch_open = true;
    return TAMIS_OK;
}

void bench_end(struct bench *bench)
{
    if (!bench->context) return;
    if (bench->watch_open) stopwatch_close(&bench->watch);
    tamis_stream_free(bench->context, bench->stream);
    nvml_close(&bench->nvml);
    free(bench->pool);
}

double bench_flops(const tamis_problem *problem, long long rows)
{
    const double pairs = (double)rows * (double)rows / (problem->mask == TAMIS_FULL ? 1 : 2);
    return 4 * pairs * problem->head_dim * problem->q_heads * problem->batch;
}

static int compare_doubles(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

double bench_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2];
}

/* Compact rows are compared as what they are: a dense problem of their length with K and V for each query head. */
struct bench_key bench_key_of(const struct bench_case *bench_case, const struct bench_figure *figure)
{
    const tamis_problem *p = &bench_case->problem;
    const bool compact = p->selection.policy != TAMIS_DENSE;
    return (struct bench_key){.head_dim = p->head_dim,
                              .q_heads = p->q_heads,
                              .kv_heads = compact ? p->q_heads : p->kv_heads,
                              .seq_len = figure->rows,
                              .dtype = p->dtype,
                              .causal = p->mask == TAMIS_CAUSAL};
}

void bench_name_variant(char out[TAMISI_SYMBOL_SIZE], const tamis_plan *plan)
{
    snprintf(out, TAMISI_SYMBOL_SIZE, "plain C");
    if (plan->context->device == TAMIS_DEVICE_CPU) return;
    const struct tamisi_gpu_plan *loaded = plan->state;
    const char *family = plan->pattern.kind == TAMIS_PATTERN_NONE ? "attend" : "attend_blocks";
    for (int i = 0; i < TAMISI_ALL_FAMILIES; i++)
        if (strcmp(loaded->variants[i].family, family) == 0) memcpy(out, loaded->variants[i].name, TAMISI_SYMBOL_SIZE);
}

/* ---- rounds */

struct rounds {
    struct bench *bench;
    tamis_status (*round)(void *payload);
    void *payload;
    int parts;
};

/* The clock is read while the round runs. */
static tamis_status one_round(const struct rounds *rounds, double *ms, int *sm_mhz)
{
    struct bench *bench = rounds->bench;
    bench->watch.count = 0; /* of a round that failed */
    TAMIS_TRY(rounds->round(rounds->payload));
    if (bench->watch.count != rounds->parts + 1)
        return tamisi_fail(TAMIS_EINVAL, "a round of %d parts has %d marks", rounds->parts, bench->watch.count);
    if (sm_mhz) *sm_mhz = nvml_sm_mhz(&bench->nvml);
    return stopwatch_read(&bench->watch, ms);
}

static tamis_status all_rounds(const struct rounds *rounds, double *ms, int *sm_mhz)
{
    struct bench *bench = rounds->bench;
    if (bench->watch.cuda) {
        const struct timespec pause = {0, PAUSE_NS};
        nanosleep(&pause, NULL); /* Ctrl-C cuts it short, which does no harm */
    }
    for (int i = 0; i < WARM_UPS; i++) TAMIS_TRY(one_round(rounds, ms, NULL));
    for (int i = 0; i < bench->rounds; i++) {
        double parts[BENCH_MAX_PARTS];
        TAMIS_TRY(one_round(rounds, parts, i + 1 == bench->rounds ? sm_mhz : NULL));
        for (int p = 0; p < rounds->parts; p++) ms[p * bench->rounds + i] = parts[p];
    }
    return TAMIS_OK;
}

tamis_status bench_time_rounds(struct bench *bench, struct bench_time *parts, int part_count, int *sm_mhz,
                               tamis_status (*round)(void *payload), void *payload)
{
    const struct rounds rounds = {bench, round, payload, part_count};
    double *ms = malloc(((size_t)part_count * (size_t)bench->rounds + BENCH_MAX_PARTS) * sizeof *ms);
    if (!ms) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the times of %d rounds", bench->rounds);
    const tamis_status status = all_rounds(&rounds, ms, sm_mhz);
    for (int p = 0; p < part_count && status == TAMIS_OK; p++) {
        double *part = ms + p * bench->rounds;
        parts[p].ms = bench_median(part, bench->rounds); /* it sorts them */
        parts[p].least_ms = part[0];
        parts[p].most_ms = part[bench->rounds - 1];
    }
    free(ms);
    return status;
}

/* ---- one trial */

enum array_id { Q, K, V, OUTPUT, WORKSPACE, KEPT, COUNT, LIST, ARRAYS };

struct trial {
    struct bench *bench;
    const tamis_problem *problem;
    tamis_plan *plan;
    bool compact;
    int kv_heads; /* of k and v */
    long long rows;
    void *arrays[ARRAYS];
    size_t workspace_bytes, output_bytes;
    double density;
    struct block_mask mask; /* of a pattern */
    tamis_blocks blocks;    /* its lists, on the device */
};

static tamis_tensor tensor_of(const struct trial *trial, enum array_id id, int heads)
{
    const long long dim = trial->problem->head_dim;
    return (tamis_tensor){trial->arrays[id], heads * trial->rows * dim, trial->rows * dim, dim};
}

static tamis_status allocate(struct trial *trial, enum array_id id, size_t bytes)
{
    return tamis_memory_alloc(&trial->arrays[id], trial->bench->context, bytes ? bytes : 1);
}

static tamis_status fill_arrays(struct trial *trial)
{
    static const int shifts[] = {[Q] = 0, [K] = 40, [V] = 24};
    const tamis_problem *p = trial->problem;
    const size_t row_bytes = (size_t)trial->rows * (size_t)p->head_dim * 2;
    const int32_t kept = (int32_t)trial->rows;
    trial->output_bytes = (size_t)p->q_heads * row_bytes;
    trial->workspace_bytes = tamis_plan_workspace_bytes(trial->plan);
    for (int id = Q; id <= V; id++) {
        const int heads = id == Q ? p->q_heads : trial->kv_heads;
        TAMIS_TRY(allocate(trial, (enum array_id)id, (size_t)heads * row_bytes));
        TAMIS_TRY(bench_fill(trial->bench, trial->arrays[id], p, heads, trial->rows, shifts[id]));
    }
    TAMIS_TRY(allocate(trial, OUTPUT, trial->output_bytes));
    TAMIS_TRY(allocate(trial, WORKSPACE, trial->workspace_bytes));
    TAMIS_TRY(allocate(trial, KEPT, sizeof kept));
    return tamis_memory_write(trial->bench->context, trial->arrays[KEPT], &kept, sizeof kept, trial->bench->stream);
}

/* Lists, as a pattern's maker leaves them: what it takes to get there from a mask is not timed. */
static tamis_status fill_lists(struct trial *trial, struct bench_figure *figure)
{
    struct bench *bench = trial->bench;
    const tamis_problem *p = trial->problem;
    int32_t *count, *list;
    if (trial->density == 0) return TAMIS_OK;
    TAMIS_TRY(block_mask_random(&trial->mask, p->q_heads, tamis_plan_block_count(trial->plan), trial->density,
                                bench_random(&bench->random)));
    figure->blocks = block_mask_count(&trial->mask);
    figure->flops = 4 * block_mask_pairs(&trial->mask, trial->rows) * p->head_dim;
    TAMIS_TRY(block_mask_lists(&trial->mask, &count, &list));
    const size_t rows = (size_t)(trial->mask.heads * trial->mask.tiles), row_bytes = (size_t)trial->mask.tiles * sizeof *list;
    tamis_status status = allocate(trial, COUNT, rows * sizeof *count);
    if (status == TAMIS_OK) status = allocate(trial, LIST, rows * row_bytes);
    if (status == TAMIS_OK)
        status = tamis_memory_write(bench->context, trial->arrays[COUNT], count, rows * sizeof *count, bench->stream);
    if (status == TAMIS_OK)
        status = tamis_memory_write(bench->context, trial->arrays[LIST], list, rows * row_bytes, bench->stream);
    trial->blocks = (tamis_blocks)TAMIS_BLOCKS_INIT;
    trial->blocks.count = trial->arrays[COUNT];
    trial->blocks.list = trial->arrays[LIST];
    free(count);
    free(list);
    return status;
}

/* The kernel, put on the stream; before that of a pattern the one that puts its tiles in order. */
static tamis_status launch(struct trial *trial)
{
    const int q_heads = trial->problem->q_heads;
    const tamis_stream stream = trial->bench->stream;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = tensor_of(trial, Q, q_heads);
    args.k = tensor_of(trial, K, trial->kv_heads);
    args.v = tensor_of(trial, V, trial->kv_heads);
    args.output = tensor_of(trial, OUTPUT, q_heads);
    if (trial->mask.bits) args.blocks = &trial->blocks;
    if (!trial->compact)
        return tamis_run(trial->plan, &args, trial->arrays[WORKSPACE], trial->workspace_bytes, stream);
    return tamis_attend(trial->plan, &args.q, &args.k, &args.v, trial->arrays[KEPT], &args.output, NULL,
                        trial->arrays[WORKSPACE], trial->workspace_bytes, stream);
}

static tamis_status check(struct trial *trial, struct bench_figure *figure)
{
    struct bench *bench = trial->bench;
    const struct bench_arrays arrays = {.q = trial->arrays[Q],
                                        .k = trial->arrays[K],
                                        .v = trial->arrays[V],
                                        .output = trial->arrays[OUTPUT],
                                        .kv_heads = trial->kv_heads,
                                        .rows = trial->rows,
                                        .mask = trial->mask.bits ? &trial->mask : NULL};
    TAMIS_TRY(bench_poison(bench, trial->arrays[OUTPUT], trial->output_bytes));
    TAMIS_TRY(launch(trial));
    TAMIS_TRY(tamis_stream_synchronize(bench->context, bench->stream));
    return bench_check(bench, figure, trial->problem, &arrays);
}

/* Each in turn, so that a clock that falls or rises meanwhile does so for all of them. */
struct turns {
    struct trial *trials;
    int count;
};

static tamis_status time_round(void *payload)
{
    struct turns *turns = payload;
    struct bench *bench = turns->trials[0].bench;
    TAMIS_TRY(stopwatch_mark(&bench->watch, bench->stream));
    for (int i = 0; i < turns->count; i++) {
        TAMIS_TRY(launch(&turns->trials[i]));
        TAMIS_TRY(stopwatch_mark(&bench->watch, bench->stream));
    }
    return TAMIS_OK;
}

static tamis_status time_trials(struct trial *trials, struct bench_figure *figures, int count)
{
    struct bench_time times[BENCH_TOGETHER];
    struct turns turns = {trials, count};
    int sm_mhz = 0;
    TAMIS_TRY(bench_time_rounds(trials[0].bench, times, count, &sm_mhz, time_round, &turns));
    for (int i = 0; i < count; i++) {
        figures[i].ms = times[i].ms;
        figures[i].least_ms = times[i].least_ms;
        figures[i].most_ms = times[i].most_ms;
        figures[i].sm_mhz = sm_mhz;
    }
    return TAMIS_OK;
}

static tamis_status prepare(struct trial *trial, struct bench_figure *out, const struct bench_case *bench_case)
{
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    pattern.kind = trial->density > 0 ? TAMIS_PATTERN_HOST_BLOCKS : TAMIS_PATTERN_NONE;
    options.pattern = &pattern;
    TAMIS_TRY(tamis_plan_create_with(&trial->plan, trial->bench->context, bench_case->store, &bench_case->problem, &options));
    trial->rows = tamis_plan_capacity(trial->plan);
    trial->kv_heads = trial->compact ? tamis_plan_compact_heads(trial->plan) : trial->problem->kv_heads;
    out->rows = trial->rows;
    out->flops = bench_flops(trial->problem, trial->rows);
    bench_name_variant(out->variant, trial->plan);
    TAMIS_TRY(fill_arrays(trial));
    TAMIS_TRY(fill_lists(trial, out));
    return check(trial, out);
}

static void clean_up(struct trial *trial)
{
    for (int i = 0; i < ARRAYS; i++) tamis_memory_free(trial->bench->context, trial->arrays[i]);
    tamis_plan_free(trial->plan);
    block_mask_free(&trial->mask);
}

tamis_status bench_measure(struct bench *bench, struct bench_figure *out, const struct bench_case *cases, int count)
{
    struct trial trials[BENCH_TOGETHER] = {{.bench = bench}};
    tamis_status status = TAMIS_OK;
    bool right = true;
    for (int i = 0; i < count; i++) {
        const tamis_problem *problem = &cases[i].problem;
        trials[i] = (struct trial){.bench = bench,
                                   .problem = problem,
                                   .compact = problem->selection.policy != TAMIS_DENSE,
                                   .density = cases[i].density};
        out[i] = (struct bench_figure){.right = false};
        if (status == TAMIS_OK) status = prepare(&trials[i], &out[i], &cases[i]);
        right = right && out[i].right;
    }
    if (status == TAMIS_OK && right) status = time_trials(trials, out, count);
    for (int i = 0; i < count; i++) clean_up(&trials[i]);
    return status;
}
