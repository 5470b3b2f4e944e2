/*
 * backend_gpu.c: the prefill's arithmetic on a GPU: products by cuBLAS, the rest by kernels.cu, whose text is part of the
 * program and is compiled by NVRTC for the GPU at hand. All on one stream; nothing is allocated once it is open.
 */
#include "prefill.h"

#include "cuda_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const char prefill_kernels[]; /* kernels.cu; made by CMake */

enum kernel { EMBED, COPY, RMS_NORM, ROPE, SWIGLU, FILL, KERNELS };
static const char *const kernel_names[KERNELS] = {"embed", "copy", "rms_norm", "rope", "swiglu", "fill"};
#define THREADS 256    /* of every kernel's block */
#define FILL_SPAN 8192 /* elements that a block of fill makes */

struct gpu {
    struct cuda_api cuda;
    struct cublas_api cublas;
    void *blas;
    void *library;
    void *kernels[KERNELS];
    void *marks[MOST_MARKS]; /* events */
    int device;
};

static void must(const struct gpu *gpu, int result, const char *what)
{
    const char *name = NULL;
    if (result == 0) return;
    gpu->cuda.error_name(result, &name);
    die("%s: %s", what, name ? name : "an unknown CUDA error");
}

static void must_multiply(int result, const char *what)
{
    if (result != 0) die("%s: cuBLAS status %d", what, result);
}

static void launch(struct backend *backend, enum kernel kernel, int64_t blocks, void **args)
{
    const struct gpu *gpu = backend->state;
    if (blocks > 0x7fffffff) die("%s: too many rows for one launch", kernel_names[kernel]);
    must(gpu, gpu->cuda.launch(gpu->kernels[kernel], (unsigned)blocks, 1, 1, THREADS, 1, 1, 0, backend->stream, args, NULL),
         kernel_names[kernel]);
}

/* ---- the table */

