// made by: tamis show SPEC --variant select_bm128_bc1_c1_h16_pt256_t1024 --arch sm_80
// tamis_select_bm128_bc1_c1_h16_pt256_t1024_pool: 256 threads, 0 bytes of dynamic shared memory
// tamis_select_bm128_bc1_c1_h16_pt256_t1024_budget: 1024 threads, 0 bytes of dynamic shared memory
// tamis_select_bm128_bc1_c1_h16_pt256_t1024_tokens: 1024 threads, 0 bytes of dynamic shared memory

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
 * bins.cuh: finding one value among many integers without sorting: the blocks of a cluster put the keys of an interval into
 * bins, find the bin in which a running total reaches a goal, and narrow the interval to it.
 */

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

constexpr int kPoolThreads = 256;
constexpr int kBlockM = 128;               // tokens that a block pools
constexpr int kThreads = 1024;              // a block of budget and choice
constexpr int kBudgetCluster = 1; // blocks a sequence, or one
constexpr int kTokensCluster = 1;        // blocks a list, or one
constexpr int kTokensHeld = 16;               // scores a thread keeps in registers; others it reads again and again
constexpr int kBudgetHeld = kTokensHeld / 2;        // the budget's 64-bit sums need the other half of the registers
constexpr int kBatch = 4;                           // loads in flight a thread, of those others

// ---- step 2: pooling, and what heads rank by

constexpr int kPoolWarps = kPoolThreads / 32;
constexpr int kPoolBlocks = 1536 / kPoolThreads; // an SM, so that many loads are in flight; 40 registers a thread
constexpr int kMaxPool = 63;
constexpr int kUsualPool = 7; // the method's own width, whose loops are unrolled
constexpr int kSpan = kBlockM + kMaxPool - 1; // scores that kBlockM tokens are pooled from
constexpr int kLoads = (kSpan + 31) / 32;     // of them a lane
constexpr int kTokensALane = kBlockM / 32;

// Where a warp is on its way through the heads. Units of heads that rank together are shared out among the warps, unit `warp`
// first, then every kPoolWarps-th.
struct HeadPlace {
    int unit, member;
    __device__ __forceinline__ int head(int heads_a_unit) const { return unit * heads_a_unit + member; }
    __device__ __forceinline__ HeadPlace next(int heads_a_unit) const
    {
        return member + 1 < heads_a_unit ? HeadPlace{unit, member + 1} : HeadPlace{unit + kPoolWarps, 0};
    }
};

// A lane's part of a row of scores, which begins at `first` and has zeros outside the row.
__device__ __forceinline__ void load_span(float (&span)[kLoads], const float *row, int first, int width, int candidates)
{
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
        const int at = 32 * i + static_cast<int>(threadIdx.x % 32), j = first + at;
        span[i] = at < width && static_cast<unsigned>(j) < static_cast<unsigned>(candidates) ? row[j] : 0.0f;
    }
}

// Moving average of a lane's tokens, in s_span from token 0's first neighbour on; added in order of position. By the product
// with the inverse, and no other instruction: equal scores must stay equal whichever lane pools them.
template <int kPool>
__device__ __forceinline__ void pool_span(float (&value)[kTokensALane], const float *s_span, int pool)
{
    const int width = kPool ? kPool : pool;
    const float inverse = 1.0f / width;
#pragma unroll
    for (int t = 0; t < kTokensALane; ++t) {
        const float *s_token = s_span + 32 * t + threadIdx.x % 32;
        float sum = s_token[0];
#pragma unroll
        for (int i = 1; i < width; ++i) sum += s_token[i];
        value[t] = __fmul_rn(sum, inverse);
    }
}

