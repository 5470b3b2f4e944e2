// made by: tamis show SPEC --variant attend_wgmma_bf16_d128_bm192_bn80_cr160_ee0_lm1_o1_pp0_pr32_rt8_sm32_s4_sbp0_w3 --arch sm_90a
// tamis_attend_wgmma_bf16_d128_bm192_bn80_cr160_ee0_lm1_o1_pp0_pr32_rt8_sm32_s4_sbp0_w3: 512 threads, 213248 bytes of dynamic shared memory

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

/*
 * hopper.cuh: what sm_90a adds: mbarriers that count bytes, the tensor copy engine, warpgroup matrix instructions, register
 * hand-over. One function each; wgmma's instruction itself is expanded by the template, whose tile sizes fix its operand list.
 */

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
 * softmax.cuh: online softmax on the accumulators of a product, wgmma's or mma.sync's: of sixteen rows a thread holds two,
 * `g` and `g + 8`, logit s[4 * n + 2 * half + i] being column 8 * n + 2 * t + i of row `half` (lane = 4 * g + t). Mathematics:
 * Milakov and Gimelshein, arXiv 1805.02867.
 */

/*
 * 2^x on the FMA pipe, for x up to 16: split off the integer, which becomes the exponent, and take the minimax polynomial of
 * the rest; relative error 1e-4, below what rounding a probability to 16 bits costs.
 */
__device__ __forceinline__ float exp2_emulated(float x)
{
    const float magic = 12582912.0f; // 1.5 * 2^23: its unit in the last place is 1
    x = fmaxf(x, -126.0f);
    const float rounded = x + magic, f = x - (rounded - magic);
    const float y = fmaf(fmaf(fmaf(0.0558263f, f, 0.2401397f), f, 0.6931531f), f, 0.9999926f);
    return __int_as_float(__float_as_int(y) + (__float_as_int(rounded) << 23));
}

/* The running softmax of a thread's two rows. */
struct Softmax {
    float max[2];   // of the raw logits; what probabilities and sums are relative to
    float sum[2];   // this lane's part
    float scale[2]; // of O and the sums to the newest maximum
    bool grown;     // does any row of the warp have to be rescaled?
};

/* The largest logit of row `half`, over the row's four lanes. Four chains, as one would be as slow as it is long. */
template <int kLogits>
__device__ __forceinline__ float row_peak(const float (&s)[kLogits], int half)
{
    float peaks[4] = {s[2 * half], s[2 * half + 1], s[2 * half + 4], s[2 * half + 5]};
#pragma unroll
    for (int n = 2; n < kLogits / 4; ++n) {
        peaks[2 * (n % 2)] = fmaxf(peaks[2 * (n % 2)], s[4 * n + 2 * half]);
        peaks[2 * (n % 2) + 1] = fmaxf(peaks[2 * (n % 2) + 1], s[4 * n + 2 * half + 1]);
    }
    return quad_max(fmaxf(fmaxf(peaks[0], peaks[1]), fmaxf(peaks[2], peaks[3])));
}

/*
 * Turn logits into probabilities relative to the row's maximum, or to the one before where it grew by at most `threshold`
 * (log2 units). kFirst: the row's first block. kMasked: a row may see none of the block's keys. kSums: add up the
 * probabilities. kEmulated: percent of the exponentials that the FMA pipe computes.
 */
template <bool kFirst, bool kMasked, bool kSums, int kEmulated, int kLogits>
__device__ __forceinline__ void softmax_step(float (&s)[kLogits], Softmax &state, float scale_log2, float threshold)
{
    bool grown = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float peak = row_peak(s, half);
        if (!kFirst) {
            const bool grows = (peak - state.max[half]) * scale_log2 > threshold;
            grown |= grows;
            peak = grows ? peak : state.max[half];
            state.scale[half] = kMasked && peak == -kInfinity ? 1.0f : exp2_approx((state.max[half] - peak) * scale_log2);
        }
        state.max[half] = peak;
        const float base = kMasked && peak == -kInfinity ? 0.0f : peak * scale_log2;
        float sums[2] = {0.0f, 0.0f};
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int at = 4 * n + 2 * half + i;
                const float x = fmaf(s[at], scale_log2, -base);
                const bool emulated = (2 * n + i) * kEmulated / 100 != (2 * n + i + 1) * kEmulated / 100;
                s[at] = emulated ? exp2_emulated(x) : exp2_approx(x);
                if (kSums) sums[i] += s[at];
            }
        if (kSums) state.sum[half] = kFirst ? sums[0] + sums[1] : fmaf(state.sum[half], state.scale[half], sums[0] + sums[1]);
    }
    if (!kFirst) state.grown = __any_sync(0xffffffffu, grown);
}

/*
 * The same without looking for a maximum: probabilities relative to what they were relative to before, however large they
 * become. `sums` gets the lane's part of the two rows' sums, which tell whether that went well; state.sum stays.
 */
template <int kLogits>
__device__ __forceinline__ void exponentiate(float (&s)[kLogits], const Softmax &state, float scale_log2, float (&sums)[2])
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float base = state.max[half] * scale_log2;
        float parts[2] = {0.0f, 0.0f};
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int at = 4 * n + 2 * half + i;
                s[at] = exp2_approx(fmaf(s[at], scale_log2, -base));
                parts[i] += s[at];
            }
        sums[half] = parts[0] + parts[1];
    }
}

/*
 * Are a warp's sums, and so the probabilities in them, small enough to be stored in 16 bits and to be added up in fp32 for
 * 2^60 keys? What is infinite, as of a row that had seen no key, is not; what is not a number stays so anyway.
 */
