// made by: tamis show SPEC --variant select_pt256_t1024 --arch sm_80
// tamis_select_pt256_t1024_pool: 256 threads, 0 bytes of dynamic shared memory
// tamis_select_pt256_t1024_budget: 1024 threads, 0 bytes of dynamic shared memory
// tamis_select_pt256_t1024_tokens: 1024 threads, 0 bytes of dynamic shared memory

/*
 * kernel_args.h: what the host passes to each kernel, one struct a stage.
 *
 * Read by two compilers: gcc, through the gpu_*.c files that fill the structs, and NVRTC, through the templates that
 * include this text. So it uses only types that both give the same layout. A change of any struct needs a new
 * TAMIS_KERNEL_ABI: a store's kernels are used only by a library of the same number.
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

/* select_pool: step 2, and what heads rank by. */
struct tamis_pool_args {
    const float *score;   /* (B, Hq, N) */
    float *rank;          /* (B, Hi, N) */
    float *mean;          /* (B, N) */
    long long candidates; /* N */
    int q_heads;
    int index_heads;
    int pool;
};

/* select_budget: step 3. One block a sequence. */
struct tamis_budget_args {
    const float *mean;    /* (B, N); read only where fixed_keep < 0 */
    int *kept;            /* (B) */
    long long seq_len;    /* L */
    long long candidates; /* N */
    long long min_tokens; /* M */
    long long fixed_keep; /* tokens to keep outside the window; -1: by coverage; N: all, dense */
    double coverage;      /* tau */
};

/* select_tokens: step 4. One block a (sequence, index head). */
struct tamis_tokens_args {
    const float *rank; /* (B, Hi, N) */
    const int *kept;   /* (B) */
    int *indices;      /* (B, Hi, C) */
    long long seq_len;
    long long candidates;
    long long capacity; /* C */
    int index_heads;
};

/* compress_rows: step 5 for one tensor. */
struct tamis_compress_args {
    struct tamis_rows source;  /* (B, Hs, L, D) */
    struct tamis_rows compact; /* (B, H, C, D) */
    const int *kept;           /* (B) */
    const int *indices;        /* (B, Hi, C) */
    long long seq_len;
    long long capacity;
    int heads;        /* H, of `compact` */
    int source_heads; /* Hs, a divisor of H */
    int index_heads;  /* Hi, a divisor of H */
    int skip_dense;   /* 1: copy nothing for a sequence that keeps all its tokens */
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

/* attend_tma: step 6 with persistent blocks and the tensor copy engine (sm_90a). */
struct tamis_attend_tma_args {
    struct tamis_tensor_map q; /* read where there are no indices; else rows of Q are gathered through attend.q */
    struct tamis_tensor_map k, v;
    struct tamis_tensor_map k_full, v_full; /* used where attend.k_full.data is given */
    struct tamis_attend_args attend;
    int tiles; /* of block_m rows, of the capacity */
    int heads; /* B * Hq; tiles * heads fits 31 bits */
    unsigned *counter; /* 0 at the start; the tiles that blocks have taken beyond each one's first */
};

/* decompress_rows: step 7. */
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
 * block.cuh: sums and scans over a block of threads.
 */

/*
 * Exclusive prefix sum over the block's threads, in their order; `total` receives the sum of all. `s_warps` holds one value
 * a warp. All threads call it; it begins and ends with a barrier, so that s_warps can be used again at once.
 */
template <int kThreads, typename T>
__device__ __forceinline__ T block_exclusive_scan(T value, T *s_warps, T &total)
{
    constexpr int kWarps = kThreads / 32;
    static_assert(kWarps <= 32, "one warp scans the warps' sums");
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    T inclusive = value;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const T below = __shfl_up_sync(0xffffffffu, inclusive, step);
        if (lane >= step) inclusive += below;
    }
    __syncthreads();
    if (lane == 31) s_warps[warp] = inclusive;
    __syncthreads();
    if (warp == 0) {
        T sum = lane < kWarps ? s_warps[lane] : T(0);
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            const T below = __shfl_up_sync(0xffffffffu, sum, step);
            if (lane >= step) sum += below;
        }
        if (lane < kWarps) s_warps[lane] = sum;
    }
    __syncthreads();
    total = s_warps[kWarps - 1];
    const T before = warp == 0 ? T(0) : s_warps[warp - 1];
    __syncthreads();
    return before + inclusive - value;
}

