// The blocks of a cluster read each other's shared memory, and stay until all have.
// expect: 1
// block: 32
// grid: 4
// cluster: 4
extern "C" __global__ void test(int *out)
{
    __shared__ int value;
    if (threadIdx.x == 0) value = 1 << blockIdx.x;
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
    int sum = 0;
    for (int rank = 0; rank < 4; rank++) {
        const int *other;
        asm volatile("mapa.u64 %0, %1, %2;" : "=l"(other) : "l"(&value), "r"(rank));
        sum += *other;
    }
    asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
    if (threadIdx.x == 0 && blockIdx.x == 3) *out = sum == 15;
}
