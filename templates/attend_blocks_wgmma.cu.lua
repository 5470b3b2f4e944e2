$ -- attend_blocks_wgmma: block-sparse attention for Hopper (sm_90a), on lists of blocks: the schedule of attend_wgmma with the
$ -- tiles of attend_blocks: 128 queries, which have one list, in two warpgroups of 64. What a step attends to, its block and
$ -- mask, goes through the ring with the keys; tiles come in an order that is made on the device beforehand, the longest lists
$ -- first. Given index lists it gathers Q, scatters its rows and writes zeros to the rows of dropped tokens. Sources as there.
$ local sub_tiles = (p.head_dim + 63) // 64
$ local wgmma = use("wgmma")
$ local warpgroups, block_m = 2, 128
$ local tile_bytes = sub_tiles * p.block_n * 128
$ local shared_bytes = sub_tiles * block_m * 128 + 2 * p.stages * tile_bytes + 256
$ local symbol = "tamis_" .. p.name
$ local type = p.dtype == "bf16" and "bf16" or "f16"
$ local s_count, o_count, p_count, q_count = p.block_n // 2, p.head_dim // 2, p.block_n // 4, p.q_in_registers * p.head_dim // 4
$ if 128 % p.block_n ~= 0 or p.block_n < 32 then reject("block_n must divide a block's 128 keys, and be 32 or more") end
$ if p.producer_registers % 8 ~= 0 or p.consumer_registers % 8 ~= 0 then reject("register counts go in steps of 8") end
$ local given = use("registers").given(warpgroups + 1)
$ if p.producer_registers + warpgroups * p.consumer_registers > given then reject("more registers than an SM has") end
$ local accumulators = s_count + o_count + p_count + q_count
$ if accumulators + 18 > p.consumer_registers then reject("S, P, O and Q do not fit in consumer_registers") end
$ if p.stages > 4 then reject("there are barriers for 4 stages") end
$ entry{stage = "attend_blocks_tma", symbol = symbol, threads = 128 * (warpgroups + 1), shared_bytes = shared_bytes,
$       block_m = block_m, block_n = p.block_n}
#include "kernel_args.h"
#include "ptx.cuh"
#include "tile.cuh"
#include "hopper.cuh"
#include "softmax.cuh"
#include "dropped.cuh"
#include "blocks.cuh"

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kWarpgroups = 2;         // that compute; one more loads
constexpr int kBlockM = kBlock;        // queries a tile, 64 a warpgroup
constexpr int kBlockN = ${p.block_n};  // keys a step
constexpr int kParts = kBlock / kBlockN; // steps a listed block
constexpr int kStages = ${p.stages};   // K tiles in flight, and as many V tiles
constexpr bool kPingPong = ${p.ping_pong == 1}; // warpgroups take turns: one multiplies while the other exponentiates
constexpr float kRescaleThreshold = ${p.rescale_threshold}.0f; // log2 by which a row's maximum may grow before O is rescaled
constexpr int kLogits = kBlockN / 2;   // of S a thread: two rows of kBlockN / 4
constexpr int kOutputs = kHeadDim / 2; // of O a thread

// One tile of work: kBlockM queries of one head. No steps: there is no more work.
struct Work {
    int sequence, head, first_row, rows; // rows: of the sequence
    int steps;                           // parts of listed blocks, walked from the last to the first
    int entry;                           // of the list, of the first step
    int full;                            // 1: reads the full tensors, not the compact ones
};

#include "attend_tma.cuh"

constexpr int kSharedBytes = kTilesBytes + kBarriersBytes;
static_assert(kSharedBytes == ${shared_bytes}, "the launch and the kernel disagree on shared memory");
static_assert(8 * (4 * kStages + 6) + 2 * sizeof(Work) + 4 * kStages <= kBarriersBytes, "barriers and slots need more room");

// Entries of the list, one a stage: what the K tile there is.
__device__ __forceinline__ int *entries_place(const Shared &shared) { return reinterpret_cast<int *>(shared.slots + 2); }

// ---- the loading warpgroup

