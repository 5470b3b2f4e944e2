$ -- attend_blocks: block-sparse attention for the portable family (mma.sync, cp.async, ldmatrix; sm_80 and newer): attend on
$ -- lists of 128 x 128 blocks. One template serves full sequences and compact tokens. A block of threads takes the 128 queries
$ -- that one list is for. Sources as of attend.
$ local block_m = 128
$ local pitch = 2 * p.head_dim + 16
$ local rows_a_warp = block_m // p.warps
$ local shared_bytes = (block_m + 2 * p.stages * p.block_n) * pitch
$ local q = p.q_in_registers == 1 and "q" or "s_warp_q"
$ local k_tile = "s_kv + stage * kStageBytes + k_lane"
$ local symbol = "tamis_" .. p.name
$ if block_m % (16 * p.warps) ~= 0 then reject("each warp must have a multiple of 16 of a block's 128 rows") end
$ if 128 % p.block_n ~= 0 or p.block_n < 32 then reject("block_n must divide a block's 128 keys, and be 32 or more") end
$ if p.lazy_max == 1 and p.stages < 2 then reject("lazy_max needs K until its softmax is done: stages of 2 or more") end
$ -- Accumulators alone, as in attend.
$ local q_registers = p.q_in_registers * rows_a_warp // 16 * p.head_dim // 4
$ local accumulators = rows_a_warp // 16 * (p.head_dim + p.block_n) // 2 + q_registers
$ if accumulators > 208 then reject("needs " .. accumulators .. " accumulator registers a thread, more than 208") end
$ entry{stage = "attend_blocks", symbol = symbol, threads = 32 * p.warps, shared_bytes = shared_bytes,
$       block_m = block_m, block_n = p.block_n}
#include "kernel_args.h"
#include "ptx.cuh"
#include "tile.cuh"
#include "softmax.cuh"
#include "blocks.cuh"

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kBlockM = kBlock;       // queries a block
constexpr int kBlockN = ${p.block_n}; // keys a step
constexpr int kParts = kBlock / kBlockN; // steps a listed block
constexpr int kStages = ${p.stages};  // K and V tiles in flight
constexpr int kWarps = ${p.warps};
constexpr float kRescaleThreshold = ${p.rescale_threshold}.0f; // log2 by which a maximum may grow before O is rescaled

#include "attend_mma.cuh"

constexpr int kSharedBytes = kBlockM * kPitch + kStages * kStageBytes;
static_assert(kSharedBytes == ${shared_bytes}, "the launch and the kernel disagree on shared memory");

// K or V of one head, a tile of rows at a time from anywhere. A thread copies the same chunks of every kRowsAPass-th row.
struct KeyLoader {
    static constexpr int kChunks = Tile<kHeadDim>::kChunks;
    static constexpr int kLanes = kChunks & -kChunks; // threads side by side in a row: the power of two in kChunks
    static constexpr int kRowsAPass = kThreads / kLanes;
    const char *source; // this thread's first chunk of the head's row 0, and of its first row
    long long row_bytes;
    unsigned offset; // of that chunk in the tile

    __device__ __forceinline__ KeyLoader(const char *head, long long row_bytes_)
        : source(head + threadIdx.x / kLanes * row_bytes_ + threadIdx.x % kLanes * 16), row_bytes(row_bytes_),
          offset(threadIdx.x / kLanes * kPitch + threadIdx.x % kLanes * 16)
    {
    }
    // Start copying kBlockN rows from `first` on; zeros for those at and behind `rows`, as a masked probability is exactly 0,
    // but 0 times whatever lies in stale memory need not be.
    __device__ __forceinline__ void load(unsigned shared, int first, int rows) const
    {
        const char *row = source + first * row_bytes;
        const int mine = first + threadIdx.x / kLanes;
#pragma unroll
        for (int i = 0; i < kBlockN; i += kRowsAPass) {
            if (kBlockN - i >= kRowsAPass || static_cast<int>(threadIdx.x) < (kBlockN - i) * kLanes)
#pragma unroll
                for (int chunk = 0; chunk < kChunks; chunk += kLanes)
                    copy_async_16(shared + offset + i * kPitch + chunk * 16, mine + i < rows ? row + chunk * 16 : source,
                                  mine + i < rows);
            row += kRowsAPass * row_bytes;
        }
    }
};

