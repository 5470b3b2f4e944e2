/*
 * cpu_rows.c: steps 5 and 7 on the CPU, which only move rows: kept rows together, and back to their places among zeros.
 */
#include "cpu_stage.h"

#include <math.h>
#include <string.h>

#define ROWS_TILE 256 /* rows moved together */

struct rows_work {
    const tamis_plan *plan;
    const tamis_tensor *full, *compact;
    int full_heads, heads; /* of full and of compact */
    const int32_t *kept, *indices;
    const float *compact_lse;
    float *lse;
    long long tiles;
};

/* The index list of a head of compact rows. */
static const int32_t *list_of(const struct rows_work *work, long long sequence, long long head)
{
    const struct tamisi_facts *facts = &work->plan->facts;
    return work->indices + (sequence * facts->index_heads + head / (work->heads / facts->index_heads)) * facts->capacity;
}

static void compress_tile(void *argument, long long index)
{
    const struct rows_work *work = argument;
    const long long row = index / work->tiles, first = index % work->tiles * ROWS_TILE;
    const long long sequence = row / work->heads, head = row % work->heads, kept = work->kept[sequence];
    const int32_t *indices = list_of(work, sequence, head);
    const struct tamisi_cpu_rows from = tamisi_cpu_rows_of(work->full, sequence, head / (work->heads / work->full_heads));
    const struct tamisi_cpu_rows to = tamisi_cpu_rows_of(work->compact, sequence, head);
    const size_t bytes = (size_t)work->plan->problem.head_dim * sizeof(uint16_t);
    for (long long i = first; i < kept && i < first + ROWS_TILE; i++)
        memcpy(to.data + i * to.stride, from.data + indices[i] * from.stride, bytes);
}

void tamisi_cpu_compress(const tamis_plan *plan, const tamis_tensor *source, int source_heads, const tamis_tensor *compact,
                         int heads, const int32_t *kept, const int32_t *indices)
{
    struct rows_work work = {.plan = plan,
                             .full = source,
                             .compact = compact,
                             .full_heads = source_heads,
                             .heads = heads,
                             .kept = kept,
                             .indices = indices,
                             .tiles = tamisi_cpu_tiles(plan->facts.capacity, ROWS_TILE)};
    tamisi_cpu_threads_run(tamisi_cpu_of(plan)->threads, (long long)plan->problem.batch * heads * work.tiles, compress_tile,
                           &work);
}

/* How many of the ascending indices are below `position`. */
static long long lower_bound(const int32_t *indices, long long count, long long position)
{
    long long low = 0, high = count;
    while (low < high) {
        const long long middle = low + (high - low) / 2;
        if (indices[middle] < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void decompress_tile(void *argument, long long index)
{
    const struct rows_work *work = argument;
    const long long row = index / work->tiles, first = index % work->tiles * ROWS_TILE;
    const long long sequence = row / work->heads, head = row % work->heads, kept = work->kept[sequence];
    const long long seq_len = work->plan->problem.seq_len, capacity = work->plan->facts.capacity;
    const int32_t *indices = list_of(work, sequence, head);
    const struct tamisi_cpu_rows to = tamisi_cpu_rows_of(work->full, sequence, head);
    const size_t bytes = (size_t)work->plan->problem.head_dim * sizeof(uint16_t);

    long long i = lower_bound(indices, kept, first); /* the next kept row */
    for (long long t = first; t < seq_len && t < first + ROWS_TILE; t++) {
        const bool is_kept = i < kept && indices[i] == t;
        if (!is_kept) {
            memset(to.data + t * to.stride, 0, bytes);
            if (work->lse) work->lse[row * seq_len + t] = -INFINITY;
        } else if (work->compact) {
            const struct tamisi_cpu_rows from = tamisi_cpu_rows_of(work->compact, sequence, head);
            memcpy(to.data + t * to.stride, from.data + i * from.stride, bytes);
            if (work->lse) work->lse[row * seq_len + t] = work->compact_lse[row * capacity + i];
        }
        i += is_kept;
    }
}

void tamisi_cpu_decompress(const tamis_plan *plan, const tamis_tensor *compact, const float *compact_lse,
                           const int32_t *kept, const int32_t *indices, const tamis_tensor *output, float *lse)
{
    const int heads = plan->problem.q_heads;
    struct rows_work work = {.plan = plan,
                             .full = output,
                             .compact = compact,
                             .full_heads = heads,
                             .heads = heads,
                             .kept = kept,
                             .indices = indices,
                             .compact_lse = compact_lse,
                             .lse = lse,
                             .tiles = tamisi_cpu_tiles(plan->problem.seq_len, ROWS_TILE)};
    tamisi_cpu_threads_run(tamisi_cpu_of(plan)->threads, (long long)plan->problem.batch * heads * work.tiles,
                           decompress_tile, &work);
}

tamis_status tamisi_cpu_check(const tamis_plan *plan, const int32_t *kept, const int32_t *indices)
{
    const struct tamisi_facts *facts = &plan->facts;
    for (int b = 0; b < plan->problem.batch; b++) {
        if (kept[b] < 1 || kept[b] > facts->capacity)
            return tamisi_fail(TAMIS_EINVAL, "kept[%d] is %d: 1 to the plan's capacity of %lld", b, kept[b],
                               facts->capacity);
        for (int h = 0; indices && h < facts->index_heads; h++) {
            const int32_t *list = indices + ((long long)b * facts->index_heads + h) * facts->capacity;
            for (int i = 0; i < kept[b]; i++)
                if (list[i] < 0 || list[i] >= plan->problem.seq_len || (i > 0 && list[i] <= list[i - 1]))
                    return tamisi_fail(TAMIS_EINVAL, "indices[%d, %d, %d] is %d: ascending positions below %lld", b, h, i,
                                       list[i], (long long)plan->problem.seq_len);
        }
    }
    return TAMIS_OK;
}
