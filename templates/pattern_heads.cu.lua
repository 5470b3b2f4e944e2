$ -- pattern_heads: from what the last queries attend to to lists, for vertical-slash patterns and FlexPrefill (runtime/
$ -- cpu_pattern.h): how many blocks of lines cover the mass, which, whether the head is query-aware, and if so which pairs of
$ -- blocks. Nothing is sorted: cuts are found by bins.
$ local symbol = "tamis_" .. p.name
$ if p.threads % 32 ~= 0 or p.row_threads % 32 ~= 0 then reject("threads come in warps of 32") end
$ if p.threads < p.head_dim then reject("threads must have one for each element of a row") end
$ entry{stage = "pattern_heads", symbol = symbol .. "_heads", threads = p.threads, shared_bytes = 0, block_m = 1, block_n = 0}
$ entry{stage = "pattern_soften", symbol = symbol .. "_soften", threads = p.row_threads, shared_bytes = 0, block_m = 1,
$       block_n = 0}
$ entry{stage = "pattern_cut", symbol = symbol .. "_cut", threads = p.threads, shared_bytes = 0, block_m = 1, block_n = 0}
$ entry{stage = "pattern_lists", symbol = symbol .. "_lists", threads = p.row_threads, shared_bytes = 0,
$       block_m = p.row_threads // 32, block_n = 0}
#include "pattern_args.h"
#include "ptx.cuh"
#include "pattern.cuh"

using Element = ${p.dtype == "bf16" and "Bf16" or "Fp16"};

constexpr int kHeadDim = ${p.head_dim};
constexpr int kThreads = ${p.threads};
constexpr int kRowThreads = ${p.row_threads};
constexpr int kQueries = TAMIS_PATTERN_QUERIES;
constexpr int kUnit = 60; // masses are of 2^-60, and add up to about 1
constexpr int kWords = (1 << 24) / kBlock / 32;
union Memory {
    Sums sums[2];
    struct {
        unsigned taken[kWords], equal[kWords];
    } bits;
};

// The block's, one for all that use it in turn.
__device__ __forceinline__ Memory &block_memory()
{
    __shared__ Memory s_memory;
    return s_memory;
}

__device__ __forceinline__ unsigned long long fixed_goal(double mass, int unit)
{
    return static_cast<unsigned long long>(mass * static_cast<double>(1ull << unit));
}

__device__ __forceinline__ float diagonal_mass(unsigned long long sum)
{
    return static_cast<float>(sum) * (1.0f / static_cast<float>(1ull << TAMIS_PATTERN_SLASH_BITS));
}

// ---- how many blocks, and which

// One more than how many of the largest of n values add up to at most `coverage`.
template <typename Value>
__device__ __forceinline__ long long lines_covering(Value value, long long rows, double coverage, Sums *s_sums)
{
    const auto visit = places<kThreads>(0, rows, [=](long long i) { return key_of_mass(value(i)); });
    const auto weight = [](unsigned key) { return mass_of(key, kUnit); };
    const Extent extent = find_extent<kThreads>(visit, weight);
    const unsigned long long goal = fixed_goal(coverage, kUnit) + 1; // the first sum above
    if (extent.total < goal) return rows + 1;
    const Cut cut = find_cut<kThreads>(visit, weight, extent, goal, s_sums);
    unsigned above = 0;
    visit([&](unsigned key) { above += key > cut.key; });
    return static_cast<long long>(block_sum<kThreads>(above)) + cut.ties;
}

// Bits of block 0 and the best of the others, `wanted` in all.
__device__ __forceinline__ void choose_blocks(unsigned *chosen, const float *sums, int blocks, int wanted, Memory &s_memory)
{
    const auto visit = places<kThreads>(1, blocks, [=](long long j) { return key_of_mass(sums[j]); });
    const auto weight = [](unsigned) { return 1ull; };
    Cut cut = kTakeNothing;
    if (wanted > 1) {
        const Extent extent = find_extent<kThreads>(visit, weight);
        cut = find_cut<kThreads>(visit, weight, extent, static_cast<unsigned long long>(wanted - 1), s_memory.sums);
    }
    __syncthreads();
    take_bits<kThreads>(s_memory.bits.taken, s_memory.bits.equal, blocks, cut,
                        [&](int j) { return j == 0 ? 0xffffffffu : key_of_mass(sums[j]); });
    for (int word = threadIdx.x; word < (blocks + 31) / 32; word += kThreads)
        chosen[word] = s_memory.bits.taken[word] | (word == 0 ? 1u : 0u);
    __syncthreads();
}

// Sums over the blocks of columns, and of diagonals from the far end. A warp a block.
__device__ __forceinline__ void sum_blocks(float *column_sums, float *diagonal_sums, const float *vertical,
                                           const unsigned long long *slash, long long rows, int blocks)
{
    const int lane = threadIdx.x % 32;
    for (int j = threadIdx.x / 32; j < blocks; j += kThreads / 32) {
        float column = 0.0f;
        unsigned long long diagonal = 0;
#pragma unroll
        for (int i = lane; i < kBlock; i += 32) {
            const long long k = static_cast<long long>(j) * kBlock + i;
            const long long d = rows - 1 - (static_cast<long long>(blocks - 1 - j) * kBlock + i);
            if (k < rows) column += vertical[k];
            if (d >= 0) diagonal += slash[d];
        }
        column = warp_sum(column);
        diagonal = warp_sum(diagonal);
        if (lane == 0) {
            column_sums[j] = column;
            diagonal_sums[j] = diagonal_mass(diagonal);
        }
    }
    __syncthreads();
}

// ---- is a head query-aware?

__device__ __forceinline__ float divergence_term(float p, float m) { return p > 0.0f ? p * log2f(p / m) : 0.0f; }

// The square root of the Jensen-Shannon divergence between what blocks' means say that the last queries attend to, of which
// `guess` is scratch, and what columns do.
__device__ __forceinline__ float find_distance(const tamis_pattern_heads_args &args, int sequence, int head, long long rows,
                                               int blocks, float *guess, const float *column_sums)
{
    __shared__ float s_mean[kHeadDim];
    const tamis_pattern_source &source = args.source;
    const HeadRows queries = query_rows(source, sequence, head);
    const int lane = threadIdx.x % 32, d = threadIdx.x;
    if (d < kHeadDim) {
        float sum = 0.0f;
        for (int w = 0; w < kQueries; ++w) {
            const unsigned *row = reinterpret_cast<const unsigned *>(queries.row(rows - kQueries + w));
            sum += element_of<Element>(row[d / 2], d % 2);
        }
        s_mean[d] = sum * (1.0f / kQueries);
    }
    __syncthreads();
    const int key_head = sequence * source.compact_heads + head / (source.q_heads / source.compact_heads);
    const float *mean_k = args.mean_k + static_cast<long long>(key_head) * args.tiles * kHeadDim;
    float peak = -kInfinity;
    for (int j = threadIdx.x / 32; j < blocks; j += kThreads / 32) {
        float product = 0.0f;
        const float *mean = mean_k + static_cast<long long>(j) * kHeadDim;
        for (int i = lane; i < kHeadDim; i += 32) product = fmaf(s_mean[i], mean[i], product);
        product = warp_sum(product) * source.scale_log2;
        if (lane == 0) guess[j] = product;
        peak = fmaxf(peak, product);
    }
    peak = block_max<kThreads>(peak);
    float sum = 0.0f, divergence = 0.0f;
    for (int j = threadIdx.x; j < blocks; j += kThreads) sum += exp2_approx(guess[j] - peak);
    sum = block_sum<kThreads>(sum);
    for (int j = threadIdx.x; j < blocks; j += kThreads) {
        const float p = exp2_approx(guess[j] - peak) / sum, v = column_sums[j], m = 0.5f * (p + v);
        divergence += divergence_term(p, m) + divergence_term(v, m);
    }
    const float bits = block_sum<kThreads>(divergence);
    return sqrtf(fmaxf(bits, 0.0f) * 0.34657359f); // half of it, in natural logarithms
}

// grid = (Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
${symbol}_heads(const __grid_constant__ tamis_pattern_heads_args args)
{
    Memory &s_memory = block_memory();
    follow_stream();
    const tamis_pattern_source &source = args.source;
    const int head = blockIdx.x, sequence = blockIdx.y;
    const long long query_head = static_cast<long long>(sequence) * source.q_heads + head;
    const long long rows = rows_of(source.kept, sequence, source.seq_len);
    const int blocks = blocks_of(rows);
    if (rows <= args.dense_rows) {
        if (threadIdx.x == 0) args.modes[query_head] = TAMIS_PATTERN_ALL;
        return;
    }
    const float *vertical = args.vertical + query_head * source.capacity;
    const unsigned long long *slash = args.slash + query_head * source.capacity;
    float *column_sums = args.sums + query_head * 3 * args.tiles, *diagonal_sums = column_sums + args.tiles;
    unsigned *chosen = args.chosen + query_head * 2 * args.words;
    sum_blocks(column_sums, diagonal_sums, vertical, slash, rows, blocks);

    bool pairs = false;
    if (args.mean_k)
        pairs = find_distance(args, sequence, head, rows, blocks, diagonal_sums + args.tiles, column_sums) <
                static_cast<float>(args.tau);
    long long columns = args.vertical_lines, diagonals = args.slash_lines;
    if (args.coverage > 0.0 && !pairs) {
        columns = lines_covering([=](long long i) { return vertical[i]; }, rows, args.coverage, s_memory.sums);
        diagonals = lines_covering([=](long long i) { return diagonal_mass(slash[i]); }, rows, args.coverage, s_memory.sums);
    }
    const auto blocks_of_lines = [&](long long lines) {
        const int wanted = max(static_cast<int>(min(lines / kBlock + 1, static_cast<long long>(blocks))), args.least);
        return pairs ? args.least : min(wanted, args.most);
    };
    choose_blocks(chosen, column_sums, blocks, min(blocks_of_lines(columns), blocks), s_memory);
    choose_blocks(chosen + args.words, diagonal_sums, blocks, min(blocks_of_lines(diagonals), blocks), s_memory);
    if (threadIdx.x == 0) args.modes[query_head] = pairs ? TAMIS_PATTERN_PAIRS : TAMIS_PATTERN_LINES;
}

// ---- pairs of blocks

// grid = (T, Hq, B). Softmax over the scores, in log2 units, of a query block.
extern "C" __global__ void __launch_bounds__(kRowThreads)
${symbol}_soften(const __grid_constant__ tamis_pattern_pairs_args args)
{
    follow_stream();
    const int i = blockIdx.x, head = blockIdx.y, sequence = blockIdx.z;
    if (i >= blocks_of(rows_of(args.kept, sequence, args.seq_len))) return;
    if (args.modes[static_cast<long long>(sequence) * args.q_heads + head] != TAMIS_PATTERN_PAIRS) return;
    float *row = reinterpret_cast<float *>(list_row(args.lists, args.q_heads, sequence, head, i));
    float peak = -kInfinity, sum = 0.0f;
    for (int j = threadIdx.x; j <= i; j += kRowThreads) peak = fmaxf(peak, row[j]);
    peak = block_max<kRowThreads>(peak);
    for (int j = threadIdx.x; j <= i; j += kRowThreads) sum += exp2_approx(row[j] - peak);
    sum = block_sum<kRowThreads>(sum);
    for (int j = threadIdx.x; j <= i; j += kRowThreads) row[j] = exp2_approx(row[j] - peak) / sum;
}

// Visits the scores of a head's pairs: a warp a query block, from the last on, which are the longest.
struct Pairs {
    const float *scores;
    int pitch, blocks;
    __device__ __forceinline__ const float *row(int i) const { return scores + static_cast<long long>(i) * pitch; }
    template <typename Take>
    __device__ __forceinline__ void operator()(Take take) const
    {
        for (int i = blocks - 1 - static_cast<int>(threadIdx.x / 32); i >= 0; i -= kThreads / 32)
            for (int j = threadIdx.x % 32; j <= i; j += 32) take(key_of_mass(row(i)[j]));
    }
};

// grid = (Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
${symbol}_cut(const __grid_constant__ tamis_pattern_pairs_args args)
{
    Sums *s_sums = block_memory().sums;
    follow_stream();
    const int head = blockIdx.x, sequence = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long query_head = static_cast<long long>(sequence) * args.q_heads + head;
    if (args.modes[query_head] != TAMIS_PATTERN_PAIRS) return;
    const int blocks = blocks_of(rows_of(args.kept, sequence, args.seq_len));
    const float *scores = reinterpret_cast<const float *>(list_row(args.lists, args.q_heads, sequence, head, 0));
    const Pairs visit = {scores, args.lists.row, blocks};
    const int unit = 29 + __clz(blocks); // all add up to about `blocks`
    const auto weight = [&](unsigned key) { return mass_of(key, unit); };
    const Extent extent = find_extent<kThreads>(visit, weight);
    const unsigned long long goal = fixed_goal(args.gamma * blocks, unit) + 1; // the pair that passes gamma is left out
    Cut cut = {0u, 0xffffffffu};
    if (extent.total >= goal) {
        cut = find_cut<kThreads>(visit, weight, extent, goal, s_sums);
        cut.ties -= 1;
    }
    if (threadIdx.x == 0) {
        args.cut[2 * query_head] = cut.key;
        args.cut[2 * query_head + 1] = cut.ties;
    }
    // Equal ones in each query block, then before each.
    int *ties = args.ties_before + query_head * args.lists.tiles;
    for (int i = warp; i < blocks; i += kThreads / 32) {
        const float *row = visit.row(i);
        unsigned equal = 0;
        for (int j = lane; j <= i; j += 32) equal += key_of_mass(row[j]) == cut.key;
        equal = __reduce_add_sync(kAllLanes, equal);
        if (lane == 0) ties[i] = static_cast<int>(equal);
    }
    __syncthreads();
    unsigned before = 0;
    for (int first = 0; first < blocks; first += kThreads) {
        const int i = first + static_cast<int>(threadIdx.x);
        unsigned total;
        const unsigned mine = i < blocks ? static_cast<unsigned>(ties[i]) : 0u;
        const unsigned upto = block_exclusive_scan<kThreads>(mine, total);
        if (i < blocks) ties[i] = static_cast<int>(before + upto);
        before += total;
    }
}

// ---- lists

// grid = (ceil(T / warps), Hq, B), a warp a list. Scores are read before entries, which are never more, take their place.
extern "C" __global__ void __launch_bounds__(kRowThreads)
${symbol}_lists(const __grid_constant__ tamis_pattern_pairs_args args)
{
    follow_stream();
    const int lane = threadIdx.x % 32, i = static_cast<int>(blockIdx.x * (kRowThreads / 32) + threadIdx.x / 32);
    const int head = blockIdx.y, sequence = blockIdx.z;
    if (i >= blocks_of(rows_of(args.kept, sequence, args.seq_len))) return;
    const long long query_head = static_cast<long long>(sequence) * args.q_heads + head;
    const int mode = args.modes[query_head];
    const unsigned *columns = args.chosen + query_head * 2 * args.words, *diagonals = columns + args.words;
    int *list = list_row(args.lists, args.q_heads, sequence, head, i);
    const Cut cut = mode == TAMIS_PATTERN_PAIRS ? Cut{args.cut[2 * query_head], args.cut[2 * query_head + 1]} : kTakeNothing;
    unsigned equal_before = 0;
    if (mode == TAMIS_PATTERN_PAIRS) equal_before = static_cast<unsigned>(args.ties_before[query_head * args.lists.tiles + i]);
    int count = 0;
    for (int first = 0; first <= i; first += 32) {
        const int j = first + lane;
        bool taken = j <= i && mode == TAMIS_PATTERN_ALL;
        if (j <= i && mode != TAMIS_PATTERN_ALL)
            taken = (columns[j / 32] >> lane & 1) || (diagonals[(i - j) / 32] >> (i - j) % 32 & 1);
        if (mode == TAMIS_PATTERN_PAIRS) {
            const unsigned key = j <= i ? key_of_mass(__int_as_float(list[j])) : 0u;
            const bool is_equal = j <= i && key == cut.key;
            const unsigned equal = __ballot_sync(kAllLanes, is_equal);
            const unsigned rank = equal_before + __popc(equal & ((1u << lane) - 1));
            taken |= (j <= i && key > cut.key) || (is_equal && rank < cut.ties);
            equal_before += __popc(equal);
        }
        const unsigned lanes = __ballot_sync(kAllLanes, taken); // and all have read
        if (taken) list[count + __popc(lanes & ((1u << lane) - 1))] = j;
        count += __popc(lanes);
    }
    if (lane == 0) *list_count(args.lists, args.q_heads, sequence, head, i) = count;
}