// One block: the queries of one list. grid = (T, Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}(const __grid_constant__ tamis_attend_blocks_args all)
{
    extern __shared__ __align__(16) char s_memory[];
    follow_stream();
    const tamis_attend_args &args = all.attend;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int head = blockIdx.y, sequence = blockIdx.z;

    // The last rows first, whose lists tend to be the longest.
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

    // Steps go from the last listed block to the first, and through its parts likewise, so that the diagonal comes first. Of
    // the query block itself, parts behind the last row are left out.
    const BlockList list = find_list(all.blocks, sequence * args.q_heads + head, tile);
    const auto entry_of = [&](int step) { return list.count == 0 ? tile | kNothing : list.entries[step / kParts]; };
    const bool own = list.count == 0 || (list.entries[list.count - 1] & kBlockNumber) == tile;
    const int last_parts = own ? (min(rows - first_row, kBlock) - 1) / kBlockN + 1 : kParts;
    const int last_step = max(list.count - 1, 0) * kParts + last_parts - 1;
    const auto key_of = [&](int entry, int step) { return block_number(entry, tile) * kBlock + step % kParts * kBlockN; };

    const KeyLoader k_loader(source.k, source.k_step), v_loader(source.v, source.v_step);
    int entry = entry_of(last_step); // of the step to come
    k_loader.load(s_kv, key_of(entry, last_step), rows);
    v_loader.load(s_kv + kTileBytes, key_of(entry, last_step), rows);
    copy_async_commit();
$ if p.stages > 1 then
    // One group a step, empty ones included, so that the same wait fits every step. Entries are read a step before their keys
    // are asked for, so that this does not wait for them.
    int ahead = last_step > 0 ? entry_of(last_step - 1) : 0;
    const auto load_step = [&](int step, unsigned stage) {
        if (step >= 0) {
            const int first = key_of(ahead, step);
            k_loader.load(s_kv + stage * kStageBytes, first, rows);
            v_loader.load(s_kv + stage * kStageBytes + kTileBytes, first, rows);
        }
        copy_async_commit();
        if (step > 0) ahead = entry_of(step - 1);
    };
#pragma unroll
    for (int i = 1; i < kStages - 1; ++i) load_step(last_step - i, i);
    unsigned stage = 0;
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
    copy_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kHeadDim / 16; ++d)
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) load_matrix_x4(q[d][m], s_warp_q + m * 16 * kPitch + d * 32);
$ end

    const bool looks = kParts > 1 || all.blocks.mask_count > 0; // may a step behind the first need a mask?
#pragma unroll 1
    for (int step = last_step; step >= 0; --step) {
        float s[kRowTiles][kLogits];
$ if p.stages == 1 then
        copy_async_wait<0>();
        __syncthreads(); // K is there, and everybody is done with V
        if (step < last_step) v_loader.load(s_kv + kTileBytes, key_of(entry, step), rows);
        copy_async_commit();
        multiply_keys(s, ${q}, s_kv + k_lane);
        copy_async_wait<0>();
        __syncthreads(); // V is there, and everybody is done with K
        const int next_entry = step > 0 ? entry_of(step - 1) : 0;
        if (step > 0) k_loader.load(s_kv, key_of(next_entry, step - 1), rows);
        copy_async_commit();
$ else
        if (looks && step < last_step) entry = entry_of(step);
        copy_async_wait<kStages - 2>();
        __syncthreads(); // this stage is there, and everybody is done with the one before it
        load_step(step - (kStages - 1), stage == 0 ? kStages - 1 : stage - 1);
        multiply_keys(s, ${q}, ${k_tile});
$ end
        // The diagonal cuts the query block's own keys alone. What a mask takes comes on top.
        const bool masked =
            step == last_step || (looks && (is_partial(entry) || (kParts > 1 && (entry & kBlockNumber) == tile)));
        if (masked) {
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                const int row = warp_row + 16 * m + lane / 4, first_key = key_of(entry, step);
                mask_logits(s[m], first_row + row - first_key, first_row + row + 8 - first_key, lane);
                if (is_partial(entry)) mask_block(s[m], all.blocks, entry, row, step % kParts * kBlockN, lane);
                softmax_step<false, true, true, 0>(s[m], state[m], args.scale_log2, kRescaleThreshold);
                rescale_output(o[m], state[m]);
            }
        } else {
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
$ if p.lazy_max == 1 then
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
$ else
                softmax_step<false, false, true, 0>(s[m], state[m], args.scale_log2, kRescaleThreshold);
                rescale_output(o[m], state[m]);
$ end
            }
        }
$ if p.stages > 1 then
        multiply_values(o, s, s_kv + stage * kStageBytes + v_lane);
        stage = stage == kStages - 1 ? 0 : stage + 1;
$ else
        multiply_values(o, s, s_kv + v_lane);
        entry = next_entry;
$ end
    }

    const Rows mine = {sequence, head, first_row, warp_row, rows, token};
    finish_softmax(args, mine, state, lane);
    write_rows<true>(args, mine, s_memory + warp_row * kPitch, o, state, lane);
}
