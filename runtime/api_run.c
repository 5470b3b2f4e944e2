/*
 * api_run.c: the public functions that run a plan: the operator in one call and in its steps; those of block patterns are in
 * api_blocks.c. Each checks all its arguments before the backend touches anything, so that a call that fails for them has
 * written nothing.
 */
#include "api.h"

#include <string.h>

/* What every call begins with. */
static tamis_status check_plan(const tamis_plan *plan, tamis_stream stream)
{
    TAMIS_TRY(tamisi_check_pointer(plan, "plan"));
    return tamisi_check_stream(plan->context, stream);
}

/* The caller's arguments as this library knows them: members that its struct ends before are 0. */
static tamis_status read_run_args(tamis_run_args *out, const tamis_run_args *given)
{
    TAMIS_TRY(tamisi_check_pointer(given, "args"));
    TAMIS_TRY(tamisi_options_check(given, TAMISI_RUN_ARGS_LEAST_BYTES, sizeof *given, "args", "TAMIS_RUN_ARGS_INIT"));
    memset(out, 0, sizeof *out);
    memcpy(out, given, tamisi_run_args_bytes(given));
    out->struct_size = sizeof *out;
    return TAMIS_OK;
}

static tamis_status check_run_blocks(struct tamisi_spans *spans, const tamis_plan *plan, const tamis_blocks *blocks)
{
    if (plan->pattern.kind == TAMIS_PATTERN_HOST_BLOCKS)
        return tamisi_check_blocks(spans, plan, blocks, plan->pattern.host_blocks.form, "args.blocks");
    if (!blocks) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "args.blocks: is not NULL, and the plan's pattern is not TAMIS_PATTERN_HOST_BLOCKS");
}

static tamis_status check_run(const tamis_plan *plan, const tamis_run_args *args, void *workspace, size_t workspace_bytes)
{
    const tamis_problem *problem = &plan->problem;
    const struct tamisi_facts *facts = &plan->facts;
    const int q_heads = problem->q_heads, kv_heads = problem->kv_heads;
    const int64_t seq_len = problem->seq_len;
    struct tamisi_spans spans = {.count = 0};

    TAMIS_TRY(tamisi_check_tensor(&spans, plan, &args->q, "args.q", q_heads, seq_len, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, &args->k, "args.k", kv_heads, seq_len, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, &args->v, "args.v", kv_heads, seq_len, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, &args->output, "args.output", q_heads, seq_len, true));
    TAMIS_TRY(tamisi_check_array(&spans, plan, args->lse, "args.lse", q_heads, seq_len, true, true));
    TAMIS_TRY(tamisi_check_array(&spans, plan, args->score, "args.score", q_heads, facts->candidates, true, true));
    TAMIS_TRY(tamisi_check_array(&spans, plan, args->kept, "args.kept", 1, 1, true, true));
    TAMIS_TRY(tamisi_check_array(&spans, plan, args->indices, "args.indices", facts->index_heads, facts->capacity, true,
                                 true));
    TAMIS_TRY(check_run_blocks(&spans, plan, args->blocks));
    TAMIS_TRY(tamisi_check_map(&spans, plan, args->output_map, "args.output_map"));
    return tamisi_check_memory(&spans, plan, workspace, workspace_bytes);
}

tamis_status tamis_run(const tamis_plan *plan, const tamis_run_args *given, void *workspace, size_t workspace_bytes,
                       tamis_stream stream)
{
    tamis_run_args args;
    tamisi_error_clear();
    TAMIS_TRY(check_plan(plan, stream));
    TAMIS_TRY(read_run_args(&args, given));
    TAMIS_TRY(check_run(plan, &args, workspace, workspace_bytes));
    return plan->context->backend->run(plan, &args, workspace, stream);
}

