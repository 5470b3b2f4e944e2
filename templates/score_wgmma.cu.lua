$ -- score_wgmma: score for Hopper (sm_90a), the same two passes as score.cu.lua. Both have one form: rows stay in registers as
$ -- the first operand of the products, tiles of the other operand come through a ring in shared memory, which one thread
$ -- keeps full through the tensor copy engine. Exponentials take as long as the products, so that each warpgroup goes its
$ -- own way: while some multiply, others exponentiate. Blocks are persistent: each has a run of the items of work.
$ local row_bytes = (p.head_dim + 63) // 64 * 128 -- of one row in shared memory
$ local stats_shared = p.stages * p.stats_block_n * row_bytes + 256
$ local sum_shared = (64 * p.sum_warpgroups + p.stages * p.sum_block_n) * row_bytes + 256
$ local symbol = "tamis_" .. p.name
$ local type = p.dtype == "bf16" and "bf16" or "f16"
$ local function threads(warpgroups) return 128 * (warpgroups + 1) end
$ -- What the loading warpgroup gives back of the registers that all start with goes to those that compute.
$ local loading_registers = 24
$ local function registers(warpgroups)
$     return math.min(240, (use("registers").given(warpgroups + 1) - loading_registers) // warpgroups // 8 * 8)
$ end
$ -- The operand of the rows and the logits, and about 40 for all else.
$ local function crowded(block_n, warpgroups) return p.head_dim // 4 + block_n // 2 + 40 > registers(warpgroups) end
$ if p.stats_block_n % 16 ~= 0 or p.sum_block_n % 16 ~= 0 then reject("block_n must be a multiple of 16") end
$ if 256 % p.stats_block_n ~= 0 then reject("stats_block_n must divide 256, of which a chunk of keys is a multiple") end
$ if 64 % p.sum_block_n ~= 0 then reject("sum_block_n must divide 64, of which a row of lse2 is a multiple") end
$ if p.stages < 2 or p.stages > 12 then reject("stages must be 2 to 12: there are barriers for so many") end
$ if crowded(p.stats_block_n, p.stats_warpgroups) or crowded(p.sum_block_n, p.sum_warpgroups) then
$     reject("the logits and the rows' operand do not fit the registers")
$ end
$ entry{stage = "score_stats_tma", symbol = symbol .. "_stats", threads = threads(p.stats_warpgroups),
$       shared_bytes = stats_shared, block_m = 64 * p.stats_warpgroups, block_n = p.stats_block_n}
$ entry{stage = "score_merge", symbol = symbol .. "_merge", threads = 256, shared_bytes = 0, block_m = 32, block_n = 0}
$ entry{stage = "score_sum_tma", symbol = symbol .. "_sum", threads = threads(p.sum_warpgroups), shared_bytes = sum_shared,
$       block_m = 64 * p.sum_warpgroups, block_n = p.sum_block_n}
#include "kernel_args.h"
#include "ptx.cuh"
#include "tile.cuh"
#include "hopper.cuh"
#include "softmax.cuh"

constexpr int kHeadDim = ${p.head_dim};
constexpr int kStages = ${p.stages};       // tiles in flight
constexpr int kDepths = kHeadDim / 16;     // products that make up a tile's
constexpr float kRescaleThreshold = 16.0f; // log2 by which a maximum may grow before its sum is rescaled

// Rows in shared memory are cut into columns of 64 elements, 128 bytes, in which 16-byte chunks are swizzled.
constexpr int kSubTiles = (kHeadDim + 63) / 64;

// First pass: rows are (query head of the group, window query) pairs, 64 a warpgroup; columns are keys.
constexpr int kStatsWarpgroups = ${p.stats_warpgroups};
constexpr int kStatsThreads = 128 * (kStatsWarpgroups + 1); // the last warpgroup loads
constexpr int kStatsBlockM = 64 * kStatsWarpgroups;
constexpr int kStatsBlockN = ${p.stats_block_n};

// Second pass: rows are keys, 64 a warpgroup; columns are window queries of one head.
constexpr int kSumWarpgroups = ${p.sum_warpgroups};
constexpr int kSumThreads = 128 * (kSumWarpgroups + 1);
constexpr int kSumBlockM = 64 * kSumWarpgroups;
constexpr int kSumBlockN = ${p.sum_block_n};

constexpr int kMergeThreads = 256;
constexpr int kMergeLanes = 8; // share a row

template <int kRows>
constexpr int kTileBytes = kSubTiles * kRows * 128;

// The items of work of this block: a run of all of them, so that neighbours share rows.
struct Items {
    long long begin, end;
};

__device__ __forceinline__ Items my_items(long long items)
{
    return {items * blockIdx.x / gridDim.x, items * (blockIdx.x + 1) / gridDim.x};
}

// The ring of tiles: where they lie, and for each a barrier for "full" and one for "empty".
template <int kRows>
struct Tiles {
    unsigned first, barriers;
    __device__ __forceinline__ unsigned tile(int stage) const { return first + stage * kTileBytes<kRows>; }
    __device__ __forceinline__ unsigned full(int stage) const { return barriers + 8 * stage; }
    __device__ __forceinline__ unsigned empty(int stage) const { return barriers + 8 * (kStages + stage); }
    __device__ __forceinline__ void init(int warps) const
    {
        for (int stage = 0; stage < kStages; ++stage) {
            barrier_init(full(stage), 1);
            barrier_init(empty(stage), warps);
        }
    }
};

// Bring kRows rows of a head to shared memory; `barrier` counts the bytes.
template <int kRows>
__device__ __forceinline__ void load_tile(unsigned tile, const tamis_tensor_map &map, unsigned barrier, long long row, int head,
                                          int sequence)
{
    barrier_expect(barrier, kTileBytes<kRows>);
#pragma unroll
    for (int i = 0; i < kSubTiles; ++i)
        tensor_load(tile + i * kRows * 128, &map, barrier, 64 * i, static_cast<int>(row), head, sequence);
}

// The same for the next place in the ring, once it is empty.
template <int kRows>
__device__ __forceinline__ void load_next(const Tiles<kRows> &tiles, Ring<kStages> &ring, const tamis_tensor_map &map,
                                          long long row, int head, int sequence)
{
    barrier_wait(tiles.empty(ring.stage), ring.phase ^ 1);
    load_tile<kRows>(tiles.tile(ring.stage), map, tiles.full(ring.stage), row, head, sequence);
    ring.advance();
}
$ local sizes = p.stats_block_n == p.sum_block_n and {p.stats_block_n} or {p.stats_block_n, p.sum_block_n}
$ for _, columns in ipairs(sizes) do

// S = A B^T or S += A B^T on ${columns} columns, 16 of the head dim.
$ for _, line in ipairs(use("wgmma").product{name = "wgmma", columns = columns, type = type, registers = true}) do
${line}
$ end
$ end

// Warpgroups take turns on the tensor cores. Products that start together would share them, end together, and leave them idle
// under everybody's exponentials.
template <int kWarpgroups>
struct Turn {
    int mine, next;
    __device__ __forceinline__ explicit Turn(int warpgroup) : mine(1 + warpgroup), next(1 + (warpgroup + 1) % kWarpgroups)
    {
        if (kWarpgroups > 1 && warpgroup == kWarpgroups - 1) pass(); // the first one is warpgroup 0's
    }
    __device__ __forceinline__ void wait() const
    {
        if (kWarpgroups > 1) named_sync(mine, 256);
    }
    __device__ __forceinline__ void pass() const
    {
        if (kWarpgroups > 1) named_arrive(next, 256);
    }
};

// S = A B^T over the head dim, B being the next tile of the ring, which is given back. The turn passes with half of the
// products still to do, so that the tensor cores are not idle while it does.
template <int kRows, int kWarpgroups>
__device__ __forceinline__ void multiply_next(float (&s)[kRows / 2], const unsigned (&a)[kDepths][4], const Tiles<kRows> &tiles,
                                              Ring<kStages> &ring, const Turn<kWarpgroups> &turn, int lane)
{
    const unsigned b = descriptor_low(tiles.tile(ring.stage), 0);
    barrier_wait(tiles.full(ring.stage), ring.phase);
    turn.wait();
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kDepths; ++i) {
        if (i == kDepths / 2) wgmma_commit();
        wgmma(s, a[i], matrix_descriptor(b, (i / 4) * (kRows * 128) + (i % 4) * 32), i > 0);
    }
    wgmma_commit();
    wgmma_wait<1>();
    turn.pass();
    wgmma_wait<0>();
    pin_registers(s);
    if (lane == 0) barrier_arrive(tiles.empty(ring.stage));
    ring.advance();
}