template <int kPool>
__device__ __forceinline__ void pool_block(const tamis_pool_args &args, float (*s_spans)[kSpan])
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, candidates = static_cast<int>(args.candidates);
    const int first = static_cast<int>(blockIdx.x) * kBlockM;
    const long long sequence = blockIdx.y;
    const bool ranks = args.index_heads > 1; // else heads rank by the mean
    const int units = ranks ? args.index_heads : args.q_heads, heads_a_unit = args.q_heads / units;
    const int width = kBlockM + args.pool - 1, begin = first - args.pool / 2;
    const float *score = args.score + sequence * args.q_heads * args.candidates;
    float *s_span = s_spans[warp];
    float span[kLoads], value[kTokensALane], rank[kTokensALane], mean[kTokensALane] = {};

    HeadPlace place = {warp, 0};
    if (warp < units) load_span(span, score + place.head(heads_a_unit) * args.candidates, begin, width, candidates);
    while (place.unit < units) {
#pragma unroll
        for (int i = 0; i < kLoads; ++i)
            if (32 * i + lane < width) s_span[32 * i + lane] = span[i];
        __syncwarp();
        const HeadPlace next = place.next(heads_a_unit);
        if (next.unit < units) // its scores, under this head's sums
            load_span(span, score + next.head(heads_a_unit) * args.candidates, begin, width, candidates);
        pool_span<kPool>(value, s_span, args.pool);
        const bool is_last = ranks && next.unit != place.unit;
        float *row = args.rank + (sequence * args.index_heads + place.unit) * args.candidates + first;
#pragma unroll
        for (int t = 0; t < kTokensALane; ++t) {
            mean[t] += value[t];
            rank[t] = place.member == 0 ? value[t] : rank[t] + value[t];
            const int at = 32 * t + lane;
            if (is_last && first + at < candidates) row[at] = rank[t];
        }
        __syncwarp();
        place = next;
    }

    // The warps' sums, in the order of the warps.
#pragma unroll
    for (int t = 0; t < kTokensALane; ++t) s_span[32 * t + lane] = mean[t];
    __syncthreads();
    const int at = threadIdx.x, j = first + at;
    if (at >= kBlockM || j >= candidates) return;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kPoolWarps; ++i) sum += s_spans[i][at];
    sum /= args.q_heads;
    if (!ranks) args.rank[sequence * args.candidates + j] = sum;
    args.mean[sequence * args.candidates + j] = sum;
}

// grid = (blocks of candidates, B). All heads of a token are in one block, so that sums have one order.
extern "C" __global__ void __launch_bounds__(kPoolThreads, kPoolBlocks)
tamis_select_bm128_bc1_c1_h16_pt256_t1024_pool(const __grid_constant__ tamis_pool_args args)
{
    __shared__ float s_spans[kPoolWarps][kSpan];
    follow_stream();
    if (args.kept && blockIdx.x == 0 && threadIdx.x == 0) args.kept[blockIdx.y] = args.fixed_kept;
    if (args.pool == kUsualPool)
        pool_block<kUsualPool>(args, s_spans);
    else
        pool_block<0>(args, s_spans);
}

// ---- a list of scores, shared out among the threads of a cluster

constexpr int kWarps = kThreads / 32;
constexpr int kNoKey = -1; // behind the end of the list: below every key, and as unsigned above all

// The integer that orders as the score does. Without the sign bit, which only a NaN could bring, so that even then every
// score falls into a bin and nothing is written out of bounds.
__device__ __forceinline__ int score_key(float score) { return __float_as_int(score) & 0x7fffffff; }

// A warp's part of a list: rows of 32 candidates, one a lane. Rows are in order from warp to warp and block to block.
struct Slice {
    const float *scores;
    int first; // this lane's candidate of row 0
    int end;   // behind the slice
    int rows;
    __device__ __forceinline__ int key(int row) const
    {
        const int j = first + 32 * row;
        return j < end ? score_key(scores[j]) : kNoKey;
    }
};

template <int kCluster>
__device__ __forceinline__ Slice slice_of(const float *scores, int candidates)
{
    constexpr int kPart = 32 * kWarps * kCluster; // candidates that a row of every warp covers
    const int lane = threadIdx.x % 32, warp = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32);
    const int rows = (candidates + kPart - 1) / kPart;
    const int begin = min(32 * rows * warp, candidates), end = min(begin + 32 * rows, candidates);
    return {scores, begin + lane, end, (end - begin + 31) / 32};
}

template <int kHeld>
__device__ __forceinline__ void load_held(int (&held)[kHeld], const Slice &slice)
{
#pragma unroll
    for (int i = 0; i < kHeld; ++i) held[i] = slice.key(i);
}

