// A lane returns; the others name it in their mask.
// fails: it ends, while other lanes wait for it
// block: 32
extern "C" __global__ void test(int *out)
{
    if (threadIdx.x == 31) return;
    *out = __shfl_sync(0xffffffffu, 1, 0);
}
