// Half of a warp is at one barrier, half at another.
// fails: diverged: it is at
// block: 32
extern "C" __global__ void test(int *)
{
    if (threadIdx.x < 16)
        __syncthreads();
    else
        __syncwarp();
}
