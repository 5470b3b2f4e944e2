/*
 * plan.h: what a plan is: the problem, what follows from it, where things lie in the workspace, and the backend that runs
 * it. Layer: below the API functions and the stages, above store and kernel.
 */
#ifndef TAMISI_PLAN_H
#define TAMISI_PLAN_H

#include "block_args.h"
#include "buf.h"
#include "error.h"
#include "kernel_args.h"
#include "map_args.h"
#include "store.h"
#include "tamis.h"

#include <stdatomic.h>

/* What follows from a problem alone; names as in tamis.h. */
struct tamisi_facts {
    int group;             /* Hq / Hkv */
    int index_heads;       /* Hi */
    int compact_heads;     /* Hc */
    long long candidates;  /* N = max(L - W, 0) */
    long long fixed_keep;  /* kept outside the window; -1: by coverage, known on the device only; N: dense */
    long long capacity;    /* C: fixed_keep + W; L if dense or by coverage */
    bool dense;            /* every token is kept, whatever the data: the policy, L <= M + W, coverage 0, or a keep of N */
    double scale;          /* of the logits */
    int score_chunks;      /* keys are cut in so many chunks for the score's first pass; depends on L alone */
    long long score_chunk_keys;
    int lse2_rows; /* W rounded up to 64 */
};

/* Byte offsets into the workspace, 256-aligned; a part of size 0 is never touched. */
struct tamisi_workspace {
    size_t score;      /* float (B, Hq, N); 0 bytes under a dense plan: it scores into the caller's memory only */
    size_t rank;       /* float (B, Hi, N) */
    size_t mean;       /* float (B, N) */
    size_t partial;    /* float (B, Hq, W, chunks, 2); 0 bytes where N is 0 */
    size_t lse2;       /* float (B, Hq, lse2_rows); the same */
    size_t kept;       /* int (B) */
    size_t indices;    /* int (B, Hi, C) */
    size_t compact_k;  /* 16-bit (B, Hc, C, D); 0 bytes under a dense plan */
    size_t compact_v;  /* the same */
    size_t counter;    /* unsigned: hands out the tiles of persistent attention */
    size_t block_count; /* int (B, Hq, T); this and the rest 0 bytes where the plan has no pattern that needs it */
    size_t block_list;  /* int (B, Hq, T, row) */
    size_t block_masks; /* unsigned (TAMISI_PATTERN_MASKS, 128, 4) */
    size_t block_order; /* int (B * Hq * T) */
    size_t maker;       /* what the backend's maker of lists needs */
    size_t bytes;      /* of it all */
};

#define TAMISI_CHUNK_ALIGN 256 /* score_chunk_keys is a multiple; every stats kernel's key tile divides it */

/* TAMIS_EINVAL with the name of a member that is out of range. struct_size is the API's to check. */
tamis_status tamisi_problem_check(const tamis_problem *problem);
void tamisi_facts_make(struct tamisi_facts *out, const tamis_problem *problem); /* of a problem that passed the check */
/* TAMIS_EINVAL where the sizes pass 63 bits. */
tamis_status tamisi_workspace_make(struct tamisi_workspace *out, const tamis_problem *problem,
                                   const struct tamisi_facts *facts);
/* What a pattern needs beside that. `pattern`: of kind NONE, or one that passed its check; maker_bytes: the backend's. */
tamis_status tamisi_workspace_add_blocks(struct tamisi_workspace *workspace, const tamis_problem *problem,
                                         const struct tamisi_facts *facts, const tamis_pattern *pattern,
                                         size_t maker_bytes);

/* ---- pattern.c */

#define TAMISI_PATTERN_MASKS 16 /* that a maker may make */

/* TAMIS_EINVAL with the name of a member that is out of range, or because the problem has none that go with a pattern. */
tamis_status tamisi_pattern_check(const tamis_pattern *pattern, const tamis_problem *problem);
const char *tamisi_pattern_name(tamis_pattern_kind kind); /* "flexprefill"; NULL: no kind */
void tamisi_pattern_describe(struct tamisi_buf *out, const tamis_pattern *pattern); /* "flexprefill, gamma 0.95, ..." */
#define TAMISI_MAP_FAMILY "attend_map" /* in place of attend, of plans with an output map */
/* The interface that a family's kernels are made for, tamisi_variant's abi: kernel_args.h', and that of others where used. */
int tamisi_family_abi(const char *family);
bool tamisi_family_has_blocks(const char *family); /* of block patterns: a spec has it by its tiles alone */
int tamisi_pattern_tiles(const struct tamisi_facts *facts);    /* T */
/* Entries of a list in the workspace: the most that the pattern ever lists, up to T. 0: lists do not lie there. */
int tamisi_pattern_row(const tamis_pattern *pattern, int tiles);
/* Part of the blocks up to the diagonal that are listed, at most; 0 where only the data says, or the host. */
double tamisi_pattern_density(const tamis_pattern *pattern, int tiles);
bool tamisi_pattern_has_masks(const tamis_pattern *pattern); /* Does its maker write masks into the workspace? */

struct tamisi_backend;
struct tamisi_drift_layer; /* drift.h, these two */
struct tamisi_drift_rows;

