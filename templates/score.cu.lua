$ -- score: how much the last W queries attend to each token before them (operator definition, step 1), in two passes over
$ -- the keys of each KV head, all of its query heads at once and K never expanded. One pass cannot be exact: a token's score
$ -- sums over queries what each query's softmax denominator, known only after all keys, divides.
$ local pitch = 2 * p.head_dim + 16
$ local stats_shared = (p.stats_block_m + p.stages * p.stats_block_n) * pitch
$ local sum_shared = (p.sum_block_m + p.stages * p.sum_block_n) * pitch
$ local symbol = "tamis_" .. p.name
$ if p.stats_block_m % (16 * p.stats_warps) ~= 0 then reject("stats_block_m must be a multiple of 16 rows for each warp") end
$ if p.sum_block_m ~= 16 * p.sum_warps then reject("sum_block_m must be 16 rows for each warp") end
$ if p.stats_block_n % 16 ~= 0 or p.sum_block_n % 16 ~= 0 then reject("block_n must be a multiple of 16") end
$ if 256 % p.stats_block_n ~= 0 then reject("stats_block_n must divide 256, of which a chunk of keys is a multiple") end
$ if p.stages < 2 then reject("stages must be 2 or more: the next tile loads while this one is used") end
$ entry{stage = "score_stats", symbol = symbol .. "_stats", threads = 32 * p.stats_warps, shared_bytes = stats_shared,
$       block_m = p.stats_block_m, block_n = p.stats_block_n}
$ entry{stage = "score_merge", symbol = symbol .. "_merge", threads = 256, shared_bytes = 0, block_m = 256, block_n = 0}
$ entry{stage = "score_sum", symbol = symbol .. "_sum", threads = 32 * p.sum_warps, shared_bytes = sum_shared,
$       block_m = p.sum_block_m, block_n = p.sum_block_n}
#include "kernel_args.h"
#include "ptx.cuh"
#include "tile.cuh"

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kStages = ${p.stages}; // tiles in flight
constexpr int kPitch = Tile<kHeadDim>::kPitchBytes;

// First pass: rows are (query head of the group, window query) pairs, columns are keys.
constexpr int kStatsBlockM = ${p.stats_block_m};
constexpr int kStatsBlockN = ${p.stats_block_n};
constexpr int kStatsWarps = ${p.stats_warps};
constexpr int kStatsThreads = 32 * kStatsWarps;
constexpr int kStatsRowTiles = kStatsBlockM / kStatsWarps / 16;
constexpr int kStatsColTiles = kStatsBlockN / 8;

// Second pass: rows are keys, columns are window queries of one head.
constexpr int kSumBlockM = ${p.sum_block_m};
constexpr int kSumBlockN = ${p.sum_block_n};
constexpr int kSumWarps = ${p.sum_warps};
constexpr int kSumThreads = 32 * kSumWarps;
constexpr int kSumColTiles = kSumBlockN / 8;

constexpr int kMergeThreads = 256;

// Address of a window query of one head: query `i` is token L - W + i.
__device__ __forceinline__ const char *window_query(const tamis_score_args &args, int sequence, int head, int i)
{
    return row_pointer(args.q, sequence, head, args.seq_len - args.window + i);
}

// Maximum and sum of exponentials of the rows a thread holds, over the keys seen so far; in log2 units.
struct Stats {
    float max[kStatsRowTiles][2];
    float sum[kStatsRowTiles][2];
};

// Fold one tile of logits into the statistics. A row may have seen no key yet: then its maximum is -inf, and 0 stands in.
__device__ __forceinline__ void stats_step(const float (&s)[kStatsRowTiles][kStatsColTiles][4], Stats &stats,
                                           const long long (&last_key)[kStatsRowTiles][2], long long first_key, int lane,
                                           float scale_log2)
{
#pragma unroll
    for (int m = 0; m < kStatsRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int visible = static_cast<int>(min(last_key[m][half] - first_key, static_cast<long long>(kStatsBlockN)));
            float logit[kStatsColTiles][2];
            float peak = stats.max[m][half];
#pragma unroll
            for (int n = 0; n < kStatsColTiles; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const int column = 8 * n + 2 * (lane % 4) + i;
                    logit[n][i] = column <= visible ? s[m][n][2 * half + i] * scale_log2 : -kInfinity;
                    peak = fmaxf(peak, logit[n][i]);
                }
            peak = quad_max(peak);
            const float base = peak == -kInfinity ? 0.0f : peak;
            float sum = stats.sum[m][half] * exp2_approx(stats.max[m][half] - base);
#pragma unroll
            for (int n = 0; n < kStatsColTiles; ++n) sum += exp2_approx(logit[n][0] - base) + exp2_approx(logit[n][1] - base);
            stats.max[m][half] = peak;
            stats.sum[m][half] = sum;
        }
}

