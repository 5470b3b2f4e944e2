// made by: tamis show SPEC --variant pattern_bf16_d128_ct128_mt256_t128 --arch sm_80
// tamis_pattern_bf16_d128_ct128_mt256_t128_sliding: 128 threads, 0 bytes of dynamic shared memory
// tamis_pattern_bf16_d128_ct128_mt256_t128_means: 256 threads, 0 bytes of dynamic shared memory
// tamis_pattern_bf16_d128_ct128_mt256_t128_products: 256 threads, 0 bytes of dynamic shared memory
// tamis_pattern_bf16_d128_ct128_mt256_t128_choose: 128 threads, 0 bytes of dynamic shared memory

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

using Element = Bf16;

constexpr int kHeadDim = 128;
constexpr int kThreads = 128;            // of sliding, a warp a list
constexpr int kMeansThreads = 256; // of which each adds up 8 elements of every kRowGroups-th row
constexpr int kChunks = 16;                // of 16 bytes, a row
constexpr int kRowGroups = 16;
constexpr int kProductThreads = 256; // of a tile of kTile by kTile products
constexpr int kTile = 64;
constexpr int kDepth = 32; // of the head dim, a step
constexpr int kChooseThreads = 128;
static_assert(kHeadDim % kDepth == 0, "whole steps");

// ---- sliding windows and sinks

// Whether key `k` of a block is seen by its query `q` from `distance` blocks further on, by the window; and by the sink.
__device__ __forceinline__ bool in_window(const tamis_pattern_sliding_args &args, long long distance, int q, int k)
{
    return distance * kBlock + q - k < args.window_tokens;
}

// Five masks: the window at the first distance at which it sees a block in part, and at the next; both again with the sink's
// last block; and this one alone.
__device__ __forceinline__ void write_masks(const tamis_pattern_sliding_args &args)
{
    const long long first = args.window_tokens / kBlock;
    const int sinks = static_cast<int>(args.sink_tokens % kBlock);
    for (int i = threadIdx.x; i < 5 * TAMIS_BLOCK_MASK_WORDS; i += kThreads) {
        const int mask = i / TAMIS_BLOCK_MASK_WORDS, q = i % TAMIS_BLOCK_MASK_WORDS / 4, from = i % 4 * 32;
        unsigned word = 0;
        for (int k = from; k < from + 32; ++k) {
            const bool window = mask < 4 && in_window(args, first + mask % 2, q, k), sink = mask >= 2 && k < sinks;
            word |= static_cast<unsigned>(window || sink) << (k - from);
        }
        args.masks[i] = word;
    }
}

// The entry of block j for query block i; -1: none.
__device__ __forceinline__ int sliding_entry(const tamis_pattern_sliding_args &args, long long i, long long j)
{
    const long long distance = (i - j) * kBlock, sink_block = args.sink_tokens / kBlock;
    const bool window = distance - (kBlock - 1) < args.window_tokens;
    const bool sink = j == sink_block && args.sink_tokens % kBlock > 0;
    if (j < sink_block || distance + kBlock - 1 < args.window_tokens) return static_cast<int>(j);
    if (!window && !sink) return -1;
    const int next = i - j > args.window_tokens / kBlock;
    const int mask = !window ? 4 : sink ? 2 + next : next;
    return (mask + 1) << TAMIS_BLOCK_BITS | static_cast<int>(j);
}

// grid = (ceil(T / warps), Hq, B). The first block writes the masks.
extern "C" __global__ void __launch_bounds__(kThreads)
tamis_pattern_bf16_d128_ct128_mt256_t128_sliding(const __grid_constant__ tamis_pattern_sliding_args args)
{
    follow_stream();
    if (blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0) write_masks(args);
    const int lane = threadIdx.x % 32, i = static_cast<int>(blockIdx.x * (kThreads / 32) + threadIdx.x / 32);
    const int sequence = blockIdx.z, head = blockIdx.y;
    if (i >= blocks_of(rows_of(args.kept, sequence, args.seq_len))) return;
    int *list = list_row(args.lists, args.q_heads, sequence, head, i);
    // Blocks between the sink and the window are not looked at.
    const long long sink_end = (args.sink_tokens + kBlock - 1) / kBlock;
    const long long window_begin = i - min((args.window_tokens - 1) / kBlock + 2, static_cast<long long>(i));
    const int skip_from = static_cast<int>(min(sink_end, window_begin));
    const int skipped = static_cast<int>(window_begin) - skip_from;
    int count = 0;
    for (int first = 0; first <= i - skipped; first += 32) {
        const int place = first + lane, j = place < skip_from ? place : place + skipped;
        const int entry = place <= i - skipped ? sliding_entry(args, i, j) : -1;
        const unsigned lanes = __ballot_sync(kAllLanes, entry >= 0);
        if (entry >= 0) list[count + __popc(lanes & ((1u << lane) - 1))] = entry;
        count += __popc(lanes);
    }
    if (lane == 0) *list_count(args.lists, args.q_heads, sequence, head, i) = count;
}

