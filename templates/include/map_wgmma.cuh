/*
 * map_wgmma.cuh: rows of O times their head's output map (map_args.h), with wgmma. The map comes as V does, kBlockN of its rows
 * a tile. Included behind the products of a Hopper attention kernel (attend_wgmma.cu.lua), whose names it uses.
 */
#pragma once

#include "hopper.cuh"
#include "softmax.cuh"
#include "tile.cuh"

constexpr int kRowWords = kHeadDim / 4; /* of two rows' elements, packed by twos, that a thread holds */

/*
 * O, normalised. In accumulator layout it is the operand from registers as it stands, once packed, as probabilities are. Leaves
 * zeros behind, for the product to add up in.
 */
template <typename Keep>
__device__ __forceinline__ void pack_rows(float (&o)[kOutputs], const Softmax &state, int lane, Keep keep)
{
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
        inverse[half] = kSumByProduct ? __shfl_sync(0xffffffffu, 1.0f / o[kHeadDim / 2 + 2 * half], lane & ~3)
                                      : 1.0f / quad_sum(state.sum[half]);
#pragma unroll
    for (int i = 0; i < kRowWords; i += 4) {
        unsigned words[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
            words[j] = Element::pack(o[2 * (i + j)] * inverse[j % 2], o[2 * (i + j) + 1] * inverse[j % 2]);
        keep(i, words);
    }
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) o[i] = 0.0f;
}

/* O += rows times those of the map that are in the tile `map`, from number `first` on. `rows`: the words from there on. */
__device__ __forceinline__ void multiply_map(float (&o)[kOutputs], const unsigned *rows, unsigned map, int first)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kBlockN / 16; ++i)
        if (first + 16 * i < kHeadDim) wgmma_values(o, rows + 4 * i, matrix_descriptor(map, i * 2048));
    wgmma_commit();
}

/* ---- rows that registers have no room for lie where their warpgroup's Q was: each thread's own words, 16 bytes at a time */

__device__ __forceinline__ unsigned words_place(unsigned q, int thread, int word)
{
    return q + word / 16 * (kBlockM * 128) + word / 4 % 4 * 2048 + thread * 16;
}

__device__ __forceinline__ void store_words(unsigned shared, const unsigned (&words)[4])
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(words[0]), "r"(words[1]), "r"(words[2]),
                 "r"(words[3])
                 : "memory");
}

__device__ __forceinline__ void load_words(unsigned *words, unsigned shared)
{
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(shared)
                 : "memory");
}
