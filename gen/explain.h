/*
 * explain.h: what a plan amounts to, in numbers: its workspace part by part, the launches of tamis_run, and the least that
 * each stage must move and compute. Pure: a problem and descriptions of kernels in, figures out; no device, no store. Layer:
 * above the runtime's plan.h and store.h, below cmd_plan.c.
 */
#ifndef EXPLAIN_H
#define EXPLAIN_H

#include "plan.h"
#include "store.h"

/* ---- the workspace */

struct explain_part {
    const char *name, *shape;
    long long bytes; /* with the padding to the next part */
};
#define EXPLAIN_PARTS 10
void explain_parts(struct explain_part out[EXPLAIN_PARTS], const struct tamisi_workspace *workspace);

/* ---- how many tokens are kept */

struct explain_kept {
    long long tokens; /* of a sequence, the window included */
    bool assumed;     /* by coverage: only the device will know */
};
/* `ratio`, 0 to 1: of the candidates, where it must be assumed. */
struct explain_kept explain_kept(const tamis_problem *problem, const struct tamisi_facts *facts, double ratio);

/* ---- the launches */

struct explain_kernel {
    struct tamisi_entry entry;
    struct tamisi_resource resource;
    bool compiled; /* the resource is known */
};
#define EXPLAIN_KERNELS 16
struct explain_kernels {
    struct explain_kernel list[EXPLAIN_KERNELS];
    int count;
    int sm_count; /* 0: unknown */
};

/* Add a variant's entries, with what is known of them. TAMIS_EINVAL: too many. */
tamis_status explain_add(struct explain_kernels *kernels, const struct tamisi_variant *variant,
                         const struct tamisi_resource *resources, int resource_count);

struct explain_launch {
    const struct explain_kernel *kernel;
    const char *what;  /* beside the stage: what it works on, or what else it does; "" */
    long long grid[3];
    bool up_to;        /* persistent blocks: as many as there are SMs, which are unknown, and at most grid[0] */
};
#define EXPLAIN_LAUNCHES 16

/*
 * What tamis_run puts on the stream where neither scores, counts nor lists are asked for; in order. TAMIS_ENOTFOUND: no
 * kernel serves a stage, which the message names.
 */
tamis_status explain_launches(struct explain_launch out[EXPLAIN_LAUNCHES], int *count, const struct explain_kernels *kernels,
                              const tamis_problem *problem, const struct tamisi_facts *facts);

/* ---- the floors */

/*
 * Counted from the operator's definition, whatever the kernels do: each input read once for each pass that needs it, each
 * result written once, nothing read again from memory. Where heads that share K and V choose alone, the rows they keep are
 * counted as if they were the same.
 */
struct explain_floor {
    const char *stage;
    double read_bytes, written_bytes, flops;
};
#define EXPLAIN_FLOORS 8
int explain_floors(struct explain_floor out[EXPLAIN_FLOORS], const tamis_problem *problem, const struct tamisi_facts *facts,
                   long long kept); /* how many there are */

/* Milliseconds at these rates, by what takes longer; the rates are positive. */
double explain_least_ms(const struct explain_floor *floor, double bytes_per_second, double flops_per_second);

#endif