// grid = (chunks of keys, tiles of G * W rows, B * Hkv). Writes each row's maximum and sum over one chunk.
extern "C" __global__ void __launch_bounds__(kStatsThreads)
${symbol}_stats(const __grid_constant__ tamis_score_args args)
{
    extern __shared__ __align__(16) char s_memory[];
    follow_stream();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int sequence = blockIdx.z / args.kv_heads, kv_head = blockIdx.z % args.kv_heads;
    const int group = args.q_heads / args.kv_heads, rows = group * args.window;
    const int chunk = blockIdx.x, first_row = blockIdx.y * kStatsBlockM;
    const long long chunk_begin = chunk * args.chunk_keys;
    const int keys = static_cast<int>(min(args.chunk_keys, args.seq_len - chunk_begin));

    const unsigned s_q = shared_address(s_memory), s_k = s_q + kStatsBlockM * kPitch;
    const char *key_row = row_pointer(args.k, sequence, kv_head, chunk_begin);
    load_rows_async<kHeadDim, kStatsBlockM, kStatsThreads>(s_q, key_row, [&](int i) -> const char * {
        const int row = first_row + i;
        if (row >= rows) return nullptr;
        return window_query(args, sequence, kv_head * group + row / args.window, row % args.window);
    });
    const auto load_keys = [&](int step) {
        const int first = step * kStatsBlockN;
        load_rows_async<kHeadDim, kStatsBlockN, kStatsThreads>(
            s_k + (step % kStages) * kStatsBlockN * kPitch, key_row, [&](int i) -> const char * {
                return first + i < keys ? key_row + 2 * args.k.row_stride * (first + i) : nullptr;
            });
    };

    const int warp_row = warp * 16 * kStatsRowTiles;
    Stats stats;
    long long last_key[kStatsRowTiles][2]; // the row's own token, counted from the chunk's begin
#pragma unroll
    for (int m = 0; m < kStatsRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first_row + warp_row + 16 * m + lane / 4 + 8 * half;
            stats.max[m][half] = -kInfinity;
            stats.sum[m][half] = 0.0f;
            last_key[m][half] = args.seq_len - args.window + row % args.window - chunk_begin;
        }

    const int steps = (keys + kStatsBlockN - 1) / kStatsBlockN;
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) { // the group of step 0 holds Q as well
        if (step < steps) load_keys(step);
        copy_async_commit();
    }
    const unsigned q_lane = s_q + warp_row * kPitch + lane_offset_a<kHeadDim>(lane);
    for (int step = 0; step < steps; ++step) {
        copy_async_wait<kStages - 2>();
        __syncthreads();
        if (step + kStages - 1 < steps) load_keys(step + kStages - 1);
        copy_async_commit();
        float s[kStatsRowTiles][kStatsColTiles][4];
        multiply_transposed<Element, kHeadDim>(
            s, q_lane, s_k + (step % kStages) * kStatsBlockN * kPitch + lane_offset_b<kHeadDim>(lane));
        stats_step(s, stats, last_key, static_cast<long long>(step) * kStatsBlockN, lane, args.scale_log2);
    }

#pragma unroll
    for (int m = 0; m < kStatsRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first_row + warp_row + 16 * m + lane / 4 + 8 * half;
            const float sum = quad_sum(stats.sum[m][half]);
            if (lane % 4 != 0 || row >= rows) continue;
            const int head = kv_head * group + row / args.window, query = row % args.window;
            const long long list = (static_cast<long long>(sequence) * args.q_heads + head) * args.window + query;
            float *partial = args.partial + 2 * (list * args.chunks + chunk);
            partial[0] = stats.max[m][half];
            partial[1] = sum;
        }
}

