/*
 * block.cuh: sums and scans over a block of threads.
 */
#pragma once

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
