// wgmma of a tile that a thread has stored, and not fenced.
// fails: without a fence.proxy.async
// block: 128
// shared: 1024
extern "C" __global__ void test(int *)
{
    extern __shared__ __align__(1024) unsigned memory[];
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(memory)), one = 0x3f803f80;
    const unsigned long long descriptor = 1ull << 62 | 64ull << 32 | address >> 4;
    if (threadIdx.x < 64)
        asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(address + 16 * threadIdx.x), "r"(one) : "memory");
    __syncthreads();
    float c[4] = {};
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, {%4, %4, %4, %4}, %5, 1, 1, 1, 0;"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(one), "l"(descriptor));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(0) : "memory");
}
