/*
 * driver.h: tables of the CUDA driver's and NVRTC's entry points, opened with dlopen on first use.
 *
 * A binary that links this starts on a machine with neither library. The few types and constants that are needed are
 * declared here after the published ABI, so that building needs no CUDA toolkit either. Layer: above error, buf, hash.
 *
 * Tables are opened once a process and never closed; the getters are thread-safe.
 */
#ifndef TAMISI_DRIVER_H
#define TAMISI_DRIVER_H

#include "tamis.h"

#include <stddef.h>

/* ---- CUDA driver (libcuda.so.1) */
typedef int tamisi_cu_result; /* CUresult; 0 is success */
typedef int tamisi_cu_device;
typedef unsigned long long tamisi_cu_deviceptr;
typedef struct CUctx_st *tamisi_cu_context;
typedef struct CUlib_st *tamisi_cu_library;
typedef struct CUkern_st *tamisi_cu_kernel;
typedef struct CUfunc_st *tamisi_cu_function;
typedef struct CUevent_st *tamisi_cu_event;

enum { /* CUdevice_attribute */
    TAMISI_CU_ATTR_SM_COUNT = 16,
    TAMISI_CU_ATTR_L2_BYTES = 38,
    TAMISI_CU_ATTR_CC_MAJOR = 75,
    TAMISI_CU_ATTR_CC_MINOR = 76,
    TAMISI_CU_ATTR_SHARED_PER_BLOCK_OPTIN = 97
};
enum { TAMISI_CU_FUNC_MAX_DYNAMIC_SHARED = 8 }; /* CUfunction_attribute */
enum { TAMISI_CU_ERROR_OUT_OF_MEMORY = 2 };

/* What the tensor copy engine of sm_90 and newer reads a tile by; opaque, passed to kernels by value. */
struct tamisi_cu_tensor_map {
    _Alignas(64) unsigned long long opaque[16];
};
enum { /* CUtensorMapDataType */
    TAMISI_CU_TENSOR_UINT16 = 1,
    TAMISI_CU_TENSOR_FLOAT16 = 6,
    TAMISI_CU_TENSOR_FLOAT32 = 7,
    TAMISI_CU_TENSOR_BFLOAT16 = 9
};
enum { TAMISI_CU_INTERLEAVE_NONE = 0 }; /* CUtensorMapInterleave */
enum {                                  /* CUtensorMapSwizzle */
    TAMISI_CU_SWIZZLE_NONE = 0,
    TAMISI_CU_SWIZZLE_32B = 1,
    TAMISI_CU_SWIZZLE_64B = 2,
    TAMISI_CU_SWIZZLE_128B = 3
};
enum { /* CUtensorMapL2promotion */
    TAMISI_CU_L2_PROMOTION_NONE = 0,
    TAMISI_CU_L2_PROMOTION_64B = 1,
    TAMISI_CU_L2_PROMOTION_128B = 2,
    TAMISI_CU_L2_PROMOTION_256B = 3
};
enum { TAMISI_CU_OOB_FILL_NONE = 0 }; /* CUtensorMapFloatOOBfill: zeros outside the tensor */

enum { TAMISI_CU_LAUNCH_CLUSTER_DIMENSION = 4, TAMISI_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION = 6 }; /* CUlaunchAttributeID */
struct tamisi_cu_launch_attribute {
    int id;
    _Alignas(8) unsigned value[3]; /* of a union of 64 bytes: a cluster's blocks along x, y and z, or one number */
    char rest[52];
};
struct tamisi_cu_launch { /* CUlaunchConfig */
    unsigned grid[3], block[3], shared_bytes;
    tamis_stream stream;
    struct tamisi_cu_launch_attribute *attributes;
    unsigned attribute_count;
};