template <typename Element>
__device__ __forceinline__ bool sums_fit(const float (&sums)[2])
{
    return !__any_sync(0xffffffffu, sums[0] > Element::kMostSum || sums[1] > Element::kMostSum);
}

/* What kSums would have added up, as a step of its own: the probabilities of the block that softmax_step has just made. */
template <bool kFirst, int kLogits>
__device__ __forceinline__ void add_probabilities(const float (&s)[kLogits], Softmax &state)
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float sums[2] = {0.0f, 0.0f};
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n) {
            sums[0] += s[4 * n + 2 * half];
            sums[1] += s[4 * n + 2 * half + 1];
        }
        state.sum[half] = kFirst ? sums[0] + sums[1] : fmaf(state.sum[half], state.scale[half], sums[0] + sums[1]);
    }
}

/* Keys behind a row's last one become -inf. `last_key` of the thread's two rows is relative to the block. */
template <int kLogits>
__device__ __forceinline__ void mask_logits(float (&s)[kLogits], int last_key, int last_key_below, int lane)
{
#pragma unroll
    for (int n = 0; n < kLogits / 4; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int column = 8 * n + 2 * (lane % 4) + i;
            if (column > last_key) s[4 * n + i] = -kInfinity;
            if (column > last_key_below) s[4 * n + 2 + i] = -kInfinity;
        }
}

/*
 * dropped.cuh: which tokens of a range a list keeps, for a warp that walks through the range, and rows of zeros for those
 * that it drops. All lanes of a warp call these together.
 */

/*
 * rows.cuh: rows of a strided tensor as bytes, for the kernels that only move them.
 */

/* Row 0 of one head. */
__device__ __forceinline__ char *row_bytes(const tamis_rows &rows, int sequence, int head)
{
    return static_cast<char *>(rows.data) + 2 * (sequence * rows.batch_stride + head * rows.head_stride);
}

/* The index list of one (sequence, index head). */
__device__ __forceinline__ const int *index_list(const int *indices, int sequence, int index_head, int index_heads,
                                                 long long capacity)
{
    return indices + (static_cast<long long>(sequence) * index_heads + index_head) * capacity;
}

