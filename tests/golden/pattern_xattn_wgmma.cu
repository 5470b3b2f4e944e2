// made by: tamis show SPEC --variant pattern_xattn_wgmma_bf16_d128_bn256_cr208_pr88_s4 --arch sm_90a
// tamis_pattern_xattn_wgmma_bf16_d128_bn256_cr208_pr88_s4: 384 threads, 196672 bytes of dynamic shared memory

/*
 * pattern_args.h: what the host passes to the kernels that make lists of blocks out of Q and K, one struct a stage. Beside
 * block_args.h, whose rules hold here too; a change of any struct, or of the grid that a kernel expects, needs a new
 * TAMIS_PATTERN_ABI.
 *
 * Shapes as in block_args.h; n rows of a sequence, kept[b] or L, which kernels read on the device; ceil(n / 128) of its T
 * blocks count. Where scores of pairs of blocks are needed, they lie in the memory of the lists until these are written: row i
 * of a head has i + 1 floats there. `row` of the lists is T then. What each pattern is, is defined in cpu_pattern.h.
 */

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

/*
 * kernel_args.h: what the host passes to each kernel, one struct a stage.
 *
 * Read by two compilers: gcc, through the gpu_*.c files that fill the structs, and NVRTC, through the templates that
 * include this text. So it uses only types that both give the same layout. A change of any struct, or of the grid that a
 * kernel expects, needs a new TAMIS_KERNEL_ABI: a store's kernels are used only by a library of the same number.
 *
 * Shapes as in tamis.h: B batch, Hq, Hkv, L, D, W window, C capacity, Hi index_heads, Hc compact_heads; N = L - W, the
 * number of candidates.
 */

#define TAMIS_KERNEL_ABI 2

/* A (B, H, rows, D) tensor of 16-bit elements; strides in elements, the last dimension contiguous. */
struct tamis_rows {
    void *data;
    long long batch_stride;
    long long head_stride;
    long long row_stride;
};

/* A CUtensorMap by value: how the tensor copy engine sees a (B, H, rows, D) tensor. Boxes are 64 columns by a tile's rows. */
struct __attribute__((aligned(64))) tamis_tensor_map {
    unsigned long long opaque[16];
};

/* score_stats, score_merge and score_sum: operator.md step 1 in two passes over the keys. */
struct tamis_score_args {
    struct tamis_rows q;  /* (B, Hq, L, D) */
    struct tamis_rows k;  /* (B, Hkv, L, D) */
    float *partial;       /* (B, Hq, W, chunks, 2): running max and sum of a chunk of keys, in log2 units */
    float *lse2;          /* (B, Hq, lse2_rows), the first W of a row: log2 of the sum of exp2 over all keys */
    float *score;         /* (B, Hq, N) */
    long long seq_len;    /* L */
    long long chunk_keys; /* keys a chunk; a multiple of 256 */
    int chunks;
    int lse2_rows; /* W rounded up to a multiple of 64 */
    int batch;
    int q_heads;
    int kv_heads;
    int window;
    float scale_log2; /* scale * log2(e) */
};

/* score_stats_tma and score_sum_tma: the same with persistent blocks and the tensor copy engine (sm_90a). */
struct tamis_score_tma_args {
    struct tamis_tensor_map q; /* boxes of the tile of queries; score_sum_tma alone reads it */
    struct tamis_tensor_map k; /* boxes of the kernel's own tile of keys */
    struct tamis_score_args score;
};

/* select_pool: step 2, and what heads rank by; and step 3 where the budget is known. */
struct tamis_pool_args {
    const float *score;   /* (B, Hq, N) */
    float *rank;          /* (B, Hi, N) */
    float *mean;          /* (B, N) */
    long long candidates; /* N */
    int q_heads;
    int index_heads;
    int pool;
    int fixed_kept; /* tokens to keep, the window included; read where `kept` is given */
    int *kept;      /* (B): set to fixed_kept; or 0 */
};

/* select_budget: step 3. Of a sequence one block, or block_m of them along x that the launch makes a cluster. */
struct tamis_budget_args {
    const float *mean;    /* (B, N); read only where fixed_keep < 0 */
    int *kept;            /* (B) */
    long long seq_len;    /* L */
    long long candidates; /* N */
    long long min_tokens; /* M */
    long long fixed_keep; /* tokens to keep outside the window; -1: by coverage; N: all, dense */
    double coverage;      /* tau */
};

/* select_tokens: step 4. Of a (sequence, index head) one block, or block_m of them along x that the launch makes a cluster. */
struct tamis_tokens_args {
    const float *rank; /* (B, Hi, N) */
    const int *kept;   /* (B) */
    int *indices;      /* (B, Hi, C) */
    long long seq_len;
    long long candidates;
    long long capacity; /* C */
    int index_heads;
};

/* A tensor whose kept rows are copied together. */
struct tamis_compress_tensor {
    struct tamis_rows source;  /* (B, Hs, L, D) */
    struct tamis_rows compact; /* (B, H, C, D) */
    int heads;        /* H; a multiple of Hs, of Hi and of head_run */
    int source_heads; /* Hs */
};

/* compress: step 5 for up to three tensors. Blocks of rows go to the heads of a run in turn, as these read about the same. */
struct tamis_compress_args {
    struct tamis_compress_tensor tensors[3]; /* those behind the last one that counts have no heads */
    const int *kept;                         /* (B) */
    const int *indices;                      /* (B, Hi, C) */
    long long seq_len;
    long long capacity;
    int index_heads; /* Hi */
    int head_run;    /* heads a run; the grid has all runs of all tensors along y */
    int skip_dense;  /* 1: copy nothing for a sequence that keeps all its tokens */
    unsigned *counter; /* set to 0, for attend_tma which follows; or 0 */
};

/* attend: step 6, on full or compact rows; writes compact rows or, given indices, straight to their tokens' places. */
struct tamis_attend_args {
    struct tamis_rows q;      /* (B, Hq, rows, D): full rows read through `indices` if given, else compact or dense ones */
    struct tamis_rows k, v;   /* (B, Hc, C, D) */
    struct tamis_rows k_full; /* (B, Hkv, L, D), with v_full: read instead of k, v where kept[b] == L; data may be 0 */
    struct tamis_rows v_full;
    struct tamis_rows output; /* (B, Hq, rows, D): rows placed through `indices` if given */
    float *lse;               /* (B, Hq, lse_rows) or 0; natural log */
    const int *kept;          /* (B), or 0: every sequence has seq_len rows */
    const int *indices;       /* (B, Hi, C), or 0: row i is row i */
    long long seq_len;        /* L */
    long long capacity;       /* C: bound on kept[b], from which the grid is made */
    long long lse_rows;       /* row length of lse: C or L */
    int q_heads;
    int kv_heads;      /* of k_full, v_full */
    int compact_heads; /* Hc, of k, v */
    int index_heads;   /* Hi */
    int causal;        /* 0: every row sees all rows */
    float scale_log2;
};

/*
 * attend_tma: step 6 with persistent blocks and the tensor copy engine (sm_90a). Given indices, it writes the rows of dropped
 * tokens too, of `output` and of `lse`: what decompress would do without compact rows.
 */
struct tamis_attend_tma_args {
    struct tamis_tensor_map q; /* read where there are no indices; else rows of Q are gathered through attend.q */
    struct tamis_tensor_map k, v;
    struct tamis_tensor_map k_full, v_full; /* used where attend.k_full.data is given */
    struct tamis_attend_args attend;
    int tiles; /* of block_m rows, of the capacity */
    int heads; /* B * Hq; tiles * heads fits 31 bits */
    unsigned *counter; /* 0 at the start; the tiles that blocks have taken beyond each one's first */
};

/* decompress: step 7. */
struct tamis_decompress_args {
    struct tamis_rows compact; /* (B, Hq, C, D); data 0: write the dropped rows only */
    struct tamis_rows output;  /* (B, Hq, L, D) */
    const float *compact_lse;  /* (B, Hq, C) or 0 */
    float *lse;                /* (B, Hq, L) or 0 */
    const int *kept;           /* (B) */
    const int *indices;        /* (B, Hi, C) */
    long long seq_len;
    long long capacity;
    int q_heads;
    int index_heads;
};

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

/*
 * cluster.cuh: a cluster of thread blocks that read each other's shared memory (sm_90 and newer). A cluster of one block
 * compiles for every architecture, to the barriers of a block.
 */

/*
 * Every thread of the cluster arrives, then waits. What was written to shared memory before an arrival can be read by the
 * whole cluster behind the wait. A block must not end while others may still read its shared memory.
 */
