/*
 * block_mask.h: which blocks of 128 x 128 are attended to, as bits on the host: read from a file or made at random, counted,
 * and turned into lists. Layer: above npy and error; below runner and bench.
 */
#ifndef BLOCK_MASK_H
#define BLOCK_MASK_H

#include "tamis.h"

#include <stdbool.h>

/* TAMIS_BLOCKS_BITS as tamis.h has them. No block behind a query block's own is set. */
struct block_mask {
    long long heads; /* B * Hq */
    int tiles;       /* T */
    int words;       /* of a row */
    uint32_t *bits;  /* (heads, T, words), owned */
};

/*
 * Of query block i, itself and of the i before it as many at random as make `density` of the i + 1: the same number in every
 * head, at least one. TAMIS_ENOMEM.
 */
tamis_status block_mask_random(struct block_mask *out, long long heads, int tiles, double density, unsigned long long seed);

/*
 * An int32 or uint16 array (B, Hq, T, T), 0 where a block is left out; B and Hq may be 1, which stands for all. Statuses of
 * npy_read; TAMIS_EINVAL for another shape.
 */
tamis_status block_mask_read(struct block_mask *out, const char *path, int batch, int q_heads, int tiles);
tamis_status block_mask_copy(struct block_mask *out, const struct block_mask *mask); /* TAMIS_ENOMEM */
void block_mask_free(struct block_mask *mask);

bool block_mask_has(const struct block_mask *mask, long long head, int tile, int block);
long long block_mask_count(const struct block_mask *mask);                  /* blocks in all */
double block_mask_pairs(const struct block_mask *mask, long long rows); /* of queries and keys; half of a diagonal block's */
/* TAMIS_BLOCKS_LISTS: count (heads, T), list (heads, T, T); free() each. */
tamis_status block_mask_lists(const struct block_mask *mask, int32_t **count, int32_t **list);
size_t block_mask_bytes(const struct block_mask *mask); /* of the bits */

#endif
