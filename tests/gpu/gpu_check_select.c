/*
 * gpu_check_select.c: tamis_select alone, on scores made up for it: lists shorter than a warp and longer than what a cluster
 * keeps in registers, next to each other in a batch and each of another kind. What must come out is found by a sort.
 */
#include "gpu_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { guard = 64, untouched = 0x7f7f7f7f }; /* ints on both sides of what is written, and what they and it hold before */

enum kind { UNIFORM, CROWDED, STEEP, EQUAL, TIED, DOMINANT, HALF_ZERO, ZERO, RISING, FALLING, TINY, KINDS };

struct select_case {
    tamis_context *context;
    tamis_plan *plan;
    tamis_problem problem;
    long long candidates;
    int lists;         /* a sequence */
    int shift;         /* which list has which kind */
    float *rank, *mean; /* (B, Hi, N), (B, N) */
    int *kept, *indices, *again; /* (B), (B, Hi, C) twice */
    void *device[4];   /* rank, mean, kept, indices */
    void *workspace;
};

static float uniform(unsigned long long *state)
{
    return (float)(gpu_random(state) >> 40) / 16777216.0f;
}

static void make_list(float *out, long long count, enum kind kind, unsigned long long seed)
{
    for (long long j = 0; j < count; j++) {
        const float x = uniform(&seed);
        const float values[KINDS] = {[UNIFORM] = x,
                                     [CROWDED] = 1.0f + x / 16,
                                     [STEEP] = expf(-60.0f * x),
                                     [EQUAL] = 0.125f,
                                     [TIED] = floorf(3 * x) + 1,
                                     [DOMINANT] = j == count / 3 ? 1e6f : x,
                                     [HALF_ZERO] = x < 0.5f ? 0.0f : x,
                                     [ZERO] = 0.0f,
                                     [RISING] = (float)j,
                                     [FALLING] = (float)(count - j),
                                     [TINY] = x * 1e-40f};
        out[j] = values[kind];
    }
}

static size_t bytes_of(const struct select_case *c, int array)
{
    const size_t lists = (size_t)c->problem.batch * (size_t)c->lists;
    const size_t counts[] = {lists * (size_t)c->candidates, (size_t)c->problem.batch * (size_t)c->candidates,
                             (size_t)c->problem.batch + 2 * guard, lists * (size_t)tamis_plan_capacity(c->plan) + 2 * guard};
    return 4 * counts[array];
}

static bool open_case(struct select_case *c, tamis_context *context, tamis_store *store)
{
    void **const host[] = {(void **)&c->rank, (void **)&c->mean, (void **)&c->kept, (void **)&c->indices};
    c->context = context;
    c->candidates = c->problem.seq_len - c->problem.selection.window;
    if (tamis_plan_create(&c->plan, context, store, &c->problem) != TAMIS_OK) return false;
    c->lists = tamis_plan_index_heads(c->plan);
    for (int i = 0; i < 4; i++) {
        *host[i] = malloc(bytes_of(c, i));
        if (!*host[i] || tamis_memory_alloc(&c->device[i], context, bytes_of(c, i)) != TAMIS_OK) return false;
    }
    c->again = malloc(bytes_of(c, 3));
    const size_t workspace = tamis_plan_workspace_bytes(c->plan);
    if (!c->again || tamis_memory_alloc(&c->workspace, context, workspace + 1) != TAMIS_OK) return false;
    for (int b = 0; b < c->problem.batch; b++) {
        for (int i = 0; i < c->lists; i++) {
            const int list = b * c->lists + i;
            make_list(c->rank + list * c->candidates, c->candidates, (enum kind)((list + c->shift) % KINDS),
                      1u + (unsigned)list);
        }
        make_list(c->mean + b * c->candidates, c->candidates, (enum kind)((b + c->shift) % KINDS), 1000u + (unsigned)b);
    }
    return tamis_memory_write(context, c->device[0], c->rank, bytes_of(c, 0), NULL) == TAMIS_OK &&
           tamis_memory_write(context, c->device[1], c->mean, bytes_of(c, 1), NULL) == TAMIS_OK;
}

static void close_case(struct select_case *c)
{
    for (int i = 0; i < 4; i++) tamis_memory_free(c->context, c->device[i]);
    tamis_memory_free(c->context, c->workspace);
    tamis_plan_free(c->plan);
    free(c->rank);
    free(c->mean);
    free(c->kept);
    free(c->indices);
    free(c->again);
}

/* Select into poisoned memory, and fetch. */
static bool run_case(struct select_case *c, int *indices)
{
    memset(c->kept, 0x7f, bytes_of(c, 2));
    memset(indices, 0x7f, bytes_of(c, 3));
    return tamis_memory_write(c->context, c->device[2], c->kept, bytes_of(c, 2), NULL) == TAMIS_OK &&
           tamis_memory_write(c->context, c->device[3], indices, bytes_of(c, 3), NULL) == TAMIS_OK &&
           tamis_select(c->plan, c->device[0], c->device[1], (int32_t *)c->device[2] + guard, (int32_t *)c->device[3] + guard,
                        c->workspace, tamis_plan_workspace_bytes(c->plan), NULL) == TAMIS_OK &&
           tamis_memory_read(c->context, c->kept, c->device[2], bytes_of(c, 2), NULL) == TAMIS_OK &&
           tamis_memory_read(c->context, indices, c->device[3], bytes_of(c, 3), NULL) == TAMIS_OK;
}

