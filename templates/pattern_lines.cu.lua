$ -- pattern_lines: what the last queries attend to, by columns and by diagonals, for vertical-slash patterns and FlexPrefill
$ -- (runtime/cpu_pattern.h), in two passes over the keys as score has them: a probability is known only once all keys are. A
$ -- block has one head's queries, of which there are at most 128, and a chunk of its keys.
$ local pitch = 2 * p.head_dim + 16
$ local symbol = "tamis_" .. p.name
$ local threads, rows = 256, 128
$ local probability_pitch = p.block_n + 8
$ if p.block_n % 16 ~= 0 then reject("block_n must be a multiple of 16") end
$ if p.block_n + p.block_n + rows - 1 > threads then reject("block_n: a thread for each column and each diagonal of a tile") end
$ if 512 % p.block_n ~= 0 then reject("block_n must divide 512, of which a chunk of keys is a multiple") end
$ if p.stages < 2 then reject("stages must be 2 or more: the next tile loads while this one is used") end
$ local stats_shared = (rows + p.stages * p.block_n) * pitch
$ entry{stage = "pattern_stats", symbol = symbol .. "_stats", threads = threads, shared_bytes = stats_shared, block_m = rows,
$       block_n = p.block_n}
$ entry{stage = "pattern_merge", symbol = symbol .. "_merge", threads = rows, shared_bytes = 0, block_m = rows, block_n = 0}
$ entry{stage = "pattern_lines", symbol = symbol .. "_sums", threads = threads,
$       shared_bytes = stats_shared + rows * probability_pitch * 4, block_m = rows, block_n = p.block_n}
#include "pattern_args.h"
#include "ptx.cuh"
#include "tile.cuh"
#include "pattern.cuh"

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kBlockN = ${p.block_n}; // keys a step
constexpr int kStages = ${p.stages};
constexpr int kRows = TAMIS_PATTERN_QUERIES;
constexpr int kThreads = ${threads};
constexpr int kColTiles = kBlockN / 8;
constexpr int kPitch = Tile<kHeadDim>::kPitchBytes;
constexpr int kProbabilityPitch = ${probability_pitch}; // floats: what eight rows store at once falls into all banks twice
static_assert(kRows == 16 * (kThreads / 32), "16 queries a warp");

// What a block works on.
struct Chunk {
    int sequence, head, queries, keys; // queries W of the sequence; keys in the chunk
    long long rows, first_key;
    HeadRows q, k;
};

__device__ __forceinline__ Chunk find_chunk(const tamis_pattern_lines_args &args, int chunk, int head, int sequence)
{
    const tamis_pattern_source &source = args.source;
    Chunk out;
    out.sequence = sequence;
    out.head = head;
    out.rows = rows_of(source.kept, sequence, source.seq_len);
    out.queries = static_cast<int>(min(static_cast<long long>(args.last_queries), out.rows));
    out.first_key = chunk * args.chunk_keys;
    out.keys = out.rows <= args.dense_rows
                   ? 0
                   : static_cast<int>(max(min(args.chunk_keys, out.rows - out.first_key), 0ll));
    out.q = query_rows(source, sequence, head);
    out.k = key_rows(source, sequence, head / (source.q_heads / source.compact_heads), out.rows);
    return out;
}

// Go through the chunk's keys: step(s, first) gets this warp's 16 queries' raw products with kBlockN keys, `first` counted from
// the chunk's begin. Warps without queries go along.
template <typename Step>
__device__ __forceinline__ void walk_keys(const Chunk &chunk, char *s_memory, int lane, int warp, Step step_done)
{
    const unsigned s_q = shared_address(s_memory), s_k = s_q + kRows * kPitch;
    const char *any_row = chunk.k.row(chunk.first_key);
    load_rows_async<kHeadDim, kRows, kThreads>(s_q, any_row, [&](int i) -> const char * {
        return i < chunk.queries ? chunk.q.row(chunk.rows - chunk.queries + i) : nullptr;
    });
    const auto load_keys = [&](int step) {
        const int first = step * kBlockN;
        load_rows_async<kHeadDim, kBlockN, kThreads>(
            s_k + (step % kStages) * kBlockN * kPitch, any_row, [&](int i) -> const char * {
                return first + i < chunk.keys ? chunk.k.row(chunk.first_key + first + i) : nullptr;
            });
    };
    const int steps = (chunk.keys + kBlockN - 1) / kBlockN;
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) { // the group of step 0 holds the queries as well
        if (step < steps) load_keys(step);
        copy_async_commit();
    }
    const unsigned q_lane = s_q + warp * 16 * kPitch + lane_offset_a<kHeadDim>(lane);
    for (int step = 0; step < steps; ++step) {
        copy_async_wait<kStages - 2>();
        __syncthreads();
        if (step + kStages - 1 < steps) load_keys(step + kStages - 1);
        copy_async_commit();
        float s[1][kColTiles][4];
        multiply_transposed<Element, kHeadDim>(
            s, q_lane, s_k + (step % kStages) * kBlockN * kPitch + lane_offset_b<kHeadDim>(lane));
        step_done(s[0], step * kBlockN);
    }
    copy_async_wait<0>();
}

