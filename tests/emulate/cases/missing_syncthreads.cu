// Without the barrier a thread reads what another has not written: NaN.
// expect: 0
// block: 64
extern "C" __global__ void test(int *out)
{
    __shared__ float values[64];
    values[threadIdx.x] = 1.0f;
    if (values[63 - threadIdx.x] == 1.0f) atomicAdd(out, 1);
    __syncthreads();
    if (threadIdx.x == 0) *out = *out == 64;
}
