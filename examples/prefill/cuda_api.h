/*
 * cuda_api.h: the few functions of libcuda, NVRTC and cuBLAS that the prefill uses, opened at run time: the program builds
 * where there is no CUDA toolkit, and starts where there is no GPU. Types after the published ABIs. Below backend_gpu.c.
 */
#ifndef CUDA_API_H
#define CUDA_API_H

#include <tamis.h>

#include <stddef.h>

enum { CU_CC_MAJOR = 75, CU_CC_MINOR = 76 };                /* CUdevice_attribute */
enum { CUDA_R_32F = 0, CUDA_R_16F = 2, CUDA_R_16BF = 14 };  /* cudaDataType_t */
enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_COMPUTE_32F = 68, CUBLAS_GEMM_DEFAULT = -1 };
enum { CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION = 16 };

struct cuda_api {
    int (*init)(unsigned);
    int (*device_get)(int *, int);
    int (*device_get_attribute)(int *, int, int);
    int (*device_name)(char *, int, int);
    int (*memory_info)(size_t *, size_t *); /* free, all */
    int (*primary_retain)(void **, int);
    int (*primary_release)(int);
    int (*push)(void *);
    int (*pop)(void **);
    int (*library_load)(void **, const void *, void *, void *, unsigned, void *, void *, unsigned);
    int (*library_unload)(void *);
    int (*library_get_kernel)(void **, void *, const char *);
    int (*kernel_get_function)(void **, void *);
    int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, tamis_stream, void **, void **);
    int (*event_create)(void **, unsigned);
    int (*event_destroy)(void *);
    int (*event_record)(void *, tamis_stream);
    int (*event_synchronize)(void *);
    int (*event_elapsed)(float *, void *, void *);
    int (*error_name)(int, const char **);
};

struct nvrtc_api {
    int (*create)(void **, const char *, const char *, int, const char *const *, const char *const *);
    int (*compile)(void *, int, const char *const *);
    int (*destroy)(void **);
    int (*log_size)(void *, size_t *);
    int (*log)(void *, char *);
    int (*cubin_size)(void *, size_t *);
    int (*cubin)(void *, char *);
};

struct cublas_api {
    int (*create)(void **);
    int (*destroy)(void *);
    int (*set_stream)(void *, tamis_stream);
    int (*set_math_mode)(void *, int);
    /* op(A) (m, k) times op(B) (k, n) to C (m, n), column-major; types, strides in elements */
    int (*gemm)(void *, int, int, int, int, int, const void *, const void *, int, int, const void *, int, int, const void *,
                void *,
                int, int, int, int);
};

/* Each looks at $TAMIS_LIBCUDA, $TAMIS_LIBNVRTC, $TAMIS_LIBCUBLAS (a file, or a folder that holds it) and at nothing else if
   that is set; then in the linker's path; then in a toolkit's folders. Or dies: what was looked for, or what it lacks. */
void cuda_api_open(struct cuda_api *out);
void nvrtc_api_open(struct nvrtc_api *out);
void cublas_api_open(struct cublas_api *out);

#endif
