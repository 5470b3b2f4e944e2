/*
 * fake_cublas.c: a libcublas that is none (TAMIS_LIBCUBLAS), for tests without a GPU: products in plain C, at once, in memory
 * that the host can reach, as that of a libcuda that is none. Refuses what cuBLAS would, strides that are too short, and 16-bit
 * outputs where cuBLAS would be free to sum up parts of a product in 16 bits.
 *
 * FAKE_CUBLAS_SKIP=1: products are looked at and not made, where kernels do not run either.
 */
#include "half.h"

#include <stdlib.h>

enum { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16F = 2, R_16BF = 14, COMPUTE_32F = 68, OP_N = 0, OP_T = 1, FULL_SUMS = 16 };

struct handle {
    void *stream;
    int math_mode;
};

int cublasCreate_v2(void **out);
int cublasDestroy_v2(void *handle);
int cublasSetStream_v2(void *handle, void *stream);
int cublasSetMathMode(void *handle, int mode);
int cublasGemmEx(void *handle, int trans_a, int trans_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
                 int lda,
                 const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int compute,
                     int algorithm);

int cublasCreate_v2(void **out)
{
    *out = calloc(1, sizeof(struct handle));
    return *out ? SUCCESS : NOT_INITIALIZED;
}

int cublasDestroy_v2(void *handle)
{
    free(handle);
    return SUCCESS;
}

int cublasSetStream_v2(void *handle, void *stream)
{
    if (!handle) return NOT_INITIALIZED;
    ((struct handle *)handle)->stream = stream;
    return SUCCESS;
}

int cublasSetMathMode(void *handle, int mode)
{
    if (!handle) return NOT_INITIALIZED;
    ((struct handle *)handle)->math_mode = mode;
    return SUCCESS;
}

static double read_at(const void *data, int64_t index, int type)
{
    if (type == R_32F) return (double)((const float *)data)[index];
    return (double)tamisi_half_to_float(((const uint16_t *)data)[index], type == R_16BF ? TAMIS_BF16 : TAMIS_FP16);
}

static void write_at(void *data, int64_t index, int type, double value)
{
    if (type == R_32F) ((float *)data)[index] = (float)value;
    else ((uint16_t *)data)[index] = tamisi_half_from_float((float)value, type == R_16BF ? TAMIS_BF16 : TAMIS_FP16);
}

int cublasGemmEx(void *handle, int trans_a, int trans_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
                 int lda,
                 const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int compute, int algorithm)
{
    const char *skip = getenv("FAKE_CUBLAS_SKIP");
    (void)algorithm;
    if (!handle) return NOT_INITIALIZED;
    if (m < 1 || n < 1 || k < 1 || !alpha || !beta || !a || !b || !c) return INVALID_VALUE;
    if (lda < (trans_a == OP_N ? m : k) || ldb < (trans_b == OP_N ? k : n) || ldc < m) return INVALID_VALUE;
    if (type_a != type_b || (type_a != R_16F && type_a != R_16BF) || (type_c != type_a && type_c != R_32F) ||
        compute != COMPUTE_32F)
        return NOT_SUPPORTED;
    if (type_c != R_32F && !(((struct handle *)handle)->math_mode & FULL_SUMS)) return NOT_SUPPORTED;
    for (int64_t column = 0; column < n && !skip; column++)
        for (int64_t row = 0; row < m; row++) {
            const float keep = *(const float *)beta;
            double sum = 0;
            for (int64_t i = 0; i < k; i++)
                sum += read_at(a, trans_a == OP_N ? row + i * lda : i + row * lda, type_a) *
                       read_at(b, trans_b == OP_N ? i + column * ldb : column + i * ldb, type_b);
            sum *= (double)*(const float *)alpha;
            if (keep != 0) sum += (double)keep * read_at(c, row + column * ldc, type_c);
            write_at(c, row + column * ldc, type_c, sum);
        }
    return SUCCESS;
}
