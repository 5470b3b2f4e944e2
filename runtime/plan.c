/*
 * plan.c: what follows from a problem before any device is asked: whether it is one, its facts, and the workspace's
 * layout. Pure. Layer: plan.h's own file; api_plan.c makes plans of it.
 */
#include "plan.h"

#include <float.h>
#include <math.h>
#include <stdint.h>

#define MAX_SEQ_LEN (1ll << 24)
#define MAX_WINDOW 1024
#define MAX_POOL 63
#define MAX_HEADS 1024
#define MAX_GRID 65535 /* blocks along y or z of a CUDA grid, in which heads and sequences are counted */
#define MAX_SCALE ((double)FLT_MAX / 2) /* kernels multiply it by log2(e), in float */

/* ---------------------------------------------------------------------------------------------------------- problem */

/* "name is value: it must be ..." unless first <= value <= last. */
static tamis_status check_range(const char *name, long long value, long long first, long long last)
{
    if (value >= first && value <= last) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "%s is %lld: it must be %lld to %lld", name, value, first, last);
}

static tamis_status check_geometry(const tamis_problem *problem)
{
    const int dim = problem->head_dim;
    if (problem->dtype != TAMIS_BF16 && problem->dtype != TAMIS_FP16)
        return tamisi_fail(TAMIS_EINVAL, "dtype is %d: it must be TAMIS_BF16 or TAMIS_FP16", (int)problem->dtype);
    TAMIS_TRY(check_range("batch", problem->batch, 1, MAX_GRID));
    TAMIS_TRY(check_range("q_heads", problem->q_heads, 1, MAX_HEADS));
    TAMIS_TRY(check_range("kv_heads", problem->kv_heads, 1, MAX_HEADS));
    if (problem->q_heads % problem->kv_heads != 0)
        return tamisi_fail(TAMIS_EINVAL, "q_heads is %d: it must be a multiple of kv_heads, %d", problem->q_heads,
                           problem->kv_heads);
    TAMIS_TRY(check_range("batch * kv_heads", (long long)problem->batch * problem->kv_heads, 1, MAX_GRID));
    if (dim != 64 && dim != 96 && dim != 128 && dim != 256)
        return tamisi_fail(TAMIS_EINVAL, "head_dim is %d: it must be 64, 96, 128 or 256", dim);
    TAMIS_TRY(check_range("seq_len", problem->seq_len, 1, MAX_SEQ_LEN));
    if (!(problem->scale >= 0 && problem->scale <= MAX_SCALE))
        return tamisi_fail(TAMIS_EINVAL, "scale is %g: it must be positive and finite, or 0 for 1 / sqrt(head_dim)",
                           problem->scale);
    return TAMIS_OK;
}

/* Of coverage, ratio and count only the policy's own is looked at: the others may never have been set. */
static tamis_status check_selection(const tamis_selection *selection)
{
    if ((int)selection->policy < TAMIS_DENSE || (int)selection->policy > TAMIS_COUNT)
        return tamisi_fail(TAMIS_EINVAL, "selection.policy is %d: it must be a tamis_policy", (int)selection->policy);
    if ((int)selection->scope < TAMIS_SCOPE_HEAD || (int)selection->scope > TAMIS_SCOPE_LAYER)
        return tamisi_fail(TAMIS_EINVAL, "selection.scope is %d: it must be a tamis_scope", (int)selection->scope);
    TAMIS_TRY(check_range("selection.window", selection->window, 1, MAX_WINDOW));
    TAMIS_TRY(check_range("selection.pool", selection->pool, 1, MAX_POOL));
    if (selection->pool % 2 == 0)
        return tamisi_fail(TAMIS_EINVAL, "selection.pool is %d: it must be odd", selection->pool);
    TAMIS_TRY(check_range("selection.min_tokens", selection->min_tokens, 0, INT64_MAX));
    if (selection->policy == TAMIS_COVERAGE && !(selection->coverage >= 0 && selection->coverage < 1))
        return tamisi_fail(TAMIS_EINVAL, "selection.coverage is %g: it must be at least 0 and below 1",
                           selection->coverage);
    if (selection->policy == TAMIS_RATIO && !(selection->ratio > 0 && selection->ratio <= 1))
        return tamisi_fail(TAMIS_EINVAL, "selection.ratio is %g: it must be above 0 and at most 1", selection->ratio);
    if (selection->policy == TAMIS_COUNT) TAMIS_TRY(check_range("selection.count", selection->count, 0, INT64_MAX));
    return TAMIS_OK;
}

