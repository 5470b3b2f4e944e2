$ -- select: pooling, budget and choice of tokens (operator definition, steps 2 to 4). Nothing is sorted: scores are not
$ -- negative, so their bits order as integers do, and both the budget and the choice narrow an interval of those bits down
$ -- to one value. Sums are integers, so the result does not depend on the order in which threads add.
$ local symbol = "tamis_" .. p.name
$ if p.block_m % 32 ~= 0 then reject("block_m must be a multiple of 32") end
$ if p.pool_threads % 32 ~= 0 or p.threads % 32 ~= 0 then reject("threads come in warps of 32") end
$ if p.pool_threads < p.block_m then reject("block_m wants a thread for each token") end
$ if p.held % 8 ~= 0 then reject("held must be a multiple of 8") end
$ if p.cc < 90 and (p.cluster > 1 or p.budget_cluster > 1) then reject("clusters need sm_90a or newer") end
$ -- How long a list may be for one block, in keys a thread. A cluster's barriers cost the same for every length, and its
$ -- blocks save time with every key. For 8 Ki keys on H200 the choice takes a cluster of 4 blocks 12 us longer than one, and
$ -- each thousand more 0.6 to 0.75 us less: they are even at 24 to 28 Ki. The budget takes a cluster of 8 blocks 5 us longer,
$ -- then 0.3 us less, or 0.6 where one block reads keys again: even at 17 to 21 Ki.
$ local budget_keys, list_keys = 16, 24
$ local function one_block(blocks, keys) return blocks > 1 and keys * p.threads or 0 end
$ entry{stage = "select_pool", symbol = symbol .. "_pool", threads = p.pool_threads, shared_bytes = 0,
$       block_m = p.block_m, block_n = 0}
$ -- Of the other two, block_m is the blocks that share a list longer than block_n, as a cluster: the grid's x.
$ entry{stage = "select_budget", symbol = symbol .. "_budget", threads = p.threads, shared_bytes = 0,
$       block_m = p.budget_cluster, block_n = one_block(p.budget_cluster, budget_keys)}
$ entry{stage = "select_tokens", symbol = symbol .. "_tokens", threads = p.threads, shared_bytes = 0,
$       block_m = p.cluster, block_n = one_block(p.cluster, list_keys)}
#include "kernel_args.h"
#include "ptx.cuh"
#include "block.cuh"
#include "cluster.cuh"
#include "bins.cuh"

constexpr int kPoolThreads = ${p.pool_threads};
constexpr int kBlockM = ${p.block_m};               // tokens that a block pools
constexpr int kThreads = ${p.threads};              // a block of budget and choice
constexpr int kBudgetCluster = ${p.budget_cluster}; // blocks a sequence, or one
constexpr int kTokensCluster = ${p.cluster};        // blocks a list, or one
constexpr int kTokensHeld = ${p.held};               // scores a thread keeps in registers; others it reads again and again
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
${symbol}_pool(const __grid_constant__ tamis_pool_args args)
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
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}_budget(const __grid_constant__ tamis_budget_args args)
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
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}_tokens(const __grid_constant__ tamis_tokens_args args)
{
    __shared__ Counts s_counts[2];
    follow_stream();
    if (kTokensCluster == 1 || gridDim.x == 1)
        choose_tokens<1>(args, s_counts);
    else
        choose_tokens<kTokensCluster>(args, s_counts);
}