// ---- the first pass

// What an item of the first pass is: a chunk of keys of one KV head for a tile of rows. Neighbours share the rows.
struct StatsItem {
    int chunk, sequence, kv_head, first_row, steps;
    long long first_key;
};

__device__ __forceinline__ StatsItem stats_item(const tamis_score_args &args, int row_tiles, long long item)
{
    StatsItem out;
    out.chunk = static_cast<int>(item % args.chunks);
    const int rows_of = static_cast<int>(item / args.chunks), head = rows_of / row_tiles;
    out.first_row = rows_of % row_tiles * kStatsBlockM;
    out.sequence = head / args.kv_heads;
    out.kv_head = head % args.kv_heads;
    out.first_key = out.chunk * args.chunk_keys;
    const int keys = static_cast<int>(min(args.chunk_keys, args.seq_len - out.first_key));
    out.steps = (keys + kStatsBlockN - 1) / kStatsBlockN;
    return out;
}

// Words of the operand of 16 depths: two elements each of rows g and g + 8 (lane = 4 * g + t), at 2 * t and 8 further.
__device__ __forceinline__ void load_queries(unsigned (&a)[kDepths][4], const tamis_score_args &args, const StatsItem &item,
                                             int row_above, int lane)
{
    const int group = args.q_heads / args.kv_heads, rows = group * args.window;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = min(row_above + 8 * half, rows - 1); // what comes of a row too many is not written
        const int head = item.kv_head * group + row / args.window;
        const char *query = row_pointer(args.q, item.sequence, head, args.seq_len - args.window + row % args.window);
#pragma unroll
        for (int i = 0; i < kDepths; ++i)
#pragma unroll
            for (int j = 0; j < 2; ++j)
                a[i][half + 2 * j] = *reinterpret_cast<const unsigned *>(query + 32 * i + 16 * j + lane % 4 * 4);
    }
}

