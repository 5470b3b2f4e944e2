/*
 * store.h: the store file: specs, variants, sources, cubins and timings in SQLite. Layer: above compile and choice.h (whose
 * structs it keeps).
 *
 * One schema, three uses (a user's cache, a shipped bundle, a read-only layer). Every row carries a checksum over all its
 * columns; a row that fails it counts as absent, one warning to the log. Writers of the same entry race freely: the loser
 * finds the winner's row. A handle may be shared by threads.
 */
#ifndef TAMISI_STORE_H
#define TAMISI_STORE_H

#include "buf.h"
#include "choice.h"
#include "compile.h"
#include "error.h"
#include "hash.h"
#include "tamis.h"

#define TAMISI_STORE_FORMAT 3             /* PRAGMA user_version; a newer one is TAMIS_EVERSION. 1: no timings; 2: no
                                             patterns, which a file gets with the first spec that names one */
#define TAMISI_STORE_NEW_FORMAT 2         /* of a file until then, so that an older tamis reads it too */
#define TAMISI_STORE_APPLICATION 0x54414d53 /* PRAGMA application_id, "TAMS" */

#define TAMISI_ANY (-1) /* dtype of a variant that does not depend on it */

/* A spec as the runtime needs it; `text` is the YAML it came from. */
struct tamisi_spec_row {
    char *name;
    tamis_problem problem; /* batch 1, seq_len 0 */
    int layers;            /* 0: unknown */
    char *sparse_layers;   /* "15-30", "" if not published */
    char *text;
    char *pattern;         /* as tamisi_pattern_write() has it; "" or NULL if the spec names none */
};

/* How one kernel of a variant is launched. Declared by its template. */
struct tamisi_entry {
    char stage[32]; /* "score_stats": which launch of the runtime this serves */
    char symbol[TAMISI_SYMBOL_SIZE];
    int threads;      /* a block */
    int shared_bytes; /* dynamic shared memory */
    int block_m;      /* rows (queries, keys or tokens) a block handles: what the grid is made from. select_budget,
                       select_tokens: blocks that share a list longer than block_n instead */
    int block_n;      /* columns a step handles; 0 where it means nothing */
};

/* One specialised kernel source for one architecture. */
struct tamisi_variant {
    char spec[64];
    char family[16]; /* score, select, compress, attend, decompress, drift */
    char name[TAMISI_SYMBOL_SIZE];
    char arch[16];       /* sm_80, sm_90a, ... */
    int dtype;           /* tamis_dtype or TAMISI_ANY */
    int head_dim;        /* or 0 for any */
    int rank;            /* 0: the default */
    int abi;             /* TAMIS_KERNEL_ABI of its args */
    char params[256];    /* "block_m=128 block_n=64 stages=2 warps=8" */
    struct tamisi_hash source;
    int entry_count;
    struct tamisi_entry entries[TAMISI_MAX_ENTRIES];
};

struct tamisi_cubin {
    char *data; /* owned */
    size_t bytes;
    char nvrtc[96];
    int resource_count;
    struct tamisi_resource resources[TAMISI_MAX_ENTRIES];
};
void tamisi_cubin_free(struct tamisi_cubin *cubin);

/* Writing. Each is atomic; TAMIS_EUNSUPPORTED on a read-only store. Putting what is there already is TAMIS_OK. */
bool tamisi_store_writable(const tamis_store *store);
const char *tamisi_store_path(const tamis_store *store);
tamis_status tamisi_store_begin(tamis_store *store); /* group puts in one transaction; the handle's other threads wait */
tamis_status tamisi_store_commit(tamis_store *store);
void tamisi_store_rollback(tamis_store *store);
tamis_status tamisi_store_put_spec(tamis_store *store, const struct tamisi_spec_row *spec);
void tamisi_pattern_write(struct tamisi_buf *out, const tamis_pattern *pattern); /* for a row; nothing of none */
tamis_status tamisi_store_put_source(tamis_store *store, const struct tamisi_hash *hash, const char *name,
                                     const char *text);
tamis_status tamisi_store_put_variant(tamis_store *store, const struct tamisi_variant *variant);
/* Drop a spec's variants of one architecture, NULL: of all, before the new set is put: so removed tile sizes disappear. */
tamis_status tamisi_store_drop_variants(tamis_store *store, const char *spec, const char *arch);
tamis_status tamisi_store_put_cubin(tamis_store *store, const struct tamisi_hash *source, const char *arch,
                                    const char *options, const char *nvrtc_identity,
                                    const struct tamisi_compiled *compiled);

/* Reading. TAMIS_ENOTFOUND where there is none (or only a damaged one). What comes back is the caller's to free. */
tamis_status tamisi_store_get_spec(struct tamisi_spec_row *out, tamis_store *store,
                                   const char *name); /* NULL: the only one */
