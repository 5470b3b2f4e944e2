// made by: tamis show SPEC --variant score_wgmma_bf16_d128_s6_stbn64_stw4_subn64_suw4 --arch sm_90a
// tamis_score_wgmma_bf16_d128_s6_stbn64_stw4_subn64_suw4_stats: 640 threads, 98560 bytes of dynamic shared memory
// tamis_score_wgmma_bf16_d128_s6_stbn64_stw4_subn64_suw4_merge: 256 threads, 0 bytes of dynamic shared memory
// tamis_score_wgmma_bf16_d128_s6_stbn64_stw4_subn64_suw4_sum: 640 threads, 164096 bytes of dynamic shared memory

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

constexpr int kHeadDim = 128;
constexpr int kStages = 6;       // tiles in flight
constexpr int kDepths = kHeadDim / 16;     // products that make up a tile's
constexpr float kRescaleThreshold = 16.0f; // log2 by which a maximum may grow before its sum is rescaled

// Rows in shared memory are cut into columns of 64 elements, 128 bytes, in which 16-byte chunks are swizzled.
constexpr int kSubTiles = (kHeadDim + 63) / 64;

// First pass: rows are (query head of the group, window query) pairs, 64 a warpgroup; columns are keys.
constexpr int kStatsWarpgroups = 4;
constexpr int kStatsThreads = 128 * (kStatsWarpgroups + 1); // the last warpgroup loads
constexpr int kStatsBlockM = 64 * kStatsWarpgroups;
constexpr int kStatsBlockN = 64;

// Second pass: rows are keys, 64 a warpgroup; columns are window queries of one head.
constexpr int kSumWarpgroups = 4;
constexpr int kSumThreads = 128 * (kSumWarpgroups + 1);
constexpr int kSumBlockM = 64 * kSumWarpgroups;
constexpr int kSumBlockN = 64;

constexpr int kMergeThreads = 256;
constexpr int kMergeLanes = 8; // share a row

template <int kRows>
constexpr int kTileBytes = kSubTiles * kRows * 128;

// The items of work of this block: a run of all of them, so that neighbours share rows.
struct Items {
    long long begin, end;
};

__device__ __forceinline__ Items my_items(long long items)
{
    return {items * blockIdx.x / gridDim.x, items * (blockIdx.x + 1) / gridDim.x};
}

// The ring of tiles: where they lie, and for each a barrier for "full" and one for "empty".
template <int kRows>
struct Tiles {
    unsigned first, barriers;
    __device__ __forceinline__ unsigned tile(int stage) const { return first + stage * kTileBytes<kRows>; }
    __device__ __forceinline__ unsigned full(int stage) const { return barriers + 8 * stage; }
    __device__ __forceinline__ unsigned empty(int stage) const { return barriers + 8 * (kStages + stage); }
    __device__ __forceinline__ void init(int warps) const
    {
        for (int stage = 0; stage < kStages; ++stage) {
            barrier_init(full(stage), 1);
            barrier_init(empty(stage), warps);
        }
    }
};

// Bring kRows rows of a head to shared memory; `barrier` counts the bytes.
template <int kRows>
__device__ __forceinline__ void load_tile(unsigned tile, const tamis_tensor_map &map, unsigned barrier, long long row, int head,
                                          int sequence)
{
    barrier_expect(barrier, kTileBytes<kRows>);
#pragma unroll
    for (int i = 0; i < kSubTiles; ++i)
        tensor_load(tile + i * kRows * 128, &map, barrier, 64 * i, static_cast<int>(row), head, sequence);
}

// The same for the next place in the ring, once it is empty.
template <int kRows>
__device__ __forceinline__ void load_next(const Tiles<kRows> &tiles, Ring<kStages> &ring, const tamis_tensor_map &map,
                                          long long row, int head, int sequence)
{
    barrier_wait(tiles.empty(ring.stage), ring.phase ^ 1);
    load_tile<kRows>(tiles.tile(ring.stage), map, tiles.full(ring.stage), row, head, sequence);
    ring.advance();
}

