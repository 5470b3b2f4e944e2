/*
 * kernels.cu: the prefill's element-wise kernels, compiled by NVRTC when the program starts, which puts a line before this
 * text: BF16 is 1 for bf16 storage, 0 for fp16. A block of 256 threads takes a row, 8 elements a thread at a time; what costs
 * time is cuBLAS's and libtamis's. Widths are multiples of 8, and rows begin at multiples of 16 bytes.
 */

constexpr int kThreads = 256;

struct alignas(16) Eight {
    unsigned short at[8];
};

__device__ __forceinline__ Eight &eight(unsigned short *row, int index) { return reinterpret_cast<Eight *>(row)[index]; }
__device__ __forceinline__ const Eight &eight(const unsigned short *row, int index)
{
    return reinterpret_cast<const Eight *>(row)[index];
}

__device__ __forceinline__ float widen(unsigned short bits)
{
#if BF16
    return __builtin_bit_cast(float, static_cast<unsigned>(bits) << 16);
#else
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#endif
}

// To nearest, ties to even.
__device__ __forceinline__ unsigned short narrow(float value)
{
#if BF16
    const unsigned bits = __builtin_bit_cast(unsigned, value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#else
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#endif
}

extern "C" __global__ void __launch_bounds__(kThreads)
    embed(unsigned short *out, const unsigned short *table, const int *ids, int width)
{
    const long long row = blockIdx.x;
    const unsigned short *from = table + static_cast<long long>(ids[row]) * width;
    for (int i = threadIdx.x; i < width / 8; i += kThreads) eight(out + row * width, i) = eight(from, i);
}

extern "C" __global__ void __launch_bounds__(kThreads) copy(unsigned short *to, const unsigned short *from, int width)
{
    const long long row = blockIdx.x;
    for (int i = threadIdx.x; i < width / 8; i += kThreads) eight(to + row * width, i) = eight(from + row * width, i);
}

extern "C" __global__ void __launch_bounds__(kThreads)
    rms_norm(unsigned short *out, const unsigned short *in, const unsigned short *weight, int width, float epsilon)
{
    __shared__ float s_warps[kThreads / 32];
    const long long row = blockIdx.x;
    in += row * width;
    out += row * width;
    float squares = 0;
    for (int i = threadIdx.x; i < width / 8; i += kThreads) {
        const Eight x = eight(in, i);
        for (int j = 0; j < 8; ++j) squares += widen(x.at[j]) * widen(x.at[j]);
    }
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, step);
    if (threadIdx.x % 32 == 0) s_warps[threadIdx.x / 32] = squares;
    __syncthreads();
    float total = 0;
    for (int i = 0; i < kThreads / 32; ++i) total += s_warps[i];
    const float factor = 1 / sqrtf(total / width + epsilon);
    for (int i = threadIdx.x; i < width / 8; i += kThreads) {
        const Eight x = eight(in, i), scale = eight(weight, i);
        Eight y;
        for (int j = 0; j < 8; ++j) y.at[j] = narrow(widen(x.at[j]) * factor * widen(scale.at[j]));
        eight(out, i) = y;
    }
}

// Of a row's heads, one after the other, the two halves are rotated pair by pair.
extern "C" __global__ void __launch_bounds__(kThreads)
    rope(unsigned short *rows_of_heads, long long stride, const float *angles, int heads, int head_dim)
{
    const long long row = blockIdx.x;
    const int half = head_dim / 2;
    unsigned short *first = rows_of_heads + row * stride;
    for (int i = threadIdx.x; i < heads * half; i += kThreads) {
        const int column = i % half;
        unsigned short *low = first + i / half * head_dim + column, *high = low + half;
        const float cosine = angles[(row * half + column) * 2], sine = angles[(row * half + column) * 2 + 1];
        const float a = widen(*low), b = widen(*high);
        *low = narrow(a * cosine - b * sine);
        *high = narrow(b * cosine + a * sine);
    }
}

extern "C" __global__ void __launch_bounds__(kThreads) swiglu(unsigned short *gate_up, int inner)
{
    unsigned short *gate = gate_up + static_cast<long long>(blockIdx.x) * 2 * inner;
    for (int i = threadIdx.x; i < inner / 8; i += kThreads) {
        Eight x = eight(gate, i);
        const Eight up = eight(gate + inner, i);
        for (int j = 0; j < 8; ++j) {
            const float value = widen(x.at[j]);
            x.at[j] = narrow(value / (1 + expf(-value)) * widen(up.at[j]));
        }
        eight(gate, i) = x;
    }
}

// As prefill_random() of backend_cpu.c. A block has `span` elements.
extern "C" __global__ void __launch_bounds__(kThreads)
    fill(unsigned short *out, long long count, int span, unsigned seed, float scale)
{
    const long long first = static_cast<long long>(blockIdx.x) * span;
    for (long long i = first + threadIdx.x; i < first + span && i < count; i += kThreads) {
        unsigned x = static_cast<unsigned>(i) * 0x9e3779b9u ^ static_cast<unsigned>(i >> 32) * 0x85ebca6bu ^ seed * 0xc2b2ae35u;
        x ^= x >> 16;
        x *= 0x85ebca6bu;
        x ^= x >> 13;
        x *= 0xc2b2ae35u;
        x ^= x >> 16;
        out[i] = narrow((static_cast<float>(static_cast<int>(x >> 8)) - 8388607.5f) * scale);
    }
}
