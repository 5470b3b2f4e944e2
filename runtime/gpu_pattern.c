/*
 * gpu_pattern.c: the makers of block patterns on the GPU: their scratch in the workspace, and the launches that lead from Q
 * and K to lists. What patterns are is defined in cpu_pattern.h, what kernels do in pattern_args.h. Below gpu_blocks.c, which
 * attends to the lists.
 */
#include "gpu.h"

#include <string.h>

#define CHUNK_ALIGN 512 /* keys; a multiple of every kernel's step */
#define MAX_CHUNKS 64   /* of one head: enough to fill a GPU from few heads, few enough to be read back at once */
#define ALIGN 256

/* Byte offsets into the maker's part of the workspace. */
struct scratch {
    size_t mean_q, mean_k;
    size_t partial, lse2, vertical, slash;
    size_t sums, chosen, modes, cut, ties_before;
    size_t rows; /* of pattern_xattn's blocks */
    size_t bytes;
};

/* A launch's surroundings. */
struct maker {
    const tamis_plan *plan;
    const struct tamis_pattern_source *source;
    const struct tamis_block_lists *lists;
    struct scratch parts;
    char *base; /* of the scratch */
    tamis_stream stream;
};

static long long chunk_keys(long long capacity)
{
    const long long even = (capacity + MAX_CHUNKS - 1) / MAX_CHUNKS;
    return (even + CHUNK_ALIGN - 1) / CHUNK_ALIGN * CHUNK_ALIGN;
}

static int chunk_count(long long capacity) { return (int)((capacity + chunk_keys(capacity) - 1) / chunk_keys(capacity)); }

/* Reduced rows that the blocks of pattern_xattn have at work at once, for which there is scratch. */
static long long xattn_rows(const tamis_context *context, const tamis_problem *problem, const struct tamisi_facts *facts,
                            int stride)
{
    const long long all = (facts->capacity + stride - 1) / stride, most = TAMIS_PATTERN_XATTN_ROWS;
    const long long tiles = (all + most - 1) / most * problem->batch * problem->q_heads;
    const long long sms = ((const struct tamisi_gpu *)context->state)->sm_count;
    const long long least = TAMIS_PATTERN_XATTN_CLUSTER; /* tiles: the blocks of a cluster */
    return most * (tiles > sms ? sms : tiles < least ? least : tiles);
}

static bool has_lines(tamis_pattern_kind kind)
{
    return kind == TAMIS_PATTERN_VERTICAL_SLASH || kind == TAMIS_PATTERN_FLEXPREFILL;
}

static bool has_means(tamis_pattern_kind kind)
{
    return kind == TAMIS_PATTERN_TOPK_BLOCKS || kind == TAMIS_PATTERN_FLEXPREFILL;
}

static size_t take(size_t *bytes, long long count, size_t size)
{
    const size_t offset = *bytes;
    *bytes += ((size_t)count * size + ALIGN - 1) / ALIGN * ALIGN;
    return offset;
}

/* Problems are small enough for 63 bits: 2^26 heads, 2^24 rows, and some hundred bytes of each. */
static void cut_scratch(struct scratch *out, const tamis_context *context, const tamis_problem *problem,
                        const struct tamisi_facts *facts, const tamis_pattern *pattern)
{
    const long long batch = problem->batch, tiles = tamisi_pattern_tiles(facts), words = (tiles + 31) / 32;
    const long long means = has_means(pattern->kind) ? tiles * problem->head_dim : 0;
    const long long heads = batch * problem->q_heads, lines = has_lines(pattern->kind) ? heads : 0;
    const bool xattn = pattern->kind == TAMIS_PATTERN_XATTENTION;
    const long long rows = xattn ? xattn_rows(context, problem, facts, pattern->xattention.stride) : 0;
    size_t bytes = 0;
    out->mean_q = take(&bytes, heads * means, sizeof(float));
    out->mean_k = take(&bytes, batch * facts->compact_heads * means, sizeof(float));
    out->partial = take(&bytes, lines * chunk_count(facts->capacity) * TAMIS_PATTERN_QUERIES, 2 * sizeof(float));
    out->lse2 = take(&bytes, lines * TAMIS_PATTERN_QUERIES, sizeof(float));
    out->vertical = take(&bytes, lines * facts->capacity, sizeof(float));
    out->slash = take(&bytes, lines * facts->capacity, sizeof(unsigned long long));
    out->sums = take(&bytes, lines * 3 * tiles, sizeof(float));
    out->chosen = take(&bytes, lines * 2 * words, sizeof(unsigned));
    out->modes = take(&bytes, lines, sizeof(int));
    out->cut = take(&bytes, lines * 2, sizeof(unsigned));
    out->ties_before = take(&bytes, lines * tiles, sizeof(int));
    out->rows = take(&bytes, rows * tiles, sizeof(float));
    out->bytes = bytes;
}

