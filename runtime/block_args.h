/*
 * block_args.h: what the host passes to the kernels of block-sparse attention, and how lists of blocks lie in memory. Beside
 * kernel_args.h, whose rules hold here too: read by gcc and by NVRTC, and a change of any struct, or of the grid that a kernel
 * expects, needs a new TAMIS_BLOCK_ABI.
 *
 * A block is 128 queries by 128 keys. Shapes as in tamis.h; T = ceil(C / 128) query blocks, and as many of keys.
 *
 * Lists, for each (sequence, query head, query block i): `count` (B, Hq, T), and `list` (B, Hq, T, row), its first `count`
 * entries the blocks of keys that are attended to, ascending, each at most i. Block i itself is masked causally, which takes
 * care of the keys behind a sequence's last too; i need not be listed. What lies behind the entries is never read. Lists of
 * query blocks behind a sequence's last row are never read either.
 *
 * An entry is the block's number in its low TAMIS_BLOCK_BITS bits. What lies above them is 0 for a block that all its queries
 * see whole (but for the diagonal), or m + 1 where row q of the block sees only the keys whose bits are set in mask m. A mask
 * is (128, 4) words of 32 bits, key k of query q bit k % 32 of word (q, k / 32), and may serve any number of entries. A query
 * that sees no key at all gets a row of zeros, and the log-sum-exp -inf.
 */
#ifndef TAMIS_BLOCK_ARGS_H
#define TAMIS_BLOCK_ARGS_H

#include "kernel_args.h"

#define TAMIS_BLOCK_ABI 1

#define TAMIS_BLOCK 128
#define TAMIS_BLOCK_BITS 20 /* of an entry: the block's number */
#define TAMIS_BLOCK_MASKS 2047 /* at most: entries stay positive */
#define TAMIS_BLOCK_MASK_WORDS 512

/* The lists of a run. */
struct tamis_block_lists {
    int *count;            /* (B, Hq, T) */
    int *list;             /* (B, Hq, T, row) */
    const unsigned *masks; /* (masks, 128, 4); 0: no entry has one */
    int mask_count;        /* entries with a mask behind the last count as whole */
    int tiles;             /* T */
    int row;               /* entries from one list to the next; at most T */
};

/* Where a pattern's maker finds queries and keys: as attention does. */
struct tamis_pattern_source {
    struct tamis_rows q;      /* (B, Hq, rows, D): full rows read through `indices` if given, else compact or dense ones */
    struct tamis_rows k;      /* (B, Hc, C, D) */
    struct tamis_rows k_full; /* (B, Hkv, L, D): read instead of k where kept[b] == L; data may be 0 */
    const int *kept;          /* (B), or 0: every sequence has seq_len rows */
    const int *indices;       /* (B, Hi, C), or 0: row i is row i */
    long long seq_len;        /* L */
    long long capacity;       /* C: bound on kept[b], from which grids are made */
    int batch;
    int q_heads;
    int kv_heads;      /* of k_full */
    int compact_heads; /* Hc, of k */
    int index_heads;   /* Hi */
    float scale_log2;
};

/* blocks_bits: lists from a bit mask (B, Hq, T, words), one warp a list. grid = (ceil(T / warps), Hq, B). */
struct tamis_blocks_bits_args {
    struct tamis_block_lists lists;
    const unsigned *bits; /* block j of a row: bit j % 32 of word j / 32; bits behind the diagonal are ignored */
    int words;            /* ceil(T / 32) */
    int q_heads;
};

/*
 * blocks_rows: lists from index arrays as BSR has them: row r = (b * Hq + h) * T + i has columns[offsets[r]] to
 * columns[offsets[r + 1] - 1], ascending; entries may carry masks. Those behind the diagonal are left out. Grid as blocks_bits.
 */
struct tamis_blocks_rows_args {
    struct tamis_block_lists lists;
    const long long *offsets; /* (B * Hq * T + 1) */
    const int *columns;
    long long column_count;
    int q_heads;
};

/* attend_blocks: step 6 on the listed blocks; otherwise as attend, causal. grid = (T, Hq, B). */
struct tamis_attend_blocks_args {
    struct tamis_attend_args attend;
    struct tamis_block_lists blocks;
};

/*
 * blocks_order: the order in which attend_blocks_tma takes tiles: a section's heads together, in it the longest lists first,
 * those alike from the last query block to the first. Clears the counter too. grid = (sections).
 */
struct tamis_blocks_order_args {
    const int *count; /* (B, Hq, T) */
    const int *kept;  /* (B) or 0: tiles behind a sequence's rows come last */
    int *order;       /* (B * Hq * T): (b * Hq + h) * T + i */
    unsigned *counter; /* set to 0 */
    long long seq_len;
    int tiles;         /* T */
    int heads;         /* B * Hq */
    int q_heads;
    int section_heads; /* of a section; the last one may have fewer */
};

/* attend_blocks_tma: the same with persistent blocks and the tensor copy engine (sm_90a), as attend_tma. */
struct tamis_attend_blocks_tma_args {
    struct tamis_tensor_map q; /* read where there are no indices; boxes of 128 rows */
    struct tamis_tensor_map k, v;
    struct tamis_tensor_map k_full, v_full; /* used where attend.k_full.data is given */
    struct tamis_attend_args attend;
    struct tamis_block_lists blocks;
    const int *order; /* as blocks_order made it */
    int heads;        /* B * Hq; tiles * heads fits 31 bits */
    unsigned *counter; /* 0 at the start; the tiles that blocks have taken beyond each one's first */
};

#endif /* TAMIS_BLOCK_ARGS_H */