template <int kCluster>
__device__ __forceinline__ void cluster_arrive()
{
    if constexpr (kCluster > 1) asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}

/* The same, but nothing that was written is published: what is left to say is that this block has read all it wanted. */
template <int kCluster>
__device__ __forceinline__ void cluster_arrive_relaxed()
{
    if constexpr (kCluster > 1) asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}

template <int kCluster>
__device__ __forceinline__ void cluster_wait()
{
    if constexpr (kCluster > 1)
        asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
    else
        __syncthreads();
}

template <int kCluster>
__device__ __forceinline__ void cluster_sync()
{
    cluster_arrive<kCluster>();
    cluster_wait<kCluster>();
}

/* Where the block `rank` of the cluster has what this block has at `own`, in shared memory. */
template <int kCluster, typename T>
__device__ __forceinline__ const T *cluster_shared(const T *own, int rank)
{
    if constexpr (kCluster > 1) {
        const T *other;
        asm volatile("mapa.u64 %0, %1, %2;" : "=l"(other) : "l"(own), "r"(rank));
        return other;
    } else {
        return own;
    }
}

/*
 * Arrive at the mbarrier that the block `rank` has where this block has `barrier`. What it tells is that products which read
 * shared memory are through: it orders nothing of this thread's for the other block, which would take a fence a call.
 */
__device__ __forceinline__ void cluster_barrier_arrive(unsigned barrier, int rank)
{
    unsigned other;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(other) : "r"(barrier), "r"(rank));
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(other) : "memory");
}

/*
 * hopper.cuh: what sm_90a adds: mbarriers that count bytes, the tensor copy engine, warpgroup matrix instructions, register
 * hand-over. One function each; wgmma's instruction itself is expanded by the template, whose tile sizes fix its operand list.
 */

/*
 * ptx.cuh: the instructions that CUDA C++ does not name, one function each. sm_80 and newer. No CUDA headers are needed.
 */

/* Address in the shared window, which the instructions below want instead of a generic pointer. */
__device__ __forceinline__ unsigned shared_address(const void *pointer)
{
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

/* Place in the warp. What is computed of it is not kept in registers between two calls, as of threadIdx. */
__device__ __forceinline__ int lane_id()
{
    int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

/*
 * Every kernel begins with this: the next one in the stream may be set up from now on, and the one before it must be through,
 * with all that it wrote in sight, before this one touches memory. Where kernels were not launched to overlap, as before
 * sm_90, it does nothing.
 */
__device__ __forceinline__ void follow_stream()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Copy 16 bytes from global to shared memory in the background; where `valid` is false, write 16 zero bytes instead. */
__device__ __forceinline__ void copy_async_16(unsigned shared, const void *global, bool valid)
{
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes) : "memory");
}

/* The same where the 16 bytes are known to be there. */
__device__ __forceinline__ void copy_async_16(unsigned shared, const void *global)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

/* Close the group of copies issued since the last commit. */
__device__ __forceinline__ void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Wait until at most `kPending` of this thread's youngest groups are unfinished. */
template <int kPending>
__device__ __forceinline__ void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/* ---- mbarriers: `phase` is the parity of the completion waited for; a fresh barrier's phase 1 counts as complete. */

__device__ __forceinline__ void barrier_init(unsigned barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_arrive(unsigned barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* Arrive once the copies are done that this thread has started; the call itself does not wait. */
__device__ __forceinline__ void barrier_arrive_after_copies(unsigned barrier)
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void barrier_wait(unsigned barrier, unsigned phase)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
#if __CUDA_ARCH__ >= 900
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
#else
                 "mbarrier.test_wait.parity.shared::cta.b64 done, [%0], %1;\n"
#endif
                 "@done bra finished;\n"
                 "bra again;\n"
                 "finished:\n"
                 "}" ::"r"(barrier), "r"(phase) : "memory");
}

/* Four words to shared memory: `first`, then `others` three times. */
__device__ __forceinline__ void store_shared_16(unsigned shared, unsigned first, unsigned others)
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %2, %2};" ::"r"(shared), "r"(first), "r"(others) : "memory");
}

/* Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8. */
__device__ __forceinline__ void load_matrix_x4(unsigned (&r)[4], unsigned shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared)
                 : "memory");
}

/* The same, each matrix transposed on the way. */
__device__ __forceinline__ void load_matrix_x4_transposed(unsigned (&r)[4], unsigned shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared)
                 : "memory");
}

/* 2^x in the special function unit: relative error below 2^-22, 2^-inf is 0. */
__device__ __forceinline__ float exp2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* log2 in the same unit: absolute error below 2^-22; of 0 and of subnormals -inf. */
__device__ __forceinline__ float log2_approx(float x)
{
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* The storage types. Both hold 16 bits; what differs is how two floats are packed and which tensor core path is taken. */
struct Bf16 {
    static constexpr unsigned kOne = 0x3f80;   /* the number 1 */
    static constexpr float kMostSum = 0x1p60f; /* of a lane's probabilities in a step */
    __device__ __forceinline__ static unsigned pack(float low, float high)
    {
        unsigned r;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
        return r;
    }
    /* c[0..3] += a * b on a 16x8 tile, 16 deep; fp32 accumulation. */
    __device__ __forceinline__ static void mma(float *c, const unsigned (&a)[4], unsigned b0, unsigned b1)
    {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

struct Fp16 {
    static constexpr unsigned kOne = 0x3c00;
    static constexpr float kMostSum = 0x1p15f;
    __device__ __forceinline__ static unsigned pack(float low, float high)
    {
        unsigned r;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
        return r;
    }
    __device__ __forceinline__ static void mma(float *c, const unsigned (&a)[4], unsigned b0, unsigned b1)
    {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);

/* Make initialised barriers visible to the copy engine. */
__device__ __forceinline__ void barrier_init_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* Arrive, and announce bytes that the copy engine will bring before the phase completes. */
__device__ __forceinline__ void barrier_expect(unsigned barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/* Announce such bytes without arriving. */
__device__ __forceinline__ void barrier_expect_more(unsigned barrier, int bytes)
{
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/* Named barriers: `id` from 1 to 15, `threads` how many take part. */
__device__ __forceinline__ void named_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void named_arrive(int id, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* A place in a ring of kPlaces tiles, each with a barrier, and the parity of its round. */
template <int kPlaces>
struct Ring {
    int stage = 0;
    unsigned phase = 0;
    __device__ __forceinline__ void advance()
    {
        if (++stage == kPlaces) {
            stage = 0;
            phase ^= 1;
        }
    }
};

/* ---- tensor copy engine */

/*
 * Load a box of a (B, H, rows, D) tensor map to shared memory; `barrier` counts its bytes, those outside the tensor
 * included, which arrive as zeros.
 */
__device__ __forceinline__ void tensor_load(unsigned shared, const void *map, unsigned barrier, int column, int row,
                                            int head, int sequence)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared),
                 "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(sequence)
                 : "memory");
}

/*
 * The same of a map of rows a stride apart, (B, H, groups, stride, D): boxes of rows `within` their group, one a group from
 * `group` on.
 */
__device__ __forceinline__ void strided_load(unsigned shared, const void *map, unsigned barrier, int column, int within,
                                             int group, int head, int sequence)
{
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(shared),
                 "l"(map), "r"(barrier), "r"(column), "r"(within), "r"(group), "r"(head), "r"(sequence)
                 : "memory");
}

/* And to each block of the cluster whose bit of `blocks` is set: at the same place, counted by its barrier at the same. */
__device__ __forceinline__ void strided_load_shared(unsigned shared, const void *map, unsigned barrier, int column, int within,
                                                    int group, int head, int sequence, int blocks)
{
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(shared),
                 "l"(map), "r"(barrier), "r"(column), "r"(within), "r"(group), "r"(head), "r"(sequence),
                 "h"(static_cast<unsigned short>(blocks))
                 : "memory");
}

/* Shared memory written by ordinary stores becomes visible to wgmma and the copy engine. */
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* ---- warpgroup matrix multiply */

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/*
 * Matrix descriptor of a tile in shared memory with 128-byte swizzle: rows of 128 bytes, eight rows an atom, so that the
 * next eight rows lie 1024 bytes further. Its low half is the address in units of 16 bytes and `lead`, the distance in
 * bytes between 64-column sub-tiles, which only operands stored with the multiplied dimension outermost use. Walking
 * through a tile adds to the low half alone: kept apart, the rest is a constant.
 */
__device__ __forceinline__ unsigned descriptor_low(unsigned shared, unsigned lead) { return lead >> 4 << 16 | shared >> 4; }

__device__ __forceinline__ unsigned long long matrix_descriptor(unsigned low, unsigned offset_bytes)
{
    constexpr unsigned kStride = 1024 >> 4, kSwizzle128 = 1u << 30;
    return static_cast<unsigned long long>(kSwizzle128 | kStride) << 32 | (low + (offset_bytes >> 4));
}

/* Keep the compiler from moving accesses of an accumulator across a wgmma boundary. */
template <int kCount>
__device__ __forceinline__ void pin_registers(float (&r)[kCount])
{
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(r[i])::"memory");
}

template <int kRegisters>
__device__ __forceinline__ void take_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void give_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/*
 * xattn.cuh: what the kernels of XAttention's estimates share (runtime/cpu_pattern.h): which tile of reduced rows a block is
 * at, where its tokens are, and the way from products to estimates. A row of a reduced tile is the sum over an S by S tile's
 * antidiagonal, so that a query block has 128 / S rows, and a key block as many columns.
 *
 * A row's probabilities are known only behind its last column. Till then threads add up what they see of their rows, and the
 * block keeps, for each row and each key block, the logarithm of the sum of exponentials: T floats a row of scratch.
 */

/*
 * pattern.cuh: what makers of block patterns share: where a sequence's rows of Q and K lie, choosing the largest of many
 * scores without sorting them, and lists out of bits.
 */

/*
 * bins.cuh: finding one value among many integers without sorting: the blocks of a cluster put the keys of an interval into
 * bins, find the bin in which a running total reaches a goal, and narrow the interval to it.
 */

/*
 * block.cuh: sums and scans over a warp or a block of threads.
 */

/* Inclusive prefix sum over the lanes of a warp. */
template <typename T>
__device__ __forceinline__ T warp_inclusive_scan(T value)
{
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const T below = __shfl_up_sync(0xffffffffu, value, step);
        if (static_cast<int>(threadIdx.x % 32) >= step) value += below;
    }
    return value;
}