// Call visit(row, key) for each row in order, all lanes together, and for some rows behind the last, which hold kNoKey.
template <int kHeld, typename Visit>
__device__ __forceinline__ void visit_rows(const Slice &slice, const int (&held)[kHeld], Visit visit)
{
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
        if (i % kBatch == 0 && i >= slice.rows) return;
        visit(i, held[i]);
    }
#pragma unroll 1
    for (int row = kHeld; row < slice.rows; row += kBatch) {
        int keys[kBatch];
#pragma unroll
        for (int i = 0; i < kBatch; ++i) keys[i] = slice.key(row + i);
#pragma unroll
        for (int i = 0; i < kBatch; ++i) visit(row + i, keys[i]);
    }
}

// What a list's keys lie between, and roughly what its scores add up to, in one order of additions.
struct Extent {
    unsigned low;
    int high;
    float sum;
    __device__ __forceinline__ void take(const Extent &other)
    {
        low = min(low, other.low);
        high = max(high, other.high);
        sum += other.sum;
    }
};
constexpr unsigned kNoLow = 0xffffffffu;

template <int kCluster, int kHeld>
__device__ __forceinline__ Extent find_extent(const Slice &slice, const int (&held)[kHeld])
{
    __shared__ Extent s_warps[kWarps], s_block;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Extent extent = {kNoLow, kNoKey, 0.0f};
    visit_rows(slice, held, [&](int, int key) {
        extent.low = min(extent.low, static_cast<unsigned>(key));
        extent.high = max(extent.high, key);
        extent.sum += key == kNoKey ? 0.0f : __int_as_float(key);
    });
    const auto of_warp = [](const Extent &one) {
        return Extent{__reduce_min_sync(kAllLanes, one.low), __reduce_max_sync(kAllLanes, one.high), warp_sum(one.sum)};
    };
    extent = of_warp(extent);
    if (lane == 0) s_warps[warp] = extent;
    __syncthreads();
    if (warp == 0) {
        extent = of_warp(lane < kWarps ? s_warps[lane] : Extent{kNoLow, kNoKey, 0.0f});
        if (lane == 0) s_block = extent;
    }
    cluster_sync<kCluster>();
    extent = *cluster_shared<kCluster>(&s_block, 0);
#pragma unroll
    for (int rank = 1; rank < kCluster; ++rank) extent.take(*cluster_shared<kCluster>(&s_block, rank));
    return extent;
}

// ---- step 3: how many

// A score in units of 2^-unit, rounded down.
__device__ __forceinline__ unsigned long long fixed_point(int key, int unit)
{
    const int exponent = key >> 23, shift = max(exponent, 1) - 150 + unit; // 150: of a significand read as an integer
    const unsigned long long significand = (key & 0x7fffff) | (exponent > 0 ? 0x800000 : 0);
    return shift >= 0 ? significand << min(shift, 63) : significand >> min(-shift, 63);
}

