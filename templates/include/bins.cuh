/*
 * bins.cuh: finding one value among many integers without sorting: the blocks of a cluster put the keys of an interval into
 * bins, find the bin in which a running total reaches a goal, and narrow the interval to it.
 */
#pragma once

#include "block.cuh"
#include "cluster.cuh"

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
