// An ordinary store right behind the end of dynamic shared memory.
// fails: behind the end of its 256 bytes of shared memory
// block: 32
// shared: 256
extern "C" __global__ void test(int *)
{
    extern __shared__ float memory[];
    memory[threadIdx.x * 2 + 2] = 0.0f;
}
