// made by: tamis show SPEC --variant score_bf16_d128_s2_stbm128_stbn64_stw8_subm128_subn64_suw8 --arch sm_80
// tamis_score_bf16_d128_s2_stbm128_stbn64_stw8_subm128_subn64_suw8_stats: 256 threads, 69632 bytes of dynamic shared memory
// tamis_score_bf16_d128_s2_stbm128_stbn64_stw8_subm128_subn64_suw8_merge: 256 threads, 0 bytes of dynamic shared memory
// tamis_score_bf16_d128_s2_stbm128_stbn64_stw8_subm128_subn64_suw8_sum: 256 threads, 69632 bytes of dynamic shared memory

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

using Element = Bf16;

constexpr int kHeadDim = 128;
constexpr int kStages = 2; // tiles in flight
constexpr int kPitch = Tile<kHeadDim>::kPitchBytes;

// First pass: rows are (query head of the group, window query) pairs, columns are keys.
constexpr int kStatsBlockM = 128;
constexpr int kStatsBlockN = 64;
constexpr int kStatsWarps = 8;
constexpr int kStatsThreads = 32 * kStatsWarps;
constexpr int kStatsRowTiles = kStatsBlockM / kStatsWarps / 16;
constexpr int kStatsColTiles = kStatsBlockN / 8;

// Second pass: rows are keys, columns are window queries of one head.
constexpr int kSumBlockM = 128;
constexpr int kSumBlockN = 64;
constexpr int kSumWarps = 8;
constexpr int kSumThreads = 32 * kSumWarps;
constexpr int kSumColTiles = kSumBlockN / 8;

constexpr int kMergeThreads = 256;

// Address of a window query of one head: query `i` is token L - W + i.
__device__ __forceinline__ const char *window_query(const tamis_score_args &args, int sequence, int head, int i)
{
    return row_pointer(args.q, sequence, head, args.seq_len - args.window + i);
}

// Maximum and sum of exponentials of the rows a thread holds, over the keys seen so far; in log2 units.
struct Stats {
    float max[kStatsRowTiles][2];
    float sum[kStatsRowTiles][2];
};

// Fold one tile of logits into the statistics. A row may have seen no key yet: then its maximum is -inf, and 0 stands in.
__device__ __forceinline__ void stats_step(const float (&s)[kStatsRowTiles][kStatsColTiles][4], Stats &stats,
                                           const long long (&last_key)[kStatsRowTiles][2], long long first_key, int lane,
                                           float scale_log2)
{
#pragma unroll
    for (int m = 0; m < kStatsRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int visible = static_cast<int>(min(last_key[m][half] - first_key, static_cast<long long>(kStatsBlockN)));
            float logit[kStatsColTiles][2];
            float peak = stats.max[m][half];
#pragma unroll
            for (int n = 0; n < kStatsColTiles; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const int column = 8 * n + 2 * (lane % 4) + i;
                    logit[n][i] = column <= visible ? s[m][n][2 * half + i] * scale_log2 : -kInfinity;
                    peak = fmaxf(peak, logit[n][i]);
                }
            peak = quad_max(peak);
            const float base = peak == -kInfinity ? 0.0f : peak;
            float sum = stats.sum[m][half] * exp2_approx(stats.max[m][half] - base);
#pragma unroll
            for (int n = 0; n < kStatsColTiles; ++n) sum += exp2_approx(logit[n][0] - base) + exp2_approx(logit[n][1] - base);
            stats.max[m][half] = peak;
            stats.sum[m][half] = sum;
        }
}

