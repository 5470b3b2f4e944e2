/*
 * store_fill.h: fake kernels for the tests of the store: number i is always the same source, variant and cubin.
 *
 * Shared by the check_store files, race_store.c and fuzz/fuzz_store.c; each uses some of it.
 */
#ifndef STORE_FILL_H
#define STORE_FILL_H

#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILL_ARCH "sm_80"
#define FILL_OPTIONS "-arch=sm_80\n-std=c++17\n"
#define FILL_NVRTC "NVRTC 13.0 of a test"

/* Text of source i, from a few bytes to several pages. */
static inline void fill_text(struct tamisi_buf *out, int i)
{
    tamisi_buf_printf(out, "// source %d\n", i);
    for (int line = 0; line < i * 20; line++) tamisi_buf_printf(out, "int value_%d_%d;\n", i, line);
}

static inline struct tamisi_hash fill_hash(int i)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    struct tamisi_hash hash;

    fill_text(&text, i);
    hash = tamisi_hash_bytes(text.data, text.size);
    tamisi_buf_free(&text);
    return hash;
}

/* Bytes of cubin i: a mark that can be found in the file, then noise. */
static inline size_t fill_cubin(char *out, size_t size, int i)
{
    size_t bytes = (size_t)(3000 + 1100 * i);
    unsigned state = 2463534242U + (unsigned)i;

    if (bytes > size) bytes = size;
    for (size_t at = 0; at < bytes; at++) {
        state = state * 1664525U + 1013904223U;
        out[at] = (char)(state >> 24);
    }
    snprintf(out, 32, "cubin mark %d", i);
    return bytes;
}

static inline void fill_variant(struct tamisi_variant *out, int i)
{
    memset(out, 0, sizeof *out);
    snprintf(out->spec, sizeof out->spec, "spec_%d", i % 2);
    snprintf(out->family, sizeof out->family, "%s", i % 3 == 0 ? "attend" : "score");
    snprintf(out->name, sizeof out->name, "kernel_%d", i);
    snprintf(out->arch, sizeof out->arch, FILL_ARCH);
    snprintf(out->params, sizeof out->params, "block_m=%d stages=2", 16 * (i + 1));
    out->dtype = i % 2;
    out->head_dim = 64 + 64 * (i % 2);
    out->rank = i / 2;
    out->abi = 1;
    out->source = fill_hash(i);
    out->entry_count = 2;
    for (int e = 0; e < out->entry_count; e++) {
        snprintf(out->entries[e].stage, sizeof out->entries[e].stage, "stage_%d", e);
        snprintf(out->entries[e].symbol, sizeof out->entries[e].symbol, "kernel_%d_%d", i, e);
        out->entries[e].threads = 128;
        out->entries[e].shared_bytes = 1024 * i;
        out->entries[e].block_m = 16;
    }
}

static inline tamis_status fill_put_cubin(tamis_store *store, int i, const char *nvrtc)
{
    const struct tamisi_resource resource = {"kernel", 128, 4096, 0, 0, 0, i % 2 == 1};
    char data[32 * 1024];
    struct tamisi_compiled compiled = {.cubin = data, .resources = {resource}, .resource_count = 1};
    struct tamisi_hash hash = fill_hash(i);

    compiled.cubin_bytes = fill_cubin(data, sizeof data, i);
    snprintf(compiled.resources[0].symbol, sizeof compiled.resources[0].symbol, "kernel_%d", i);
    return tamisi_store_put_cubin(store, &hash, FILL_ARCH, FILL_OPTIONS, nvrtc, &compiled);
}

/* Of kernel i, in one bucket and on one GPU for all. */
static inline struct tamisi_timing fill_timing(int i)
{
    struct tamisi_timing timing = {.source = fill_hash(i),
                                   .bucket = {.dtype = 1, .head_dim = 128, .q_heads = 32, .kv_heads = 8, .batch = 1,
                                              .seq_len = 8192, .kept = 4160, .scope = 2, .window = 128},
                                   .gpu = {.cc = 80, .sm_count = 108, .l2_bytes = 40ll << 20, .driver_major = 13},
                                   .state = TAMISI_TIMED, .rigor = TAMISI_NORMAL, .rounds = 9, .dropped = 1, .sm_mhz = 1410,
                                   .median_us = 1000.5 + i, .mad_us = 2.25, .cold_us = 1010, .warm_us = 990,
                                   .when = 1700000000};

    snprintf(timing.family, sizeof timing.family, "attend");
    snprintf(timing.arch, sizeof timing.arch, FILL_ARCH);
    snprintf(timing.variant, sizeof timing.variant, "kernel_%d", i);
    snprintf(timing.gpu.name, sizeof timing.gpu.name, "Fictional 108");
    return timing;
}

