// More local memory than a thread has.
// fails: the stack overflows
// block: 32
__device__ __noinline__ int deeper(volatile int *from, int depth)
{
    volatile int place[1024];
    place[depth % 1024] = *from;
    return depth == 0 ? place[0] : deeper(place, depth - 1) + place[1];
}
extern "C" __global__ void test(int *out)
{
    *out = deeper(out, 100);
}