size_t tamisi_gpu_maker_bytes(const tamis_context *context, const tamis_problem *problem, const struct tamisi_facts *facts,
                              const tamis_pattern *pattern)
{
    struct scratch parts;
    if (pattern->kind == TAMIS_PATTERN_NONE || pattern->kind == TAMIS_PATTERN_HOST_BLOCKS) return 0;
    cut_scratch(&parts, context, problem, facts, pattern);
    return parts.bytes;
}

bool tamisi_gpu_pattern_needs(tamis_pattern_kind kind, const char *family)
{
    if (strcmp(family, "pattern") == 0)
        return kind == TAMIS_PATTERN_SLIDING || kind == TAMIS_PATTERN_XATTENTION || has_means(kind);
    if (strcmp(family, "pattern_lines") == 0 || strcmp(family, "pattern_heads") == 0) return has_lines(kind);
    if (strcmp(family, "pattern_xattn") == 0) return kind == TAMIS_PATTERN_XATTENTION;
    return kind != TAMIS_PATTERN_NONE;
}

/* ---- launches, in a current context */

static void *at(const struct maker *maker, size_t offset) { return maker->base + offset; }

/* A grid of (x, Hq, B). */
static tamis_status launch_heads(const struct maker *maker, enum tamisi_stage stage, unsigned x, void *args)
{
    const tamis_problem *problem = &maker->plan->problem;
    return tamisi_gpu_launch(maker->plan, stage, x, (unsigned)problem->q_heads, (unsigned)problem->batch, args, maker->stream);
}

static tamis_status launch_sliding(const struct maker *maker, unsigned *masks)
{
    const tamis_pattern *pattern = &maker->plan->pattern;
    struct tamis_pattern_sliding_args args = {.lists = *maker->lists,
                                              .masks = masks,
                                              .kept = maker->source->kept,
                                              .seq_len = maker->source->seq_len,
                                              .sink_tokens = pattern->sliding.sink_tokens,
                                              .window_tokens = pattern->sliding.window_tokens,
                                              .q_heads = maker->source->q_heads};
    const int warps = tamisi_gpu_entry(maker->plan, TAMISI_PATTERN_SLIDING)->block_m;
    return launch_heads(maker, TAMISI_PATTERN_SLIDING, tamisi_gpu_tiles(maker->lists->tiles, warps), &args);
}

static tamis_status launch_means(const struct maker *maker)
{
    const struct tamis_pattern_source *source = maker->source;
    struct tamis_pattern_means_args args = {.source = *source,
                                            .mean_q = at(maker, maker->parts.mean_q),
                                            .mean_k = at(maker, maker->parts.mean_k),
                                            .tiles = maker->lists->tiles};
    const unsigned heads = (unsigned)(source->q_heads + source->compact_heads);
    return tamisi_gpu_launch(maker->plan, TAMISI_PATTERN_MEANS, (unsigned)maker->lists->tiles, heads, (unsigned)source->batch,
                             &args, maker->stream);
}