tamis_status tamis_score(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, float *score, float *rank,
                         float *mean, void *workspace, size_t workspace_bytes, tamis_stream stream)
{
    struct tamisi_spans spans = {.count = 0};
    tamisi_error_clear();
    TAMIS_TRY(check_plan(plan, stream));
    const struct tamisi_facts *facts = &plan->facts;
    const int q_heads = plan->problem.q_heads, kv_heads = plan->problem.kv_heads;
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, q, "q", q_heads, plan->problem.seq_len, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, k, "k", kv_heads, plan->problem.seq_len, false));
    TAMIS_TRY(tamisi_check_array(&spans, plan, score, "score", q_heads, facts->candidates, true, false));
    TAMIS_TRY(tamisi_check_array(&spans, plan, rank, "rank", facts->index_heads, facts->candidates, true, false));
    TAMIS_TRY(tamisi_check_array(&spans, plan, mean, "mean", 1, facts->candidates, true, false));
    TAMIS_TRY(tamisi_check_memory(&spans, plan, workspace, workspace_bytes));
    return plan->context->backend->score(plan, q, k, score, rank, mean, workspace, stream);
}

tamis_status tamis_select(const tamis_plan *plan, const float *rank, const float *mean, int32_t *kept, int32_t *indices,
                          void *workspace, size_t workspace_bytes, tamis_stream stream)
{
    struct tamisi_spans spans = {.count = 0};
    tamisi_error_clear();
    TAMIS_TRY(check_plan(plan, stream));
    const struct tamisi_facts *facts = &plan->facts;
    const bool by_coverage = facts->fixed_keep < 0;
    TAMIS_TRY(tamisi_check_array(&spans, plan, rank, "rank", facts->index_heads, facts->candidates, false, facts->dense));
    TAMIS_TRY(tamisi_check_array(&spans, plan, mean, "mean", 1, facts->candidates, false, !by_coverage));
    TAMIS_TRY(tamisi_check_array(&spans, plan, kept, "kept", 1, 1, true, false));
    TAMIS_TRY(tamisi_check_array(&spans, plan, indices, "indices", facts->index_heads, facts->capacity, true, false));
    TAMIS_TRY(tamisi_check_memory(&spans, plan, workspace, workspace_bytes));
    return plan->context->backend->select(plan, rank, mean, kept, indices, workspace, stream);
}

/* The lists that select wrote, read. */
static tamis_status check_lists(struct tamisi_spans *spans, const tamis_plan *plan, const int32_t *kept,
                                const int32_t *indices)
{
    const struct tamisi_facts *facts = &plan->facts;
    TAMIS_TRY(tamisi_check_array(spans, plan, kept, "kept", 1, 1, false, false));
    return tamisi_check_array(spans, plan, indices, "indices", facts->index_heads, facts->capacity, false, false);
}

tamis_status tamis_compress(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, const tamis_tensor *v,
                            const int32_t *kept, const int32_t *indices, const tamis_tensor *compact_q,
                            const tamis_tensor *compact_k, const tamis_tensor *compact_v, void *workspace,
                            size_t workspace_bytes, tamis_stream stream)
{
    struct tamisi_spans spans = {.count = 0};
    tamisi_error_clear();
    TAMIS_TRY(check_plan(plan, stream));
    const int q_heads = plan->problem.q_heads, kv_heads = plan->problem.kv_heads, heads = plan->facts.compact_heads;
    const int64_t seq_len = plan->problem.seq_len, capacity = plan->facts.capacity;
    if (q || compact_q) {
        TAMIS_TRY(tamisi_check_tensor(&spans, plan, q, "q", q_heads, seq_len, false));
        TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_q, "compact_q", q_heads, capacity, true));
    }
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, k, "k", kv_heads, seq_len, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, v, "v", kv_heads, seq_len, false));
    TAMIS_TRY(check_lists(&spans, plan, kept, indices));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_k, "compact_k", heads, capacity, true));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_v, "compact_v", heads, capacity, true));
    TAMIS_TRY(tamisi_check_memory(&spans, plan, workspace, workspace_bytes));
    return plan->context->backend->compress(plan, q, k, v, kept, indices, compact_q, compact_k, compact_v, stream);
}

