$ -- attend: attention for the portable family (mma.sync, cp.async, ldmatrix; sm_80 and newer).
$ -- One template serves dense attention and attention on compact tokens: what differs is where rows come from, which is
$ -- decided at run time, once a block. Source of the mathematics: online softmax (Milakov and Gimelshein, arXiv 1805.02867)
$ -- in the tiling of FlashAttention-2 (Dao, arXiv 2307.08691).
$ local pitch = 2 * p.head_dim + 16
$ local rows_a_warp = p.block_m // p.warps
$ local shared_bytes = (p.block_m + 2 * p.stages * p.block_n) * pitch + p.tile_barriers * p.stages * 32
$ local k_tile = p.tile_barriers == 1 and "tile + k_lane" or "s_kv + stage * kStageBytes + k_lane"
$ local q = p.q_in_registers == 1 and "q" or "s_warp_q"
$ local symbol = "tamis_" .. p.name
$ local takes = p.output_map == 1 and "given" or "args"
$ if p.block_m % (16 * p.warps) ~= 0 then reject("block_m must be a multiple of 16 rows for each warp") end
$ if p.block_n % 16 ~= 0 then reject("block_n must be a multiple of 16, the depth of a P V fragment") end
$ if p.tile_barriers == 1 and p.stages < 2 then reject("tile_barriers needs stages of 2 or more: one makes warps wait anyway") end
$ if p.lazy_max == 1 and p.stages < 2 then reject("lazy_max needs K until its softmax is done: stages of 2 or more") end
$ -- Accumulators alone: O, S, and Q where it stays in registers; beyond about 208 of 255 ptxas starts to spill.
$ local q_registers = p.q_in_registers * rows_a_warp // 16 * p.head_dim // 4
$ local accumulators = rows_a_warp // 16 * (p.head_dim + p.block_n) // 2 + q_registers
$ if accumulators > 208 then reject("needs " .. accumulators .. " accumulator registers a thread, more than 208") end
$ -- With a map, O and the rows that it is made of, which are half as long.
$ local mapped = p.output_map * rows_a_warp // 16 * p.head_dim * 3 // 4
$ if mapped > 208 then reject("output_map needs " .. mapped .. " accumulator registers a thread, more than 208") end
$ local stage = p.output_map == 1 and "attend_map" or "attend"
$ entry{stage = stage, symbol = symbol, threads = 32 * p.warps, shared_bytes = shared_bytes,
$       block_m = p.block_m, block_n = p.block_n}
#include "kernel_args.h"
#include "ptx.cuh"
#include "tile.cuh"
#include "softmax.cuh"
$ if p.output_map == 1 then
#include "map_args.h"
$ end

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kBlockM = ${p.block_m}; // queries a block
constexpr int kBlockN = ${p.block_n}; // keys a step
constexpr int kStages = ${p.stages};  // K and V tiles in flight
constexpr int kWarps = ${p.warps};
constexpr float kRescaleThreshold = ${p.rescale_threshold}.0f; // log2 by which a maximum may grow before O is rescaled

#include "attend_mma.cuh"
$ if p.output_map == 1 then
#include "map_mma.cuh"
$ end

constexpr int kSharedBytes = kBlockM * kPitch + kStages * (kStageBytes + ${32 * p.tile_barriers});
static_assert(kSharedBytes == ${shared_bytes}, "the launch and the kernel disagree on shared memory");

