// mma.sync on numbers that tell rows, columns and depths apart.
// expect: 1
// block: 32
__device__ unsigned bf16(float low, float high)
{
    unsigned r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
__device__ float element_a(int row, int k) { return static_cast<float>(row - 3 * k); }
__device__ float element_b(int k, int column) { return static_cast<float>(k == column % 16 ? 2 : k == 15 ? column : 0); }

extern "C" __global__ void test(int *out)
{
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    unsigned a[4], b[2];
    float c[4];
    for (int i = 0; i < 4; i++) {
        const int row = g + i % 2 * 8, k = 2 * t + i / 2 * 8;
        a[i] = bf16(element_a(row, k), element_a(row, k + 1));
        c[i] = static_cast<float>(100 * i);
    }
    for (int i = 0; i < 2; i++) b[i] = bf16(element_b(2 * t + 8 * i, g), element_b(2 * t + 8 * i + 1, g));
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    bool ok = true;
    for (int i = 0; i < 4; i++) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        float want = static_cast<float>(100 * i);
        for (int k = 0; k < 16; k++) want += element_a(row, k) * element_b(k, column);
        ok = ok && c[i] == want;
    }
    if (__all_sync(0xffffffffu, ok)) *out = 1;
}
