/*
 * cpu_pattern.h: the makers of block patterns on the CPU, in double: the definitions that kernels are compared with. One
 * (sequence, query head) at a time, its work cut up for the context's threads. Above cpu_threads and half, below
 * cpu_pattern.c, which hands out the heads.
 *
 * Of each kind the paper and its public code are the source; where these leave something open, or depend on chance (equal
 * scores), the comment at the maker's function says what holds here. Symbols: n rows of the sequence (those kept, or L), blocks
 * of 128, query block i, key block j <= i, T = ceil(n / 128) of either; the last one may be shorter. Nothing is rounded to
 * 16 bits on the way, as the public code does with means of K.
 */
#ifndef TAMISI_CPU_PATTERN_H
#define TAMISI_CPU_PATTERN_H

#include "cpu_stage.h"

/* A score and what it is of. */
struct tamisi_cpu_item {
    double value;
    long long at;
};

/* Scratch for one head, in the plan's workspace; T here of the capacity. */
struct tamisi_cpu_maker_memory {
    struct tamisi_cpu_item *items; /* one a row or, if more, T (T + 1) / 2: of query block i from i (i + 1) / 2 on */
    double *triangle;              /* T (T + 1) / 2, the same way */
    double *vertical, *slash;      /* C each */
    double *mean_q, *mean_k;       /* (T, D) */
    double *vertical_blocks, *slash_blocks; /* T each */
    unsigned char *chosen;                  /* T (T + 1) / 2 */
    unsigned char *chosen_vertical, *chosen_slash; /* T each */
};

struct tamisi_cpu_maker {
    const tamis_pattern *pattern;
    struct tamisi_cpu_threads *threads;
    struct tamisi_cpu_rows q, k;
    const int32_t *indices; /* row i stands at indices[i]; NULL: at i */
    long long rows;         /* n */
    int head_dim;
    tamis_dtype dtype;
    double scale;
    int blocks;     /* T */
    int32_t *count; /* (T) */
    int32_t *list;  /* (T, row) */
    int row;
    struct tamisi_cpu_maker_memory memory;
};

/* Bytes of scratch that a plan's maker needs. */
size_t tamisi_cpu_pattern_bytes(const tamis_problem *problem, const struct tamisi_facts *facts, const tamis_pattern *pattern);

/* The lists, and masks, of all heads. `scratch` as tamisi_cpu_pattern_bytes says. Not for NONE and HOST_BLOCKS. */
void tamisi_cpu_make_lists(const tamis_plan *plan, const struct tamisi_cpu_pattern_source *source,
                           const struct tamisi_cpu_lists *lists, char *scratch);

/*
 * SLIDING. Query q sees key k where k < sink_tokens or q - window_tokens < k <= q: the attention sinks and the recent tokens of
 * StreamingLLM (arXiv 2309.17453, streaming_llm/kv_cache.py), which as a mask on a prefill is MInference's A-shape (arXiv
 * 2407.02490, minference/ops/streaming_kernel.py; n_init 128 and n_local 3968 are its defaults). Exact to the token: blocks
 * that a query sees in part carry one of the masks.
 */
void tamisi_cpu_make_sliding(const struct tamisi_cpu_maker *maker);
void tamisi_cpu_sliding_masks(uint32_t *masks, const tamis_pattern *pattern);

/*
 * TOPK_BLOCKS. The score of block (i, j) is the product of the mean of block i's queries and the mean of block j's keys, over
 * the rows that exist. Query block i takes the `blocks` best j <= i or, if that is 0, ceil(ratio * (i + 1)) of them; equal
 * scores: the lower j. As MInference's block-sparse heads (minference/ops/block_sparse_flash_attention.py, 100 blocks of 64);
 * block i itself is not taken because of its place. There the last block's mean counts rows that do not exist as zeros.
 */
void tamisi_cpu_make_topk(const struct tamisi_cpu_maker *maker);

