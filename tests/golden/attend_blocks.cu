// made by: tamis show SPEC --variant attend_blocks_bf16_d128_bn32_lm1_qir0_rt8_s2_w4 --arch sm_80
// tamis_attend_blocks_bf16_d128_bn32_lm1_qir0_rt8_s2_w4: 128 threads, 69632 bytes of dynamic shared memory

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

using Element = Bf16;

constexpr int kHeadDim = 128;
constexpr int kBlockM = kBlock;       // queries a block
constexpr int kBlockN = 32; // keys a step
constexpr int kParts = kBlock / kBlockN; // steps a listed block
constexpr int kStages = 2;  // K and V tiles in flight
constexpr int kWarps = 4;
constexpr float kRescaleThreshold = 8.0f; // log2 by which a maximum may grow before O is rescaled


/*
 * attend_mma.cuh: what the portable attention kernels share: where a head's K and V are, the products of mma.sync, and how rows
 * leave. Included behind a kernel's constants (attend.cu.lua).
 */

constexpr int kThreads = 32 * kWarps;
constexpr int kRowTiles = kBlockM / kWarps / 16; /* 16-row tiles a warp */
constexpr int kLogits = kBlockN / 2;             /* of a row tile that a thread holds, as softmax.cuh has them */
constexpr int kOutputs = kHeadDim / 2;           /* in the same layout */
constexpr int kPitch = Tile<kHeadDim>::kPitchBytes;
constexpr int kTileBytes = kBlockN * kPitch; /* of one K or V tile */
constexpr int kStageBytes = 2 * kTileBytes;  /* K, then V */
constexpr float kLn2 = 0.693147180559945f;   /* the log-sum-exp leaves in natural units */

/* Where this block's rows are: compact ones, or the full tensors where the sequence keeps every token. */
struct Source {
    const char *k, *v;        // row 0 of this head
    long long k_step, v_step; // bytes from row to row
};

__device__ __forceinline__ Source find_source(const tamis_attend_args &args, int sequence, int head, bool full)
{
    const tamis_rows &k = full ? args.k_full : args.k;
    const tamis_rows &v = full ? args.v_full : args.v;
    const int kv_head = head / (args.q_heads / (full ? args.kv_heads : args.compact_heads));
    return {row_pointer(k, sequence, kv_head, 0), row_pointer(v, sequence, kv_head, 0), 2 * k.row_stride,
            2 * v.row_stride};
}

/* The d-th 16 columns of a warp's rows of Q: from shared memory, or from where registers hold them. */
__device__ __forceinline__ void take_queries(unsigned (&query)[kRowTiles][4], unsigned s_q, int d)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) load_matrix_x4(query[m], s_q + m * 16 * kPitch + d * 32);
}

__device__ __forceinline__ void take_queries(unsigned (&query)[kRowTiles][4],
                                             const unsigned (&q)[kHeadDim / 16][kRowTiles][4], int d)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i) query[m][i] = q[d][m][i];
}

/* S = Q K^T. */
template <typename Queries>
__device__ __forceinline__ void multiply_keys(float (&s)[kRowTiles][kLogits], const Queries &q, unsigned k)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int i = 0; i < kLogits; ++i) s[m][i] = 0.0f;
#pragma unroll
    for (int d = 0; d < kHeadDim / 16; ++d) {
        unsigned query[kRowTiles][4];
        take_queries(query, q, d);
#pragma unroll
        for (int n = 0; n < kBlockN / 16; ++n) {
            unsigned key[4];
            load_matrix_x4(key, k + n * 16 * kPitch + d * 32);
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                Element::mma(s[m] + 8 * n, query[m], key[0], key[1]);
                Element::mma(s[m] + 8 * n + 4, query[m], key[2], key[3]);
            }
        }
    }
}

/* S = Q K^T of one row tile once more, in little code and few registers, as it is seldom needed. */
__device__ __forceinline__ void multiply_keys_again(float (&s)[kLogits], unsigned s_q, unsigned k)
{
#pragma unroll
    for (int i = 0; i < kLogits; ++i) s[i] = 0.0f;
#pragma unroll 1
    for (int d = 0; d < kHeadDim / 16; ++d) {
        unsigned query[4], key[4];
        load_matrix_x4(query, s_q + d * 32);
#pragma unroll
        for (int n = 0; n < kBlockN / 16; ++n) {
            load_matrix_x4(key, k + n * 16 * kPitch + d * 32);
            Element::mma(s + 8 * n, query, key[0], key[1]);
            Element::mma(s + 8 * n + 4, query, key[2], key[3]);
        }
    }
}