// One block: kBlockM queries of one head. grid = (tiles of the capacity, Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}(const __grid_constant__ tamis_${stage}_args ${takes})
{
$ if p.output_map == 1 then
    const tamis_attend_args &args = given.attend;
$ end
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
    const int last_step = last_key / kBlockN;

    // Steps go from the last keys to the first, so that those with a mask or behind the end come first, and the loop over
    // the rest need not ask. Only the last step's rows may lie behind the end; zeros take the place of those, as a masked
    // probability is exactly 0, but 0 times whatever lies in stale memory need not be.
    const auto load_last = [&](unsigned tile, const char *data, long long row_bytes) {
        load_rows_async<kHeadDim, kBlockN, kThreads>(tile, data, [&](int i) -> const char * {
            const int row = last_step * kBlockN + i;
            return row < rows ? data + row * row_bytes : nullptr;
        });
    };
    const long long before_last = (last_step - 1) * static_cast<long long>(kBlockN);
    TileLoader<kHeadDim, kBlockN, kThreads> k_loader(source.k + before_last * source.k_step, source.k_step);
    TileLoader<kHeadDim, kBlockN, kThreads> v_loader(source.v + before_last * source.v_step, source.v_step);
$ if p.tile_barriers == 1 then
    // Each tile has a barrier that says it is there, and one that says all warps are done with it: so a warp may run ahead
    // of the others by half a step. A stage has four: for K, then for V.
    const unsigned s_barriers = s_kv + kStages * kStageBytes;
    const auto tile_full = [](unsigned barriers, bool of_v) { return barriers + (of_v ? 16 : 0); };
    const auto tile_free = [](unsigned barriers, bool of_v) { return barriers + (of_v ? 24 : 8); };
    if (threadIdx.x < 4 * kStages) barrier_init(s_barriers + 8 * threadIdx.x, kThreads);
    __syncthreads();
    load_last(s_kv, source.k, source.k_step);
    barrier_arrive_after_copies(tile_full(s_barriers, false)); // Q is there, too
    load_last(s_kv + kTileBytes, source.v, source.v_step);
    barrier_arrive_after_copies(tile_full(s_barriers, true));
    const auto load_keys = [&](unsigned stage) {
        k_loader.load_backwards(s_kv + stage * kStageBytes);
        barrier_arrive_after_copies(tile_full(s_barriers + 32 * stage, false));
    };
    const auto load_values = [&](unsigned stage) {
        v_loader.load_backwards(s_kv + stage * kStageBytes + kTileBytes);
        barrier_arrive_after_copies(tile_full(s_barriers + 32 * stage, true));
    };
#pragma unroll
    for (int i = 1; i < kStages - 1; ++i)
        if (last_step - i >= 0) {
            load_keys(i);
            load_values(i);
        }
    unsigned stage = 0, phase = 0;
$ else
    load_last(s_kv, source.k, source.k_step);
    load_last(s_kv + kTileBytes, source.v, source.v_step);
    copy_async_commit();
$ if p.stages > 1 then
    // One group a step, empty ones included, so that the same wait fits every step.
    const auto load_step = [&](int step, unsigned stage) {
        if (step >= 0) {
            k_loader.load_backwards(s_kv + stage * kStageBytes);
            v_loader.load_backwards(s_kv + stage * kStageBytes + kTileBytes);
        }
        copy_async_commit();
    };
#pragma unroll
    for (int i = 1; i < kStages - 1; ++i) load_step(last_step - i, i);
    unsigned stage = 0;
$ end
$ end

    const int warp_row = warp * 16 * kRowTiles;
    const unsigned s_warp_q = s_q + warp_row * kPitch + lane_offset_a<kHeadDim>(lane);
    const unsigned k_lane = lane_offset_b<kHeadDim>(lane), v_lane = kTileBytes + lane_offset_a<kHeadDim>(lane);
    float o[kRowTiles][kOutputs] = {};
    Softmax state[kRowTiles];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            state[m].max[half] = -kInfinity;
            state[m].sum[half] = 0.0f;
        }
$ if p.q_in_registers == 1 then
    unsigned q[kHeadDim / 16][kRowTiles][4];
$ if p.tile_barriers == 1 then
    barrier_wait(tile_full(s_barriers, false), 0);
$ else
    copy_async_wait<0>();
    __syncthreads();
$ end
#pragma unroll
    for (int d = 0; d < kHeadDim / 16; ++d)
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) load_matrix_x4(q[d][m], s_warp_q + m * 16 * kPitch + d * 32);
$ end

    int step = last_step;
    // Steps from this one on are masked: the block's diagonal, or the end of the rows, crosses them.
    const int masked = min(last_step, (args.causal ? first_row + 1 : rows) / kBlockN);
