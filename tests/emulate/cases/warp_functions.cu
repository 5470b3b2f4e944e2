// Shuffles, votes, reductions and matches give what CUDA's programming guide says.
// expect: 1
// block: 64
extern "C" __global__ void test(int *out)
{
    const unsigned all = 0xffffffffu;
    const int lane = threadIdx.x % 32;
    bool ok = __shfl_sync(all, lane, 5) == 5 && __shfl_sync(all, lane, lane + 1) == (lane + 1) % 32;
    ok = ok && __shfl_sync(all, lane, 3, 8) == lane / 8 * 8 + 3;
    ok = ok && __shfl_xor_sync(all, lane, 7) == (lane ^ 7);
    ok = ok && __shfl_up_sync(all, lane, 4) == (lane < 4 ? lane : lane - 4);
    ok = ok && __shfl_down_sync(all, lane, 4) == (lane < 28 ? lane + 4 : lane);
    ok = ok && __ballot_sync(all, lane % 2) == 0xaaaaaaaau && __any_sync(all, lane == 9) && !__all_sync(all, lane != 9);
    ok = ok && __reduce_add_sync(all, static_cast<unsigned>(lane)) == 496 && __reduce_max_sync(all, lane) == 31;
    ok = ok && __reduce_min_sync(all, static_cast<unsigned>(lane - 3)) == 0 && __reduce_or_sync(all, 1u << lane) == all;
    ok = ok && __match_any_sync(all, lane / 8) == 0xffu << lane / 8 * 8;
    if (lane < 16) ok = ok && __shfl_sync(0xffffu, lane, 15) == 15; // half of a warp by itself
    if (__all_sync(all, ok) && lane == 0) atomicAdd(out, 1);
    __syncthreads();
    if (threadIdx.x == 0) *out = *out == 2;
}
