$ -- pattern_xattn: the estimates of XAttention (runtime/cpu_pattern.h): sums over antidiagonals are products of matrices whose
$ -- rows are strided rows of Q and K end to end, S times the head dim deep. Persistent blocks; mma.sync, four warps with 64 by
$ -- 64 products each.
$ -- At 128K, 32 heads of dim 128, S 16: n^2 / (2 S^2) products S * 128 deep are 4.4 TFLOP, 1 / (2 S) of causal attention's 141;
$ -- Q and K are 1.3 GB.
$ local symbol = "tamis_" .. p.name
$ local pitch = 2 * p.depth + 16
$ if p.head_dim % p.depth ~= 0 then reject("depth must divide head_dim") end
$ if p.depth % 32 ~= 0 then reject("depth must be a multiple of 32, so that rows fall into different banks") end
$ if p.stages < 2 then reject("stages must be 2 or more: the next step loads while this one is used") end
$ local shared = p.stages * 256 * pitch
$ if shared > p.shared_limit then reject("more shared memory than a block may have") end
$ entry{stage = "pattern_xattn", symbol = symbol, threads = 128, shared_bytes = shared, block_m = 128, block_n = p.blocks}
#include "pattern_args.h"
#include "xattn.cuh"

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kDepth = ${p.depth};   // elements of a row a step
constexpr int kStages = ${p.stages}; // steps in flight
constexpr int kBlocks = ${p.blocks}; // an SM
constexpr int kThreads = 128;
constexpr int kRows = 128, kColumns = 128; // of a tile
constexpr int kPitch = Tile<kDepth>::kPitchBytes;
constexpr int kSlices = kHeadDim / kDepth;
constexpr int kStageBytes = (kRows + kColumns) * kPitch;

// A token's row from `bytes` on; null behind the sequence's last.
__device__ __forceinline__ const char *xattn_row(const HeadRows &rows, long long token, long long count, int bytes)
{
    return token < count ? rows.row(token) + bytes : nullptr;
}

// Start loading step `step` of a tile: strided rows of Q from the far end of their S, of K from the near one.
__device__ __forceinline__ void load_step(unsigned s_stage, const XattnTile &tile, int stride, int steps_a_tile, int step)
{
    const int column_tile = step / steps_a_tile, within = step % steps_a_tile;
    const int t = within / kSlices, bytes = within % kSlices * kDepth * 2;
    const long long first_column = static_cast<long long>(column_tile) * kColumns;
    const char *any_row = tile.k.row(0);
    load_rows_async<kDepth, kRows, kThreads>(s_stage, any_row, [&](int i) -> const char * {
        return xattn_row(tile.q, (tile.first_row + i) * stride + stride - 1 - t, tile.rows, bytes);
    });
    load_rows_async<kDepth, kColumns, kThreads>(s_stage + kRows * kPitch, any_row, [&](int i) -> const char * {
        return xattn_row(tile.k, (first_column + i) * stride + t, tile.rows, bytes);
    });
}

// acc += A B^T over a step, 64 rows by 64 columns a warp.
__device__ __forceinline__ void multiply_step(float (&acc)[4][32], unsigned a, unsigned b)
{
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
        unsigned fragment_a[4][4];
#pragma unroll
        for (int m = 0; m < 4; ++m) load_matrix_x4(fragment_a[m], a + m * 16 * kPitch + k * 32);
#pragma unroll
        for (int n = 0; n < 8; n += 2) {
            unsigned fragment_b[4];
            load_matrix_x4(fragment_b, b + n * 8 * kPitch + k * 32);
#pragma unroll
            for (int m = 0; m < 4; ++m) {
                Element::mma(&acc[m][4 * n], fragment_a[m], fragment_b[0], fragment_b[1]);
                Element::mma(&acc[m][4 * n + 4], fragment_a[m], fragment_b[2], fragment_b[3]);
            }
        }
    }
}

// One tile of rows: all columns up to its own, then the estimates.
__device__ __forceinline__ void estimate_tile(const tamis_pattern_xattn_args &args, const XattnTile &tile, unsigned s_stages,
                                              float2 *s_sums, float *scratch)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, stride = args.stride;
    const int steps_a_tile = stride * kSlices, steps = (tile.tile + 1) * steps_a_tile;
    const int warp_row = warp / 2 * 64, warp_column = warp % 2 * 64;
    const unsigned a_lane = warp_row * kPitch + lane_offset_a<kDepth>(lane);
    const unsigned b_lane = (kRows + warp_column) * kPitch + lane_offset_b<kDepth>(lane);
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) {
        if (step < steps) load_step(s_stages + step * kStageBytes, tile, stride, steps_a_tile, step);
        copy_async_commit();
    }
    float acc[4][32] = {};
    XattnSums sums[4];
    int within = 0, column_tile = 0;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        copy_async_wait<kStages - 2>();
        __syncthreads();
        const int next = step + kStages - 1;
        if (next < steps) load_step(s_stages + next % kStages * kStageBytes, tile, stride, steps_a_tile, next);
        copy_async_commit();
        const unsigned s_stage = s_stages + step % kStages * kStageBytes;
        multiply_step(acc, s_stage + a_lane, s_stage + b_lane);
        if (++within < steps_a_tile) continue;
#pragma unroll
        for (int m = 0; m < 4; ++m) {
            const int row = warp_row + 16 * m + lane / 4; // of the tile; on the diagonal its last column too
            if (column_tile == tile.tile)
#pragma unroll
                for (int i = 0; i < 32; ++i)
                    if (warp_column + i / 4 * 8 + 2 * (lane % 4) + i % 2 > row + i % 4 / 2 * 8) acc[m][i] = -kInfinity;
            xattn_store_sums(acc[m], sums[m], scratch, args.lists.tiles, row, column_tile * kColumns + warp_column,
                             kBlock / stride, args.source.scale_log2 / static_cast<float>(stride), lane);
#pragma unroll
            for (int i = 0; i < 32; ++i) acc[m][i] = 0.0f;
        }
        within = 0;
        ++column_tile;
    }
    copy_async_wait<0>();
#pragma unroll
    for (int m = 0; m < 4; ++m)
        xattn_share_sums(s_sums + warp % 2 * kRows, sums[m], warp_row + 16 * m + lane / 4, lane);
    __syncthreads();
    xattn_write_estimates<kRows, 2, kThreads>(args, tile, scratch, s_sums, static_cast<int>(threadIdx.x),
                                              [] { __syncthreads(); });
    __syncthreads(); // the next tile's sums take the place of these
}

// grid = (at most the slots of scratch).
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
${symbol}(const __grid_constant__ tamis_pattern_xattn_args args)
{
    extern __shared__ __align__(16) char s_memory[];
    __shared__ float2 s_sums[2 * kRows];
    follow_stream();
    float *scratch = args.scratch + static_cast<long long>(blockIdx.x) * kRows * args.lists.tiles;
    xattn_share<kRows, 1>(args, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x), [&](int item) {
        const XattnTile tile = xattn_tile<kRows, 1>(args, item, 0);
        if (tile.first_row < tile.reduced) estimate_tile(args, tile, shared_address(s_memory), s_sums, scratch);
    });
}