/* The sum of the lanes' values, the same bits in every lane. */
template <typename T>
__device__ __forceinline__ T warp_sum(T value)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

/*
 * Exclusive prefix sum over the block's warps, in their order, of a value that a warp's lanes share; `total` receives the
 * sum of all. `s_warps` holds one value a warp, and is not to be written again before the next barrier.
 */
template <int kThreads, typename T>
__device__ __forceinline__ T warps_exclusive_scan(T value, T *s_warps, T &total)
{
    constexpr int kWarps = kThreads / 32;
    static_assert(kWarps <= 32, "a lane for each warp");
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) s_warps[warp] = value;
    __syncthreads();
    const T upto = warp_inclusive_scan(lane < kWarps ? s_warps[lane] : T(0));
    total = __shfl_sync(0xffffffffu, upto, 31);
    return __shfl_sync(0xffffffffu, upto, warp) - value;
}

constexpr unsigned kAllLanes = 0xffffffffu;

/* Keys by their distance from `origin`, below `width`, cut into bins of 2^shift. */
constexpr int kBinBits = 11, kBins = 1 << kBinBits;
constexpr int kGroups = 32, kGroupBins = kBins / kGroups; /* a lane for each group of bins, and two bins of a group */

struct Interval {
    unsigned origin, width;
    __device__ __forceinline__ int shift() const { return max(32 - __clz(width - 1) - kBinBits, 0); }
    /* To one bin of it. The bins' distance from the origin grows upwards (sign 1) or downwards (-1). */
    __device__ __forceinline__ void narrow(unsigned bin, int sign)
    {
        const int bits = shift();
        origin += sign * (bin << bits);
        width = min(1u << bits, width - (bin << bits));
    }
};

/* How many keys fall into each bin. */
struct Counts {
    using Total = unsigned;
    unsigned count[kBins];
    Total group[kGroups];
    __device__ __forceinline__ Total at(int bin) const { return count[bin]; }
    template <int kThreads>
    __device__ __forceinline__ void clear()
    {
        for (int i = threadIdx.x; i < kBins; i += kThreads) count[i] = 0;
    }
};

/* Count one more at a shared address where `counts`: by predicate, which costs ptxas fewer registers than a branch here. */
__device__ __forceinline__ void count_shared(unsigned address, bool counts)
{
    asm volatile("{\n"
                 ".reg .pred counts;\n"
                 "setp.ne.u32 counts, %1, 0;\n"
                 "@counts red.shared.add.u32 [%0], 1;\n"
                 "}" ::"r"(address), "r"(static_cast<unsigned>(counts)) : "memory");
}

/* What their scores add up to, in fixed point. */
struct Sums {
    using Total = unsigned long long;
    unsigned low[kBins], high[kBins];
    Total group[kGroups];
    /* A 64-bit addition from two of 32 bits, which shared memory has; exact in any order of threads. */
    __device__ __forceinline__ void add(unsigned bin, Total value)
    {
        const unsigned part = static_cast<unsigned>(value), old = atomicAdd(&low[bin], part);
        const unsigned rest = static_cast<unsigned>(value >> 32) + (old + part < old);
        if (rest) atomicAdd(&high[bin], rest);
    }
    __device__ __forceinline__ Total at(int bin) const { return static_cast<Total>(high[bin]) << 32 | low[bin]; }
    template <int kThreads>
    __device__ __forceinline__ void clear()
    {
        for (int i = threadIdx.x; i < kBins; i += kThreads) low[i] = high[i] = 0;
    }
};

/* Where the running total over bins reaches a goal: the bin, and what of the goal is left for it. */
template <typename Total>
struct Crossing {
    unsigned bin;
    Total left;
};

/* One warp: the first lane at which `upto`, a running total, reaches the goal. */
template <typename Total>
__device__ __forceinline__ int first_reaching(Total upto, Total goal)
{
    const unsigned reached = __ballot_sync(kAllLanes, upto >= goal);
    return reached ? __ffs(reached) - 1 : 31;
}

/* One warp: the group of bins from the whole cluster's totals, then the bin in it, so that little is read from others. */
template <int kCluster, typename Bins, typename Goal>
__device__ __forceinline__ Crossing<typename Bins::Total> cross_bins(const Bins &s_bins, Goal goal)
{
    using Total = typename Bins::Total;
    const int lane = threadIdx.x % 32;
    Total here = 0;
#pragma unroll
    for (int rank = 0; rank < kCluster; ++rank) here += cluster_shared<kCluster>(&s_bins, rank)->group[lane];
    Total upto = warp_inclusive_scan(here);
    Total left = goal(__shfl_sync(kAllLanes, upto, 31));
    const int group = first_reaching(upto, left);
    left -= __shfl_sync(kAllLanes, upto - here, group);

    const int bin = group * kGroupBins + 2 * lane;
    Total even = 0, odd = 0;
#pragma unroll
    for (int rank = 0; rank < kCluster; ++rank) {
        const Bins *bins = cluster_shared<kCluster>(&s_bins, rank);
        even += bins->at(bin);
        odd += bins->at(bin + 1);
    }
    upto = warp_inclusive_scan(even + odd);
    const int pair = first_reaching(upto, left);
    even = __shfl_sync(kAllLanes, even, pair);
    left -= __shfl_sync(kAllLanes, upto, pair) - even - __shfl_sync(kAllLanes, odd, pair);
    const bool in_odd = even < left;
    return {static_cast<unsigned>(group * kGroupBins + 2 * pair + in_odd), in_odd ? left - even : left};
}

/*
 * The crossing of what all blocks of the cluster have put into their bins; `goal` tells it from the total. Bins come in two
 * sets, used in turn: `s_next` was read by others before the last of them arrived here, so it can be cleared.
 */
template <int kThreads, int kCluster, typename Bins, typename Goal>
__device__ __forceinline__ Crossing<typename Bins::Total> find_crossing(Bins &s_bins, Bins &s_next, Goal goal)
{
    __shared__ Crossing<typename Bins::Total> s_crossing;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads();
    for (int group = warp; group < kGroups; group += kThreads / 32) {
        const int bin = group * kGroupBins + lane;
        const auto total = warp_sum(s_bins.at(bin) + s_bins.at(bin + 32));
        if (lane == 0) s_bins.group[group] = total;
    }
    cluster_sync<kCluster>();
    s_next.template clear<kThreads>();
    if (warp == 0) {
        const auto crossing = cross_bins<kCluster>(s_bins, goal);
        if (lane == 0) s_crossing = crossing;
    }
    __syncthreads();
    return s_crossing;
}
static_assert(kGroupBins == 64, "a warp adds a group's bins in one step, and finds one of them two a lane");

constexpr int kBlock = TAMIS_BLOCK;

