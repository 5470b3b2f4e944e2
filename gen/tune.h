/*
 * tune.h: the search for the fastest variants, without a GPU in it: which buckets there are, which candidates enter, who is
 * timed how often, when one is out, and what is written down. Compiling, checking, timing and the journal are functions that
 * the caller brings, so that tests bring fictional ones. Layer: above choice.h and the store's structs; below cmd_tune.c.
 *
 * A task is one bucket of one family. Its candidates are compiled, judged by the compiler's report, checked, and timed in
 * interleaved rounds: all of them once, the better half some rounds more, a few to the end. The default is in all of it. Of
 * a space too large for that a sample enters, and then what is beside the best. Results go to the journal at the end of a
 * task, all at once, but for kernels that were found bad: those at once.
 */
#ifndef TUNE_H
#define TUNE_H

#include "choice.h"
#include "store.h"

#include <stdbool.h>

/* The lists of blocks that a task's plans attend to. */
struct tune_lists {
    tamis_pattern pattern; /* of kind NONE: there are none; HOST_BLOCKS: lists at random, others: made of Q and K */
    double density;        /* of lists at random: part of the blocks up to the diagonal */
};

struct tune_task {
    const char *family;
    tamis_problem problem;
    struct tune_lists lists;
    struct tamisi_bucket bucket;
    const struct tamisi_variant *candidates; /* borrowed; by rank, the default first */
    size_t count;
};

enum tune_verdict {
    TUNE_RIGHT,
    TUNE_REFUSED, /* does not compile or load */
    TUNE_WRONG,
    TUNE_FAULT,
    TUNE_HANG,
    TUNE_BROKEN /* the device or machine, not the candidate: tamis_last_error() says what */
};

struct tune_round {
    double us; /* that counts; its parts: */
    double cold_us, warm_us;
    int sm_mhz;
    bool throttled; /* the GPU slowed down for heat or power supply: the round is repeated */
};

#define TUNE_WHY 160 /* room for a reason, one line */

struct tune_device {
    void *payload;
    /* Waits for the compiler, unless stop() says so: TUNE_BROKEN, which is then no failure. The report of each kernel into
       `resources`, of TAMISI_MAX_ENTRIES. */
    enum tune_verdict (*compile)(void *payload, const struct tamisi_variant *variant, struct tamisi_resource *resources,
                                 int *count, char why[TUNE_WHY]);
    enum tune_verdict (*check)(void *payload, const struct tune_task *task, const struct tamisi_variant *variant,
                               char why[TUNE_WHY]);
    enum tune_verdict (*time)(void *payload, const struct tune_task *task, const struct tamisi_variant *variant,
                              struct tune_round *out, char why[TUNE_WHY]);
    bool (*stop)(void *payload); /* asked between rounds: interrupted, or out of budget */
    void (*condemned)(void *payload, const struct tamisi_timing *row); /* told of each that is out for good; or NULL */
    struct tamisi_gpu_identity gpu;
};

struct tune_journal {
    void *payload;
    /* The result of a key, or its journal row, as `wanted->state` says; false: none. */
    bool (*find)(void *payload, const struct tamisi_timing *wanted, struct tamisi_timing *out);
    /* Did this source run to its end in any bucket, on such a GPU? */
    bool (*has_run)(void *payload, const struct tamisi_timing *wanted);
    /* The time of a key's candidate over the best one's, in the nearest shorter bucket that both were timed in; 1: none was.
       See tune_behind(). */
    double (*behind)(void *payload, const struct tamisi_timing *wanted);
    /* Was this source wrong, a fault or a hang in any bucket, on such a GPU? Then it is not tried in others. */
    bool (*is_bad)(void *payload, const struct tamisi_timing *wanted);
    tamis_status (*begin)(void *payload, const struct tamisi_timing *started); /* before a candidate runs first */
    tamis_status (*end)(void *payload, const struct tamisi_timing *started);   /* it came back */
    /* Results, and the end of their journal rows, in one transaction. */
    tamis_status (*finish)(void *payload, const struct tamisi_timing *timings, size_t count);
};