// S = A B^T or S += A B^T on 64 columns, 16 of the head dim.
__device__ __forceinline__ void wgmma(float (&s)[32], const unsigned *a, unsigned long long b, int accumulate)
{
    asm volatile("{\n"
                 ".reg .pred accumulate;\n"
                 "setp.ne.b32 accumulate, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31"
                 "}, {%32, %33, %34, %35}, %36, accumulate, 1, 1, 0;\n"
                 "}"
                 : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]), "+f"(s[7])
                 , "+f"(s[8]), "+f"(s[9]), "+f"(s[10]), "+f"(s[11]), "+f"(s[12]), "+f"(s[13]), "+f"(s[14]), "+f"(s[15])
                 , "+f"(s[16]), "+f"(s[17]), "+f"(s[18]), "+f"(s[19]), "+f"(s[20]), "+f"(s[21]), "+f"(s[22]), "+f"(s[23])
                 , "+f"(s[24]), "+f"(s[25]), "+f"(s[26]), "+f"(s[27]), "+f"(s[28]), "+f"(s[29]), "+f"(s[30]), "+f"(s[31])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

// Warpgroups take turns on the tensor cores. Products that start together would share them, end together, and leave them idle
// under everybody's exponentials.
template <int kWarpgroups>
struct Turn {
    int mine, next;
    __device__ __forceinline__ explicit Turn(int warpgroup) : mine(1 + warpgroup), next(1 + (warpgroup + 1) % kWarpgroups)
    {
        if (kWarpgroups > 1 && warpgroup == kWarpgroups - 1) pass(); // the first one is warpgroup 0's
    }
    __device__ __forceinline__ void wait() const
    {
        if (kWarpgroups > 1) named_sync(mine, 256);
    }
    __device__ __forceinline__ void pass() const
    {
        if (kWarpgroups > 1) named_arrive(next, 256);
    }
};

// S = A B^T over the head dim, B being the next tile of the ring, which is given back. The turn passes with half of the
// products still to do, so that the tensor cores are not idle while it does.
template <int kRows, int kWarpgroups>
__device__ __forceinline__ void multiply_next(float (&s)[kRows / 2], const unsigned (&a)[kDepths][4], const Tiles<kRows> &tiles,
                                              Ring<kStages> &ring, const Turn<kWarpgroups> &turn, int lane)
{
    const unsigned b = descriptor_low(tiles.tile(ring.stage), 0);
    barrier_wait(tiles.full(ring.stage), ring.phase);
    turn.wait();
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kDepths; ++i) {
        if (i == kDepths / 2) wgmma_commit();
        wgmma(s, a[i], matrix_descriptor(b, (i / 4) * (kRows * 128) + (i % 4) * 32), i > 0);
    }
    wgmma_commit();
    wgmma_wait<1>();
    turn.pass();
    wgmma_wait<0>();
    pin_registers(s);
    if (lane == 0) barrier_arrive(tiles.empty(ring.stage));
    ring.advance();
}

// ---- the first pass

// What an item of the first pass is: a chunk of keys of one KV head for a tile of rows. Neighbours share the rows.
struct StatsItem {
    int chunk, sequence, kv_head, first_row, steps;
    long long first_key;
};

__device__ __forceinline__ StatsItem stats_item(const tamis_score_args &args, int row_tiles, long long item)
{
    StatsItem out;
    out.chunk = static_cast<int>(item % args.chunks);
    const int rows_of = static_cast<int>(item / args.chunks), head = rows_of / row_tiles;
    out.first_row = rows_of % row_tiles * kStatsBlockM;
    out.sequence = head / args.kv_heads;
    out.kv_head = head % args.kv_heads;
    out.first_key = out.chunk * args.chunk_keys;
    const int keys = static_cast<int>(min(args.chunk_keys, args.seq_len - out.first_key));
    out.steps = (keys + kStatsBlockN - 1) / kStatsBlockN;
    return out;
}

// Words of the operand of 16 depths: two elements each of rows g and g + 8 (lane = 4 * g + t), at 2 * t and 8 further.
__device__ __forceinline__ void load_queries(unsigned (&a)[kDepths][4], const tamis_score_args &args, const StatsItem &item,
                                             int row_above, int lane)
{
    const int group = args.q_heads / args.kv_heads, rows = group * args.window;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = min(row_above + 8 * half, rows - 1); // what comes of a row too many is not written
        const int head = item.kv_head * group + row / args.window;
        const char *query = row_pointer(args.q, item.sequence, head, args.seq_len - args.window + row % args.window);
#pragma unroll
        for (int i = 0; i < kDepths; ++i)
#pragma unroll
            for (int j = 0; j < 2; ++j)
                a[i][half + 2 * j] = *reinterpret_cast<const unsigned *>(query + 32 * i + 16 * j + lane % 4 * 4);
    }
}