/* ---- rows */

__device__ __forceinline__ long long rows_of(const int *kept, int sequence, long long seq_len)
{
    return kept ? kept[sequence] : seq_len;
}

__device__ __forceinline__ int blocks_of(long long rows) { return static_cast<int>((rows + kBlock - 1) / kBlock); }

/* One head's rows: row i stands at indices[i] or, without indices, at i. */
struct HeadRows {
    const char *first;
    long long pitch; // bytes
    const int *indices;
    __device__ __forceinline__ const char *row(long long i) const { return first + (indices ? indices[i] : i) * pitch; }
};

__device__ __forceinline__ HeadRows head_rows(const tamis_rows &rows, int sequence, int head, const int *indices)
{
    return {static_cast<const char *>(rows.data) + 2 * (sequence * rows.batch_stride + head * rows.head_stride),
            2 * rows.row_stride, indices};
}

__device__ __forceinline__ HeadRows query_rows(const tamis_pattern_source &source, int sequence, int head)
{
    const int list = sequence * source.index_heads + head / (source.q_heads / source.index_heads);
    return head_rows(source.q, sequence, head, source.indices ? source.indices + list * source.capacity : nullptr);
}

/* Of one of the Hc heads of K; a sequence that dropped nothing has them in their place still. */
__device__ __forceinline__ HeadRows key_rows(const tamis_pattern_source &source, int sequence, int head, long long rows)
{
    if (source.k_full.data && rows == source.seq_len)
        return head_rows(source.k_full, sequence, head / (source.compact_heads / source.kv_heads), nullptr);
    return head_rows(source.k, sequence, head, nullptr);
}

/* The list of one query block, which is where its scores lie too. */
__device__ __forceinline__ int *list_row(const tamis_block_lists &lists, int q_heads, int sequence, int head, int block)
{
    const long long row = (static_cast<long long>(sequence) * q_heads + head) * lists.tiles + block;
    return lists.list + row * lists.row;
}

__device__ __forceinline__ int *list_count(const tamis_block_lists &lists, int q_heads, int sequence, int head, int block)
{
    return lists.count + (static_cast<long long>(sequence) * q_heads + head) * lists.tiles + block;
}

/* Of two 16-bit elements in a word, the one at `half`, by integers alone; Element tells which type. */
template <typename Element>
__device__ __forceinline__ float element_of(unsigned word, int half)
{
    const unsigned bits = half ? word >> 16 : word & 0xffffu;
    if (Element::kOne == 0x3f80u) return __int_as_float(static_cast<int>(bits << 16));
    const float magnitude = __int_as_float(static_cast<int>((bits & 0x7fffu) << 13)) * 0x1p112f; // subnormals too
    return bits >> 15 ? -magnitude : magnitude;
}

/* ---- choosing: keys are unsigned, larger for larger scores, and never 0xffffffff */