/* O += P V. The probabilities in accumulator layout are the A fragments as they stand, once packed to 16 bits. */
__device__ __forceinline__ void multiply_values(float (&o)[kRowTiles][kOutputs], const float (&s)[kRowTiles][kLogits],
                                                unsigned v)
{
#pragma unroll
    for (int k = 0; k < kBlockN / 16; ++k) {
        unsigned probability[kRowTiles][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                probability[m][i] = Element::pack(s[m][8 * k + 2 * i], s[m][8 * k + 2 * i + 1]);
#pragma unroll
        for (int d = 0; d < kHeadDim / 16; ++d) {
            unsigned value[4];
            load_matrix_x4_transposed(value, v + k * 16 * kPitch + d * 32);
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                Element::mma(o[m] + 8 * d, probability[m], value[0], value[1]);
                Element::mma(o[m] + 8 * d + 4, probability[m], value[2], value[3]);
            }
        }
    }
}

__device__ __forceinline__ void rescale_output(float (&o)[kOutputs], const Softmax &state)
{
    if (!state.grown) return;
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) o[i] *= state.scale[i / 2 % 2];
}

/*
 * A warp's rows of a tile, and their tokens, or null where each is its own. The two parts of a row's number stay apart until it
 * is needed: ptxas would keep the sum in a register from the kernel's beginning.
 */
struct Rows {
    int sequence, head, first_row, warp_row; // the tile's first one of the sequence's, and the warp's first one of those
    int count;                               // of the sequence
    const int *token;
    __device__ __forceinline__ int token_of(int row) const { return token ? token[row] : row; }
};

/* Sums of whole rows, and their log-sum-exp, which is -inf where a row has seen no key. */
__device__ __forceinline__ void finish_softmax(const tamis_attend_args &args, const Rows &rows, Softmax (&state)[kRowTiles],
                                               int lane)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            state[m].sum[half] = quad_sum(state[m].sum[half]);
            const int row = rows.first_row + rows.warp_row + 16 * m + lane / 4 + 8 * half;
            if (args.lse && lane % 4 == 0 && row < rows.count)
                args.lse[(static_cast<long long>(rows.sequence) * args.q_heads + rows.head) * args.lse_rows +
                         rows.token_of(row)] =
                    (state[m].max[half] * args.scale_log2 + log2f(state[m].sum[half])) * kLn2;
        }
}

/*
 * Normalise the rows and write them to their tokens' places, through `s_rows`, where the warp's rows of Q were: nobody else
 * reads those. kEmpty: a row may have seen no key, and is 0 then.
 */
template <bool kEmpty>
__device__ __forceinline__ void write_rows(const tamis_attend_args &args, const Rows &rows, char *s_rows,
                                           const float (&o)[kRowTiles][kOutputs], const Softmax (&state)[kRowTiles], int lane)
{
    __syncwarp(); // all lanes are done with Q
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float inverse = kEmpty && state[m].sum[half] == 0.0f ? 0.0f : 1.0f / state[m].sum[half];
            char *row = s_rows + (16 * m + lane / 4 + 8 * half) * kPitch + lane % 4 * 4;
#pragma unroll
            for (int d = 0; d < kHeadDim / 8; ++d)
                *reinterpret_cast<unsigned *>(row + d * 16) =
                    Element::pack(o[m][4 * d + 2 * half] * inverse, o[m][4 * d + 2 * half + 1] * inverse);
        }
    __syncwarp();
    char *output = const_cast<char *>(row_pointer(args.output, rows.sequence, rows.head, 0));
    constexpr int kChunks = Tile<kHeadDim>::kChunks;
    for (int i = lane; i < 16 * kRowTiles * kChunks; i += 32) {
        const int row = rows.first_row + rows.warp_row + i / kChunks, chunk = i % kChunks;
        if (row >= rows.count) break;
        const int4 value = *reinterpret_cast<const int4 *>(s_rows + i / kChunks * kPitch + chunk * 16);
        *reinterpret_cast<int4 *>(output + 2 * args.output.row_stride * rows.token_of(row) + chunk * 16) = value;
    }
}

