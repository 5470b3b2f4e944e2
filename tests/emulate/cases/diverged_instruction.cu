// Half of a warp shuffles, half votes.
// fails: diverged: it is at
// block: 32
extern "C" __global__ void test(int *out)
{
    if (threadIdx.x < 16)
        *out = __shfl_sync(0xffffffffu, 1, 0);
    else
        *out = __any_sync(0xffffffffu, 1);
}
