$ -- attend: attention for the portable family (mma.sync, cp.async, ldmatrix; sm_80 and newer).
$ -- One template serves dense attention and attention on compact tokens: what differs is where rows come from, which is
$ -- decided at run time, once a block. Source of the mathematics: online softmax (Milakov and Gimelshein, arXiv 1805.02867)
$ -- in the tiling of FlashAttention-2 (Dao, arXiv 2307.08691).
$ local pitch = 2 * p.head_dim + 16
$ local rows_a_warp = p.block_m // p.warps
$ local shared_bytes = (p.block_m + 2 * p.stages * p.block_n) * pitch
$ local symbol = "tamis_" .. p.name
$ if p.block_m % (16 * p.warps) ~= 0 then reject("block_m must be a multiple of 16 rows for each warp") end
$ if p.block_n % 16 ~= 0 then reject("block_n must be a multiple of 16, the depth of a P V fragment") end
$ if p.stages < 2 then reject("stages must be 2 or more: the next K and V load while this one is used") end
$ -- Accumulators alone: O, S, and Q where it stays in registers; beyond about 192 of 255 ptxas starts to spill.
$ local q_registers = p.q_in_registers * rows_a_warp // 16 * p.head_dim // 4
$ local accumulators = rows_a_warp // 16 * (p.head_dim + p.block_n) // 2 + q_registers
$ if accumulators > 192 then reject("needs " .. accumulators .. " accumulator registers a thread, more than 192") end
$ entry{stage = "attend", symbol = symbol, threads = 32 * p.warps, shared_bytes = shared_bytes,
$       block_m = p.block_m, block_n = p.block_n}
#include "kernel_args.h"
#include "ptx.cuh"
#include "tile.cuh"

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kBlockM = ${p.block_m}; // queries a block
constexpr int kBlockN = ${p.block_n}; // keys a step
constexpr int kStages = ${p.stages};  // K and V tiles in flight
constexpr int kWarps = ${p.warps};
constexpr int kThreads = 32 * kWarps;
constexpr int kRowTiles = kBlockM / kWarps / 16; // 16-row tiles a warp
constexpr int kColTiles = kBlockN / 8;
constexpr int kDimTiles = kHeadDim / 8;
constexpr int kPitch = Tile<kHeadDim>::kPitchBytes;
constexpr int kTileBytes = kBlockN * kPitch; // of one K or V tile
constexpr int kSharedBytes = kBlockM * kPitch + 2 * kStages * kTileBytes;
constexpr float kLn2 = 0.693147180559945f; // the LSE leaves in natural units
static_assert(kSharedBytes == ${shared_bytes}, "the launch and the kernel disagree on shared memory");

// Where this block's rows are: compact ones, or the full tensors where the sequence keeps every token.
struct Source {
    const char *k, *v;        // row 0 of this head
    long long k_step, v_step; // bytes from row to row
};

__device__ __forceinline__ Source find_source(const tamis_attend_args &args, int sequence, int head, bool full)
{
    const tamis_rows &k = full ? args.k_full : args.k;
    const tamis_rows &v = full ? args.v_full : args.v;
    const int kv_head = head / (args.q_heads / (full ? args.kv_heads : args.compact_heads));
    return {row_pointer(k, sequence, kv_head, 0), row_pointer(v, sequence, kv_head, 0), 2 * k.row_stride,
            2 * v.row_stride};
}

// Start loading the K and V tiles of step `step` into its stage. Rows at and behind `rows` become zeros: a masked
// probability is exactly 0, but 0 times whatever lies in stale memory need not be.
__device__ __forceinline__ void load_step(unsigned s_kv, const Source &source, int step, int rows)
{
    const unsigned stage = s_kv + (step % kStages) * 2 * kTileBytes;
    const int first = step * kBlockN;
    load_rows_async<kHeadDim, kBlockN, kThreads>(stage, source.k, [&](int i) -> const char * {
        return first + i < rows ? source.k + (first + i) * source.k_step : nullptr;
    });
    load_rows_async<kHeadDim, kBlockN, kThreads>(stage + kTileBytes, source.v, [&](int i) -> const char * {
        return first + i < rows ? source.v + (first + i) * source.v_step : nullptr;
    });
}

// The running softmax of the rows a thread holds: two of each row tile.
struct Softmax {
    float max[kRowTiles][2]; // of the raw logits
    float sum[kRowTiles][2]; // this lane's part; the four lanes of a row are added at the end
};

