/*
 * gpu_blocks.c: block patterns on the GPU: lists out of the forms that a host has them in, and attention (step 6) on lists: on
 * a grid of tiles, or on persistent blocks that take tiles in an order made on the device. Beside gpu_attend.c, below
 * gpu_stages.c's run.
 */
#include "gpu.h"

#include <limits.h>

#define SECTION_BYTES (32ll << 20) /* K and V whose heads are worked on together, to stay in L2: as attend_wgmma has it */
#define SECTION_TILES 65536        /* one block puts a section's tiles in order */

static void *at(char *workspace, size_t offset) { return workspace + offset; }

/* Of lists that serve both for writing and for reading: these are read. */
static void *only_read(const void *array) { return (void *)(uintptr_t)array; }

static long long all_heads(const tamis_plan *plan) { return (long long)plan->problem.batch * plan->problem.q_heads; }

tamis_status tamisi_gpu_blocks_check(const tamis_plan *plan)
{
    if (plan->pattern.kind == TAMIS_PATTERN_NONE || tamisi_pattern_tiles(&plan->facts) <= INT_MAX / all_heads(plan))
        return TAMIS_OK;
    return tamisi_fail(TAMIS_EUNSUPPORTED, "batch * q_heads * seq_len is too large for block patterns");
}

/* ---- lists */

/* Lists in the workspace, with the maker's masks or the host's. */
static struct tamis_block_lists workspace_lists(const tamis_plan *plan, const tamis_blocks *blocks, char *workspace)
{
    const struct tamisi_workspace *parts = &plan->workspace;
    const int tiles = tamisi_pattern_tiles(&plan->facts);
    struct tamis_block_lists lists = {.count = at(workspace, parts->block_count),
                                      .list = at(workspace, parts->block_list),
                                      .tiles = tiles,
                                      .row = tamisi_pattern_row(&plan->pattern, tiles)};
    if (tamisi_pattern_has_masks(&plan->pattern)) {
        lists.masks = at(workspace, parts->block_masks);
        lists.mask_count = TAMISI_PATTERN_MASKS;
    } else if (blocks) {
        lists.masks = blocks->masks;
        lists.mask_count = blocks->mask_count;
    }
    return lists;
}

/* Lists that the caller has. Without masks of their own they refer to those that the plan's maker has left. */
static struct tamis_block_lists given_lists(const tamis_plan *plan, const tamis_blocks *blocks, char *workspace)
{
    struct tamis_block_lists lists = workspace_lists(plan, blocks, workspace);
    lists.count = only_read(blocks->count);
    lists.list = only_read(blocks->list);
    lists.row = lists.tiles;
    if (blocks->masks) {
        lists.masks = blocks->masks;
        lists.mask_count = blocks->mask_count;
    }
    return lists;
}

/* One warp a list; a kernel's block_m is its warps. */
static tamis_status launch_lists(const tamis_plan *plan, enum tamisi_stage stage, int tiles, void *args, tamis_stream stream)
{
    const unsigned blocks = tamisi_gpu_tiles(tiles, tamisi_gpu_entry(plan, stage)->block_m);
    return tamisi_gpu_launch(plan, stage, blocks, (unsigned)plan->problem.q_heads, (unsigned)plan->problem.batch, args, stream);
}

static tamis_status list_host_blocks(const tamis_plan *plan, const tamis_blocks *blocks, const struct tamis_block_lists *lists,
                                     tamis_stream stream)
{
    if (plan->pattern.host_blocks.form == TAMIS_BLOCKS_BITS) {
        struct tamis_blocks_bits_args args = {
            .lists = *lists, .bits = blocks->bits, .words = (lists->tiles + 31) / 32, .q_heads = plan->problem.q_heads};
        return launch_lists(plan, TAMISI_BLOCKS_BITS, lists->tiles, &args, stream);
    }
    struct tamis_blocks_rows_args args = {.lists = *lists,
                                          .offsets = (const long long *)blocks->offsets,
                                          .columns = blocks->columns,
                                          .column_count = blocks->column_count,
                                          .q_heads = plan->problem.q_heads};
    return launch_lists(plan, TAMISI_BLOCKS_ROWS, lists->tiles, &args, stream);
}