/* `modes`: products of query-aware heads only; NULL: of all. */
static tamis_status launch_products(const struct maker *maker, const int *modes)
{
    struct tamis_pattern_products_args args = {.lists = *maker->lists,
                                               .mean_q = at(maker, maker->parts.mean_q),
                                               .mean_k = at(maker, maker->parts.mean_k),
                                               .modes = modes,
                                               .kept = maker->source->kept,
                                               .seq_len = maker->source->seq_len,
                                               .q_heads = maker->source->q_heads,
                                               .compact_heads = maker->source->compact_heads,
                                               .scale_log2 = maker->source->scale_log2};
    const int tile = tamisi_gpu_entry(maker->plan, TAMISI_PATTERN_PRODUCTS)->block_m;
    const unsigned side = tamisi_gpu_tiles(maker->lists->tiles, tile);
    return launch_heads(maker, TAMISI_PATTERN_PRODUCTS, side * side, &args);
}

/* `threshold` 0: by how many. */
static tamis_status launch_choose(const struct maker *maker, double threshold)
{
    const tamis_pattern *pattern = &maker->plan->pattern;
    struct tamis_pattern_choose_args args = {.lists = *maker->lists,
                                             .kept = maker->source->kept,
                                             .seq_len = maker->source->seq_len,
                                             .blocks = pattern->topk_blocks.blocks,
                                             .ratio = pattern->topk_blocks.ratio,
                                             .threshold = threshold,
                                             .q_heads = maker->source->q_heads};
    return launch_heads(maker, TAMISI_PATTERN_CHOOSE, (unsigned)maker->lists->tiles, &args);
}

static tamis_status launch_lines(const struct maker *maker, int last_queries, long long dense_rows)
{
    const struct tamis_pattern_source *source = maker->source;
    struct tamis_pattern_lines_args args = {.source = *source,
                                            .partial = at(maker, maker->parts.partial),
                                            .lse2 = at(maker, maker->parts.lse2),
                                            .vertical = at(maker, maker->parts.vertical),
                                            .slash = at(maker, maker->parts.slash),
                                            .chunk_keys = chunk_keys(source->capacity),
                                            .dense_rows = dense_rows,
                                            .chunks = chunk_count(source->capacity),
                                            .last_queries = last_queries};
    TAMIS_TRY(launch_heads(maker, TAMISI_PATTERN_STATS, (unsigned)args.chunks, &args));
    TAMIS_TRY(tamisi_gpu_launch(maker->plan, TAMISI_PATTERN_MERGE, (unsigned)source->q_heads, (unsigned)source->batch, 1, &args,
                                maker->stream));
    return launch_heads(maker, TAMISI_PATTERN_LINES, (unsigned)args.chunks, &args);
}

/* What pattern_heads is told whatever the kind. */
static struct tamis_pattern_heads_args heads_args(const struct maker *maker)
{
    const int tiles = maker->lists->tiles;
    return (struct tamis_pattern_heads_args){.source = *maker->source,
                                             .vertical = at(maker, maker->parts.vertical),
                                             .slash = at(maker, maker->parts.slash),
                                             .sums = at(maker, maker->parts.sums),
                                             .chosen = at(maker, maker->parts.chosen),
                                             .modes = at(maker, maker->parts.modes),
                                             .least = 1,
                                             .most = tiles,
                                             .tiles = tiles,
                                             .words = (tiles + 31) / 32};
}

static tamis_status launch_pattern_heads(const struct maker *maker, struct tamis_pattern_heads_args *args)
{
    return tamisi_gpu_launch(maker->plan, TAMISI_PATTERN_HEADS, (unsigned)maker->source->q_heads,
                             (unsigned)maker->source->batch, 1, args, maker->stream);
}

static struct tamis_pattern_pairs_args pairs_args(const struct maker *maker)
{
    return (struct tamis_pattern_pairs_args){.lists = *maker->lists,
                                             .chosen = at(maker, maker->parts.chosen),
                                             .modes = at(maker, maker->parts.modes),
                                             .cut = at(maker, maker->parts.cut),
                                             .ties_before = at(maker, maker->parts.ties_before),
                                             .kept = maker->source->kept,
                                             .seq_len = maker->source->seq_len,
                                             .gamma = maker->plan->pattern.flexprefill.gamma,
                                             .q_heads = maker->source->q_heads,
                                             .words = (maker->lists->tiles + 31) / 32};
}