// ---- means of blocks

// grid = (T, Hq + Hc, B): heads of Q, then of K.
extern "C" __global__ void __launch_bounds__(kMeansThreads)
tamis_pattern_bf16_d128_ct128_mt256_t128_means(const __grid_constant__ tamis_pattern_means_args args)
{
    __shared__ float s_sums[kRowGroups][kHeadDim];
    follow_stream();
    const tamis_pattern_source &source = args.source;
    const int sequence = blockIdx.z, block = blockIdx.x, head = blockIdx.y;
    const long long rows = rows_of(source.kept, sequence, source.seq_len);
    const int count = static_cast<int>(min(rows - static_cast<long long>(block) * kBlock, static_cast<long long>(kBlock)));
    if (count <= 0) return;
    const bool is_query = head < source.q_heads;
    const HeadRows from = is_query ? query_rows(source, sequence, head)
                                   : key_rows(source, sequence, head - source.q_heads, rows);

    const int group = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    float sums[8] = {};
    for (int row = group; row < count && group < kRowGroups; row += kRowGroups) {
        const int4 words = *reinterpret_cast<const int4 *>(from.row(static_cast<long long>(block) * kBlock + row) + 16 * chunk);
        const int word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[i] += element_of<Element>(static_cast<unsigned>(word[i / 2]), i % 2);
    }
    if (group < kRowGroups)
#pragma unroll
        for (int i = 0; i < 8; ++i) s_sums[group][8 * chunk + i] = sums[i];
    __syncthreads();

    const int heads = is_query ? source.q_heads : source.compact_heads, place = is_query ? head : head - source.q_heads;
    float *mean = (is_query ? args.mean_q : args.mean_k) +
                  ((static_cast<long long>(sequence) * heads + place) * args.tiles + block) * kHeadDim;
    for (int d = threadIdx.x; d < kHeadDim; d += kMeansThreads) {
        float sum = 0.0f;
#pragma unroll 1
        for (int i = 0; i < kRowGroups; ++i) sum += s_sums[i][d];
        mean[d] = sum / static_cast<float>(count);
    }
}

// ---- their products: a thread has four by four of a tile

// Steps of the head dim of kTile means from `first` on, in shared memory with the head dim outermost; zeros behind the last.
__device__ __forceinline__ void load_step(float (&s_step)[kDepth][kTile + 4], const float *means, int first, int count,
                                          int depth)
{
    for (int i = threadIdx.x; i < kTile * kDepth; i += kProductThreads) {
        const int row = i / kDepth, d = i % kDepth;
        s_step[d][row] = first + row < count ? means[static_cast<long long>(first + row) * kHeadDim + depth + d] : 0.0f;
    }
}

