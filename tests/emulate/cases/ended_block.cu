// A block reads the shared memory of another, which has ended: NaN.
// expect: 0
// block: 32
// grid: 2
// cluster: 2
extern "C" __global__ void test(int *out)
{
    __shared__ int value;
    value = 1;
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
    if (blockIdx.x == 1) return;
    const int *other;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(other) : "l"(&value), "r"(1));
    for (int i = 0; i < 10; i++) __nanosleep(1);
    if (threadIdx.x == 0) *out = *other == 1;
}
