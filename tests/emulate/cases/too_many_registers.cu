// Warpgroups that take more registers than the others have given back.
// fails: setmaxnreg: 2048 registers a lane
// block: 384
extern "C" __global__ void test(int *)
{
    if (threadIdx.x < 128)
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(48));
    else
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(232));
}