// grid = (ceil(T / kTile)^2, Hq, B).
extern "C" __global__ void __launch_bounds__(kProductThreads)
tamis_pattern_bf16_d128_ct128_mt256_t128_products(const __grid_constant__ tamis_pattern_products_args args)
{
    __shared__ __align__(16) float s_q[kDepth][kTile + 4], s_k[kDepth][kTile + 4];
    follow_stream();
    const int sequence = blockIdx.z, head = blockIdx.y, tiles = args.lists.tiles;
    const int side = (tiles + kTile - 1) / kTile, first_i = static_cast<int>(blockIdx.x) / side * kTile;
    const int first_j = static_cast<int>(blockIdx.x) % side * kTile;
    const int blocks = blocks_of(rows_of(args.kept, sequence, args.seq_len));
    const long long query_head = static_cast<long long>(sequence) * args.q_heads + head;
    if (first_j > first_i || first_i >= blocks) return;
    if (args.modes && args.modes[query_head] != TAMIS_PATTERN_PAIRS) return;
    const long long key_head =
        static_cast<long long>(sequence) * args.compact_heads + head / (args.q_heads / args.compact_heads);
    const float *mean_q = args.mean_q + query_head * tiles * kHeadDim, *mean_k = args.mean_k + key_head * tiles * kHeadDim;

    const int i0 = static_cast<int>(threadIdx.x) / 16 * 4, j0 = static_cast<int>(threadIdx.x) % 16 * 4;
    float sums[4][4] = {};
    for (int depth = 0; depth < kHeadDim; depth += kDepth) {
        __syncthreads();
        load_step(s_q, mean_q, first_i, blocks, depth);
        load_step(s_k, mean_k, first_j, blocks, depth);
        __syncthreads();
#pragma unroll 8
        for (int d = 0; d < kDepth; ++d) {
            const float4 q = *reinterpret_cast<const float4 *>(&s_q[d][i0]), k = *reinterpret_cast<const float4 *>(&s_k[d][j0]);
            const float a[4] = {q.x, q.y, q.z, q.w}, b[4] = {k.x, k.y, k.z, k.w};
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (first_i + i0 + i >= blocks) continue;
        float *row = reinterpret_cast<float *>(list_row(args.lists, args.q_heads, sequence, head, first_i + i0 + i));
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (first_j + j0 + j <= first_i + i0 + i) row[first_j + j0 + j] = sums[i][j] * args.scale_log2;
    }
}

// ---- lists out of scores

// Shared memory: while the cut is looked for, bins; then bits of blocks, of which there are up to 2^24 / 128.
constexpr int kWords = (1 << 24) / kBlock / 32;
union ChooseMemory {
    Sums sums[2];
    struct {
        unsigned taken[kWords], equal[kWords];
    } bits;
};

// grid = (T, Hq, B), the last query blocks first.
extern "C" __global__ void __launch_bounds__(kChooseThreads)
tamis_pattern_bf16_d128_ct128_mt256_t128_choose(const __grid_constant__ tamis_pattern_choose_args args)
{
    __shared__ ChooseMemory s_memory;
    follow_stream();
    const int sequence = blockIdx.z, head = blockIdx.y, i = static_cast<int>(gridDim.x - 1 - blockIdx.x);
    if (i >= blocks_of(rows_of(args.kept, sequence, args.seq_len))) return;
    int *list = list_row(args.lists, args.q_heads, sequence, head, i);
    const float *scores = reinterpret_cast<const float *>(list);
    const bool by_mass = args.threshold > 0.0;
    Cut cut = kTakeNothing;
    if (by_mass) {
        // Blocks 0 and i are taken; others lie between them.
        const auto visit = places<kChooseThreads>(1, i, [=](long long j) { return key_of_mass(scores[j]); });
        float sum = 0.0f;
        for (int j = threadIdx.x; j <= i; j += kChooseThreads) sum += scores[j];
        sum = block_sum<kChooseThreads>(sum);
        const int unit = 60 - ((__float_as_int(sum) >> 23 & 0xff) - 127); // the sum of all stays below 2^62
        const auto weight = [&](unsigned key) { return mass_of(key, unit); };
        const Extent extent = find_extent<kChooseThreads>(visit, weight);
        const unsigned long long first = weight(key_of_mass(scores[0])), own = i > 0 ? weight(key_of_mass(scores[i])) : 0;
        const unsigned long long there = first + own, total = there + extent.total;
        const unsigned long long required =
            min(static_cast<unsigned long long>(ceil(args.threshold * static_cast<double>(total))), total);
        if (there < required) cut = find_cut<kChooseThreads>(visit, weight, extent, required - there, s_memory.sums);
    } else {
        const auto visit = places<kChooseThreads>(0, i + 1, [=](long long j) { return key_of(scores[j]); });
        const auto weight = [](unsigned) { return 1ull; };
        const double part = ceil(args.ratio * static_cast<double>(i + 1));
        const long long most = args.blocks > 0 ? args.blocks : static_cast<long long>(part);
        const long long wanted = min(most, static_cast<long long>(i + 1));
        const Extent extent = find_extent<kChooseThreads>(visit, weight);
        cut = find_cut<kChooseThreads>(visit, weight, extent, static_cast<unsigned long long>(wanted), s_memory.sums);
    }
    __syncthreads(); // the bins were read, and become bits
    take_bits<kChooseThreads>(s_memory.bits.taken, s_memory.bits.equal, i + 1, cut, [&](int j) {
        if (!by_mass) return key_of(scores[j]);
        return j == 0 || j == i ? 0xffffffffu : key_of_mass(scores[j]);
    });
    if (by_mass && threadIdx.x == 0) { // whatever the cut is
        s_memory.bits.taken[0] |= 1u;
        s_memory.bits.taken[i / 32] |= 1u << i % 32;
    }
    __syncthreads();
    const int count = list_bits<kChooseThreads>(list, s_memory.bits.taken, s_memory.bits.equal, i + 1);
    if (threadIdx.x == 0) *list_count(args.lists, args.q_heads, sequence, head, i) = count;
}