/* 16 bytes that this kernel reads once: not kept in L1. */
__device__ __forceinline__ int4 load_once(const void *pointer)
{
    int4 value;
    asm volatile("ld.global.nc.L1::no_allocate.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(pointer));
    return value;
}

/* 16 bytes that this kernel does not read again: the first to leave L2. */
__device__ __forceinline__ void store_once(void *pointer, int4 value)
{
    asm volatile("st.global.cs.v4.s32 [%0], {%1, %2, %3, %4};" ::"l"(pointer), "r"(value.x), "r"(value.y), "r"(value.z),
                 "r"(value.w)
                 : "memory");
}

constexpr int kNoToken = 0x7fffffff; /* behind all others */

/*
 * First position whose token is at or behind `bound`. A round cuts what is left into 32 parts: for 131072 entries four loads
 * that wait for each other, where halving would take seventeen.
 */
template <typename TokenAt>
__device__ __forceinline__ int find_token(TokenAt token_at, int count, int bound, int lane)
{
    int begin = 0, left = count; // the answer is in begin ... begin + left
    while (left > 0) {
        const int part = (left + 31) / 32, last = (lane + 1) * part - 1; // of this lane's part
        const bool before = last < left && token_at(begin + last) < bound;
        const int parts = __popc(__ballot_sync(0xffffffffu, before)); // that lie before the bound as a whole: the first ones
        begin += parts * part;
        left = min(part - 1, left - parts * part);
    }
    return begin;
}

/*
 * Walk through the tokens first ... end - 1, 32 at a time: visit(base, kept, dropped, row) is given, for the tokens base ...
 * base + 31, a bit for each that is in the list, one for each that is not (none at or behind `end`), and the list's position
 * of the first at or behind base. token_at(i) is the list's entry i, which ascend without repeats, or kNoToken from `count`.
 */
template <typename TokenAt, typename Visit>
__device__ __forceinline__ void walk_tokens(TokenAt token_at, int count, int first, int end, int lane, Visit visit)
{
    if (first >= end) return;
    int row = find_token(token_at, count, first, lane);
    // 64 entries of the list, whose first half has `row` in it: the next 32 tokens are among them.
    int now = token_at((row & ~31) + lane), next = token_at((row & ~31) + 32 + lane);
#pragma unroll 1
    for (int base = first; base < end; base += 32) {
        const unsigned place = now - base, next_place = next - base; // tokens passed wrap around to large numbers
        const unsigned seen =
            __reduce_or_sync(0xffffffffu, (place < 32 ? 1u << place : 0) | (next_place < 32 ? 1u << next_place : 0));
        const unsigned exists = end - base < 32 ? (1u << (end - base)) - 1 : 0xffffffffu;
        const int here = row;
        row += __popc(seen);
        if ((row ^ here) >= 32) { // before the visit, to be under way meanwhile
            now = next;
            next = token_at((row & ~31) + 32 + lane);
        }
        visit(base, seen & exists, ~seen & exists, here);
    }
}

/* How a warp shares out rows: each takes kHeadDim / 8 lanes of 16 bytes, and a few are moved at once. */
template <int kHeadDim>
struct WarpRows {
    static constexpr int kChunks = kHeadDim / 8;
    static constexpr int kAtOnce = 32 / kChunks;
    static_assert(kAtOnce > 0, "a row has at most 32 chunks");
    int row, chunk; /* this lane's */
    bool moves;     /* false: a lane too many */
    __device__ __forceinline__ explicit WarpRows(int lane)
        : row(lane / kChunks % kAtOnce), chunk(lane % kChunks), moves(lane < kAtOnce * kChunks)
    {
    }
};

/* Zeros to the rows whose bit is set, of 32 that begin at `output` and lie `pitch` bytes apart. */
template <int kHeadDim>
__device__ __forceinline__ void write_zeros(char *output, long long pitch, unsigned dropped, int lane)
{
    const WarpRows<kHeadDim> mine(lane);
    const unsigned bits = mine.moves ? dropped >> mine.row : 0;
    char *out = output + mine.row * pitch + mine.chunk * 16;
#pragma unroll 4
    for (int i = 0; i < 32; i += WarpRows<kHeadDim>::kAtOnce) {
        if (bits >> i & 1) store_once(out, make_int4(0, 0, 0, 0));
        out += WarpRows<kHeadDim>::kAtOnce * pitch;
    }
}

using Element = Bf16;

constexpr int kHeadDim = 128;
constexpr int kWarpgroups = 3; // that compute; one more loads
constexpr int kBlockM = 64 * kWarpgroups;    // queries a tile, 64 a warpgroup
constexpr int kBlockN = 80;        // keys a step
constexpr int kStages = 4;         // K tiles in flight, and as many V tiles
constexpr bool kPingPong = false; // warpgroups take turns: one multiplies while the other exponentiates
constexpr float kRescaleThreshold = 8.0f; // log2 by which a row's maximum may grow before O is rescaled
constexpr bool kSumByProduct = false; // V has a column of ones, whose product with P is the row sum
constexpr int kEmulated = 0; // percent of the exponentials that the FMA pipe computes
constexpr long long kSectionBytes = 32ll << 20; // K and V that may be in use at once: what L2 keeps
constexpr int kLogits = kBlockN / 2; // of S a thread: two rows of kBlockN / 4
constexpr int kOutputs = 64; // of O a thread, the row sums with it if V has the ones
constexpr int kOnesBytes = kSumByProduct ? kBlockN * 128 : 0;

// One tile of work: kBlockM queries of one head. No steps: there is no more work.
struct Work {
    int sequence, head, first_row, rows; // rows: of the sequence
    int steps;                           // blocks of keys, walked from the last to the first
    int full;                            // 1: reads the full tensors, not the compact ones
};


/*
 * attend_tma.cuh: what the Hopper attention kernels share of moving tiles: where these lie in shared memory, work handed from
 * the loading thread to everybody else, Q brought or gathered for it, rows of zeros for tokens that were dropped. Included
 * behind a kernel's constants and its struct Work (attend_wgmma.cu.lua), whose members it names.
 */

constexpr int kThreads = 128 * (kWarpgroups + 1);
constexpr int kGatherWarps = 3; /* of the loading warpgroup, behind the first */
constexpr int kGatherThreads = 32 * kGatherWarps;

/* Rows in shared memory are cut into columns of 64 elements, 128 bytes, in which 16-byte chunks are swizzled. */
constexpr int kSubTiles = (kHeadDim + 63) / 64;
constexpr int kQueryBytes = kSubTiles * kBlockM * 128;
constexpr int kTileBytes = kSubTiles * kBlockN * 128; /* of one K or V tile */
constexpr int kTilesBytes = kQueryBytes + 2 * kStages * kTileBytes;
constexpr int kBarriersBytes = 256; /* and slots of work with them */

/* Where things lie in shared memory; tiles on 1024-byte boundaries, as the swizzle wants. */
struct Shared {
    unsigned q, k, v, barriers;
    Work *slots; // two, filled in turn
    __device__ __forceinline__ unsigned k_tile(int stage) const { return k + stage * kTileBytes; }
    __device__ __forceinline__ unsigned v_tile(int stage) const { return v + stage * kTileBytes; }
    __device__ __forceinline__ unsigned k_full(int stage) const { return barriers + 8 * stage; }
    __device__ __forceinline__ unsigned k_empty(int stage) const { return barriers + 8 * (kStages + stage); }
    __device__ __forceinline__ unsigned v_full(int stage) const { return barriers + 8 * (2 * kStages + stage); }
    __device__ __forceinline__ unsigned v_empty(int stage) const { return barriers + 8 * (3 * kStages + stage); }
    __device__ __forceinline__ unsigned q_full() const { return barriers + 8 * (4 * kStages); }
    __device__ __forceinline__ unsigned q_empty() const { return barriers + 8 * (4 * kStages + 1); }
    __device__ __forceinline__ unsigned work_full(int slot) const { return barriers + 8 * (4 * kStages + 2 + slot); }
    __device__ __forceinline__ unsigned work_empty(int slot) const { return barriers + 8 * (4 * kStages + 4 + slot); }
};

/* `extra` bytes of the kernel's own lie behind the tiles. */
__device__ __forceinline__ Shared shared_layout(char *memory, int extra)
{
    const int barriers = kTilesBytes + extra;
    const unsigned base = shared_address(memory);
    return {base, base + kQueryBytes, base + kQueryBytes + kStages * kTileBytes, base + barriers,
            reinterpret_cast<Work *>(memory + barriers + 8 * (4 * kStages + 6))};
}

/* One thread, before all others begin. */
__device__ __forceinline__ void init_barriers(const Shared &shared, bool gathers)
{
    const int query_threads = gathers ? kGatherThreads : 1;
    for (int stage = 0; stage < kStages; ++stage) {
        barrier_init(shared.k_full(stage), 1);
        barrier_init(shared.v_full(stage), 1);
        barrier_init(shared.k_empty(stage), 4 * kWarpgroups); // a warp each
        barrier_init(shared.v_empty(stage), 4 * kWarpgroups);
    }
    barrier_init(shared.q_full(), query_threads);
    barrier_init(shared.q_empty(), 4 * kWarpgroups);
    for (int slot = 0; slot < 2; ++slot) {
        barrier_init(shared.work_full(slot), 1);
        barrier_init(shared.work_empty(slot), 4 * kWarpgroups + query_threads);
    }
    barrier_init_fence();
}

/* A K or V tile from row `row` on, into a place that is free. */
__device__ __forceinline__ void load_tile(unsigned tile, unsigned full, const void *map, int row, int head, int sequence)
{
    barrier_expect(full, kTileBytes);
#pragma unroll
    for (int i = 0; i < kSubTiles; ++i) tensor_load(tile + i * kBlockN * 128, map, full, 64 * i, row, head, sequence);
}

/* Hand a tile of work to everybody else. */
__device__ __forceinline__ void publish(const Shared &shared, const Work &work, unsigned number)
{
    const int slot = number % 2;
    barrier_wait(shared.work_empty(slot), number / 2 % 2 ^ 1);
    shared.slots[slot] = work;
    barrier_arrive(shared.work_full(slot));
}

/* The index list of a tile's head, or null. */
__device__ __forceinline__ const int *token_list(const tamis_attend_args &attend, const Work &work)
{
    if (!attend.indices) return nullptr;
    const int index_head = work.head / (attend.q_heads / attend.index_heads);
    return attend.indices + (static_cast<long long>(work.sequence) * attend.index_heads + index_head) * attend.capacity;
}

/*
 * Warps 1 to 3: the Q rows of a tile, through the index list. A lane fetches the token of one row of 32, so that all the copies
 * are under way at once.
 */
__device__ __forceinline__ void gather_queries(const tamis_attend_args &attend, const Shared &shared, const Work &work,
                                               int thread)
{
    constexpr int kNone = -1;
    const int *token = token_list(attend, work);
    const int lane = lane_id();
    const WarpRows<kHeadDim> mine(lane);
    const char *q = row_pointer(attend.q, work.sequence, work.head, 0) + mine.chunk * 16;
    const unsigned column = shared.q + mine.chunk / 8 * kBlockM * 128;
#pragma unroll 1
    for (int first = thread / 32 * 32; first < kBlockM; first += kGatherThreads) {
        const int at = work.first_row + first + lane;
        const int my_token = at < work.rows ? token[at] : kNone;
#pragma unroll 4
        for (int i = 0; i < 32; i += WarpRows<kHeadDim>::kAtOnce) {
            const int row = first + i + mine.row, source = __shfl_sync(0xffffffffu, my_token, i + mine.row);
            const bool valid = source != kNone;
            if (mine.moves)
                copy_async_16(column + row * 128 + (mine.chunk % 8 ^ row % 8) * 16,
                              q + (valid ? 2 * attend.q.row_stride * source : 0), valid);
        }
    }
    copy_async_commit();
    copy_async_wait<0>();
    fence_async_proxy();
    barrier_arrive(shared.q_full());
}

/*
 * Warps 1 to 3: zeros to the rows of tokens that the tile's head dropped, and -inf to their log-sum-exp: of each tile and warp
 * an equal part of the sequence. The computing warps have their Q by now and do not wait for this. What is left in shared
 * memory is read there again and again, as registers are few.
 */
__device__ __forceinline__ void write_dropped_part(const tamis_attend_args &attend, const Work &work, int thread)
{
    const int seq_len = static_cast<int>(attend.seq_len), rows = work.rows;
    if (rows == seq_len) return;
    const int parts = (rows + kBlockM - 1) / kBlockM * kGatherWarps;
    const int part = work.first_row / kBlockM * kGatherWarps + thread / 32;
    const int tokens = ((seq_len + parts - 1) / parts + 31) / 32 * 32; // a part's; the last parts may have none
    const int first = part * tokens;
    const int *token = token_list(attend, work);
    const int lane = lane_id();
    const auto token_at = [&](int at) { return at < work.rows ? token[at] : kNoToken; };
    walk_tokens(token_at, rows, first, min(first + tokens, seq_len), lane, [&](int base, unsigned, unsigned dropped, int) {
        if (dropped == 0) return;
        const long long pitch = 2 * attend.output.row_stride;
        write_zeros<kHeadDim>(row_bytes(attend.output, work.sequence, work.head) + base * pitch, pitch, dropped, lane);
        if (attend.lse && dropped >> lane & 1)
            attend.lse[(static_cast<long long>(work.sequence) * attend.q_heads + work.head) * attend.lse_rows + base + lane] =
                -kInfinity;
    });
}

/* The Q tiles: gathered by three warps, or brought by the copy engine for one thread. */
template <typename Args>
__device__ __forceinline__ void load_queries(const Args &args, const Shared &shared, int thread)
{
    const bool gathers = args.attend.indices != nullptr;
    if (!gathers && thread > 0) return;
    for (unsigned number = 0;; ++number) {
        const int slot = number % 2;
        barrier_wait(shared.work_full(slot), number / 2 % 2);
        const Work &work = shared.slots[slot];
        if (work.steps == 0) return;
        barrier_wait(shared.q_empty(), number % 2 ^ 1);
        if (gathers) {
            gather_queries(args.attend, shared, work, thread);
            write_dropped_part(args.attend, work, thread);
        } else {
            barrier_expect(shared.q_full(), kQueryBytes);
#pragma unroll
            for (int i = 0; i < kSubTiles; ++i)
                tensor_load(shared.q + i * kBlockM * 128, &args.q, shared.q_full(), 64 * i, work.first_row, work.head,
                            work.sequence);
        }
        barrier_arrive(shared.work_empty(slot));
    }
}

constexpr int kSharedBytes = kTilesBytes + kOnesBytes + kBarriersBytes;
static_assert(kSharedBytes == 213248, "the launch and the kernel disagree on shared memory");

// The columns behind V: ones in the first, zeros in the others, as the swizzle has them. They lie behind all tiles.
__device__ __forceinline__ unsigned ones_place(const Shared &shared) { return shared.barriers - kOnesBytes; }

__device__ __forceinline__ void write_ones(unsigned ones, int thread)
{
    for (int i = thread; i < kBlockN * 8; i += kThreads) {
        const int row = i / 8, chunk = i % 8 ^ row % 8;
        const unsigned first = chunk == 0 ? Element::kOne : 0;
        store_shared_16(ones + i * 16, first, 0);
    }
}

// ---- the loading warpgroup

// Heads whose tiles are handed out together: as many as share K and V that stay in L2, evenly, as the last ones of all would
// leave SMs idle if they were few.
__device__ __forceinline__ int section_heads(const tamis_attend_tma_args &args)
{
    const long long head_bytes = args.attend.capacity * (4ll * kHeadDim); // of K and V
    const int group = args.attend.q_heads / args.attend.compact_heads, heads_kv = args.heads / group;
    const int most = static_cast<int>(min(max(kSectionBytes / head_bytes, 1ll), static_cast<long long>(heads_kv)));
    const int sections = (heads_kv + most - 1) / most;
    return (heads_kv + sections - 1) / sections * group;
}

// The `index`-th tile of all: section by section of heads, in each from the longest tile to the shortest. One behind a
// sequence's rows has no steps.
__device__ __forceinline__ void find_work(Work &work, const tamis_attend_tma_args &args, unsigned in_section, unsigned index)
{
    const unsigned a_section = in_section * args.tiles;
    const int first = static_cast<int>(index / a_section * in_section), place = static_cast<int>(index % a_section);
    const int heads = min(static_cast<int>(in_section), args.heads - first);
    const int head = first + place % heads;
    work.sequence = head / args.attend.q_heads;
    work.head = head % args.attend.q_heads;
    work.rows = args.attend.kept ? args.attend.kept[work.sequence] : static_cast<int>(args.attend.seq_len);
    work.full = args.attend.k_full.data && work.rows == args.attend.seq_len;
    const int tile = (work.rows + kBlockM - 1) / kBlockM - 1 - place / heads;
    work.first_row = tile * kBlockM;
    const int last_key = args.attend.causal ? min(work.first_row + kBlockM, work.rows) - 1 : work.rows - 1;
    work.steps = tile < 0 ? 0 : last_key / kBlockN + 1;
}

// One thread: takes the next tile whenever it is done with one, and loads K of each step, and V one step behind, in the order
// in which they are needed.
__device__ __forceinline__ void load_keys_and_values(const tamis_attend_tma_args &args, const Shared &shared)
{
    Ring<kStages> k, v;
    Work work;
    unsigned number = 0;
    const unsigned in_section = section_heads(args), tiles = static_cast<unsigned>(args.heads) * args.tiles;
    for (unsigned index = blockIdx.x, next; index < tiles; index = next) {
        next = gridDim.x + atomicAdd(args.counter, 1u); // here, so that the answer is there when it is needed
        find_work(work, args, in_section, index);
        if (work.steps == 0) continue;
        publish(shared, work, number++);
        const void *k_map = work.full ? &args.k_full : &args.k, *v_map = work.full ? &args.v_full : &args.v;
        const int kv_head = work.head / (args.attend.q_heads / (work.full ? args.attend.kv_heads : args.attend.compact_heads));
        for (int step = work.steps - 1; step >= -1; --step) {
            if (step >= 0) {
                barrier_wait(shared.k_empty(k.stage), k.phase ^ 1);
                load_tile(shared.k_tile(k.stage), shared.k_full(k.stage), k_map, step * kBlockN, kv_head, work.sequence);
                k.advance();
            }
            if (step < work.steps - 1) {
                barrier_wait(shared.v_empty(v.stage), v.phase ^ 1);
                load_tile(shared.v_tile(v.stage), shared.v_full(v.stage), v_map, (step + 1) * kBlockN, kv_head,
                          work.sequence);
                v.advance();
            }
        }
    }
    work.steps = 0;
    publish(shared, work, number);
}

// ---- the computing warpgroups

// S = Q K^T or S += Q K^T, 16 of the head dim.
__device__ __forceinline__ void wgmma_keys(float (&s)[40], unsigned long long a, unsigned long long b, int accumulate)
{
    asm volatile("{\n"
                 ".reg .pred accumulate;\n"
                 "setp.ne.b32 accumulate, %42, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39"
                 "}, %40, %41, accumulate, 1, 1, 0, 0;\n"
                 "}"
                 : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]), "+f"(s[7])
                 , "+f"(s[8]), "+f"(s[9]), "+f"(s[10]), "+f"(s[11]), "+f"(s[12]), "+f"(s[13]), "+f"(s[14]), "+f"(s[15])
                 , "+f"(s[16]), "+f"(s[17]), "+f"(s[18]), "+f"(s[19]), "+f"(s[20]), "+f"(s[21]), "+f"(s[22]), "+f"(s[23])
                 , "+f"(s[24]), "+f"(s[25]), "+f"(s[26]), "+f"(s[27]), "+f"(s[28]), "+f"(s[29]), "+f"(s[30]), "+f"(s[31])
                 , "+f"(s[32]), "+f"(s[33]), "+f"(s[34]), "+f"(s[35]), "+f"(s[36]), "+f"(s[37]), "+f"(s[38]), "+f"(s[39])
                 : "l"(a), "l"(b), "r"(accumulate));
}

