/*
 * xattn.cuh: what the kernels of XAttention's estimates share (runtime/cpu_pattern.h): which tile of reduced rows a block is
 * at, where its tokens are, and the way from products to estimates. A row of a reduced tile is the sum over an S by S tile's
 * antidiagonal, so that a query block has 128 / S rows, and a key block as many columns.
 *
 * A row's probabilities are known only behind its last column. Till then the block keeps, for each of its rows and each key
 * block, the logarithm of the sum of exponentials: T floats a row, in scratch that stays in L2.
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

/* Pair number `item`: the longest tiles first, the heads of one in turn. */
template <int kRows>
__device__ __forceinline__ XattnTile xattn_tile(const tamis_pattern_xattn_args &args, int item)
{
    const tamis_pattern_source &source = args.source;
    const int heads = source.batch * source.q_heads, row = item % heads;
    const long long capacity = (source.capacity + args.stride - 1) / args.stride;
    XattnTile out;
    out.tile = static_cast<int>((capacity + kRows - 1) / kRows) - 1 - item / heads;
    out.sequence = row / source.q_heads;
    out.head = row % source.q_heads;
    out.rows = rows_of(source.kept, out.sequence, source.seq_len);
    out.reduced = (out.rows + args.stride - 1) / args.stride;
    out.first_row = static_cast<long long>(out.tile) * kRows;
    out.q = query_rows(source, out.sequence, out.head);
    out.k = key_rows(source, out.sequence, out.head / (source.q_heads / source.compact_heads), out.rows);
    return out;
}

template <int kRows>
__device__ __forceinline__ int xattn_items(const tamis_pattern_xattn_args &args)
{
    const long long capacity = (args.source.capacity + args.stride - 1) / args.stride;
    return static_cast<int>((capacity + kRows - 1) / kRows) * args.source.batch * args.source.q_heads;
}

/* A token's row from `bytes` on; null behind the sequence's last. */
__device__ __forceinline__ const char *xattn_row(const HeadRows &rows, long long token, long long count, int bytes)
{
    return token < count ? rows.row(token) + bytes : nullptr;
}

/*
 * Sums of exponentials of a warp's logits, for each of the thread's rows and key blocks, as logarithms into the rows' scratch.
 * `s` as softmax.cuh has logits, of kLogits / 4 groups of eight columns from `first_column` on, the tile's row `row` and the
 * one 8 below. `columns`: of a key block.
 */
template <int kLogits>
__device__ __forceinline__ void xattn_store_sums(float (&s)[kLogits], float *scratch, int pitch, int row, int first_column,
                                                 int columns, float scale_log2, int lane)
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float peak = -kInfinity, sums[kLogits / 4];
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n) peak = fmaxf(peak, fmaxf(s[4 * n + 2 * half], s[4 * n + 2 * half + 1]));
        peak = quad_max(peak) * scale_log2;
        const float base = peak == -kInfinity ? 0.0f : peak;
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n) {
            float sum = exp2_approx(fmaf(s[4 * n + 2 * half], scale_log2, -base)) +
                        exp2_approx(fmaf(s[4 * n + 2 * half + 1], scale_log2, -base));
            if (columns >= 4) sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            if (columns >= 8) sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            sums[n] = sum;
        }
        if (columns >= 16)
#pragma unroll
            for (int n = 0; n < kLogits / 4; n += 2) sums[n] += sums[n + 1];
        if (columns >= 32)
#pragma unroll
            for (int n = 0; n < kLogits / 4; n += 4) sums[n] += sums[n + 2];
        float *out = scratch + static_cast<long long>(row + 8 * half) * pitch;
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n) {
            const int column = 8 * n + 2 * (lane % 4); // the lane's first, which a key block must begin with
            if (column % columns == 0 && (first_column + column) / columns < pitch)
                out[(first_column + column) / columns] = log2f(sums[n]) + base;
        }
    }
}

/*
 * From a tile's scratch to the estimates of its query blocks, in the lists' memory. kThreads threads of the block together,
 * this one being number `thread` of them; `sync` is a barrier of these, behind one of which the last sums were stored.
 */
template <int kRows, int kThreads, typename Sync>
__device__ __forceinline__ void xattn_write_estimates(const tamis_pattern_xattn_args &args, const XattnTile &tile,
                                                      const float *scratch, float *s_lse2, int thread, Sync sync)
{
    const int lane = thread % 32, warp = thread / 32, pitch = args.lists.tiles;
    const int columns = kBlock / args.stride, blocks = blocks_of(tile.rows);
    const int rows = static_cast<int>(min(tile.reduced - tile.first_row, static_cast<long long>(kRows)));
    const int first_block = tile.tile * (kRows / columns);
    for (int r = warp; r < rows; r += kThreads / 32) {
        const float *row = scratch + static_cast<long long>(r) * pitch;
        const int count = first_block + r / columns + 1;
        float peak = -kInfinity, sum = 0.0f;
        for (int j = lane; j < count; j += 32) peak = fmaxf(peak, row[j]);
#pragma unroll
        for (int step = 16; step > 0; step /= 2) peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, step));
        for (int j = lane; j < count; j += 32) sum += exp2_approx(row[j] - peak);
        sum = warp_sum(sum);
        if (lane == 0) s_lse2[r] = peak + log2f(sum);
    }
    sync();
    for (int b = warp; b < kRows / columns && first_block + b < blocks; b += kThreads / 32) {
        const int i = first_block + b, from = b * columns, to = min(from + columns, rows);
        float *out = reinterpret_cast<float *>(list_row(args.lists, args.source.q_heads, tile.sequence, tile.head, i));
        for (int j = lane; j <= i; j += 32) {
            float sum = 0.0f;
            for (int r = from; r < to; ++r) sum += exp2_approx(scratch[static_cast<long long>(r) * pitch + j] - s_lse2[r]);
            out[j] = sum;
        }
    }
}
