/*
 * pattern_args.h: what the host passes to the kernels that make lists of blocks out of Q and K, one struct a stage. Beside
 * block_args.h, whose rules hold here too; a change of any struct, or of the grid that a kernel expects, needs a new
 * TAMIS_PATTERN_ABI.
 *
 * Shapes as in block_args.h; n rows of a sequence, kept[b] or L, which kernels read on the device; ceil(n / 128) of its T
 * blocks count. Where scores of pairs of blocks are needed, they lie in the memory of the lists until these are written: row i
 * of a head has i + 1 floats there. `row` of the lists is T then. What each pattern is, is defined in cpu_pattern.h.
 */
#ifndef TAMIS_PATTERN_ARGS_H
#define TAMIS_PATTERN_ARGS_H

#include "block_args.h"

#define TAMIS_PATTERN_ABI 1

#define TAMIS_PATTERN_QUERIES 128     /* the most that lines are estimated by; rows of lse2 */
#define TAMIS_PATTERN_XATTN_ROWS 256  /* reduced rows, at most, that pattern_xattn has at work an SM */
#define TAMIS_PATTERN_XATTN_CLUSTER 2 /* blocks of pattern_xattn_tma */
#define TAMIS_PATTERN_SLASH_BITS 50   /* behind the point, of sums over diagonals */

/* pattern_sliding: lists and masks. grid = (ceil(T / warps), Hq, B), a warp a list; the first block writes the masks. */
struct tamis_pattern_sliding_args {
    struct tamis_block_lists lists;
    unsigned *masks; /* five, as cpu_pattern_blocks.c orders them */
    const int *kept;
    long long seq_len;
    long long sink_tokens;
    long long window_tokens;
    int q_heads;
};

/* pattern_means: of the rows of each block. grid = (T, Hq + Hc, B): heads of Q, then of K. */
struct tamis_pattern_means_args {
    struct tamis_pattern_source source;
    float *mean_q; /* (B, Hq, T, D) */
    float *mean_k; /* (B, Hc, T, D) */
    int tiles;     /* T */
};

/* pattern_products: of means, times scale_log2. grid = (ceil(T / block_m)^2, Hq, B), row-major; none above the diagonal. */
struct tamis_pattern_products_args {
    struct tamis_block_lists lists; /* receive them as floats */
    const float *mean_q;
    const float *mean_k;
    const int *modes; /* (B, Hq) or 0: only heads of mode TAMIS_PATTERN_PAIRS */
    const int *kept;
    long long seq_len;
    int q_heads;
    int compact_heads;
    float scale_log2;
};

/* pattern_choose: from scores of pairs to lists, a block a query block. grid = (T, Hq, B), the last query blocks first. */
struct tamis_pattern_choose_args {
    struct tamis_block_lists lists;
    const int *kept;
    long long seq_len;
    long long blocks; /* how many; 0: by ratio */
    double ratio;
    double threshold; /* not 0: blocks 0 and i, and the best until they hold this part of the sum; scores are not negative */
    int q_heads;
};

/*
 * pattern_stats, pattern_merge, pattern_lines: what the last W queries attend to, in two passes over the keys. grid = (chunks,
 * Hq, B) of the first and last; (Hq, B) of pattern_merge. pattern_stats also clears `slash`.
 */
struct tamis_pattern_lines_args {
    struct tamis_pattern_source source;
    float *partial;            /* (B, Hq, chunks, 128, 2): running max and sum of a chunk of keys, in log2 units */
    float *lse2;               /* (B, Hq, 128) */
    float *vertical;           /* (B, Hq, C): mean over the queries of their probability for key k */
    unsigned long long *slash; /* (B, Hq, C): the same by distance from the query; in units of 2^-TAMIS_PATTERN_SLASH_BITS */
    long long chunk_keys;      /* a multiple of both kernels' block_n */
    long long dense_rows;      /* a sequence of at most so many rows is left alone */
    int chunks;
    int last_queries; /* W, or all where n is less */
};

/* What pattern_lists does with a head. */
#define TAMIS_PATTERN_LINES 0 /* the chosen columns and diagonals */
#define TAMIS_PATTERN_PAIRS 1 /* these, and the pairs of blocks above the head's cut */
#define TAMIS_PATTERN_ALL 2   /* every block */

/* pattern_heads: blocks of lines, and the head's mode. grid = (Hq, B). */
struct tamis_pattern_heads_args {
    struct tamis_pattern_source source;
    const float *vertical;
    const unsigned long long *slash;
    const float *mean_k; /* (B, Hc, T, D); 0: no head is query-aware, and none is dense */
    float *sums;         /* (B, Hq, 3, T): scratch */
    unsigned *chosen;    /* (B, Hq, 2, words): bit j % 32 of word j / 32, of columns, then of diagonals */
    int *modes;          /* (B, Hq) */
    double coverage;     /* 0: by the counts of lines */
    double tau;
    long long vertical_lines;
    long long slash_lines;
    long long dense_rows; /* as pattern_lines has it */
    int least; /* blocks */
    int most;
    int tiles;
    int words; /* ceil(T / 32) */
};

/*
 * pattern_soften: softmax over the scores of each query block, in place, a block each; pattern_cut: the score down to which
 * pairs are taken; both for heads of mode PAIRS only, others end at once. pattern_lists: the lists, a warp each. grid = (T, Hq,
 * B) of the first; (Hq, B) of the second; (ceil(T / warps), Hq, B) of the third.
 */
struct tamis_pattern_pairs_args {
    struct tamis_block_lists lists;
    const unsigned *chosen;
    const int *modes;
    unsigned *cut;    /* (B, Hq, 2): the score's bits, and how many of those equal to it are taken */
    int *ties_before; /* (B, Hq, T): equal ones in the query blocks before */
    const int *kept;
    long long seq_len;
    double gamma;
    int q_heads;
    int words;
};

/*
 * pattern_xattn: the estimates of XAttention, into the lists' memory. Persistent blocks share out (head, tile of block_m
 * reduced rows) pairs, the longest first; each has block_m rows of T floats as scratch. grid = (at most `slots`), block_n of
 * which an SM holds.
 */
struct tamis_pattern_xattn_args {
    struct tamis_pattern_source source;
    struct tamis_block_lists lists;
    float *scratch; /* (slots, block_m, T) */
    int stride;     /* S: 4 to 64 */
};

/*
 * pattern_xattn_tma: the same with the tensor copy engine (sm_90a). grid = (at most `slots`, of which clusters are made), one
 * an SM. Maps of rows a stride apart, (B, heads, rows / S, S, D), of which groups of S rows that are whole are read; a map is
 * not read where there is no such group.
 */
struct tamis_pattern_xattn_tma_args {
    struct tamis_tensor_map q; /* read where there are no indices; boxes of block_m groups */
    struct tamis_tensor_map k; /* boxes of block_n groups */
    struct tamis_tensor_map k_full; /* used where source.k_full.data is given; the same boxes */
    struct tamis_pattern_xattn_args xattn;
};

#endif /* TAMIS_PATTERN_ARGS_H */