// O += P V, 16 keys.
__device__ __forceinline__ void wgmma_values(float (&s)[64], const unsigned *a, unsigned long long b)
{
    asm volatile("{\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, "
                 "%40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, "
                 "%56, %57, %58, %59, %60, %61, %62, %63"
                 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"
                 "}"
                 : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]), "+f"(s[7])
                 , "+f"(s[8]), "+f"(s[9]), "+f"(s[10]), "+f"(s[11]), "+f"(s[12]), "+f"(s[13]), "+f"(s[14]), "+f"(s[15])
                 , "+f"(s[16]), "+f"(s[17]), "+f"(s[18]), "+f"(s[19]), "+f"(s[20]), "+f"(s[21]), "+f"(s[22]), "+f"(s[23])
                 , "+f"(s[24]), "+f"(s[25]), "+f"(s[26]), "+f"(s[27]), "+f"(s[28]), "+f"(s[29]), "+f"(s[30]), "+f"(s[31])
                 , "+f"(s[32]), "+f"(s[33]), "+f"(s[34]), "+f"(s[35]), "+f"(s[36]), "+f"(s[37]), "+f"(s[38]), "+f"(s[39])
                 , "+f"(s[40]), "+f"(s[41]), "+f"(s[42]), "+f"(s[43]), "+f"(s[44]), "+f"(s[45]), "+f"(s[46]), "+f"(s[47])
                 , "+f"(s[48]), "+f"(s[49]), "+f"(s[50]), "+f"(s[51]), "+f"(s[52]), "+f"(s[53]), "+f"(s[54]), "+f"(s[55])
                 , "+f"(s[56]), "+f"(s[57]), "+f"(s[58]), "+f"(s[59]), "+f"(s[60]), "+f"(s[61]), "+f"(s[62]), "+f"(s[63])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}


