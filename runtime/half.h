/*
 * half.h: 16-bit floating point and back, bit-exact. Rounding is to nearest, ties to even; a NaN stays a NaN; fp16's
 * subnormals and overflow to infinity are as IEEE 754 has them, whatever the caller's flush-to-zero mode. Lowest layer.
 */
#ifndef TAMISI_HALF_H
#define TAMISI_HALF_H

#include "tamis.h"

float tamisi_bf16_to_float(uint16_t bits);
uint16_t tamisi_bf16_from_float(float value);
float tamisi_fp16_to_float(uint16_t bits);
uint16_t tamisi_fp16_from_float(float value);

/* The same by dtype. */
float tamisi_half_to_float(uint16_t bits, tamis_dtype dtype);
uint16_t tamisi_half_from_float(float value, tamis_dtype dtype);

/* A row of `count` elements. Doubles are rounded to float first: each is a sum whose own error is far above that. */
void tamisi_half_read_float(float *out, const uint16_t *in, size_t count, tamis_dtype dtype);
void tamisi_half_read_double(double *out, const uint16_t *in, size_t count, tamis_dtype dtype);
void tamisi_half_write_float(uint16_t *out, const float *in, size_t count, tamis_dtype dtype);
void tamisi_half_write_double(uint16_t *out, const double *in, size_t count, tamis_dtype dtype);

#endif