// Turn logits into probabilities relative to the new maximum; scale what has been summed so far to it.
__device__ __forceinline__ void softmax_step(float (&s)[kRowTiles][kColTiles][4], float (&o)[kRowTiles][kDimTiles][4],
                                             Softmax &state, float scale_log2)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float peak = state.max[m][half];
#pragma unroll
            for (int n = 0; n < kColTiles; ++n) peak = fmaxf(peak, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
            peak = quad_max(peak); // finite: every row sees key 0 in the first step
            const float base = peak * scale_log2;
            const float rescale = exp2_approx(state.max[m][half] * scale_log2 - base);
            state.max[m][half] = peak;
            float sum = state.sum[m][half] * rescale;
#pragma unroll
            for (int n = 0; n < kColTiles; ++n)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; ++i) {
                    s[m][n][i] = exp2_approx(s[m][n][i] * scale_log2 - base);
                    sum += s[m][n][i];
                }
            state.sum[m][half] = sum;
#pragma unroll
            for (int d = 0; d < kDimTiles; ++d) {
                o[m][d][2 * half] *= rescale;
                o[m][d][2 * half + 1] *= rescale;
            }
        }
}

// Mask: a row sees the keys up to its own, or, where attention is not causal, up to the last one.
__device__ __forceinline__ void mask_step(float (&s)[kRowTiles][kColTiles][4], int first_row, int first_key, int last_key,
                                          bool causal, int lane)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int n = 0; n < kColTiles; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int row = first_row + 16 * m + lane / 4 + 8 * (i / 2);
                const int key = first_key + 8 * n + 2 * (lane % 4) + i % 2;
                if (key > (causal ? row : last_key)) s[m][n][i] = -kInfinity;
            }
}

// O += P V. The probabilities in accumulator layout are the A fragments as they stand, once packed to 16 bits.
__device__ __forceinline__ void multiply_values(float (&o)[kRowTiles][kDimTiles][4],
                                                const float (&s)[kRowTiles][kColTiles][4], unsigned v)
{
#pragma unroll
    for (int k = 0; k < kColTiles / 2; ++k) {
        unsigned probability[kRowTiles][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                probability[m][i] = Element::pack(s[m][2 * k + i / 2][i % 2 * 2], s[m][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int d = 0; d < kDimTiles; d += 2) {
            unsigned value[4];
            load_matrix_x4_transposed(value, v + k * 16 * kPitch + d * 16);
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                Element::mma(o[m][d], probability[m], value[0], value[1]);
                Element::mma(o[m][d + 1], probability[m], value[2], value[3]);
            }
        }
    }
}

$ if p.q_in_registers == 1 then
// S = Q K^T with Q in registers.
__device__ __forceinline__ void multiply_keys(float (&s)[kRowTiles][kColTiles][4],
                                              const unsigned (&q)[kRowTiles][kHeadDim / 16][4], unsigned k)
{
#pragma unroll
    for (int n = 0; n < kColTiles; n += 2) {
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i) s[m][n][i] = s[m][n + 1][i] = 0.0f;
#pragma unroll
        for (int d = 0; d < kHeadDim / 16; ++d) {
            unsigned key[4];
            load_matrix_x4(key, k + n * 8 * kPitch + d * 32);
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                Element::mma(s[m][n], q[m][d], key[0], key[1]);
                Element::mma(s[m][n + 1], q[m][d], key[2], key[3]);
            }
        }
    }
}

$ end
// Normalise, and put this warp's rows into shared memory where its rows of Q were: nobody else reads those.
__device__ __forceinline__ void stage_output(char *s_rows, const float (&o)[kRowTiles][kDimTiles][4],
                                             const Softmax &state, int lane)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float inverse = 1.0f / state.sum[m][half];
            char *row = s_rows + (16 * m + lane / 4 + 8 * half) * kPitch + lane % 4 * 4;
#pragma unroll
            for (int d = 0; d < kDimTiles; ++d)
                *reinterpret_cast<unsigned *>(row + d * 16) =
                    Element::pack(o[m][d][2 * half] * inverse, o[m][d][2 * half + 1] * inverse);
        }
}