// How many of the smallest scores add up to less than the part `coverage` of all: narrow down to the one value at which the
// sum crosses it, then count how many scores of that value still fit. 0 too where nothing adds up to anything.
template <int kCluster>
__device__ __forceinline__ long long count_below(const Slice &slice, const int (&held)[kBudgetHeld], double coverage, Sums *s_sums)
{
    __shared__ unsigned s_warps[kWarps], s_count;
    const Extent extent = find_extent<kCluster>(slice, held);
    if (!(extent.sum > 0.0f)) return 0;
    // The unit that keeps the sum of all below 2^63, whatever rounding did to its float.
    const int unit = 61 - ((__float_as_int(extent.sum) >> 23) - 127);
    const auto goal = [&](unsigned long long total) {
        return min(static_cast<unsigned long long>(ceil(coverage * static_cast<double>(total))), total);
    };
    Interval interval = {extent.low, extent.high - extent.low + 1};
    unsigned long long left = 0;
    int round = 0;
    do {
        const int shift = interval.shift();
        Sums &s_bins = s_sums[round % 2];
        visit_rows(slice, held, [&](int, int key) {
            const unsigned distance = static_cast<unsigned>(key) - interval.origin;
            if (distance < interval.width) s_bins.add(distance >> shift, fixed_point(key, unit));
        });
        const auto crossing = find_crossing<kThreads, kCluster>(
            s_bins, s_sums[1 - round % 2], [&](unsigned long long total) { return round == 0 ? goal(total) : left; });
        left = crossing.left;
        if (left == 0) return 0;
        interval.narrow(crossing.bin, 1);
        ++round;
    } while (interval.width > 1);

    unsigned count = 0, total;
    visit_rows(slice, held, [&](int, int key) { count += static_cast<unsigned>(key) < interval.origin; });
    warps_exclusive_scan<kThreads>(__reduce_add_sync(kAllLanes, count), s_warps, total);
    if (threadIdx.x == 0) s_count = total;
    cluster_sync<kCluster>();
    long long below = 0;
#pragma unroll
    for (int rank = 0; rank < kCluster; ++rank) below += *cluster_shared<kCluster>(&s_count, rank);
    // Each of the equal scores adds `value`, which is not 0, since it moved the sum to the goal.
    const unsigned long long value = fixed_point(static_cast<int>(interval.origin), unit);
    return below + static_cast<long long>((left - 1) / max(value, 1ull));
}

template <int kCluster>
__device__ __forceinline__ void find_budget(const tamis_budget_args &args, Sums *s_sums)
{
    const int sequence = blockIdx.y;
    const Slice slice = slice_of<kCluster>(args.mean + sequence * args.candidates, static_cast<int>(args.candidates));
    int held[kBudgetHeld];
    load_held(held, slice);
    s_sums[0].clear<kThreads>();
    const long long drop = count_below<kCluster>(slice, held, args.coverage, s_sums);
    cluster_arrive_relaxed<kCluster>(); // this block has read what it wanted of others
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        const long long keep = max(args.min_tokens, args.candidates - (drop + 1)), window = args.seq_len - args.candidates;
        args.kept[sequence] = static_cast<int>(drop == 0 ? args.seq_len : keep + window);
    }
    cluster_wait<kCluster>();
}

// grid = (1 or kBudgetCluster, B): a sequence has one block, which waits for no other, or a cluster.
extern "C" __global__ void __launch_bounds__(kThreads) tamis_select_bm128_bc1_c1_h16_pt256_t1024_budget(const __grid_constant__ tamis_budget_args args)
{
    __shared__ Sums s_sums[2];
    follow_stream();
    if (args.fixed_keep >= 0) {
        if (blockIdx.x == 0 && threadIdx.x == 0)
            args.kept[blockIdx.y] = static_cast<int>(args.fixed_keep + args.seq_len - args.candidates);
    } else if (kBudgetCluster == 1 || gridDim.x == 1) {
        find_budget<1>(args, s_sums);
    } else {
        find_budget<kBudgetCluster>(args, s_sums);
    }
}

// ---- step 4: which

// The `keep`-th largest key, and how many of the keys equal to it are among the `keep` largest.
struct Threshold {
    int key;
    unsigned ties;
};

template <int kCluster>
__device__ __forceinline__ Threshold find_threshold(const Slice &slice, const int (&held)[kTokensHeld], unsigned keep,
                                                    Counts *s_counts)
{
    const Extent extent = find_extent<kCluster>(slice, held);
    Interval interval = {static_cast<unsigned>(extent.high), extent.high - extent.low + 1}; // downwards
    unsigned left = keep; // keys still to be found in the interval
    for (int round = 0; interval.width > 1; ++round) {
        const int shift = interval.shift();
        Counts &s_bins = s_counts[round % 2];
        // A shuffle's result stays in a register; else the compiler finds the address anew for every key.
        const unsigned first = __shfl_sync(kAllLanes, shared_address(s_bins.count), 0);
        visit_rows(slice, held, [&](int, int key) {
            const unsigned distance = interval.origin - static_cast<unsigned>(key);
            count_shared(first + 4 * (distance >> shift), distance < interval.width);
        });
        const auto crossing = find_crossing<kThreads, kCluster>(s_bins, s_counts[1 - round % 2], [&](unsigned) { return left; });
        left = crossing.left;
        interval.narrow(crossing.bin, -1);
    }
    return {static_cast<int>(interval.origin), left};
}

