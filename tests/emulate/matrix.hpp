/*
 * matrix.hpp: the product that all matrix instructions come down to.
 */
#pragma once

#include "emulate.hpp"

namespace emulate {

const float *half_values(); /* of all 65536 */
void unpack(float *out, Element element, unsigned word); /* two elements, the low one first */

/* c (rows, kColumns) += a (rows, depth) * b (depth, kColumns); a sum goes through the depth in order. */
template <int kColumns>
inline void multiply_block(float *c, const float *a, const float *b, int rows, int depth)
{
    for (int i = 0; i < rows; i++) {
        float sum[kColumns];
        for (int j = 0; j < kColumns; j++) sum[j] = c[i * kColumns + j];
        for (int k = 0; k < depth; k++)
            for (int j = 0; j < kColumns; j++) sum[j] += a[i * depth + k] * b[k * kColumns + j];
        for (int j = 0; j < kColumns; j++) c[i * kColumns + j] = sum[j];
    }
}

} // namespace emulate