constexpr int kThreads = 1024;
constexpr int kPoolThreads = 256;

// The 31 bits below the sign in three digits. The first holds the exponent and the three bits behind it, so that scores,
// which crowd into few powers of two, still spread over many bins.
constexpr int kDigits = 3;
constexpr int kBins = 2048;
__device__ __forceinline__ int digit_shift(int digit) { return digit == 0 ? 20 : digit == 1 ? 9 : 0; }
__device__ __forceinline__ unsigned digit_mask(int digit) { return digit == 2 ? 0x1ffu : 0x7ffu; }
// The bits above a digit: what earlier digits have decided.
__device__ __forceinline__ unsigned above(unsigned key, int digit) { return digit == 0 ? 0 : key >> digit_shift(digit - 1); }

constexpr int kBinsAThread = (kBins + kThreads - 1) / kThreads;

// The integer that orders as the score does. Without the sign bit, which only a NaN could bring, so that even then every
// score falls into a bin and nothing is written out of bounds.
__device__ __forceinline__ unsigned score_key(float score) { return __float_as_uint(score) & 0x7fffffffu; }

// Moving average over `pool` scores, zeros outside, always divided by `pool`; added in order of position.
__device__ __forceinline__ float pooled(const float *score, long long j, long long candidates, int pool)
{
    float sum = 0.0f;
    for (long long i = j - pool / 2; i <= j + pool / 2; ++i)
        if (i >= 0 && i < candidates) sum += score[i];
    return sum / pool;
}

// grid = (blocks of candidates, B). One thread a token walks all heads, so that sums have one order.
extern "C" __global__ void __launch_bounds__(kPoolThreads)
tamis_select_pt256_t1024_pool(const __grid_constant__ tamis_pool_args args)
{
    const long long j = static_cast<long long>(blockIdx.x) * kPoolThreads + threadIdx.x;
    const long long sequence = blockIdx.y;
    if (j >= args.candidates) return;
    const int group = args.q_heads / args.index_heads; // heads that choose together
    float mean = 0.0f, rank = 0.0f;
    for (int head = 0; head < args.q_heads; ++head) {
        const float value = pooled(args.score + (sequence * args.q_heads + head) * args.candidates, j, args.candidates,
                                   args.pool);
        mean += value;
        rank = head % group == 0 ? value : rank + value;
        if (head % group == group - 1 && args.index_heads > 1)
            args.rank[(sequence * args.index_heads + head / group) * args.candidates + j] = rank;
    }
    mean /= args.q_heads;
    if (args.index_heads == 1) args.rank[sequence * args.candidates + j] = mean;
    args.mean[sequence * args.candidates + j] = mean;
}

// A score in fixed point, in units that let 2^24 of them add up in 64 bits.
__device__ __forceinline__ unsigned long long fixed_point(float value, double unit)
{
    return static_cast<unsigned long long>(static_cast<double>(value) * unit);
}

// 64-bit addition in shared memory from two 32-bit ones, which the hardware has; exact in any order of threads.
__device__ __forceinline__ void add_shared(unsigned *s_low, unsigned *s_high, unsigned long long value)
{
    const unsigned low = static_cast<unsigned>(value), old = atomicAdd(s_low, low);
    const unsigned high = static_cast<unsigned>(value >> 32) + (old + low < old);
    if (high) atomicAdd(s_high, high);
}

// Largest power of two that keeps the sum of all scores below 2^62.
__device__ double find_unit(const float *mean, long long candidates, double *s_warps)
{
    double sum = 0.0, total;
    for (long long j = threadIdx.x; j < candidates; j += kThreads) sum += mean[j];
    block_exclusive_scan<kThreads>(sum, s_warps, total);
    return total > 0.0 ? exp2(61.0 - ilogb(total)) : 1.0;
}

struct BudgetBins {
    unsigned count[kBins];
    unsigned low[kBins], high[kBins]; // 64-bit sums of the bins' scores
};

