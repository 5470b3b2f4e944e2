/*
 * gpu_pattern.c: the makers of block patterns in a plan: which kernels a pattern needs, their scratch in the workspace, and
 * the launches that lead from Q and K to lists, which pattern_stages.inc knows. What patterns are is defined in cpu_pattern.h,
 * what kernels do in pattern_args.h. Below gpu_blocks.c, which attends to the lists.
 */
#include "gpu.h"

#include <string.h>

#include "pattern_stages.inc"

_Static_assert(TAMISI_PATTERN_SLIDING + PATTERN_STAGES == TAMISI_STAGE_COUNT, "the makers' stages are the last ones");
_Static_assert(TAMISI_PATTERN_SLIDING + (int)PATTERN_STAGE_XATTN_TMA == TAMISI_PATTERN_XATTN_TMA, "in the same order");

static bool has_lines(tamis_pattern_kind kind)
{
    return kind == TAMIS_PATTERN_VERTICAL_SLASH || kind == TAMIS_PATTERN_FLEXPREFILL;
}

static bool has_means(tamis_pattern_kind kind)
{
    return kind == TAMIS_PATTERN_TOPK_BLOCKS || kind == TAMIS_PATTERN_FLEXPREFILL;
}

bool tamisi_gpu_pattern_needs(tamis_pattern_kind kind, const char *family)
{
    if (strcmp(family, "pattern") == 0)
        return kind == TAMIS_PATTERN_SLIDING || kind == TAMIS_PATTERN_XATTENTION || has_means(kind);
    if (strcmp(family, "pattern_lines") == 0 || strcmp(family, "pattern_heads") == 0) return has_lines(kind);
    if (strcmp(family, "pattern_xattn") == 0) return kind == TAMIS_PATTERN_XATTENTION;
    return kind != TAMIS_PATTERN_NONE;
}

/* ---- scratch */

static struct pattern_shape shape_of(const tamis_context *context, const tamis_problem *problem,
                                     const struct tamisi_facts *facts)
{
    return (struct pattern_shape){.capacity = facts->capacity,
                                  .batch = problem->batch,
                                  .q_heads = problem->q_heads,
                                  .compact_heads = facts->compact_heads,
                                  .head_dim = problem->head_dim,
                                  .multiprocessors = ((const struct tamisi_gpu *)context->state)->sm_count};
}

static struct pattern_needs needs_of(const tamis_pattern *pattern)
{
    return (struct pattern_needs){.means = has_means(pattern->kind),
                                  .lines = has_lines(pattern->kind),
                                  .stride = pattern->kind == TAMIS_PATTERN_XATTENTION ? pattern->xattention.stride : 0};
}

size_t tamisi_gpu_maker_bytes(const tamis_context *context, const tamis_problem *problem, const struct tamisi_facts *facts,
                              const tamis_pattern *pattern)
{
    const struct pattern_shape shape = shape_of(context, problem, facts);
    const struct pattern_needs needs = needs_of(pattern);
    struct pattern_scratch parts;
    if (pattern->kind == TAMIS_PATTERN_NONE || pattern->kind == TAMIS_PATTERN_HOST_BLOCKS) return 0;
    pattern_cut_scratch(&parts, &shape, &needs);
    return parts.bytes;
}

/* ---- launches, in a current context */

struct host {
    const tamis_plan *plan;
    tamis_stream stream;
};

static enum tamisi_stage stage_of(enum pattern_stage stage)
{
    return (enum tamisi_stage)(TAMISI_PATTERN_SLIDING + (int)stage);
}

static int launch(const void *host, enum pattern_stage stage, unsigned cluster, unsigned x, unsigned y, unsigned z, void *args)
{
    const struct host *self = host;
    return tamisi_gpu_launch_clusters(self->plan, stage_of(stage), cluster, x, y, z, args, self->stream);
}

static int get_blocks(const void *host, enum pattern_stage stage, int *block_m, int *block_n)
{
    const struct host *self = host;
    const struct tamisi_entry *entry = tamisi_gpu_entry(self->plan, stage_of(stage));
    *block_m = entry->block_m;
    *block_n = entry->block_n;
    return tamisi_gpu_has(self->plan, stage_of(stage));
}

static int get_map(const void *host, struct tamis_tensor_map *out, const struct tamis_rows *tensor, int heads, long long rows,
                   int apart, int box_groups)
{
    const struct host *self = host;
    return tamisi_gpu_strided_map(out, self->plan, tensor, heads, rows, apart, box_groups);
}

tamis_status tamisi_gpu_make_lists(const tamis_plan *plan, const struct tamis_pattern_source *source,
                                   const struct tamis_block_lists *lists, char *workspace, tamis_stream stream)
{
    const tamis_pattern *p = &plan->pattern;
    const struct host host = {plan, stream};
    struct pattern_maker maker = {.source = source,
                                  .lists = lists,
                                  .shape = shape_of(plan->context, &plan->problem, &plan->facts),
                                  .base = workspace + plan->workspace.maker,
                                  .host = &host,
                                  .launch = launch,
                                  .blocks = get_blocks,
                                  .map = get_map};
    const struct pattern_needs needs = needs_of(p);
    int code = TAMIS_OK;
    pattern_cut_scratch(&maker.parts, &maker.shape, &needs);
    switch (p->kind) {
    case TAMIS_PATTERN_SLIDING:
        code = pattern_make_sliding(&maker, (unsigned *)(void *)(workspace + plan->workspace.block_masks),
                                    p->sliding.sink_tokens, p->sliding.window_tokens);
        break;
    case TAMIS_PATTERN_VERTICAL_SLASH:
        code = pattern_make_vertical_slash(&maker, p->vertical_slash.last_queries, p->vertical_slash.vertical_lines,
                                           p->vertical_slash.slash_lines, p->vertical_slash.coverage);
        break;
    case TAMIS_PATTERN_FLEXPREFILL:
        code = pattern_make_flexprefill(&maker, p->flexprefill.gamma, p->flexprefill.tau, p->flexprefill.min_tokens,
                                        p->flexprefill.max_tokens);
        break;
    case TAMIS_PATTERN_XATTENTION:
        code = pattern_make_xattention(&maker, p->xattention.stride, p->xattention.threshold);
        break;
    case TAMIS_PATTERN_TOPK_BLOCKS:
        code = pattern_make_topk(&maker, p->topk_blocks.blocks, p->topk_blocks.ratio);
        break;
    default: break;
    }
    return (tamis_status)code;
}
