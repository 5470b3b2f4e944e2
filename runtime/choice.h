/*
 * choice.h: which variant of a family a plan takes, from the timings that a tuner has left. Pure: arrays in, an order out.
 * Layer: above hash, below store (which keeps the timings) and the GPU plan; the tuner judges by the same functions.
 *
 * A bucket is what a stage's time depends on beside the kernel. A plan's own bucket is looked for among those timed on this
 * GPU; then the nearest of them; then the same on a GPU of the same compute capability with other multiprocessors, cache or
 * driver; else nothing is known and the default, rank 0, it is.
 */
#ifndef TAMISI_CHOICE_H
#define TAMISI_CHOICE_H

#include "hash.h"
#include "tamis.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAMISI_VARIANT_NAME_SIZE 96

struct tamisi_bucket {
    int dtype, head_dim; /* of the problem, also where a family's text does not depend on them */
    int q_heads, kv_heads, batch;
    int64_t seq_len;
    int64_t kept; /* tokens a head keeps, the window included; seq_len: all; 0 where it means nothing, for the score */
    int scope, window;
    bool dense; /* a dense plan, whose attention reads K and V as they are */
    /* Of block patterns' families, else 0. */
    int pattern; /* kind whose lists a maker makes; of attention, whoever made them, TAMIS_PATTERN_HOST_BLOCKS */
    int detail;  /* attention's blocks, of 1000 up to the diagonal; XAttention's stride; queries that estimate lines */
};

/* What decides how fast a kernel runs; `name` is for people and no part of any key. */
struct tamisi_gpu_identity {
    int cc; /* 90 */
    int sm_count;
    int64_t l2_bytes;
    int driver_major; /* 13 */
    char name[64];
};

/* The values are stored: they stay as they are. */
enum tamisi_timing_state {
    TAMISI_STARTED = 0, /* a tuner began with it, and has not come back so far; `rounds` counts how often */
    TAMISI_TIMED = 1,   /* in the final rounds of its bucket: comparable with others that were */
    TAMISI_STOPPED = 2, /* timed a few rounds, and too slow to go on */
    TAMISI_REFUSED = 3, /* it does not compile or load, or the compiler's report speaks against it */
    TAMISI_WRONG = 4,   /* its numbers are */
    TAMISI_FAULT = 5,   /* it broke the process that ran it */
    TAMISI_HANG = 6,    /* it did not come to an end in time */
    TAMISI_TIMING_STATES
};
const char *tamisi_timing_state_name(enum tamisi_timing_state state);

enum tamisi_rigor { TAMISI_QUICK = 0, TAMISI_NORMAL = 1, TAMISI_EXHAUSTIVE = 2 };

struct tamisi_timing {
    /* The key. */
    struct tamisi_hash source;
    char family[16];
    char arch[16];
    struct tamisi_bucket bucket;
    struct tamisi_gpu_identity gpu;

    char variant[TAMISI_VARIANT_NAME_SIZE];
    enum tamisi_timing_state state;
    enum tamisi_rigor rigor;
    int rounds, dropped; /* that count; that the GPU was throttled in */
    int sm_mhz;          /* in the last round; 0: unknown */
    double median_us, mad_us; /* of the rounds, and their median absolute deviation, beside the default of the same turns */
    double cold_us, warm_us;  /* medians, with an emptied L2 cache and with what the run before left in it */
    int64_t when;             /* seconds since 1970 */
    char note[160];           /* what is wrong, or "" */
};

/* The bucket of a problem for a family. `kept` as in struct tamisi_facts' capacity; coverage is not known beforehand. */
void tamisi_bucket_make(struct tamisi_bucket *out, const char *family, const tamis_problem *problem, int64_t kept, bool dense);
/* Is it one of block patterns that are tuned? Then its bucket is made by the function below; seq_len too is its rows then. */
bool tamisi_family_has_lists(const char *family);
/* `rows` that attend; `density`: part of the blocks up to the diagonal that are listed, for attention; `pattern` for makers. */
void tamisi_bucket_make_lists(struct tamisi_bucket *out, const char *family, const tamis_problem *problem, int64_t rows,
                              bool dense, const tamis_pattern *pattern, double density);
bool tamisi_bucket_equal(const struct tamisi_bucket *a, const struct tamisi_bucket *b);
/* How far apart in shape, 0: the same shape; about 1: an octave of length. Negative: one says nothing about the other. */
double tamisi_bucket_distance(const struct tamisi_bucket *a, const struct tamisi_bucket *b);
bool tamisi_gpu_equal(const struct tamisi_gpu_identity *a, const struct tamisi_gpu_identity *b);

bool tamisi_timing_same_key(const struct tamisi_timing *a, const struct tamisi_timing *b);
/* Of two results of one key: is `a` to replace `b`? More rigor does, else what is later. */
bool tamisi_timing_supersedes(const struct tamisi_timing *a, const struct tamisi_timing *b);
/* Is the difference of two medians within their noise? */
bool tamisi_timing_tie(const struct tamisi_timing *a, const struct tamisi_timing *b);
/* Is their noise so small that further rounds would hardly make another tie, or none, of them? */
bool tamisi_timing_sharp(const struct tamisi_timing *a, const struct tamisi_timing *b);

/* The values are shown to hosts in text; new ones are appended. */
enum tamisi_reason {
    TAMISI_BY_DEFAULT,     /* nothing was timed that would tell */
    TAMISI_BY_BUCKET,      /* its own bucket was timed on this GPU */
    TAMISI_BY_NEAREST,     /* the nearest bucket on this GPU */
    TAMISI_BY_OTHER_GPU,   /* timed on a GPU of this compute capability that differs otherwise */
    TAMISI_BY_FALLBACK,    /* those before it did not load */
    TAMISI_BY_FORCE,       /* the caller named it */
    TAMISI_REASONS
};
const char *tamisi_reason_text(enum tamisi_reason reason);

/* A variant as the choice sees it. In order of rank; ranks are places. */
struct tamisi_option {
    struct tamisi_hash source;
};

struct tamisi_choice {
    enum tamisi_reason reason;
    struct tamisi_bucket bucket; /* that was timed, unless BY_DEFAULT */
    double distance;             /* from the plan's */
    double gain;                 /* the default's time there over the first one's; 1 where it is the default */
    double regret; /* what this choice loses against the best in the timed buckets beside its own, at most; -1: unknown */
    size_t timed;                /* of `order`, how many were timed to the end there; they come first */
};

/*
 * Order `options` from the best: `order` receives `count` places among them. What was timed to the end comes first, then what
 * was stopped, then what was never timed, by rank; what is known to be bad comes last. Ties go by rank.
 */
void tamisi_choose(struct tamisi_choice *out, size_t *order, const struct tamisi_option *options, size_t count,
                   const struct tamisi_timing *timings, size_t timing_count, const struct tamisi_bucket *bucket,
                   const struct tamisi_gpu_identity *gpu);

#endif
