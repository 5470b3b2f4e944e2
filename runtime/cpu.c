/*
 * cpu.c: the CPU backend: its context, memory, streams (there are none), and the operator put together from the stages.
 * It is the reference that GPUs are compared with, and what runs where there is none.
 */
#include "cpu_pattern.h"

#include <stdlib.h>
#include <string.h>

static tamis_status cpu_open(tamis_context *context, const tamis_context_options *options)
{
    if (options->cpu_threads < 0 || options->cpu_threads > TAMISI_CPU_THREADS_MAX)
        return tamisi_fail(TAMIS_EINVAL, "options.cpu_threads is %d: it must be 0, which is one per core, to %d",
                           options->cpu_threads, TAMISI_CPU_THREADS_MAX);
    struct tamisi_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a context");
    cpu->arithmetic = options->precision == TAMIS_FP64 ? &tamisi_cpu_double : &tamisi_cpu_float;
    const tamis_status status = tamisi_cpu_threads_create(&cpu->threads, options->cpu_threads);
    if (status != TAMIS_OK) {
        free(cpu);
        return status;
    }
    context->state = cpu;
    return TAMIS_OK;
}

static void cpu_close(tamis_context *context)
{
    struct tamisi_cpu *cpu = context->state;
    if (!cpu) return;
    tamisi_cpu_threads_free(cpu->threads);
    free(cpu);
    context->state = NULL;
}

/* The stages are compiled in: a plan needs nothing loaded, and no store. */
static tamis_status cpu_plan_open(tamis_plan *plan, tamis_store *store)
{
    (void)store;
    plan->state = NULL;
    return TAMIS_OK;
}

static void cpu_plan_close(tamis_plan *plan) { plan->state = NULL; }

static void cpu_describe(const tamis_plan *plan, struct tamisi_buf *out)
{
    static const char *const stages[] = {"score", "select", "compress", "attend", "decompress"};
    const struct tamisi_cpu *cpu = tamisi_cpu_of(plan);
    const int threads = tamisi_cpu_threads_count(cpu->threads);
    tamisi_buf_printf(out, "device: CPU, %d thread%s\n", threads, threads == 1 ? "" : "s");
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        tamisi_buf_printf(out, "%s: plain C, %s\n", stages[i], cpu->arithmetic->name);
}

static size_t cpu_maker_bytes(const tamis_context *context, const tamis_problem *problem, const struct tamisi_facts *facts,
                              const tamis_pattern *pattern)
{
    (void)context;
    return tamisi_cpu_pattern_bytes(problem, facts, pattern);
}

/* ---- the steps as the API calls them; a stream means nothing here, all is done on return */

static tamis_status cpu_score(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, float *score,
                              float *rank, float *mean, char *workspace, tamis_stream stream)
{
    (void)stream;
    tamisi_cpu_score(plan, q, k, score, rank, mean, workspace);
    return TAMIS_OK;
}

static tamis_status cpu_select(const tamis_plan *plan, const float *rank, const float *mean, int32_t *kept,
                               int32_t *indices, char *workspace, tamis_stream stream)
{
    (void)workspace;
    (void)stream;
    tamisi_cpu_select(plan, rank, mean, kept, indices);
    return TAMIS_OK;
}

static tamis_status cpu_compress(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                 const tamis_tensor *v, const int32_t *kept, const int32_t *indices,
                                 const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                                 const tamis_tensor *compact_v, tamis_stream stream)
{
    const int q_heads = plan->problem.q_heads, kv_heads = plan->problem.kv_heads, heads = plan->facts.compact_heads;
    (void)stream;
    TAMIS_TRY(tamisi_cpu_check(plan, kept, indices));
    if (compact_q) tamisi_cpu_compress(plan, q, q_heads, compact_q, q_heads, kept, indices);
    tamisi_cpu_compress(plan, k, kv_heads, compact_k, heads, kept, indices);
    tamisi_cpu_compress(plan, v, kv_heads, compact_v, heads, kept, indices);
    return TAMIS_OK;
}

static tamis_status cpu_attend(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, const tamis_tensor *v,
                               const int32_t *kept, const void *output_map, const tamis_tensor *output, float *lse,
                               char *workspace, tamis_stream stream)
{
    (void)workspace;
    (void)stream;
    TAMIS_TRY(tamisi_cpu_check(plan, kept, NULL));
    const struct tamisi_cpu_attend_args args = {q,   k,   v, output, plan->facts.compact_heads, kept, NULL,
                                                lse, plan->facts.capacity, output_map};
    tamisi_cpu_attend(plan, &args);
    return TAMIS_OK;
}

/* Of lists that serve both for writing and for reading: these are read. */
static void *only_read(const void *array) { return (void *)(uintptr_t)array; }