struct tune_options {
    enum tamisi_rigor rigor;
    bool again;   /* time what was timed already */
    int64_t when; /* now, in seconds since 1970 */
    const char *boot; /* tells one start of the machine from another; goes into journal rows */
};

/* What came of a task. */
struct tune_outcome {
    bool nothing_to_do;   /* all was known */
    bool interrupted;     /* `stop` said so: what was sure is written down */
    size_t timed;         /* candidates that ran */
    size_t refused, bad;  /* that were refused, that were wrong, faulty or hung */
    const char *chosen;   /* the variant that plans will take; NULL: unknown */
    double chosen_us, default_us; /* 0: unknown */
};

/* TAMIS_OK, whatever comes of the candidates; failures of the journal; TUNE_BROKEN's. */
tamis_status tune_run(struct tune_outcome *out, const struct tune_task *task, const struct tune_options *options,
                      const struct tune_device *device, const struct tune_journal *journal);

/*
 * A journal row that was left behind (none is written of a candidate that has run in another bucket: a row costs as much time
 * as a check, and what brings down a machine does so at once): where the machine has been started anew since, the candidate
 * is taken for the reason and not tried again. Else its tuner was killed, for which there are better reasons: so often is it
 * tried.
 */
#define TUNE_MOST_STARTS 4

/* ---- tune_space.c: who enters, and who is beside whom */

size_t tune_whole_space(enum tamisi_rigor rigor); /* as many candidates enter together; of more a sample */
/* Places of at most `most` candidates spread over `count` of them, the first one always. */
size_t tune_sample(size_t *out, size_t most, size_t count);
/* Do the parameters "a=1 b=2" differ in one value, and no candidate lies between? */
bool tune_beside(const struct tamisi_variant *candidates, size_t count, size_t a, size_t b);
/*
 * How far a candidate was behind in the nearest bucket of fewer tokens in which it was timed and the best one ran long: its
 * median over the best one's. 1 where there is no such bucket, so that nothing is known. Of candidates that run long, and at
 * a greater length even longer, it is the amount of work that grows, and not what each takes for it. Only shorter buckets
 * count: they come first in a run, so that a second one finds what the first one found.
 */
#define TUNE_LONG_US 2000.0
double tune_behind(const struct tamisi_timing *rows, size_t count, const struct tamisi_timing *wanted);
/* What the compiler's report says against a kernel: spills, serialised wgmma; false: nothing. */
bool tune_reports_loss(char why[TUNE_WHY], const struct tamisi_resource *resources, int count);

/* ---- tune_tasks.c: the buckets of a spec */

struct tune_tasks {
    struct tune_task *tasks; /* by length, then dense before the ratios, then family; block patterns' last */
    size_t count;
};

#define TUNE_DENSITIES 3
extern const double tune_densities[TUNE_DENSITIES]; /* of the lists that attention on blocks is tuned on */

struct tune_shapes {
    tamis_problem problem; /* of the spec: geometry, dtype and selection; seq_len and policy are overruled */
    tamis_pattern pattern; /* the same: whose makers are tuned */
    const long long *lengths;
    int length_count;
    const double *ratios;
    int ratio_count;
    bool dense;
};

/*
 * `variants`: of one spec and architecture, in the order of tamisi_store_find_variants(). Block patterns' families have tasks
 * where there are kernels of them: attention on listed blocks at each length and density, the makers of the spec's own pattern
 * at each length. On tokens that were chosen they are not tuned apart: what counts are the rows. TAMIS_EINVAL, TAMIS_ENOMEM.
 */
tamis_status tune_tasks_make(struct tune_tasks *out, const struct tune_shapes *shapes, const struct tamisi_variant *variants,
                             size_t count);
void tune_tasks_free(struct tune_tasks *tasks);
/* Tasks are of all that a plan may launch. Is this one's family, where `attend` is what plans take for its shape? */
bool tune_is_launched(const struct tune_task *task, const struct tamisi_variant *attend);
double tune_cost(const struct tune_task *task); /* seconds, roughly: tasks against each other */

#endif