/*
 * attend_wgmma.cuh: what the Hopper attention kernels share of computing: products of tiles, and what happens to P, O and V in
 * a step, and to O at a tile's end. Included behind attend_tma.cuh and a kernel's wgmma_keys and wgmma_values, which wgmma.lua
 * writes.
 */

constexpr float kLn2 = 0.693147180559945f; /* the log-sum-exp leaves in natural units */

/* 16 columns of a warp's 16 rows of Q, as both kinds of product take them from registers. `q` is the first row. */
__device__ __forceinline__ void load_queries_16(unsigned (&a)[4], unsigned q, int i, int lane)
{
    load_matrix_x4(a, q + lane % 16 * 128 + i / 4 * kBlockM * 128 + ((i % 4 * 2 + lane / 16) ^ lane % 8) * 16);
}

/* The i-th 16 columns of a warpgroup's 64 rows of Q: by the low half of a descriptor, or from registers. */
__device__ __forceinline__ unsigned long long queries_16(unsigned q, int i)
{
    return matrix_descriptor(q, (i / 4) * kBlockM * 128 + (i % 4) * 32);
}

__device__ __forceinline__ const unsigned *queries_16(const unsigned (&q)[kHeadDim / 16][4], int i) { return q[i]; }

/* S = Q K^T. `k`, and `v` below, are low halves of descriptors. */
template <typename Queries>
__device__ __forceinline__ void multiply_keys(float (&s)[kLogits], const Queries &q, unsigned k)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i)
        wgmma_keys(s, queries_16(q, i), matrix_descriptor(k, (i / 4) * kBlockN * 128 + (i % 4) * 32), i > 0);
    wgmma_commit();
}