// How many of the smallest scores add up to less than `limit`: descend to the one value at which the sum crosses it, then
// count how many scores of that value still fit.
__device__ long long count_below(const float *mean, long long candidates, double unit, unsigned long long limit,
                                 BudgetBins &s_bins, unsigned long long *s_warps)
{
    __shared__ unsigned s_bin;
    __shared__ unsigned long long s_sum, s_count;
    unsigned prefix = 0;                         // digits decided so far
    unsigned long long sum_before = 0, count_before = 0; // of all smaller scores
    for (int digit = 0; digit < kDigits; ++digit) {
        for (int i = threadIdx.x; i < kBins; i += kThreads) s_bins.count[i] = s_bins.low[i] = s_bins.high[i] = 0;
        if (threadIdx.x == 0) s_bin = kBins;
        __syncthreads();
        for (long long j = threadIdx.x; j < candidates; j += kThreads) {
            const unsigned key = score_key(mean[j]);
            if (above(key, digit) != prefix) continue;
            const unsigned bin = key >> digit_shift(digit) & digit_mask(digit);
            atomicAdd(&s_bins.count[bin], 1u);
            add_shared(&s_bins.low[bin], &s_bins.high[bin], fixed_point(mean[j], unit));
        }
        __syncthreads();
        unsigned long long sum = 0, count = 0, total;
        const int first = threadIdx.x * kBinsAThread;
        for (int i = first; i < first + kBinsAThread && i < kBins; ++i) {
            sum += static_cast<unsigned long long>(s_bins.high[i]) << 32 | s_bins.low[i];
            count += s_bins.count[i];
        }
        unsigned long long sum_at = sum_before + block_exclusive_scan<kThreads>(sum, s_warps, total);
        unsigned long long count_at = count_before + block_exclusive_scan<kThreads>(count, s_warps, total);
        for (int i = first; i < first + kBinsAThread && i < kBins; ++i) { // the first bin whose end reaches the limit
            const unsigned long long here = static_cast<unsigned long long>(s_bins.high[i]) << 32 | s_bins.low[i];
            if (sum_at < limit && sum_at + here >= limit) {
                s_bin = i;
                s_sum = sum_at;
                s_count = count_at;
            }
            sum_at += here;
            count_at += s_bins.count[i];
        }
        __syncthreads();
        if (s_bin == kBins) return candidates; // not even the sum of all reaches it
        prefix = prefix << (digit == 2 ? 9 : 11) | s_bin;
        sum_before = s_sum;
        count_before = s_count;
        __syncthreads();
    }
    // All 31 bits are known: each of the equal scores adds `value`, which is not 0, since it moved the sum to the limit.
    const unsigned long long value = fixed_point(__uint_as_float(prefix), unit);
    return count_before + (limit - sum_before - 1) / value;
}

// grid = (1, B).
extern "C" __global__ void __launch_bounds__(kThreads)
tamis_select_pt256_t1024_budget(const __grid_constant__ tamis_budget_args args)
{
    __shared__ BudgetBins s_bins;
    __shared__ double s_warps_real[kThreads / 32];
    __shared__ unsigned long long s_warps[kThreads / 32];
    const int sequence = blockIdx.y;
    const long long window = args.seq_len - args.candidates;
    if (args.fixed_keep >= 0) {
        if (threadIdx.x == 0) args.kept[sequence] = static_cast<int>(args.fixed_keep + window);
        return;
    }
    const float *mean = args.mean + sequence * args.candidates;
    const double unit = find_unit(mean, args.candidates, s_warps_real);
    unsigned long long sum = 0, total;
    for (long long j = threadIdx.x; j < args.candidates; j += kThreads) sum += fixed_point(mean[j], unit);
    block_exclusive_scan<kThreads>(sum, s_warps, total);
    const unsigned long long limit = static_cast<unsigned long long>(ceil(args.coverage * static_cast<double>(total)));
    const long long drop = limit == 0 ? 0 : count_below(mean, args.candidates, unit, limit, s_bins, s_warps);
    if (threadIdx.x != 0) return;
    const long long keep = max(args.min_tokens, args.candidates - (drop + 1));
    args.kept[sequence] = static_cast<int>(drop == 0 ? args.seq_len : keep + window);
}