static inline tamis_status fill_put_source(tamis_store *store, int i)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    struct tamisi_hash hash = fill_hash(i);
    tamis_status status;

    fill_text(&text, i);
    status = tamisi_store_put_source(store, &hash, "attend", text.data);
    tamisi_buf_free(&text);
    return status;
}

static inline tamis_status fill_put_spec(tamis_store *store, int i)
{
    char name[16], text[] = "head_dim: 128\n", layers[] = "15-30";
    struct tamisi_spec_row spec = {name, TAMIS_PROBLEM_INIT, 32, layers, text, NULL};

    snprintf(name, sizeof name, "spec_%d", i);
    spec.problem.q_heads = 32;
    spec.problem.kv_heads = 8;
    spec.problem.head_dim = 64 + 64 * i;
    spec.problem.selection.policy = TAMIS_COVERAGE;
    spec.problem.selection.coverage = 0.005;
    return tamisi_store_put_spec(store, &spec);
}

/* Source, variant and cubin i; the first failure, if any. */
static inline tamis_status fill_put(tamis_store *store, int i)
{
    struct tamisi_variant variant;

    fill_variant(&variant, i);
    TAMIS_TRY(fill_put_source(store, i));
    TAMIS_TRY(tamisi_store_put_variant(store, &variant));
    return fill_put_cubin(store, i, FILL_NVRTC);
}

enum fill_found { FILL_ABSENT, FILL_RIGHT, FILL_WRONG };

static inline enum fill_found fill_get_source(tamis_store *store, int i)
{
    struct tamisi_buf text = TAMISI_BUF_INIT, wanted = TAMISI_BUF_INIT;
    struct tamisi_hash hash = fill_hash(i);
    tamis_status status = tamisi_store_get_source(&text, store, &hash);
    enum fill_found found = status == TAMIS_ENOTFOUND ? FILL_ABSENT : FILL_WRONG;

    fill_text(&wanted, i);
    if (status == TAMIS_OK && text.size == wanted.size && memcmp(text.data, wanted.data, text.size) == 0) found = FILL_RIGHT;
    tamisi_buf_free(&text);
    tamisi_buf_free(&wanted);
    return found;
}

static inline enum fill_found fill_get_cubin(tamis_store *store, int i, const char *nvrtc)
{
    char wanted[32 * 1024];
    size_t bytes = fill_cubin(wanted, sizeof wanted, i);
    struct tamisi_hash hash = fill_hash(i);
    struct tamisi_cubin cubin = {.data = NULL};
    tamis_status status = tamisi_store_get_cubin(&cubin, store, &hash, FILL_ARCH, FILL_OPTIONS, nvrtc);
    enum fill_found found = status == TAMIS_ENOTFOUND ? FILL_ABSENT : FILL_WRONG;

    if (status == TAMIS_OK && cubin.bytes == bytes && memcmp(cubin.data, wanted, bytes) == 0 && cubin.resource_count == 1 &&
        cubin.resources[0].registers == 128 && cubin.resources[0].serialized_wgmma == (i % 2 == 1) &&
        strcmp(cubin.nvrtc, nvrtc != NULL ? nvrtc : FILL_NVRTC) == 0)
        found = FILL_RIGHT;
    tamisi_cubin_free(&cubin);
    return found;
}

static inline enum fill_found fill_get_variant(tamis_store *store, int i)
{
    struct tamisi_variant wanted, *variants = NULL;
    struct tamisi_variant_query query = {NULL, NULL, FILL_ARCH, -1, -1};
    size_t count = 0;
    enum fill_found found = FILL_ABSENT;

    fill_variant(&wanted, i);
    query.family = wanted.family;
    if (tamisi_store_find_variants(&variants, &count, store, &query) != TAMIS_OK) return FILL_WRONG;
    for (size_t v = 0; v < count; v++) {
        if (strcmp(variants[v].name, wanted.name) != 0) continue;
        found = memcmp(&variants[v], &wanted, sizeof wanted) == 0 ? FILL_RIGHT : FILL_WRONG;
    }
    free(variants);
    return found;
}

/* Of `count` kernels with their sources, variants and cubins, how many are absent; *wrong counts those that differ. */
static inline int fill_count_absent(tamis_store *store, int count, int *wrong)
{
    int absent = 0;

    for (int i = 0; i < count; i++) {
        enum fill_found found[] = {fill_get_source(store, i), fill_get_variant(store, i),
                                   fill_get_cubin(store, i, i % 2 ? FILL_NVRTC : NULL)};

        for (int f = 0; f < 3; f++) {
            absent += found[f] == FILL_ABSENT;
            *wrong += found[f] == FILL_WRONG;
        }
    }
    return absent;
}

#endif
