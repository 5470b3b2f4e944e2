/*
 * tune_trial.c: see tune_trial.h.
 */
#include "tune_trial.h"

#include "error.h"
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_BYTES 256
#define GUARD 0x5a
#define LONG_US 5000.0 /* of a run as long as that, what the L2 cache held before it saves less than rounds can tell */

void tune_trial_init(struct tune_trial *trial, struct bench *bench, tamis_store *store, size_t l2_bytes)
{
    *trial = (struct tune_trial){.bench = bench, .store = store, .l2_bytes = l2_bytes};
}

static void drop_plans(struct tune_trial *trial)
{
    for (int i = 0; i < trial->plan_count; i++) tamis_plan_free(trial->plans[i].plan);
    trial->plan_count = 0;
}

void tune_trial_free(struct tune_trial *trial)
{
    drop_plans(trial);
    bench_memory_forget(&trial->memory);
    tune_trial_forget_lists(trial);
    for (int id = 0; id < TUNE_ARRAYS; id++) tamis_memory_free(trial->bench->context, trial->arrays[id].data);
}

/* ---- arrays */

static void find_sizes(struct tune_trial *trial)
{
    const tamis_problem *p = &trial->problem;
    struct tamisi_facts facts;
    struct tamisi_workspace workspace = {.bytes = 0};
    tamisi_facts_make(&facts, p);
    tamisi_workspace_make(&workspace, p, &facts);
    const size_t batch = (size_t)p->batch, rows = batch * (size_t)p->seq_len, row_bytes = 2 * (size_t)p->head_dim;
    const size_t kept = batch * (size_t)facts.capacity, scores = batch * (size_t)facts.candidates * sizeof(float);
    const size_t compact = facts.dense ? 0 : kept * (size_t)facts.compact_heads * row_bytes;
    const size_t tiles = trial->lists.pattern.kind == TAMIS_PATTERN_NONE ? 0 : (size_t)tamisi_pattern_tiles(&facts);
    const size_t lists = batch * (size_t)p->q_heads * tiles;
    const size_t sizes[TUNE_ARRAYS] = {[TUNE_Q] = rows * (size_t)p->q_heads * row_bytes,
                                       [TUNE_K] = rows * (size_t)p->kv_heads * row_bytes,
                                       [TUNE_V] = rows * (size_t)p->kv_heads * row_bytes,
                                       [TUNE_OUTPUT] = rows * (size_t)p->q_heads * row_bytes,
                                       [TUNE_WORKSPACE] = workspace.bytes,
                                       [TUNE_KEPT] = batch * sizeof(int32_t),
                                       [TUNE_INDICES] = kept * (size_t)facts.index_heads * sizeof(int32_t),
                                       [TUNE_SCORE] = scores * (size_t)p->q_heads,
                                       [TUNE_RANK] = scores * (size_t)facts.index_heads,
                                       [TUNE_MEAN] = scores,
                                       [TUNE_COMPACT_K] = compact,
                                       [TUNE_COMPACT_V] = compact,
                                       [TUNE_BLOCK_COUNT] = lists * sizeof(int32_t),
                                       [TUNE_BLOCK_LIST] = lists * tiles * sizeof(int32_t),
                                       [TUNE_FLUSH] = 2 * trial->l2_bytes};
    for (int id = 0; id < TUNE_ARRAYS; id++) trial->arrays[id].bytes = sizes[id];
}

static tamis_status write_guard(struct tune_trial *trial, int id)
{
    unsigned char guard[GUARD_BYTES];
    memset(guard, GUARD, sizeof guard);
    return tamis_memory_write(trial->bench->context, (char *)trial->arrays[id].data + trial->arrays[id].bytes, guard,
                              sizeof guard, trial->bench->stream);
}

