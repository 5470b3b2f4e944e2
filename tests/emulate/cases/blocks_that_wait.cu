// The first block waits for a number that the last one counts up to: blocks that the GPU has room for run beside each other.
// expect: 1
// block: 32
// grid: 4
extern "C" __global__ void test(int *out)
{
    if (threadIdx.x > 0) return;
    atomicAdd(out, 1);
    while (atomicAdd(out, 0) % 16 < 4) __nanosleep(20);
    if (atomicAdd(out, 16) / 16 == 3) *out = 1;
}
