$ -- score_wgmma: score for Hopper (sm_90a), the same two passes as score.cu.lua. The rows of each product stay in registers for
$ -- a whole block, as wgmma takes its first operand from there; the other operand streams through shared memory, so that a
$ -- product reads only half of what it would with both there. Of two sets of accumulators the tensor cores fill one while
$ -- the exponentials of the other are taken.
$ local rows_bytes = (p.head_dim + 63) // 64 * 128 -- of one row in shared memory
$ local stats_shared = (64 * p.stats_warpgroups + p.stages * p.stats_block_n) * rows_bytes + 16
$ local sum_shared = (64 * p.sum_warpgroups + p.stages * p.sum_block_n) * rows_bytes + 8 * p.sum_block_n * 4
$ local symbol = "tamis_" .. p.name
$ local type = p.dtype == "bf16" and "bf16" or "f16"
$ local function crowded(block_n, warpgroups) return block_n + p.head_dim // 4 + 24 > math.min(255, 512 // warpgroups) end
$ if p.stats_block_n % 16 ~= 0 or p.sum_block_n % 16 ~= 0 then reject("block_n must be a multiple of 16") end
$ if 256 % p.stats_block_n ~= 0 then reject("stats_block_n must divide 256, of which a chunk of keys is a multiple") end
$ if p.sum_block_n > 128 * p.sum_warpgroups then reject("sum_block_n must not exceed the threads, one for each query") end
$ if p.stages < 2 or p.stages > 7 then reject("stages must be 2 to 7: there is room for the sums of 8 tiles of queries") end
$ if crowded(p.stats_block_n, p.stats_warpgroups) or crowded(p.sum_block_n, p.sum_warpgroups) then
$     reject("two tiles of logits and the rows' operand do not fit the registers")
$ end
$ entry{stage = "score_stats", symbol = symbol .. "_stats", threads = 128 * p.stats_warpgroups, shared_bytes = stats_shared,
$       block_m = 64 * p.stats_warpgroups, block_n = p.stats_block_n}
$ entry{stage = "score_merge", symbol = symbol .. "_merge", threads = 256, shared_bytes = 0, block_m = 32, block_n = 0}
$ entry{stage = "score_sum", symbol = symbol .. "_sum", threads = 128 * p.sum_warpgroups, shared_bytes = sum_shared,
$       block_m = 64 * p.sum_warpgroups * p.sum_tiles, block_n = p.sum_block_n}
$ local function operands(first, count)
$     local text = ""
$     for i = first, first + count - 1 do text = text .. "%" .. i .. ", " end
$     return text
$ end
$ local function outputs(name, first, count)
$     local text = ""
$     for i = first, first + count - 1 do text = text .. "\"+f\"(" .. name .. "[" .. i .. "])" .. (i < first + count - 1 and ", " or "") end
$     return text
$ end
#include "kernel_args.h"
#include "ptx.cuh"
#include "tile.cuh"
#include "hopper.cuh"
#include "softmax.cuh"

constexpr int kHeadDim = ${p.head_dim};
constexpr int kStages = ${p.stages}; // tiles in flight
constexpr int kChunks = kHeadDim / 8; // 16-byte chunks a row
constexpr int kDepths = kHeadDim / 16; // products that make up a tile's
constexpr float kRescaleThreshold = 16.0f; // log2 by which a maximum may grow before its sum is rescaled

// Rows in shared memory are cut into columns of 64 elements, 128 bytes, in which 16-byte chunks are swizzled.
constexpr int kRowBytes = (kHeadDim + 63) / 64 * 128;
constexpr int kWarpRowsBytes = 16 * kRowBytes; // of the 16 rows whose operand a warp keeps

// First pass: rows are (query head of the group, window query) pairs, 64 a warpgroup; columns are keys.
constexpr int kStatsThreads = ${128 * p.stats_warpgroups};
constexpr int kStatsBlockM = kStatsThreads / 2;
constexpr int kStatsBlockN = ${p.stats_block_n};

