$ -- attend_blocks_wgmma: block-sparse attention for Hopper (sm_90a), on lists of blocks: the schedule of attend_wgmma with the
$ -- tiles of attend_blocks: 128 queries, which have one list, in two warpgroups of 64. What a step attends to, its block and
$ -- mask, goes through the ring with the keys; tiles come in an order that is made on the device beforehand, the longest lists
$ -- first. Given index lists it gathers Q, scatters its rows and writes zeros to the rows of dropped tokens. Sources as there.
$ local asm = use("asm")
$ local sub_tiles = (p.head_dim + 63) // 64
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
constexpr int kThreads = 128 * (kWarpgroups + 1);
constexpr int kGatherWarps = 3; // of the loading warpgroup, behind the first
constexpr int kGatherThreads = 32 * kGatherWarps;

// Rows in shared memory are cut into columns of 64 elements, 128 bytes, in which 16-byte chunks are swizzled.
constexpr int kSubTiles = (kHeadDim + 63) / 64;
constexpr int kQueryBytes = kSubTiles * kBlockM * 128;
constexpr int kTileBytes = kSubTiles * kBlockN * 128; // of one K or V tile
constexpr int kLogits = kBlockN / 2;                  // of S a thread: two rows of kBlockN / 4
constexpr int kOutputs = kHeadDim / 2;                // of O a thread
constexpr float kLn2 = 0.693147180559945f;
constexpr int kSharedBytes = kQueryBytes + 2 * kStages * kTileBytes + 256;
static_assert(kSharedBytes == ${shared_bytes}, "the launch and the kernel disagree on shared memory");

// One tile of work: kBlockM queries of one head. No steps: there is no more work.
struct Work {
    int sequence, head, first_row, rows; // rows: of the sequence
    int steps;                           // parts of listed blocks, walked from the last to the first
    int entry;                           // of the list, of the first step
    int full;                            // 1: reads the full tensors, not the compact ones
};

// Where things lie in shared memory; tiles on 1024-byte boundaries, as the swizzle wants.
struct Shared {
    unsigned q, k, v, barriers;
    Work *slots;  // two, filled in turn
    int *entries; // of the list, one a stage: what the K tile there is
    __device__ __forceinline__ unsigned k_tile(int stage) const { return k + stage * kTileBytes; }
    __device__ __forceinline__ unsigned v_tile(int stage) const { return v + stage * kTileBytes; }
    __device__ __forceinline__ unsigned k_full(int stage) const { return barriers + 8 * stage; }
    __device__ __forceinline__ unsigned k_empty(int stage) const { return barriers + 8 * (kStages + stage); }
    __device__ __forceinline__ unsigned v_full(int stage) const { return barriers + 8 * (2 * kStages + stage); }
    __device__ __forceinline__ unsigned v_empty(int stage) const { return barriers + 8 * (3 * kStages + stage); }
    __device__ __forceinline__ unsigned q_full() const { return barriers + 8 * (4 * kStages); }
    __device__ __forceinline__ unsigned q_empty() const { return barriers + 8 * (4 * kStages + 1); }
    __device__ __forceinline__ unsigned work_full(int slot) const { return barriers + 8 * (4 * kStages + 2 + slot); }
    __device__ __forceinline__ unsigned work_empty(int slot) const { return barriers + 8 * (4 * kStages + 4 + slot); }
};

__device__ __forceinline__ Shared shared_layout(char *memory)
{
    constexpr int kV = kQueryBytes + kStages * kTileBytes, kBarriers = kV + kStages * kTileBytes;
    constexpr int kSlots = kBarriers + 8 * (4 * kStages + 6);
    static_assert(kSlots + 2 * sizeof(Work) + 4 * kStages <= kSharedBytes, "barriers and slots need more room");
    const unsigned base = shared_address(memory);
    return {base, base + kQueryBytes, base + kV, base + kBarriers, reinterpret_cast<Work *>(memory + kSlots),
            reinterpret_cast<int *>(memory + kSlots + 2 * sizeof(Work))};
}

#include "attend_tma.cuh"

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

