/*
 * map_mma.cuh: rows of O times their head's output map (map_args.h), with the products of mma.sync. Included behind a portable
 * attention kernel's constants (attend.cu.lua).
 */
#pragma once

#include "ptx.cuh"
#include "softmax.cuh"
#include "tile.cuh"

/* Rows of the map that K's and V's part of shared memory holds at once. */
constexpr int kMapRows = 2 * kStages * kBlockN < kHeadDim ? 2 * kStages * kBlockN : kHeadDim;

/*
 * The map takes the place of K and V, a part after the other. Normalised rows in accumulator layout are the A fragments as they
 * stand, once packed to 16 bits, as probabilities are. Leaves sums of 1 behind, as the rows are normalised then. All threads
 * call this together, with sums that are whole rows'.
 */
__device__ __forceinline__ void map_output(float (&o)[kRowTiles][kOutputs], Softmax (&state)[kRowTiles], unsigned s_map,
                                           const char *map, int lane)
{
    unsigned rows[kHeadDim / 16][kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
        const float inverse[2] = {1.0f / state[m].sum[0], 1.0f / state[m].sum[1]};
#pragma unroll
        for (int i = 0; i < kOutputs; i += 2)
            rows[i / 8][m][i / 2 % 4] = Element::pack(o[m][i] * inverse[i / 2 % 2], o[m][i + 1] * inverse[i / 2 % 2]);
#pragma unroll
        for (int i = 0; i < kOutputs; ++i) o[m][i] = 0.0f;
        state[m].sum[0] = state[m].sum[1] = 1.0f;
    }
#pragma unroll
    for (int first = 0; first < kHeadDim; first += kMapRows) {
        __syncthreads(); // everybody is done with what lies there
        load_rows_async<kHeadDim, kMapRows, kThreads>(s_map, map, [&](int i) -> const char * {
            return first + i < kHeadDim ? map + 2 * kHeadDim * (first + i) : nullptr;
        });
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
#pragma unroll
        for (int k = first / 16; k < kHeadDim / 16 && k < (first + kMapRows) / 16; ++k)
#pragma unroll
            for (int d = 0; d < kHeadDim / 16; ++d) {
                unsigned column[4];
                load_matrix_x4_transposed(column, s_map + lane_offset_a<kHeadDim>(lane) + (16 * k - first) * kPitch + d * 32);
#pragma unroll
                for (int m = 0; m < kRowTiles; ++m) {
                    Element::mma(o[m] + 8 * d, rows[k][m], column[0], column[1]);
                    Element::mma(o[m] + 8 * d + 4, rows[k][m], column[2], column[3]);
                }
            }
    }
}