/* O += P V. */
__device__ __forceinline__ void multiply_values(float (&o)[kOutputs], const unsigned (&p)[kBlockN / 4], unsigned v)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kBlockN / 16; ++i) wgmma_values(o, p + 4 * i, matrix_descriptor(v, i * 2048));
    wgmma_commit();
}

/* S = Q K^T once more, of this warp's 16 rows alone, from the tiles that are still there. `q` is the first of the rows. */
__device__ __forceinline__ void multiply_keys_again(float (&s)[kLogits], unsigned q, unsigned k, int lane)
{
#pragma unroll
    for (int i = 0; i < kLogits; ++i) s[i] = 0.0f;
    const unsigned k_row = k + (lane / 16 * 8 + lane % 8) * 128;
#pragma unroll 1
    for (int i = 0; i < kHeadDim / 16; ++i) {
        unsigned a[4], b[4];
        load_queries_16(a, q, i, lane);
#pragma unroll
        for (int n = 0; n < kBlockN / 16; ++n) {
            load_matrix_x4(b, k_row + i / 4 * kBlockN * 128 + n * 2048 + ((i % 4 * 2 + lane / 8 % 2) ^ lane % 8) * 16);
            Element::mma(s + 8 * n, a, b[0], b[1]);
            Element::mma(s + 8 * n + 4, a, b[2], b[3]);
        }
    }
}

__device__ __forceinline__ void pack_probabilities(unsigned (&p)[kBlockN / 4], const float (&s)[kLogits])
{
#pragma unroll
    for (int i = 0; i < kBlockN / 4; ++i) p[i] = Element::pack(s[2 * i], s[2 * i + 1]);
}

