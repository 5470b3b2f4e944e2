/*
 * xattn.cuh: what the kernels of XAttention's estimates share (runtime/cpu_pattern.h): which tile of reduced rows a block is
 * at, where its tokens are, and the way from products to estimates. A row of a reduced tile is the sum over an S by S tile's
 * antidiagonal, so that a query block has 128 / S rows, and a key block as many columns.
 *
 * A row's probabilities are known only behind its last column. Till then threads add up what they see of their rows, and the
 * block keeps, for each row and each key block, the logarithm of the sum of exponentials: T floats a row of scratch.
 */
#pragma once

#include "pattern.cuh"
#include "ptx.cuh"
#include "tile.cuh"

/* A tile of reduced rows of one head. */
struct XattnTile {
    int sequence, head, tile;
    long long rows, reduced, first_row; /* tokens; reduced rows; the tile's first of these */
    HeadRows q, k;
};

/* Of kRows reduced rows each, of a head. */
template <int kRows>
__device__ __forceinline__ int xattn_tiles(const tamis_pattern_xattn_args &args)
{
    const long long capacity = (args.source.capacity + args.stride - 1) / args.stride;
    return static_cast<int>((capacity + kRows - 1) / kRows);
}

/*
 * Pair number `item` of a head and kTogether tiles in a row, of which this is number `which`: the longest first, the heads of
 * one in turn.
 */
template <int kRows, int kTogether>
__device__ __forceinline__ XattnTile xattn_tile(const tamis_pattern_xattn_args &args, int item, int which)
{
    const tamis_pattern_source &source = args.source;
    const int heads = source.batch * source.q_heads, row = item % heads;
    XattnTile out;
    out.tile = (xattn_tiles<kRows * kTogether>(args) - 1 - item / heads) * kTogether + which;
    out.sequence = row / source.q_heads;
    out.head = row % source.q_heads;
    out.rows = rows_of(source.kept, out.sequence, source.seq_len);
    out.reduced = (out.rows + args.stride - 1) / args.stride;
    out.first_row = static_cast<long long>(out.tile) * kRows;
    out.q = query_rows(source, out.sequence, out.head);
    out.k = key_rows(source, out.sequence, out.head / (source.q_heads / source.compact_heads), out.rows);
    return out;
}

/*
 * Of the pairs of kTogether tiles, those that one of `workers` takes, in turn: there and back again, so that nobody has the
 * longest of every round.
 */
template <int kRows, int kTogether, typename Take>
__device__ __forceinline__ void xattn_share(const tamis_pattern_xattn_args &args, int worker, int workers, Take take)
{
    const int items = xattn_tiles<kRows * kTogether>(args) * args.source.batch * args.source.q_heads;
    for (int first = 0, place = worker; first < items; first += workers, place = workers - 1 - place)
        if (first + place < items) take(first + place);
}

/* Of a thread's two rows and the columns that it has seen: the largest logit in log2 units, and the exponentials' sum to it. */
struct XattnSums {
    float peak[2] = {-kInfinity, -kInfinity};
    float sum[2] = {0.0f, 0.0f};
};

/*
 * Of four groups of eight columns, `sums` of the lane's two in each: the whole group number lane % 4, by halves that lanes
 * exchange.
 */
__device__ __forceinline__ float xattn_group_sum(const float (&sums)[4], int lane)
{
    const bool odd = lane & 1, upper = lane & 2;
    float first = odd ? sums[1] : sums[0], second = odd ? sums[3] : sums[2];
    first += __shfl_xor_sync(0xffffffffu, odd ? sums[0] : sums[1], 1);
    second += __shfl_xor_sync(0xffffffffu, odd ? sums[2] : sums[3], 1);
    return (upper ? second : first) + __shfl_xor_sync(0xffffffffu, upper ? first : second, 2);
}

/*
 * Sums of exponentials of a warp's logits, for each of the thread's rows and key blocks, as logarithms into the rows' scratch,
 * and in all into `all`. `s` as softmax.cuh has logits, of kLogits / 4 groups of eight columns from `first_column` on, the
 * tile's row `row` and the one 8 below. `columns`: of a key block, a power of two from 2 to 32.
 */