// The tile of all tiles that comes `index`-th, and its list. One behind a sequence's rows has no steps.
__device__ __forceinline__ BlockList find_work(Work &work, const tamis_attend_blocks_tma_args &args, unsigned index)
{
    const int place = args.order[index], head = place / args.blocks.tiles, tile = place % args.blocks.tiles;
    work.sequence = head / args.attend.q_heads;
    work.head = head % args.attend.q_heads;
    work.rows = args.attend.kept ? args.attend.kept[work.sequence] : static_cast<int>(args.attend.seq_len);
    work.full = args.attend.k_full.data && work.rows == args.attend.seq_len;
    work.first_row = tile * kBlockM;
    work.steps = 0;
    if (work.first_row >= work.rows) return {nullptr, 0};
    const BlockList list = find_list(args.blocks, head, tile);
    // Of the query block itself, parts behind the last row are left out.
    const bool own = list.count == 0 || (list.entries[list.count - 1] & kBlockNumber) == tile;
    const int last_parts = own ? (min(work.rows - work.first_row, kBlock) - 1) / kBlockN + 1 : kParts;
    work.steps = max(list.count - 1, 0) * kParts + last_parts;
    work.entry = list.count == 0 ? tile | kNothing : list.entries[list.count - 1];
    return list;
}

// One thread: takes the next tile whenever it is done with one, and loads K of each step, and V one step behind, in the order
// in which they are needed.
__device__ __forceinline__ void load_keys_and_values(const tamis_attend_blocks_tma_args &args, const Shared &shared)
{
    Ring<kStages> k, v;
    Work work;
    unsigned number = 0;
    const unsigned tiles = static_cast<unsigned>(args.heads) * args.blocks.tiles;
    for (unsigned index = blockIdx.x, next; index < tiles; index = next) {
        next = gridDim.x + atomicAdd(args.counter, 1u); // here, so that the answer is there when it is needed
        const BlockList list = find_work(work, args, index);
        if (work.steps == 0) continue;
        publish(shared, work, number++);
        const void *k_map = work.full ? &args.k_full : &args.k, *v_map = work.full ? &args.v_full : &args.v;
        const int kv_head = work.head / (args.attend.q_heads / (work.full ? args.attend.kv_heads : args.attend.compact_heads));
        const int tile = work.first_row / kBlock;
        // The next entry is read before this one's turn, to be there when it comes. The row is that of the V tile to come.
        int next_entry = work.entry, row = 0;
        for (int step = work.steps - 1; step >= -1; --step) {
            const int entry = next_entry, key = block_number(entry, tile) * kBlock + step % kParts * kBlockN;
            if (step % kParts == 0 && step > 0) next_entry = list.entries[step / kParts - 1];
            if (step >= 0) {
                barrier_wait(shared.k_empty(k.stage), k.phase ^ 1);
                entries_place(shared)[k.stage] = entry;
                load_tile(shared.k_tile(k.stage), shared.k_full(k.stage), k_map, key, kv_head, work.sequence);
                k.advance();
            }
            if (step < work.steps - 1) {
                barrier_wait(shared.v_empty(v.stage), v.phase ^ 1);
                load_tile(shared.v_tile(v.stage), shared.v_full(v.stage), v_map, row, kv_head, work.sequence);
                v.advance();
            }
            row = key;
        }
    }
    work.steps = 0;
    publish(shared, work, number);
}

// ---- the computing warpgroups

// S = Q K^T or S += Q K^T, 16 of the head dim.
$ local keys = wgmma.product{name = "wgmma_keys", columns = p.block_n, type = type, registers = p.q_in_registers == 1}
$ for _, line in ipairs(keys) do
${line}
$ end

// O += P V, 16 keys.
$ local values = wgmma.product{name = "wgmma_values", columns = p.head_dim, type = type, registers = true, adds = true}
$ for _, line in ipairs(values) do
${line}
$ end

#include "attend_wgmma.cuh"

// Normalise the tile's rows and write them to their tokens' places, and their log-sum-exp, -inf where the sum is 0.
__device__ __forceinline__ void write_output(const tamis_attend_args &attend, const Work &work, const float (&o)[kOutputs],
                                             const Softmax &state, int row_above, int lane)
{
    const OutputRows rows(attend, work);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float sum = quad_sum(state.sum[half]);
        const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum; // 0: the row has seen no key
        rows.write(o, state, half, sum, inverse, row_above + 8 * half, lane);
    }
}

// The named barrier at which this warpgroup waits for its turn, or with 1 the other one. It is computed anew each time, as
// registers are few.
__device__ __forceinline__ int turn_of(int other)
{
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return 1 + (thread / 128 + 1 + other) % 2;
}