// The last of a chunk's keys that query `w` sees, from the chunk's begin.
__device__ __forceinline__ long long last_key(const Chunk &chunk, int w)
{
    return w < chunk.queries ? chunk.rows - chunk.queries + w - chunk.first_key : -1;
}

// grid = (chunks, Hq, B). Writes each query's maximum and sum over one chunk, and clears its part of the diagonals.
extern "C" __global__ void __launch_bounds__(kThreads)
${symbol}_stats(const __grid_constant__ tamis_pattern_lines_args args)
{
    extern __shared__ __align__(16) char s_memory[];
    follow_stream();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Chunk chunk = find_chunk(args, blockIdx.x, blockIdx.y, blockIdx.z);
    if (chunk.keys == 0) return;
    const long long query_head = static_cast<long long>(chunk.sequence) * args.source.q_heads + chunk.head;
    unsigned long long *slash = args.slash + query_head * args.source.capacity + chunk.first_key;
    for (int i = threadIdx.x; i < chunk.keys; i += kThreads) slash[i] = 0;

    const long long last[2] = {last_key(chunk, warp * 16 + lane / 4), last_key(chunk, warp * 16 + lane / 4 + 8)};
    float peaks[2] = {-kInfinity, -kInfinity}, sums[2] = {0.0f, 0.0f}; // of this lane's columns alone
    walk_keys(chunk, s_memory, lane, warp, [&](const float(&s)[kColTiles][4], int first) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int visible = static_cast<int>(min(last[half] - first, static_cast<long long>(kBlockN)));
            float logits[kColTiles][2], peak = peaks[half];
#pragma unroll
            for (int n = 0; n < kColTiles; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const int column = 8 * n + 2 * (lane % 4) + i;
                    logits[n][i] = column <= visible ? s[n][2 * half + i] * args.source.scale_log2 : -kInfinity;
                    peak = fmaxf(peak, logits[n][i]);
                }
            const float base = peak == -kInfinity ? 0.0f : peak;
            float sum = sums[half] * exp2_approx(peaks[half] - base);
#pragma unroll
            for (int n = 0; n < kColTiles; ++n) sum += exp2_approx(logits[n][0] - base) + exp2_approx(logits[n][1] - base);
            peaks[half] = peak;
            sums[half] = sum;
        }
    });
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float peak = quad_max(peaks[half]), base = peak == -kInfinity ? 0.0f : peak;
        const float sum = quad_sum(sums[half] * exp2_approx(peaks[half] - base));
        if (lane % 4 != 0) continue;
        float *partial = args.partial + 2 * ((query_head * args.chunks + blockIdx.x) * kRows + warp * 16 + lane / 4 + 8 * half);
        partial[0] = peak;
        partial[1] = sum;
    }
}

// Combine the chunks of each query, in their order. grid = (Hq, B).
extern "C" __global__ void __launch_bounds__(kRows)
${symbol}_merge(const __grid_constant__ tamis_pattern_lines_args args)
{
    follow_stream();
    const int w = threadIdx.x, sequence = blockIdx.y;
    const long long rows = rows_of(args.source.kept, sequence, args.source.seq_len);
    if (w >= min(static_cast<long long>(args.last_queries), rows) || rows <= args.dense_rows) return;
    const long long query_head = static_cast<long long>(sequence) * args.source.q_heads + blockIdx.x;
    const int chunks = static_cast<int>((rows + args.chunk_keys - 1) / args.chunk_keys);
    const float *partial = args.partial + 2 * (query_head * args.chunks * kRows + w);
    float peak = -kInfinity, sum = 0.0f;
    for (int chunk = 0; chunk < chunks; ++chunk) peak = fmaxf(peak, partial[2 * kRows * chunk]);
    for (int chunk = 0; chunk < chunks; ++chunk)
        sum += partial[2 * kRows * chunk + 1] * exp2_approx(partial[2 * kRows * chunk] - peak);
    args.lse2[query_head * kRows + w] = peak + log2f(sum);
}

