// A store behind an allocation of device memory.
// fails: is in no memory
// block: 32
extern "C" __global__ void test(int *out)
{
    out[64 + threadIdx.x] = 1;
}
