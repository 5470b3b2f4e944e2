/*
 * cpu_tile.c: cpu_tile.inc in both precisions. The text is the same; `real` and what depends on it are named here.
 */
#include "cpu_tile.h"

#include "block_args.h"
#include "half.h"

#include <math.h>
#include <string.h>

#define TILE TAMISI_CPU_TILE
#define HEAD_DIM_MAX TAMISI_CPU_HEAD_DIM_MAX

static long long min_of(long long a, long long b) { return a < b ? a : b; }

/* The place of row i. */
static long long place_of(const int32_t *indices, long long i) { return indices ? indices[i] : i; }

/* Does the entry's mask let row `query` of the block see its key `key`? */
static bool lets_see(const uint32_t *mask, int query, int key)
{
    return mask[query * (TAMIS_BLOCK / 32) + key / 32] >> key % 32 & 1;
}

/* The entry's mask; NULL: the block is whole. */
static const uint32_t *mask_of(const struct tamisi_cpu_list *list, int32_t entry)
{
    const int mask = (entry >> TAMIS_BLOCK_BITS) - 1;
    return mask >= 0 && mask < list->mask_count ? list->masks + (size_t)mask * TAMIS_BLOCK_MASK_WORDS : NULL;
}

#define real float
#define NAMED(name) name##_float
#define real_exp expf
#define real_log logf
#define real_read tamisi_half_read_float
#define real_write tamisi_half_write_float
#include "cpu_tile.inc"
const struct tamisi_cpu_arithmetic tamisi_cpu_float = {"fp32", attend_float, attend_list_float, score_lse_float,
                                                       score_mean_float};
#undef real
#undef NAMED
#undef real_exp
#undef real_log
#undef real_read
#undef real_write

#define real double
#define NAMED(name) name##_double
#define real_exp exp
#define real_log log
#define real_read tamisi_half_read_double
#define real_write tamisi_half_write_double
#include "cpu_tile.inc"
const struct tamisi_cpu_arithmetic tamisi_cpu_double = {"fp64", attend_double, attend_list_double, score_lse_double,
                                                        score_mean_double};
