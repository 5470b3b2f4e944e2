/*
 * pattern.c: what follows from a block pattern before any device is asked: whether it is one, and how long its lists may be.
 * Pure. Layer: beside plan.c, in plan.h.
 */
#include "pattern_args.h"
#include "plan.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {
    [TAMIS_PATTERN_NONE] = "none",
    [TAMIS_PATTERN_HOST_BLOCKS] = "blocks",
    [TAMIS_PATTERN_SLIDING] = "sliding",
    [TAMIS_PATTERN_VERTICAL_SLASH] = "vertical_slash",
    [TAMIS_PATTERN_FLEXPREFILL] = "flexprefill",
    [TAMIS_PATTERN_XATTENTION] = "xattention",
    [TAMIS_PATTERN_TOPK_BLOCKS] = "topk_blocks",
};
#define KIND_COUNT ((int)(sizeof names / sizeof *names))

const char *tamisi_pattern_name(tamis_pattern_kind kind)
{
    return (int)kind >= 0 && (int)kind < KIND_COUNT ? names[kind] : NULL;
}

/* ------------------------------------------------------------------------------------------------------------ check */

static tamis_status check_least(const char *name, int64_t value, int64_t least)
{
    if (value >= least) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "pattern.%s is %lld: it must be at least %lld", name, (long long)value, (long long)least);
}

/* In (0, 1]. */
static tamis_status check_part(const char *name, double value)
{
    if (value > 0 && value <= 1) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "pattern.%s is %g: it must be above 0 and at most 1", name, value);
}

static tamis_status check_host_blocks(const tamis_pattern *pattern)
{
    const int form = (int)pattern->host_blocks.form;
    if (form >= TAMIS_BLOCKS_LISTS && form <= TAMIS_BLOCKS_ROWS) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "pattern.host_blocks.form is %d: it must be a tamis_blocks_form", form);
}

static tamis_status check_sliding(const tamis_pattern *pattern)
{
    TAMIS_TRY(check_least("sliding.sink_tokens", pattern->sliding.sink_tokens, 0));
    return check_least("sliding.window_tokens", pattern->sliding.window_tokens, 1);
}

static tamis_status check_vertical_slash(const tamis_pattern *pattern)
{
    const int queries = pattern->vertical_slash.last_queries;
    if (queries < 1 || queries > TAMIS_BLOCK_SIZE)
        return tamisi_fail(TAMIS_EINVAL, "pattern.vertical_slash.last_queries is %d: it must be 1 to %d", queries,
                           TAMIS_BLOCK_SIZE);
    TAMIS_TRY(check_least("vertical_slash.vertical_lines", pattern->vertical_slash.vertical_lines, 0));
    TAMIS_TRY(check_least("vertical_slash.slash_lines", pattern->vertical_slash.slash_lines, 0));
    const double coverage = pattern->vertical_slash.coverage;
    if (coverage == 0) return TAMIS_OK; /* by the counts */
    return check_part("vertical_slash.coverage", coverage);
}

static tamis_status check_flexprefill(const tamis_pattern *pattern)
{
    TAMIS_TRY(check_part("flexprefill.gamma", pattern->flexprefill.gamma));
    if (!(pattern->flexprefill.tau >= 0 && isfinite(pattern->flexprefill.tau)))
        return tamisi_fail(TAMIS_EINVAL, "pattern.flexprefill.tau is %g: it must not be negative, and finite",
                           pattern->flexprefill.tau);
    TAMIS_TRY(check_least("flexprefill.min_tokens", pattern->flexprefill.min_tokens, 0));
    return check_least("flexprefill.max_tokens", pattern->flexprefill.max_tokens, 0);
}

static tamis_status check_xattention(const tamis_pattern *pattern)
{
    const int stride = pattern->xattention.stride;
    if (stride < 4 || stride > 64 || (stride & (stride - 1)) != 0)
        return tamisi_fail(TAMIS_EINVAL, "pattern.xattention.stride is %d: it must be 4, 8, 16, 32 or 64", stride);
    return check_part("xattention.threshold", pattern->xattention.threshold);
}

static tamis_status check_topk_blocks(const tamis_pattern *pattern)
{
    TAMIS_TRY(check_least("topk_blocks.blocks", pattern->topk_blocks.blocks, 0));
    return pattern->topk_blocks.blocks > 0 ? TAMIS_OK : check_part("topk_blocks.ratio", pattern->topk_blocks.ratio);
}

tamis_status tamisi_pattern_check(const tamis_pattern *pattern, const tamis_problem *problem)
{
    if (!tamisi_pattern_name(pattern->kind))
        return tamisi_fail(TAMIS_EINVAL, "pattern.kind is %d: it must be a tamis_pattern_kind", (int)pattern->kind);
    if (pattern->kind != TAMIS_PATTERN_NONE && problem->mask != TAMIS_CAUSAL)
        return tamisi_fail(TAMIS_EINVAL, "pattern.kind is %s and mask is TAMIS_FULL: patterns are causal",
                           tamisi_pattern_name(pattern->kind));
    switch (pattern->kind) {
    case TAMIS_PATTERN_HOST_BLOCKS: return check_host_blocks(pattern);
    case TAMIS_PATTERN_SLIDING: return check_sliding(pattern);
    case TAMIS_PATTERN_VERTICAL_SLASH: return check_vertical_slash(pattern);
    case TAMIS_PATTERN_FLEXPREFILL: return check_flexprefill(pattern);
    case TAMIS_PATTERN_XATTENTION: return check_xattention(pattern);
    case TAMIS_PATTERN_TOPK_BLOCKS: return check_topk_blocks(pattern);
    default: return TAMIS_OK;
    }
}

