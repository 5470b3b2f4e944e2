// Warps of a warpgroup that wait at different places, which for them is to be one instruction.
// fails: wgmma: the warps of a warpgroup are at different instructions
// block: 128
extern "C" __global__ void test(int *out)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    if (threadIdx.x < 64) {
        asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(0) : "memory");
        out[threadIdx.x / 32] = 1;
    } else {
        out[threadIdx.x / 32] = 2;
        asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(0) : "memory");
    }
}
