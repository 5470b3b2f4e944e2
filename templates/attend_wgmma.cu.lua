$ -- attend_wgmma: attention for Hopper (sm_90a): one warpgroup feeds tiles through the tensor copy engine, the others
$ -- multiply with wgmma and do the softmax. Given index lists it gathers Q, scatters its rows and writes zeros to the rows
$ -- of dropped tokens, under the products. Blocks are persistent. Source of the mathematics: as attend; of the schedule
$ -- (softmax of one warpgroup under the products of the other, products of a step under the softmax of the next):
$ -- FlashAttention-3 (Shah and others, arXiv 2407.08608); of the deferred rescaling: FlashAttention-4.
$ local sub_tiles = (p.head_dim + 63) // 64
$ local block_m = 64 * p.warpgroups
$ local tile_bytes = sub_tiles * p.block_n * 128
$ local ones_bytes = p.sum_by_product * p.block_n * 128
$ local shared_bytes = sub_tiles * block_m * 128 + 2 * p.stages * tile_bytes + ones_bytes + 256
$ local symbol = "tamis_" .. p.name
$ local type = p.dtype == "bf16" and "bf16" or "f16"
$ local value_columns = p.head_dim + 8 * p.sum_by_product -- of V, the ones with it
$ local s_count, o_count, p_count = p.block_n // 2, value_columns // 2, p.block_n // 4
$ if p.block_m ~= block_m then reject("block_m must be 64 rows for each warpgroup") end
$ if p.block_n % 16 ~= 0 or p.block_n > 256 then reject("block_n must be a multiple of 16 up to 256") end
$ if p.producer_registers % 8 ~= 0 or p.consumer_registers % 8 ~= 0 then reject("register counts go in steps of 8") end
$ local given = use("registers").given(p.warpgroups + 1)
$ if p.producer_registers + p.warpgroups * p.consumer_registers > given then reject("more registers than an SM has") end
$ local accumulators = s_count + o_count + p.overlap * p_count
$ if accumulators + 18 > p.consumer_registers then reject("S, P and O do not fit in consumer_registers") end
$ if p.stages > 4 then reject("there are barriers for 4 stages") end
$ if p.sum_by_product == 1 and p.head_dim ~= 64 then reject("sum_by_product wants V in one piece: head_dim 64") end
$ if p.lazy_max == 1 and p.sum_by_product == 1 then reject("lazy_max looks at the sums, which sum_by_product leaves to the product") end
$ if p.lazy_max == 1 and p.exp2_emulation > 0 then reject("lazy_max wants exponents beyond those of exp2_emulation") end
$ if p.section_mib < 1 then reject("section_mib must hold some K and V") end
$ if p.ping_pong == 1 and p.warpgroups < 2 then reject("ping_pong needs two warpgroups that take turns") end
$ -- With a map, O and the rows that it is made of, before the next tile begins. ptxas keeps both whole.
$ local keeps_rows = p.head_dim <= 128
$ local mapped = p.output_map * (o_count + (keeps_rows and p.head_dim or p.block_n) // 4)
$ if mapped + 18 > p.consumer_registers then reject("O and the rows to be mapped do not fit in consumer_registers") end
$ local stage = p.output_map == 1 and "attend_map_tma" or "attend_tma"
$ local takes = p.output_map == 1 and "given" or "args"
$ entry{stage = stage, symbol = symbol, threads = 128 * (p.warpgroups + 1), shared_bytes = shared_bytes,
$       block_m = p.block_m, block_n = p.block_n}
$ local wgmma = use("wgmma")
#include "kernel_args.h"
#include "ptx.cuh"
#include "tile.cuh"
#include "hopper.cuh"
#include "softmax.cuh"
#include "dropped.cuh"
$ if p.output_map == 1 then
#include "map_args.h"
$ end

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kWarpgroups = ${p.warpgroups}; // that compute; one more loads
constexpr int kBlockM = 64 * kWarpgroups;    // queries a tile, 64 a warpgroup
constexpr int kBlockN = ${p.block_n};        // keys a step
constexpr int kStages = ${p.stages};         // K tiles in flight, and as many V tiles
constexpr bool kPingPong = ${p.ping_pong == 1}; // warpgroups take turns: one multiplies while the other exponentiates
constexpr float kRescaleThreshold = ${p.rescale_threshold}.0f; // log2 by which a row's maximum may grow before O is rescaled
constexpr bool kSumByProduct = ${p.sum_by_product == 1}; // V has a column of ones, whose product with P is the row sum
constexpr int kEmulated = ${p.exp2_emulation}; // percent of the exponentials that the FMA pipe computes
constexpr long long kSectionBytes = ${p.section_mib}ll << 20; // K and V that may be in use at once: what L2 keeps
constexpr int kLogits = kBlockN / 2; // of S a thread: two rows of kBlockN / 4
constexpr int kOutputs = ${o_count}; // of O a thread, the row sums with it if V has the ones
constexpr int kOnesBytes = kSumByProduct ? kBlockN * 128 : 0;

// One tile of work: kBlockM queries of one head. No steps: there is no more work.
struct Work {
    int sequence, head, first_row, rows; // rows: of the sequence
    int steps;                           // blocks of keys, walked from the last to the first
    int full;                            // 1: reads the full tensors, not the compact ones
};

#include "attend_tma.cuh"

constexpr int kSharedBytes = kTilesBytes + kOnesBytes + kBarriersBytes;
static_assert(kSharedBytes == ${shared_bytes}, "the launch and the kernel disagree on shared memory");

// The columns behind V: ones in the first, zeros in the others, as the swizzle has them. They lie behind all tiles.
__device__ __forceinline__ unsigned ones_place(const Shared &shared) { return shared.barriers - kOnesBytes; }

__device__ __forceinline__ void write_ones(unsigned ones, int thread)
{
    for (int i = thread; i < kBlockN * 8; i += kThreads) {
        const int row = i / 8, chunk = i % 8 ^ row % 8;
        const unsigned first = chunk == 0 ? Element::kOne : 0;
        store_shared_16(ones + i * 16, first, 0);
    }
}

// ---- the loading warpgroup

// Heads whose tiles are handed out together: as many as share K and V that stay in L2, evenly, as the last ones of all would
// leave SMs idle if they were few.
__device__ __forceinline__ int section_heads(const tamis_attend_tma_args &args)
{
    const long long head_bytes = args.attend.capacity * (4ll * kHeadDim); // of K and V
    const int group = args.attend.q_heads / args.attend.compact_heads, heads_kv = args.heads / group;
    const int most = static_cast<int>(min(max(kSectionBytes / head_bytes, 1ll), static_cast<long long>(heads_kv)));
    const int sections = (heads_kv + most - 1) / most;
    return (heads_kv + sections - 1) / sections * group;
}

// The `index`-th tile of all: section by section of heads, in each from the longest tile to the shortest. One behind a
// sequence's rows has no steps.
__device__ __forceinline__ void find_work(Work &work, const tamis_attend_tma_args &args, unsigned in_section, unsigned index)
{
    const unsigned a_section = in_section * args.tiles;
    const int first = static_cast<int>(index / a_section * in_section), place = static_cast<int>(index % a_section);
    const int heads = min(static_cast<int>(in_section), args.heads - first);
    const int head = first + place % heads;
    work.sequence = head / args.attend.q_heads;
    work.head = head % args.attend.q_heads;
    work.rows = args.attend.kept ? args.attend.kept[work.sequence] : static_cast<int>(args.attend.seq_len);
    work.full = args.attend.k_full.data && work.rows == args.attend.seq_len;
    const int tile = (work.rows + kBlockM - 1) / kBlockM - 1 - place / heads;
    work.first_row = tile * kBlockM;
    const int last_key = args.attend.causal ? min(work.first_row + kBlockM, work.rows) - 1 : work.rows - 1;
    work.steps = tile < 0 ? 0 : last_key / kBlockN + 1;
}

// One thread: takes the next tile whenever it is done with one, and loads K of each step, and V one step behind, in the order
// in which they are needed.
$ if p.output_map == 1 then
// Behind V comes the head's output map, as if it were values.
__device__ __forceinline__ void load_keys_and_values(const tamis_attend_tma_args &args, const Shared &shared,
                                                     const void *output_map)
$ else
__device__ __forceinline__ void load_keys_and_values(const tamis_attend_tma_args &args, const Shared &shared)
$ end
{
    Ring<kStages> k, v;
    Work work;
    unsigned number = 0;
    const unsigned in_section = section_heads(args), tiles = static_cast<unsigned>(args.heads) * args.tiles;
    for (unsigned index = blockIdx.x, next; index < tiles; index = next) {
        next = gridDim.x + atomicAdd(args.counter, 1u); // here, so that the answer is there when it is needed
        find_work(work, args, in_section, index);
        if (work.steps == 0) continue;
        publish(shared, work, number++);
        const void *k_map = work.full ? &args.k_full : &args.k, *v_map = work.full ? &args.v_full : &args.v;
        const int kv_head = work.head / (args.attend.q_heads / (work.full ? args.attend.kv_heads : args.attend.compact_heads));
        for (int step = work.steps - 1; step >= -1; --step) {
            if (step >= 0) {
                barrier_wait(shared.k_empty(k.stage), k.phase ^ 1);
                load_tile(shared.k_tile(k.stage), shared.k_full(k.stage), k_map, step * kBlockN, kv_head, work.sequence);
                k.advance();
            }
            if (step < work.steps - 1) {
                barrier_wait(shared.v_empty(v.stage), v.phase ^ 1);
                load_tile(shared.v_tile(v.stage), shared.v_full(v.stage), v_map, (step + 1) * kBlockN, kv_head,
                          work.sequence);
                v.advance();
            }
        }
$ if p.output_map == 1 then
        for (int row = 0; row < kHeadDim; row += kBlockN) {
            barrier_wait(shared.v_empty(v.stage), v.phase ^ 1);
            load_tile(shared.v_tile(v.stage), shared.v_full(v.stage), output_map, row, work.head, 0);
            v.advance();
        }
$ end
    }
    work.steps = 0;
    publish(shared, work, number);
}

// ---- the computing warpgroups

// S = Q K^T or S += Q K^T, 16 of the head dim.
$ local keys = wgmma.product{name = "wgmma_keys", columns = p.block_n, type = type}
$ for _, line in ipairs(keys) do
${line}
$ end

// O += P V, 16 keys.
$ local values = wgmma.product{name = "wgmma_values", columns = value_columns, type = type, registers = true, adds = true}
$ for _, line in ipairs(values) do
${line}
$ end

#include "attend_wgmma.cuh"
$ if p.output_map == 1 then
#include "map_wgmma.cuh"

$ end
$ if p.output_map == 1 then
// Write the tile's rows, normalised and mapped, to their tokens' places, and their log-sum-exp.
$ else
// Normalise the tile's rows and write them to their tokens' places, and their log-sum-exp.
$ end
__device__ __forceinline__ void write_output(const tamis_attend_args &attend, const Work &work, const float (&o)[kOutputs],
                                             const Softmax &state, int row_above, int lane)
{
    const OutputRows rows(attend, work);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float sum = !kSumByProduct || attend.lse ? quad_sum(state.sum[half]) : 1.0f;
$ if p.output_map == 1 then
        constexpr float inverse = 1.0f;
$ else
        float inverse = 1.0f / sum;
        // Of a row's four lanes the first has the sum that came with O. It is not shuffled itself: ptxas would not have that
        // near products under way.
        if (kSumByProduct) inverse = __shfl_sync(0xffffffffu, 1.0f / o[kHeadDim / 2 + 2 * half], lane & ~3);
$ end
        rows.write(o, state, half, sum, inverse, row_above + 8 * half, lane);
    }
}