// One block: kBlockM queries of one head. grid = (tiles of the capacity, Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}(const __grid_constant__ tamis_attend_args args)
{
    extern __shared__ __align__(16) char s_memory[];
    follow_stream();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int head = blockIdx.y, sequence = blockIdx.z;

    // The longest rows first: blocks start in order of blockIdx.x, and the short ones fill the end of the launch.
    const int rows = args.kept ? args.kept[sequence] : static_cast<int>(args.seq_len);
    const int tile = (rows + kBlockM - 1) / kBlockM - 1 - static_cast<int>(blockIdx.x);
    if (tile < 0) return;
    const int first_row = tile * kBlockM;

    const bool full = args.k_full.data && rows == args.seq_len;
    const Source source = find_source(args, sequence, head, full);
    const int index_head = head / (args.q_heads / args.index_heads);
    const int *token = args.indices // token[i]: where row i of the compact order lies in the full one
                           ? args.indices + (static_cast<long long>(sequence) * args.index_heads + index_head) * args.capacity
                           : nullptr;

    const unsigned s_q = shared_address(s_memory), s_kv = s_q + kBlockM * kPitch;
    const char *q_row = row_pointer(args.q, sequence, head, 0);
    load_rows_async<kHeadDim, kBlockM, kThreads>(s_q, q_row, [&](int i) -> const char * {
        const int row = first_row + i;
        if (row >= rows) return nullptr;
        return q_row + 2 * args.q.row_stride * (token ? token[row] : row);
    });
    const int last_key = args.causal ? min(first_row + kBlockM, rows) - 1 : rows - 1; // that any row of the block sees
    const int steps = last_key / kBlockN + 1;
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) { // the group of step 0 holds Q as well
        if (step < steps) load_step(s_kv, source, step, rows);
        copy_async_commit();
    }

    const int warp_row = warp * 16 * kRowTiles;
    const unsigned s_warp_q = s_q + warp_row * kPitch + lane_offset_a<kHeadDim>(lane);
    const unsigned k_lane = lane_offset_b<kHeadDim>(lane), v_lane = kTileBytes + lane_offset_a<kHeadDim>(lane);
    float o[kRowTiles][kDimTiles][4] = {};
    Softmax state;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            state.max[m][half] = -kInfinity;
            state.sum[m][half] = 0.0f;
        }
$ if p.q_in_registers == 1 then
    unsigned q[kRowTiles][kHeadDim / 16][4];
$ end

    for (int step = 0; step < steps; ++step) {
        // One group a step, empty ones included, so that the same wait fits every step. The barrier also says that
        // everybody is done with the stage that is loaded next.
        copy_async_wait<kStages - 2>();
        __syncthreads();
        if (step + kStages - 1 < steps) load_step(s_kv, source, step + kStages - 1, rows);
        copy_async_commit();

        const unsigned stage = s_kv + (step % kStages) * 2 * kTileBytes;
        float s[kRowTiles][kColTiles][4];
$ if p.q_in_registers == 1 then
        if (step == 0) {
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
                for (int d = 0; d < kHeadDim / 16; ++d) load_matrix_x4(q[m][d], s_warp_q + m * 16 * kPitch + d * 32);
        }
        multiply_keys(s, q, stage + k_lane);
$ else
        multiply_transposed<Element, kHeadDim>(s, s_warp_q, stage + k_lane);
$ end
        const int first_key = step * kBlockN;
        if (first_key + kBlockN - 1 > (args.causal ? first_row + warp_row : last_key))
            mask_step(s, first_row + warp_row, first_key, last_key, args.causal, lane);
        softmax_step(s, o, state, args.scale_log2);
        multiply_values(o, s, stage + v_lane);
    }

#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            state.sum[m][half] = quad_sum(state.sum[m][half]);
            const int row = first_row + warp_row + 16 * m + lane / 4 + 8 * half;
            if (args.lse && lane % 4 == 0 && row < rows)
                args.lse[(static_cast<long long>(sequence) * args.q_heads + head) * args.lse_rows + (token ? token[row] : row)] =
                    (state.max[m][half] * args.scale_log2 + log2f(state.sum[m][half])) * kLn2;
        }

    stage_output(s_memory + warp_row * kPitch, o, state, lane);
    __syncwarp();
    char *output = const_cast<char *>(row_pointer(args.output, sequence, head, 0));
    constexpr int kChunks = Tile<kHeadDim>::kChunks;
    for (int i = lane; i < 16 * kRowTiles * kChunks; i += 32) {
        const int row = first_row + warp_row + i / kChunks, chunk = i % kChunks;
        if (row >= rows) break;
        const int4 value = *reinterpret_cast<const int4 *>(s_memory + (warp_row + i / kChunks) * kPitch + chunk * 16);
        *reinterpret_cast<int4 *>(output + 2 * args.output.row_stride * (token ? token[row] : row) + chunk * 16) = value;
    }
}