/* ---- what must come out */

struct token {
    float score;
    int position;
};

/* Falling scores, of equal ones the lower position first. */
static int compare(const void *a, const void *b)
{
    const struct token *left = a, *right = b;
    if (left->score != right->score) return left->score < right->score ? 1 : -1;
    return (left->position > right->position) - (left->position < right->position);
}

static void sort_tokens(struct token *out, const float *scores, long long count)
{
    for (long long j = 0; j < count; j++) out[j] = (struct token){scores[j], (int)j};
    qsort(out, (size_t)count, sizeof *out, compare);
}

/* Kept outside the window, where the sum of the smallest may pass tau `slack` late. */
static long long coverage_keep(const struct select_case *c, const struct token *sorted, double slack)
{
    double total = 0, sum = 0;
    long long drop = 0;
    for (long long j = c->candidates - 1; j >= 0; j--) total += (double)sorted[j].score;
    const double limit = c->problem.selection.coverage * total * (1 + slack);
    while (drop < c->candidates && (sum += (double)sorted[c->candidates - 1 - drop].score) < limit) drop++;
    if (drop == 0) return c->candidates;
    const long long keep = c->candidates - (drop + 1), least = c->problem.selection.min_tokens;
    return keep > least ? keep : least;
}

static bool check_keep(const struct select_case *c, const struct token *sorted, long long keep)
{
    long long least = c->problem.selection.count, most = least;
    if (c->problem.selection.policy == TAMIS_COVERAGE) {
        most = coverage_keep(c, sorted, -1e-6);
        least = coverage_keep(c, sorted, 1e-6);
    }
    if (keep >= least && keep <= most) return true;
    printf("  keeps %lld outside the window, not %lld to %lld of %lld\n", keep, least, most, c->candidates);
    return false;
}

/* The first `keep` sorted tokens, ascending, then the window; nothing behind it. `marks`: a byte a candidate. */
static bool check_list(const struct select_case *c, const struct token *sorted, char *marks, const int *list, long long keep)
{
    const long long capacity = tamis_plan_capacity(c->plan), length = c->problem.seq_len;
    long long at = 0;
    memset(marks, 0, (size_t)c->candidates);
    for (long long j = 0; j < keep; j++) marks[sorted[j].position] = 1;
    for (long long j = 0; j < length; j++) {
        if (j < c->candidates && !marks[j]) continue;
        if (list[at++] == j) continue;
        printf("  place %lld of %lld holds %d, not %lld\n", at - 1, keep, list[at - 1], j);
        return false;
    }
    while (at < capacity && list[at] == untouched) at++;
    if (at < capacity) printf("  place %lld, behind the last, is written\n", at);
    return at == capacity;
}

static bool check_guards(const int *array, size_t bytes, const char *name)
{
    const size_t count = bytes / sizeof *array;
    for (size_t i = 0; i < guard; i++)
        if (array[i] != untouched || array[count - 1 - i] != untouched) {
            printf("  %s: written out of bounds\n", name);
            return false;
        }
    return true;
}

static bool check_case(struct select_case *c)
{
    const long long capacity = tamis_plan_capacity(c->plan);
    if (!check_guards(c->kept, bytes_of(c, 2), "kept") || !check_guards(c->indices, bytes_of(c, 3), "indices")) return false;
    struct token *sorted = malloc((size_t)c->candidates * sizeof *sorted);
    char *marks = malloc((size_t)c->candidates);
    bool ok = sorted && marks;
    for (int b = 0; b < c->problem.batch && ok; b++) {
        const long long keep = c->kept[guard + b] - c->problem.selection.window;
        sort_tokens(sorted, c->mean + b * c->candidates, c->candidates);
        ok = check_keep(c, sorted, keep);
        for (int i = 0; i < c->lists && ok; i++) {
            const int list = b * c->lists + i;
            sort_tokens(sorted, c->rank + list * c->candidates, c->candidates);
            ok = check_list(c, sorted, marks, c->indices + guard + list * capacity, keep);
            if (!ok) printf("  in list %d of sequence %d, of kind %d\n", i, b, (list + c->shift) % KINDS);
        }
        if (!ok) printf("  in sequence %d of kind %d\n", b, (b + c->shift) % KINDS);
    }
    free(sorted);
    free(marks);
    return ok;
}

bool gpu_check_select(const tamis_problem *problem, int shift, tamis_context *context, tamis_store *store)
{
    struct select_case c;
    memset(&c, 0, sizeof c);
    c.problem = *problem;
    c.shift = shift;
    bool ok = open_case(&c, context, store) && run_case(&c, c.indices);
    if (!ok) printf("  %s\n", tamis_last_error());
    ok = ok && check_case(&c) && run_case(&c, c.again);
    if (ok && memcmp(c.indices, c.again, bytes_of(&c, 3)) != 0) {
        printf("  a second run gives other bits\n");
        ok = false;
    }
    close_case(&c);
    return ok;
}
