/*
 * compile.c: CUDA text to cubin, in memory, through NVRTC. What its log says is read in compile_log.c; which kernels to
 * compile and where cubins are kept is decided above. Layer: above driver, below store.
 */
#define _POSIX_C_SOURCE 200809L

#include "compile.h"
#include "driver.h"
#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OPTIONS_MAX 8
#define NVRTC_ERROR_INVALID_OPTION 5

/*
 * No fast math: score and select promise sums in one order and to the last bit, and where a kernel wants an approximation
 * it says so (ex2.approx). Straight to a cubin of one architecture: PTX would depend on the driver's version.
 */
void tamisi_compile_options(char out[TAMISI_OPTIONS_SIZE], const char *arch)
{
    snprintf(out, TAMISI_OPTIONS_SIZE, "--gpu-architecture=%.64s\n--std=c++17\n--ptxas-options=-v\n", arch);
}

struct tamisi_hash tamisi_compile_key(const struct tamisi_hash *source, const char *options, const char *nvrtc_identity)
{
    const struct tamisi_hash_part parts[] = {
        {source->bytes, sizeof source->bytes}, {options, strlen(options)}, {nvrtc_identity, strlen(nvrtc_identity)}};
    return tamisi_hash_parts(parts, sizeof parts / sizeof *parts);
}

/* Cut the option text into its lines, in place, and add what changes no byte of the cubin and so belongs in no key. */
static int split_options(const char *options[OPTIONS_MAX], char *text, const struct tamisi_nvrtc *nvrtc)
{
    int count = 0;
    while (*text && count < OPTIONS_MAX - 1) {
        char *end = text + strcspn(text, "\n");
        options[count++] = text;
        if (*end) *end++ = '\0';
        text = end;
    }
    if (nvrtc->major >= 13) options[count++] = "--no-cache"; /* the store is the cache, and times are to be honest */
    return count;
}

static tamis_status read_text(char **out, const struct tamisi_nvrtc *nvrtc, tamisi_nvrtc_program program)
{
    size_t bytes = 0;
    if (nvrtc->get_log_size(program, &bytes) != 0) bytes = 0;
    char *log = calloc(1, bytes + 1);
    if (!log) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the compiler's log");
    if (bytes > 0 && nvrtc->get_log(program, log) != 0) log[0] = '\0';
    *out = log;
    return TAMIS_OK;
}

static tamis_status read_cubin(struct tamisi_compiled *out, const struct tamisi_nvrtc *nvrtc, tamisi_nvrtc_program program,
                               const char *name)
{
    int result = nvrtc->get_cubin_size(program, &out->cubin_bytes);
    if (result == 0 && out->cubin_bytes > 0) {
        out->cubin = malloc(out->cubin_bytes);
        if (!out->cubin) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a cubin of %zu bytes", out->cubin_bytes);
        result = nvrtc->get_cubin(program, out->cubin);
    }
    if (result != 0 || !out->cubin)
        return tamisi_fail(TAMIS_ECOMPILE, "%s: NVRTC gives no cubin: %s", name, nvrtc->get_error_string(result));
    return TAMIS_OK;
}

static tamis_status fail_compile(const struct tamisi_nvrtc *nvrtc, int result, const char *name, const char *arch,
                                 const char *log)
{
    char first[512];
    tamisi_compile_first_error(first, sizeof first, log);
    tamis_status status;
    if (result == NVRTC_ERROR_INVALID_OPTION)
        status = tamisi_fail(TAMIS_ECOMPILE, "%s: NVRTC %d.%d cannot compile for %s: %s", name, nvrtc->major, nvrtc->minor,
                             arch, *first ? first : nvrtc->get_error_string(result));
    else if (*first)
        status = tamisi_fail(TAMIS_ECOMPILE, "%s", first);
    else
        status = tamisi_fail(TAMIS_ECOMPILE, "%s: %s", name, nvrtc->get_error_string(result));
    tamisi_error_detail(log);
    return status;
}

static tamis_status compile_program(struct tamisi_compiled *out, const struct tamisi_nvrtc *nvrtc,
                                    tamisi_nvrtc_program program, const char *name, const char *arch)
{
    char text[TAMISI_OPTIONS_SIZE];
    const char *options[OPTIONS_MAX];
    tamisi_compile_options(text, arch);
    const int count = split_options(options, text, nvrtc);
    const int result = nvrtc->compile_program(program, count, options);
    TAMIS_TRY(read_text(&out->log, nvrtc, program));
    if (result != 0) return fail_compile(nvrtc, result, name, arch, out->log);
    TAMIS_TRY(read_cubin(out, nvrtc, program, name));
    out->resource_count =
        tamisi_compile_read_log(out->log, out->resources, TAMISI_MAX_ENTRIES);
    return TAMIS_OK;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

tamis_status tamisi_compile(struct tamisi_compiled *out, const char *name, const char *source, const char *arch)
{
    const struct tamisi_nvrtc *nvrtc;
    tamisi_nvrtc_program program = NULL;
    *out = (struct tamisi_compiled){.cubin = NULL};
    TAMIS_TRY(tamisi_nvrtc_get(&nvrtc));
    const double begin = now_ms();
    const int result = nvrtc->create_program(&program, source, name, 0, NULL, NULL);
    if (result != 0) return tamisi_fail(TAMIS_ECOMPILE, "%s: %s", name, nvrtc->get_error_string(result));
    const tamis_status status = compile_program(out, nvrtc, program, name, arch);
    nvrtc->destroy_program(&program);
    out->milliseconds = now_ms() - begin;
    if (status != TAMIS_OK) tamisi_compiled_free(out);
    return status;
}

void tamisi_compiled_free(struct tamisi_compiled *compiled)
{
    free(compiled->cubin);
    free(compiled->log);
    *compiled = (struct tamisi_compiled){.cubin = NULL};
}