// Of a thread's two rows, over the keys it has seen so far itself: what the sum of exponentials is relative to, which lags
// behind the maximum by at most the threshold, and the sum. In log2 units.
struct Stats {
    float base[2] = {-kInfinity, -kInfinity};
    float sum[2] = {0.0f, 0.0f};
};

// Fold a tile of logits into the statistics. A row may have seen no key yet: then its base is -inf, and 0 stands in.
__device__ __forceinline__ void stats_step(const float (&s)[kStatsBlockN / 2], Stats &stats, float scale_log2)
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float peaks[2] = {s[2 * half], s[2 * half + 1]};
#pragma unroll
        for (int n = 1; n < kStatsBlockN / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) peaks[i] = fmaxf(peaks[i], s[4 * n + 2 * half + i]);
        const float peak = fmaxf(peaks[0], peaks[1]) * scale_log2;
        if (peak - stats.base[half] > kRescaleThreshold) {
            stats.sum[half] *= exp2_approx(stats.base[half] - peak);
            stats.base[half] = peak;
        }
        const float zero = stats.base[half] == -kInfinity ? 0.0f : stats.base[half];
        float sums[2] = {stats.sum[half], 0.0f};
#pragma unroll
        for (int n = 0; n < kStatsBlockN / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) sums[i] += exp2_approx(fmaf(s[4 * n + 2 * half + i], scale_log2, -zero));
        stats.sum[half] = sums[0] + sums[1];
    }
}

// Combine the four lanes of each row, and write its base and sum over the chunk.
__device__ __forceinline__ void write_stats(const tamis_score_args &args, const Stats &stats, const StatsItem &item,
                                            int row_above, int lane)
{
    const int group = args.q_heads / args.kv_heads;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float base = quad_max(stats.base[half]);
        const float part = stats.base[half] == -kInfinity ? 0.0f : stats.sum[half] * exp2_approx(stats.base[half] - base);
        const float sum = quad_sum(part);
        const int row = row_above + 8 * half;
        if (lane % 4 != 0 || row >= group * args.window) continue;
        const int head = item.kv_head * group + row / args.window, query = row % args.window;
        const long long list = (static_cast<long long>(item.sequence) * args.q_heads + head) * args.window + query;
        float *partial = args.partial + 2 * (list * args.chunks + item.chunk);
        partial[0] = base;
        partial[1] = sum;
    }
}