// Into a place that is free.
__device__ __forceinline__ void load_tile(unsigned tile, unsigned full, const void *map, int row, int head, int sequence)
{
    barrier_expect(full, kTileBytes);
#pragma unroll
    for (int i = 0; i < kSubTiles; ++i) tensor_load(tile + i * kBlockN * 128, map, full, 64 * i, row, head, sequence);
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
                shared.entries[k.stage] = entry;
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

$ if p.q_in_registers == 0 then
// S = Q K^T or S += Q K^T, 16 of the head dim.
__device__ __forceinline__ void wgmma_keys(float (&s)[kLogits], unsigned long long q, unsigned long long k, int accumulate)
{
    asm volatile("{\n"
                 ".reg .pred accumulate;\n"
                 "setp.ne.b32 accumulate, %${s_count + 2}, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n${p.block_n}k16.f32.${type}.${type} {"
$ for i = 0, s_count - 1, 8 do
                 "${string.sub(asm.operands(i, 8), 1, i + 8 < s_count and -1 or -3)}"
$ end
                 "}, %${s_count}, %${s_count + 1}, accumulate, 1, 1, 0, 0;\n"
                 "}"
                 : ${asm.outputs("s", 0, 8)}
$ for i = 8, s_count - 1, 8 do
                 , ${asm.outputs("s", i, 8)}
$ end
                 : "l"(q), "l"(k), "r"(accumulate));
}

$ end
// O += P V, 16 keys.
__device__ __forceinline__ void wgmma_values(float (&o)[kOutputs], const unsigned *p, unsigned long long v)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n${p.head_dim}k16.f32.${type}.${type} {"
$ for i = 0, o_count - 1, 4 do
                 "${string.sub(asm.operands(i, 4), 1, i + 4 < o_count and -1 or -3)}"
$ end
                 "}, {%${o_count}, %${o_count + 1}, %${o_count + 2}, %${o_count + 3}}, %${o_count + 4}, 1, 1, 1, 1;"
                 : ${asm.outputs("o", 0, 4)}
$ for i = 4, o_count - 1, 4 do
                 , ${asm.outputs("o", i, 4)}
$ end
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v));
}

$ if p.q_in_registers == 1 then
// The same with the 64 rows of Q from registers.
__device__ __forceinline__ void wgmma_keys(float (&s)[kLogits], const unsigned (&q)[4], unsigned long long k, int accumulate)
{
    asm volatile("{\n"
                 ".reg .pred accumulate;\n"
                 "setp.ne.b32 accumulate, %${s_count + 5}, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n${p.block_n}k16.f32.${type}.${type} {"
$ for i = 0, s_count - 1, 8 do
                 "${string.sub(asm.operands(i, 8), 1, i + 8 < s_count and -1 or -3)}"
$ end
                 "}, {%${s_count}, %${s_count + 1}, %${s_count + 2}, %${s_count + 3}}, %${s_count + 4}, accumulate, 1, 1, 0;\n"
                 "}"
                 : ${asm.outputs("s", 0, 8)}
$ for i = 8, s_count - 1, 8 do
                 , ${asm.outputs("s", i, 8)}
$ end
                 : "r"(q[0]), "r"(q[1]), "r"(q[2]), "r"(q[3]), "l"(k), "r"(accumulate));
}

// `k` and `v` are low halves of descriptors.
__device__ __forceinline__ void multiply_keys(float (&s)[kLogits], const unsigned (&q)[kHeadDim / 16][4], unsigned k)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i)
        wgmma_keys(s, q[i], matrix_descriptor(k, (i / 4) * kBlockN * 128 + (i % 4) * 32), i > 0);
    wgmma_commit();
}

$ else
// `q`, `k` and `v` are low halves of descriptors.
__device__ __forceinline__ void multiply_keys(float (&s)[kLogits], unsigned q, unsigned k)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i)
        wgmma_keys(s, matrix_descriptor(q, (i / 4) * kBlockM * 128 + (i % 4) * 32),
                   matrix_descriptor(k, (i / 4) * kBlockN * 128 + (i % 4) * 32), i > 0);
    wgmma_commit();
}

