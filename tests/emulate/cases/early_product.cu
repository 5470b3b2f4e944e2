// Accumulators of wgmma that are read before the wait: NaN. Behind it they are right.
// expect: 1
// block: 128
// shared: 3072
extern "C" __global__ void test(int *out)
{
    extern __shared__ __align__(1024) unsigned memory[];
    for (int i = threadIdx.x; i < 768; i += 128) memory[i] = 0x3f803f80; // two ones
    __syncthreads();
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(memory));
    const unsigned long long descriptor = 1ull << 62 | 64ull << 32 | address >> 4; // 1024 bytes from eight rows to the next
    const unsigned one = 0x3f803f80;
    float c[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, {%4, %4, %4, %4}, %5, 1, 1, 1, 0;"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(one), "l"(descriptor));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    const bool early = c[0] == c[0];
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(0) : "memory");
    const bool right = c[0] == 17.0f && c[1] == 17.0f && c[2] == 17.0f && c[3] == 17.0f;
    if (__all_sync(0xffffffffu, right && !early) && threadIdx.x % 32 == 0) atomicAdd(out, 1);
    __syncthreads();
    if (threadIdx.x == 0) *out = *out == 4;
}
