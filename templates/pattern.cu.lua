$ -- pattern: makers of block patterns that need no tensor cores: sliding windows, means of blocks and their products, and lists
$ -- out of scores. What the patterns are, is defined in runtime/cpu_pattern.h.
$ local symbol = "tamis_" .. p.name
$ local chunks = p.head_dim // 8
$ if p.threads % 32 ~= 0 then reject("threads must be whole warps") end
$ if p.choose_threads % 32 ~= 0 then reject("choose_threads must be whole warps") end
$ if p.means_threads < chunks then reject("means_threads must have one for each 16 bytes of a row") end
$ if p.means_threads % 32 ~= 0 then reject("means_threads must be whole warps") end
$ local row_groups = p.means_threads // chunks
$ if row_groups > 128 then reject("more means_threads than a block has rows for") end
$ entry{stage = "pattern_sliding", symbol = symbol .. "_sliding", threads = p.threads, shared_bytes = 0,
$       block_m = p.threads // 32, block_n = 0}
$ entry{stage = "pattern_means", symbol = symbol .. "_means", threads = p.means_threads, shared_bytes = 0, block_m = 1,
$       block_n = 0}
$ entry{stage = "pattern_products", symbol = symbol .. "_products", threads = 256, shared_bytes = 0, block_m = 64,
$       block_n = 64}
$ entry{stage = "pattern_choose", symbol = symbol .. "_choose", threads = p.choose_threads, shared_bytes = 0, block_m = 1,
$       block_n = 0}
#include "pattern_args.h"
#include "ptx.cuh"
#include "pattern.cuh"

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kThreads = ${p.threads};            // of sliding, a warp a list
constexpr int kMeansThreads = ${p.means_threads}; // of which each adds up 8 elements of every kRowGroups-th row
constexpr int kChunks = ${chunks};                // of 16 bytes, a row
constexpr int kRowGroups = ${row_groups};
constexpr int kProductThreads = 256; // of a tile of kTile by kTile products
constexpr int kTile = 64;
constexpr int kDepth = 32; // of the head dim, a step
constexpr int kChooseThreads = ${p.choose_threads};
static_assert(kHeadDim % kDepth == 0, "whole steps");

// ---- sliding windows and sinks

// Whether key `k` of a block is seen by its query `q` from `distance` blocks further on, by the window; and by the sink.
__device__ __forceinline__ bool in_window(const tamis_pattern_sliding_args &args, long long distance, int q, int k)
{
    return distance * kBlock + q - k < args.window_tokens;
}

// Five masks: the window at the first distance at which it sees a block in part, and at the next; both again with the sink's
// last block; and this one alone.
__device__ __forceinline__ void write_masks(const tamis_pattern_sliding_args &args)
{
    const long long first = args.window_tokens / kBlock;
    const int sinks = static_cast<int>(args.sink_tokens % kBlock);
    for (int i = threadIdx.x; i < 5 * TAMIS_BLOCK_MASK_WORDS; i += kThreads) {
        const int mask = i / TAMIS_BLOCK_MASK_WORDS, q = i % TAMIS_BLOCK_MASK_WORDS / 4, from = i % 4 * 32;
        unsigned word = 0;
        for (int k = from; k < from + 32; ++k) {
            const bool window = mask < 4 && in_window(args, first + mask % 2, q, k), sink = mask >= 2 && k < sinks;
            word |= static_cast<unsigned>(window || sink) << (k - from);
        }
        args.masks[i] = word;
    }
}

// The entry of block j for query block i; -1: none.
__device__ __forceinline__ int sliding_entry(const tamis_pattern_sliding_args &args, long long i, long long j)
{
    const long long distance = (i - j) * kBlock, sink_block = args.sink_tokens / kBlock;
    const bool window = distance - (kBlock - 1) < args.window_tokens;
    const bool sink = j == sink_block && args.sink_tokens % kBlock > 0;
    if (j < sink_block || distance + kBlock - 1 < args.window_tokens) return static_cast<int>(j);
    if (!window && !sink) return -1;
    const int next = i - j > args.window_tokens / kBlock;
    const int mask = !window ? 4 : sink ? 2 + next : next;
    return (mask + 1) << TAMIS_BLOCK_BITS | static_cast<int>(j);
}

// grid = (ceil(T / warps), Hq, B). The first block writes the masks.
extern "C" __global__ void __launch_bounds__(kThreads)
${symbol}_sliding(const __grid_constant__ tamis_pattern_sliding_args args)
{
    follow_stream();
    if (blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0) write_masks(args);
    const int lane = threadIdx.x % 32, i = static_cast<int>(blockIdx.x * (kThreads / 32) + threadIdx.x / 32);
    const int sequence = blockIdx.z, head = blockIdx.y;
    if (i >= blocks_of(rows_of(args.kept, sequence, args.seq_len))) return;
    int *list = list_row(args.lists, args.q_heads, sequence, head, i);
    // Blocks between the sink and the window are not looked at.
    const long long sink_end = (args.sink_tokens + kBlock - 1) / kBlock;
    const long long window_begin = i - min((args.window_tokens - 1) / kBlock + 2, static_cast<long long>(i));
    const int skip_from = static_cast<int>(min(sink_end, window_begin));
    const int skipped = static_cast<int>(window_begin) - skip_from;
    int count = 0;
    for (int first = 0; first <= i - skipped; first += 32) {
        const int place = first + lane, j = place < skip_from ? place : place + skipped;
        const int entry = place <= i - skipped ? sliding_entry(args, i, j) : -1;
        const unsigned lanes = __ballot_sync(kAllLanes, entry >= 0);
        if (entry >= 0) list[count + __popc(lanes & ((1u << lane) - 1))] = entry;
        count += __popc(lanes);
    }
    if (lane == 0) *list_count(args.lists, args.q_heads, sequence, head, i) = count;
}

// ---- means of blocks

// grid = (T, Hq + Hc, B): heads of Q, then of K.
extern "C" __global__ void __launch_bounds__(kMeansThreads)
${symbol}_means(const __grid_constant__ tamis_pattern_means_args args)
{
    __shared__ float s_sums[kRowGroups][kHeadDim];
    follow_stream();
    const tamis_pattern_source &source = args.source;
    const int sequence = blockIdx.z, block = blockIdx.x, head = blockIdx.y;
    const long long rows = rows_of(source.kept, sequence, source.seq_len);
    const int count = static_cast<int>(min(rows - static_cast<long long>(block) * kBlock, static_cast<long long>(kBlock)));
    if (count <= 0) return;
    const bool is_query = head < source.q_heads;
    const HeadRows from = is_query ? query_rows(source, sequence, head)
                                   : key_rows(source, sequence, head - source.q_heads, rows);

    const int group = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    float sums[8] = {};
    for (int row = group; row < count && group < kRowGroups; row += kRowGroups) {
        const int4 words = *reinterpret_cast<const int4 *>(from.row(static_cast<long long>(block) * kBlock + row) + 16 * chunk);
        const int word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[i] += element_of<Element>(static_cast<unsigned>(word[i / 2]), i % 2);
    }
    if (group < kRowGroups)
#pragma unroll
        for (int i = 0; i < 8; ++i) s_sums[group][8 * chunk + i] = sums[i];
    __syncthreads();

    const int heads = is_query ? source.q_heads : source.compact_heads, place = is_query ? head : head - source.q_heads;
    float *mean = (is_query ? args.mean_q : args.mean_k) +
                  ((static_cast<long long>(sequence) * heads + place) * args.tiles + block) * kHeadDim;
    for (int d = threadIdx.x; d < kHeadDim; d += kMeansThreads) {
        float sum = 0.0f;
#pragma unroll 1
        for (int i = 0; i < kRowGroups; ++i) sum += s_sums[i][d];
        mean[d] = sum / static_cast<float>(count);
    }
}

// ---- their products: a thread has four by four of a tile

// Steps of the head dim of kTile means from `first` on, in shared memory with the head dim outermost; zeros behind the last.
__device__ __forceinline__ void load_step(float (&s_step)[kDepth][kTile + 4], const float *means, int first, int count,
                                          int depth)
{
    for (int i = threadIdx.x; i < kTile * kDepth; i += kProductThreads) {
        const int row = i / kDepth, d = i % kDepth;
        s_step[d][row] = first + row < count ? means[static_cast<long long>(first + row) * kHeadDim + depth + d] : 0.0f;
    }
}

// grid = (ceil(T / kTile)^2, Hq, B).
extern "C" __global__ void __launch_bounds__(kProductThreads)
${symbol}_products(const __grid_constant__ tamis_pattern_products_args args)
{
    __shared__ __align__(16) float s_q[kDepth][kTile + 4], s_k[kDepth][kTile + 4];
    follow_stream();
    const int sequence = blockIdx.z, head = blockIdx.y, tiles = args.lists.tiles;
    const int side = (tiles + kTile - 1) / kTile, first_i = static_cast<int>(blockIdx.x) / side * kTile;
    const int first_j = static_cast<int>(blockIdx.x) % side * kTile;
    const int blocks = blocks_of(rows_of(args.kept, sequence, args.seq_len));
    const long long query_head = static_cast<long long>(sequence) * args.q_heads + head;
    if (first_j > first_i || first_i >= blocks) return;
    if (args.modes && args.modes[query_head] != TAMIS_PATTERN_PAIRS) return;
    const long long key_head =
        static_cast<long long>(sequence) * args.compact_heads + head / (args.q_heads / args.compact_heads);
    const float *mean_q = args.mean_q + query_head * tiles * kHeadDim, *mean_k = args.mean_k + key_head * tiles * kHeadDim;

    const int i0 = static_cast<int>(threadIdx.x) / 16 * 4, j0 = static_cast<int>(threadIdx.x) % 16 * 4;
    float sums[4][4] = {};
    for (int depth = 0; depth < kHeadDim; depth += kDepth) {
        __syncthreads();
        load_step(s_q, mean_q, first_i, blocks, depth);
        load_step(s_k, mean_k, first_j, blocks, depth);
        __syncthreads();
#pragma unroll 8
        for (int d = 0; d < kDepth; ++d) {
            const float4 q = *reinterpret_cast<const float4 *>(&s_q[d][i0]), k = *reinterpret_cast<const float4 *>(&s_k[d][j0]);
            const float a[4] = {q.x, q.y, q.z, q.w}, b[4] = {k.x, k.y, k.z, k.w};
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (first_i + i0 + i >= blocks) continue;
        float *row = reinterpret_cast<float *>(list_row(args.lists, args.q_heads, sequence, head, first_i + i0 + i));
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (first_j + j0 + j <= first_i + i0 + i) row[first_j + j0 + j] = sums[i][j] * args.scale_log2;
    }
}

// ---- lists out of scores

// Shared memory: while the cut is looked for, bins; then bits of blocks, of which there are up to 2^24 / 128.
constexpr int kWords = (1 << 24) / kBlock / 32;
union ChooseMemory {
    Sums sums[2];
    struct {
        unsigned taken[kWords], equal[kWords];
    } bits;
};

// grid = (T, Hq, B), the last query blocks first.
extern "C" __global__ void __launch_bounds__(kChooseThreads)
${symbol}_choose(const __grid_constant__ tamis_pattern_choose_args args)
{
    __shared__ ChooseMemory s_memory;
    follow_stream();
    const int sequence = blockIdx.z, head = blockIdx.y, i = static_cast<int>(gridDim.x - 1 - blockIdx.x);
    if (i >= blocks_of(rows_of(args.kept, sequence, args.seq_len))) return;
    int *list = list_row(args.lists, args.q_heads, sequence, head, i);
    const float *scores = reinterpret_cast<const float *>(list);
    const bool by_mass = args.threshold > 0.0;
    Cut cut = kTakeNothing;
    if (by_mass) {
        // Blocks 0 and i are taken; others lie between them.
        const auto visit = places<kChooseThreads>(1, i, [=](long long j) { return key_of_mass(scores[j]); });
        float sum = 0.0f;
        for (int j = threadIdx.x; j <= i; j += kChooseThreads) sum += scores[j];
        sum = block_sum<kChooseThreads>(sum);
        const int unit = 60 - ((__float_as_int(sum) >> 23 & 0xff) - 127); // the sum of all stays below 2^62
        const auto weight = [&](unsigned key) { return mass_of(key, unit); };
        const Extent extent = find_extent<kChooseThreads>(visit, weight);
        const unsigned long long first = weight(key_of_mass(scores[0])), own = i > 0 ? weight(key_of_mass(scores[i])) : 0;
        const unsigned long long there = first + own, total = there + extent.total;
        const unsigned long long required =
            min(static_cast<unsigned long long>(ceil(args.threshold * static_cast<double>(total))), total);
        if (there < required) cut = find_cut<kChooseThreads>(visit, weight, extent, required - there, s_memory.sums);
    } else {
        const auto visit = places<kChooseThreads>(0, i + 1, [=](long long j) { return key_of(scores[j]); });
        const auto weight = [](unsigned) { return 1ull; };
        const double part = ceil(args.ratio * static_cast<double>(i + 1));
        const long long most = args.blocks > 0 ? args.blocks : static_cast<long long>(part);
        const long long wanted = min(most, static_cast<long long>(i + 1));
        const Extent extent = find_extent<kChooseThreads>(visit, weight);
        cut = find_cut<kChooseThreads>(visit, weight, extent, static_cast<unsigned long long>(wanted), s_memory.sums);
    }
    __syncthreads(); // the bins were read, and become bits
    take_bits<kChooseThreads>(s_memory.bits.taken, s_memory.bits.equal, i + 1, cut, [&](int j) {
        if (!by_mass) return key_of(scores[j]);
        return j == 0 || j == i ? 0xffffffffu : key_of_mass(scores[j]);
    });
    if (by_mass && threadIdx.x == 0) { // whatever the cut is
        s_memory.bits.taken[0] |= 1u;
        s_memory.bits.taken[i / 32] |= 1u << i % 32;
    }
    __syncthreads();
    const int count = list_bits<kChooseThreads>(list, s_memory.bits.taken, s_memory.bits.equal, i + 1);
    if (threadIdx.x == 0) *list_count(args.lists, args.q_heads, sequence, head, i) = count;
}