/* Random numbers are as good for a shorter problem as for the one that they were made for. */
static tamis_status provide(struct tune_trial *trial, int id, bool usable)
{
    const tamis_problem *p = &trial->problem;
    const int heads = p->batch * (id == TUNE_Q ? p->q_heads : p->kv_heads), shifts[] = {0, 40, 24};
    const bool grows = trial->arrays[id].bytes > trial->arrays[id].room || !trial->arrays[id].data;
    if (grows) {
        tamis_memory_free(trial->bench->context, trial->arrays[id].data);
        trial->arrays[id].data = NULL;
        trial->arrays[id].room = 0;
        TAMIS_TRY(tamis_memory_alloc(&trial->arrays[id].data, trial->bench->context, trial->arrays[id].bytes + GUARD_BYTES));
        trial->arrays[id].room = trial->arrays[id].bytes;
    }
    if (id > TUNE_V) return write_guard(trial, id);
    if (!grows && usable) return TAMIS_OK;
    return bench_fill(trial->bench, trial->arrays[id].data, p, heads, p->seq_len, shifts[id]);
}

static tamis_status provide_all(struct tune_trial *trial, bool usable)
{
    for (int id = 0; id < TUNE_ARRAYS; id++) TAMIS_TRY(provide(trial, id, usable));
    return tune_trial_prepare_lists(trial);
}

/* Members of problems come zeroed over the wire, gaps too. What makers get is of one length, and for them alone. */
tamis_status tune_trial_set(struct tune_trial *trial, const tamis_problem *problem, const struct tune_lists *lists)
{
    const bool usable = trial->problem.dtype == problem->dtype && trial->plain;
    if (memcmp(&trial->asked, problem, sizeof *problem) == 0 && memcmp(&trial->lists, lists, sizeof *lists) == 0)
        return TAMIS_OK;
    drop_plans(trial);
    bench_memory_forget(&trial->memory);
    tune_trial_forget_lists(trial);
    memset(&trial->asked, 0, sizeof trial->asked); /* until all is there */
    memcpy(&trial->problem, problem, sizeof *problem);
    memcpy(&trial->lists, lists, sizeof *lists);
    trial->plain = false;
    if (tune_trial_makes(trial)) trial->problem.selection.scope = TAMIS_SCOPE_KV_GROUP; /* whose compact K has K's heads */
    find_sizes(trial);
    TAMIS_TRY(provide_all(trial, usable));
    trial->plain = !tune_trial_makes(trial);
    memcpy(&trial->asked, problem, sizeof *problem);
    return TAMIS_OK;
}

/* The first array whose end was written over. */
static tamis_status find_overrun(struct tune_trial *trial, const char **name)
{
    static const struct {
        enum tune_array id;
        const char *name;
    } written[] = {{TUNE_OUTPUT, "output"}, {TUNE_WORKSPACE, "workspace"}, {TUNE_KEPT, "kept"}, {TUNE_INDICES, "indices"},
                   {TUNE_SCORE, "score"},   {TUNE_RANK, "rank"},           {TUNE_MEAN, "mean"}, {TUNE_COMPACT_K, "compact k"},
                   {TUNE_COMPACT_V, "compact v"}, {TUNE_BLOCK_COUNT, "block count"}, {TUNE_BLOCK_LIST, "block list"}};
    *name = NULL;
    for (size_t i = 0; i < sizeof written / sizeof *written && !*name; i++) {
        unsigned char found[GUARD_BYTES];
        const char *data = trial->arrays[written[i].id].data;
        TAMIS_TRY(tamis_memory_read(trial->bench->context, found, data + trial->arrays[written[i].id].bytes, sizeof found,
                                    trial->bench->stream));
        for (int b = 0; b < GUARD_BYTES; b++)
            if (found[b] != GUARD) *name = written[i].name;
    }
    return TAMIS_OK;
}

/* ---- work on the stream */

static tamis_status device_fill(struct tune_trial *trial, enum tune_array id, unsigned char value)
{
    const struct tamisi_gpu *gpu = trial->bench->context->state;
    const tamisi_cu_deviceptr data = (tamisi_cu_deviceptr)(uintptr_t)trial->arrays[id].data;
    if (trial->arrays[id].bytes == 0) return TAMIS_OK;
    TAMIS_TRY(tamisi_gpu_enter(trial->bench->context));
    const tamis_status status =
        tamisi_cuda_check(gpu->cuda,
                          gpu->cuda->memset_d8_async(data, value, trial->arrays[id].bytes, trial->bench->stream),
                          "cannot fill memory");
    tamisi_gpu_leave(trial->bench->context);
    return status;
}