/* What makes a plan's lists. */
static tamis_status make_lists(const tamis_plan *plan, const struct tamis_pattern_source *source, const tamis_blocks *blocks,
                               const struct tamis_block_lists *lists, char *workspace, tamis_stream stream)
{
    if (plan->pattern.kind == TAMIS_PATTERN_HOST_BLOCKS) return list_host_blocks(plan, blocks, lists, stream);
    return tamisi_gpu_make_lists(plan, source, lists, workspace, stream);
}

/* Q and K as attention finds them. */
static struct tamis_pattern_source source_of(const tamis_plan *plan, const struct tamis_attend_args *args)
{
    return (struct tamis_pattern_source){.q = args->q,
                                         .k = args->k,
                                         .k_full = args->k_full,
                                         .kept = args->kept,
                                         .indices = args->indices,
                                         .seq_len = args->seq_len,
                                         .capacity = args->capacity,
                                         .batch = plan->problem.batch,
                                         .q_heads = args->q_heads,
                                         .kv_heads = args->kv_heads,
                                         .compact_heads = args->compact_heads,
                                         .index_heads = args->index_heads,
                                         .scale_log2 = args->scale_log2};
}

/* ---- attention on lists */

/* Heads whose tiles are handed out together: as attend_wgmma's section_heads, and few enough for one block to order. */
static int section_heads(const tamis_plan *plan, const struct tamis_attend_args *attend, int tiles)
{
    const long long head_bytes = attend->capacity * 4 * plan->problem.head_dim; /* of K and V */
    const long long group = attend->q_heads / attend->compact_heads, heads_kv = all_heads(plan) / group;
    long long most = SECTION_BYTES / head_bytes;
    if (most > SECTION_TILES / (group * tiles)) most = SECTION_TILES / (group * tiles);
    if (most > heads_kv) most = heads_kv;
    if (most < 1) most = 1;
    const long long sections = (heads_kv + most - 1) / most;
    return (int)((heads_kv + sections - 1) / sections * group);
}

static tamis_status launch_order(const tamis_plan *plan, const struct tamis_attend_args *attend,
                                 const struct tamis_block_lists *lists, char *workspace, tamis_stream stream)
{
    struct tamis_blocks_order_args args = {.count = lists->count,
                                           .kept = attend->kept,
                                           .order = at(workspace, plan->workspace.block_order),
                                           .counter = at(workspace, plan->workspace.counter),
                                           .seq_len = attend->seq_len,
                                           .tiles = lists->tiles,
                                           .heads = (int)all_heads(plan),
                                           .q_heads = attend->q_heads,
                                           .section_heads = section_heads(plan, attend, lists->tiles)};
    return tamisi_gpu_launch(plan, TAMISI_BLOCKS_ORDER, tamisi_gpu_tiles(args.heads, args.section_heads), 1, 1, &args, stream);
}

static tamis_status launch_tma(const tamis_plan *plan, const struct tamis_attend_args *attend,
                               const struct tamis_block_lists *lists, char *workspace, tamis_stream stream)
{
    const struct tamisi_entry *entry = tamisi_gpu_entry(plan, TAMISI_ATTEND_BLOCKS_TMA);
    const long long capacity = plan->facts.capacity, full = attend->seq_len;
    struct tamis_attend_blocks_tma_args args = {.attend = *attend,
                                                .blocks = *lists,
                                                .order = at(workspace, plan->workspace.block_order),
                                                .heads = (int)all_heads(plan),
                                                .counter = at(workspace, plan->workspace.counter)};
    TAMIS_TRY(launch_order(plan, attend, lists, workspace, stream));
    if (!attend->indices)
        TAMIS_TRY(tamisi_gpu_map(&args.q, plan, &attend->q, attend->q_heads, capacity, entry->block_m));
    TAMIS_TRY(tamisi_gpu_map(&args.k, plan, &attend->k, attend->compact_heads, capacity, entry->block_n));
    TAMIS_TRY(tamisi_gpu_map(&args.v, plan, &attend->v, attend->compact_heads, capacity, entry->block_n));
    if (attend->k_full.data) {
        TAMIS_TRY(tamisi_gpu_map(&args.k_full, plan, &attend->k_full, attend->kv_heads, full, entry->block_n));
        TAMIS_TRY(tamisi_gpu_map(&args.v_full, plan, &attend->v_full, attend->kv_heads, full, entry->block_n));
    }
    return tamisi_gpu_launch_persistent(plan, TAMISI_ATTEND_BLOCKS_TMA, (long long)args.heads * lists->tiles, &args, stream);
}