// grid = (chunks of keys, tiles of G * W rows, B * Hkv). Writes each row's maximum and sum over one chunk.
extern "C" __global__ void __launch_bounds__(kStatsThreads)
tamis_score_bf16_d128_s2_stbm128_stbn64_stw8_subm128_subn64_suw8_stats(const __grid_constant__ tamis_score_args args)
{
    extern __shared__ __align__(16) char s_memory[];
    follow_stream();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int sequence = blockIdx.z / args.kv_heads, kv_head = blockIdx.z % args.kv_heads;
    const int group = args.q_heads / args.kv_heads, rows = group * args.window;
    const int chunk = blockIdx.x, first_row = blockIdx.y * kStatsBlockM;
    const long long chunk_begin = chunk * args.chunk_keys;
    const int keys = static_cast<int>(min(args.chunk_keys, args.seq_len - chunk_begin));

    const unsigned s_q = shared_address(s_memory), s_k = s_q + kStatsBlockM * kPitch;
    const char *key_row = row_pointer(args.k, sequence, kv_head, chunk_begin);
    load_rows_async<kHeadDim, kStatsBlockM, kStatsThreads>(s_q, key_row, [&](int i) -> const char * {
        const int row = first_row + i;
        if (row >= rows) return nullptr;
        return window_query(args, sequence, kv_head * group + row / args.window, row % args.window);
    });
    const auto load_keys = [&](int step) {
        const int first = step * kStatsBlockN;
        load_rows_async<kHeadDim, kStatsBlockN, kStatsThreads>(
            s_k + (step % kStages) * kStatsBlockN * kPitch, key_row, [&](int i) -> const char * {
                return first + i < keys ? key_row + 2 * args.k.row_stride * (first + i) : nullptr;
            });
    };

    const int warp_row = warp * 16 * kStatsRowTiles;
    Stats stats;
    long long last_key[kStatsRowTiles][2]; // the row's own token, counted from the chunk's begin
#pragma unroll
    for (int m = 0; m < kStatsRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first_row + warp_row + 16 * m + lane / 4 + 8 * half;
            stats.max[m][half] = -kInfinity;
            stats.sum[m][half] = 0.0f;
            last_key[m][half] = args.seq_len - args.window + row % args.window - chunk_begin;
        }

    const int steps = (keys + kStatsBlockN - 1) / kStatsBlockN;
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) { // the group of step 0 holds Q as well
        if (step < steps) load_keys(step);
        copy_async_commit();
    }
    const unsigned q_lane = s_q + warp_row * kPitch + lane_offset_a<kHeadDim>(lane);
    for (int step = 0; step < steps; ++step) {
        copy_async_wait<kStages - 2>();
        __syncthreads();
        if (step + kStages - 1 < steps) load_keys(step + kStages - 1);
        copy_async_commit();
        float s[kStatsRowTiles][kStatsColTiles][4];
        multiply_transposed<Element, kHeadDim>(
            s, q_lane, s_k + (step % kStages) * kStatsBlockN * kPitch + lane_offset_b<kHeadDim>(lane));
        stats_step(s, stats, last_key, static_cast<long long>(step) * kStatsBlockN, lane, args.scale_log2);
    }

#pragma unroll
    for (int m = 0; m < kStatsRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first_row + warp_row + 16 * m + lane / 4 + 8 * half;
            const float sum = quad_sum(stats.sum[m][half]);
            if (lane % 4 != 0 || row >= rows) continue;
            const int head = kv_head * group + row / args.window, query = row % args.window;
            const long long list = (static_cast<long long>(sequence) * args.q_heads + head) * args.window + query;
            float *partial = args.partial + 2 * (list * args.chunks + chunk);
            partial[0] = stats.max[m][half];
            partial[1] = sum;
        }
}

// Combine the chunks of each row, in their order. grid = (blocks of lse2_rows, Hq, B).
extern "C" __global__ void __launch_bounds__(kMergeThreads)
tamis_score_bf16_d128_s2_stbm128_stbn64_stw8_subm128_subn64_suw8_merge(const __grid_constant__ tamis_score_args args)
{
    follow_stream();
    const int query = blockIdx.x * kMergeThreads + threadIdx.x;
    if (query >= args.window) return;
    const long long head = static_cast<long long>(blockIdx.z) * args.q_heads + blockIdx.y;
    const float *partial = args.partial + 2 * (head * args.window + query) * args.chunks;
    float peak = -kInfinity;
    for (int chunk = 0; chunk < args.chunks; ++chunk) peak = fmaxf(peak, partial[2 * chunk]);
    float sum = 0.0f;
    for (int chunk = 0; chunk < args.chunks; ++chunk) sum += partial[2 * chunk + 1] * exp2_approx(partial[2 * chunk] - peak);
    args.lse2[head * args.lse2_rows + query] = peak + log2f(sum);
}