// grid = (SMs). Writes each row's base and sum over each chunk.
extern "C" __global__ void __launch_bounds__(kStatsThreads, 1)
${symbol}_stats(const __grid_constant__ tamis_score_tma_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    const tamis_score_args &score = args.score;
    const unsigned base = shared_address(s_memory);
    const Tiles<kStatsBlockN> tiles = {base, base + kStages * kTileBytes<kStatsBlockN>};
    if (threadIdx.x == 0) {
        tiles.init(4 * kStatsWarpgroups);
        barrier_init_fence();
    }
    follow_stream();
    __syncthreads();

    const int rows = score.q_heads / score.kv_heads * score.window, row_tiles = (rows + kStatsBlockM - 1) / kStatsBlockM;
    const Items items = my_items(static_cast<long long>(score.batch) * score.kv_heads * row_tiles * score.chunks);
    Ring<kStages> ring;
    if (warp >= 4 * kStatsWarpgroups) {
        give_registers<${loading_registers}>();
        if (threadIdx.x % 128 > 0) return;
        for (long long i = items.begin; i < items.end; ++i) {
            const StatsItem item = stats_item(score, row_tiles, i);
            for (int step = 0; step < item.steps; ++step)
                load_next(tiles, ring, args.k, item.first_key + step * kStatsBlockN, item.kv_head, item.sequence);
        }
        return;
    }

    take_registers<${registers(p.stats_warpgroups)}>();
    unsigned q[kDepths][4];
    float s[kStatsBlockN / 2];
    const Turn<kStatsWarpgroups> turn(warp / 4);
    for (long long i = items.begin; i < items.end; ++i) {
        const StatsItem item = stats_item(score, row_tiles, i);
        const int row_above = item.first_row + 16 * warp + lane / 4;
        if (i == items.begin || item.chunk == 0) load_queries(q, score, item, row_above, lane);
        // Every row sees the tiles up to the window's first query.
        const long long first_query = score.seq_len - score.window - item.first_key; // its token, from the chunk's begin
        const int open = static_cast<int>(max(min((first_query + 1) / kStatsBlockN, static_cast<long long>(item.steps)), 0ll));
        Stats stats;
        for (int step = 0; step < open; ++step) {
            multiply_next(s, q, tiles, ring, turn, lane);
            stats_step(s, stats, score.scale_log2);
        }
        for (int step = open; step < item.steps; ++step) {
            const long long tile_begin = static_cast<long long>(step) * kStatsBlockN;
            multiply_next(s, q, tiles, ring, turn, lane);
            mask_logits(s, static_cast<int>(first_query + row_above % score.window - tile_begin),
                        static_cast<int>(first_query + (row_above + 8) % score.window - tile_begin), lane);
            stats_step(s, stats, score.scale_log2);
        }
        write_stats(score, stats, item, row_above, lane);
    }
}

// Combine the chunks of each row: lanes take chunks in turn, and are added up in a fixed order. Behind the window a row of lse2
// is filled with infinity. grid = (blocks of lse2_rows, Hq, B).
extern "C" __global__ void __launch_bounds__(kMergeThreads)
${symbol}_merge(const __grid_constant__ tamis_score_args args)
{
    follow_stream();
    const int query = (blockIdx.x * kMergeThreads + threadIdx.x) / kMergeLanes, lane = threadIdx.x % kMergeLanes;
    const long long head = static_cast<long long>(blockIdx.z) * args.q_heads + blockIdx.y;
    const long long list = head * args.window + min(query, args.window - 1); // all lanes take part in shuffles
    const float *partial = args.partial + 2 * list * args.chunks;
    float peak = -kInfinity;
    for (int chunk = lane; chunk < args.chunks; chunk += kMergeLanes) peak = fmaxf(peak, partial[2 * chunk]);
#pragma unroll
    for (int i = 1; i < kMergeLanes; i *= 2) peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, i));
    float sum = 0.0f;
    for (int chunk = lane; chunk < args.chunks; chunk += kMergeLanes)
        sum += partial[2 * chunk + 1] * exp2_approx(partial[2 * chunk] - peak);
#pragma unroll
    for (int i = 1; i < kMergeLanes; i *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, i);
    if (lane == 0 && query < args.lse2_rows)
        args.lse2[head * args.lse2_rows + query] = query < args.window ? peak + log2f(sum) : kInfinity;
}

// ---- the second pass

// What an item of the second pass is: a tile of keys of one KV head.
struct SumItem {
    int sequence, kv_head, first_key;
};

__device__ __forceinline__ SumItem sum_item(const tamis_score_args &args, int key_tiles, long long item)
{
    const int head = static_cast<int>(item / key_tiles);
    return {head / args.kv_heads, head % args.kv_heads, static_cast<int>(item % key_tiles) * kSumBlockM};
}