static tamis_status launch_pattern_lists(const struct maker *maker, struct tamis_pattern_pairs_args *args)
{
    const int warps = tamisi_gpu_entry(maker->plan, TAMISI_PATTERN_LISTS)->block_m;
    return launch_heads(maker, TAMISI_PATTERN_LISTS, tamisi_gpu_tiles(maker->lists->tiles, warps), args);
}

static tamis_status make_vertical_slash(const struct maker *maker)
{
    const tamis_pattern *pattern = &maker->plan->pattern;
    struct tamis_pattern_heads_args heads = heads_args(maker);
    struct tamis_pattern_pairs_args pairs = pairs_args(maker);
    heads.coverage = pattern->vertical_slash.coverage;
    heads.vertical_lines = pattern->vertical_slash.vertical_lines;
    heads.slash_lines = pattern->vertical_slash.slash_lines;
    TAMIS_TRY(launch_lines(maker, pattern->vertical_slash.last_queries, 0));
    TAMIS_TRY(launch_pattern_heads(maker, &heads));
    return launch_pattern_lists(maker, &pairs);
}

/* Tokens to blocks, as many as T where there are no more. */
static int blocks_of(const struct maker *maker, int64_t tokens)
{
    const int tiles = maker->lists->tiles;
    return tokens < (int64_t)tiles * TAMIS_BLOCK ? (int)((tokens + TAMIS_BLOCK - 1) / TAMIS_BLOCK) : tiles;
}

static tamis_status make_flexprefill(const struct maker *maker)
{
    const tamis_pattern *pattern = &maker->plan->pattern;
    struct tamis_pattern_heads_args heads = heads_args(maker);
    struct tamis_pattern_pairs_args pairs = pairs_args(maker);
    if (pattern->flexprefill.min_tokens > 0) heads.least = blocks_of(maker, pattern->flexprefill.min_tokens);
    if (pattern->flexprefill.max_tokens > 0) heads.most = blocks_of(maker, pattern->flexprefill.max_tokens);
    heads.dense_rows = (long long)heads.least * TAMIS_BLOCK;
    if (heads.dense_rows < 2 * TAMIS_BLOCK) heads.dense_rows = 2 * TAMIS_BLOCK;
    heads.coverage = pattern->flexprefill.gamma;
    heads.tau = pattern->flexprefill.tau;
    heads.mean_k = at(maker, maker->parts.mean_k);
    TAMIS_TRY(launch_means(maker));
    TAMIS_TRY(launch_lines(maker, TAMIS_PATTERN_QUERIES, heads.dense_rows));
    TAMIS_TRY(launch_pattern_heads(maker, &heads));
    TAMIS_TRY(launch_products(maker, heads.modes));
    TAMIS_TRY(launch_heads(maker, TAMISI_PATTERN_SOFTEN, (unsigned)maker->lists->tiles, &pairs));
    TAMIS_TRY(tamisi_gpu_launch(maker->plan, TAMISI_PATTERN_CUT, (unsigned)maker->source->q_heads,
                                (unsigned)maker->source->batch, 1, &pairs, maker->stream));
    return launch_pattern_lists(maker, &pairs);
}

/* Blocks of `rows` reduced rows that there is scratch for, and of which an SM has `an_sm` at once. */
static unsigned xattn_blocks(const tamis_plan *plan, int rows, int an_sm)
{
    const long long at_once = (long long)an_sm * ((const struct tamisi_gpu *)plan->context->state)->sm_count;
    const long long slots = xattn_rows(plan->context, &plan->problem, &plan->facts, plan->pattern.xattention.stride) / rows;
    return (unsigned)(slots < at_once ? slots : at_once);
}