/* What makes a plan's lists, into `lists`. `kept` and `indices` NULL: every sequence has L rows, row i is row i. */
static void make_lists(const tamis_plan *plan, const struct tamisi_cpu_pattern_source *source, const tamis_blocks *blocks,
                       const struct tamisi_cpu_lists *lists, char *workspace)
{
    if (plan->pattern.kind == TAMIS_PATTERN_HOST_BLOCKS)
        tamisi_cpu_list_blocks(plan, blocks, lists);
    else
        tamisi_cpu_make_lists(plan, source, lists, workspace + plan->workspace.maker);
}

/* Lists in the workspace, with what masks there are. */
static struct tamisi_cpu_lists workspace_lists(const tamis_plan *plan, const tamis_blocks *blocks, char *workspace)
{
    const struct tamisi_workspace *parts = &plan->workspace;
    const bool own_masks = tamisi_pattern_has_masks(&plan->pattern);
    return (struct tamisi_cpu_lists){
        .count = (int32_t *)(void *)(workspace + parts->block_count),
        .list = (int32_t *)(void *)(workspace + parts->block_list),
        .masks = own_masks ? (uint32_t *)(void *)(workspace + parts->block_masks) : blocks ? only_read(blocks->masks) : NULL,
        .mask_count = own_masks ? TAMISI_PATTERN_MASKS : blocks ? blocks->mask_count : 0,
        .row = tamisi_pattern_row(&plan->pattern, tamisi_pattern_tiles(&plan->facts))};
}

static tamis_status cpu_make_blocks(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, const int32_t *kept,
                                    const tamis_blocks *blocks, int32_t *count, int32_t *list, char *workspace,
                                    tamis_stream stream)
{
    (void)stream;
    TAMIS_TRY(tamisi_cpu_check(plan, kept, NULL));
    const struct tamisi_cpu_pattern_source source = {q, k, plan->facts.compact_heads, kept, NULL};
    struct tamisi_cpu_lists lists = workspace_lists(plan, blocks, workspace);
    lists.count = count;
    lists.list = list;
    lists.row = tamisi_pattern_tiles(&plan->facts);
    make_lists(plan, &source, blocks, &lists, workspace);
    return TAMIS_OK;
}

/* Lists that the host has, read only. */
static struct tamisi_cpu_lists given_lists(const tamis_plan *plan, const tamis_blocks *blocks, char *workspace)
{
    struct tamisi_cpu_lists lists = workspace_lists(plan, blocks, workspace);
    lists.count = only_read(blocks->count);
    lists.list = only_read(blocks->list);
    lists.row = tamisi_pattern_tiles(&plan->facts);
    if (!blocks->masks) return lists;
    lists.masks = only_read(blocks->masks);
    lists.mask_count = blocks->mask_count;
    return lists;
}

static tamis_status cpu_attend_blocks(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                      const tamis_tensor *v, const int32_t *kept, const tamis_blocks *blocks,
                                      const tamis_tensor *output, float *lse, char *workspace, tamis_stream stream)
{
    (void)stream;
    TAMIS_TRY(tamisi_cpu_check(plan, kept, NULL));
    const struct tamisi_cpu_attend_args args = {q,    k,    v,   output, plan->facts.compact_heads,
                                                kept, NULL, lse, plan->facts.capacity, NULL};
    const struct tamisi_cpu_lists lists = given_lists(plan, blocks, workspace);
    tamisi_cpu_attend_blocks(plan, &args, &lists);
    return TAMIS_OK;
}

static tamis_status cpu_decompress(const tamis_plan *plan, const tamis_tensor *compact_output, const float *compact_lse,
                                   const int32_t *kept, const int32_t *indices, const tamis_tensor *output, float *lse,
                                   tamis_stream stream)
{
    (void)stream;
    TAMIS_TRY(tamisi_cpu_check(plan, kept, indices));
    tamisi_cpu_decompress(plan, compact_output, compact_lse, kept, indices, output, lse);
    return TAMIS_OK;
}

/* ---- the operator in one call */

/* Step 6 on all blocks or, of a plan with a pattern, on those that it or the host lists. */
static tamis_status run_attend(const tamis_plan *plan, const struct tamisi_cpu_attend_args *attend,
                               const tamis_blocks *blocks, char *workspace)
{
    const struct tamisi_cpu_pattern_source source = {attend->q, attend->k, attend->kv_heads, attend->kept, attend->indices};
    if (plan->pattern.kind == TAMIS_PATTERN_NONE) {
        tamisi_cpu_attend(plan, attend);
        return TAMIS_OK;
    }
    const bool given = blocks && plan->pattern.host_blocks.form == TAMIS_BLOCKS_LISTS;
    const struct tamisi_cpu_lists lists =
        given ? given_lists(plan, blocks, workspace) : workspace_lists(plan, blocks, workspace);
    if (!given) make_lists(plan, &source, blocks, &lists, workspace);
    tamisi_cpu_attend_blocks(plan, attend, &lists);
    return TAMIS_OK;
}