/* Of any score; what is not a number comes last. */
__device__ __forceinline__ unsigned key_of(float score)
{
    const unsigned bits = static_cast<unsigned>(__float_as_int(score));
    if (score != score) return 0;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* Of one that is not negative: its bits. */
__device__ __forceinline__ unsigned key_of_mass(float score)
{
    return score > 0.0f ? static_cast<unsigned>(__float_as_int(score)) : 0u;
}

/* A mass in units of 2^-unit, rounded down. */
__device__ __forceinline__ unsigned long long mass_of(unsigned key, int unit)
{
    const int exponent = static_cast<int>(key >> 23);
    const int shift = max(exponent, 1) - 150 + unit; // 150: of a significand read as an integer
    const unsigned long long significand = (key & 0x7fffffu) | (exponent > 0 ? 0x800000u : 0u);
    return shift >= 0 ? significand << min(shift, 39) : significand >> min(-shift, 63);
}

/* Visits key(i) of the places from `first` on, before `end`, shared out among the block's threads. */
template <int kThreads, typename Key>
struct Places {
    long long first, end;
    Key key;
    template <typename Take>
    __device__ __forceinline__ void operator()(Take take) const
    {
        for (long long i = first + threadIdx.x; i < end; i += kThreads) take(key(i));
    }
};

template <int kThreads, typename Key>
__device__ __forceinline__ Places<kThreads, Key> places(long long first, long long end, Key key)
{
    return {first, end, key};
}

/* What keys lie between, and what their weights add up to: the same in every thread. */
struct Extent {
    unsigned low, high;
    unsigned long long total;
};

/* `visit(f)` calls f(key) for each key, shared out among the threads of the block. */
template <int kThreads, typename Visit, typename Weight>
__device__ __forceinline__ Extent find_extent(Visit visit, Weight weight)
{
    __shared__ Extent s_warps[kThreads / 32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Extent extent = {0xffffffffu, 0u, 0ull};
    visit([&](unsigned key) {
        extent.low = min(extent.low, key);
        extent.high = max(extent.high, key);
        extent.total += weight(key);
    });
    extent = {__reduce_min_sync(kAllLanes, extent.low), __reduce_max_sync(kAllLanes, extent.high), warp_sum(extent.total)};
    __syncthreads(); // of an earlier call others may still read
    if (lane == 0) s_warps[warp] = extent;
    __syncthreads();
    extent = s_warps[0];
#pragma unroll 1
    for (int i = 1; i < kThreads / 32; ++i) {
        extent.low = min(extent.low, s_warps[i].low);
        extent.high = max(extent.high, s_warps[i].high);
        extent.total += s_warps[i].total;
    }
    return extent;
}

/* What is taken: every key above `key`, and so many of those equal to it. */
struct Cut {
    unsigned key, ties;
};

constexpr Cut kTakeNothing = {0xffffffffu, 0u};

/*
 * The fewest of the largest keys whose weights add up to `goal`, which is more than 0 and at most what all add up to: narrow an
 * interval of keys down to the one at which the running sum reaches it.
 */
template <int kThreads, typename Visit, typename Weight>
__device__ __forceinline__ Cut find_cut(Visit visit, Weight weight, const Extent &extent, unsigned long long goal, Sums *s_sums)
{
    Interval interval = {extent.high, extent.high - extent.low + 1}; // downwards
    unsigned long long left = goal;
    __syncthreads();
    s_sums[0].template clear<kThreads>();
    __syncthreads();
    for (int round = 0; interval.width > 1; ++round) {
        const int shift = interval.shift();
        Sums &s_bins = s_sums[round % 2];
        visit([&](unsigned key) {
            const unsigned distance = interval.origin - key;
            if (distance < interval.width) s_bins.add(distance >> shift, weight(key));
        });
        const auto crossing =
            find_crossing<kThreads, 1>(s_bins, s_sums[1 - round % 2], [&](unsigned long long) { return left; });
        left = crossing.left;
        interval.narrow(crossing.bin, -1);
    }
    const unsigned long long value = max(weight(interval.origin), 1ull);
    return {interval.origin, static_cast<unsigned>((left + value - 1) / value)};
}

/* Sum over the block's threads, the same in all of them, in one order. */
template <int kThreads, typename T>
__device__ __forceinline__ T block_sum(T value)
{
    __shared__ T s_warps[kThreads / 32];
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s_warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = s_warps[0];
#pragma unroll 1
    for (int i = 1; i < kThreads / 32; ++i) value += s_warps[i];
    return value;
}

template <int kThreads>
__device__ __forceinline__ float block_max(float value)
{
    __shared__ float s_warps[kThreads / 32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
    __syncthreads();
    if (threadIdx.x % 32 == 0) s_warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = s_warps[0];
#pragma unroll 1
    for (int i = 1; i < kThreads / 32; ++i) value = fmaxf(value, s_warps[i]);
    return value;
}

/* Exclusive prefix sum over the block's threads in their order, and the sum of all. */
template <int kThreads>
__device__ __forceinline__ unsigned block_exclusive_scan(unsigned value, unsigned &total)
{
    __shared__ unsigned s_warps[kThreads / 32];
    const unsigned upto = warp_inclusive_scan(value);
    __syncthreads();
    const unsigned before = warps_exclusive_scan<kThreads>(__shfl_sync(kAllLanes, upto, 31), s_warps, total);
    return before + upto - value;
}

/* ---- bits, a word of shared memory for 32 places */

/*
 * Bits of those of `count` places that a cut takes: s_taken, from what key(place) is; of equal keys the first ones.
 * s_equal is as large. All threads of the block together; the words are there for all when it returns.
 */
template <int kThreads, typename Key>
__device__ __forceinline__ void take_bits(unsigned *s_taken, unsigned *s_equal, int count, const Cut &cut, Key key)
{
    const int lane = threadIdx.x % 32, words = (count + 31) / 32;
    for (int word = threadIdx.x / 32; word < words; word += kThreads / 32) {
        const int place = 32 * word + lane;
        const unsigned mine = place < count ? key(place) : 0u;
        const unsigned above = __ballot_sync(kAllLanes, place < count && mine > cut.key);
        const unsigned equal = __ballot_sync(kAllLanes, place < count && mine == cut.key);
        if (lane == 0) {
            s_taken[word] = above;
            s_equal[word] = equal;
        }
    }
    __syncthreads();
    const int part = (words + kThreads - 1) / kThreads, first = static_cast<int>(threadIdx.x) * part;
    unsigned mine = 0, total;
    for (int word = first; word < min(first + part, words); ++word) mine += __popc(s_equal[word]);
    unsigned before = block_exclusive_scan<kThreads>(mine, total);
    for (int word = first; word < min(first + part, words); ++word) {
        unsigned equal = s_equal[word];
        const unsigned here = __popc(equal);
        while (__popc(equal) + before > cut.ties && equal) equal &= ~(1u << (31 - __clz(equal))); // the last ones go
        s_taken[word] |= before < cut.ties ? equal : 0u;
        before += here;
    }
    __syncthreads();
}

/* Places whose bits are set, ascending; returns how many. s_before is as large as the bits. */
template <int kThreads>
__device__ __forceinline__ int list_bits(int *list, const unsigned *s_bits, unsigned *s_before, int count)
{
    const int lane = threadIdx.x % 32, words = (count + 31) / 32;
    const int part = (words + kThreads - 1) / kThreads, first = static_cast<int>(threadIdx.x) * part;
    unsigned mine = 0, total;
    for (int word = first; word < min(first + part, words); ++word) mine += __popc(s_bits[word]);
    unsigned before = block_exclusive_scan<kThreads>(mine, total);
    for (int word = first; word < min(first + part, words); ++word) {
        s_before[word] = before;
        before += __popc(s_bits[word]);
    }
    __syncthreads();
    for (int word = threadIdx.x / 32; word < words; word += kThreads / 32) {
        const unsigned bits = s_bits[word];
        if (bits >> lane & 1) list[s_before[word] + __popc(bits & ((1u << lane) - 1))] = 32 * word + lane;
    }
    return static_cast<int>(total);
}

/*
 * tile.cuh: tiles of rows in shared memory and the fragments that mma.sync takes from them.
 *
 * A tile row holds kHeadDim 16-bit elements and is 16 bytes longer than that: head dims are multiples of 32, so a row is an
 * odd number of 16-byte chunks, and the eight rows that ldmatrix reads at once lie in eight different bank groups.
 *
 * Fragment layout of mma.m16n8k16, lane = 4 * g + t: an accumulator c[0..1] is row g, columns 2t and 2t + 1, and c[2..3]
 * the same columns of row g + 8.
 */

template <int kHeadDim>
struct Tile {
    static constexpr int kPitchBytes = 2 * kHeadDim + 16;
    static constexpr int kChunks = kHeadDim / 8; /* 16-byte chunks a row */
    static_assert(kHeadDim % 16 == 0, "a fragment is 16 elements deep");
    static_assert(kPitchBytes / 16 % 2 == 1, "rows must fall into different banks");
};

/* First element of row `row` of one head. */
__device__ __forceinline__ const char *row_pointer(const tamis_rows &rows, int sequence, int head, long long row)
{
    const long long element = sequence * rows.batch_stride + head * rows.head_stride + row * rows.row_stride;
    return static_cast<const char *>(rows.data) + 2 * element;
}

/*
 * Start copying kRows rows into the tile at `shared`, all threads of the block together. `row_of(i)` gives the address of
 * tile row i, or null for a row of zeros.
 */
template <int kHeadDim, int kRows, int kThreads, typename RowOf>
__device__ __forceinline__ void load_rows_async(unsigned shared, const void *any_row, RowOf row_of)
{
    constexpr int kChunks = Tile<kHeadDim>::kChunks;
    for (int i = threadIdx.x; i < kRows * kChunks; i += kThreads) {
        const int row = i / kChunks, chunk = i % kChunks;
        const char *source = row_of(row);
        const bool valid = source != nullptr;
        copy_async_16(shared + row * Tile<kHeadDim>::kPitchBytes + chunk * 16,
                      valid ? source + chunk * 16 : static_cast<const char *>(any_row), valid);
    }
}

/*
 * Tiles of kRows complete rows, one after the other: what the main loop of a kernel loads, without asking whether a row
 * exists. A thread copies the same chunks of every kRowsAPass-th row, so that a tile costs it an addition a row.
 */
template <int kHeadDim, int kRows, int kThreads>
struct TileLoader {
    static constexpr int kChunks = Tile<kHeadDim>::kChunks;
    static constexpr int kLanes = kChunks & -kChunks; /* threads side by side in a row: the power of two in kChunks */
    static constexpr int kRowsAPass = kThreads / kLanes;
    const char *source;  /* this thread's first chunk of the next tile */
    long long row_bytes; /* from row to row */
    unsigned offset;     /* of that chunk in the tile */

    __device__ __forceinline__ TileLoader(const char *first_row, long long row_bytes_)
        : source(first_row + threadIdx.x / kLanes * row_bytes_ + threadIdx.x % kLanes * 16), row_bytes(row_bytes_),
          offset(threadIdx.x / kLanes * Tile<kHeadDim>::kPitchBytes + threadIdx.x % kLanes * 16)
    {
    }
    /* Start copying the tile to `shared`; the next one is the one before it. */
    __device__ __forceinline__ void load_backwards(unsigned shared)
    {
        const char *row = source;
#pragma unroll
        for (int i = 0; i < kRows; i += kRowsAPass) {
            if (kRows - i >= kRowsAPass || static_cast<int>(threadIdx.x) < (kRows - i) * kLanes)
#pragma unroll
                for (int chunk = 0; chunk < kChunks; chunk += kLanes)
                    copy_async_16(shared + offset + i * Tile<kHeadDim>::kPitchBytes + chunk * 16, row + chunk * 16);
            row += kRowsAPass * row_bytes;
        }
        source -= kRows * row_bytes;
    }
};

/* Byte offset, in a tile, of the address this lane gives ldmatrix for a 16x16 A operand at (row 0, column 0). */
template <int kHeadDim>
__device__ __forceinline__ unsigned lane_offset_a(int lane)
{
    return (lane & 15) * Tile<kHeadDim>::kPitchBytes + (lane >> 4) * 16;
}

/* The same for a B operand stored as [n][k] (keys by head dim): two n8 tiles, k16. */
template <int kHeadDim>
__device__ __forceinline__ unsigned lane_offset_b(int lane)
{
    return ((lane & 7) + ((lane >> 4) << 3)) * Tile<kHeadDim>::kPitchBytes + ((lane >> 3) & 1) * 16;
}

/*
 * c[kRowTiles][kColTiles] = A * B^T over the head dim, A and B tiles in shared memory. `a` and `b` are this lane's addresses
 * of the first row tile of A and the first column of B.
 */
template <typename Element, int kHeadDim, int kRowTiles, int kColTiles>
__device__ __forceinline__ void multiply_transposed(float (&c)[kRowTiles][kColTiles][4], unsigned a, unsigned b)
{
    static_assert(kColTiles % 2 == 0, "ldmatrix brings two column tiles at once");
    constexpr int kPitch = Tile<kHeadDim>::kPitchBytes;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int n = 0; n < kColTiles; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) c[m][n][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
        unsigned fragment_a[kRowTiles][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) load_matrix_x4(fragment_a[m], a + m * 16 * kPitch + k * 32);
#pragma unroll
        for (int n = 0; n < kColTiles; n += 2) {
            unsigned fragment_b[4];
            load_matrix_x4(fragment_b, b + n * 8 * kPitch + k * 32);
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                Element::mma(c[m][n], fragment_a[m], fragment_b[0], fragment_b[1]);
                Element::mma(c[m][n + 1], fragment_a[m], fragment_b[2], fragment_b[3]);
            }
        }
    }
}

/* Maximum and sum over the four lanes that share a fragment row. */
__device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/*
 * Four lanes hold a row's columns two by two, 16 bits each. Exchange so that each holds eight in a row: of the four words
 * packed[i], columns 8 * i + 2 * t and the next, lane t gets all of i = t.
 */
__device__ __forceinline__ int4 exchange_chunks(const unsigned (&packed)[4], int lane)
{
    unsigned value[4], word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) { // a lane sends what the lane i further wants
        const int wanted = (lane + i) % 4;
        const unsigned sent = wanted == 0 ? packed[0] : wanted == 1 ? packed[1] : wanted == 2 ? packed[2] : packed[3];
        value[i] = __shfl_sync(0xffffffffu, sent, (lane & ~3) | ((lane + 4 - i) % 4));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) { // value[j] came from lane t - j, and is that word of the chunk
        const int from = (lane + 4 - i) % 4;
        word[i] = from == 0 ? value[0] : from == 1 ? value[1] : from == 2 ? value[2] : value[3];
    }
    return make_int4(static_cast<int>(word[0]), static_cast<int>(word[1]), static_cast<int>(word[2]),
                     static_cast<int>(word[3]));
}

