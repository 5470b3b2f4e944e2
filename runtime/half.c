/*
 * half.c: bf16 and fp16 by integer arithmetic on float's bits. Nothing here branches on the value, so that loops over
 * rows vectorise, and no step makes a subnormal float, which a caller's flush-to-zero mode would lose.
 */
#include "half.h"

#include <string.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float bf16_to_float(uint16_t bits) { return float_of((uint32_t)bits << 16); }

static inline uint16_t bf16_from_float(float value)
{
    const uint32_t bits = bits_of(value);
    const uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    const uint32_t quiet = bits | 0x400000u; /* else a NaN whose payload is all in the low half would become infinite */
    return (uint16_t)(((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded) >> 16);
}

static inline float fp16_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = (uint32_t)(half & 0x7fffu) << 13;
    const uint32_t normal = magnitude + (112u << 23);
    const uint32_t special = magnitude | 0x7f800000u;
    const uint32_t subnormal = bits_of(float_of(magnitude + (113u << 23)) - 0x1p-14f); /* its hidden one taken off again */
    const uint32_t finite = magnitude < 0x00800000u ? subnormal : normal;
    return float_of(sign | (magnitude >= 0x0f800000u ? special : finite));
}

static inline uint16_t fp16_from_float(float value)
{
    const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    /* Adding 0.5, whose last place is fp16's smallest subnormal, rounds there; larger values take another branch. */
    const uint32_t small = magnitude < 0x38800000u ? magnitude : 0;
    const uint32_t subnormal = bits_of(float_of(small) + 0.5f) - 0x3f000000u;
    const uint32_t not_a_number = 0x7e00u | (magnitude >> 13 & 0x3ffu);
    uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
    half = magnitude >= 0x477ff000u ? 0x7c00u : half; /* 65520, halfway past the largest, and all above */
    half = magnitude > 0x7f800000u ? not_a_number : half;
    return (uint16_t)(sign | half);
}

float tamisi_bf16_to_float(uint16_t bits) { return bf16_to_float(bits); }
uint16_t tamisi_bf16_from_float(float value) { return bf16_from_float(value); }
float tamisi_fp16_to_float(uint16_t bits) { return fp16_to_float(bits); }
uint16_t tamisi_fp16_from_float(float value) { return fp16_from_float(value); }

float tamisi_half_to_float(uint16_t bits, tamis_dtype dtype)
{
    return dtype == TAMIS_FP16 ? fp16_to_float(bits) : bf16_to_float(bits);
}

uint16_t tamisi_half_from_float(float value, tamis_dtype dtype)
{
    return dtype == TAMIS_FP16 ? fp16_from_float(value) : bf16_from_float(value);
}

void tamisi_half_read_float(float *restrict out, const uint16_t *restrict in, size_t count, tamis_dtype dtype)
{
    if (dtype == TAMIS_FP16)
        for (size_t i = 0; i < count; i++) out[i] = fp16_to_float(in[i]);
    else
        for (size_t i = 0; i < count; i++) out[i] = bf16_to_float(in[i]);
}

void tamisi_half_read_double(double *restrict out, const uint16_t *restrict in, size_t count, tamis_dtype dtype)
{
    if (dtype == TAMIS_FP16)
        for (size_t i = 0; i < count; i++) out[i] = (double)fp16_to_float(in[i]);
    else
        for (size_t i = 0; i < count; i++) out[i] = (double)bf16_to_float(in[i]);
}

void tamisi_half_write_float(uint16_t *restrict out, const float *restrict in, size_t count, tamis_dtype dtype)
{
    if (dtype == TAMIS_FP16)
        for (size_t i = 0; i < count; i++) out[i] = fp16_from_float(in[i]);
    else
        for (size_t i = 0; i < count; i++) out[i] = bf16_from_float(in[i]);
}

void tamisi_half_write_double(uint16_t *restrict out, const double *restrict in, size_t count, tamis_dtype dtype)
{
    if (dtype == TAMIS_FP16)
        for (size_t i = 0; i < count; i++) out[i] = fp16_from_float((float)in[i]);
    else
        for (size_t i = 0; i < count; i++) out[i] = bf16_from_float((float)in[i]);
}