/*
 * VERTICAL_SLASH. Lines of the attention map, estimated by the last W = min(last_queries, n) queries: p(q, k) is their softmax,
 * causal over all keys; column k has vertical(k) = mean over q of p(q, k), diagonal d has slash(d) = 1/W times the sum over q
 * of p(q, q - d). (MInference, arXiv 2407.02490, algorithm 2; last_queries 64, 1000 columns and 6096 diagonals are what its
 * code takes for a head without a searched pattern.) At block granularity as FlexPrefill has it (arXiv 2502.20766, algorithm 4;
 * flex_prefill/ops/flex_prefill_attention.py, get_active_blocks):
 *   - Lines become blocks: `lines` of them lines / 128 + 1 blocks, 1 to T. By coverage, `lines` is 1 more than the number
 *     of the largest values whose running sum is at most `coverage`.
 *   - Block j's vertical sum is over its columns. Diagonals are blocked from the far end: diagonal block e sums slash(d) over
 *     (n - 1 - d) / 128 == T - 1 - e, so that the one at the main diagonal is the one that may be short.
 *   - The best vertical blocks, 0 always among them, and the best diagonal blocks, 0 always among them; equal sums: the lower
 *     number. Query block i takes j <= i where j is among the vertical ones, or i - j among the diagonal ones.
 * MInference itself gathers single columns between blocks of 64 along the diagonals.
 */
void tamisi_cpu_make_vertical_slash(const struct tamisi_cpu_maker *maker);

/*
 * FLEXPREFILL. arXiv 2502.20766, algorithms 1 to 4, as get_active_blocks of the public code has them. With m = max(1,
 * ceil(min_tokens / 128)), sequences of n <= max(256, 128 m) take every block. Else, per head, with W = 128:
 *   - The lines' blocks as above with coverage gamma for both, at least m, then at most ceil(max_tokens / 128), if not 0.
 *   - a(j) = softmax over all j < T of scale * (mean of the last W queries) . (mean of block j's keys). The head is
 *     query-aware if sqrt(JS(a, vertical block sums)) < tau; JS is the Jensen-Shannon divergence, natural logarithms,
 *     0 log 0 = 0.
 *   - Query-aware heads take m vertical and m diagonal blocks, and of all pairs (i, j <= i) the largest values of
 *     softmax over j <= i of scale * (mean of block i's queries) . (mean of block j's keys), while their running sum is at most
 *     gamma * T; equal values: the lower i, then the lower j.
 */
void tamisi_cpu_make_flexprefill(const struct tamisi_cpu_maker *maker);

/*
 * XATTENTION. arXiv 2503.16428, algorithm 1; xattn/src/Xattention.py, xattn_estimate with select_mode "inverse", and
 * find_blocks_chunked of utils.py. With stride S, n' = ceil(n / S) and rows from n on as zeros: score(r, c) = scale / S *
 * sum over t < S of q(r S + S - 1 - t) . k(c S + t), an antidiagonal of each S by S tile, for r, c < n'; p(r, c) is its softmax
 * over c <= r; the estimate of block (i, j) is the sum of p over r of block i and c of block j. Query block i takes blocks 0
 * and i, then others from the largest down while the sum of what it has is below `threshold` times the sum of its whole row;
 * equal
 * estimates: the lower j.
 */
void tamisi_cpu_make_xattention(const struct tamisi_cpu_maker *maker);

/* ---- what makers share; cpu_pattern.c */

void tamisi_cpu_maker_row(double *out, const struct tamisi_cpu_maker *maker, const struct tamisi_cpu_rows *rows, long long i);
double tamisi_cpu_maker_dot(const double *a, const double *b, int count);
void tamisi_cpu_maker_means(const struct tamisi_cpu_maker *maker); /* mean_q and mean_k */
/* Largest first; equal values: the lower `at`. */
void tamisi_cpu_items_sort(struct tamisi_cpu_item *items, long long count);
/* Entries j <= i of query block i where chosen[j] is not 0. */
void tamisi_cpu_maker_list(const struct tamisi_cpu_maker *maker, int i, const unsigned char *chosen);

static inline long long tamisi_cpu_triangle(long long i) { return i * (i + 1) / 2; }

#endif