// Second pass: rows are keys, 64 a warpgroup and time; columns are window queries of one head.
constexpr int kSumThreads = ${128 * p.sum_warpgroups};
constexpr int kSumBlockM = kSumThreads / 2;
constexpr int kSumBlockN = ${p.sum_block_n};
constexpr int kSumTiles = ${p.sum_tiles}; // of kSumBlockM keys a block, one after the other
constexpr int kSumBases = 8;              // tiles of queries whose lse2 has room

constexpr int kMergeThreads = 256;
constexpr int kMergeLanes = 8; // share a row

// Address of a window query of one head: query `i` is token L - W + i.
__device__ __forceinline__ const char *window_query(const tamis_score_args &args, int sequence, int head, int i)
{
    return row_pointer(args.q, sequence, head, args.seq_len - args.window + i);
}

// Where 16-byte chunk `chunk` of row `row` lies in a swizzled tile of kRows rows.
template <int kRows>
__device__ __forceinline__ unsigned chunk_offset(int row, int chunk)
{
    return chunk / 8 * (kRows * 128) + row * 128 + (chunk % 8 ^ row % 8) * 16;
}

// Start copying kRows rows into the tile at `shared`, kThreads threads together: rows `first` and up of the `count` whose
// addresses `row_of` gives, then rows of zeros.
template <int kRows, int kThreads, typename RowOf>
__device__ __forceinline__ void load_swizzled(unsigned shared, int first, int count, RowOf row_of, int thread)
{
    constexpr int kUnrolled = kRows * kChunks > 4 * kThreads ? 4 : 8; // addresses take registers
#pragma unroll kUnrolled
    for (int begin = 0; begin < kRows * kChunks; begin += kThreads) {
        const int i = begin + thread, row = i / kChunks, chunk = i % kChunks;
        const char *source = row_of(min(first + row, count - 1)) + chunk * 16;
        if (begin + kThreads <= kRows * kChunks || i < kRows * kChunks)
            copy_async_16(shared + chunk_offset<kRows>(row, chunk), source, first + row < count);
    }
}

// The same value, of which the compiler does not know that: it cannot compute ahead what follows from it, and hold that in
// registers, of which there are none to spare.
__device__ __forceinline__ int again(int value)
{
    asm volatile("" : "+r"(value));
    return value;
}

// The first operand of the products: a warp's 16 rows, from its own tile of them.
__device__ __forceinline__ void load_operand(unsigned (&a)[kDepths][4], unsigned tile, int lane)
{
#pragma unroll
    for (int i = 0; i < kDepths; ++i) load_matrix_x4(a[i], tile + chunk_offset<16>(lane & 15, 2 * i + (lane >> 4)));
}

// This thread's copies of the oldest tile have arrived; so have, behind the barrier, everybody's, and everybody is through
// with the tile before it.
template <int kPending, int kThreads>
__device__ __forceinline__ void take_tile()
{
    copy_async_wait<kPending>();
    fence_async_proxy();
    named_sync(1, kThreads);
}
$ local sizes = p.stats_block_n == p.sum_block_n and {p.stats_block_n} or {p.stats_block_n, p.sum_block_n}
$ for _, columns in ipairs(sizes) do
$ local count = columns // 2

// S = A B^T or S += A B^T on ${columns} columns, 16 of the head dim.
__device__ __forceinline__ void wgmma(float (&s)[${count}], const unsigned (&a)[4], unsigned long long b, int accumulate)
{
    asm volatile("{\n"
                 ".reg .pred accumulate;\n"
                 "setp.ne.b32 accumulate, %${count + 5}, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n${columns}k16.f32.${type}.${type} {"
$ for i = 0, count - 1, 8 do
                 "${string.sub(operands(i, 8), 1, i + 8 < count and -1 or -3)}"
$ end
                 "}, {%${count}, %${count + 1}, %${count + 2}, %${count + 3}}, %${count + 4}, accumulate, 1, 1, 0;\n"
                 "}"
                 : ${outputs("s", 0, 8)}
$ for i = 8, count - 1, 8 do
                 , ${outputs("s", i, 8)}
$ end
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
$ end

// Start S = A B^T over the head dim; `tile` is the low half of B's descriptor.
template <int kLogits>
__device__ __forceinline__ void start_product(float (&s)[kLogits], const unsigned (&a)[kDepths][4], unsigned tile)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kDepths; ++i)
        wgmma(s, a[i], matrix_descriptor(tile, (i / 4) * (2 * kLogits * 128) + (i % 4) * 32), i > 0);
    wgmma_commit();
}

