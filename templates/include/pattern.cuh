/*
 * pattern.cuh: what makers of block patterns share: where a sequence's rows of Q and K lie, choosing the largest of many
 * scores without sorting them, and lists out of bits.
 */
#pragma once

#include "pattern_args.h"
#include "bins.cuh"
#include "block.cuh"

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