// The warp's 16 keys as an operand, from the block's tile of them, which is given back.
__device__ __forceinline__ void take_keys(unsigned (&a)[kDepths][4], unsigned tile, unsigned empty, int warp, int lane)
{
    const int row = 16 * warp + lane % 16;
#pragma unroll
    for (int i = 0; i < kDepths; ++i) {
        const int chunk = 2 * i + lane / 16;
        load_matrix_x4(a[i], tile + chunk / 8 * (kSumBlockM * 128) + row * 128 + (chunk % 8 ^ row % 8) * 16);
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(empty);
}

// Add the probabilities of a tile of queries to the sums of the thread's two keys. `bases`: lse2 of the thread's first column.
__device__ __forceinline__ void sum_step(const float (&s)[kSumBlockN / 2], float (&sum)[2],
                                         const float2 (&bases)[kSumBlockN / 8], float scale_log2)
{
#pragma unroll
    for (int n = 0; n < kSumBlockN / 8; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sum[half] += exp2_approx(fmaf(s[4 * n + 2 * half], scale_log2, -bases[n].x));
            sum[half] += exp2_approx(fmaf(s[4 * n + 2 * half + 1], scale_log2, -bases[n].y));
        }
}

// grid = (SMs). Every window query sees every candidate: no mask.
extern "C" __global__ void __launch_bounds__(kSumThreads, 1)
${symbol}_sum(const __grid_constant__ tamis_score_tma_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    const tamis_score_args &score = args.score;
    const unsigned base = shared_address(s_memory), keys = base + kStages * kTileBytes<kSumBlockN>;
    const Tiles<kSumBlockN> tiles = {base, keys + kTileBytes<kSumBlockM>};
    const unsigned keys_full = tiles.empty(kStages), keys_empty = keys_full + 8;
    if (threadIdx.x == 0) {
        tiles.init(4 * kSumWarpgroups);
        barrier_init(keys_full, 1);
        barrier_init(keys_empty, 4 * kSumWarpgroups);
        barrier_init_fence();
    }
    follow_stream();
    __syncthreads();

    const int candidates = static_cast<int>(score.seq_len) - score.window, group = score.q_heads / score.kv_heads;
    const int key_tiles = (candidates + kSumBlockM - 1) / kSumBlockM, query_tiles = (score.window + kSumBlockN - 1) / kSumBlockN;
    const Items items = my_items(static_cast<long long>(score.batch) * score.kv_heads * key_tiles);
    Ring<kStages> ring;
    unsigned phase = 0; // of the keys' barriers
    if (warp >= 4 * kSumWarpgroups) {
        give_registers<${loading_registers}>();
        if (threadIdx.x % 128 > 0) return;
        for (long long i = items.begin; i < items.end; ++i, phase ^= 1) {
            const SumItem item = sum_item(score, key_tiles, i);
            barrier_wait(keys_empty, phase ^ 1);
            load_tile<kSumBlockM>(keys, args.k, keys_full, item.first_key, item.kv_head, item.sequence);
            for (int head = item.kv_head * group; head < (item.kv_head + 1) * group; ++head)
                for (int tile = 0; tile < query_tiles; ++tile)
                    load_next(tiles, ring, args.q, candidates + tile * kSumBlockN, head, item.sequence);
        }
        return;
    }

    take_registers<${registers(p.sum_warpgroups)}>();
    unsigned k[kDepths][4];
    float s[kSumBlockN / 2];
    const Turn<kSumWarpgroups> turn(warp / 4);
    const float inverse = 1.0f / static_cast<float>(score.window);
    for (long long i = items.begin; i < items.end; ++i, phase ^= 1) {
        const SumItem item = sum_item(score, key_tiles, i);
        const int key_above = item.first_key + 16 * warp + lane / 4;
        barrier_wait(keys_full, phase);
        take_keys(k, keys, keys_empty, warp, lane);
        for (int member = 0; member < group; ++member) {
            const long long head = static_cast<long long>(item.sequence) * score.q_heads + item.kv_head * group + member;
            const float *lse2 = score.lse2 + head * score.lse2_rows + lane % 4 * 2;
            float sum[2] = {0.0f, 0.0f};
            for (int tile = 0; tile < query_tiles; ++tile) {
                float2 bases[kSumBlockN / 8];
#pragma unroll
                for (int n = 0; n < kSumBlockN / 8; ++n)
                    bases[n] = *reinterpret_cast<const float2 *>(lse2 + tile * kSumBlockN + 8 * n);
                multiply_next(s, k, tiles, ring, turn, lane);
                sum_step(s, sum, bases, score.scale_log2);
            }
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int key = key_above + 8 * half;
                const float total = quad_sum(sum[half]) * inverse;
                if (lane % 4 == 0 && key < candidates) score.score[head * candidates + key] = total;
            }
        }
    }
}