template <int kLogits>
__device__ __forceinline__ void finish_product(float (&s)[kLogits])
{
    wgmma_wait<0>();
    pin_registers(s);
}

// Keep ptxas from moving instructions across: exponentials above the product that they are to run under, or below the wait
// for it. What stops it is a barrier, here one that nobody comes to, as `sum`, which those before it lead to, is not negative.
__device__ __forceinline__ void keep_order(float sum)
{
    asm volatile("{\n"
                 ".reg .pred never;\n"
                 "setp.lt.f32 never, %0, 0f00000000;\n"
                 "@!never bra skip;\n"
                 "bar.sync 2, 128;\n"
                 "skip:\n"
                 "}" ::"f"(sum)
                 : "memory");
}

// What is written without a branch: products under way cannot cross where paths of control meet.
__device__ __forceinline__ float exp2_or_one(float x, bool wanted)
{
    float y;
    asm volatile("{\n"
                 ".reg .pred wanted;\n"
                 "setp.ne.b32 wanted, %2, 0;\n"
                 "mov.f32 %0, 0f3F800000;\n"
                 "@wanted ex2.approx.ftz.f32 %0, %1;\n"
                 "}"
                 : "=&f"(y)
                 : "f"(x), "r"(static_cast<int>(wanted)));
    return y;
}

__device__ __forceinline__ void store_if(float *place, float value, bool wanted)
{
    asm volatile("{\n"
                 ".reg .pred wanted;\n"
                 "setp.ne.b32 wanted, %2, 0;\n"
                 "@wanted st.global.f32 [%0], %1;\n"
                 "}" ::"l"(place), "f"(value), "r"(static_cast<int>(wanted))
                 : "memory");
}

// If `wanted`, copy a number to shared memory in the background, or write infinity where it is not `valid`.
__device__ __forceinline__ void load_base(unsigned shared, const float *base, bool wanted, bool valid)
{
    asm volatile("{\n"
                 ".reg .pred copied, filled;\n"
                 "setp.ne.b32 copied, %2, 0;\n"
                 "setp.ne.b32 filled, %3, 0;\n"
                 "@copied cp.async.ca.shared.global [%0], [%1], 4;\n"
                 "@filled st.shared.f32 [%0], %4;\n"
                 "}" ::"r"(shared), "l"(base), "r"(static_cast<int>(wanted && valid)), "r"(static_cast<int>(wanted && !valid)),
                 "f"(kInfinity)
                 : "memory");
}

// Of a thread's two rows, over the keys it has seen so far itself: what the sum of exponentials is relative to, which lags
// behind the maximum by at most the threshold, and the sum. In log2 units.
struct Stats {
    float base[2] = {-kInfinity, -kInfinity};
    float sum[2] = {0.0f, 0.0f};
};

// Fold a tile of logits into the statistics. A row may have seen no key yet: then its base is -inf, and 0 stands in.
// The scale comes from shared memory, at `s_scale`, each time: as the load stays where it is, so does what needs it, behind
// the start of the next product.
__device__ __forceinline__ void stats_step(const float (&s)[kStatsBlockN / 2], Stats &stats, unsigned s_scale)
{
    float scale_log2;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(scale_log2) : "r"(s_scale) : "memory");
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float peaks[2] = {s[2 * half], s[2 * half + 1]};
#pragma unroll
        for (int n = 1; n < kStatsBlockN / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) peaks[i] = fmaxf(peaks[i], s[4 * n + 2 * half + i]);
        const float before = stats.base[half], peak = fmaxf(peaks[0], peaks[1]) * scale_log2;
        const bool grows = peak - before > kRescaleThreshold;
        const float base = grows ? peak : before, zero = base == -kInfinity ? 0.0f : base;
        float sums[2] = {stats.sum[half] * exp2_or_one(before - base, grows), 0.0f};