// Of a thread's two rows, over the keys it has seen so far itself: what the sum of exponentials is relative to, which lags
// behind the maximum by at most the threshold, and the sum. In log2 units.
struct Stats {
    float base[2] = {-kInfinity, -kInfinity};
    float sum[2] = {0.0f, 0.0f};
};

// Fold a tile of logits into the statistics. A row may have seen no key yet: then its base is -inf, and 0 stands in.
__device__ __forceinline__ void stats_step(const float (&s)[kStatsBlockN / 2], Stats &stats, float scale_log2)
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float peaks[2] = {s[2 * half], s[2 * half + 1]};
#pragma unroll
        for (int n = 1; n < kStatsBlockN / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) peaks[i] = fmaxf(peaks[i], s[4 * n + 2 * half + i]);
        const float peak = fmaxf(peaks[0], peaks[1]) * scale_log2;
        if (peak - stats.base[half] > kRescaleThreshold) {
            stats.sum[half] *= exp2_approx(stats.base[half] - peak);
            stats.base[half] = peak;
        }
        const float zero = stats.base[half] == -kInfinity ? 0.0f : stats.base[half];
        float sums[2] = {stats.sum[half], 0.0f};
#pragma unroll
        for (int n = 0; n < kStatsBlockN / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) sums[i] += exp2_approx(fmaf(s[4 * n + 2 * half + i], scale_log2, -zero));
        stats.sum[half] = sums[0] + sums[1];
    }
}

// Combine the four lanes of each row, and write its base and sum over the chunk.
__device__ __forceinline__ void write_stats(const tamis_score_args &args, const Stats &stats, const StatsItem &item,
                                            int row_above, int lane)
{
    const int group = args.q_heads / args.kv_heads;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float base = quad_max(stats.base[half]);
        const float part = stats.base[half] == -kInfinity ? 0.0f : stats.sum[half] * exp2_approx(stats.base[half] - base);
        const float sum = quad_sum(part);
        const int row = row_above + 8 * half;
        if (lane % 4 != 0 || row >= group * args.window) continue;
        const int head = item.kv_head * group + row / args.window, query = row % args.window;
        const long long list = (static_cast<long long>(item.sequence) * args.q_heads + head) * args.window + query;
        float *partial = args.partial + 2 * (list * args.chunks + item.chunk);
        partial[0] = base;
        partial[1] = sum;
    }
}

