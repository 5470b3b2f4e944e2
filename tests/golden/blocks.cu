// made by: tamis show SPEC --variant blocks_ot1024_t128 --arch sm_80
// tamis_blocks_ot1024_t128_bits: 128 threads, 0 bytes of dynamic shared memory
// tamis_blocks_ot1024_t128_rows: 128 threads, 0 bytes of dynamic shared memory
// tamis_blocks_ot1024_t128_order: 1024 threads, 0 bytes of dynamic shared memory

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
 * blocks.cuh: lists of blocks as block_args.h has them: the part of a list that counts, what an entry says, and masks of
 * partly visible blocks on logits in the layout of softmax.cuh.
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

constexpr int kBlock = TAMIS_BLOCK; // queries, and keys, of a block
constexpr int kBlockNumber = (1 << TAMIS_BLOCK_BITS) - 1;

/*
 * A list without entries is attended to as one that has the query block itself, of which no key is seen: so that every tile
 * has a step, after which its rows are found to have seen nothing.
 */
constexpr int kNothing = static_cast<int>(1u << 31);

struct BlockList {
    const int *entries;
    int count;
};

/* The list of query block `tile` of a head, `head` counted through all sequences. Blocks behind the tile are left out. */
__device__ __forceinline__ BlockList find_list(const tamis_block_lists &lists, int head, int tile)
{
    const long long place = static_cast<long long>(head) * lists.tiles + tile;
    BlockList list = {lists.list + place * lists.row, min(lists.count[place], lists.row)};
    while (list.count > 0 && (list.entries[list.count - 1] & kBlockNumber) > tile) --list.count;
    return list;
}

/* The block's number. An ascending list, cut short as above, never needs the bound; it keeps others inside the tensors. */
__device__ __forceinline__ int block_number(int entry, int tile) { return min(entry & kBlockNumber, tile); }

/* Is the entry other than a block that is seen whole? */
__device__ __forceinline__ bool is_partial(int entry) { return entry & ~kBlockNumber; }

/*
 * Take away what an entry's mask does not let the thread's two rows see: of the block's keys `first_key` and on, its rows
 * `row` and `row + 8`. lane = 4 * g + t.
 */
template <int kLogits>
__device__ __forceinline__ void mask_block(float (&s)[kLogits], const tamis_block_lists &lists, int entry, int row,
                                           int first_key, int lane)
{
    constexpr int kWords = kLogits / 16; // of 32 keys
    static_assert(kLogits % 16 == 0, "masks are read 32 keys at a time");
    const int mask = entry >> TAMIS_BLOCK_BITS;
    if (mask > lists.mask_count || mask == 0) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const long long at = static_cast<long long>(mask - 1) * TAMIS_BLOCK_MASK_WORDS + (row + 8 * half) * 4 + first_key / 32;
#pragma unroll
        for (int word = 0; word < kWords; ++word) {
            const unsigned bits = mask < 0 ? 0 : lists.masks[at + word] >> 2 * (lane % 4);
#pragma unroll
            for (int n = 0; n < 4; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    if (!(bits >> (8 * n + i) & 1)) s[16 * word + 4 * n + 2 * half + i] = -kInfinity;
        }
    }
}

constexpr int kThreads = 128; // of the kernels that make lists, one warp a list
constexpr int kWarps = kThreads / 32;
constexpr int kOrderThreads = 1024;
constexpr int kBins = kOrderThreads; // of tiles whose lists are about equally long, and a last one for those without rows

// One warp a list. grid = (ceil(T / warps), Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads) tamis_blocks_ot1024_t128_bits(const __grid_constant__ tamis_blocks_bits_args args)
{
    follow_stream();
    const int lane = threadIdx.x % 32, tile = blockIdx.x * kWarps + threadIdx.x / 32;
    if (tile >= args.lists.tiles) return;
    const long long place = (static_cast<long long>(blockIdx.z) * args.q_heads + blockIdx.y) * args.lists.tiles + tile;
    const unsigned *bits = args.bits + place * args.words;
    int *list = args.lists.list + place * args.lists.row;
    const int words = tile / 32 + 1; // that have blocks up to the query block
    int count = 0;
    for (int first = 0; first < words; first += 32) { // a word a lane, then a bit a lane
        unsigned mine = first + lane < words ? bits[first + lane] : 0;
        if (first + lane == words - 1 && tile % 32 < 31) mine &= (2u << tile % 32) - 1;
        const int here = min(32, words - first);
        for (int i = 0; i < here; ++i) {
            const unsigned word = __shfl_sync(0xffffffffu, mine, i);
            if (word >> lane & 1) list[count + __popc(word & ((1u << lane) - 1))] = (first + i) * 32 + lane;
            count += __popc(word);
        }
    }
    if (lane == 0) args.lists.count[place] = count;
}

