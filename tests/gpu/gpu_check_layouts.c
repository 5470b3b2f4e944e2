/*
 * gpu_check_layouts.c: the same numbers in another order in memory give the same bits: tokens before heads, one K and V read
 * by all heads through a stride of 0, and a sequence alone or in a batch. And how long a plan takes from a store that has all
 * it needs.
 */
#define _POSIX_C_SOURCE 200809L
#include "gpu_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Copy each sequence's (heads, tokens, D) to (tokens, heads, D), or back. */
static void swap_order(unsigned short *to, const unsigned short *from, int batch, long long first, long long second,
                       int head_dim)
{
    for (int b = 0; b < batch; b++, to += first * second * head_dim, from += first * second * head_dim)
        for (long long i = 0; i < first; i++)
            for (long long j = 0; j < second; j++)
                memcpy(to + (j * first + i) * head_dim, from + (i * second + j) * head_dim, 2 * (size_t)head_dim);
}

static bool write_tokens_first(struct gpu_case *c, struct gpu_array *array, tamis_tensor *tensor, int heads)
{
    const long long tokens = c->problem.seq_len;
    unsigned short *swapped = malloc(array->bytes);
    if (!swapped) return false;
    swap_order(swapped, array->host, c->problem.batch, heads, tokens, c->problem.head_dim);
    const bool ok = tamis_memory_write(c->context, array->device, swapped, array->bytes, NULL) == TAMIS_OK;
    free(swapped);
    tensor->head_stride = c->problem.head_dim;
    tensor->token_stride = (long long)heads * c->problem.head_dim;
    return ok;
}

static bool run_and_fetch(struct gpu_case *c) { return gpu_case_poison(c) && gpu_case_run(c) && gpu_case_fetch(c); }

bool gpu_check_tokens_first(const tamis_problem *problem, bool has_map, tamis_context *context, tamis_store *store)
{
    struct gpu_case c;
    memset(&c, 0, sizeof c);
    c.problem = *problem;
    c.has_map = has_map;
    c.seed = 77;
    const int q_heads = problem->q_heads, kv_heads = problem->kv_heads;
    unsigned short *heads_first = NULL, *back = NULL;
    bool ok = gpu_case_open(&c, context, store) && run_and_fetch(&c);
    if (ok) {
        heads_first = malloc(c.output.bytes);
        back = malloc(c.output.bytes);
        ok = heads_first && back;
    }
    if (ok) memcpy(heads_first, c.output.host, c.output.bytes);
    c.args.output.head_stride = problem->head_dim;
    c.args.output.token_stride = (long long)q_heads * problem->head_dim;
    ok = ok && write_tokens_first(&c, &c.q, &c.args.q, q_heads) && write_tokens_first(&c, &c.k, &c.args.k, kv_heads) &&
         write_tokens_first(&c, &c.v, &c.args.v, kv_heads) && run_and_fetch(&c);
    if (ok) {
        swap_order(back, c.output.host, problem->batch, problem->seq_len, q_heads, problem->head_dim);
        ok = memcmp(heads_first, back, c.output.bytes) == 0;
        if (!ok) printf("  tokens before heads give other bits\n");
    }
    free(heads_first);
    free(back);
    gpu_case_close(&c);
    return ok;
}

bool gpu_check_shared_head(const tamis_problem *problem, tamis_context *context, tamis_store *store)
{
    struct gpu_case c;
    memset(&c, 0, sizeof c);
    c.problem = *problem;
    c.seed = 78;
    void *copied = NULL;
    bool ok = gpu_case_open(&c, context, store);
    struct gpu_array *arrays[] = {&c.k, &c.v};
    for (int i = 0; i < 2 && ok; i++) { /* every head the first one's copy */
        const size_t heads = (size_t)problem->kv_heads, head = arrays[i]->bytes / ((size_t)problem->batch * heads);
        for (size_t h = 0; h < (size_t)problem->batch * heads; h++) {
            char *first = (char *)arrays[i]->host + h / heads * heads * head; /* of the same sequence */
            if (h % heads > 0) memcpy(first + h % heads * head, first, head);
        }
        ok = tamis_memory_write(context, arrays[i]->device, arrays[i]->host, arrays[i]->bytes, NULL) == TAMIS_OK;
    }
    ok = ok && run_and_fetch(&c) && (copied = malloc(c.output.bytes)) != NULL;
    if (ok) memcpy(copied, c.output.host, c.output.bytes);
    c.args.k.head_stride = c.args.v.head_stride = 0;
    ok = ok && run_and_fetch(&c);
    if (ok && memcmp(copied, c.output.host, c.output.bytes) != 0) {
        printf("  a head stride of 0 gives other bits\n");
        ok = false;
    }
    free(copied);
    gpu_case_close(&c);
    return ok;
}

/* A batch of two equals the two alone, bit for bit. The second sequence is the first one's inputs under another seed. */
bool gpu_check_batch(const tamis_problem *problem, unsigned long long seed, tamis_context *context, tamis_store *store)
{
    struct gpu_case both, alone;
    memset(&both, 0, sizeof both);
    memset(&alone, 0, sizeof alone);
    both.problem = *problem;
    both.seed = seed;
    alone.problem = both.problem;
    alone.problem.batch = 1;
    bool ok = gpu_case_open(&both, context, store) && gpu_case_poison(&both) && gpu_case_run(&both) && gpu_case_fetch(&both) &&
              gpu_case_open(&alone, context, store);
    for (int b = 0; b < 2 && ok; b++) {
        struct gpu_array *from[] = {&both.q, &both.k, &both.v}, *to[] = {&alone.q, &alone.k, &alone.v};
        for (int i = 0; i < 3 && ok; i++)
            ok = tamis_memory_write(context, to[i]->device, (char *)from[i]->host + (size_t)b * to[i]->bytes, to[i]->bytes,
                                    NULL) == TAMIS_OK;
        ok = ok && gpu_case_poison(&alone) && gpu_case_run(&alone) && gpu_case_fetch(&alone) &&
             memcmp(alone.output.host, (char *)both.output.host + (size_t)b * alone.output.bytes, alone.output.bytes) == 0;
    }
    gpu_case_close(&both);
    gpu_case_close(&alone);
    return ok;
}

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

bool gpu_check_warm_plan(const tamis_problem *problem, tamis_context *context, const char *path)
{
    enum { rounds = 9 };
    const double limit_ms = 10.0;
    double times[rounds];
    for (int i = 0; i < rounds; i++) {
        tamis_store *store = NULL;
        tamis_plan *plan = NULL;
        const double begin = milliseconds();
        const bool ok = tamis_store_open(&store, path, NULL) == TAMIS_OK &&
                        tamis_plan_create(&plan, context, store, problem) == TAMIS_OK;
        times[i] = milliseconds() - begin;
        if (!ok) printf("  %s\n", tamis_last_error());
        tamis_plan_free(plan);
        tamis_store_free(store);
        if (!ok) return false;
    }
    qsort(times, rounds, sizeof *times, compare);
    printf("  opening a warm store and planning: median %.2f ms\n", times[rounds / 2]);
    return times[rounds / 2] < limit_ms;
}