constexpr int kSharedBytes = kBlockM * kPitch + kStages * kStageBytes;
static_assert(kSharedBytes == 69632, "the launch and the kernel disagree on shared memory");

// K or V of one head, a tile of rows at a time from anywhere. A thread copies the same chunks of every kRowsAPass-th row.
struct KeyLoader {
    static constexpr int kChunks = Tile<kHeadDim>::kChunks;
    static constexpr int kLanes = kChunks & -kChunks; // threads side by side in a row: the power of two in kChunks
    static constexpr int kRowsAPass = kThreads / kLanes;
    const char *source; // this thread's first chunk of the head's row 0, and of its first row
    long long row_bytes;
    unsigned offset; // of that chunk in the tile

    __device__ __forceinline__ KeyLoader(const char *head, long long row_bytes_)
        : source(head + threadIdx.x / kLanes * row_bytes_ + threadIdx.x % kLanes * 16), row_bytes(row_bytes_),
          offset(threadIdx.x / kLanes * kPitch + threadIdx.x % kLanes * 16)
    {
    }
    // Start copying kBlockN rows from `first` on; zeros for those at and behind `rows`, as a masked probability is exactly 0,
    // but 0 times whatever lies in stale memory need not be.
    __device__ __forceinline__ void load(unsigned shared, int first, int rows) const
    {
        const char *row = source + first * row_bytes;
        const int mine = first + threadIdx.x / kLanes;
#pragma unroll
        for (int i = 0; i < kBlockN; i += kRowsAPass) {
            if (kBlockN - i >= kRowsAPass || static_cast<int>(threadIdx.x) < (kBlockN - i) * kLanes)
#pragma unroll
                for (int chunk = 0; chunk < kChunks; chunk += kLanes)
                    copy_async_16(shared + offset + i * kPitch + chunk * 16, mine + i < rows ? row + chunk * 16 : source,
                                  mine + i < rows);
            row += kRowsAPass * row_bytes;
        }
    }
};

