/*
 * attend_mma.cuh: what the portable attention kernels share: where a head's K and V are, and the products of mma.sync that do
 * not depend on where Q is kept. Included behind a kernel's constants (attend.cu.lua).
 */
#pragma once

#include "kernel_args.h"
#include "ptx.cuh"
#include "softmax.cuh"
#include "tile.cuh"

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
