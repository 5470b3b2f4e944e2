/*
 * fake_nvrtc.c: an NVRTC that is none, in the same library as the fake libcuda (TAMIS_LIBNVRTC may name it). It
 * "compiles" any source to the text "cubin of NAME for ARCH", a zero byte and the source, and reports every kernel that the
 * source declares as ptxas would, so that the way from a store without cubins to a loaded plan is tested on machines without a
 * compiler.
 *
 *   FAKE_NVRTC_VERSION  "13.0"
 *   FAKE_NVRTC_MS       how long a compilation takes; 0
 * A source that contains "#error" is rejected with a message that names its line.
 */
#define _POSIX_C_SOURCE 200809L

#include "tamis.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct program {
    char name[96], *source;
    char *cubin; /* with its bytes */
    size_t cubin_bytes;
    char log[4096];
};

/* An entry point with its prototype. */
#define ENTRY(type, name, parameters)                                                                                      \
    TAMIS_API type name parameters;                                                                                        \
    type name parameters

ENTRY(const char *, nvrtcGetErrorString, (int code)) { return code == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR_OTHER"; }

ENTRY(int, nvrtcVersion, (int *major, int *minor))
{
    const char *text = getenv("FAKE_NVRTC_VERSION");
    if (!text || sscanf(text, "%d.%d", major, minor) != 2) *major = 13, *minor = 0;
    return 0;
}

ENTRY(int, nvrtcGetNumSupportedArchs, (int *count))
{
    *count = 1;
    return 0;
}

ENTRY(int, nvrtcGetSupportedArchs, (int *archs))
{
    archs[0] = 90;
    return 0;
}

ENTRY(int, nvrtcCreateProgram,
      (struct program **out, const char *source, const char *name, int headers, const char *const *texts,
       const char *const *names))
{
    struct program *program = calloc(1, sizeof *program);
    (void)texts, (void)names;
    if (program) program->source = strdup(source);
    if (!program || !program->source || headers != 0) {
        free(program);
        return 1;
    }
    snprintf(program->name, sizeof program->name, "%s", name);
    *out = program;
    return 0;
}

ENTRY(int, nvrtcDestroyProgram, (struct program **program))
{
    free((*program)->source);
    free((*program)->cubin);
    free(*program);
    *program = NULL;
    return 0;
}

/* Each `__global__ void NAME(` as ptxas reports a kernel. */
static void report_kernels(struct program *program, const char *arch)
{
    static const char mark[] = "__global__ void ";
    size_t used = 0;
    for (const char *at = strstr(program->source, mark); at && used < sizeof program->log; at = strstr(at, mark)) {
        at += sizeof mark - 1;
        const int length = snprintf(program->log + used, sizeof program->log - used,
                                    "ptxas info    : Compiling entry function '%.*s' for '%s'\n"
                                    "ptxas info    : Used 40 registers\n",
                                    (int)strcspn(at, "("), at, arch);
        used += (size_t)length;
    }
}

static int make_cubin(struct program *program, const char *arch)
{
    char text[192];
    const size_t head = (size_t)snprintf(text, sizeof text, "cubin of %s for %s", program->name, arch) + 1;
    const size_t source = strlen(program->source) + 1;
    program->cubin = malloc(head + source);
    if (!program->cubin) return 0;
    memcpy(program->cubin, text, head);
    memcpy(program->cubin + head, program->source, source);
    program->cubin_bytes = head + source;
    return 1;
}

static void take_time(void)
{
    const char *text = getenv("FAKE_NVRTC_MS");
    const long ms = text ? atol(text) : 0;
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

ENTRY(int, nvrtcCompileProgram, (struct program *program, int count, const char *const *options))
{
    static const char arch_option[] = "--gpu-architecture=";
    const char *arch = "";
    for (int i = 0; i < count; i++)
        if (strncmp(options[i], arch_option, sizeof arch_option - 1) == 0) arch = options[i] + sizeof arch_option - 1;
    const char *error = strstr(program->source, "#error");
    take_time();
    if (error) {
        int line = 1;
        for (const char *at = program->source; at < error; at++) line += *at == '\n';
        snprintf(program->log, sizeof program->log, "%s(%d): error: #error directive\n", program->name, line);
        return 6;
    }
    if (!make_cubin(program, arch)) return 1;
    report_kernels(program, arch);
    return 0;
}

ENTRY(int, nvrtcGetCUBINSize, (struct program *program, size_t *bytes))
{
    *bytes = program->cubin_bytes;
    return 0;
}

ENTRY(int, nvrtcGetCUBIN, (struct program *program, char *cubin))
{
    memcpy(cubin, program->cubin, program->cubin_bytes);
    return 0;
}

ENTRY(int, nvrtcGetProgramLogSize, (struct program *program, size_t *bytes))
{
    *bytes = strlen(program->log) + 1;
    return 0;
}

ENTRY(int, nvrtcGetProgramLog, (struct program *program, char *log))
{
    memcpy(log, program->log, strlen(program->log) + 1);
    return 0;
}
