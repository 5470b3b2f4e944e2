/*
 * api_blocks.c: the public functions of block patterns: making lists, and attention on them. As api_run.c: all arguments are
 * checked before the backend touches anything.
 */
#include "api.h"

/* ---- a run's blocks */

/* A name and a member's, for a message and a span: names outlive the call that made them, so they come from a table. */
enum member { COUNT, LIST, BITS, OFFSETS, COLUMNS, MASKS, MEMBERS };

static const char *name_of(const char *name, enum member member)
{
    static const char *const of_step[MEMBERS] = {"blocks.count",   "blocks.list",    "blocks.bits",
                                                 "blocks.offsets", "blocks.columns", "blocks.masks"};
    static const char *const of_run[MEMBERS] = {"args.blocks.count",   "args.blocks.list",    "args.blocks.bits",
                                                "args.blocks.offsets", "args.blocks.columns", "args.blocks.masks"};
    return name[0] == 'a' ? of_run[member] : of_step[member];
}

/* What the form does not have is NULL: a form given by mistake is told, not ignored. */
static tamis_status check_absent(const tamis_blocks *blocks, tamis_blocks_form form, const char *name)
{
    static const char *const forms[] = {"lists", "bits", "rows"};
    const struct {
        const void *array;
        enum member member;
        bool belongs;
    } members[] = {{blocks->count, COUNT, form == TAMIS_BLOCKS_LISTS},
                   {blocks->list, LIST, form == TAMIS_BLOCKS_LISTS},
                   {blocks->bits, BITS, form == TAMIS_BLOCKS_BITS},
                   {blocks->offsets, OFFSETS, form == TAMIS_BLOCKS_ROWS},
                   {blocks->columns, COLUMNS, form == TAMIS_BLOCKS_ROWS},
                   {blocks->masks, MASKS, form != TAMIS_BLOCKS_BITS}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (members[i].array && !members[i].belongs)
            return tamisi_fail(TAMIS_EINVAL, "%s: is not NULL, and blocks come as %s", name_of(name, members[i].member),
                               forms[form]);
    return TAMIS_OK;
}

static tamis_status check_masks(struct tamisi_spans *spans, const tamis_blocks *blocks, tamis_blocks_form form,
                                const char *name)
{
    if (form == TAMIS_BLOCKS_BITS && blocks->mask_count != 0)
        return tamisi_fail(TAMIS_EINVAL, "%s.mask_count is %d: it must be 0, as blocks that come as bits have no masks", name,
                           blocks->mask_count);
    if (blocks->mask_count < 0 || blocks->mask_count > TAMIS_BLOCK_MASKS)
        return tamisi_fail(TAMIS_EINVAL, "%s.mask_count is %d: it must be 0 to %d", name, blocks->mask_count,
                           TAMIS_BLOCK_MASKS);
    return tamisi_check_flat(spans, blocks->masks, name_of(name, MASKS), (int64_t)blocks->mask_count * TAMIS_BLOCK_MASK_WORDS,
                             sizeof *blocks->masks, false, blocks->mask_count == 0);
}

static tamis_status check_rows(struct tamisi_spans *spans, const tamis_blocks *blocks, const char *name, int64_t rows)
{
    TAMIS_TRY(tamisi_check_flat(spans, blocks->offsets, name_of(name, OFFSETS), rows + 1, sizeof *blocks->offsets, false,
                                false));
    if (blocks->column_count < 0)
        return tamisi_fail(TAMIS_EINVAL, "%s.column_count is %lld: it must not be negative", name,
                           (long long)blocks->column_count);
    return tamisi_check_flat(spans, blocks->columns, name_of(name, COLUMNS), blocks->column_count, sizeof *blocks->columns,
                             false, blocks->column_count == 0);
}

tamis_status tamisi_check_blocks(struct tamisi_spans *spans, const tamis_plan *plan, const tamis_blocks *blocks,
                                 tamis_blocks_form form, const char *name)
{
    const int64_t tiles = tamisi_pattern_tiles(&plan->facts);
    const int64_t rows = (int64_t)plan->problem.batch * plan->problem.q_heads * tiles;
    TAMIS_TRY(tamisi_check_pointer(blocks, name));
    TAMIS_TRY(tamisi_options_check(blocks, sizeof *blocks, sizeof *blocks, name, "TAMIS_BLOCKS_INIT"));
    TAMIS_TRY(check_absent(blocks, form, name));
    TAMIS_TRY(check_masks(spans, blocks, form, name));
    if (form == TAMIS_BLOCKS_ROWS) return check_rows(spans, blocks, name, rows);
    if (form == TAMIS_BLOCKS_BITS)
        return tamisi_check_flat(spans, blocks->bits, name_of(name, BITS), rows * ((tiles + 31) / 32), sizeof *blocks->bits,
                                 false, false);
    TAMIS_TRY(tamisi_check_flat(spans, blocks->count, name_of(name, COUNT), rows, sizeof *blocks->count, false, false));
    return tamisi_check_flat(spans, blocks->list, name_of(name, LIST), rows * tiles, sizeof *blocks->list, false, false);
}

/* ---- the steps */

/* `instead`: what there is to do with a plan without a pattern. */
static tamis_status check_plan(const tamis_plan *plan, tamis_stream stream, const char *instead)
{
    TAMIS_TRY(tamisi_check_pointer(plan, "plan"));
    if (plan->pattern.kind == TAMIS_PATTERN_NONE) return tamisi_fail(TAMIS_EINVAL, "plan: has no pattern: %s", instead);
    return tamisi_check_stream(plan->context, stream);
}

/* Does the plan's maker look at Q and K? */
static bool reads_rows(const tamis_plan *plan)
{
    return plan->pattern.kind != TAMIS_PATTERN_HOST_BLOCKS && plan->pattern.kind != TAMIS_PATTERN_SLIDING;
}

static tamis_status check_source(struct tamisi_spans *spans, const tamis_plan *plan, const tamis_tensor *compact_q,
                                 const tamis_tensor *compact_k, const tamis_blocks *blocks)
{
    const tamis_pattern *pattern = &plan->pattern;
    if (reads_rows(plan)) {
        TAMIS_TRY(tamisi_check_tensor(spans, plan, compact_q, "compact_q", plan->problem.q_heads, plan->facts.capacity, false));
        TAMIS_TRY(tamisi_check_tensor(spans, plan, compact_k, "compact_k", plan->facts.compact_heads, plan->facts.capacity,
                                      false));
    }
    if (pattern->kind != TAMIS_PATTERN_HOST_BLOCKS)
        return blocks ? tamisi_fail(TAMIS_EINVAL, "blocks: is not NULL, and the plan's pattern makes its own") : TAMIS_OK;
    if (pattern->host_blocks.form == TAMIS_BLOCKS_LISTS)
        return tamisi_fail(TAMIS_EINVAL, "plan: its pattern is given as lists: there is nothing to make");
    return tamisi_check_blocks(spans, plan, blocks, pattern->host_blocks.form, "blocks");
}

tamis_status tamis_make_blocks(const tamis_plan *plan, const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                               const int32_t *kept, const tamis_blocks *blocks, int32_t *count, int32_t *list,
                               void *workspace, size_t workspace_bytes, tamis_stream stream)
{
    struct tamisi_spans spans = {.count = 0};
    tamisi_error_clear();
    TAMIS_TRY(check_plan(plan, stream, "there are no lists to make"));
    const int q_heads = plan->problem.q_heads;
    const int64_t tiles = tamisi_pattern_tiles(&plan->facts);
    TAMIS_TRY(check_source(&spans, plan, compact_q, compact_k, blocks));
    TAMIS_TRY(tamisi_check_array(&spans, plan, kept, "kept", 1, 1, false, false));
    TAMIS_TRY(tamisi_check_array(&spans, plan, count, "count", q_heads, tiles, true, false));
    TAMIS_TRY(tamisi_check_array(&spans, plan, list, "list", q_heads, tiles * tiles, true, false));
    TAMIS_TRY(tamisi_check_memory(&spans, plan, workspace, workspace_bytes));
    return plan->context->backend->make_blocks(plan, compact_q, compact_k, kept, blocks, count, list, workspace, stream);
}

tamis_status tamis_attend_blocks(const tamis_plan *plan, const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                                 const tamis_tensor *compact_v, const int32_t *kept, const tamis_blocks *blocks,
                                 const tamis_tensor *compact_output, float *compact_lse, void *workspace,
                                 size_t workspace_bytes, tamis_stream stream)
{
    struct tamisi_spans spans = {.count = 0};
    tamisi_error_clear();
    TAMIS_TRY(check_plan(plan, stream, "its step is tamis_attend"));
    const int q_heads = plan->problem.q_heads, heads = plan->facts.compact_heads;
    const int64_t capacity = plan->facts.capacity;
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_q, "compact_q", q_heads, capacity, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_k, "compact_k", heads, capacity, false));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_v, "compact_v", heads, capacity, false));
    TAMIS_TRY(tamisi_check_array(&spans, plan, kept, "kept", 1, 1, false, false));
    TAMIS_TRY(tamisi_check_blocks(&spans, plan, blocks, TAMIS_BLOCKS_LISTS, "blocks"));
    TAMIS_TRY(tamisi_check_tensor(&spans, plan, compact_output, "compact_output", q_heads, capacity, true));
    TAMIS_TRY(tamisi_check_array(&spans, plan, compact_lse, "compact_lse", q_heads, capacity, true, true));
    TAMIS_TRY(tamisi_check_memory(&spans, plan, workspace, workspace_bytes));
    return plan->context->backend->attend_blocks(plan, compact_q, compact_k, compact_v, kept, blocks, compact_output,
                                                 compact_lse, workspace, stream);
}