#pragma unroll
        for (int n = 0; n < kStatsBlockN / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) sums[i] += exp2_approx(fmaf(s[4 * n + 2 * half + i], scale_log2, -zero));
        stats.base[half] = base;
        stats.sum[half] = sums[0] + sums[1];
    }
}

// Combine the four lanes of each row, and write its base and sum over the chunk.
__device__ __forceinline__ void write_stats(const tamis_score_args &args, const Stats &stats, int sequence, int kv_head,
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
        const int head = kv_head * group + row / args.window, query = row % args.window;
        const long long list = (static_cast<long long>(sequence) * args.q_heads + head) * args.window + query;
        float *partial = args.partial + 2 * (list * args.chunks + blockIdx.x);
        partial[0] = base;
        partial[1] = sum;
    }
}

// grid = (chunks of keys, tiles of G * W rows, B * Hkv). Writes each row's base and sum over one chunk.
extern "C" __global__ void __launch_bounds__(kStatsThreads, 1)
${symbol}_stats(const __grid_constant__ tamis_score_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    const int sequence = blockIdx.z / args.kv_heads, kv_head = blockIdx.z % args.kv_heads;
    const int group = args.q_heads / args.kv_heads, rows = group * args.window;
    const long long chunk_begin = blockIdx.x * args.chunk_keys;
    const int keys = static_cast<int>(min(args.chunk_keys, args.seq_len - chunk_begin));
    const int first_row = blockIdx.y * kStatsBlockM, warp_row = first_row + 16 * warp;

    const unsigned s_k = shared_address(s_memory), s_q = s_k + kStages * kStatsBlockN * kRowBytes + warp * kWarpRowsBytes;
    const unsigned s_scale = shared_address(s_memory) + (kStages * kStatsBlockN + kStatsBlockM) * kRowBytes;
    const char *key_row = row_pointer(args.k, sequence, kv_head, chunk_begin);
    const auto load_keys = [&](int step) {
        load_swizzled<kStatsBlockN, kStatsThreads>(
            s_k + step % kStages * (kStatsBlockN * kRowBytes), step * kStatsBlockN, keys,
            [&](int i) { return key_row + 2 * args.k.row_stride * i; }, static_cast<int>(threadIdx.x));
        copy_async_commit();
    };
    load_swizzled<16, 32>(
        s_q, warp_row, rows,
        [&](int i) { return window_query(args, sequence, kv_head * group + i / args.window, i % args.window); }, lane);
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) load_keys(step); // the group of step 0 holds Q as well
    if (threadIdx.x == 0) asm volatile("st.shared.f32 [%0], %1;" ::"r"(s_scale), "f"(args.scale_log2) : "memory");

    const int steps = (keys + kStatsBlockN - 1) / kStatsBlockN;
    int step = 0;
    if (first_row + warp / 4 * 64 >= rows) { // a warpgroup without rows helps to load
        for (; step < steps; ++step) {
            take_tile<kStages - 2, kStatsThreads>();
            load_keys(step + kStages - 1);
        }
        copy_async_wait<0>();
        return;
    }

    unsigned q[kDepths][4];
    copy_async_wait<kStages - 2>();
    __syncwarp();
    load_operand(q, s_q, lane);
    const unsigned tiles = descriptor_low(s_k, 0);
    const auto start_next = [&](float (&s)[kStatsBlockN / 2]) {
        take_tile<kStages - 2, kStatsThreads>();
        start_product(s, q, tiles + step % kStages * (kStatsBlockN * kRowBytes >> 4));
        load_keys(step + kStages - 1);
        ++step;
    };

    Stats stats;
    float s[kStatsBlockN / 2], other[kStatsBlockN / 2];
    // Every row sees the tiles up to the window's first query; they go in pairs.
    const long long open = min((args.seq_len - args.window + 1 - chunk_begin) / kStatsBlockN, static_cast<long long>(steps));
    const int paired = static_cast<int>(max(open, 0ll)) & ~1;
    if (paired > 0) {
        start_next(s);
        finish_product(s);
        for (;;) {
            start_next(other);
            keep_order(stats.sum[0] + stats.sum[1]);
            stats_step(s, stats, s_scale);
            keep_order(stats.sum[0] + stats.sum[1]);
            finish_product(other);
            if (step == paired) break;
            start_next(s);
            keep_order(stats.sum[0] + stats.sum[1]);
            stats_step(other, stats, s_scale);
            keep_order(stats.sum[0] + stats.sum[1]);
            finish_product(s);
        }
        stats_step(other, stats, s_scale);
    }
    const int row_above = warp_row + lane / 4;
    const long long first_query = args.seq_len - args.window - chunk_begin; // its token, counted from the chunk's begin
    while (step < steps) {
        const long long tile_begin = static_cast<long long>(step) * kStatsBlockN;
        start_next(s);
        finish_product(s);
        mask_logits(s, static_cast<int>(first_query + row_above % args.window - tile_begin),
                    static_cast<int>(first_query + (row_above + 8) % args.window - tile_begin), lane);
        stats_step(s, stats, s_scale);
    }
    copy_async_wait<0>();
    write_stats(args, stats, sequence, kv_head, row_above, lane);
}

