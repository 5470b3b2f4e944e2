/*
 * block.cuh: sums and scans over a warp or a block of threads.
 */
#pragma once

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
