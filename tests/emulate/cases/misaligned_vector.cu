// A vector of 16 bytes at a multiple of 4.
// fails: misaligned
// block: 32
extern "C" __global__ void test(int *out)
{
    *reinterpret_cast<int4 *>(out + 1) = make_int4(1, 2, 3, 4);
}