// Combine the chunks of each row: lanes take chunks in turn, and are added up in a fixed order. grid = (blocks of W queries,
// Hq, B).
extern "C" __global__ void __launch_bounds__(kMergeThreads)
${symbol}_merge(const __grid_constant__ tamis_score_args args)
{
    const int query = (blockIdx.x * kMergeThreads + threadIdx.x) / kMergeLanes, lane = threadIdx.x % kMergeLanes;
    const long long heads_before = static_cast<long long>(blockIdx.z) * args.q_heads + blockIdx.y;
    const long long list = heads_before * args.window + min(query, args.window - 1); // all lanes take part in shuffles
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
    if (lane == 0 && query < args.window) args.lse2[list] = peak + log2f(sum);
}

// A tile of queries of the second pass: which of its head's, and of which of the group's heads.
struct Queries {
    int tile = 0, head = 0;
    __device__ __forceinline__ void advance(int tiles_a_head, int group)
    {
        if (++tile < tiles_a_head) return;
        tile = 0;
        if (++head == group) head = 0;
    }
};

// Add the probabilities of a tile of queries to the sums of the thread's two keys. `bases`: lse2 of the thread's first
// column, +inf behind the window.
__device__ __forceinline__ void sum_step(const float (&s)[kSumBlockN / 2], float (&sum)[2], unsigned bases, float scale_log2,
                                         bool first)
{
    sum[0] = first ? 0.0f : sum[0];
    sum[1] = first ? 0.0f : sum[1];
#pragma unroll
    for (int n = 0; n < kSumBlockN / 8; ++n) {
        float base[2];
        asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(base[0]), "=f"(base[1]) : "r"(bases + 32 * n) : "memory");
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int i = 0; i < 2; ++i) sum[half] += exp2_approx(fmaf(s[4 * n + 2 * half + i], scale_log2, -base[i]));
    }
}