/* Every token is kept, whatever the data: plain attention, and what else was asked for. */
static tamis_status run_dense(const tamis_plan *plan, const tamis_run_args *run, char *workspace)
{
    const long long seq_len = plan->problem.seq_len, batch = plan->problem.batch;
    const struct tamisi_cpu_attend_args attend = {
        &run->q, &run->k, &run->v, &run->output, plan->problem.kv_heads, NULL, NULL, run->lse, seq_len,
        run->output_map};
    if (run->score) tamisi_cpu_score(plan, &run->q, &run->k, run->score, NULL, NULL, workspace);
    TAMIS_TRY(run_attend(plan, &attend, run->blocks, workspace));
    for (long long b = 0; run->kept && b < batch; b++) run->kept[b] = (int32_t)seq_len;
    for (long long row = 0; run->indices && row < batch * plan->facts.index_heads; row++)
        for (long long j = 0; j < seq_len; j++) run->indices[row * plan->facts.capacity + j] = (int32_t)j;
    return TAMIS_OK;
}

/* Attention makes real numbers of rows tile by tile anyway, and does so through the indices: there are no compact copies. */
static tamis_status run_sparse(const tamis_plan *plan, const tamis_run_args *run, char *workspace)
{
    const struct tamisi_workspace *parts = &plan->workspace;
    float *score = run->score ? run->score : (float *)(void *)(workspace + parts->score);
    float *rank = (float *)(void *)(workspace + parts->rank), *mean = (float *)(void *)(workspace + parts->mean);
    int32_t *kept = run->kept ? run->kept : (int32_t *)(void *)(workspace + parts->kept);
    int32_t *indices = run->indices ? run->indices : (int32_t *)(void *)(workspace + parts->indices);
    const struct tamisi_cpu_attend_args attend = {
        &run->q, &run->k, &run->v, &run->output, plan->problem.kv_heads, kept, indices, run->lse, plan->problem.seq_len,
        run->output_map};
    tamisi_cpu_score(plan, &run->q, &run->k, score, rank, mean, workspace);
    tamisi_cpu_select(plan, rank, mean, kept, indices);
    TAMIS_TRY(run_attend(plan, &attend, run->blocks, workspace));
    tamisi_cpu_decompress(plan, NULL, NULL, kept, indices, &run->output, run->lse);
    return TAMIS_OK;
}

static tamis_status cpu_run(const tamis_plan *plan, const tamis_run_args *args, char *workspace, tamis_stream stream)
{
    (void)stream;
    return plan->facts.dense ? run_dense(plan, args, workspace) : run_sparse(plan, args, workspace);
}

/* ---- memory and streams */

#define MEMORY_ALIGN 256

static tamis_status memory_alloc(tamis_context *context, void **out, size_t bytes)
{
    (void)context;
    void *memory = NULL;
    if (bytes <= PTRDIFF_MAX - MEMORY_ALIGN) /* nothing is longer */
        memory = aligned_alloc(MEMORY_ALIGN, (bytes + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN);
    if (!memory) return tamisi_fail(TAMIS_ENOMEM, "out of memory: %zu bytes asked for", bytes);
    *out = memory;
    return TAMIS_OK;
}

static void memory_free(tamis_context *context, void *memory)
{
    (void)context;
    free(memory);
}

static tamis_status memory_copy(tamis_context *context, void *to, const void *from, size_t bytes, tamis_stream stream)
{
    (void)context;
    (void)stream;
    memmove(to, from, bytes); /* here a host may have both in one place */
    return TAMIS_OK;
}

static tamis_status stream_create(tamis_context *context, tamis_stream *out)
{
    (void)context;
    *out = NULL;
    return TAMIS_OK;
}

static void stream_free(tamis_context *context, tamis_stream stream)
{
    (void)context;
    (void)stream;
}

static tamis_status stream_synchronize(tamis_context *context, tamis_stream stream)
{
    (void)context;
    (void)stream;
    return TAMIS_OK;
}

const struct tamisi_backend tamisi_backend_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .plan_open = cpu_plan_open,
    .plan_close = cpu_plan_close,
    .describe = cpu_describe,
    .maker_bytes = cpu_maker_bytes,
    .score = cpu_score,
    .select = cpu_select,
    .compress = cpu_compress,
    .attend = cpu_attend,
    .make_blocks = cpu_make_blocks,
    .attend_blocks = cpu_attend_blocks,
    .decompress = cpu_decompress,
    .run = cpu_run,
    .memory_alloc = memory_alloc,
    .memory_free = memory_free,
    .memory_write = memory_copy,
    .memory_read = memory_copy,
    .stream_create = stream_create,
    .stream_free = stream_free,
    .stream_synchronize = stream_synchronize,
    .drift_open = tamisi_cpu_drift_open,
    .drift_close = tamisi_cpu_drift_close,
    .drift_reset = tamisi_cpu_drift_reset,
    .drift_add = tamisi_cpu_drift_add,
};