static tamis_status xattn_map(struct tamis_tensor_map *out, const struct maker *maker, const struct tamis_rows *tensor,
                              int heads, long long rows, int box)
{
    const int stride = maker->plan->pattern.xattention.stride;
    return rows < stride ? TAMIS_OK : tamisi_gpu_strided_map(out, maker->plan, tensor, heads, rows, stride, box);
}

static tamis_status launch_xattn_tma(const struct maker *maker, const struct tamis_pattern_xattn_args *xattn)
{
    const tamis_plan *plan = maker->plan;
    const struct tamis_pattern_source *source = maker->source;
    const struct tamisi_entry *entry = tamisi_gpu_entry(plan, TAMISI_PATTERN_XATTN_TMA);
    const unsigned cluster = TAMIS_PATTERN_XATTN_CLUSTER, blocks = xattn_blocks(plan, entry->block_m, 1) / cluster * cluster;
    struct tamis_pattern_xattn_tma_args args = {.xattn = *xattn};
    if (!source->indices)
        TAMIS_TRY(xattn_map(&args.q, maker, &source->q, source->q_heads, source->capacity, entry->block_m));
    TAMIS_TRY(xattn_map(&args.k, maker, &source->k, source->compact_heads, source->capacity, entry->block_n));
    if (source->k_full.data)
        TAMIS_TRY(xattn_map(&args.k_full, maker, &source->k_full, source->kv_heads, source->seq_len, entry->block_n));
    return tamisi_gpu_launch_clusters(plan, TAMISI_PATTERN_XATTN_TMA, cluster, blocks, 1, 1, &args, maker->stream);
}

static tamis_status launch_xattn(const struct maker *maker, struct tamis_pattern_xattn_args *args)
{
    const struct tamisi_entry *entry = tamisi_gpu_entry(maker->plan, TAMISI_PATTERN_XATTN);
    const unsigned blocks = xattn_blocks(maker->plan, entry->block_m, entry->block_n);
    return tamisi_gpu_launch(maker->plan, TAMISI_PATTERN_XATTN, blocks, 1, 1, args, maker->stream);
}

static tamis_status make_xattention(const struct maker *maker)
{
    const tamis_plan *plan = maker->plan;
    struct tamis_pattern_xattn_args args = {.source = *maker->source,
                                            .lists = *maker->lists,
                                            .scratch = at(maker, maker->parts.rows),
                                            .stride = plan->pattern.xattention.stride};
    TAMIS_TRY(tamisi_gpu_has(plan, TAMISI_PATTERN_XATTN_TMA) ? launch_xattn_tma(maker, &args) : launch_xattn(maker, &args));
    return launch_choose(maker, plan->pattern.xattention.threshold);
}

static tamis_status make_topk(const struct maker *maker)
{
    TAMIS_TRY(launch_means(maker));
    TAMIS_TRY(launch_products(maker, NULL));
    return launch_choose(maker, 0);
}

tamis_status tamisi_gpu_make_lists(const tamis_plan *plan, const struct tamis_pattern_source *source,
                                   const struct tamis_block_lists *lists, char *workspace, tamis_stream stream)
{
    struct maker maker = {.plan = plan, .source = source, .lists = lists, .base = workspace + plan->workspace.maker,
                          .stream = stream};
    cut_scratch(&maker.parts, plan->context, &plan->problem, &plan->facts, &plan->pattern);
    switch (plan->pattern.kind) {
    case TAMIS_PATTERN_SLIDING: return launch_sliding(&maker, (unsigned *)(void *)(workspace + plan->workspace.block_masks));
    case TAMIS_PATTERN_VERTICAL_SLASH: return make_vertical_slash(&maker);
    case TAMIS_PATTERN_FLEXPREFILL: return make_flexprefill(&maker);
    case TAMIS_PATTERN_XATTENTION: return make_xattention(&maker);
    case TAMIS_PATTERN_TOPK_BLOCKS: return make_topk(&maker);
    default: return TAMIS_OK;
    }
}