/* ------------------------------------------------------------------------------------------------------------ lists */

static bool makes_lists(const char *family) { return strncmp(family, "pattern", strlen("pattern")) == 0; }

bool tamisi_family_has_blocks(const char *family)
{
    return makes_lists(family) || strcmp(family, "blocks") == 0 || strcmp(family, "attend_blocks") == 0;
}

int tamisi_family_abi(const char *family)
{
    if (strcmp(family, TAMISI_MAP_FAMILY) == 0) return TAMIS_KERNEL_ABI + 1000 * TAMIS_MAP_ABI;
    return TAMIS_KERNEL_ABI + (tamisi_family_has_blocks(family) ? 1000 * TAMIS_BLOCK_ABI : 0) +
           (makes_lists(family) ? 1000000 * TAMIS_PATTERN_ABI : 0);
}

int tamisi_pattern_tiles(const struct tamisi_facts *facts)
{
    return (int)((facts->capacity + TAMIS_BLOCK_SIZE - 1) / TAMIS_BLOCK_SIZE);
}

int tamisi_pattern_row(const tamis_pattern *pattern, int tiles)
{
    int64_t most = tiles;
    if (pattern->kind == TAMIS_PATTERN_NONE) return 0;
    if (pattern->kind == TAMIS_PATTERN_HOST_BLOCKS && pattern->host_blocks.form == TAMIS_BLOCKS_LISTS) return 0;
    if (pattern->kind == TAMIS_PATTERN_SLIDING) {
        const int64_t sink = pattern->sliding.sink_tokens, window = pattern->sliding.window_tokens;
        const int64_t sink_blocks = sink / TAMIS_BLOCK_SIZE + (sink % TAMIS_BLOCK_SIZE != 0);
        const int64_t window_blocks = (window - 1) / TAMIS_BLOCK_SIZE + 2; /* a window begins anywhere in its first one */
        if (sink_blocks < tiles && window_blocks < tiles - sink_blocks) most = sink_blocks + window_blocks;
    }
    return (int)most;
}

/* Entries of query block i's list, before there are no more than i + 1; 0: unknown. */
static double most_entries(const tamis_pattern *pattern, int tiles, int i)
{
    switch (pattern->kind) {
    case TAMIS_PATTERN_SLIDING: return tamisi_pattern_row(pattern, tiles);
    case TAMIS_PATTERN_VERTICAL_SLASH:
        if (pattern->vertical_slash.coverage > 0) return 0;
        return (double)(pattern->vertical_slash.vertical_lines / TAMIS_BLOCK_SIZE + 1) +
               (double)(pattern->vertical_slash.slash_lines / TAMIS_BLOCK_SIZE + 1);
    case TAMIS_PATTERN_TOPK_BLOCKS:
        if (pattern->topk_blocks.blocks > 0) return (double)pattern->topk_blocks.blocks;
        return ceil(pattern->topk_blocks.ratio * (i + 1));
    default: return 0;
    }
}

double tamisi_pattern_density(const tamis_pattern *pattern, int tiles)
{
    double listed = 0;
    for (int i = 0; i < tiles; i++) listed += fmin(most_entries(pattern, tiles, i), i + 1);
    return listed / (0.5 * tiles * (tiles + 1.0));
}

bool tamisi_pattern_has_masks(const tamis_pattern *pattern) { return pattern->kind == TAMIS_PATTERN_SLIDING; }

void tamisi_pattern_describe(struct tamisi_buf *out, const tamis_pattern *pattern)
{
    static const char *const forms[] = {"lists", "bits", "rows"};
    tamisi_buf_puts(out, tamisi_pattern_name(pattern->kind));
    switch (pattern->kind) {
    case TAMIS_PATTERN_HOST_BLOCKS: tamisi_buf_printf(out, ", as %s", forms[pattern->host_blocks.form]); break;
    case TAMIS_PATTERN_SLIDING:
        tamisi_buf_printf(out, ", sink_tokens %lld, window_tokens %lld", (long long)pattern->sliding.sink_tokens,
                          (long long)pattern->sliding.window_tokens);
        break;
    case TAMIS_PATTERN_VERTICAL_SLASH:
        tamisi_buf_printf(out, ", last_queries %d, ", pattern->vertical_slash.last_queries);
        if (pattern->vertical_slash.coverage > 0)
            tamisi_buf_printf(out, "coverage %g", pattern->vertical_slash.coverage);
        else
            tamisi_buf_printf(out, "vertical_lines %lld, slash_lines %lld", (long long)pattern->vertical_slash.vertical_lines,
                              (long long)pattern->vertical_slash.slash_lines);
        break;
    case TAMIS_PATTERN_FLEXPREFILL:
        tamisi_buf_printf(out, ", gamma %g, tau %g, min_tokens %lld, max_tokens %lld", pattern->flexprefill.gamma,
                          pattern->flexprefill.tau, (long long)pattern->flexprefill.min_tokens,
                          (long long)pattern->flexprefill.max_tokens);
        break;
    case TAMIS_PATTERN_XATTENTION:
        tamisi_buf_printf(out, ", stride %d, threshold %g", pattern->xattention.stride, pattern->xattention.threshold);
        break;
    case TAMIS_PATTERN_TOPK_BLOCKS:
        if (pattern->topk_blocks.blocks > 0)
            tamisi_buf_printf(out, ", blocks %lld", (long long)pattern->topk_blocks.blocks);
        else
            tamisi_buf_printf(out, ", ratio %g", pattern->topk_blocks.ratio);
        break;
    default: break;
    }
}