// A warpgroup's part of every tile. The first product of a tile starts before the one before it is written.
__device__ __forceinline__ void compute(const tamis_attend_blocks_tma_args &args, const Shared &shared, int warpgroup)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const float scale_log2 = args.attend.scale_log2;
    const bool looks = kParts > 1 || args.blocks.mask_count > 0; // may a step behind a tile's first need a mask?
    const unsigned q_rows = shared.q + (warpgroup * 64 + warp * 16) * 128; // this warp's
$ if p.q_in_registers == 1 then
    unsigned q[kHeadDim / 16][4];
$ else
    const unsigned q = descriptor_low(shared.q + warpgroup * 64 * 128, 0);
$ end
    const unsigned k_tiles = descriptor_low(shared.k, 0);
    const unsigned v_tiles = descriptor_low(shared.v, kBlockN * 128);
    constexpr unsigned kTileStep = kTileBytes >> 4;
    const int thread_row = warpgroup * 64 + warp * 16 + lane / 4; // in the tile
    Ring<kStages> k, v;
    unsigned number = 0; // of the tile
    float s[kLogits];

    // Is there another tile of work?
    const auto has_tile = [&] {
        barrier_wait(shared.work_full(number % 2), number / 2 % 2);
        return shared.slots[number % 2].steps != 0;
    };
    // Start its first product.
    const auto begin_tile = [&] {
        barrier_wait(shared.q_full(), number % 2);
$ if p.q_in_registers == 1 then
#pragma unroll
        for (int i = 0; i < kHeadDim / 16; ++i) load_queries_16(q[i], q_rows, i, lane);
$ if p.lazy_max == 0 then
        __syncwarp();
        if (lane == 0) barrier_arrive(shared.q_empty());
$ end
$ end
        barrier_wait(shared.k_full(k.stage), k.phase);
        multiply_keys(s, q, k_tiles + k.stage * kTileStep);
    };
    // S is complete, and its K tile no longer needed.
    const auto release_keys = [&] {
        if (lane == 0) barrier_arrive(shared.k_empty(k.stage));
        k.advance();
    };
    const auto take_keys = [&] {
        pin_registers(s);
        release_keys();
    };

    if (kPingPong && warpgroup == kWarpgroups - 1) named_arrive(turn_of(1), 256); // the first turn is warpgroup 0's
    bool more = has_tile();
    if (more) {
        begin_tile();
        wgmma_wait<0>();
        take_keys();
    }
    while (more) {
        const Work &work = shared.slots[number % 2];
        float o[kOutputs];
        unsigned p[kBlockN / 4];
        Softmax state;
#pragma unroll
        for (int i = 0; i < kOutputs; ++i) o[i] = 0.0f;

        int step = work.steps - 1, entry = work.entry; // of the list, of that step
        // The diagonal cuts the query block's own keys alone, and leaves the others' whole. What a mask takes comes on top.
        const auto mask = [&] {
            const int row = work.first_row + thread_row, last = work.rows - 1, part = step % kParts * kBlockN;
            const int first_key = block_number(entry, work.first_row / kBlock) * kBlock + part;
            mask_logits(s, min(row, last) - first_key, min(row + 8, last) - first_key, lane);
            if (is_partial(entry)) mask_block(s, args.blocks, entry, thread_row, part, lane);
        };
        const int behind = work.rows - work.first_row - step % kParts * kBlockN; // keys of the own block's part that exist
        if (behind < kBlockN && (entry & kBlockNumber) * kBlock >= work.first_row) {
            barrier_wait(shared.v_full(v.stage), v.phase);
            clear_values(shared.v_tile(v.stage), behind, threadIdx.x - 128);
            fence_async_proxy();
            named_sync(8, 128 * kWarpgroups);
        }
        mask();
        softmax_step<true, true, true, 0>(s, state, scale_log2, kRescaleThreshold);
$ if p.lazy_max == 1 then
        // Rows of Q behind the last may hold anything. Their probabilities become 0 or nothing, so that they never make their
        // warp multiply again, and the rows before them get the same bits whatever it is.
#pragma unroll
        for (int half = 0; half < 2; ++half)
            if (work.first_row + thread_row + 8 * half >= work.rows) state.max[half] = kInfinity;
$ end
        pack_probabilities(p, s);

        const auto wait_turn = [&] {
            if (kPingPong) named_sync(turn_of(0), 256);
        };
        const auto pass_turn = [&] {
            if (kPingPong) named_arrive(turn_of(1), 256);
        };
        const auto start_values = [&] {
            barrier_wait(shared.v_full(v.stage), v.phase);
            multiply_values(o, p, v_tiles + v.stage * kTileStep);
        };
        const auto wait_for_values = [&] {
            wgmma_wait<0>();
            pin_registers(o);
            if (lane == 0) barrier_arrive(shared.v_empty(v.stage));
            v.advance();
        };
        while (step > 0) {
            --step;
            barrier_wait(shared.k_full(k.stage), k.phase);
            // One lane reads it, the one that gives the stage back.
            if (looks) entry = __shfl_sync(0xffffffffu, lane == 0 ? entries_place(shared)[k.stage] : 0, 0);
            // Nothing is under way here, nor where the two kinds of step meet again.
            const bool masked = looks && (is_partial(entry) || (kParts > 1 && entry * kBlock == work.first_row));
            if (masked) {
$ for _, masked in ipairs({true, false}) do
$ local lazy = p.lazy_max == 1 and not masked
$ if not masked then
            } else {
$ end
                wait_turn();
                multiply_keys(s, q, k_tiles + k.stage * kTileStep);
                start_values();
                pass_turn();
                wgmma_wait<1>();
$ if lazy then
                pin_registers(s);
                float sums[2];
                exponentiate(s, state, scale_log2, sums);
                // That the tile is given back, if it is, hangs on all exponentials and comes before the wait, so that ptxas
                // does not move the wait up among them: they would be computed while nothing of this warpgroup is multiplied.
                const bool fits = sums_fit<Element>(sums);
                if (fits && lane == 0) barrier_arrive(shared.k_empty(k.stage));
#pragma unroll
                for (int half = 0; half < 2; ++half) state.sum[half] += fits ? sums[half] : 0.0f;
                wait_for_values();
                if (!fits) { // nothing is under way now
                    multiply_keys_again(s, q_rows, shared.k_tile(k.stage), lane);
                    softmax_step<false, false, true, 0>(s, state, scale_log2, kRescaleThreshold);
                    rescale_output(o, state);
                    __syncwarp();
                    if (lane == 0) barrier_arrive(shared.k_empty(k.stage));
                }
                k.advance();
$ else
                take_keys();
$ if masked then
                mask();
$ end
                softmax_step<false, ${masked}, true, 0>(s, state, scale_log2, kRescaleThreshold);
                wait_for_values();
                rescale_output(o, state);
$ end
                pack_probabilities(p, s);
$ end
            }
        }
$ if p.q_in_registers == 0 or p.lazy_max == 1 then
        if (lane == 0) barrier_arrive(shared.q_empty());
$ end

        start_values();
        ++number;
        more = has_tile();
        const auto end_tile = [&] {
            pin_registers(o);
            if (lane == 0) barrier_arrive(shared.v_empty(v.stage));
            v.advance();
            write_output(args.attend, work, o, state, work.first_row + thread_row, lane);
            __syncwarp();
            if (lane == 0) barrier_arrive(shared.work_empty((number - 1) % 2));
        };
        if (more) { // two paths, as products under way cannot cross where paths meet
            begin_tile();
            wgmma_wait<1>();
            end_tile();
            wgmma_wait<0>();
            take_keys();
        } else {
            wgmma_wait<0>();
            end_tile();
        }
    }
}

// grid = (SMs).
extern "C" __global__ void __launch_bounds__(kThreads, 1) ${symbol}(const __grid_constant__ tamis_attend_blocks_tma_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    const Shared shared = shared_layout(s_memory, 0);
    const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
    if (threadIdx.x == 0) init_barriers(shared, args.attend.indices != nullptr);
    follow_stream();
    __syncthreads();

    if (warpgroup == 0) {
        give_registers<${p.producer_registers}>();
        if (threadIdx.x == 0) load_keys_and_values(args, shared);
        if (threadIdx.x >= 32) load_queries(args, shared, static_cast<int>(threadIdx.x) - 32);
    } else {
        take_registers<${p.consumer_registers}>();
        compute(args, shared, warpgroup - 1);
    }
}
