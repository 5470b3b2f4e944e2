/*
 * compile.h: CUDA text to cubin through NVRTC, and the compiler's resource report. Layer: above driver.
 */
#ifndef TAMISI_COMPILE_H
#define TAMISI_COMPILE_H

#include "hash.h"
#include "tamis.h"

#include <stdbool.h>
#include <stddef.h>

#define TAMISI_MAX_ENTRIES 4 /* kernels in one source */
#define TAMISI_SYMBOL_SIZE 96

/* What ptxas reports of one kernel. */
struct tamisi_resource {
    char symbol[TAMISI_SYMBOL_SIZE];
    int registers;     /* a thread */
    int shared_bytes;  /* static shared memory */
    int stack_bytes;   /* a thread */
    int spill_stores;  /* bytes a thread */
    int spill_loads;   /* bytes a thread */
    bool serialized_wgmma; /* a loss is reported: wgmma serialised, setmaxnreg ignored. The kernel is right but slow */
};

struct tamisi_compiled {
    char *cubin; /* owned */
    size_t cubin_bytes;
    char *log; /* owned; the compiler's whole log, "" if none */
    struct tamisi_resource resources[TAMISI_MAX_ENTRIES];
    int resource_count;
    double milliseconds;
};

/*
 * The options for an architecture ("sm_90a"), each followed by a newline: the option vector as it enters keys. It does not
 * depend on which NVRTC there is, so that a store's cubins are found where there is none.
 */
#define TAMISI_OPTIONS_SIZE 256
void tamisi_compile_options(char out[TAMISI_OPTIONS_SIZE], const char *arch);

/* Key of a cubin: source text hash, options (arch among them), NVRTC identity. */
struct tamisi_hash tamisi_compile_key(const struct tamisi_hash *source, const char *options, const char *nvrtc_identity);

/*
 * Compile `source` for `arch`. `name` is what messages call the file. Thread-safe; several threads compile at once.
 * On failure: TAMIS_ECOMPILE, the first error line as message ("attend.cu.lua:41: identifier ...") and the log as detail.
 */
tamis_status tamisi_compile(struct tamisi_compiled *out, const char *name, const char *source, const char *arch);
void tamisi_compiled_free(struct tamisi_compiled *compiled);

/* ---- compile_log.c: reading the compiler's log. Pure. */

/*
 * Read ptxas -v output. Returns how many kernels were found, at most `capacity`. What a log does not say stays 0; spills of
 * functions that were not inlined count for the kernel that they are reported with, a loss that names no kernel for all.
 */
int tamisi_compile_read_log(const char *log, struct tamisi_resource *resources, int capacity);

/*
 * The first error in one line: "attend.cu.lua:41: identifier "x" is undefined", folders left out; "ptxas: ..." for errors of
 * the assembler; the first line that is not blank where nothing looks like an error; "" for an empty log.
 */
void tamisi_compile_first_error(char *out, size_t size, const char *log);

#endif