struct tamisi_cuda {
    char path[512]; /* where the library was found */
    int version;    /* cuDriverGetVersion: 13000 for 13.0 */
    tamisi_cu_result (*init)(unsigned);
    tamisi_cu_result (*get_error_string)(tamisi_cu_result, const char **);
    tamisi_cu_result (*get_error_name)(tamisi_cu_result, const char **);
    tamisi_cu_result (*device_get_count)(int *);
    tamisi_cu_result (*device_get)(tamisi_cu_device *, int);
    tamisi_cu_result (*device_get_name)(char *, int, tamisi_cu_device);
    tamisi_cu_result (*device_get_attribute)(int *, int, tamisi_cu_device);
    tamisi_cu_result (*device_total_mem)(size_t *, tamisi_cu_device);
    tamisi_cu_result (*device_get_pci_bus_id)(char *, int, tamisi_cu_device); /* "0000:1b:00.0" */
    tamisi_cu_result (*primary_ctx_retain)(tamisi_cu_context *, tamisi_cu_device);
    tamisi_cu_result (*primary_ctx_release)(tamisi_cu_device);
    tamisi_cu_result (*ctx_push)(tamisi_cu_context);
    tamisi_cu_result (*ctx_pop)(tamisi_cu_context *);
    tamisi_cu_result (*library_load_data)(tamisi_cu_library *, const void *, int *, void **, unsigned, int *, void **,
                                          unsigned);
    tamisi_cu_result (*library_unload)(tamisi_cu_library);
    tamisi_cu_result (*library_get_kernel)(tamisi_cu_kernel *, tamisi_cu_library, const char *);
    tamisi_cu_result (*kernel_get_function)(tamisi_cu_function *, tamisi_cu_kernel);
    tamisi_cu_result (*func_set_attribute)(tamisi_cu_function, int, int);
    tamisi_cu_result (*func_get_attribute)(int *, int, tamisi_cu_function);
    tamisi_cu_result (*launch_kernel)(const struct tamisi_cu_launch *, tamisi_cu_function, void **, void **);
    tamisi_cu_result (*mem_alloc)(tamisi_cu_deviceptr *, size_t);
    tamisi_cu_result (*mem_free)(tamisi_cu_deviceptr);
    tamisi_cu_result (*mem_get_info)(size_t *, size_t *);
    tamisi_cu_result (*memcpy_htod_async)(tamisi_cu_deviceptr, const void *, size_t, tamis_stream);
    tamisi_cu_result (*memcpy_dtoh_async)(void *, tamisi_cu_deviceptr, size_t, tamis_stream);
    tamisi_cu_result (*memset_d8_async)(tamisi_cu_deviceptr, unsigned char, size_t, tamis_stream);
    tamisi_cu_result (*memset_d32_async)(tamisi_cu_deviceptr, unsigned, size_t, tamis_stream);
    tamisi_cu_result (*stream_create)(tamis_stream *, unsigned);
    tamisi_cu_result (*stream_destroy)(tamis_stream);
    tamisi_cu_result (*stream_synchronize)(tamis_stream);
    tamisi_cu_result (*event_create)(tamisi_cu_event *, unsigned);
    tamisi_cu_result (*event_destroy)(tamisi_cu_event);
    tamisi_cu_result (*event_record)(tamisi_cu_event, tamis_stream);
    tamisi_cu_result (*event_synchronize)(tamisi_cu_event);
    tamisi_cu_result (*event_elapsed_ms)(float *, tamisi_cu_event, tamisi_cu_event);
    /* map, data type, rank, address, rank sizes, rank - 1 strides in bytes, rank box sizes, rank steps in elements,
       interleave, swizzle, L2 promotion, what is read out of bounds */
    tamisi_cu_result (*tensor_map_encode_tiled)(struct tamisi_cu_tensor_map *, int, unsigned, void *,
                                                const unsigned long long *, const unsigned long long *, const unsigned *,
                                                const unsigned *, int, int, int, int);
};

/*
 * The driver's table, initialised (cuInit done). Looked for in $TAMIS_LIBCUDA, and nowhere else if that is set; then as
 * libcuda.so.1 in the linker's path; then where WSL keeps it.
 * TAMIS_ENODEVICE: not found, without a symbol that is needed, or cuInit failed; TAMIS_EUNSUPPORTED: older than CUDA 12.0.
 * The message says which file, and what it lacks. A failure stays: every later call reports the same.
 */
tamis_status tamisi_cuda_get(const struct tamisi_cuda **out);

/* TAMIS_OK for 0; else TAMIS_ENOMEM or TAMIS_ECUDA with "<what>: <CUDA's name>: <CUDA's text>". */
tamis_status tamisi_cuda_check(const struct tamisi_cuda *cuda, tamisi_cu_result result, const char *what);

/* ---- NVRTC (libnvrtc.so.13, .12) */
typedef struct _nvrtcProgram *tamisi_nvrtc_program;

struct tamisi_nvrtc {
    char path[512];
    char identity[96]; /* "nvrtc 13.0 <hash of the library file's head and size>": part of a cubin's key */
    int major, minor;
    const char *(*get_error_string)(int);
    int (*version)(int *, int *);
    int (*get_num_supported_archs)(int *);
    int (*get_supported_archs)(int *);
    int (*create_program)(tamisi_nvrtc_program *, const char *, const char *, int, const char *const *,
                          const char *const *);
    int (*destroy_program)(tamisi_nvrtc_program *);
    int (*compile_program)(tamisi_nvrtc_program, int, const char *const *);
    int (*get_cubin_size)(tamisi_nvrtc_program, size_t *);
    int (*get_cubin)(tamisi_nvrtc_program, char *);
    int (*get_log_size)(tamisi_nvrtc_program, size_t *);
    int (*get_log)(tamisi_nvrtc_program, char *);
};

/*
 * NVRTC's table. Looked for in $TAMIS_LIBNVRTC (a file, or a folder like those below), and nowhere else if that is set; then
 * by soname in the linker's path; then in the usual toolkit folders ($CUDA_HOME, $CUDA_PATH, /usr/local/cuda), where lib,
 * lib64 and the folders of NVIDIA's Python wheels are looked through. NVRTC opens libnvrtc-builtins by name alone when it
 * first compiles: the matching one from its own folder is opened before that.
 * TAMIS_ECOMPILE: not found, or not usable; the message says what was tried. A failure stays, as above.
 */
tamis_status tamisi_nvrtc_get(const struct tamisi_nvrtc **out);

#endif