/* A tile of reduced rows of one head. */
struct XattnTile {
    int sequence, head, tile;
    long long rows, reduced, first_row; /* tokens; reduced rows; the tile's first of these */
    HeadRows q, k;
};

/* Of kRows reduced rows each, of a head. */
template <int kRows>
__device__ __forceinline__ int xattn_tiles(const tamis_pattern_xattn_args &args)
{
    const long long capacity = (args.source.capacity + args.stride - 1) / args.stride;
    return static_cast<int>((capacity + kRows - 1) / kRows);
}

/*
 * Pair number `item` of a head and kTogether tiles in a row, of which this is number `which`: the longest first, the heads of
 * one in turn.
 */
template <int kRows, int kTogether>
__device__ __forceinline__ XattnTile xattn_tile(const tamis_pattern_xattn_args &args, int item, int which)
{
    const tamis_pattern_source &source = args.source;
    const int heads = source.batch * source.q_heads, row = item % heads;
    XattnTile out;
    out.tile = (xattn_tiles<kRows * kTogether>(args) - 1 - item / heads) * kTogether + which;
    out.sequence = row / source.q_heads;
    out.head = row % source.q_heads;
    out.rows = rows_of(source.kept, out.sequence, source.seq_len);
    out.reduced = (out.rows + args.stride - 1) / args.stride;
    out.first_row = static_cast<long long>(out.tile) * kRows;
    out.q = query_rows(source, out.sequence, out.head);
    out.k = key_rows(source, out.sequence, out.head / (source.q_heads / source.compact_heads), out.rows);
    return out;
}

/*
 * Of the pairs of kTogether tiles, those that one of `workers` takes, in turn: there and back again, so that nobody has the
 * longest of every round.
 */
template <int kRows, int kTogether, typename Take>
__device__ __forceinline__ void xattn_share(const tamis_pattern_xattn_args &args, int worker, int workers, Take take)
{
    const int items = xattn_tiles<kRows * kTogether>(args) * args.source.batch * args.source.q_heads;
    for (int first = 0, place = worker; first < items; first += workers, place = workers - 1 - place)
        if (first + place < items) take(first + place);
}

/* Of a thread's two rows and the columns that it has seen: the largest logit in log2 units, and the exponentials' sum to it. */
struct XattnSums {
    float peak[2] = {-kInfinity, -kInfinity};
    float sum[2] = {0.0f, 0.0f};
};

/*
 * Of four groups of eight columns, `sums` of the lane's two in each: the whole group number lane % 4, by halves that lanes
 * exchange.
 */
__device__ __forceinline__ float xattn_group_sum(const float (&sums)[4], int lane)
{
    const bool odd = lane & 1, upper = lane & 2;
    float first = odd ? sums[1] : sums[0], second = odd ? sums[3] : sums[2];
    first += __shfl_xor_sync(0xffffffffu, odd ? sums[0] : sums[1], 1);
    second += __shfl_xor_sync(0xffffffffu, odd ? sums[2] : sums[3], 1);
    return (upper ? second : first) + __shfl_xor_sync(0xffffffffu, upper ? first : second, 2);
}

/*
 * Sums of exponentials of a warp's logits, for each of the thread's rows and key blocks, as logarithms into the rows' scratch,
 * and in all into `all`. `s` as softmax.cuh has logits, of kLogits / 4 groups of eight columns from `first_column` on, the
 * tile's row `row` and the one 8 below. `columns`: of a key block, a power of two from 2 to 32.
 */
template <int kLogits>
__device__ __forceinline__ void xattn_store_sums(float (&s)[kLogits], XattnSums &all, float *scratch, int pitch, int row,
                                                 int first_column, int columns, float scale_log2, int lane)
{
    static_assert(kLogits % 16 == 0, "key blocks have up to 32 columns");
    const int shift = 31 - __clz(columns);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float peak = -kInfinity;
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n) peak = fmaxf(peak, fmaxf(s[4 * n + 2 * half], s[4 * n + 2 * half + 1]));
        peak = quad_max(peak) * scale_log2;
        const float base = peak == -kInfinity ? 0.0f : peak;
        float total = 0.0f;
        float *out = scratch + static_cast<long long>(row + 8 * half) * pitch;
        const auto store = [&](int column, float sum) { // by the lane whose column is its key block's first
            const int block = (first_column + column) >> shift;
            if ((column & (columns - 1)) == 0 && block < pitch) out[block] = log2_approx(sum) + base;
        };
#pragma unroll
        for (int group = 0; group < kLogits / 16; ++group) { // of 32 columns
            float sums[4];
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                const float *pair = s + 16 * group + 4 * n + 2 * half;
                sums[n] = exp2_approx(fmaf(pair[0], scale_log2, -base)) + exp2_approx(fmaf(pair[1], scale_log2, -base));
                total += sums[n];
            }
            if (columns >= 8) {
                float sum = xattn_group_sum(sums, lane);
                if (columns >= 16) sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                if (columns >= 32) sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                store(32 * group + lane % 4 * 8, sum);
                continue;
            }
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                if (columns == 4) sums[n] += __shfl_xor_sync(0xffffffffu, sums[n], 1);
                store(32 * group + 8 * n + lane % 4 * 2, sums[n]);
            }
        }
        const float most = fmaxf(all.peak[half], peak), to = most == -kInfinity ? 0.0f : most;
        all.sum[half] = fmaf(all.sum[half], exp2_approx(all.peak[half] - to), total * exp2_approx(peak - to));
        all.peak[half] = most;
    }
}

/* A warp's sums for the whole block: `s_sums` is for the tile's rows, of the part of the columns that the warp has seen. */
__device__ __forceinline__ void xattn_share_sums(float2 *s_sums, const XattnSums &all, int row, int lane)
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float sum = quad_sum(all.sum[half]);
        if (lane % 4 == 0) s_sums[row + 8 * half] = make_float2(all.peak[half], sum);
    }
}

/*
 * From a tile's scratch to the estimates of its query blocks, in the lists' memory. kThreads threads of the block together,
 * this one being number `thread` of them; `sync` is a barrier of these. Behind one, the last sums of scratch were stored, and
 * those of kParts parts of the columns into `s_sums`, (kParts, kRows), which is written to.
 */
template <int kRows, int kParts, int kThreads, typename Sync>
__device__ __forceinline__ void xattn_write_estimates(const tamis_pattern_xattn_args &args, const XattnTile &tile,
                                                      const float *scratch, float2 *s_sums, int thread, Sync sync)
{
    const int lane = thread % 32, warp = thread / 32, pitch = args.lists.tiles;
    const int columns = kBlock / args.stride, blocks = blocks_of(tile.rows);
    const int rows = static_cast<int>(min(tile.reduced - tile.first_row, static_cast<long long>(kRows)));
    const int first_block = tile.tile * (kRows / columns);
    for (int r = thread; r < rows; r += kThreads) { // logarithms of the rows' sums, where the first part's peaks were
        float peak = s_sums[r].x, sum = 0.0f;
        for (int part = 1; part < kParts; ++part) peak = fmaxf(peak, s_sums[part * kRows + r].x);
        for (int part = 0; part < kParts; ++part) {
            const float2 one = s_sums[part * kRows + r];
            sum = fmaf(one.y, exp2_approx(one.x - peak), sum);
        }
        s_sums[r].x = peak + log2f(sum);
    }
    sync();
    for (int b = warp; b < kRows / columns && first_block + b < blocks; b += kThreads / 32) {
        const int i = first_block + b, from = b * columns, to = min(from + columns, rows);
        float *out = reinterpret_cast<float *>(list_row(args.lists, args.source.q_heads, tile.sequence, tile.head, i));
        for (int j = lane; j <= i; j += 32) {
            float sum = 0.0f;
#pragma unroll 8
            for (int r = from; r < to; ++r) sum += exp2_approx(scratch[static_cast<long long>(r) * pitch + j] - s_sums[r].x);
            out[j] = sum;
        }
    }
}

