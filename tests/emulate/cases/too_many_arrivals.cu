// A barrier for one arrival gets two in a phase whose bytes have not come.
// fails: mbarrier.arrive: 1 more than the 0
// block: 32
// shared: 64
extern "C" __global__ void test(int *)
{
    extern __shared__ __align__(16) char memory[];
    const unsigned barrier = static_cast<unsigned>(__cvta_generic_to_shared(memory));
    if (threadIdx.x > 0) return;
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(1) : "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(16) : "memory");
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
