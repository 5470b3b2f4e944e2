/*
 * gpu_check_shapes.c: the operator on problems of all shapes: head dims, dtypes, lengths about the tiles' edges, masks,
 * selections, logits that grow, and real sizes. Each has fresh random inputs, NaN-poisoned outputs and workspace, and guard
 * bytes around every output.
 */
#define _POSIX_C_SOURCE 200809L
#include "check_gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The whole check of one problem: values, selection, guards, and the same bits a second time. */
static bool check_values(struct gpu_case *c, int samples)
{
    if (!gpu_case_poison(c) || !gpu_case_run(c) || !gpu_case_fetch(c) || !gpu_case_check(c, samples) ||
        !gpu_case_check_selection(c))
        return false;
    void *first = malloc(c->output.bytes);
    if (!first) return false;
    memcpy(first, c->output.host, c->output.bytes);
    bool ok = gpu_case_poison(c) && gpu_case_run(c) && gpu_case_fetch(c);
    if (ok && memcmp(first, c->output.host, c->output.bytes) != 0) {
        printf("  a second run gives other bits\n");
        ok = false;
    }
    free(first);
    return ok;
}

/* One check. Of the case nothing is set but what its inputs are to be like. */
static void check_case(const char *what, const tamis_problem *problem, struct gpu_case c, int samples)
{
    char name[256];
    c.problem = *problem;
    c.seed = gpu_next_seed();
    gpu_problem_name(name, sizeof name, problem, what);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    const bool ok = gpu_case_open(&c, gpu_context, gpu_store) && check_values(&c, samples);
    gpu_case_close(&c);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    snprintf(name + strlen(name), sizeof name - strlen(name), " (%.1f s)", seconds);
    gpu_report(ok, name);
}

static void check_problem(const char *what, const tamis_problem *problem, double sharpness, int samples)
{
    const struct gpu_case c = {.sharpness = sharpness};
    check_case(what, problem, c, samples);
}

/* Logits that grow as a row's keys are walked through, so that what was summed up has to be rescaled. */
void gpu_shapes_growth(long long seq_len, int samples, int first, int step)
{
    static const int dims[] = {64, 96, 128, 256};
    const struct gpu_case cases[] = {{.sharpness = 1.0, .climb = 40},      /* beyond what fp16 holds */
                                     {.sharpness = 1.0, .climb = 200},     /* beyond what bf16 holds, once or twice */
                                     {.sharpness = 1.0, .climb = 4000},    /* at each step */
                                     {.sharpness = 1.0, .spike_every = 97} /* in one row, then in another */};
    static const char *const names[] = {"climb 40", "climb 200", "climb 4000", "spikes"};
    for (int i = first; i < 16; i += step) {
        tamis_problem p = gpu_make_problem(i / 4 % 2 ? TAMIS_FP16 : TAMIS_BF16, 1, 4, 2, seq_len + i, dims[i % 4]);
        const int kind = (i + i / 4) % 4;
        check_case(names[kind], &p, cases[kind], samples);
        p.mask = i % 2 ? TAMIS_FULL : TAMIS_CAUSAL;
        if (p.mask == TAMIS_CAUSAL) {
            p.selection.policy = TAMIS_RATIO;
            p.selection.ratio = 0.3;
            p.selection.min_tokens = 1;
        }
        check_case(names[kind], &p, cases[kind], samples);
    }
}

void gpu_shapes_small(void)
{
    static const int dims[] = {64, 96, 128, 256};
    for (int i = 0; i < 4; i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            tamis_problem p = gpu_make_problem((tamis_dtype)dtype, 1, 4, 2, 300 + 37 * i, dims[i]);
            p.selection.policy = TAMIS_COVERAGE;
            p.selection.coverage = 0.1;
            p.selection.window = 32;
            check_problem("small", &p, 1.0, 300);
        }
    tamis_problem dense = gpu_make_problem(TAMIS_BF16, 2, 2, 1, 257, 128);
    check_problem("small", &dense, 1.0, 257);
    dense.mask = TAMIS_FULL;
    check_problem("small", &dense, 1.0, 257);
}

