// ldmatrix reads rows that begin in shared memory and end behind it.
// fails: ldmatrix: 16 bytes at
// block: 32
// shared: 504
extern "C" __global__ void test(int *)
{
    extern __shared__ __align__(16) char memory[];
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(memory)) + threadIdx.x * 16;
    unsigned r[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