static tamis_tensor tensor_of(const struct tune_trial *trial, enum tune_array id, int heads, long long rows)
{
    const long long dim = trial->problem.head_dim;
    return (tamis_tensor){trial->arrays[id].data, heads * rows * dim, rows * dim, dim};
}

static tamis_status run(struct tune_trial *trial, const tamis_plan *plan, bool lists)
{
    const tamis_problem *p = &trial->problem;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    tamis_blocks blocks = TAMIS_BLOCKS_INIT;
    blocks.count = trial->arrays[TUNE_BLOCK_COUNT].data;
    blocks.list = trial->arrays[TUNE_BLOCK_LIST].data;
    if (trial->lists.pattern.kind == TAMIS_PATTERN_HOST_BLOCKS) args.blocks = &blocks;
    args.q = tensor_of(trial, TUNE_Q, p->q_heads, p->seq_len);
    args.k = tensor_of(trial, TUNE_K, p->kv_heads, p->seq_len);
    args.v = tensor_of(trial, TUNE_V, p->kv_heads, p->seq_len);
    args.output = tensor_of(trial, TUNE_OUTPUT, p->q_heads, p->seq_len);
    if (lists) {
        args.kept = trial->arrays[TUNE_KEPT].data;
        args.indices = trial->arrays[TUNE_INDICES].data;
    }
    return tamis_run(plan, &args, trial->arrays[TUNE_WORKSPACE].data, trial->arrays[TUNE_WORKSPACE].bytes,
                     trial->bench->stream);
}

/* Are a family's launches timed within the one call? The defaults, without a family, are looked at so too. */
static bool runs_whole(const char *family)
{
    return !*family || strcmp(family, "attend") == 0 || strcmp(family, "attend_blocks") == 0;
}

/* The launches that a family has a part in. */
static tamis_status run_stage(struct tune_trial *trial, const tamis_plan *plan, const char *family)
{
    const tamis_problem *p = &trial->problem;
    void *workspace = trial->arrays[TUNE_WORKSPACE].data;
    const size_t bytes = trial->arrays[TUNE_WORKSPACE].bytes;
    const tamis_stream stream = trial->bench->stream;
    const tamis_tensor q = tensor_of(trial, TUNE_Q, p->q_heads, p->seq_len);
    const tamis_tensor k = tensor_of(trial, TUNE_K, p->kv_heads, p->seq_len);
    const tamis_tensor v = tensor_of(trial, TUNE_V, p->kv_heads, p->seq_len);
    float *score = trial->arrays[TUNE_SCORE].data, *rank = trial->arrays[TUNE_RANK].data;
    float *mean = trial->arrays[TUNE_MEAN].data;
    int32_t *kept = trial->arrays[TUNE_KEPT].data, *indices = trial->arrays[TUNE_INDICES].data;
    const bool selects = strcmp(family, "select") == 0; /* its first kernel is part of the score's step */
    if (tune_trial_makes(trial))
        return tamis_make_blocks(plan, &q, &k, kept, NULL, trial->arrays[TUNE_BLOCK_COUNT].data,
                                 trial->arrays[TUNE_BLOCK_LIST].data, workspace, bytes, stream);
    if (selects || strcmp(family, "score") == 0) {
        TAMIS_TRY(tamis_score(plan, &q, &k, score, rank, mean, workspace, bytes, stream));
        return selects ? tamis_select(plan, rank, mean, kept, indices, workspace, bytes, stream) : TAMIS_OK;
    }
    if (runs_whole(family)) return run(trial, plan, false);
    if (strcmp(family, "decompress") == 0) { /* zeros alone, as after attention in the one call */
        const tamis_tensor output = tensor_of(trial, TUNE_OUTPUT, p->q_heads, p->seq_len);
        return plan->context->backend->decompress(plan, NULL, NULL, kept, indices, &output, NULL, stream);
    }
    const long long rows = tamis_plan_capacity(plan);
    const int heads = tamis_plan_compact_heads(plan);
    const tamis_tensor compact_k = tensor_of(trial, TUNE_COMPACT_K, heads, rows);
    const tamis_tensor compact_v = tensor_of(trial, TUNE_COMPACT_V, heads, rows);
    return tamis_compress(plan, NULL, &k, &v, kept, indices, NULL, &compact_k, &compact_v, workspace, bytes, stream);
}

