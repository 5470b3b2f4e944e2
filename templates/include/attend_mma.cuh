/*
 * attend_mma.cuh: what the portable attention kernels share: where a head's K and V are, the products of mma.sync, and how rows
 * leave. Included behind a kernel's constants (attend.cu.lua).
 */
#pragma once

#include "kernel_args.h"
#include "ptx.cuh"
#include "softmax.cuh"
#include "tile.cuh"

constexpr int kThreads = 32 * kWarps;
constexpr int kRowTiles = kBlockM / kWarps / 16; /* 16-row tiles a warp */
constexpr int kLogits = kBlockN / 2;             /* of a row tile that a thread holds, as softmax.cuh has them */
constexpr int kOutputs = kHeadDim / 2;           /* in the same layout */
constexpr int kPitch = Tile<kHeadDim>::kPitchBytes;
constexpr int kTileBytes = kBlockN * kPitch; /* of one K or V tile */
constexpr int kStageBytes = 2 * kTileBytes;  /* K, then V */
constexpr float kLn2 = 0.693147180559945f;   /* the log-sum-exp leaves in natural units */

/* Where this block's rows are: compact ones, or the full tensors where the sequence keeps every token. */
struct Source {
    const char *k, *v;        // row 0 of this head
    long long k_step, v_step; // bytes from row to row
};

__device__ __forceinline__ Source find_source(const tamis_attend_args &args, int sequence, int head, bool full)
{
    const tamis_rows &k = full ? args.k_full : args.k;
    const tamis_rows &v = full ? args.v_full : args.v;
    const int kv_head = head / (args.q_heads / (full ? args.kv_heads : args.compact_heads));
    return {row_pointer(k, sequence, kv_head, 0), row_pointer(v, sequence, kv_head, 0), 2 * k.row_stride,
            2 * v.row_stride};
}

/* The d-th 16 columns of a warp's rows of Q: from shared memory, or from where registers hold them. */
__device__ __forceinline__ void take_queries(unsigned (&query)[kRowTiles][4], unsigned s_q, int d)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) load_matrix_x4(query[m], s_q + m * 16 * kPitch + d * 32);
}

__device__ __forceinline__ void take_queries(unsigned (&query)[kRowTiles][4],
                                             const unsigned (&q)[kHeadDim / 16][kRowTiles][4], int d)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i) query[m][i] = q[d][m][i];
}

/* S = Q K^T. */
template <typename Queries>
__device__ __forceinline__ void multiply_keys(float (&s)[kRowTiles][kLogits], const Queries &q, unsigned k)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int i = 0; i < kLogits; ++i) s[m][i] = 0.0f;
#pragma unroll
    for (int d = 0; d < kHeadDim / 16; ++d) {
        unsigned query[kRowTiles][4];
        take_queries(query, q, d);
#pragma unroll
        for (int n = 0; n < kBlockN / 16; ++n) {
            unsigned key[4];
            load_matrix_x4(key, k + n * 16 * kPitch + d * 32);
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                Element::mma(s[m] + 8 * n, query[m], key[0], key[1]);
                Element::mma(s[m] + 8 * n + 4, query[m], key[2], key[3]);
            }
        }
    }
}

/* S = Q K^T of one row tile once more, in little code and few registers, as it is seldom needed. */
__device__ __forceinline__ void multiply_keys_again(float (&s)[kLogits], unsigned s_q, unsigned k)
{
#pragma unroll
    for (int i = 0; i < kLogits; ++i) s[i] = 0.0f;
#pragma unroll 1
    for (int d = 0; d < kHeadDim / 16; ++d) {
        unsigned query[4], key[4];
        load_matrix_x4(query, s_q + d * 32);
#pragma unroll
        for (int n = 0; n < kBlockN / 16; ++n) {
            load_matrix_x4(key, k + n * 16 * kPitch + d * 32);
            Element::mma(s + 8 * n, query, key[0], key[1]);
            Element::mma(s + 8 * n + 4, query, key[2], key[3]);
        }
    }
}

