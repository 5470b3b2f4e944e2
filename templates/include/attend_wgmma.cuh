/*
 * attend_wgmma.cuh: what the Hopper attention kernels share of computing: products of tiles, and what happens to P, O and V in
 * a step, and to O at a tile's end. Included behind attend_tma.cuh and a kernel's wgmma_keys and wgmma_values, which wgmma.lua
 * writes.
 */
#pragma once

#include "attend_tma.cuh"
#include "softmax.cuh"

constexpr float kLn2 = 0.693147180559945f; /* the log-sum-exp leaves in natural units */

/* 16 columns of a warp's 16 rows of Q, as both kinds of product take them from registers. `q` is the first row. */
__device__ __forceinline__ void load_queries_16(unsigned (&a)[4], unsigned q, int i, int lane)
{
    load_matrix_x4(a, q + lane % 16 * 128 + i / 4 * kBlockM * 128 + ((i % 4 * 2 + lane / 16) ^ lane % 8) * 16);
}

/* The i-th 16 columns of a warpgroup's 64 rows of Q: by the low half of a descriptor, or from registers. */
__device__ __forceinline__ unsigned long long queries_16(unsigned q, int i)
{
    return matrix_descriptor(q, (i / 4) * kBlockM * 128 + (i % 4) * 32);
}

__device__ __forceinline__ const unsigned *queries_16(const unsigned (&q)[kHeadDim / 16][4], int i) { return q[i]; }

/* S = Q K^T. `k`, and `v` below, are low halves of descriptors. */
template <typename Queries>
__device__ __forceinline__ void multiply_keys(float (&s)[kLogits], const Queries &q, unsigned k)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i)
        wgmma_keys(s, queries_16(q, i), matrix_descriptor(k, (i / 4) * kBlockN * 128 + (i % 4) * 32), i > 0);
    wgmma_commit();
}

/* O += P V. */
__device__ __forceinline__ void multiply_values(float (&o)[kOutputs], const unsigned (&p)[kBlockN / 4], unsigned v)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kBlockN / 16; ++i) wgmma_values(o, p + 4 * i, matrix_descriptor(v, i * 2048));
    wgmma_commit();
}

/* S = Q K^T once more, of this warp's 16 rows alone, from the tiles that are still there. `q` is the first of the rows. */
__device__ __forceinline__ void multiply_keys_again(float (&s)[kLogits], unsigned q, unsigned k, int lane)
{
#pragma unroll
    for (int i = 0; i < kLogits; ++i) s[i] = 0.0f;
    const unsigned k_row = k + (lane / 16 * 8 + lane % 8) * 128;
#pragma unroll 1
    for (int i = 0; i < kHeadDim / 16; ++i) {
        unsigned a[4], b[4];
        load_queries_16(a, q, i, lane);
#pragma unroll
        for (int n = 0; n < kBlockN / 16; ++n) {
            load_matrix_x4(b, k_row + i / 4 * kBlockN * 128 + n * 2048 + ((i % 4 * 2 + lane / 8 % 2) ^ lane % 8) * 16);
            Element::mma(s + 8 * n, a, b[0], b[1]);
            Element::mma(s + 8 * n + 4, a, b[2], b[3]);
        }
    }
}

__device__ __forceinline__ void pack_probabilities(unsigned (&p)[kBlockN / 4], const float (&s)[kLogits])
{
#pragma unroll
    for (int i = 0; i < kBlockN / 4; ++i) p[i] = Element::pack(s[2 * i], s[2 * i + 1]);
}

__device__ __forceinline__ void rescale_output(float (&o)[kOutputs], const Softmax &state)
{
    if (!state.grown) return;
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) o[i] *= state.scale[i / 2 % 2];
}

/* Zero the rows of a V tile behind the sequence's last: their probabilities are 0, but 0 times stale bits need not be. */
__device__ __forceinline__ void clear_values(unsigned tile, int first, int thread)
{
    for (int i = first * 8 + thread; i < kBlockN * 8; i += 128 * kWarpgroups)
#pragma unroll
        for (int sub = 0; sub < kSubTiles; ++sub)
            store_shared_16(tile + sub * kBlockN * 128 + i * 16, 0, 0);
}

/* Where a tile's rows go: to their tokens' places. */
struct OutputRows {
    const tamis_attend_args &attend;
    const Work &work;
    const int *token; // of each row, or null where each is its own
    char *output;     // of the head's first token

    __device__ __forceinline__ OutputRows(const tamis_attend_args &attend_, const Work &work_)
        : attend(attend_), work(work_), token(token_list(attend_, work_)),
          output(const_cast<char *>(row_pointer(attend_.output, work_.sequence, work_.head, 0)))
    {
    }

    // The row `half` of the two that a thread has part of, times `inverse`, and its log-sum-exp, -inf where `sum` is 0. The
    // four lanes of a row call it together. `row` counts from the sequence's first.
    __device__ __forceinline__ void write(const float (&o)[kOutputs], const Softmax &state, int half, float sum, float inverse,
                                          int row, int lane) const
    {
        const bool valid = row < work.rows;
        const int place = valid && token ? token[row] : row;
        if (attend.lse && valid && lane % 4 == 0)
            attend.lse[(static_cast<long long>(work.sequence) * attend.q_heads + work.head) * attend.lse_rows + place] =
                (state.max[half] * attend.scale_log2 + log2f(sum)) * kLn2;
        char *out = output + 2 * attend.output.row_stride * place + lane % 4 * 16;
#pragma unroll
        for (int n = 0; n < kHeadDim / 8; n += 4) {
            unsigned packed[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
                packed[i] = Element::pack(o[4 * (n + i) + 2 * half] * inverse, o[4 * (n + i) + 2 * half + 1] * inverse);
            const int4 value = exchange_chunks(packed, lane);
            if (valid) *reinterpret_cast<int4 *>(out + n * 16) = value;
        }
    }
};