tamis_status tamisi_problem_check(const tamis_problem *problem)
{
    TAMIS_TRY(check_geometry(problem));
    TAMIS_TRY(check_selection(&problem->selection));
    if (problem->mask != TAMIS_CAUSAL && problem->mask != TAMIS_FULL)
        return tamisi_fail(TAMIS_EINVAL, "mask is %d: it must be TAMIS_CAUSAL or TAMIS_FULL", (int)problem->mask);
    if (problem->mask == TAMIS_FULL && problem->selection.policy != TAMIS_DENSE)
        return tamisi_fail(TAMIS_EINVAL, "mask is TAMIS_FULL and selection.policy is not TAMIS_DENSE: kept tokens attend "
                                         "causally");
    return TAMIS_OK;
}

/* ------------------------------------------------------------------------------------------------------------ facts */

/* Tokens kept outside the window; -1: decided on the device. Every way to N tokens is dense. */
static long long fixed_keep(const tamis_selection *selection, long long candidates)
{
    const long long least = selection->min_tokens;
    long long keep;
    if (candidates <= least) return candidates;
    switch (selection->policy) {
    case TAMIS_COVERAGE: return selection->coverage > 0 ? -1 : candidates;
    case TAMIS_RATIO: keep = (long long)ceil(selection->ratio * (double)candidates); break;
    case TAMIS_COUNT: keep = selection->count; break;
    default: return candidates;
    }
    if (keep < least) keep = least;
    return keep < candidates ? keep : candidates;
}

/*
 * Enough chunks to fill a GPU from one sequence of one KV head's group upwards, few enough that a row's partial results
 * are read back at once. Of L alone: how a sum is cut must not depend on what else is in the batch.
 */
#define MAX_CHUNKS 64

static void cut_chunks(struct tamisi_facts *facts, long long seq_len)
{
    const long long even = (seq_len + MAX_CHUNKS - 1) / MAX_CHUNKS;
    facts->score_chunk_keys = (even + TAMISI_CHUNK_ALIGN - 1) / TAMISI_CHUNK_ALIGN * TAMISI_CHUNK_ALIGN;
    facts->score_chunks = (int)((seq_len + facts->score_chunk_keys - 1) / facts->score_chunk_keys);
}

void tamisi_facts_make(struct tamisi_facts *out, const tamis_problem *problem)
{
    const tamis_selection *selection = &problem->selection;
    const long long before = problem->seq_len - selection->window;
    const bool by_head = selection->scope == TAMIS_SCOPE_HEAD, by_layer = selection->scope == TAMIS_SCOPE_LAYER;

    *out = (struct tamisi_facts){.group = problem->q_heads / problem->kv_heads,
                                 .index_heads = by_head    ? problem->q_heads
                                                : by_layer ? 1
                                                           : problem->kv_heads,
                                 .compact_heads = by_head ? problem->q_heads : problem->kv_heads,
                                 .candidates = before > 0 ? before : 0,
                                 .scale = problem->scale > 0 ? problem->scale : 1 / sqrt((double)problem->head_dim)};
    out->fixed_keep = fixed_keep(selection, out->candidates);
    out->dense = out->fixed_keep == out->candidates;
    out->capacity = out->dense || out->fixed_keep < 0 ? problem->seq_len : out->fixed_keep + selection->window;
    out->lse2_rows = (selection->window + 63) / 64 * 64;
    cut_chunks(out, problem->seq_len);
}

/* -------------------------------------------------------------------------------------------------------- workspace */

#define ALIGN 256

/* The layout so far. Sizes count in 64 bits; what pointers cannot span has overflowed. */
struct layout {
    size_t bytes;
    bool overflow;
};