// Sum of `count` floats `pitch` apart, in one order.
__device__ __forceinline__ float sum_strided(const float *first, int count, int pitch)
{
    float sums[4] = {};
    int i = 0;
    for (; i + 4 <= count; i += 4)
#pragma unroll
        for (int part = 0; part < 4; ++part) sums[part] += first[(i + part) * pitch];
    for (; i < count; ++i) sums[0] += first[i * pitch];
    return sums[0] + sums[1] + (sums[2] + sums[3]);
}

// grid = (chunks, Hq, B). A tile's probabilities go through shared memory, where threads add up a column or a diagonal each.
// What tiles add to one diagonal are integers, so that their order does not matter.
extern "C" __global__ void __launch_bounds__(kThreads)
${symbol}_sums(const __grid_constant__ tamis_pattern_lines_args args)
{
    extern __shared__ __align__(16) char s_memory[];
    follow_stream();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, thread = threadIdx.x;
    const Chunk chunk = find_chunk(args, blockIdx.x, blockIdx.y, blockIdx.z);
    if (chunk.keys == 0) return;
    const long long query_head = static_cast<long long>(chunk.sequence) * args.source.q_heads + chunk.head;
    float *vertical = args.vertical + query_head * args.source.capacity + chunk.first_key;
    unsigned long long *slash = args.slash + query_head * args.source.capacity;
    float *s_probability = reinterpret_cast<float *>(s_memory + (kRows + kStages * kBlockN) * kPitch);

    long long last[2];
    float lse2[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int w = warp * 16 + lane / 4 + 8 * half;
        last[half] = last_key(chunk, w);
        lse2[half] = w < chunk.queries ? args.lse2[query_head * kRows + w] : 0.0f;
    }
    const float share = 1.0f / static_cast<float>(chunk.queries);
    walk_keys(chunk, s_memory, lane, warp, [&](const float(&s)[kColTiles][4], int first) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int visible = static_cast<int>(min(last[half] - first, static_cast<long long>(kBlockN)));
            float *row = s_probability + (warp * 16 + lane / 4 + 8 * half) * kProbabilityPitch + 2 * (lane % 4);
#pragma unroll
            for (int n = 0; n < kColTiles; ++n) {
                const int column = 8 * n + 2 * (lane % 4);
                float2 pair;
                pair.x = column <= visible ? exp2_approx(fmaf(s[n][2 * half], args.source.scale_log2, -lse2[half])) : 0.0f;
                pair.y = column < visible ? exp2_approx(fmaf(s[n][2 * half + 1], args.source.scale_log2, -lse2[half])) : 0.0f;
                *reinterpret_cast<float2 *>(row + 8 * n) = pair;
            }
        }
        __syncthreads();
        if (thread < kBlockN) { // a column
            if (first + thread < chunk.keys)
                vertical[first + thread] = share * sum_strided(s_probability + thread, chunk.queries, kProbabilityPitch);
        } else if (thread < 2 * kBlockN + chunk.queries - 1) { // a diagonal: query less key is `slope`, within the tile
            const int slope = thread - (2 * kBlockN - 1), from = max(slope, 0), to = min(slope + kBlockN, chunk.queries);
            const long long distance = chunk.rows - chunk.queries + slope - chunk.first_key - first;
            const float *begin = s_probability + from * kProbabilityPitch + from - slope;
            const float sum = sum_strided(begin, to - from, kProbabilityPitch + 1);
            const float unit = static_cast<float>(1ull << TAMIS_PATTERN_SLASH_BITS);
            if (distance >= 0 && distance < chunk.rows && sum > 0.0f)
                atomicAdd(&slash[distance], static_cast<unsigned long long>(share * sum * unit));
        }
        __syncthreads(); // before the next tile's are written
    });
}