void gpu_shapes_lengths(long long longest)
{
    static const long long lengths[] = {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 4097};
    static const int dims[] = {64, 96, 128, 256};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths && lengths[i] <= longest; i++) {
        tamis_problem p = gpu_make_problem(i % 2 ? TAMIS_FP16 : TAMIS_BF16, 1, 4, i % 3 ? 2 : 4, lengths[i], dims[i % 4]);
        check_problem("length, dense", &p, 1.0, 64);
        p.head_dim = dims[(i + 1) % 4];
        p.selection.policy = TAMIS_RATIO;
        p.selection.ratio = 0.4;
        p.selection.min_tokens = 1;
        p.selection.window = 24;
        check_problem("length, ratio", &p, 1.0, 64);
    }
}

/* Every row sees all: lengths about the tiles' edges, each head dim with each dtype, several ratios of heads. */
void gpu_shapes_masks(long long longest)
{
    static const long long lengths[] = {1, 31, 63, 64, 65, 127, 128, 129, 175, 176, 177, 191, 192, 193, 1000, 4097};
    static const int dims[] = {64, 96, 128, 256}, kv_heads[] = {4, 2, 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths && lengths[i] <= longest; i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            tamis_problem p = gpu_make_problem((tamis_dtype)dtype, 1 + (int)i % 2, 4, kv_heads[i % 3], lengths[i],
                                               dims[(i + (size_t)dtype) % 4]);
            p.mask = TAMIS_FULL;
            check_problem("no causal mask", &p, 1.0, 64);
        }
}

void gpu_shapes_selections(void)
{
    static const int windows[] = {1, 7, 64, 128, 256, 1024}, pools[] = {1, 3, 7, 15, 31, 63};
    for (int i = 0; i < 6; i++)
        for (int scope = 0; scope < 3; scope++) {
            tamis_problem p = gpu_make_problem(TAMIS_BF16, 2, 8, 2, 3000 + 333 * i, i % 2 ? 128 : 64);
            p.selection.scope = (tamis_scope)scope;
            p.selection.window = windows[i];
            p.selection.pool = pools[(i + scope) % 6];
            p.selection.policy = TAMIS_COVERAGE;
            p.selection.coverage = 0.02 + 0.1 * scope;
            check_problem("selection", &p, 0.5 + 0.5 * i, 32);
            p.selection.policy = TAMIS_COUNT;
            p.selection.count = 700 + i;
            check_problem("selection", &p, 0.0001, 32); /* scores nearly all equal */
        }
    tamis_problem last = gpu_make_problem(TAMIS_BF16, 1, 2, 1, 128 + 16 + 1, 128); /* L just above M + W; kept = L - 1 */
    last.selection.policy = TAMIS_COUNT;
    last.selection.count = 16;
    check_problem("edge", &last, 1.0, 64);
    last.selection.policy = TAMIS_COVERAGE;
    last.selection.coverage = 1e-9; /* drops nothing: dense, found out on the device */
    last.seq_len = 2000;
    check_problem("edge", &last, 1.0, 64);
}

void gpu_shapes_large(void)
{
    tamis_problem p = gpu_make_problem(TAMIS_BF16, 1, 32, 8, 131072, 128);
    p.selection.min_tokens = 1024;
    p.selection.policy = TAMIS_COVERAGE;
    p.selection.coverage = 0.05;
    check_problem("128K", &p, 1.0, 64);
    /* Q and the output hold 2^31 elements and 4 GiB each: 32-bit offsets would show. */
    tamis_problem huge = gpu_make_problem(TAMIS_BF16, 1, 32, 8, 524288, 128);
    huge.selection.policy = TAMIS_RATIO;
    huge.selection.ratio = 0.02;
    huge.selection.window = 16; /* the reference's time goes with it */
    check_problem("512K", &huge, 1.0, 8);
    tamis_problem longest = gpu_make_problem(TAMIS_BF16, 1, 8, 8, 1048576, 128);
    longest.selection.policy = TAMIS_RATIO;
    longest.selection.ratio = 0.02;
    longest.selection.window = 16;
    check_problem("1M", &longest, 1.0, 16);
}

void gpu_shapes_few(void)
{
    tamis_problem p = gpu_make_problem(TAMIS_BF16, 1, 4, 2, 300, 64);
    check_problem("few", &p, 1.0, 32);
    p.mask = TAMIS_FULL;
    check_problem("few", &p, 1.0, 32);
    p.mask = TAMIS_CAUSAL;
    p.selection.window = 130;
    p.selection.policy = TAMIS_COVERAGE;
    p.selection.coverage = 0.2;
    check_problem("few", &p, 1.0, 32);
    const struct gpu_case climb = {.sharpness = 1.0, .climb = 4000};
    check_case("few, climb", &p, climb, 32);
}