void tamisi_spec_row_free(struct tamisi_spec_row *spec);
tamis_status tamisi_store_get_source(struct tamisi_buf *out, tamis_store *store, const struct tamisi_hash *hash);
/* nvrtc_identity NULL: any; the newest of several. */
tamis_status tamisi_store_get_cubin(struct tamisi_cubin *out, tamis_store *store, const struct tamisi_hash *source,
                                    const char *arch, const char *options, const char *nvrtc_identity);

/*
 * Variants in order of rank, then spec, then name. NULL and negative arguments match everything; a given dtype or head_dim
 * also matches variants that do not depend on it. free() the array. Zero matches are TAMIS_OK with *count 0.
 */
struct tamisi_variant_query {
    const char *spec;
    const char *family;
    const char *arch;
    int dtype;    /* -1: all */
    int head_dim; /* -1: all */
};
tamis_status tamisi_store_find_variants(struct tamisi_variant **out, size_t *count, tamis_store *store,
                                        const struct tamisi_variant_query *query);

/*
 * Timings. A key is what was timed, where and of which problem: source, bucket, GPU. It has one result and, while a tuner is
 * at it, one journal row (TAMISI_STARTED), so that who died over a candidate is known afterwards. A result is replaced by
 * one that tamisi_timing_supersedes() it, and by no other. A store of format 1 becomes one of format 2 with the first row.
 */
tamis_status tamisi_store_put_timing(tamis_store *store, const struct tamisi_timing *timing);
/* Remove the journal row of a key, if there is one. */
tamis_status tamisi_store_end_timing(tamis_store *store, const struct tamisi_timing *timing);
/* Those of a family on an architecture for a head_dim and a compute capability; free(). */
tamis_status tamisi_store_find_timings(struct tamisi_timing **out, size_t *count, tamis_store *store, const char *family,
                                       const char *arch, int head_dim, int cc);
/* The results for these sources, for `tamis export`. */
tamis_status tamisi_store_copy_timings(tamis_store *into, tamis_store *from, const struct tamisi_hash *sources, size_t count);

/* Maintenance, for `tamis cache`. */
struct tamisi_store_item {
    char kind[16]; /* spec, source, variant, cubin, timing */
    char name[TAMISI_SYMBOL_SIZE + 32];
    char key[TAMISI_HASH_HEX_SIZE]; /* of its content; "" for specs */
    char arch[16];                  /* "" where none */
    long long bytes;
    bool intact; /* its checksum holds */
};
/* Calls `visit` for each row in a fixed order, damaged ones included; a non-zero return stops. */
tamis_status tamisi_store_visit(tamis_store *store, int (*visit)(void *payload, const struct tamisi_store_item *item),
                                void *payload);
struct tamisi_store_gc_result {
    long long removed;     /* rows: damaged ones; cubins, sources and timings that no variant refers to */
    long long freed_bytes; /* of the file */
};
/* A store without variants is a cache, whose kernels the variants of other stores refer to: there only damage goes. */
tamis_status tamisi_store_gc(tamis_store *store, struct tamisi_store_gc_result *result);
tamis_status tamisi_store_compact(tamis_store *store); /* no free pages; rows in order of their keys */
/* SQLite's own integrity check; "" into `problem` if sound. */
tamis_status tamisi_store_check(tamis_store *store, struct tamisi_buf *problem);

/*
 * Union, for `tamis import` and `merge`: the intact rows of `from` into `into`, in one transaction, or the one that is open.
 * A spec of one name with other content, and a variant of one key with other content, is a conflict; which spec loses, its
 * variants lose too. Of two timings of one key that stays which supersedes the other. `from` may be `into`'s own file.
 */
struct tamisi_store_conflict {
    const char *kind;           /* "spec" or "variant" */
    const char *spec;
    const char *variant, *arch; /* NULL of a spec */
};
struct tamisi_merge {
    bool prefer_last; /* of two that conflict, what comes replaces what is there; else what is there stays */
    void (*report)(void *payload, const struct tamisi_store_conflict *conflict); /* may be NULL */
    void *payload;

    /* Counted up: rows put, there already, and not put for a conflict; conflicts; damaged rows. */
    long long added, kept, left_out, conflicts, damaged;
    bool torn; /* of some `from` pages are damaged or missing, with who knows how many rows on them */
};
tamis_status tamisi_store_merge(tamis_store *into, tamis_store *from, struct tamisi_merge *merge);

/* The user's cache file name (see tamis_store_open), and mkdir -p of its folder. TAMIS_ENOTFOUND: no HOME. */
tamis_status tamisi_store_cache_path(struct tamisi_buf *out);

#endif
