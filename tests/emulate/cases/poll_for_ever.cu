// Nobody brings what a thread polls for.
// fails: threads poll for what does not come
// block: 32
extern "C" __global__ void test(int *out)
{
    if (threadIdx.x == 0)
        while (atomicAdd(out, 0) == 0) __nanosleep(20);
}