// One block: the queries of one list. grid = (T, Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads) tamis_attend_blocks_bf16_d128_bn32_lm1_qir0_rt8_s2_w4(const __grid_constant__ tamis_attend_blocks_args all)
{
    extern __shared__ __align__(16) char s_memory[];
    follow_stream();
    const tamis_attend_args &args = all.attend;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int head = blockIdx.y, sequence = blockIdx.z;

    // The last rows first, whose lists tend to be the longest.
    const int rows = args.kept ? args.kept[sequence] : static_cast<int>(args.seq_len);
    const int tile = (rows + kBlockM - 1) / kBlockM - 1 - static_cast<int>(blockIdx.x);
    if (tile < 0) return;
    const int first_row = tile * kBlockM;

    const bool full = args.k_full.data && rows == args.seq_len;
    const Source source = find_source(args, sequence, head, full);
    const int index_head = head / (args.q_heads / args.index_heads);
    const int *token = args.indices // token[i]: where row i of the compact order lies in the full one
                           ? args.indices + (static_cast<long long>(sequence) * args.index_heads + index_head) * args.capacity
                           : nullptr;

    const unsigned s_q = shared_address(s_memory), s_kv = s_q + kBlockM * kPitch;
    const char *q_row = row_pointer(args.q, sequence, head, 0);
    load_rows_async<kHeadDim, kBlockM, kThreads>(s_q, q_row, [&](int i) -> const char * {
        const int row = first_row + i;
        if (row >= rows) return nullptr;
        return q_row + 2 * args.q.row_stride * (token ? token[row] : row);
    });

    // Steps go from the last listed block to the first, and through its parts likewise, so that the diagonal comes first. Of
    // the query block itself, parts behind the last row are left out.
    const BlockList list = find_list(all.blocks, sequence * args.q_heads + head, tile);
    const auto entry_of = [&](int step) { return list.count == 0 ? tile | kNothing : list.entries[step / kParts]; };
    const bool own = list.count == 0 || (list.entries[list.count - 1] & kBlockNumber) == tile;
    const int last_parts = own ? (min(rows - first_row, kBlock) - 1) / kBlockN + 1 : kParts;
    const int last_step = max(list.count - 1, 0) * kParts + last_parts - 1;
    const auto key_of = [&](int entry, int step) { return block_number(entry, tile) * kBlock + step % kParts * kBlockN; };

    const KeyLoader k_loader(source.k, source.k_step), v_loader(source.v, source.v_step);
    int entry = entry_of(last_step); // of the step to come
    k_loader.load(s_kv, key_of(entry, last_step), rows);
    v_loader.load(s_kv + kTileBytes, key_of(entry, last_step), rows);
    copy_async_commit();
    // One group a step, empty ones included, so that the same wait fits every step. Entries are read a step before their keys
    // are asked for, so that this does not wait for them.
    int ahead = last_step > 0 ? entry_of(last_step - 1) : 0;
    const auto load_step = [&](int step, unsigned stage) {
        if (step >= 0) {
            const int first = key_of(ahead, step);
            k_loader.load(s_kv + stage * kStageBytes, first, rows);
            v_loader.load(s_kv + stage * kStageBytes + kTileBytes, first, rows);
        }
        copy_async_commit();
        if (step > 0) ahead = entry_of(step - 1);
    };
#pragma unroll
    for (int i = 1; i < kStages - 1; ++i) load_step(last_step - i, i);
    unsigned stage = 0;

    const int warp_row = warp * 16 * kRowTiles;
    const unsigned s_warp_q = s_q + warp_row * kPitch + lane_offset_a<kHeadDim>(lane);
    const unsigned k_lane = lane_offset_b<kHeadDim>(lane), v_lane = kTileBytes + lane_offset_a<kHeadDim>(lane);
    float o[kRowTiles][kOutputs] = {};
    Softmax state[kRowTiles];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            state[m].max[half] = -kInfinity;
            state[m].sum[half] = 0.0f;
        }

    const bool looks = kParts > 1 || all.blocks.mask_count > 0; // may a step behind the first need a mask?
#pragma unroll 1
    for (int step = last_step; step >= 0; --step) {
        float s[kRowTiles][kLogits];
        if (looks && step < last_step) entry = entry_of(step);
        copy_async_wait<kStages - 2>();
        __syncthreads(); // this stage is there, and everybody is done with the one before it
        load_step(step - (kStages - 1), stage == 0 ? kStages - 1 : stage - 1);
        multiply_keys(s, s_warp_q, s_kv + stage * kStageBytes + k_lane);
        // The diagonal cuts the query block's own keys alone. What a mask takes comes on top.
        const bool masked =
            step == last_step || (looks && (is_partial(entry) || (kParts > 1 && (entry & kBlockNumber) == tile)));
        if (masked) {
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                const int row = warp_row + 16 * m + lane / 4, first_key = key_of(entry, step);
                mask_logits(s[m], first_row + row - first_key, first_row + row + 8 - first_key, lane);
                if (is_partial(entry)) mask_block(s[m], all.blocks, entry, row, step % kParts * kBlockN, lane);
                softmax_step<false, true, true, 0>(s[m], state[m], args.scale_log2, kRescaleThreshold);
                rescale_output(o[m], state[m]);
            }
        } else {
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                float sums[2];
                exponentiate(s[m], state[m], args.scale_log2, sums);
                if (sums_fit<Element>(sums)) {
                    state[m].sum[0] += sums[0];
                    state[m].sum[1] += sums[1];
                } else {
                    multiply_keys_again(s[m], s_warp_q + m * 16 * kPitch, s_kv + stage * kStageBytes + k_lane);
                    softmax_step<false, false, true, 0>(s[m], state[m], args.scale_log2, kRescaleThreshold);
                    rescale_output(o[m], state[m]);
                }
            }
        }
        multiply_values(o, s, s_kv + stage * kStageBytes + v_lane);
        stage = stage == kStages - 1 ? 0 : stage + 1;
    }

    const Rows mine = {sequence, head, first_row, warp_row, rows, token};
    finish_softmax(args, mine, state, lane);
    write_rows<true>(args, mine, s_memory + warp_row * kPitch, o, state, lane);
}
