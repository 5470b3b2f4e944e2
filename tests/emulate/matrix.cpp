/*
 * matrix.cpp: a warp's matrix instructions, mma.sync and ldmatrix, and the 16-bit elements that they work on. Products are
 * exact, sums in fp32 and one order.
 *
 * Fragments, lane = 4 * g + t: A has rows g and g + 8, columns 2t, 2t + 1 and 8 further; B the same with columns for rows; C
 * and D rows g and g + 8, columns 2t and 2t + 1.
 */
#include "machine.hpp"
#include "matrix.hpp"

#include <cmath>

namespace emulate {

/* ---- elements */

static float half_value(unsigned short bits)
{
    const int sign = bits >> 15, exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 31  ? (fraction ? NAN : INFINITY)
                       : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                       : std::ldexp(static_cast<float>(fraction | 1024), exponent - 25);
    return sign ? -size : size;
}

struct HalfTable {
    float value[65536];
    HalfTable()
    {
        for (unsigned i = 0; i < 65536; i++) value[i] = half_value(static_cast<unsigned short>(i));
    }
};
static const HalfTable half_table;
const float *const half_values = half_table.value;

float element_value(Element element, unsigned short bits) { return value_of(element, bits); }

static unsigned short half_bits(float value)
{
    unsigned word;
    memcpy(&word, &value, sizeof word);
    const unsigned short sign = static_cast<unsigned short>(word >> 16 & 0x8000);
    const float size = std::fabs(value);
    if (std::isnan(value)) return 0x7fff;
    if (size >= 65520.0f) return static_cast<unsigned short>(sign | 0x7c00); /* half a unit above the largest */
    int exponent;
    std::frexp(size, &exponent);
    const int unit = exponent - 11 < -24 ? -24 : exponent - 11; /* of the last place */
    const unsigned steps = static_cast<unsigned>(std::lrint(std::ldexp(size, -unit))); /* to nearest, even */
    return static_cast<unsigned short>(sign | (steps + (unit > -24 ? static_cast<unsigned>(unit + 24) << 10 : 0)));
}

unsigned short element_bits(Element element, float value)
{
    if (element == Element::f16) return half_bits(value);
    unsigned word;
    memcpy(&word, &value, sizeof word);
    if (std::isnan(value)) return 0x7fff;
    return static_cast<unsigned short>((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

/* ---- mma.sync */

WIDE_VECTORS static void multiply_warp(void *const (&arguments)[32], unsigned)
{
    float a[16][16], b[16][8], c[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const Product &product = *static_cast<const Product *>(arguments[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            unpack(&a[g + i % 2 * 8][2 * t + i / 2 * 8], product.element, product.a[i]);
            c[g + i / 2 * 8][2 * t + i % 2] = *product.c[i];
        }
        for (int i = 0; i < 2; i++) {
            float pair[2];
            unpack(pair, product.element, product.b[i]);
            b[2 * t + 8 * i][g] = pair[0];
            b[2 * t + 8 * i + 1][g] = pair[1];
        }
    }
    for (int i = 0; i < 16; i++) multiply_row(c[i], a[i], b[0], 8);
    for (int lane = 0; lane < 32; lane++) {
        const Product &product = *static_cast<const Product *>(arguments[lane]);
        for (int i = 0; i < 4; i++) *product.d[i] = c[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
    }
}

void multiply(Product &product) { meet("mma.sync", kAllLanes, &product, multiply_warp); }

/* ---- ldmatrix and stmatrix */

static const Matrices &matrices_of(void *const (&arguments)[32], int lane)
{
    return *static_cast<const Matrices *>(arguments[lane]);
}

/* Word of lane `lane` of an 8x8 matrix: where its two elements stand. */
static void place_of(int (&row)[2], int (&column)[2], int lane, bool transposed)
{
    for (int i = 0; i < 2; i++) {
        row[i] = transposed ? 2 * (lane % 4) + i : lane / 4;
        column[i] = transposed ? lane / 4 : 2 * (lane % 4) + i;
    }
}

static void load_warp(void *const (&arguments)[32], unsigned)
{
    const unsigned count = matrices_of(arguments, 0).count;
    for (unsigned m = 0; m < count; m++) {
        unsigned short matrix[8][8];
        for (int row = 0; row < 8; row++)
            memcpy(matrix[row], shared_memory(matrices_of(arguments, static_cast<int>(8 * m) + row).address, 16, "ldmatrix"),
                   16);
        for (int lane = 0; lane < 32; lane++) {
            int row[2], column[2];
            place_of(row, column, lane, matrices_of(arguments, lane).transposed);
            *matrices_of(arguments, lane).r[m] =
                matrix[row[0]][column[0]] | static_cast<unsigned>(matrix[row[1]][column[1]]) << 16;
        }
    }
}

static void store_warp(void *const (&arguments)[32], unsigned)
{
    const unsigned count = matrices_of(arguments, 0).count;
    for (unsigned m = 0; m < count; m++) {
        unsigned short matrix[8][8];
        for (int lane = 0; lane < 32; lane++) {
            int row[2], column[2];
            place_of(row, column, lane, matrices_of(arguments, lane).transposed);
            const unsigned word = *matrices_of(arguments, lane).r[m];
            matrix[row[0]][column[0]] = static_cast<unsigned short>(word);
            matrix[row[1]][column[1]] = static_cast<unsigned short>(word >> 16);
        }
        for (int row = 0; row < 8; row++)
            memcpy(shared_memory(matrices_of(arguments, static_cast<int>(8 * m) + row).address, 16, "stmatrix"), matrix[row],
                   16);
    }
}

void load_matrices(Matrices &matrices) { meet("ldmatrix", kAllLanes, &matrices, load_warp); }

void store_matrices(Matrices &matrices) { meet("stmatrix", kAllLanes, &matrices, store_warp); }

} // namespace emulate