/* tamis_counters, as plans of many threads count them up. */
struct tamisi_counters {
    atomic_llong plans, found, compiled, passed_over, compile_us;
};

/* One variant that a plan must take, and no other in its place. */
struct tamisi_force {
    const char *family; /* NULL: none */
    const char *variant;
};

struct tamis_context {
    int device; /* ordinal or TAMIS_DEVICE_CPU */
    struct tamisi_log log;
    const struct tamisi_backend *backend;
    void *state; /* the backend's: struct tamisi_gpu or struct tamisi_cpu */
    struct tamisi_counters counters;
};

struct tamis_plan {
    tamis_context *context;
    tamis_problem problem;
    struct tamisi_facts facts;
    struct tamisi_workspace workspace;
    void *state; /* the backend's: its loaded kernels */
    tamis_plan_options options;
    struct tamisi_force force; /* only while the plan is made */
    tamis_pattern pattern;     /* kind NONE: every block */
};

/* tamis_plan_create_with(), for those who time variants. `options` may be NULL. */
tamis_status tamisi_plan_create_forced(tamis_plan **out, tamis_context *context, tamis_store *store,
                                       const tamis_problem *problem, const tamis_plan_options *options,
                                       const struct tamisi_force *force);

/*
 * A device kind: the CPU or a GPU. The API layer has checked all arguments; pointers are non-NULL where tamis.h demands it.
 */
struct tamisi_backend {
    const char *name;
    tamis_status (*open)(tamis_context *context, const tamis_context_options *options); /* sets context->state */
    void (*close)(tamis_context *context);
    tamis_status (*plan_open)(tamis_plan *plan, tamis_store *store); /* sets plan->state */
    void (*plan_close)(tamis_plan *plan);
    void (*describe)(const tamis_plan *plan, struct tamisi_buf *out); /* device line, then a line a stage */
    /* Workspace that making a pattern's lists takes, beside the lists. A pattern that passed its check. */
    size_t (*maker_bytes)(const tamis_context *context, const tamis_problem *problem, const struct tamisi_facts *facts,
                          const tamis_pattern *pattern);

    /* The steps; arguments as in tamis.h, `workspace` a base pointer that is large enough. */
    tamis_status (*score)(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, float *score, float *rank,
                          float *mean, char *workspace, tamis_stream stream);
    tamis_status (*select)(const tamis_plan *plan, const float *rank, const float *mean, int32_t *kept, int32_t *indices,
                           char *workspace, tamis_stream stream);
    tamis_status (*compress)(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, const tamis_tensor *v,
                             const int32_t *kept, const int32_t *indices, const tamis_tensor *compact_q,
                             const tamis_tensor *compact_k, const tamis_tensor *compact_v, tamis_stream stream);
    tamis_status (*attend)(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, const tamis_tensor *v,
                           const int32_t *kept, const void *output_map, const tamis_tensor *output, float *lse,
                           char *workspace, tamis_stream stream); /* output_map: NULL where the plan has none */
    tamis_status (*make_blocks)(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, const int32_t *kept,
                                const tamis_blocks *blocks, int32_t *count, int32_t *list, char *workspace,
                                tamis_stream stream);
    tamis_status (*attend_blocks)(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, const tamis_tensor *v,
                                  const int32_t *kept, const tamis_blocks *blocks, const tamis_tensor *output, float *lse,
                                  char *workspace, tamis_stream stream);
    tamis_status (*decompress)(const tamis_plan *plan, const tamis_tensor *compact_output, const float *compact_lse,
                               const int32_t *kept, const int32_t *indices, const tamis_tensor *output, float *lse,
                               tamis_stream stream);
    /* The whole operator; may fuse steps. NULL members of args (lse, score, kept, indices) stay NULL. */
    tamis_status (*run)(const tamis_plan *plan, const tamis_run_args *args, char *workspace, tamis_stream stream);

    tamis_status (*memory_alloc)(tamis_context *context, void **out, size_t bytes);
    void (*memory_free)(tamis_context *context, void *memory);
    tamis_status (*memory_write)(tamis_context *context, void *device, const void *host, size_t bytes, tamis_stream s);
    tamis_status (*memory_read)(tamis_context *context, void *host, const void *device, size_t bytes, tamis_stream s);
    tamis_status (*stream_create)(tamis_context *context, tamis_stream *out);
    void (*stream_free)(tamis_context *context, tamis_stream stream);
    tamis_status (*stream_synchronize)(tamis_context *context, tamis_stream stream);

    /* Representation drift, drift.h. The layer is a part of the caller's state: on a GPU not to be looked at. */
    tamis_status (*drift_open)(tamis_drift *drift, tamis_store *store); /* sets drift->state */
    void (*drift_close)(tamis_drift *drift);
    tamis_status (*drift_reset)(const tamis_drift *drift, void *state, tamis_stream stream);
    tamis_status (*drift_add)(const tamis_drift *drift, struct tamisi_drift_layer *layer,
                              const struct tamisi_drift_rows *given, tamis_stream stream);
};

extern const struct tamisi_backend tamisi_backend_cpu; /* cpu.c */
extern const struct tamisi_backend tamisi_backend_gpu; /* gpu.c */

#endif