/* O += P V. The probabilities in accumulator layout are the A fragments as they stand, once packed to 16 bits. */
__device__ __forceinline__ void multiply_values(float (&o)[kRowTiles][kOutputs], const float (&s)[kRowTiles][kLogits],
                                                unsigned v)
{
#pragma unroll
    for (int k = 0; k < kBlockN / 16; ++k) {
        unsigned probability[kRowTiles][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                probability[m][i] = Element::pack(s[m][8 * k + 2 * i], s[m][8 * k + 2 * i + 1]);
#pragma unroll
        for (int d = 0; d < kHeadDim / 16; ++d) {
            unsigned value[4];
            load_matrix_x4_transposed(value, v + k * 16 * kPitch + d * 32);
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
                Element::mma(o[m] + 8 * d, probability[m], value[0], value[1]);
                Element::mma(o[m] + 8 * d + 4, probability[m], value[2], value[3]);
            }
        }
    }
}

__device__ __forceinline__ void rescale_output(float (&o)[kOutputs], const Softmax &state)
{
    if (!state.grown) return;
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) o[i] *= state.scale[i / 2 % 2];
}

/*
 * A warp's rows of a tile, and their tokens, or null where each is its own. The two parts of a row's number stay apart until it
 * is needed: ptxas would keep the sum in a register from the kernel's beginning.
 */
struct Rows {
    int sequence, head, first_row, warp_row; // the tile's first one of the sequence's, and the warp's first one of those
    int count;                               // of the sequence
    const int *token;
    __device__ __forceinline__ int token_of(int row) const { return token ? token[row] : row; }
};

/* Sums of whole rows, and their log-sum-exp, which is -inf where a row has seen no key. */
__device__ __forceinline__ void finish_softmax(const tamis_attend_args &args, const Rows &rows, Softmax (&state)[kRowTiles],
                                               int lane)
{
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            state[m].sum[half] = quad_sum(state[m].sum[half]);
            const int row = rows.first_row + rows.warp_row + 16 * m + lane / 4 + 8 * half;
            if (args.lse && lane % 4 == 0 && row < rows.count)
                args.lse[(static_cast<long long>(rows.sequence) * args.q_heads + rows.head) * args.lse_rows +
                         rows.token_of(row)] =
                    (state[m].max[half] * args.scale_log2 + log2f(state[m].sum[half])) * kLn2;
        }
}

/*
 * Normalise the rows and write them to their tokens' places, through `s_rows`, where the warp's rows of Q were: nobody else
 * reads those. kEmpty: a row may have seen no key, and is 0 then.
 */
template <bool kEmpty>
__device__ __forceinline__ void write_rows(const tamis_attend_args &args, const Rows &rows, char *s_rows,
                                           const float (&o)[kRowTiles][kOutputs], const Softmax (&state)[kRowTiles], int lane)
{
    __syncwarp(); // all lanes are done with Q
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float inverse = kEmpty && state[m].sum[half] == 0.0f ? 0.0f : 1.0f / state[m].sum[half];
            char *row = s_rows + (16 * m + lane / 4 + 8 * half) * kPitch + lane % 4 * 4;
#pragma unroll
            for (int d = 0; d < kHeadDim / 8; ++d)
                *reinterpret_cast<unsigned *>(row + d * 16) =
                    Element::pack(o[m][4 * d + 2 * half] * inverse, o[m][4 * d + 2 * half + 1] * inverse);
        }
    __syncwarp();
    char *output = const_cast<char *>(row_pointer(args.output, rows.sequence, rows.head, 0));
    constexpr int kChunks = Tile<kHeadDim>::kChunks;
    for (int i = lane; i < 16 * kRowTiles * kChunks; i += 32) {
        const int row = rows.first_row + rows.warp_row + i / kChunks, chunk = i % kChunks;
        if (row >= rows.count) break;
        const int4 value = *reinterpret_cast<const int4 *>(s_rows + i / kChunks * kPitch + chunk * 16);
        *reinterpret_cast<int4 *>(output + 2 * args.output.row_stride * rows.token_of(row) + chunk * 16) = value;
    }
}