constexpr int kHeadDim = 128;
constexpr int kStages = 4; // steps in flight: of 64 elements of each row
constexpr int kRows = 128, kColumns = 256; // of a tile
constexpr int kCluster = TAMIS_PATTERN_XATTN_CLUSTER;
constexpr int kShare = kColumns / kCluster; // columns that a block loads for its cluster
constexpr int kProducts = kColumns / 2;     // a thread
constexpr int kRowBytes = 128;              // of a step: 8 chunks of 16 bytes, swizzled
constexpr int kStageBytes = (kRows + kColumns) * kRowBytes;
constexpr int kRowChunks = kHeadDim / 8;            // a token
constexpr bool kEngine = kHeadDim % 64 == 0;        // steps lie within a token, as boxes do
constexpr int kBehind = 2;                          // steps that are still loading when the next one is started
constexpr int kLoadingWarps = 4;
constexpr int kComputing = 256; // threads
static_assert(kStages >= kBehind + 2, "a step is given back one step after its products were started");
static_assert(kCluster == 2, "each block's half of the columns is a box");

struct Shared {
    unsigned stages, barriers;
    __device__ __forceinline__ unsigned stage(int i) const { return stages + i * kStageBytes; }
    __device__ __forceinline__ unsigned full(int i) const { return barriers + 8 * i; }
    __device__ __forceinline__ unsigned empty(int i) const { return barriers + 8 * (kStages + i); }
};

// S antidiagonals are S * kHeadDim elements deep.
__device__ __forceinline__ int steps_a_tile(int stride) { return stride * kHeadDim / 64; }

// Tiles of columns that the cluster's rows see, the same in both blocks.
__device__ __forceinline__ int column_tiles(const XattnTile &tile)
{
    const long long end = (tile.tile / kCluster + 1) * static_cast<long long>(kRows * kCluster);
    return static_cast<int>((min(end, tile.reduced) + kColumns - 1) / kColumns);
}

// A cluster's tiles in their order: `take` gets the block's own. Both blocks come by the same ones.
template <typename Take>
__device__ __forceinline__ void for_each_tile(const tamis_pattern_xattn_args &args, Take take)
{
    const int rank = static_cast<int>(blockIdx.x) % kCluster;
    xattn_share<kRows, kCluster>(args, blockIdx.x / kCluster, gridDim.x / kCluster, [&](int item) {
        const XattnTile tile = xattn_tile<kRows, kCluster>(args, item, rank);
        if (tile.first_row - rank * kRows < tile.reduced) take(tile);
    });
}

// ---- the loading warpgroup

// One chunk of kCount rows, 16 rows of a tile apart: of tokens from `token` on, `step` apart, zeros behind the last one. A
// warp of these has few instructions to spare a copy, so that addresses are sums where all tokens are there.
template <int kCount>
__device__ __forceinline__ void load_rows(unsigned place, const HeadRows &rows, int token, int step, int count, int bytes)
{
    constexpr int kApart = 16 * kRowBytes, kGroup = kCount % 4 == 0 ? 4 : 2;
    static_assert(kCount % kGroup == 0, "rows of a tile come in groups");
    if (!rows.indices && token + (kCount - 1) * step < count) {
        const char *source = rows.first + token * rows.pitch + bytes;
        const long long pitch = step * rows.pitch;
#pragma unroll
        for (int i = 0; i < kCount; ++i, source += pitch) copy_async_16(place + i * kApart, source);
        return;
    }
#pragma unroll 1
    for (int first = 0; first < kCount; first += kGroup) {
        int at[kGroup]; // all are on their way before one is needed
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
            at[i] = token + (first + i) * step;
            if (rows.indices && at[i] < count) at[i] = rows.indices[at[i]];
        }
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
            const bool exists = token + (first + i) * step < count;
            copy_async_16(place + (first + i) * kApart, rows.first + (exists ? at[i] * rows.pitch + bytes : 0), exists);
        }
    }
}

// What is left of a step to threads. A thread has one chunk of every 16th row, which keeps its place in a swizzled row.
__device__ __forceinline__ void load_step(const XattnTile &tile, int stride, int column_tile, int within, unsigned s_stage,
                                          bool q, bool k)
{
    const int thread = static_cast<int>(threadIdx.x), chunk = thread % 8, first = thread / 8;
    const int depth = within * 8 + chunk, t = depth / kRowChunks, bytes = depth % kRowChunks * 16;
    const unsigned place = s_stage + (chunk ^ first % 8) * 16 + first * kRowBytes;
    const int row = static_cast<int>(tile.first_row) + first, column = column_tile * kColumns + first;
    const int rows = static_cast<int>(tile.rows);
    if (q) load_rows<kRows / 16>(place, tile.q, row * stride + stride - 1 - t, 16 * stride, rows, bytes);
    if (k) load_rows<kColumns / 16>(place + kRows * kRowBytes, tile.k, column * stride + t, 16 * stride, rows, bytes);
    copy_async_commit();
}

// What the copy engine brings of a tile's rows, asked for by one thread: all of the block's of Q, or none, and the block's
// share of K's for both blocks.
struct Engine {
    const tamis_pattern_xattn_tma_args &args;
    const tamis_tensor_map *keys;
    int rank, key_head, head, sequence, first_row, last_of_group;

    __device__ __forceinline__ Engine(const tamis_pattern_xattn_tma_args &all, const XattnTile &tile)
        : args(all), rank(static_cast<int>(blockIdx.x) % kCluster), head(tile.head), sequence(tile.sequence),
          first_row(static_cast<int>(tile.first_row)), last_of_group(all.xattn.stride - 1)
    {
        const tamis_pattern_source &source = all.xattn.source;
        const bool full = source.k_full.data && tile.rows == source.seq_len; // as key_rows() has it
        keys = full ? &all.k_full : &all.k;
        key_head = tile.head / (source.q_heads / (full ? source.kv_heads : source.compact_heads));
    }
    __device__ __forceinline__ void bring(int column_tile, int within, unsigned s_stage, unsigned barrier, bool q, bool k) const
    {
        const int t = within / (kHeadDim / 64), element = within % (kHeadDim / 64) * 64;
        barrier_expect_more(barrier, ((q ? kRows : 0) + (k ? kColumns : 0)) * kRowBytes);
        if (q) strided_load(s_stage, &args.q, barrier, element, last_of_group - t, first_row, head, sequence);
        if (k)
            strided_load_shared(s_stage + (kRows + rank * kShare) * kRowBytes, keys, barrier, element, t,
                                column_tile * kColumns + rank * kShare, key_head, sequence, (1 << kCluster) - 1);
    }
};

// Steps whose copies this thread has started and not told of: up to kBehind.
struct Started {
    Ring<kStages> oldest;
    int count = 0;
    // Everything that came before the last kPending steps is there.
    template <int kPending>
    __device__ __forceinline__ void publish(const Shared &shared)
    {
        copy_async_wait<kPending>();
        fence_async_proxy();
        __syncwarp();
        if (threadIdx.x % 32 == 0) barrier_arrive(shared.full(oldest.stage));
        oldest.advance();
    }
    __device__ __forceinline__ void add(const Shared &shared, const Ring<kStages> &ring)
    {
        if (count == 0) oldest = ring;
        if (count < kBehind)
            ++count;
        else
            publish<kBehind>(shared);
    }
    __device__ __forceinline__ void publish_all(const Shared &shared)
    {
        for (; count > 0; --count) publish<0>(shared);
    }
};

__device__ __forceinline__ void load_tiles(const tamis_pattern_xattn_tma_args &args, const Shared &shared)
{
    Ring<kStages> ring;
    Started started;
    const int stride = args.xattn.stride, steps = steps_a_tile(stride);
    for_each_tile(args.xattn, [&](const XattnTile &tile) {
        const bool q = kEngine && !tile.q.indices && (tile.first_row + kRows) * stride <= tile.rows;
        const int tiles = column_tiles(tile);
        const Engine engine(args, tile);
        for (int column_tile = 0; column_tile < tiles; ++column_tile) {
            const bool k = kEngine && (column_tile + 1LL) * kColumns * stride <= tile.rows;
            if (q && k) started.publish_all(shared);
            for (int within = 0; within < steps; ++within) {
                barrier_wait(shared.empty(ring.stage), ring.phase ^ 1);
                if ((q || k) && threadIdx.x == 0)
                    engine.bring(column_tile, within, shared.stage(ring.stage), shared.full(ring.stage), q, k);
                if (q && k) {
                    if (threadIdx.x % 32 == 0) barrier_arrive(shared.full(ring.stage));
                } else {
                    load_step(tile, stride, column_tile, within, shared.stage(ring.stage), !q, !k);
                    started.add(shared, ring);
                }
                ring.advance();
            }
        }
    });
    started.publish_all(shared);
}

