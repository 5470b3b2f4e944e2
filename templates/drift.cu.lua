$ -- drift: how far a layer moves its tokens' hidden states: ||h_out - h_in|| / (||h_in|| + 1e-8), summed over tokens.
$ local symbol = "tamis_" .. p.name
$ if p.threads % 32 ~= 0 then reject("threads must be whole warps: each has rows of its own") end
$ entry{stage = "drift", symbol = symbol, threads = p.threads, shared_bytes = 0, block_m = p.threads // 32, block_n = 0}
#include "drift_args.h"
#include "ptx.cuh"
#include "rows.cuh"
#include "block.cuh"

constexpr int kThreads = ${p.threads};
constexpr int kWarps = kThreads / 32;   // a row each at a time
constexpr int kFlight = ${p.flight};    // 16-byte loads of a thread under way at once, of each of the two rows
static_assert(kWarps >= 1 && kWarps <= 32 && kFlight >= 1);

// A 16-bit element, the low one of a word, as fp32.
__device__ __forceinline__ float widen(unsigned bits)
{
$ if p.dtype == "bf16" then
    return __builtin_bit_cast(float, bits << 16);
$ else
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<unsigned short>(bits)));
    return value;
$ end
}

// Sums of squares: of a row's change, and of the row before it.
struct Squares {
    float change = 0, before = 0;
    __device__ __forceinline__ void add(unsigned in, unsigned out)
    {
        const float x = widen(in), moved = widen(out) - x;
        change += moved * moved;
        before += x * x;
    }
    __device__ __forceinline__ void add_pair(int in, int out)
    {
        const unsigned from = static_cast<unsigned>(in), to = static_cast<unsigned>(out);
        add(from & 0xffffu, to & 0xffffu);
        add(from >> 16, to >> 16);
    }
};

// A lane's part of one row, whose first `chunks` times 8 elements can be read 16 bytes at a time.
__device__ __forceinline__ Squares part_of_row(const unsigned short *in, const unsigned short *out, long long chunks,
                                               long long width, int lane)
{
    Squares squares;
#pragma unroll 1
    for (long long first = lane; first < chunks; first += 32 * kFlight) {
        int4 from[kFlight], to[kFlight];
#pragma unroll
        for (int i = 0; i < kFlight; ++i) {
            if (first + 32 * i >= chunks) break;
            from[i] = load_once(in + 8 * (first + 32 * i));
            to[i] = load_once(out + 8 * (first + 32 * i));
        }
#pragma unroll
        for (int i = 0; i < kFlight; ++i) {
            if (first + 32 * i >= chunks) break;
            squares.add_pair(from[i].x, to[i].x);
            squares.add_pair(from[i].y, to[i].y);
            squares.add_pair(from[i].z, to[i].z);
            squares.add_pair(from[i].w, to[i].w);
        }
    }
#pragma unroll 1
    for (long long i = 8 * chunks + lane; i < width; i += 32) squares.add(in[i], out[i]);
    return squares;
}

// grid = (TAMIS_DRIFT_BLOCKS). Rows go to the warps of all blocks in turn.
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}(const __grid_constant__ tamis_drift_args args)
{
    __shared__ double s_warps[kWarps];
    follow_stream();
    const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    const unsigned short *in = static_cast<const unsigned short *>(args.h_in);
    const unsigned short *out = static_cast<const unsigned short *>(args.h_out);
    const unsigned long long places = reinterpret_cast<unsigned long long>(in) | reinterpret_cast<unsigned long long>(out) |
                                      2 * args.in_stride | 2 * args.out_stride;
    const long long chunks = places % 16 == 0 ? args.width / 8 : 0; // of a row whose 16 bytes are not aligned: none
    double sum = 0;
#pragma unroll 1
    for (long long row = static_cast<long long>(blockIdx.x) * kWarps + warp; row < args.rows;
         row += static_cast<long long>(TAMIS_DRIFT_BLOCKS) * kWarps) {
        const Squares squares =
            part_of_row(in + row * args.in_stride, out + row * args.out_stride, chunks, args.width, lane);
        const double change = warp_sum(squares.change), before = warp_sum(squares.before);
        sum += sqrt(change) / (sqrt(before) + 1e-8);
    }
    if (lane == 0) s_warps[warp] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    double total = 0;
    for (int i = 0; i < kWarps; ++i) total += s_warps[i];
    args.sums[blockIdx.x] += total;
    if (blockIdx.x == 0) *args.counted += args.rows;
}