$ end
__device__ __forceinline__ void multiply_values(float (&o)[kOutputs], const unsigned (&p)[kBlockN / 4], unsigned v)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kBlockN / 16; ++i) wgmma_values(o, p + 4 * i, matrix_descriptor(v, i * 2048));
    wgmma_commit();
}

$ if p.lazy_max == 1 or p.q_in_registers == 1 then
// 16 columns of a warp's 16 rows of Q, as both kinds of product take them from registers. `q` is the first row.
__device__ __forceinline__ void load_queries_16(unsigned (&a)[4], unsigned q, int i, int lane)
{
    load_matrix_x4(a, q + lane % 16 * 128 + i / 4 * kBlockM * 128 + ((i % 4 * 2 + lane / 16) ^ lane % 8) * 16);
}

$ end
$ if p.lazy_max == 1 then
// S = Q K^T once more, of this warp's 16 rows alone, from the tiles that are still there.
__device__ __forceinline__ void multiply_keys_again(float (&s)[kLogits], unsigned q, unsigned k, int lane)
{
#pragma unroll
    for (int i = 0; i < kLogits; ++i) s[i] = 0.0f;
    const unsigned k_row = k + (lane / 16 * 8 + lane % 8) * 128;
#pragma unroll 1
    for (int i = 0; i < kHeadDim / 16; ++i) {
        unsigned a[4], b[4];
        load_queries_16(a, q, i, lane);
#pragma unroll
        for (int n = 0; n < kBlockN / 16; ++n) {
            load_matrix_x4(b, k_row + i / 4 * kBlockN * 128 + n * 2048 + ((i % 4 * 2 + lane / 8 % 2) ^ lane % 8) * 16);
            Element::mma(s + 8 * n, a, b[0], b[1]);
            Element::mma(s + 8 * n + 4, a, b[2], b[3]);
        }
    }
}

$ end
// Normalise the tile's rows and write them to their tokens' places, and their log-sum-exp, -inf where the sum is 0.
__device__ __forceinline__ void write_output(const tamis_attend_args &attend, const Work &work, const float (&o)[kOutputs],
                                             const Softmax &state, int row_above, int lane)
{
    const int *token = token_list(attend, work);
    char *output = const_cast<char *>(row_pointer(attend.output, work.sequence, work.head, 0));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float sum = quad_sum(state.sum[half]);
        const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum; // 0: the row has seen no key
        const int row = row_above + 8 * half;
        const bool valid = row < work.rows;
        const int place = valid && token ? token[row] : row;
        if (attend.lse && valid && lane % 4 == 0)
            attend.lse[(static_cast<long long>(work.sequence) * attend.q_heads + work.head) * attend.lse_rows + place] =
                (state.max[half] * attend.scale_log2 + log2f(sum)) * kLn2;
        char *out = output + 2 * attend.output.row_stride * place + lane % 4 * 16;
#pragma unroll
        for (int n = 0; n < kHeadDim / 8; n += 4) {
            unsigned packed[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
                packed[i] = Element::pack(o[4 * (n + i) + 2 * half] * inverse, o[4 * (n + i) + 2 * half + 1] * inverse);
            const int4 value = exchange_chunks(packed, lane);
            if (valid) *reinterpret_cast<int4 *>(out + n * 16) = value;
        }
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
            if (looks) entry = __shfl_sync(0xffffffffu, lane == 0 ? shared.entries[k.stage] : 0, 0);
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
    const Shared shared = shared_layout(s_memory);
    const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
    if (threadIdx.x == 0) {
        const int query_threads = args.attend.indices ? kGatherThreads : 1;
        for (int stage = 0; stage < kStages; ++stage) {
            barrier_init(shared.k_full(stage), 1);
            barrier_init(shared.v_full(stage), 1);
            barrier_init(shared.k_empty(stage), 4 * kWarpgroups); // a warp each
            barrier_init(shared.v_empty(stage), 4 * kWarpgroups);
        }
        barrier_init(shared.q_full(), query_threads);
        barrier_init(shared.q_empty(), 4 * kWarpgroups);
        for (int slot = 0; slot < 2; ++slot) {
            barrier_init(shared.work_full(slot), 1);
            barrier_init(shared.work_empty(slot), 4 * kWarpgroups + query_threads);
        }
        barrier_init_fence();
    }
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