/* ---- plans */

static tamis_status open_plan(struct tune_trial *trial, const struct tamisi_force *force, int *at)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.tuning = TAMIS_TUNING_OFF;
    options.compiling = TAMIS_COMPILE_NEVER;
    if (trial->lists.pattern.kind != TAMIS_PATTERN_NONE) options.pattern = &trial->lists.pattern;
    if (trial->plan_count == TUNE_MOST_PLANS) drop_plans(trial);
    *at = trial->plan_count;
    TAMIS_TRY(tamisi_plan_create_forced(&trial->plans[*at].plan, trial->bench->context, trial->store, &trial->problem, &options,
                                        force));
    snprintf(trial->plans[*at].family, sizeof trial->plans[*at].family, "%s", force->family);
    snprintf(trial->plans[*at].variant, sizeof trial->plans[*at].variant, "%s", force->variant);
    trial->plans[*at].ran = false;
    const size_t workspace = tamis_plan_workspace_bytes(trial->plans[*at].plan);
    trial->plan_count++;
    if (workspace <= trial->arrays[TUNE_WORKSPACE].bytes) return TAMIS_OK;
    trial->arrays[TUNE_WORKSPACE].bytes = workspace; /* a variant that wants more than the problem alone */
    return provide(trial, TUNE_WORKSPACE, true);
}

static tamis_status find_plan(struct tune_trial *trial, const struct tamisi_force *force, int *at)
{
    for (*at = 0; *at < trial->plan_count; (*at)++)
        if (strcmp(trial->plans[*at].family, force->family) == 0 && strcmp(trial->plans[*at].variant, force->variant) == 0)
            return TAMIS_OK;
    return open_plan(trial, force, at);
}

/* ---- the check */

static tamis_status check_samples(struct tune_trial *trial, const tamis_plan *plan, char why[TUNE_WHY])
{
    struct bench *bench = trial->bench;
    const tamis_problem *p = &trial->problem;
    struct bench_figure figure = {.right = false};
    struct bench_arrays arrays = {.q = trial->arrays[TUNE_Q].data,
                                  .k = trial->arrays[TUNE_K].data,
                                  .v = trial->arrays[TUNE_V].data,
                                  .output = trial->arrays[TUNE_OUTPUT].data,
                                  .kv_heads = p->kv_heads,
                                  .rows = p->seq_len,
                                  .index_heads = tamis_plan_index_heads(plan),
                                  .capacity = tamis_plan_capacity(plan),
                                  .kept = tamis_plan_capacity(plan),
                                  .memory = &trial->memory,
                                  .mask = trial->mask.bits ? &trial->mask : NULL};
    int32_t kept = 0, *lists = NULL;
    TAMIS_TRY(tamis_memory_read(bench->context, &kept, trial->arrays[TUNE_KEPT].data, sizeof kept, bench->stream));
    if (kept != arrays.kept) {
        snprintf(why, TUNE_WHY, "it keeps %d tokens, not %lld", kept, arrays.kept);
        return TAMIS_OK;
    }
    if (!plan->facts.dense) {
        const size_t bytes = (size_t)arrays.index_heads * (size_t)arrays.capacity * sizeof *lists;
        lists = malloc(bytes);
        if (!lists) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the kept tokens' positions");
        arrays.lists = lists;
        const tamis_status status =
            tamis_memory_read(bench->context, lists, trial->arrays[TUNE_INDICES].data, bytes, bench->stream);
        if (status != TAMIS_OK) {
            free(lists);
            return status;
        }
    }
    const tamis_status status = bench_check(bench, &figure, p, &arrays);
    if (status == TAMIS_OK && !figure.right)
        snprintf(why, TUNE_WHY, "the error is %.3g, at most %g is right", figure.error, figure.error_limit);
    free(lists);
    return status;
}