/* tamis_attend and, with a map, tamis_attend_map. */
static tamis_status attend(const tamis_plan *plan, const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                           const tamis_tensor *compact_v, const int32_t *kept, const void *output_map,
                           const tamis_tensor *compact_output, float *compact_lse, void *workspace, size_t workspace_bytes,
                           tamis_stream stream)
{
    struct tamisi_spans spans = {.count = 0};
    const int q_heads = plan->problem.q_heads, heads = plan->facts.compact_heads;
    const int64_t capacity = plan->facts.capacity;
    if (plan->pattern.kind != TAMIS_PATTERN_NONE)
        return tamisi_fail(TAMIS_EINVAL, "plan: has a pattern: its step is tamis_attend_blocks");
    TAMIS_TRY(tamisi_check_map(&spans, plan, output_map, "output_map"));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_q, "compact_q", q_heads, capacity, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_k, "compact_k", heads, capacity, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_v, "compact_v", heads, capacity, false));
    TAMIS_TRY(tamisi_check_array(&spans, plan, kept, "kept", 1, 1, false, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_output, "compact_output", q_heads, capacity, true));
    TAMIS_TRY(tamisi_check_array(&spans, plan, compact_lse, "compact_lse", q_heads, capacity, true, true));
    TAMIS_TRY(tamisi_check_memory(&spans, plan, workspace, workspace_bytes));
    return plan->context->backend->attend(plan, compact_q, compact_k, compact_v, kept, output_map, compact_output, compact_lse,
                                          workspace, stream);
}

tamis_status tamis_attend(const tamis_plan *plan, const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                          const tamis_tensor *compact_v, const int32_t *kept, const tamis_tensor *compact_output,
                          float *compact_lse, void *workspace, size_t workspace_bytes, tamis_stream stream)
{
    tamisi_error_clear();
    TAMIS_TRY(check_plan(plan, stream));
    if (plan->options.output_map) return tamisi_fail(TAMIS_EINVAL, "plan: has an output map: its step is tamis_attend_map");
    return attend(plan, compact_q, compact_k, compact_v, kept, NULL, compact_output, compact_lse, workspace, workspace_bytes,
                  stream);
}

tamis_status tamis_attend_map(const tamis_plan *plan, const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                              const tamis_tensor *compact_v, const int32_t *kept, const void *output_map,
                              const tamis_tensor *compact_output, float *compact_lse, void *workspace, size_t workspace_bytes,
                              tamis_stream stream)
{
    tamisi_error_clear();
    TAMIS_TRY(check_plan(plan, stream));
    if (!plan->options.output_map) return tamisi_fail(TAMIS_EINVAL, "plan: has no output map: its step is tamis_attend");
    return attend(plan, compact_q, compact_k, compact_v, kept, output_map, compact_output, compact_lse, workspace,
                  workspace_bytes, stream);
}

tamis_status tamis_decompress(const tamis_plan *plan, const tamis_tensor *compact_output, const float *compact_lse,
                              const int32_t *kept, const int32_t *indices, const tamis_tensor *output, float *lse,
                              void *workspace, size_t workspace_bytes, tamis_stream stream)
{
    struct tamisi_spans spans = {.count = 0};
    tamisi_error_clear();
    TAMIS_TRY(check_plan(plan, stream));
    const int q_heads = plan->problem.q_heads;
    const int64_t seq_len = plan->problem.seq_len, capacity = plan->facts.capacity;
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_output, "compact_output", q_heads, capacity, false));
    TAMIS_TRY(tamisi_check_array(&spans, plan, compact_lse, "compact_lse", q_heads, capacity, false, !lse));
    TAMIS_TRY(check_lists(&spans, plan, kept, indices));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, output, "output", q_heads, seq_len, true));
    TAMIS_TRY(tamisi_check_array(&spans, plan, lse, "lse", q_heads, seq_len, true, !compact_lse));
    TAMIS_TRY(tamisi_check_memory(&spans, plan, workspace, workspace_bytes));
    return plan->context->backend->decompress(plan, compact_output, compact_lse, kept, indices, output, lse, stream);
}