// A warpgroup's part of every tile. The first product of a tile starts before the one before it is written.
__device__ __forceinline__ void compute(const tamis_attend_tma_args &args, const Shared &shared, int warpgroup)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const int my_turn = 1 + warpgroup, next_turn = 1 + (warpgroup + 1) % kWarpgroups;
    const float scale_log2 = args.attend.scale_log2;
    const bool wants_lse = args.attend.lse != nullptr; // the product sums P as it was rounded, which is not enough for that
    const unsigned q = descriptor_low(shared.q + warpgroup * 64 * 128, 0);
    const unsigned k_tiles = descriptor_low(shared.k, 0);
    const unsigned v_tiles = descriptor_low(shared.v, kSumByProduct ? ones_place(shared) - shared.v : kBlockN * 128);
    // What stages differ by in a descriptor: the address grows, and the distance to the ones, which lie behind all, shrinks.
    constexpr unsigned kTileStep = kTileBytes >> 4, kValueStep = kTileStep - (kSumByProduct ? kTileStep << 16 : 0);
    const int thread_row = warpgroup * 64 + warp * 16 + lane / 4; // in the tile
    Ring<kStages> k, v;
    unsigned number = 0; // of the tile
    float s[kLogits];

    // Take the next tile of work and start its first product. False: there is none.
    const auto begin_tile = [&] {
        barrier_wait(shared.work_full(number % 2), number / 2 % 2);
        if (shared.slots[number % 2].steps == 0) return false;
        barrier_wait(shared.q_full(), number % 2);
        barrier_wait(shared.k_full(k.stage), k.phase);
        multiply_keys(s, q, k_tiles + k.stage * kTileStep);
        return true;
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

    if (kPingPong && warpgroup == kWarpgroups - 1) named_arrive(next_turn, 256); // the first turn is warpgroup 0's
    bool more = begin_tile();
    if (more) {
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

        int step = work.steps - 1;
        // Blocks that end at or before the warpgroup's first row's last key need no mask.
        const int open = (args.attend.causal ? min(work.first_row + warpgroup * 64 + 1, work.rows) : work.rows) / kBlockN;
        const auto mask = [&] {
            const int row = work.first_row + thread_row, last = work.rows - 1;
            mask_logits(s, (args.attend.causal ? min(row, last) : last) - step * kBlockN,
                        (args.attend.causal ? min(row + 8, last) : last) - step * kBlockN, lane);
        };
        const int behind = work.rows - step * kBlockN; // keys of the block that exist
        if (behind < kBlockN) {
            barrier_wait(shared.v_full(v.stage), v.phase);
            clear_values(shared.v_tile(v.stage), behind, threadIdx.x - 128);
            fence_async_proxy();
            named_sync(8, 128 * kWarpgroups);
        }
        mask();
        softmax_step<true, true, !kSumByProduct, kEmulated>(s, state, scale_log2, kRescaleThreshold);
        if (kSumByProduct && wants_lse) add_probabilities<true>(s, state);
$ if p.lazy_max == 1 then
        // Rows of Q behind the last may hold anything. Their probabilities become 0 or nothing, so that they never make their
        // warp multiply again, and the rows before them get the same bits whatever it is.
#pragma unroll
        for (int half = 0; half < 2; ++half)
            if (work.first_row + thread_row + 8 * half >= work.rows) state.max[half] = kInfinity;
$ end
        pack_probabilities(p, s);

        const auto wait_turn = [&] {
            if (kPingPong) named_sync(my_turn, 256);
        };
        const auto pass_turn = [&] {
            if (kPingPong) named_arrive(next_turn, 256);
        };
        const auto start_values = [&] {
            barrier_wait(shared.v_full(v.stage), v.phase);
            multiply_values(o, p, v_tiles + v.stage * kValueStep);
        };
        const auto wait_for_values = [&] {
            wgmma_wait<0>();
            pin_registers(o);
            if (lane == 0) barrier_arrive(shared.v_empty(v.stage));
            v.advance();
        };
$ for _, masked in ipairs({true, false}) do
$ local lazy = p.lazy_max == 1 and not masked
$ if masked then
        while (step > open) { // the diagonal or the sequence's end crosses these
$ else
        while (step > 0) {
$ end
            --step;
$ if p.overlap == 1 then
            barrier_wait(shared.k_full(k.stage), k.phase);
            wait_turn();
            multiply_keys(s, q, k_tiles + k.stage * kTileStep);
            start_values();
            pass_turn();
            wgmma_wait<1>();
$ else
            start_values();
            barrier_wait(shared.k_full(k.stage), k.phase);
            wait_for_values();
            wait_turn();
            multiply_keys(s, q, k_tiles + k.stage * kTileStep);
            pass_turn();
            wgmma_wait<0>();
$ end
$ if lazy then
            pin_registers(s);
            float sums[2];
            exponentiate(s, state, scale_log2, sums);
            const bool fits = sums_fit<Element>(sums);
#pragma unroll
            for (int half = 0; half < 2; ++half) state.sum[half] += fits ? sums[half] : 0.0f;
$ else
            take_keys();
$ if masked then
            mask();
$ end
            softmax_step<false, ${masked}, !kSumByProduct, kEmulated>(s, state, scale_log2, kRescaleThreshold);
$ end
$ if p.overlap == 1 then
            wait_for_values();
$ end
$ if lazy then
            if (!fits) { // nothing is under way now
                multiply_keys_again(s, shared.q + (warpgroup * 64 + warp * 16) * 128, shared.k_tile(k.stage), lane);
                softmax_step<false, false, true, 0>(s, state, scale_log2, kRescaleThreshold);
                rescale_output(o, state);
                __syncwarp();
            }
            release_keys();
$ else
            rescale_output(o, state);
            if (kSumByProduct && wants_lse) add_probabilities<false>(s, state);
$ end
            pack_probabilities(p, s);
        }
$ end
$ if p.output_map == 0 or keeps_rows then
        if (lane == 0) barrier_arrive(shared.q_empty());
$ end

        start_values();
$ if p.output_map == 1 then
        wait_for_values();
$ if keeps_rows then
        unsigned rows[kRowWords];
        pack_rows(o, state, lane, [&](int at, const unsigned (&words)[4]) {
#pragma unroll
            for (int i = 0; i < 4; ++i) rows[at + i] = words[i];
        });
$ else
        const unsigned place = words_place(shared.q + warpgroup * 64 * 128, static_cast<int>(threadIdx.x) % 128, 0);
        named_sync(9 + warpgroup, 128); // all its warps are done with Q
        pack_rows(o, state, lane,
                  [&](int at, const unsigned (&words)[4]) { store_words(words_place(place, 0, at), words); });
$ end
#pragma unroll
        for (int first = 0; first < kHeadDim; first += kBlockN) {
$ if not keeps_rows then
            unsigned rows[kBlockN / 4];
#pragma unroll
            for (int i = 0; i < kBlockN / 4; i += 4)
                if (first / 4 + i < kRowWords) load_words(rows + i, words_place(place, 0, first / 4 + i));
$ end
            barrier_wait(shared.v_full(v.stage), v.phase);
            multiply_map(o, rows${keeps_rows and " + first / 4" or ""}, v_tiles + v.stage * kValueStep, first);
            wait_for_values();
        }
$ if not keeps_rows then
        fence_async_proxy(); // what was stored, before the next Q is copied there
        __syncwarp();
        if (lane == 0) barrier_arrive(shared.q_empty());
$ end
        // The product that begins the next tile writes S, and as operands go it has read it: S is kept from here on, not
        // before.
#pragma unroll
        for (int i = 0; i < kLogits; ++i) s[i] = 0.0f;
$ end
        ++number;
        more = begin_tile();
        const auto end_tile = [&] {
$ if p.output_map == 0 then
            pin_registers(o);
            if (lane == 0) barrier_arrive(shared.v_empty(v.stage));
            v.advance();
$ end
            write_output(args.attend, work, o, state, work.first_row + thread_row, lane);
            __syncwarp();
            if (lane == 0) barrier_arrive(shared.work_empty((number - 1) % 2));
        };
        if (more) { // two paths, as products under way cannot cross where paths meet
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
extern "C" __global__ void __launch_bounds__(kThreads, 1) ${symbol}(const __grid_constant__ tamis_${stage}_args ${takes})
{
$ if p.output_map == 1 then
    const tamis_attend_tma_args &args = given.run;
$ end
    extern __shared__ __align__(1024) char s_memory[];
    const Shared shared = shared_layout(s_memory, kOnesBytes);
    const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
    if (kSumByProduct) {
        write_ones(ones_place(shared), static_cast<int>(threadIdx.x));
        fence_async_proxy();
    }
    if (threadIdx.x == 0) init_barriers(shared, args.attend.indices != nullptr);
    follow_stream();
    __syncthreads();

    if (warpgroup == 0) {
        give_registers<${p.producer_registers}>();
        if (threadIdx.x == 0) load_keys_and_values(args, shared${p.output_map == 1 and ", &given.output_map" or ""});
        if (threadIdx.x >= 32) load_queries(args, shared, static_cast<int>(threadIdx.x) - 32);
    } else {
        take_registers<${p.consumer_registers}>();
        compute(args, shared, warpgroup - 1);
    }
}
