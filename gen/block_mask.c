/*
 * block_mask.c: see block_mask.h.
 */
#include "block_mask.h"

#include "error.h"
#include "npy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t *row_of(const struct block_mask *mask, long long head, int tile)
{
    return mask->bits + (head * mask->tiles + tile) * mask->words;
}

static tamis_status make(struct block_mask *out, long long heads, int tiles)
{
    *out = (struct block_mask){.heads = heads, .tiles = tiles, .words = (tiles + 31) / 32};
    out->bits = calloc((size_t)(heads * tiles) + 1, (size_t)out->words * sizeof *out->bits);
    return out->bits ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for %lld heads of %d blocks", heads, tiles);
}

static void set(struct block_mask *mask, long long head, int tile, int block)
{
    row_of(mask, head, tile)[block / 32] |= 1u << block % 32;
}

void block_mask_free(struct block_mask *mask)
{
    free(mask->bits);
    *mask = (struct block_mask){.bits = NULL};
}

tamis_status block_mask_copy(struct block_mask *out, const struct block_mask *mask)
{
    TAMIS_TRY(make(out, mask->heads, mask->tiles));
    memcpy(out->bits, mask->bits, block_mask_bytes(mask));
    return TAMIS_OK;
}

bool block_mask_has(const struct block_mask *mask, long long head, int tile, int block)
{
    return row_of(mask, head, tile)[block / 32] >> block % 32 & 1;
}

size_t block_mask_bytes(const struct block_mask *mask)
{
    return (size_t)(mask->heads * mask->tiles) * (size_t)mask->words * sizeof *mask->bits;
}

/* ---- made at random */

static unsigned long long next_random(unsigned long long *state)
{
    unsigned long long z = *state += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* Each of the `before` blocks is taken with the chance that leaves just `wanted` of them in the end. */
static void choose(struct block_mask *mask, long long head, int tile, int wanted, unsigned long long *state)
{
    for (int block = 0; block < tile && wanted > 0; block++) {
        if (next_random(state) % (unsigned long long)(tile - block) >= (unsigned long long)wanted) continue;
        set(mask, head, tile, block);
        wanted--;
    }
}

tamis_status block_mask_random(struct block_mask *out, long long heads, int tiles, double density, unsigned long long seed)
{
    TAMIS_TRY(make(out, heads, tiles));
    for (long long head = 0; head < heads; head++)
        for (int tile = 0; tile < tiles; tile++) {
            const int wanted = (int)lround(density * (tile + 1)) - 1;
            set(out, head, tile, tile);
            choose(out, head, tile, wanted, &seed);
        }
    return TAMIS_OK;
}

/* ---- read */

static bool fits(const struct npy *npy, int batch, int q_heads, int tiles)
{
    return npy->rank == 4 && (npy->type == NPY_I32 || npy->type == NPY_U16) && (npy->shape[0] == batch || npy->shape[0] == 1) &&
           (npy->shape[1] == q_heads || npy->shape[1] == 1) && npy->shape[2] == tiles && npy->shape[3] == tiles;
}

static bool is_set(const struct npy *npy, long long at)
{
    return npy->type == NPY_I32 ? ((const int32_t *)npy->data)[at] != 0 : ((const uint16_t *)npy->data)[at] != 0;
}

static void fill(struct block_mask *out, const struct npy *npy, int q_heads)
{
    const long long batch = npy->shape[0], heads = npy->shape[1], tiles = out->tiles;
    for (long long head = 0; head < out->heads; head++) {
        const long long from = head / q_heads % batch * heads + head % q_heads % heads;
        for (int tile = 0; tile < tiles; tile++)
            for (int block = 0; block <= tile; block++)
                if (is_set(npy, (from * tiles + tile) * tiles + block)) set(out, head, tile, block);
    }
}

tamis_status block_mask_read(struct block_mask *out, const char *path, int batch, int q_heads, int tiles)
{
    struct npy npy;
    *out = (struct block_mask){.bits = NULL};
    TAMIS_TRY(npy_read(&npy, path));
    tamis_status status = TAMIS_OK;
    if (!fits(&npy, batch, q_heads, tiles))
        status = tamisi_fail(TAMIS_EINVAL, "%s: blocks must be int32 or uint16 (%d, %d, %d, %d), or 1 for the first two", path,
                             batch, q_heads, tiles, tiles);
    if (status == TAMIS_OK) status = make(out, (long long)batch * q_heads, tiles);
    if (status == TAMIS_OK) fill(out, &npy, q_heads);
    npy_free(&npy);
    return status;
}

/* ---- counted and listed */

static int count_row(const struct block_mask *mask, long long head, int tile)
{
    const uint32_t *row = row_of(mask, head, tile);
    int count = 0;
    for (int i = 0; i < mask->words; i++) count += __builtin_popcount(row[i]);
    return count;
}

long long block_mask_count(const struct block_mask *mask)
{
    long long count = 0;
    for (long long head = 0; head < mask->heads; head++)
        for (int tile = 0; tile < mask->tiles; tile++) count += count_row(mask, head, tile);
    return count;
}

double block_mask_pairs(const struct block_mask *mask, long long rows)
{
    double pairs = 0;
    for (long long head = 0; head < mask->heads; head++)
        for (int tile = 0; tile < mask->tiles; tile++) {
            const long long left = rows - (long long)tile * TAMIS_BLOCK_SIZE;
            const double queries = (double)(left < TAMIS_BLOCK_SIZE ? left : TAMIS_BLOCK_SIZE);
            const bool own = block_mask_has(mask, head, tile, tile);
            pairs += queries * TAMIS_BLOCK_SIZE * (count_row(mask, head, tile) - own) + (own ? queries * queries / 2 : 0);
        }
    return pairs;
}

tamis_status block_mask_lists(const struct block_mask *mask, int32_t **count, int32_t **list)
{
    const size_t rows = (size_t)(mask->heads * mask->tiles);
    *count = calloc(rows + 1, sizeof **count);
    *list = calloc(rows * (size_t)mask->tiles + 1, sizeof **list);
    if (!*count || !*list) {
        free(*count), free(*list);
        return tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu lists of blocks", rows);
    }
    for (size_t row = 0; row < rows; row++) {
        const long long head = (long long)row / mask->tiles;
        const int tile = (int)((long long)row % mask->tiles);
        for (int block = 0; block <= tile; block++)
            if (block_mask_has(mask, head, tile, block)) (*list)[row * (size_t)mask->tiles + (size_t)(*count)[row]++] = block;
    }
    return TAMIS_OK;
}