template <int kLogits>
__device__ __forceinline__ void xattn_store_sums(float (&s)[kLogits], XattnSums &all, float *scratch, int pitch, int row,
                                                 int first_column, int columns, float scale_log2, int lane)
{
    static_assert(kLogits % 16 == 0, "key blocks have up to 32 columns");
    const int shift = 31 - __clz(columns);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float peak = -kInfinity;
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n) peak = fmaxf(peak, fmaxf(s[4 * n + 2 * half], s[4 * n + 2 * half + 1]));
        peak = quad_max(peak) * scale_log2;
        const float base = peak == -kInfinity ? 0.0f : peak;
        float total = 0.0f;
        float *out = scratch + static_cast<long long>(row + 8 * half) * pitch;
        const auto store = [&](int column, float sum) { // by the lane whose column is its key block's first
            const int block = (first_column + column) >> shift;
            if ((column & (columns - 1)) == 0 && block < pitch) out[block] = log2_approx(sum) + base;
        };
#pragma unroll
        for (int group = 0; group < kLogits / 16; ++group) { // of 32 columns
            float sums[4];
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                const float *pair = s + 16 * group + 4 * n + 2 * half;
                sums[n] = exp2_approx(fmaf(pair[0], scale_log2, -base)) + exp2_approx(fmaf(pair[1], scale_log2, -base));
                total += sums[n];
            }
            if (columns >= 8) {
                float sum = xattn_group_sum(sums, lane);
                if (columns >= 16) sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                if (columns >= 32) sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                store(32 * group + lane % 4 * 8, sum);
                continue;
            }
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                if (columns == 4) sums[n] += __shfl_xor_sync(0xffffffffu, sums[n], 1);
                store(32 * group + 8 * n + lane % 4 * 2, sums[n]);
            }
        }
        const float most = fmaxf(all.peak[half], peak), to = most == -kInfinity ? 0.0f : most;
        all.sum[half] = fmaf(all.sum[half], exp2_approx(all.peak[half] - to), total * exp2_approx(peak - to));
        all.peak[half] = most;
    }
}

/* A warp's sums for the whole block: `s_sums` is for the tile's rows, of the part of the columns that the warp has seen. */
__device__ __forceinline__ void xattn_share_sums(float2 *s_sums, const XattnSums &all, int row, int lane)
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float sum = quad_sum(all.sum[half]);
        if (lane % 4 == 0) s_sums[row + 8 * half] = make_float2(all.peak[half], sum);
    }
}

/*
 * From a tile's scratch to the estimates of its query blocks, in the lists' memory. kThreads threads of the block together,
 * this one being number `thread` of them; `sync` is a barrier of these. Behind one, the last sums of scratch were stored, and
 * those of kParts parts of the columns into `s_sums`, (kParts, kRows), which is written to.
 */
template <int kRows, int kParts, int kThreads, typename Sync>
__device__ __forceinline__ void xattn_write_estimates(const tamis_pattern_xattn_args &args, const XattnTile &tile,
                                                      const float *scratch, float2 *s_sums, int thread, Sync sync)
{
    const int lane = thread % 32, warp = thread / 32, pitch = args.lists.tiles;
    const int columns = kBlock / args.stride, blocks = blocks_of(tile.rows);
    const int rows = static_cast<int>(min(tile.reduced - tile.first_row, static_cast<long long>(kRows)));
    const int first_block = tile.tile * (kRows / columns);
    for (int r = thread; r < rows; r += kThreads) { // logarithms of the rows' sums, where the first part's peaks were
        float peak = s_sums[r].x, sum = 0.0f;
        for (int part = 1; part < kParts; ++part) peak = fmaxf(peak, s_sums[part * kRows + r].x);
        for (int part = 0; part < kParts; ++part) {
            const float2 one = s_sums[part * kRows + r];
            sum = fmaf(one.y, exp2_approx(one.x - peak), sum);
        }
        s_sums[r].x = peak + log2f(sum);
    }
    sync();
    for (int b = warp; b < kRows / columns && first_block + b < blocks; b += kThreads / 32) {
        const int i = first_block + b, from = b * columns, to = min(from + columns, rows);
        float *out = reinterpret_cast<float *>(list_row(args.lists, args.source.q_heads, tile.sequence, tile.head, i));
        for (int j = lane; j <= i; j += 32) {
            float sum = 0.0f;
#pragma unroll 8
            for (int r = from; r < to; ++r) sum += exp2_approx(scratch[static_cast<long long>(r) * pitch + j] - s_sums[r].x);
            out[j] = sum;
        }
    }
}