// How many keys before this warp's slice are larger than the threshold (in the high half), and how many equal it.
template <int kCluster>
__device__ __forceinline__ unsigned long long count_before(const Slice &slice, const int (&held)[kTokensHeld], int threshold)
{
    __shared__ unsigned long long s_warps[kWarps], s_block;
    unsigned larger = 0, equal = 0;
    visit_rows(slice, held, [&](int, int key) {
        larger += key > threshold;
        equal += key == threshold;
    });
    larger = __reduce_add_sync(kAllLanes, larger);
    equal = __reduce_add_sync(kAllLanes, equal);
    unsigned long long total, before =
        warps_exclusive_scan<kThreads>(static_cast<unsigned long long>(larger) << 32 | equal, s_warps, total);
    if (threadIdx.x == 0) s_block = total;
    cluster_sync<kCluster>();
#pragma unroll
    for (int rank = 0; rank < kCluster; ++rank)
        if (rank < static_cast<int>(blockIdx.x)) before += *cluster_shared<kCluster>(&s_block, rank);
    return before;
}

template <int kCluster>
__device__ __forceinline__ void choose_tokens(const tamis_tokens_args &args, Counts *s_counts)
{
    const int kept = args.kept[blockIdx.z], candidates = static_cast<int>(args.candidates);
    const int thread = static_cast<int>(blockIdx.x * kThreads + threadIdx.x), lane = threadIdx.x % 32;
    const long long list = static_cast<long long>(blockIdx.z) * args.index_heads + blockIdx.y;
    int *indices = args.indices + list * args.capacity;
    const int window = static_cast<int>(args.seq_len - args.candidates), keep = kept - window;
    if (kept == args.seq_len) {
        for (int i = thread; i < kept; i += kCluster * kThreads) indices[i] = i;
        return;
    }
    for (int i = thread; i < window; i += kCluster * kThreads) indices[keep + i] = candidates + i;
    if (keep == 0) return;

    const Slice slice = slice_of<kCluster>(args.rank + list * args.candidates, candidates);
    int held[kTokensHeld];
    load_held(held, slice);
    s_counts[0].clear<kThreads>();
    const Threshold threshold = find_threshold<kCluster>(slice, held, keep, s_counts);
    const unsigned long long before = count_before<kCluster>(slice, held, threshold.key);
    cluster_arrive_relaxed<kCluster>(); // this block has read what it wanted of others

    // Of those before a token, all the larger ones are kept and the first of the equal ones.
    unsigned larger = static_cast<unsigned>(before >> 32), equal = static_cast<unsigned>(before);
    const unsigned lanes_below = (1u << lane) - 1;
    visit_rows(slice, held, [&](int row, int key) {
        const bool is_larger = key > threshold.key, is_equal = key == threshold.key;
        const unsigned larger_lanes = __ballot_sync(kAllLanes, is_larger), equal_lanes = __ballot_sync(kAllLanes, is_equal);
        const unsigned equal_before = equal + __popc(equal_lanes & lanes_below);
        const unsigned at = larger + __popc(larger_lanes & lanes_below) + min(equal_before, threshold.ties);
        if (is_larger || (is_equal && equal_before < threshold.ties)) indices[at] = slice.first + 32 * row;
        larger += __popc(larger_lanes);
        equal += __popc(equal_lanes);
    });
    cluster_wait<kCluster>();
}

// grid = (1 or kTokensCluster, Hi, B): a list has one block, which waits for no other, or a cluster. Writes ascending
// positions: the kept candidates, then the window.
extern "C" __global__ void __launch_bounds__(kThreads) tamis_select_bm128_bc1_c1_h16_pt256_t1024_tokens(const __grid_constant__ tamis_tokens_args args)
{
    __shared__ Counts s_counts[2];
    follow_stream();
    if (kTokensCluster == 1 || gridDim.x == 1)
        choose_tokens<1>(args, s_counts);
    else
        choose_tokens<kTokensCluster>(args, s_counts);
}