// ---- the computing warpgroups

// S = A B^T or S += A B^T, 16 deep.
__device__ __forceinline__ void wgmma(float (&s)[128], unsigned long long a, unsigned long long b, int accumulate)
{
    asm volatile("{\n"
                 ".reg .pred accumulate;\n"
                 "setp.ne.b32 accumulate, %130, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, "
                 "%40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, "
                 "%56, %57, %58, %59, %60, %61, %62, %63, "
                 "%64, %65, %66, %67, %68, %69, %70, %71, "
                 "%72, %73, %74, %75, %76, %77, %78, %79, "
                 "%80, %81, %82, %83, %84, %85, %86, %87, "
                 "%88, %89, %90, %91, %92, %93, %94, %95, "
                 "%96, %97, %98, %99, %100, %101, %102, %103, "
                 "%104, %105, %106, %107, %108, %109, %110, %111, "
                 "%112, %113, %114, %115, %116, %117, %118, %119, "
                 "%120, %121, %122, %123, %124, %125, %126, %127"
                 "}, %128, %129, accumulate, 1, 1, 0, 0;\n"
                 "}"
                 : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]), "+f"(s[7])
                 , "+f"(s[8]), "+f"(s[9]), "+f"(s[10]), "+f"(s[11]), "+f"(s[12]), "+f"(s[13]), "+f"(s[14]), "+f"(s[15])
                 , "+f"(s[16]), "+f"(s[17]), "+f"(s[18]), "+f"(s[19]), "+f"(s[20]), "+f"(s[21]), "+f"(s[22]), "+f"(s[23])
                 , "+f"(s[24]), "+f"(s[25]), "+f"(s[26]), "+f"(s[27]), "+f"(s[28]), "+f"(s[29]), "+f"(s[30]), "+f"(s[31])
                 , "+f"(s[32]), "+f"(s[33]), "+f"(s[34]), "+f"(s[35]), "+f"(s[36]), "+f"(s[37]), "+f"(s[38]), "+f"(s[39])
                 , "+f"(s[40]), "+f"(s[41]), "+f"(s[42]), "+f"(s[43]), "+f"(s[44]), "+f"(s[45]), "+f"(s[46]), "+f"(s[47])
                 , "+f"(s[48]), "+f"(s[49]), "+f"(s[50]), "+f"(s[51]), "+f"(s[52]), "+f"(s[53]), "+f"(s[54]), "+f"(s[55])
                 , "+f"(s[56]), "+f"(s[57]), "+f"(s[58]), "+f"(s[59]), "+f"(s[60]), "+f"(s[61]), "+f"(s[62]), "+f"(s[63])
                 , "+f"(s[64]), "+f"(s[65]), "+f"(s[66]), "+f"(s[67]), "+f"(s[68]), "+f"(s[69]), "+f"(s[70]), "+f"(s[71])
                 , "+f"(s[72]), "+f"(s[73]), "+f"(s[74]), "+f"(s[75]), "+f"(s[76]), "+f"(s[77]), "+f"(s[78]), "+f"(s[79])
                 , "+f"(s[80]), "+f"(s[81]), "+f"(s[82]), "+f"(s[83]), "+f"(s[84]), "+f"(s[85]), "+f"(s[86]), "+f"(s[87])
                 , "+f"(s[88]), "+f"(s[89]), "+f"(s[90]), "+f"(s[91]), "+f"(s[92]), "+f"(s[93]), "+f"(s[94]), "+f"(s[95])
                 , "+f"(s[96]), "+f"(s[97]), "+f"(s[98]), "+f"(s[99]), "+f"(s[100]), "+f"(s[101]), "+f"(s[102]), "+f"(s[103])
                 , "+f"(s[104]), "+f"(s[105]), "+f"(s[106]), "+f"(s[107]), "+f"(s[108]), "+f"(s[109]), "+f"(s[110]), "+f"(s[111])
                 , "+f"(s[112]), "+f"(s[113]), "+f"(s[114]), "+f"(s[115]), "+f"(s[116]), "+f"(s[117]), "+f"(s[118]), "+f"(s[119])
                 , "+f"(s[120]), "+f"(s[121]), "+f"(s[122]), "+f"(s[123]), "+f"(s[124]), "+f"(s[125]), "+f"(s[126]), "+f"(s[127])
                 : "l"(a), "l"(b), "r"(accumulate));
}

// A step goes back to both blocks, as either loads for the other.
__device__ __forceinline__ void give_back(unsigned empty, int lane)
{
    if (lane < kCluster) cluster_barrier_arrive(empty, lane);
}

// Products of a tile of columns, over all of its depth. A step is given back when the next one's products were started and its
// own are through.
__device__ __forceinline__ void multiply_tile(float (&s)[kProducts], const Shared &shared, Ring<kStages> &ring, int steps,
                                              int warpgroup, int lane)
{
    int before = 0;
    for (int step = 0; step < steps; ++step) {
        const unsigned stage = shared.stage(ring.stage);
        const unsigned a = descriptor_low(stage + warpgroup * 64 * kRowBytes, 0);
        const unsigned b = descriptor_low(stage + kRows * kRowBytes, 0);
        barrier_wait(shared.full(ring.stage), ring.phase);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) wgmma(s, matrix_descriptor(a, 32 * k), matrix_descriptor(b, 32 * k), step > 0 || k > 0);
        wgmma_commit();
        if (step > 0) {
            wgmma_wait<1>();
            give_back(shared.empty(before), lane);
        }
        before = ring.stage;
        ring.advance();
    }
    wgmma_wait<0>();
    pin_registers(s);
    give_back(shared.empty(before), lane);
}

__device__ __forceinline__ void estimate_tiles(const tamis_pattern_xattn_args &args, const Shared &shared, float2 *s_sums,
                                               int thread)
{
    Ring<kStages> ring;
    const int lane = thread % 32, warpgroup = thread / 128, row = thread / 32 * 16 + lane / 4;
    const int steps = steps_a_tile(args.stride);
    const float scale_log2 = args.source.scale_log2 / static_cast<float>(args.stride);
    float *scratch = args.scratch + static_cast<long long>(blockIdx.x) * kRows * args.lists.tiles;
    for_each_tile(args, [&](const XattnTile &tile) {
        const int tiles = column_tiles(tile);
        XattnSums sums;
        for (int column_tile = 0; column_tile < tiles; ++column_tile) {
            float s[kProducts];
            multiply_tile(s, shared, ring, steps, warpgroup, lane);
            const int last = static_cast<int>(tile.first_row) + row - column_tile * kColumns; // column that the row sees
            if (static_cast<long long>(column_tile + 1) * kColumns > tile.first_row)
#pragma unroll
                for (int i = 0; i < kProducts; ++i)
                    if (i / 4 * 8 + 2 * (lane % 4) + i % 2 > last + i % 4 / 2 * 8) s[i] = -kInfinity;
            xattn_store_sums(s, sums, scratch, args.lists.tiles, row, column_tile * kColumns, kBlock / args.stride, scale_log2,
                             lane);
        }
        xattn_share_sums(s_sums, sums, row, lane);
        named_sync(1, kComputing);
        xattn_write_estimates<kRows, 1, kComputing>(args, tile, scratch, s_sums, thread, [] { named_sync(1, kComputing); });
        named_sync(1, kComputing); // the next tile's sums take the place of these
    });
}

// grid = (clusters of two: at most the slots of scratch).
extern "C" __global__ void __launch_bounds__(384, 1)
tamis_pattern_xattn_wgmma_bf16_d128_bn256_cr208_pr88_s4(const __grid_constant__ tamis_pattern_xattn_tma_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    __shared__ float2 s_sums[kRows];
    const unsigned memory = shared_address(s_memory);
    const Shared shared = {memory, memory + kStages * kStageBytes};
    const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            barrier_init(shared.full(stage), kLoadingWarps);
            barrier_init(shared.empty(stage), kComputing / 32 * kCluster);
        }
        barrier_init_fence();
    }
    follow_stream();
    cluster_sync<kCluster>(); // the barriers of both blocks are there
    if (warpgroup == 0) {
        give_registers<88>();
        load_tiles(args, shared);
    } else {
        take_registers<208>();
        estimate_tiles(args.xattn, shared, s_sums, static_cast<int>(threadIdx.x) - 128);
    }
    cluster_sync<kCluster>(); // the other one may still load into this block's memory, and arrive at its barriers
}
