// An ordinary store far behind it.
// fails: right behind its dynamic shared memory
// block: 32
// shared: 256
extern "C" __global__ void test(int *)
{
    extern __shared__ float memory[];
    memory[1024 + threadIdx.x] = 0.0f;
}