// grid = (SMs). Writes each row's base and sum over each chunk.
extern "C" __global__ void __launch_bounds__(kStatsThreads, 1)
tamis_score_wgmma_bf16_d128_s6_stbn64_stw4_subn64_suw4_stats(const __grid_constant__ tamis_score_tma_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    const tamis_score_args &score = args.score;
    const unsigned base = shared_address(s_memory);
    const Tiles<kStatsBlockN> tiles = {base, base + kStages * kTileBytes<kStatsBlockN>};
    if (threadIdx.x == 0) {
        tiles.init(4 * kStatsWarpgroups);
        barrier_init_fence();
    }
    follow_stream();
    __syncthreads();

    const int rows = score.q_heads / score.kv_heads * score.window, row_tiles = (rows + kStatsBlockM - 1) / kStatsBlockM;
    const Items items = my_items(static_cast<long long>(score.batch) * score.kv_heads * row_tiles * score.chunks);
    Ring<kStages> ring;
    if (warp >= 4 * kStatsWarpgroups) {
        give_registers<24>();
        if (threadIdx.x % 128 > 0) return;
        for (long long i = items.begin; i < items.end; ++i) {
            const StatsItem item = stats_item(score, row_tiles, i);
            for (int step = 0; step < item.steps; ++step)
                load_next(tiles, ring, args.k, item.first_key + step * kStatsBlockN, item.kv_head, item.sequence);
        }
        return;
    }

    take_registers<112>();
    unsigned q[kDepths][4];
    float s[kStatsBlockN / 2];
    const Turn<kStatsWarpgroups> turn(warp / 4);
    for (long long i = items.begin; i < items.end; ++i) {
        const StatsItem item = stats_item(score, row_tiles, i);
        const int row_above = item.first_row + 16 * warp + lane / 4;
        if (i == items.begin || item.chunk == 0) load_queries(q, score, item, row_above, lane);
        // Every row sees the tiles up to the window's first query.
        const long long first_query = score.seq_len - score.window - item.first_key; // its token, from the chunk's begin
        const int open = static_cast<int>(max(min((first_query + 1) / kStatsBlockN, static_cast<long long>(item.steps)), 0ll));
        Stats stats;
        for (int step = 0; step < open; ++step) {
            multiply_next(s, q, tiles, ring, turn, lane);
            stats_step(s, stats, score.scale_log2);
        }
        for (int step = open; step < item.steps; ++step) {
            const long long tile_begin = static_cast<long long>(step) * kStatsBlockN;
            multiply_next(s, q, tiles, ring, turn, lane);
            mask_logits(s, static_cast<int>(first_query + row_above % score.window - tile_begin),
                        static_cast<int>(first_query + (row_above + 8) % score.window - tile_begin), lane);
            stats_step(s, stats, score.scale_log2);
        }
        write_stats(score, stats, item, row_above, lane);
    }
}

// Combine the chunks of each row: lanes take chunks in turn, and are added up in a fixed order. Behind the window a row of lse2
// is filled with infinity. grid = (blocks of lse2_rows, Hq, B).
extern "C" __global__ void __launch_bounds__(kMergeThreads)
tamis_score_wgmma_bf16_d128_s6_stbn64_stw4_subn64_suw4_merge(const __grid_constant__ tamis_score_args args)
{
    follow_stream();
    const int query = (blockIdx.x * kMergeThreads + threadIdx.x) / kMergeLanes, lane = threadIdx.x % kMergeLanes;
    const long long head = static_cast<long long>(blockIdx.z) * args.q_heads + blockIdx.y;
    const long long list = head * args.window + min(query, args.window - 1); // all lanes take part in shuffles
    const float *partial = args.partial + 2 * list * args.chunks;
    float peak = -kInfinity;
    for (int chunk = lane; chunk < args.chunks; chunk += kMergeLanes) peak = fmaxf(peak, partial[2 * chunk]);
#pragma unroll
    for (int i = 1; i < kMergeLanes; i *= 2) peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, i));
    float sum = 0.0f;
    for (int chunk = lane; chunk < args.chunks; chunk += kMergeLanes)
        sum += partial[2 * chunk + 1] * exp2_approx(partial[2 * chunk] - peak);
#pragma unroll
    for (int i = 1; i < kMergeLanes; i *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, i);
    if (lane == 0 && query < args.lse2_rows)
        args.lse2[head * args.lse2_rows + query] = query < args.window ? peak + log2f(sum) : kInfinity;
}

// ---- the second pass

// What an item of the second pass is: a tile of keys of one KV head.
struct SumItem {
    int sequence, kv_head, first_key;
};

__device__ __forceinline__ SumItem sum_item(const tamis_score_args &args, int key_tiles, long long item)
{
    const int head = static_cast<int>(item / key_tiles);
    return {head / args.kv_heads, head % args.kv_heads, static_cast<int>(item % key_tiles) * kSumBlockM};
}