// grid = (tiles of the N candidates, Hkv, B). Keys are the rows here, so that the sum over queries stays inside a thread
// but for the four lanes of a row. Every window query sees every candidate: no mask.
extern "C" __global__ void __launch_bounds__(kSumThreads)
tamis_score_bf16_d128_s2_stbm128_stbn64_stw8_subm128_subn64_suw8_sum(const __grid_constant__ tamis_score_args args)
{
    extern __shared__ __align__(16) char s_memory[];
    follow_stream();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int kv_head = blockIdx.y, sequence = blockIdx.z;
    const int group = args.q_heads / args.kv_heads;
    const int candidates = static_cast<int>(args.seq_len) - args.window;
    const int first_key = blockIdx.x * kSumBlockM;

    const unsigned s_k = shared_address(s_memory), s_q = s_k + kSumBlockM * kPitch;
    const char *key_row = row_pointer(args.k, sequence, kv_head, first_key);
    load_rows_async<kHeadDim, kSumBlockM, kSumThreads>(s_k, key_row, [&](int i) -> const char * {
        return first_key + i < candidates ? key_row + 2 * args.k.row_stride * i : nullptr;
    });
    // Steps run over the heads of the group, and within a head over its queries.
    const int steps_a_head = (args.window + kSumBlockN - 1) / kSumBlockN, steps = group * steps_a_head;
    const auto load_queries = [&](int step) {
        const int head = kv_head * group + step / steps_a_head, first = step % steps_a_head * kSumBlockN;
        load_rows_async<kHeadDim, kSumBlockN, kSumThreads>(
            s_q + (step % kStages) * kSumBlockN * kPitch, key_row, [&](int i) -> const char * {
                return first + i < args.window ? window_query(args, sequence, head, first + i) : nullptr;
            });
    };
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) { // the group of step 0 holds K as well
        if (step < steps) load_queries(step);
        copy_async_commit();
    }

    const unsigned k_lane = s_k + warp * 16 * kPitch + lane_offset_a<kHeadDim>(lane);
    float sum[2] = {0.0f, 0.0f}; // of this lane's two keys, over the queries of the current head
    for (int step = 0; step < steps; ++step) {
        copy_async_wait<kStages - 2>();
        __syncthreads();
        if (step + kStages - 1 < steps) load_queries(step + kStages - 1);
        copy_async_commit();
        float s[1][kSumColTiles][4];
        multiply_transposed<Element, kHeadDim>(
            s, k_lane, s_q + (step % kStages) * kSumBlockN * kPitch + lane_offset_b<kHeadDim>(lane));

        const int head = kv_head * group + step / steps_a_head, first = step % steps_a_head * kSumBlockN;
        const long long list = static_cast<long long>(sequence) * args.q_heads + head;
        const float *lse2 = args.lse2 + list * args.lse2_rows;
#pragma unroll
        for (int n = 0; n < kSumColTiles; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int query = first + 8 * n + 2 * (lane % 4) + i;
                const float base = query < args.window ? lse2[query] : kInfinity; // 2^-inf: no query, no part
                sum[0] += exp2_approx(s[0][n][i] * args.scale_log2 - base);
                sum[1] += exp2_approx(s[0][n][2 + i] * args.scale_log2 - base);
            }
        if (step % steps_a_head != steps_a_head - 1) continue;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int key = first_key + warp * 16 + lane / 4 + 8 * half;
            const float total = quad_sum(sum[half]);
            if (lane % 4 == 0 && key < candidates) args.score[list * candidates + key] = total / args.window;
            sum[half] = 0.0f;
        }
    }
}