/* cuBLAS is column-major: it sees out as (n, rows), in as (k, rows) and weight as (k, n). */
static void gemm(struct backend *backend, void *out, int64_t out_stride, const void *in, int64_t in_stride, const void *weight,
                 int64_t rows, int n, int k, int flags)
{
    const struct gpu *gpu = backend->state;
    const float one = 1, beta = flags & GEMM_ADD ? 1 : 0;
    const int half = backend->dtype == TAMIS_BF16 ? CUDA_R_16BF : CUDA_R_16F;
    must_multiply(gpu->cublas.gemm(gpu->blas, CUBLAS_OP_T, CUBLAS_OP_N, n, (int)rows, k, &one, weight, half, k, in, half,
                                   (int)in_stride, &beta, out, flags & GEMM_FLOAT ? CUDA_R_32F : half, (int)out_stride,
                                   CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                  "a product");
}

static void rms_norm(struct backend *backend, void *out, const void *in, const void *weight, int64_t rows, int width,
                     float epsilon)
{
    launch(backend, RMS_NORM, rows, (void *[]){&out, &in, &weight, &width, &epsilon});
}

static void rope(struct backend *backend, void *rows_of_heads, int64_t stride, const float *angles, int64_t rows, int heads,
                 int head_dim)
{
    long long pitch = stride;
    launch(backend, ROPE, rows, (void *[]){&rows_of_heads, &pitch, &angles, &heads, &head_dim});
}

static void swiglu(struct backend *backend, void *gate_up, int64_t rows, int inner)
{
    launch(backend, SWIGLU, rows, (void *[]){&gate_up, &inner});
}

static void embed(struct backend *backend, void *out, const void *table, const int32_t *ids, int64_t rows, int width)
{
    launch(backend, EMBED, rows, (void *[]){&out, &table, &ids, &width});
}

/* As rows of 8 elements and more, which divide what is copied. */
static void copy(struct backend *backend, void *to, const void *from, size_t bytes)
{
    int width = 4096;
    while (bytes % (2 * (size_t)width)) width /= 2;
    if (width < 8) die("a copy of %zu bytes, which are no multiple of 16", bytes);
    launch(backend, COPY, (int64_t)(bytes / (2 * (size_t)width)), (void *[]){&to, &from, &width});
}

static void fill(struct backend *backend, void *out, int64_t count, uint32_t seed, float deviation)
{
    long long elements = count;
    int span = FILL_SPAN;
    float scale = deviation * 2.0647625e-7f; /* as in prefill_random() */
    launch(backend, FILL, (count + FILL_SPAN - 1) / FILL_SPAN, (void *[]){&out, &elements, &span, &seed, &scale});
}

static void mark(struct backend *backend, int slot)
{
    struct gpu *gpu = backend->state;
    must(gpu, gpu->cuda.event_record(gpu->marks[slot], backend->stream), "an event");
}

static double between(struct backend *backend, int from, int to)
{
    const struct gpu *gpu = backend->state;
    float milliseconds = 0;
    must(gpu, gpu->cuda.event_synchronize(gpu->marks[to]), "an event");
    must(gpu, gpu->cuda.event_elapsed(&milliseconds, gpu->marks[from], gpu->marks[to]), "an event");
    return (double)milliseconds;
}

static size_t memory(struct backend *backend, size_t *total)
{
    const struct gpu *gpu = backend->state;
    size_t available = 0;
    must(gpu, gpu->cuda.memory_info(&available, total), "the GPU's memory");
    return *total - available;
}

static void close_gpu(struct backend *backend)
{
    struct gpu *gpu = backend->state;
    void *popped;
    gpu->cublas.destroy(gpu->blas);
    for (int i = 0; i < MOST_MARKS; i++) gpu->cuda.event_destroy(gpu->marks[i]);
    gpu->cuda.library_unload(gpu->library);
    gpu->cuda.pop(&popped);
    gpu->cuda.primary_release(gpu->device);
    free(gpu);
}

static const struct backend_table gpu_table = {"GPU", gemm, rms_norm, rope,    swiglu, embed,
                                               copy,  fill, mark,     between, memory, close_gpu};

/* ---- opening */

static char *compile(const struct gpu *gpu, tamis_dtype dtype)
{
    struct nvrtc_api nvrtc;
    int major = 0, minor = 0;
    char arch[48];
    const char *const options[] = {arch, "-std=c++17"};
    void *program;
    size_t bytes = strlen(prefill_kernels) + 64;
    char *source = malloc(bytes);
    if (!source) die("out of memory");
    snprintf(source, bytes, "#define BF16 %d\n#line 1\n%s", dtype == TAMIS_BF16, prefill_kernels);
    nvrtc_api_open(&nvrtc);
    must(gpu, gpu->cuda.device_get_attribute(&major, CU_CC_MAJOR, gpu->device), "the GPU");
    must(gpu, gpu->cuda.device_get_attribute(&minor, CU_CC_MINOR, gpu->device), "the GPU");
    snprintf(arch, sizeof arch, "--gpu-architecture=sm_%d%d", major, minor);
    if (nvrtc.create(&program, source, "kernels.cu", 0, NULL, NULL) != 0) die("NVRTC: cannot begin");
    if (nvrtc.compile(program, 2, options) != 0) {
        char *log = nvrtc.log_size(program, &bytes) == 0 ? calloc(1, bytes + 1) : NULL;
        if (log) nvrtc.log(program, log);
        die("kernels.cu does not compile for %s:\n%s", arch, log ? log : "");
    }
    free(source);
    if (nvrtc.cubin_size(program, &bytes) != 0) die("NVRTC: no cubin");
    char *cubin = malloc(bytes);
    if (!cubin || nvrtc.cubin(program, cubin) != 0) die("NVRTC: no cubin");
    nvrtc.destroy(&program);
    return cubin;
}

static void load_kernels(struct gpu *gpu, tamis_dtype dtype)
{
    char *cubin = compile(gpu, dtype);
    must(gpu, gpu->cuda.library_load(&gpu->library, cubin, NULL, NULL, 0, NULL, NULL, 0), "loading kernels.cu");
    free(cubin);
    for (int i = 0; i < KERNELS; i++) {
        void *kernel;
        must(gpu, gpu->cuda.library_get_kernel(&kernel, gpu->library, kernel_names[i]), kernel_names[i]);
        must(gpu, gpu->cuda.kernel_get_function(&gpu->kernels[i], kernel), kernel_names[i]);
    }
}

void backend_gpu_open(struct backend *out, int device, tamis_dtype dtype)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    struct gpu *gpu = calloc(1, sizeof *gpu);
    void *primary;
    if (!gpu) die("out of memory");
    options.device = device;
    *out = (struct backend){.table = &gpu_table, .dtype = dtype, .state = gpu};
    need(tamis_context_create(&out->context, &options), "the GPU");
    cuda_api_open(&gpu->cuda);
    cublas_api_open(&gpu->cublas);
    must(gpu, gpu->cuda.init(0), "the driver");
    must(gpu, gpu->cuda.device_get(&gpu->device, device), "the GPU");
    must(gpu, gpu->cuda.device_name(out->device, sizeof out->device, gpu->device), "the GPU");
    must(gpu, gpu->cuda.primary_retain(&primary, gpu->device), "the GPU");
    must(gpu, gpu->cuda.push(primary), "the GPU");
    load_kernels(gpu, dtype);
    need(tamis_stream_create(&out->stream, out->context), "a stream");
    must_multiply(gpu->cublas.create(&gpu->blas), "cuBLAS cannot begin");
    must_multiply(gpu->cublas.set_stream(gpu->blas, out->stream), "cuBLAS and its stream");
    /* Else sums of a product's parts may be of the output's 16 bits. */
    must_multiply(gpu->cublas.set_math_mode(gpu->blas, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION), "cuBLAS's sums");
    for (int i = 0; i < MOST_MARKS; i++) must(gpu, gpu->cuda.event_create(&gpu->marks[i], 0), "an event");
}