static tamis_status attend_lists(const tamis_plan *plan, const struct tamis_attend_args *attend,
                                 const struct tamis_block_lists *lists, char *workspace, tamis_stream stream)
{
    if (tamisi_gpu_has(plan, TAMISI_ATTEND_BLOCKS_TMA)) return launch_tma(plan, attend, lists, workspace, stream);
    struct tamis_attend_blocks_args args = {.attend = *attend, .blocks = *lists};
    return tamisi_gpu_launch(plan, TAMISI_ATTEND_BLOCKS, (unsigned)lists->tiles, (unsigned)attend->q_heads,
                             (unsigned)plan->problem.batch, &args, stream);
}

tamis_status tamisi_gpu_attend_pattern(const tamis_plan *plan, struct tamis_attend_args *args, const tamis_blocks *blocks,
                                       char *workspace, tamis_stream stream)
{
    struct tamis_block_lists lists;
    tamisi_gpu_attend_fill(plan, args);
    if (plan->pattern.kind == TAMIS_PATTERN_HOST_BLOCKS && plan->pattern.host_blocks.form == TAMIS_BLOCKS_LISTS) {
        lists = given_lists(plan, blocks, workspace);
    } else {
        const struct tamis_pattern_source source = source_of(plan, args);
        lists = workspace_lists(plan, blocks, workspace);
        TAMIS_TRY(make_lists(plan, &source, blocks, &lists, workspace, stream));
    }
    return attend_lists(plan, args, &lists, workspace, stream);
}

/* ---- the steps as the API calls them */

tamis_status tamisi_gpu_make_blocks(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, const int32_t *kept,
                                    const tamis_blocks *blocks, int32_t *count, int32_t *list, char *workspace,
                                    tamis_stream stream)
{
    struct tamis_block_lists lists = workspace_lists(plan, blocks, workspace);
    struct tamis_attend_args args = {.kept = kept, .compact_heads = plan->facts.compact_heads};
    if (q) args.q = tamisi_gpu_rows_of(q);
    if (k) args.k = tamisi_gpu_rows_of(k);
    lists.count = count;
    lists.list = list;
    lists.row = lists.tiles;
    tamisi_gpu_attend_fill(plan, &args);
    const struct tamis_pattern_source source = source_of(plan, &args);
    TAMIS_TRY(tamisi_gpu_enter(plan->context));
    const tamis_status status = make_lists(plan, &source, blocks, &lists, workspace, stream);
    tamisi_gpu_leave(plan->context);
    return status;
}

tamis_status tamisi_gpu_attend_blocks(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                      const tamis_tensor *v, const int32_t *kept, const tamis_blocks *blocks,
                                      const tamis_tensor *output, float *lse, char *workspace, tamis_stream stream)
{
    struct tamis_attend_args args = tamisi_gpu_attend_compact(plan, q, k, v, kept, output, lse);
    const struct tamis_block_lists lists = given_lists(plan, blocks, workspace);
    tamisi_gpu_attend_fill(plan, &args);
    TAMIS_TRY(tamisi_gpu_enter(plan->context));
    const tamis_status status = attend_lists(plan, &args, &lists, workspace, stream);
    tamisi_gpu_leave(plan->context);
    return status;
}
