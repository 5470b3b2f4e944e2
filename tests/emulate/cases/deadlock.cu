// One warp waits at a barrier for two; the other has other plans.
// fails: threads wait for each other
// block: 64
extern "C" __global__ void test(int *)
{
    if (threadIdx.x < 32) asm volatile("bar.sync 1, 64;" ::: "memory");
}