/* Place a part of a * b * c * bytes bytes. */
static size_t place(struct layout *layout, long long a, long long b, long long c, size_t bytes)
{
    const long long factors[] = {b, c};
    const size_t offset = layout->bytes;
    size_t size = (size_t)a, end = 0;
    bool overflow = __builtin_mul_overflow(size, bytes, &size);
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++)
        overflow |= __builtin_mul_overflow(size, (size_t)factors[i], &size);
    overflow |= __builtin_add_overflow(offset, size, &end);
    overflow |= end > (size_t)PTRDIFF_MAX - ALIGN;
    layout->overflow |= overflow;
    layout->bytes = overflow ? offset : (end + ALIGN - 1) / ALIGN * ALIGN;
    return offset;
}

static tamis_status check_layout(const struct layout *layout, const tamis_problem *problem)
{
    if (!layout->overflow) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "batch %d, q_heads %d, seq_len %lld: the workspace would pass 2^63 bytes",
                       problem->batch, problem->q_heads, (long long)problem->seq_len);
}

/* Under a dense plan nothing is compacted, and scores are made only into the caller's memory. */
tamis_status tamisi_workspace_make(struct tamisi_workspace *out, const tamis_problem *problem,
                                   const struct tamisi_facts *facts)
{
    const long long batch = problem->batch, q_heads = problem->q_heads, candidates = facts->candidates;
    const long long stats_rows = candidates > 0 ? problem->selection.window : 0;
    const long long compact_rows = facts->dense ? 0 : facts->capacity * problem->head_dim;
    struct tamisi_workspace made;
    struct layout layout = {0, false};

    made.score = place(&layout, batch, q_heads, facts->dense ? 0 : candidates, sizeof(float));
    made.rank = place(&layout, batch, facts->index_heads, candidates, sizeof(float));
    made.mean = place(&layout, batch, 1, candidates, sizeof(float));
    made.partial = place(&layout, batch * q_heads, stats_rows, facts->score_chunks, 2 * sizeof(float));
    made.lse2 = place(&layout, batch, q_heads, candidates > 0 ? facts->lse2_rows : 0, sizeof(float));
    made.kept = place(&layout, batch, 1, 1, sizeof(int32_t));
    made.indices = place(&layout, batch, facts->index_heads, facts->capacity, sizeof(int32_t));
    made.compact_k = place(&layout, batch, facts->compact_heads, compact_rows, sizeof(uint16_t));
    made.compact_v = place(&layout, batch, facts->compact_heads, compact_rows, sizeof(uint16_t));
    made.counter = place(&layout, 1, 1, 1, sizeof(uint32_t));
    made.block_count = made.block_list = made.block_masks = made.block_order = made.maker = layout.bytes;
    made.bytes = layout.bytes;
    TAMIS_TRY(check_layout(&layout, problem));
    *out = made;
    return TAMIS_OK;
}

tamis_status tamisi_workspace_add_blocks(struct tamisi_workspace *workspace, const tamis_problem *problem,
                                         const struct tamisi_facts *facts, const tamis_pattern *pattern,
                                         size_t maker_bytes)
{
    if (pattern->kind == TAMIS_PATTERN_NONE) return TAMIS_OK;
    const long long heads = (long long)problem->batch * problem->q_heads, tiles = tamisi_pattern_tiles(facts);
    const int row = tamisi_pattern_row(pattern, (int)tiles);
    const long long masks = tamisi_pattern_has_masks(pattern) ? TAMISI_PATTERN_MASKS : 0;
    struct tamisi_workspace made = *workspace;
    struct layout layout = {workspace->bytes, false};
    made.block_count = place(&layout, heads, row > 0 ? tiles : 0, 1, sizeof(int32_t));
    made.block_list = place(&layout, heads, tiles, row, sizeof(int32_t));
    made.block_masks = place(&layout, masks, TAMIS_BLOCK_MASK_WORDS, 1, sizeof(uint32_t));
    made.block_order = place(&layout, heads, tiles, 1, sizeof(int32_t));
    made.maker = place(&layout, 1, 1, 1, maker_bytes);
    made.bytes = layout.bytes;
    TAMIS_TRY(check_layout(&layout, problem));
    *workspace = made;
    return TAMIS_OK;
}