/* What must be written becomes NaN and -1, on the device itself: gigabytes from the host would take longer than the run. */
static tamis_status poison(struct tune_trial *trial, enum tune_array id)
{
    struct bench *bench = trial->bench;
    if (bench->context->device == TAMIS_DEVICE_CPU)
        return bench_poison(bench, trial->arrays[id].data, trial->arrays[id].bytes);
    return device_fill(trial, id, 0xff);
}

/* All that a family has a part in, and what is looked at. */
static tamis_status run_once(struct tune_trial *trial, const tamis_plan *plan, const char *family)
{
    if (!tune_trial_makes(trial)) {
        TAMIS_TRY(run(trial, plan, true));
        if (runs_whole(family)) return TAMIS_OK;
    }
    return run_stage(trial, plan, family);
}

tamis_status tune_trial_check(struct tune_trial *trial, const struct tamisi_force *force, char why[TUNE_WHY])
{
    static const enum tune_array rows[] = {TUNE_OUTPUT, TUNE_KEPT, TUNE_INDICES}, lists[] = {TUNE_BLOCK_COUNT, TUNE_BLOCK_LIST};
    struct bench *bench = trial->bench;
    const bool makes = tune_trial_makes(trial);
    const char *overrun;
    int at;
    why[0] = '\0';
    TAMIS_TRY(find_plan(trial, force, &at));
    const tamis_plan *plan = trial->plans[at].plan;
    for (size_t i = 0; i < (makes ? 2 : 3); i++) TAMIS_TRY(poison(trial, makes ? lists[i] : rows[i]));
    TAMIS_TRY(run_once(trial, plan, force->family));
    TAMIS_TRY(tamis_stream_synchronize(bench->context, bench->stream));
    trial->plans[at].ran = true;
    TAMIS_TRY(find_overrun(trial, &overrun));
    if (overrun) snprintf(why, TUNE_WHY, "it writes behind the end of %s", overrun);
    if (overrun) return TAMIS_OK;
    return makes ? tune_trial_check_lists(trial, plan, why) : check_samples(trial, plan, why);
}

/* ---- a round */

/* One run after the other: the second finds in the cache what the first has left there. */
static tamis_status time_plan(struct tune_trial *trial, const tamis_plan *plan, const char *family, struct tune_round *out)
{
    struct bench *bench = trial->bench;
    struct stopwatch *watch = &bench->watch;
    double ms[STOPWATCH_MARKS];
    watch->count = 0; /* of a round that failed */
    TAMIS_TRY(device_fill(trial, TUNE_FLUSH, 1));
    TAMIS_TRY(stopwatch_mark(watch, bench->stream));
    TAMIS_TRY(run_stage(trial, plan, family));
    TAMIS_TRY(stopwatch_mark(watch, bench->stream));
    out->sm_mhz = nvml_sm_mhz(&bench->nvml);
    out->throttled = nvml_throttled(&bench->nvml);
    TAMIS_TRY(stopwatch_read(watch, ms));
    out->us = out->cold_us = out->warm_us = 1000 * ms[0];
    if (out->cold_us > LONG_US) return TAMIS_OK;

    TAMIS_TRY(run_stage(trial, plan, family));
    TAMIS_TRY(stopwatch_mark(watch, bench->stream));
    TAMIS_TRY(run_stage(trial, plan, family));
    TAMIS_TRY(stopwatch_mark(watch, bench->stream));
    TAMIS_TRY(stopwatch_read(watch, ms));
    out->warm_us = 1000 * ms[0];
    out->us = (out->cold_us + out->warm_us) / 2;
    return TAMIS_OK;
}

/* In a process that was started anew a candidate that was checked in the last one has not run yet. */
tamis_status tune_trial_time(struct tune_trial *trial, const struct tamisi_force *force, struct tune_round *out)
{
    int at;
    TAMIS_TRY(find_plan(trial, force, &at));
    if (!trial->plans[at].ran) {
        if (tune_trial_makes(trial)) TAMIS_TRY(run_stage(trial, trial->plans[at].plan, force->family));
        else TAMIS_TRY(run(trial, trial->plans[at].plan, true));
        TAMIS_TRY(tamis_stream_synchronize(trial->bench->context, trial->bench->stream));
        trial->plans[at].ran = true;
    }
    return time_plan(trial, trial->plans[at].plan, force->family, out);
}
