// What cp.async brings is read before it was waited for: NaN, although the memory held the number before.
// expect: 0
// block: 32
// shared: 512
extern "C" __global__ void test(int *out)
{
    extern __shared__ __align__(16) char memory[];
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(memory)) + threadIdx.x * 16;
    int *const mine = reinterpret_cast<int *>(memory + threadIdx.x * 16);
    *mine = 0;
    __syncthreads();
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(out) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    const bool early = *mine == 0; // *out is 0 as well
    asm volatile("cp.async.wait_group %0;" ::"n"(0) : "memory");
    const bool late = *mine == 0;
    if (threadIdx.x == 0) *out = late ? early : 7;
}