// The warp's 16 keys as an operand, from the block's tile of them, which is given back.
__device__ __forceinline__ void take_keys(unsigned (&a)[kDepths][4], unsigned tile, unsigned empty, int warp, int lane)
{
    const int row = 16 * warp + lane % 16;
#pragma unroll
    for (int i = 0; i < kDepths; ++i) {
        const int chunk = 2 * i + lane / 16;
        load_matrix_x4(a[i], tile + chunk / 8 * (kSumBlockM * 128) + row * 128 + (chunk % 8 ^ row % 8) * 16);
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(empty);
}

// Add the probabilities of a tile of queries to the sums of the thread's two keys. `bases`: lse2 of the thread's first column.
__device__ __forceinline__ void sum_step(const float (&s)[kSumBlockN / 2], float (&sum)[2],
                                         const float2 (&bases)[kSumBlockN / 8], float scale_log2)
{
#pragma unroll
    for (int n = 0; n < kSumBlockN / 8; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sum[half] += exp2_approx(fmaf(s[4 * n + 2 * half], scale_log2, -bases[n].x));
            sum[half] += exp2_approx(fmaf(s[4 * n + 2 * half + 1], scale_log2, -bases[n].y));
        }
}

// grid = (SMs). Every window query sees every candidate: no mask.
extern "C" __global__ void __launch_bounds__(kSumThreads, 1)
tamis_score_wgmma_bf16_d128_s6_stbn64_stw4_subn64_suw4_sum(const __grid_constant__ tamis_score_tma_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    const tamis_score_args &score = args.score;
    const unsigned base = shared_address(s_memory), keys = base + kStages * kTileBytes<kSumBlockN>;
    const Tiles<kSumBlockN> tiles = {base, keys + kTileBytes<kSumBlockM>};
    const unsigned keys_full = tiles.empty(kStages), keys_empty = keys_full + 8;
    if (threadIdx.x == 0) {
        tiles.init(4 * kSumWarpgroups);
        barrier_init(keys_full, 1);
        barrier_init(keys_empty, 4 * kSumWarpgroups);
        barrier_init_fence();
    }
    follow_stream();
    __syncthreads();

    const int candidates = static_cast<int>(score.seq_len) - score.window, group = score.q_heads / score.kv_heads;
    const int key_tiles = (candidates + kSumBlockM - 1) / kSumBlockM, query_tiles = (score.window + kSumBlockN - 1) / kSumBlockN;
    const Items items = my_items(static_cast<long long>(score.batch) * score.kv_heads * key_tiles);
    Ring<kStages> ring;
    unsigned phase = 0; // of the keys' barriers
    if (warp >= 4 * kSumWarpgroups) {
        give_registers<24>();
        if (threadIdx.x % 128 > 0) return;
        for (long long i = items.begin; i < items.end; ++i, phase ^= 1) {
            const SumItem item = sum_item(score, key_tiles, i);
            barrier_wait(keys_empty, phase ^ 1);
            load_tile<kSumBlockM>(keys, args.k, keys_full, item.first_key, item.kv_head, item.sequence);
            for (int head = item.kv_head * group; head < (item.kv_head + 1) * group; ++head)
                for (int tile = 0; tile < query_tiles; ++tile)
                    load_next(tiles, ring, args.q, candidates + tile * kSumBlockN, head, item.sequence);
        }
        return;
    }

    take_registers<112>();
    unsigned k[kDepths][4];
    float s[kSumBlockN / 2];
    const Turn<kSumWarpgroups> turn(warp / 4);
    const float inverse = 1.0f / static_cast<float>(score.window);
    for (long long i = items.begin; i < items.end; ++i, phase ^= 1) {
        const SumItem item = sum_item(score, key_tiles, i);
        const int key_above = item.first_key + 16 * warp + lane / 4;
        barrier_wait(keys_full, phase);
        take_keys(k, keys, keys_empty, warp, lane);
        for (int member = 0; member < group; ++member) {
            const long long head = static_cast<long long>(item.sequence) * score.q_heads + item.kv_head * group + member;
            const float *lse2 = score.lse2 + head * score.lse2_rows + lane % 4 * 2;
            float sum[2] = {0.0f, 0.0f};
            for (int tile = 0; tile < query_tiles; ++tile) {
                float2 bases[kSumBlockN / 8];
#pragma unroll
                for (int n = 0; n < kSumBlockN / 8; ++n)
                    bases[n] = *reinterpret_cast<const float2 *>(lse2 + tile * kSumBlockN + 8 * n);
                multiply_next(s, k, tiles, ring, turn, lane);
                sum_step(s, sum, bases, score.scale_log2);
            }
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int key = key_above + 8 * half;
                const float total = quad_sum(sum[half]) * inverse;
                if (lane % 4 == 0 && key < candidates) score.score[head * candidates + key] = total;
            }
        }
    }
}