// grid = (tiles of the N candidates, Hkv, B). A block walks kSumTiles tiles of keys, and for each all queries of the group.
// Every window query sees every candidate: no mask.
extern "C" __global__ void __launch_bounds__(kSumThreads, 1)
${symbol}_sum(const __grid_constant__ tamis_score_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    const int thread = threadIdx.x, lane = thread % 32, warp = __shfl_sync(0xffffffffu, thread / 32, 0);
    const int kv_head = blockIdx.y, sequence = blockIdx.z;
    const int group = args.q_heads / args.kv_heads, window = args.window;
    const int candidates = static_cast<int>(args.seq_len) - window;
    const int first_key = blockIdx.x * (kSumTiles * kSumBlockM), warp_key = first_key + 16 * warp;
    const int key_tiles = min(kSumTiles, (candidates - first_key + kSumBlockM - 1) / kSumBlockM);
    const int key_end = min(candidates, first_key + kSumTiles * kSumBlockM);
    const int tiles_a_head = (window + kSumBlockN - 1) / kSumBlockN, tiles_a_group = group * tiles_a_head;
    const int steps = key_tiles * tiles_a_group;

    constexpr int kTileBytes = kSumBlockN * kRowBytes, kRowsBytes = kSumBlockM * kRowBytes;
    const unsigned s_q = shared_address(s_memory), s_k = s_q + kStages * kTileBytes + warp * kWarpRowsBytes;
    const unsigned s_bases = shared_address(s_memory) + kStages * kTileBytes + kRowsBytes;
    const auto load_keys = [&](int first) { // of the warp itself
        load_swizzled<16, 32>(
            s_k, first, key_end, [&](int i) { return row_pointer(args.k, sequence, kv_head, i); }, again(lane));
    };
    Queries loading; // tile of queries to load next, round and round
    const auto load_queries = [&](int step) {
        const int first = loading.tile * kSumBlockN, head = kv_head * group + loading.head;
        load_swizzled<kSumBlockN, kSumThreads>(
            s_q + step % kStages * kTileBytes, first, window, [&](int i) { return window_query(args, sequence, head, i); },
            again(thread));
        const long long list = static_cast<long long>(sequence) * args.q_heads + head;
        load_base(s_bases + (step % kSumBases * kSumBlockN + thread) * 4, args.lse2 + list * window + first + thread,
                  thread < kSumBlockN, first + thread < window);
        copy_async_commit();
        loading.advance(tiles_a_head, group);
    };

    load_keys(warp_key);
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) load_queries(step); // the group of step 0 holds K as well

    unsigned k[kDepths][4];
    const unsigned tiles = descriptor_low(s_q, 0);
    const float scale_log2 = args.scale_log2, inverse = 1.0f / static_cast<float>(window);
    int step = 0;            // of the next product
    int key_base = warp_key; // of the keys whose sums grow
    Queries at;              // that are added to them
    float s[kSumBlockN / 2], other[kSumBlockN / 2], sum[2] = {0.0f, 0.0f};
    // Start the product of the next step; the first of a tile of keys takes them.
    const auto start_next = [&](float (&to)[kSumBlockN / 2], bool takes_keys, int next_key_base) {
        if (tiles_a_group < kStages - 1) copy_async_wait<0>(); // the keys may be among the youngest groups
        take_tile<kStages - 2, kSumThreads>();
        if (takes_keys) {
            load_operand(k, s_k, again(lane));
            __syncwarp();
            load_keys(next_key_base + kSumBlockM);
        }
        start_product(to, k, tiles + step % kStages * (kTileBytes >> 4));
        load_queries(step + kStages - 1);
        ++step;
    };
    const auto add = [&](const float (&from)[kSumBlockN / 2], int added) {
        sum_step(from, sum, s_bases + (added % kSumBases * kSumBlockN + 2 * (lane % 4)) * 4, scale_log2, at.tile == 0);
        const long long list = static_cast<long long>(sequence) * args.q_heads + kv_head * group + at.head;
        const int key_above = key_base + lane / 4;
        float *score = args.score + list * candidates + key_above;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float total = quad_sum(sum[half]) * inverse;
            store_if(score + 8 * half, total, at.tile == tiles_a_head - 1 && lane % 4 == 0 && key_above + 8 * half < key_end);
        }
    };
    // One step: the product of the next under the exponentials of this one's.
    const auto add_and_multiply = [&](const float (&from)[kSumBlockN / 2], float (&to)[kSumBlockN / 2]) {
        const bool last = at.tile == tiles_a_head - 1 && at.head == group - 1; // of the queries, for the keys
        start_next(to, last, key_base + kSumBlockM);
        keep_order(sum[0] + sum[1]);
        add(from, step - 2);
        keep_order(sum[0] + sum[1]);
        finish_product(to);
        at.advance(tiles_a_head, group);
        if (last) key_base += kSumBlockM;
    };

    start_next(s, true, warp_key);
    finish_product(s);
    for (;;) {
        if (step == steps) {
            add(s, step - 1);
            break;
        }
        add_and_multiply(s, other);
        if (step == steps) {
            add(other, step - 1);
            break;
        }
        add_and_multiply(other, s);
    }
    copy_async_wait<0>();
}
