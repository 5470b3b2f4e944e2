/*
 * cpu_pattern_blocks.c: the patterns SLIDING and TOPK_BLOCKS on the CPU. Their definitions are in cpu_pattern.h, as are
 * their places in the order of files.
 */
#include "cpu_pattern.h"

#include <math.h>
#include <string.h>

/* ---- sliding */

/*
 * How a block is seen depends on its distance d = i - j, in blocks, and on where the sink ends. Between the last d of which the
 * window covers the whole block and the first of which it covers nothing lie one or two, first_partial and perhaps the next.
 */
enum { MASK_WINDOW, MASK_WINDOW_NEXT, MASK_BOTH, MASK_BOTH_NEXT, MASK_SINK, MASKS };
_Static_assert(MASKS <= TAMISI_PATTERN_MASKS, "the workspace has room for them");

static long long first_partial(const tamis_pattern *pattern)
{
    return pattern->sliding.window_tokens / TAMIS_BLOCK_SIZE;
}

/* `window`: what of it is left at the block's distance: query q sees key k where q - k is less. `sink`: keys before it. */
static void fill_mask(uint32_t *mask, int window, int sink)
{
    memset(mask, 0, TAMIS_BLOCK_MASK_WORDS * sizeof *mask);
    for (int q = 0; q < TAMIS_BLOCK_SIZE; q++)
        for (int k = 0; k < TAMIS_BLOCK_SIZE; k++)
            if (q - k < window || k < sink) mask[q * (TAMIS_BLOCK_SIZE / 32) + k / 32] |= 1u << k % 32;
}

void tamisi_cpu_sliding_masks(uint32_t *masks, const tamis_pattern *pattern)
{
    const int first = (int)(pattern->sliding.window_tokens % TAMIS_BLOCK_SIZE), next = first - TAMIS_BLOCK_SIZE;
    const int sink = (int)(pattern->sliding.sink_tokens % TAMIS_BLOCK_SIZE), none = -TAMIS_BLOCK_SIZE;
    fill_mask(masks + MASK_WINDOW * TAMIS_BLOCK_MASK_WORDS, first, 0);
    fill_mask(masks + MASK_WINDOW_NEXT * TAMIS_BLOCK_MASK_WORDS, next, 0);
    fill_mask(masks + MASK_BOTH * TAMIS_BLOCK_MASK_WORDS, first, sink);
    fill_mask(masks + MASK_BOTH_NEXT * TAMIS_BLOCK_MASK_WORDS, next, sink);
    fill_mask(masks + MASK_SINK * TAMIS_BLOCK_MASK_WORDS, none, sink);
}

/* The entry of block (i, j), or -1. */
static int32_t sliding_entry(const tamis_pattern *pattern, long long i, long long j)
{
    const long long window = pattern->sliding.window_tokens, sink = pattern->sliding.sink_tokens;
    const long long distance = (i - j) * TAMIS_BLOCK_SIZE, first = first_partial(pattern);
    const bool whole = j < sink / TAMIS_BLOCK_SIZE || distance + TAMIS_BLOCK_SIZE - 1 < window;
    const bool in_window = distance - (TAMIS_BLOCK_SIZE - 1) < window;
    const bool in_sink = j == sink / TAMIS_BLOCK_SIZE && sink % TAMIS_BLOCK_SIZE > 0;
    if (whole) return (int32_t)j;
    if (!in_window && !in_sink) return -1;
    int mask = MASK_SINK;
    if (in_window) mask = (in_sink ? MASK_BOTH : MASK_WINDOW) + (i - j > first);
    return (int32_t)((mask + 1) << TAMIS_BLOCK_BITS | j);
}

void tamisi_cpu_make_sliding(const struct tamisi_cpu_maker *maker)
{
    const tamis_pattern *pattern = maker->pattern;
    const long long sink_end = tamisi_cpu_tiles(pattern->sliding.sink_tokens, TAMIS_BLOCK_SIZE);
    const long long window_blocks = (pattern->sliding.window_tokens - 1) / TAMIS_BLOCK_SIZE + 2;
    for (long long i = 0; i < maker->blocks; i++) {
        int32_t *list = maker->list + i * maker->row;
        int count = 0;
        for (long long j = 0; j <= i; j++) {
            if (j >= sink_end && j < i - window_blocks) j = i - window_blocks; /* nothing between sink and window */
            const int32_t entry = sliding_entry(pattern, i, j);
            if (entry >= 0) list[count++] = entry;
        }
        maker->count[i] = count;
    }
}

/* ---- the best blocks by means */

static long long wanted(const tamis_pattern *pattern, long long blocks)
{
    const long long most = pattern->topk_blocks.blocks;
    if (most > 0) return most < blocks ? most : blocks;
    const long long part = (long long)ceil(pattern->topk_blocks.ratio * (double)blocks);
    return part < blocks ? part : blocks;
}

static void topk_task(void *argument, long long i)
{
    const struct tamisi_cpu_maker *maker = argument;
    const struct tamisi_cpu_maker_memory *memory = &maker->memory;
    struct tamisi_cpu_item *items = memory->items + tamisi_cpu_triangle(i);
    unsigned char *chosen = memory->chosen + tamisi_cpu_triangle(i);
    for (long long j = 0; j <= i; j++)
        items[j] = (struct tamisi_cpu_item){tamisi_cpu_maker_dot(memory->mean_q + i * maker->head_dim,
                                                                 memory->mean_k + j * maker->head_dim, maker->head_dim),
                                            j};
    tamisi_cpu_items_sort(items, i + 1);
    memset(chosen, 0, (size_t)i + 1);
    for (long long rank = 0; rank < wanted(maker->pattern, i + 1); rank++) chosen[items[rank].at] = 1;
    tamisi_cpu_maker_list(maker, (int)i, chosen);
}

void tamisi_cpu_make_topk(const struct tamisi_cpu_maker *maker)
{
    struct tamisi_cpu_maker work = *maker;
    tamisi_cpu_maker_means(maker);
    tamisi_cpu_threads_run(maker->threads, maker->blocks, topk_task, &work);
}
