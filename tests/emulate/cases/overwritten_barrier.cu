// A barrier in memory that is used for something else.
// fails: was written over
// block: 32
// shared: 64
extern "C" __global__ void test(int *)
{
    extern __shared__ __align__(16) char memory[];
    const unsigned barrier = static_cast<unsigned>(__cvta_generic_to_shared(memory));
    if (threadIdx.x > 0) return;
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(1) : "memory");
    memory[3] = 0;
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
