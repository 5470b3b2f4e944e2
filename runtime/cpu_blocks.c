/*
 * cpu_blocks.c: block-sparse attention on the CPU: lists of blocks out of the other forms that a host has them in, and step 6
 * on lists. The arithmetic is in cpu_tile.inc.
 */
#include "cpu_stage.h"

/* ---- lists out of bits and rows */

struct list_work {
    const tamis_blocks *blocks;
    const struct tamisi_cpu_lists *lists;
    int tiles;
    bool from_bits;
};

static int list_bits(int32_t *list, const uint32_t *bits, int last)
{
    int count = 0;
    for (int j = 0; j <= last; j++)
        if (bits[j / 32] >> j % 32 & 1) list[count++] = j;
    return count;
}

/* What `offsets` say is kept to the array, whatever it is. */
static int list_row(int32_t *list, const tamis_blocks *blocks, int64_t row, int last)
{
    int64_t at = blocks->offsets[row], end = blocks->offsets[row + 1];
    int count = 0;
    if (at < 0) at = 0;
    if (end > blocks->column_count) end = blocks->column_count;
    for (; at < end && count <= last; at++)
        if (tamisi_cpu_block_of(blocks->columns[at]) <= last) list[count++] = blocks->columns[at];
    return count;
}

static void list_tile(void *argument, long long index)
{
    const struct list_work *work = argument;
    const int last = (int)(index % work->tiles), words = (work->tiles + 31) / 32;
    int32_t *list = work->lists->list + index * work->lists->row;
    work->lists->count[index] = work->from_bits ? list_bits(list, work->blocks->bits + index * words, last)
                                                : list_row(list, work->blocks, index, last);
}

void tamisi_cpu_list_blocks(const tamis_plan *plan, const tamis_blocks *blocks, const struct tamisi_cpu_lists *lists)
{
    struct list_work work = {.blocks = blocks,
                             .lists = lists,
                             .tiles = tamisi_pattern_tiles(&plan->facts),
                             .from_bits = plan->pattern.host_blocks.form == TAMIS_BLOCKS_BITS};
    tamisi_cpu_threads_run(tamisi_cpu_of(plan)->threads, (long long)plan->problem.batch * plan->problem.q_heads * work.tiles,
                           list_tile, &work);
}

/* ---- attention */

struct attend_work {
    const tamis_plan *plan;
    const struct tamisi_cpu_attend_args *args;
    const struct tamisi_cpu_lists *lists;
    long long tiles; /* of TAMISI_CPU_TILE rows, of the capacity */
};

/* Blocks behind the query block's own are left out, and they are the last ones: an ascending list is cut short. */
static struct tamisi_cpu_list list_of(const struct attend_work *work, long long row, long long block)
{
    const struct tamisi_cpu_lists *lists = work->lists;
    const long long at = row * tamisi_pattern_tiles(&work->plan->facts) + block;
    struct tamisi_cpu_list list = {.entries = lists->list + at * lists->row,
                                   .count = lists->count[at],
                                   .masks = lists->masks,
                                   .mask_count = lists->mask_count};
    if (list.count > lists->row) list.count = lists->row;
    while (list.count > 0 && tamisi_cpu_block_of(list.entries[list.count - 1]) > block) list.count--;
    return list;
}

static void attend_tile(void *argument, long long index)
{
    const struct attend_work *work = argument;
    struct tamisi_cpu_attend attend;
    struct tamisi_cpu_place place;
    if (!tamisi_cpu_attend_tile(&attend, &place, work->plan, work->args, work->tiles, index)) return;
    const struct tamisi_cpu_list list = list_of(work, place.row, place.first / TAMIS_BLOCK);
    tamisi_cpu_of(work->plan)->arithmetic->attend_list(&attend, &list, place.first);
}

void tamisi_cpu_attend_blocks(const tamis_plan *plan, const struct tamisi_cpu_attend_args *args,
                              const struct tamisi_cpu_lists *lists)
{
    struct attend_work work = {plan, args, lists, tamisi_cpu_tiles(plan->facts.capacity, TAMISI_CPU_TILE)};
    tamisi_cpu_threads_run(tamisi_cpu_of(plan)->threads, (long long)plan->problem.batch * plan->problem.q_heads * work.tiles,
                           attend_tile, &work);
}