$ for _, masked in ipairs({true, false}) do
#pragma unroll 1
    for (; step >= ${masked and "masked" or "0"}; --step) {
        float s[kRowTiles][kLogits];
$ if p.stages == 1 then
        copy_async_wait<0>();
        __syncthreads(); // K is there, and everybody is done with V
        if (step < last_step) v_loader.load_backwards(s_kv + kTileBytes);
        copy_async_commit();
        multiply_keys(s, ${q}, s_kv + k_lane);
        copy_async_wait<0>();
        __syncthreads(); // V is there, and everybody is done with K
        if (step > 0) k_loader.load_backwards(s_kv);
        copy_async_commit();
$ elseif p.tile_barriers == 0 then
        copy_async_wait<kStages - 2>();
        __syncthreads(); // this stage is there, and everybody is done with the one before it
        load_step(step - (kStages - 1), stage == 0 ? kStages - 1 : stage - 1);
        multiply_keys(s, ${q}, ${k_tile});
$ else
        const unsigned before = stage == 0 ? kStages - 1 : stage - 1; // the stage that the step before had: loaded next
        const unsigned before_phase = stage == 0 ? phase ^ 1 : phase;
        const unsigned tile = s_kv + stage * kStageBytes, barriers = s_barriers + 32 * stage;
        if (step >= kStages - 1) {
            barrier_wait(tile_free(s_barriers + 32 * before, false), before_phase);
            load_keys(before);
        }
        barrier_wait(tile_full(barriers, false), phase);
        multiply_keys(s, ${q}, ${k_tile});
$ end
$ if p.lazy_max == 1 and not masked then
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
            float sums[2];
            exponentiate(s[m], state[m], args.scale_log2, sums);
            if (sums_fit<Element>(sums)) {
                state[m].sum[0] += sums[0];
                state[m].sum[1] += sums[1];
            } else {
                multiply_keys_again(s[m], s_warp_q + m * 16 * kPitch, ${k_tile});
                softmax_step<false, false, true, 0>(s[m], state[m], args.scale_log2, kRescaleThreshold);
                rescale_output(o[m], state[m]);
            }
        }
$ else
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
$ if masked then
            const int row = first_row + warp_row + 16 * m + lane / 4, first_key = step * kBlockN;
            mask_logits(s[m], (args.causal ? row : last_key) - first_key, (args.causal ? row + 8 : last_key) - first_key,
                        lane);
$ end
            softmax_step<false, ${masked}, true, 0>(s[m], state[m], args.scale_log2, kRescaleThreshold);
            rescale_output(o[m], state[m]);
        }
$ end
$ if p.tile_barriers == 1 then
        __syncwarp();
        barrier_arrive(tile_free(barriers, false));
$ end
$ if p.tile_barriers == 1 then
        if (step >= kStages - 1) {
            barrier_wait(tile_free(s_barriers + 32 * before, true), before_phase);
            load_values(before);
        }
        barrier_wait(tile_full(barriers, true), phase);
        multiply_values(o, s, tile + v_lane);
        __syncwarp();
        barrier_arrive(tile_free(barriers, true));
        phase ^= stage == kStages - 1;
        stage = stage == kStages - 1 ? 0 : stage + 1;
$ elseif p.stages > 1 then
        multiply_values(o, s, s_kv + stage * kStageBytes + v_lane);
        stage = stage == kStages - 1 ? 0 : stage + 1;
$ else
        multiply_values(o, s, s_kv + v_lane);
$ end
    }
$ end

    const Rows mine = {sequence, head, first_row, warp_row, rows, token};
    finish_softmax(args, mine, state, lane);
$ if p.output_map == 1 then
    map_output(o, state, s_kv, static_cast<const char *>(given.output_map) + 2ll * kHeadDim * kHeadDim * head, lane);
$ end
    write_rows<false>(args, mine, s_memory + warp_row * kPitch, o, state, lane);
}
