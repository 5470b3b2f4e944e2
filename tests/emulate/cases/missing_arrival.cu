// A barrier for two arrivals, of which one comes.
// fails: threads wait for each other
// block: 32
// shared: 64
extern "C" __global__ void test(int *)
{
    extern __shared__ __align__(16) char memory[];
    const unsigned barrier = static_cast<unsigned>(__cvta_generic_to_shared(memory));
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(2) : "memory");
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
    }
    __syncwarp();
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(barrier), "r"(0) : "memory");
}
