/*
 * pattern_case.h: block patterns for the tests: inputs that Python makes too, the patterns by brute force, and lists compared
 * with them. For the CPU's suites and for tests/gpu.
 */
#ifndef PATTERN_CASE_H
#define PATTERN_CASE_H

#include "tamis.h"

#include <stdbool.h>
#include <stddef.h>

/* Which Q and K; the rows of each head differ. Elements are multiples of 1/64 below 4, exact in either dtype. */
enum pattern_input {
    PATTERN_NOISE,  /* no structure: all blocks much alike */
    PATTERN_MODEL,  /* as attention of a model: sinks, a local band, heavy hitters far apart */
    PATTERN_BLOCKS, /* rows of a block much alike, so that their means tell what is attended to */
    PATTERN_INPUTS
};

/* A (heads, rows, dim) tensor: Q (is_query) or K, of batch sequence `sequence`. */
void pattern_fill(uint16_t *out, enum pattern_input input, bool is_query, int sequence, int heads, long long rows, int dim,
                  tamis_dtype dtype);

struct pattern_case {
    const tamis_pattern *pattern;
    int batch, q_heads, kv_heads, head_dim;
    long long capacity;  /* C: rows of each head of q and k, of which kept[b] count; kept NULL: all */
    const int32_t *kept;
    tamis_dtype dtype;
    double scale;
    const uint16_t *q, *k; /* (B, H, C, D) */
};

int pattern_tiles(const struct pattern_case *c); /* T */

/* What holds for a block: not listed, listed, or either, being within `slack`, relative, of where the choice ends. */
enum { PATTERN_OUT, PATTERN_IN, PATTERN_EITHER };

/* (B, Hq, T, T), owned by the caller. Not of SLIDING. Slow. */
unsigned char *pattern_brute(const struct pattern_case *c, double slack);

/*
 * Lists (B, Hq, T, row) against it: NULL if they are as they should be, else what is wrong, in a buffer of this thread.
 * `either` counts blocks that might have been decided otherwise; may be NULL.
 */
const char *pattern_compare(const struct pattern_case *c, const unsigned char *decisions, const int32_t *count,
                            const int32_t *list, int row, long long *either);

/* SLIDING, to the token. */
const char *pattern_compare_sliding(const struct pattern_case *c, const int32_t *count, const int32_t *list, int row,
                                    const uint32_t *masks);

#endif