__device__ __forceinline__ void rescale_output(float (&o)[kOutputs], const Softmax &state)
{
    if (!state.grown) return;
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) o[i] *= state.scale[i / 2 % 2];
}

/* Zero the rows of a V tile behind the sequence's last: their probabilities are 0, but 0 times stale bits need not be. */
__device__ __forceinline__ void clear_values(unsigned tile, int first, int thread)
{
    for (int i = first * 8 + thread; i < kBlockN * 8; i += 128 * kWarpgroups)
#pragma unroll
        for (int sub = 0; sub < kSubTiles; ++sub)
            store_shared_16(tile + sub * kBlockN * 128 + i * 16, 0, 0);
}

/* Where a tile's rows go: to their tokens' places. */
struct OutputRows {
    const tamis_attend_args &attend;
    const Work &work;
    const int *token; // of each row, or null where each is its own
    char *output;     // of the head's first token

    __device__ __forceinline__ OutputRows(const tamis_attend_args &attend_, const Work &work_)
        : attend(attend_), work(work_), token(token_list(attend_, work_)),
          output(const_cast<char *>(row_pointer(attend_.output, work_.sequence, work_.head, 0)))
    {
    }

    // The row `half` of the two that a thread has part of, times `inverse`, and its log-sum-exp, -inf where `sum` is 0. The
    // four lanes of a row call it together. `row` counts from the sequence's first.
    __device__ __forceinline__ void write(const float (&o)[kOutputs], const Softmax &state, int half, float sum, float inverse,
                                          int row, int lane) const
    {
        const bool valid = row < work.rows;
        const int place = valid && token ? token[row] : row;
        if (attend.lse && valid && lane % 4 == 0)
            attend.lse[(static_cast<long long>(work.sequence) * attend.q_heads + work.head) * attend.lse_rows + place] =
                (state.max[half] * attend.scale_log2 + log2f(sum)) * kLn2;
        char *out = output + 2 * attend.output.row_stride * place + lane % 4 * 16;
#pragma unroll
        for (int n = 0; n < kHeadDim / 8; n += 4) {
            unsigned packed[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
                packed[i] = Element::pack(o[4 * (n + i) + 2 * half] * inverse, o[4 * (n + i) + 2 * half + 1] * inverse);
            const int4 value = exchange_chunks(packed, lane);
            if (valid) *reinterpret_cast<int4 *>(out + n * 16) = value;
        }
    }
};

// Normalise the tile's rows and write them to their tokens' places, and their log-sum-exp.
__device__ __forceinline__ void write_output(const tamis_attend_args &attend, const Work &work, const float (&o)[kOutputs],
                                             const Softmax &state, int row_above, int lane)
{
    const OutputRows rows(attend, work);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float sum = !kSumByProduct || attend.lse ? quad_sum(state.sum[half]) : 1.0f;
        float inverse = 1.0f / sum;
        // Of a row's four lanes the first has the sum that came with O. It is not shuffled itself: ptxas would not have that
        // near products under way.
        if (kSumByProduct) inverse = __shfl_sync(0xffffffffu, 1.0f / o[kHeadDim / 2 + 2 * half], lane & ~3);
        rows.write(o, state, half, sum, inverse, row_above + 8 * half, lane);
    }
}

