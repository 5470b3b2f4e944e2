/*
 * matrix.hpp: elements of matrices as floats, for the files that multiply.
 */
#pragma once

#include "emulate.hpp"

#include <cstring>

/* For loops over floats, where this machine has wider vectors; the same bits on all. */
#if defined __x86_64__ && defined __GNUC__
#define WIDE_VECTORS __attribute__((target_clones("default", "avx2")))
#else
#define WIDE_VECTORS
#endif

namespace emulate {

extern const float *const half_values; /* of all 65536 */

inline float value_of(Element element, unsigned bits)
{
    if (element == Element::f16) return half_values[bits & 0xffff];
    const unsigned word = bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* Two elements, the low one first. */
inline void unpack(float *out, Element element, unsigned word)
{
    out[0] = value_of(element, word);
    out[1] = value_of(element, word >> 16);
}

/* sum[0 ... 7] += a[0 ... 15] times rows of b, of which eight columns are wanted; in the order of the depth. */
inline void multiply_row(float *sum, const float *a, const float *b, unsigned b_pitch)
{
    typedef float Eight __attribute__((vector_size(32)));
    Eight sums, row;
    memcpy(&sums, sum, sizeof sums);
    for (unsigned k = 0; k < 16; k++) {
        memcpy(&row, b + k * b_pitch, sizeof row);
        sums += a[k] * row;
    }
    memcpy(sum, &sums, sizeof sums);
}

} // namespace emulate