// The `keep`-th largest rank, and how many of the ranks equal to it are among the `keep` largest.
struct Threshold {
    unsigned key;
    int ties;
};

__device__ Threshold find_threshold(const float *rank, long long candidates, int keep, unsigned *s_count, unsigned *s_warps)
{
    __shared__ unsigned s_bin, s_left;
    unsigned prefix = 0, left = keep; // ranks still to be found at or below the decided digits
    for (int digit = 0; digit < kDigits; ++digit) {
        for (int i = threadIdx.x; i < kBins; i += kThreads) s_count[i] = 0;
        __syncthreads();
        for (long long j = threadIdx.x; j < candidates; j += kThreads) {
            const unsigned key = score_key(rank[j]);
            if (above(key, digit) == prefix) atomicAdd(&s_count[key >> digit_shift(digit) & digit_mask(digit)], 1u);
        }
        __syncthreads();
        // Bins from the top down: thread t holds the t-th group of bins from the top.
        unsigned count = 0, total;
        const int first = kBins - 1 - static_cast<int>(threadIdx.x) * kBinsAThread;
        for (int i = first; i > first - kBinsAThread && i >= 0; --i) count += s_count[i];
        unsigned larger = block_exclusive_scan<kThreads>(count, s_warps, total);
        for (int i = first; i > first - kBinsAThread && i >= 0; --i) {
            if (larger < left && larger + s_count[i] >= left) {
                s_bin = i;
                s_left = left - larger;
            }
            larger += s_count[i];
        }
        __syncthreads();
        prefix = prefix << (digit == 2 ? 9 : 11) | s_bin;
        left = s_left;
        __syncthreads();
    }
    return {prefix, static_cast<int>(left)};
}

// grid = (1, Hi, B). Writes ascending positions: the kept candidates, then the window.
extern "C" __global__ void __launch_bounds__(kThreads)
tamis_select_pt256_t1024_tokens(const __grid_constant__ tamis_tokens_args args)
{
    __shared__ unsigned s_count[kBins];
    __shared__ unsigned s_warps[kThreads / 32];
    const long long list = static_cast<long long>(blockIdx.z) * args.index_heads + blockIdx.y;
    const float *rank = args.rank + list * args.candidates;
    int *indices = args.indices + list * args.capacity;
    const int kept = args.kept[blockIdx.z];
    const int window = static_cast<int>(args.seq_len - args.candidates), keep = kept - window;
    if (kept == args.seq_len) {
        for (int i = threadIdx.x; i < kept; i += kThreads) indices[i] = i;
        return;
    }
    for (int i = threadIdx.x; i < window; i += kThreads) indices[keep + i] = static_cast<int>(args.candidates) + i;
    if (keep == 0) return;

    // A tile of candidates at a time, in order. Low half of the scanned word: ranks equal to the threshold; high half:
    // larger ones. A tile has fewer than 2^16 of either.
    const Threshold threshold = find_threshold(rank, args.candidates, keep, s_count, s_warps);
    int written = 0, ties = 0; // by earlier tiles
    for (long long begin = 0; begin < args.candidates; begin += kThreads) {
        const long long j = begin + threadIdx.x;
        const unsigned key = j < args.candidates ? score_key(rank[j]) : 0;
        const bool larger = j < args.candidates && key > threshold.key, tie = j < args.candidates && key == threshold.key;
        unsigned total;
        const unsigned before =
            block_exclusive_scan<kThreads>(static_cast<unsigned>(larger) << 16 | static_cast<unsigned>(tie), s_warps, total);
        const int ties_before = ties + static_cast<int>(before & 0xffff), larger_before = static_cast<int>(before >> 16);
        // Position among the kept: larger ones before it, and those ties before it that are kept.
        const int at = written + larger_before + min(ties_before, threshold.ties) - min(ties, threshold.ties);
        if (larger || (tie && ties_before < threshold.ties)) indices[at] = static_cast<int>(j);
        const int tile_ties = static_cast<int>(total & 0xffff);
        written += static_cast<int>(total >> 16) + min(ties + tile_ties, threshold.ties) - min(ties, threshold.ties);
        ties += tile_ties;
    }
}