// A warpgroup's part of every tile. The first product of a tile starts before the one before it is written.
__device__ __forceinline__ void compute(const tamis_attend_tma_args &args, const Shared &shared, int warpgroup)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const int my_turn = 1 + warpgroup, next_turn = 1 + (warpgroup + 1) % kWarpgroups;
    const float scale_log2 = args.attend.scale_log2;
    const bool wants_lse = args.attend.lse != nullptr; // the product sums P as it was rounded, which is not enough for that
    const unsigned q = descriptor_low(shared.q + warpgroup * 64 * 128, 0);
    const unsigned k_tiles = descriptor_low(shared.k, 0);
    const unsigned v_tiles = descriptor_low(shared.v, kSumByProduct ? ones_place(shared) - shared.v : kBlockN * 128);
    // What stages differ by in a descriptor: the address grows, and the distance to the ones, which lie behind all, shrinks.
    constexpr unsigned kTileStep = kTileBytes >> 4, kValueStep = kTileStep - (kSumByProduct ? kTileStep << 16 : 0);
    const int thread_row = warpgroup * 64 + warp * 16 + lane / 4; // in the tile
    Ring<kStages> k, v;
    unsigned number = 0; // of the tile
    float s[kLogits];

    // Take the next tile of work and start its first product. False: there is none.
    const auto begin_tile = [&] {
        barrier_wait(shared.work_full(number % 2), number / 2 % 2);
        if (shared.slots[number % 2].steps == 0) return false;
        barrier_wait(shared.q_full(), number % 2);
        barrier_wait(shared.k_full(k.stage), k.phase);
        multiply_keys(s, q, k_tiles + k.stage * kTileStep);
        return true;
    };
    // S is complete, and its K tile no longer needed.
    const auto release_keys = [&] {
        if (lane == 0) barrier_arrive(shared.k_empty(k.stage));
        k.advance();
    };
    const auto take_keys = [&] {
        pin_registers(s);
        release_keys();
    };

    if (kPingPong && warpgroup == kWarpgroups - 1) named_arrive(next_turn, 256); // the first turn is warpgroup 0's
    bool more = begin_tile();
    if (more) {
        wgmma_wait<0>();
        take_keys();
    }
    while (more) {
        const Work &work = shared.slots[number % 2];
        float o[kOutputs];
        unsigned p[kBlockN / 4];
        Softmax state;
#pragma unroll
        for (int i = 0; i < kOutputs; ++i) o[i] = 0.0f;

        int step = work.steps - 1;
        // Blocks that end at or before the warpgroup's first row's last key need no mask.
        const int open = (args.attend.causal ? min(work.first_row + warpgroup * 64 + 1, work.rows) : work.rows) / kBlockN;
        const auto mask = [&] {
            const int row = work.first_row + thread_row, last = work.rows - 1;
            mask_logits(s, (args.attend.causal ? min(row, last) : last) - step * kBlockN,
                        (args.attend.causal ? min(row + 8, last) : last) - step * kBlockN, lane);
        };
        const int behind = work.rows - step * kBlockN; // keys of the block that exist
        if (behind < kBlockN) {
            barrier_wait(shared.v_full(v.stage), v.phase);
            clear_values(shared.v_tile(v.stage), behind, threadIdx.x - 128);
            fence_async_proxy();
            named_sync(8, 128 * kWarpgroups);
        }
        mask();
        softmax_step<true, true, !kSumByProduct, kEmulated>(s, state, scale_log2, kRescaleThreshold);
        if (kSumByProduct && wants_lse) add_probabilities<true>(s, state);
        // Rows of Q behind the last may hold anything. Their probabilities become 0 or nothing, so that they never make their
        // warp multiply again, and the rows before them get the same bits whatever it is.
#pragma unroll
        for (int half = 0; half < 2; ++half)
            if (work.first_row + thread_row + 8 * half >= work.rows) state.max[half] = kInfinity;
        pack_probabilities(p, s);

        const auto wait_turn = [&] {
            if (kPingPong) named_sync(my_turn, 256);
        };
        const auto pass_turn = [&] {
            if (kPingPong) named_arrive(next_turn, 256);
        };
        const auto start_values = [&] {
            barrier_wait(shared.v_full(v.stage), v.phase);
            multiply_values(o, p, v_tiles + v.stage * kValueStep);
        };
        const auto wait_for_values = [&] {
            wgmma_wait<0>();
            pin_registers(o);
            if (lane == 0) barrier_arrive(shared.v_empty(v.stage));
            v.advance();
        };
        while (step > open) { // the diagonal or the sequence's end crosses these
            --step;
            barrier_wait(shared.k_full(k.stage), k.phase);
            wait_turn();
            multiply_keys(s, q, k_tiles + k.stage * kTileStep);
            start_values();
            pass_turn();
            wgmma_wait<1>();
            take_keys();
            mask();
            softmax_step<false, true, !kSumByProduct, kEmulated>(s, state, scale_log2, kRescaleThreshold);
            wait_for_values();
            rescale_output(o, state);
            if (kSumByProduct && wants_lse) add_probabilities<false>(s, state);
            pack_probabilities(p, s);
        }
        while (step > 0) {
            --step;
            barrier_wait(shared.k_full(k.stage), k.phase);
            wait_turn();
            multiply_keys(s, q, k_tiles + k.stage * kTileStep);
            start_values();
            pass_turn();
            wgmma_wait<1>();
            pin_registers(s);
            float sums[2];
            exponentiate(s, state, scale_log2, sums);
            const bool fits = sums_fit<Element>(sums);
#pragma unroll
            for (int half = 0; half < 2; ++half) state.sum[half] += fits ? sums[half] : 0.0f;
            wait_for_values();
            if (!fits) { // nothing is under way now
                multiply_keys_again(s, shared.q + (warpgroup * 64 + warp * 16) * 128, shared.k_tile(k.stage), lane);
                softmax_step<false, false, true, 0>(s, state, scale_log2, kRescaleThreshold);
                rescale_output(o, state);
                __syncwarp();
            }
            release_keys();
            pack_probabilities(p, s);
        }
        if (lane == 0) barrier_arrive(shared.q_empty());

        start_values();
        ++number;
        more = begin_tile();
        const auto end_tile = [&] {
            pin_registers(o);
            if (lane == 0) barrier_arrive(shared.v_empty(v.stage));
            v.advance();
            write_output(args.attend, work, o, state, work.first_row + thread_row, lane);
            __syncwarp();
            if (lane == 0) barrier_arrive(shared.work_empty((number - 1) % 2));
        };
        if (more) { // two paths, as products under way cannot cross where paths meet
            wgmma_wait<1>();
            end_tile();
            wgmma_wait<0>();
            take_keys();
        } else {
            wgmma_wait<0>();
            end_tile();
        }
    }
}

// grid = (SMs).
extern "C" __global__ void __launch_bounds__(kThreads, 1) tamis_attend_wgmma_bf16_d128_bm192_bn80_cr160_ee0_lm1_o1_pp0_pr32_rt8_sm32_s4_sbp0_w3(const __grid_constant__ tamis_attend_tma_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    const Shared shared = shared_layout(s_memory, kOnesBytes);
    const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
    if (kSumByProduct) {
        write_ones(ones_place(shared), static_cast<int>(threadIdx.x));
        fence_async_proxy();
    }
    if (threadIdx.x == 0) init_barriers(shared, args.attend.indices != nullptr);
    follow_stream();
    __syncthreads();

    if (warpgroup == 0) {
        give_registers<32>();
        if (threadIdx.x == 0) load_keys_and_values(args, shared);
        if (threadIdx.x >= 32) load_queries(args, shared, static_cast<int>(threadIdx.x) - 32);
    } else {
        take_registers<160>();
        compute(args, shared, warpgroup - 1);
    }
}
