/*
 * bench_frame.h: what `tamis bench operator`, `compose` and `ablate` have in common around their figures: the device, its
 * stores and the bench opened and closed, progress, and what a failure does to the exit code. Layer: above bench,
 * bench_options and bench_stores; below cmd_bench_*.c.
 */
#ifndef BENCH_FRAME_H
#define BENCH_FRAME_H

#include "bench.h"
#include "bench_stores.h"

struct bench_frame {
    struct cli *cli;
    struct bench_options options; /* read before it is opened */
    struct device device;
    struct bench_stores stores;
    struct bench bench;
    struct cli_table table;
    long long done, total; /* figures */
    int code;              /* the worst so far */
    bool stop;             /* the device can be used no more */
};

/* An exit code; bench_frame_close() is due in any case. */
int bench_frame_open(struct bench_frame *frame);
void bench_frame_close(struct bench_frame *frame);
/* What stands above a table: the device, the rounds, and `text`. Nothing with --json. */
void bench_frame_title(struct bench_frame *frame, const char *text);

/* Before a figure. False: none is to follow. */
bool bench_frame_next(struct bench_frame *frame, const char *what);
/* The last error is `what`'s. */
void bench_frame_failed(struct bench_frame *frame, tamis_status status, const char *what);
void bench_frame_note(struct bench_frame *frame, int code); /* CLI_NUMERICS is worse than another, the first of which counts */

/* Every problem of the options in turn, as bench_options_each(), then the table. The exit code. */
int bench_frame_run(struct bench_frame *frame,
                    void (*visit)(void *payload, tamis_dtype dtype, int head_dim, long long seq_len), void *payload);

/* Of batch 1, causal, dense. */
tamis_problem bench_frame_problem(const struct bench_frame *frame, tamis_dtype dtype, int head_dim, long long seq_len);

/* Rows of a command's table. */
#define BENCH_OPTIONS                                                                                                      \
    {"head-dims", 0, "64|96|128|256,...", "default: those that there are kernels for"},                                    \
        {"dtypes", 0, "bf16|fp16,...", "default: bf16"}, {"q-heads", 0, "N", "query heads; default: 32"},                  \
        {"kv-heads", 0, "N", "KV heads; default: 8"},                                                                      \
    {                                                                                                                      \
        "rounds", 0, "N", "runs that are timed; default: 7"                                                                \
    }

#endif