// The same. What the offsets say is kept to the array, and a list to its length, whatever they are.
extern "C" __global__ void __launch_bounds__(kThreads) tamis_blocks_ot1024_t128_rows(const __grid_constant__ tamis_blocks_rows_args args)
{
    follow_stream();
    const int lane = threadIdx.x % 32, tile = blockIdx.x * kWarps + threadIdx.x / 32;
    if (tile >= args.lists.tiles) return;
    const long long place = (static_cast<long long>(blockIdx.z) * args.q_heads + blockIdx.y) * args.lists.tiles + tile;
    const long long begin = max(args.offsets[place], 0ll), end = min(args.offsets[place + 1], args.column_count);
    int *list = args.lists.list + place * args.lists.row;
    int count = 0;
    for (long long first = begin; first < end && count <= tile; first += 32) {
        const int entry = first + lane < end ? args.columns[first + lane] : kBlockNumber;
        const bool counts = (entry & kBlockNumber) <= tile;
        const unsigned all = __ballot_sync(0xffffffffu, counts);
        const int at = count + __popc(all & ((1u << lane) - 1));
        if (counts && at <= tile) list[at] = entry;
        count += __popc(all);
    }
    if (lane == 0) args.lists.count[place] = min(count, tile + 1);
}

// The bin of a section's `index`-th tile, the longest lists first; `place` receives where its list lies.
__device__ __forceinline__ int find_bin(const tamis_blocks_order_args &args, int first_head, int heads, int index, int &place)
{
    const int head = first_head + index % heads, tile = args.tiles - 1 - index / heads;
    const long long rows = args.kept ? args.kept[head / args.q_heads] : args.seq_len;
    place = head * args.tiles + tile;
    if (static_cast<long long>(tile) * kBlock >= rows) return kBins;
    const long long count = min(max(args.count[place], 0), args.tiles);
    return kBins - 1 - static_cast<int>(count * (kBins - 1) / args.tiles);
}

// One block a section of heads: a counting sort of its tiles. Within a bin they come about as they would without a sort, from
// the last query block to the first, a round of tiles after the other; inside of a round in any order, which no result depends
// on. grid = (sections).
extern "C" __global__ void __launch_bounds__(kOrderThreads)
    tamis_blocks_ot1024_t128_order(const __grid_constant__ tamis_blocks_order_args args)
{
    __shared__ int s_bins[kBins + 1];
    __shared__ int s_warps[kOrderThreads / 32];
    follow_stream();
    const int thread = threadIdx.x, lane = thread % 32;
    const int first_head = blockIdx.x * args.section_heads, heads = min(args.section_heads, args.heads - first_head);
    const int tiles = heads * args.tiles;
    if (blockIdx.x == 0 && thread == 0) *args.counter = 0;
    s_bins[thread] = 0;
    if (thread == 0) s_bins[kBins] = 0;
    __syncthreads();
    int place;
    for (int index = thread; index < tiles; index += kOrderThreads)
        atomicAdd(&s_bins[find_bin(args, first_head, heads, index, place)], 1);
    __syncthreads();

    // Where each bin begins; the last one, behind the threads', begins where these end.
    int total;
    const int mine = s_bins[thread], upto = warp_inclusive_scan(mine);
    const int before = warps_exclusive_scan<kOrderThreads>(__shfl_sync(0xffffffffu, upto, 31), s_warps, total);
    s_bins[thread] = before + upto - mine;
    if (thread == 0) s_bins[kBins] = total;
    __syncthreads();
    int *order = args.order + static_cast<long long>(first_head) * args.tiles;
    for (int first = 0; first < tiles; first += kOrderThreads) {
        if (first + thread < tiles) {
            const int bin = find_bin(args, first_head, heads, first + thread, place);
            order[atomicAdd(&s_bins[bin], 1)] = place;
        }
        __syncthreads(); // the next round's tiles come behind these
    }
}
