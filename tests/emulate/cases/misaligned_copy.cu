// cp.async of 16 bytes to a place that is no multiple of 16.
// fails: is no multiple of 16
// block: 32
// shared: 64
extern "C" __global__ void test(int *out)
{
    extern __shared__ __align__(16) char memory[];
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(memory)) + 8;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(out) : "memory");
}