// Combine the chunks of each row, in their order. grid = (blocks of lse2_rows, Hq, B).
extern "C" __global__ void __launch_bounds__(kMergeThreads)
${symbol}_merge(const __grid_constant__ tamis_score_args args)
{
    follow_stream();
    const int query = blockIdx.x * kMergeThreads + threadIdx.x;
    if (query >= args.window) return;
    const long long head = static_cast<long long>(blockIdx.z) * args.q_heads + blockIdx.y;
    const float *partial = args.partial + 2 * (head * args.window + query) * args.chunks;
    float peak = -kInfinity;
    for (int chunk = 0; chunk < args.chunks; ++chunk) peak = fmaxf(peak, partial[2 * chunk]);
    float sum = 0.0f;
    for (int chunk = 0; chunk < args.chunks; ++chunk) sum += partial[2 * chunk + 1] * exp2_approx(partial[2 * chunk] - peak);
    args.lse2[head * args.lse2_rows + query] = peak + log2f(sum);
}

// grid = (tiles of the N candidates, Hkv, B). Keys are the rows here, so that the sum over queries stays inside a thread
// but for the four lanes of a row. Every window query sees every candidate: no mask.
extern "C" __global__ void __launch_bounds__(kSumThreads)
${symbol}_sum(const __grid_constant__ tamis_score_args args)
{
    extern __shared__ __align__(16) char s_memory[];
    follow_stream();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int kv_head = blockIdx.y, sequence = blockIdx.z;
    const int group = args.q_heads / args.kv_heads;
    const int candidates = static_cast<int>(args.seq_len) - args.window;
    const int first_key = blockIdx.x * kSumBlockM;

    const unsigned s_k = shared_address(s_memory), s_q = s_k + kSumBlockM * kPitch;
    const char *key_row = row_pointer(args.k, sequence, kv_head, first_key);
    load_rows_async<kHeadDim, kSumBlockM, kSumThreads>(s_k, key_row, [&](int i) -> const char * {
        return first_key + i < candidates ? key_row + 2 * args.k.row_stride * i : nullptr;
    });
    // Steps run over the heads of the group, and within a head over its queries.
    const int steps_a_head = (args.window + kSumBlockN - 1) / kSumBlockN, steps = group * steps_a_head;
    const auto load_queries = [&](int step) {
        const int head = kv_head * group + step / steps_a_head, first = step % steps_a_head * kSumBlockN;
        load_rows_async<kHeadDim, kSumBlockN, kSumThreads>(
            s_q + (step % kStages) * kSumBlockN * kPitch, key_row, [&](int i) -> const char * {
                return first + i < args.window ? window_query(args, sequence, head, first + i) : nullptr;
            });
    };
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) { // the group of step 0 holds K as well
        if (step < steps) load_queries(step);
        copy_async_commit();
    }

    const unsigned k_lane = s_k + warp * 16 * kPitch + lane_offset_a<kHeadDim>(lane);
    float sum[2] = {0.0f, 0.0f}; // of this lane's two keys, over the queries of the current head
    for (int step = 0; step < steps; ++step) {
        copy_async_wait<kStages - 2>();
        __syncthreads();
        if (step + kStages - 1 < steps) load_queries(step + kStages - 1);
        copy_async_commit();
        float s[1][kSumColTiles][4];
        multiply_transposed<Element, kHeadDim>(
            s, k_lane, s_q + (step % kStages) * kSumBlockN * kPitch + lane_offset_b<kHeadDim>(lane));

        const int head = kv_head * group + step / steps_a_head, first = step % steps_a_head * kSumBlockN;
        const long long list = static_cast<long long>(sequence) * args.q_heads + head;
        const float *lse2 = args.lse2 + list * args.lse2_rows;
#pragma unroll
        for (int n = 0; n < kSumColTiles; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int query = first + 8 * n + 2 * (lane % 4) + i;
                const float base = query < args.window ? lse2[query] : kInfinity; // 2^-inf: no query, no part
                sum[0] += exp2_approx(s[0][n][i] * args.scale_log2 - base);
                sum[1] += exp2_approx(s[0][n][2 + i] * args.scale_log2 - base);
            }
        if (step % steps_a_head != steps_a_head - 1) continue;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int key = first_key + warp * 16 + lane / 4 + 8 * half;
            const float total = quad_sum(sum[half]);
            if (lane % 4 == 0 && key < candidates) args.score[list * candidates + key] = total / args.window;
            sum[half] = 0.0f;
        }
    }
}
