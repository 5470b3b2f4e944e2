// PTX that the emulator does not know does not compile.
// loads: not
extern "C" __global__ void test(int *)
{
    asm volatile("frobnicate.sync.aligned %0;" ::"r"(1) : "memory");
}
