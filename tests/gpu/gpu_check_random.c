/*
 * gpu_check_random.c: a seeded series of awkward problems: scores with heavy ties, all equal or ruled by one token, large
 * logits, lengths just above what must be kept, batches in which one sequence drops tokens and another none. Scores are
 * compared with the CPU backend in double precision; what follows from them (pooling, budget, choice) is computed again here,
 * from the scores that the device itself returned, so that rounding in a score is no excuse for a wrong choice.
 */
#define _GNU_SOURCE
#include "gpu_case.h"

#include "half.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a sequence's scores come out. */
enum kind { RANDOM, EQUAL, TIED, DOMINANT, LARGE, KINDS };
static const char *const kind_names[KINDS] = {"random", "equal", "tied", "dominant", "large"};

enum { max_batch = 3, samples = 8 };

struct random_case {
    struct gpu_case c;
    enum kind kinds[max_batch];
};

static int below(unsigned long long *state, int count) { return (int)(gpu_random(state) % (unsigned)count); }

static unsigned long long seed_of(int number) { return 0x7a3d1f59ull + (unsigned long long)number * 0x632be59bd9b4e019ull; }

/* ---- the problems */

static void make_geometry(tamis_problem *p, unsigned long long *state)
{
    static const int dims[] = {64, 96, 128, 128, 256}, groups[] = {1, 2, 4};
    static const int edge_windows[] = {1, 2, 63, 64, 65, 255, 256}, edge_pools[] = {1, 3, 29, 31};
    tamis_selection *s = &p->selection;
    p->dtype = below(state, 2) ? TAMIS_FP16 : TAMIS_BF16;
    p->head_dim = dims[below(state, 5)];
    p->batch = 1 + below(state, max_batch);
    p->kv_heads = 1 + below(state, 2);
    p->q_heads = p->kv_heads * groups[below(state, 3)];
    s->window = below(state, 3) ? 1 + below(state, 256) : edge_windows[below(state, 7)];
    s->pool = below(state, 3) ? 1 + 2 * below(state, 16) : edge_pools[below(state, 4)];
    s->min_tokens = below(state, 3) ? below(state, 64) : 0;
    s->scope = (tamis_scope)below(state, 3);
    p->seq_len = s->window + 1 + (below(state, 2) ? below(state, 800) : below(state, 150));
    if (below(state, 16) == 0) p->seq_len = 1 + below(state, s->window); /* nothing to choose from */
}

static void make_policy(tamis_problem *p, unsigned long long *state)
{
    static const double coverages[] = {1e-9, 0.005, 0.05, 0.3, 0.9};
    tamis_selection *s = &p->selection;
    s->policy = (tamis_policy)(below(state, 10) ? 1 + below(state, 3) : TAMIS_DENSE);
    s->coverage = coverages[below(state, 5)] * (0.5 + below(state, 1000) / 2000.0);
    s->ratio = (1 + below(state, 1000)) / 1000.0;
    s->count = below(state, (int)p->seq_len + 20);
}

void gpu_random_problem(tamis_problem *out, int number)
{
    unsigned long long state = seed_of(number);
    tamis_selection *s = &out->selection;
    *out = (tamis_problem)TAMIS_PROBLEM_INIT;
    make_geometry(out, &state);
    make_policy(out, &state);
    switch (number % 8) {
    case 0: /* L just above M + W */
        s->min_tokens = 1 + below(&state, 300);
        out->seq_len = s->window + s->min_tokens + 1;
        break;
    case 1: /* all kept but one token */
        out->seq_len = s->window + s->min_tokens + 2 + below(&state, 500);
        s->policy = TAMIS_COUNT;
        s->count = out->seq_len - s->window - 1;
        break;
    case 2: /* equal scores drop nothing at this coverage, one dominant token all the others */
        out->batch = 2 + below(&state, max_batch - 1);
        out->seq_len = s->window + 200 + below(&state, 500);
        s->policy = TAMIS_COVERAGE;
        s->coverage = 0.25 / (double)(out->seq_len - s->window);
        break;
    case 3: /* ties to the lower index, which pooling would blur */
        s->pool = 1;
        s->min_tokens = 0;
        out->seq_len = s->window + 100 + below(&state, 700);
        s->policy = below(&state, 2) ? TAMIS_RATIO : TAMIS_COUNT;
        s->count = 1 + below(&state, 90);
        break;
    default: break;
    }
}

static void choose_kinds(struct random_case *r, int number)
{
    unsigned long long state = ~seed_of(number);
    const int first = below(&state, r->c.problem.batch);
    for (int b = 0; b < r->c.problem.batch; b++)
        r->kinds[b] = number % 8 == 2   ? (b == first ? EQUAL : DOMINANT)
                      : number % 8 == 3 ? (below(&state, 3) ? TIED : EQUAL)
                      : number % 8 == 4 ? LARGE
                                        : (enum kind)below(&state, KINDS);
}

/* ---- the inputs: K, and for some Q, of one sequence made what its kind says */

static void copy_rows(const struct random_case *r, unsigned short *k, int classes)
{
    const long long length = r->c.problem.seq_len, dim = r->c.problem.head_dim;
    for (long long t = length - 1; t >= classes; t--) {
        unsigned long long state = r->c.seed + (unsigned long long)t; /* the same for all heads */
        memcpy(k + t * dim, k + below(&state, classes) * dim, (size_t)dim * sizeof *k);
    }
}

static void scale_rows(const struct random_case *r, unsigned short *q, float factor)
{
    const tamis_dtype dtype = r->c.problem.dtype;
    for (long long i = 0; i < r->c.problem.seq_len * r->c.problem.head_dim; i++)
        q[i] = tamisi_half_from_float(factor * gpu_element(dtype, q[i]), dtype);
}

/* One key that every query likes: a logit of about 24 through the first column. */
static void set_dominant(const struct random_case *r, unsigned short *k)
{
    const tamis_problem *p = &r->c.problem;
    const long long candidates = p->seq_len - p->selection.window, token = candidates > 0 ? candidates / 3 : 0;
    memset(k + token * p->head_dim, 0, (size_t)p->head_dim * sizeof *k);
    k[token * p->head_dim] = tamisi_half_from_float(3.0f * sqrtf((float)p->head_dim), p->dtype);
}

static void shape_sequence(struct random_case *r, int sequence)
{
    const tamis_problem *p = &r->c.problem;
    const long long head = p->seq_len * p->head_dim;
    const enum kind kind = r->kinds[sequence];
    for (int h = 0; h < p->kv_heads; h++) {
        unsigned short *k = (unsigned short *)r->c.k.host + ((long long)sequence * p->kv_heads + h) * head;
        if (kind == EQUAL || kind == TIED) copy_rows(r, k, kind == EQUAL || p->seq_len < 3 ? 1 : 3);
        if (kind == DOMINANT) set_dominant(r, k);
    }
    for (int h = 0; h < p->q_heads; h++) {
        unsigned short *q = (unsigned short *)r->c.q.host + ((long long)sequence * p->q_heads + h) * head;
        if (kind == LARGE) scale_rows(r, q, 60.0f);
        for (long long t = 0; t < p->seq_len && kind == DOMINANT; t++)
            q[t * p->head_dim] = tamisi_half_from_float(8.0f, p->dtype);
    }
}

static bool write_inputs(struct random_case *r)
{
    struct gpu_case *c = &r->c;
    for (int b = 0; b < c->problem.batch; b++) shape_sequence(r, b);
    return tamis_memory_write(c->context, c->q.device, c->q.host, c->q.bytes, c->stream) == TAMIS_OK &&
           tamis_memory_write(c->context, c->k.device, c->k.host, c->k.bytes, c->stream) == TAMIS_OK;
}

/* ---- scores */

/* The CPU backend's in double precision, (B, Hq, N); NULL: it said why. */
static float *reference_scores(const struct gpu_case *c, size_t count)
{
    const tamis_problem *p = &c->problem;
    const long long head = p->seq_len * p->head_dim;
    const tamis_tensor q = {c->q.host, p->q_heads * head, head, p->head_dim};
    const tamis_tensor k = {c->k.host, p->kv_heads * head, head, p->head_dim};
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *cpu = NULL;
    tamis_plan *plan = NULL;
    options.device = TAMIS_DEVICE_CPU;
    options.precision = TAMIS_FP64;
    bool ok = tamis_context_create(&cpu, &options) == TAMIS_OK && tamis_plan_create(&plan, cpu, NULL, p) == TAMIS_OK;
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    float *score = malloc(count * sizeof *score), *rank = malloc(count * sizeof *rank), *mean = malloc(count * sizeof *mean);
    void *workspace = aligned_alloc(256, (bytes + 255) / 256 * 256);
    ok = ok && score && rank && mean && workspace &&
         tamis_score(plan, &q, &k, score, rank, mean, workspace, bytes, NULL) == TAMIS_OK;
    if (!ok) printf("  CPU reference: %s\n", tamis_last_error());
    free(rank);
    free(mean);
    free(workspace);
    tamis_plan_free(plan);
    tamis_context_free(cpu);
    if (ok) return score;
    free(score);
    return NULL;
}

/* A logit of hundreds has an error in fp32 that its exponential magnifies. */
static bool check_scores(const struct random_case *r, long long candidates)
{
    const tamis_problem *p = &r->c.problem;
    const long long sequence = p->q_heads * candidates, count = p->batch * sequence;
    const float *got = r->c.score.host;
    float *want = reference_scores(&r->c, (size_t)count);
    bool ok = want != NULL;
    for (long long i = 0; i < count && ok; i++) {
        const double bound = r->kinds[i / sequence] == LARGE ? 1e-2 : 1e-3;
        ok = fabs((double)got[i] - (double)want[i]) <= bound * (double)want[i] + 1e-12; /* a NaN compares false */
        if (!ok)
            printf("  sequence %lld, head %lld: score[%lld] is %g, reference %g\n", i / sequence, i % sequence / candidates,
                   i % candidates, (double)got[i], (double)want[i]);
    }
    free(want);
    return ok;
}

/* ---- what follows from them */

/* Add the pooled scores of heads first .. first + heads - 1 of a sequence, divided by `divisor`. */
static void pool_heads(const struct gpu_case *c, double *out, const float *score, int first, int heads, double divisor)
{
    const long long candidates = c->problem.seq_len - c->problem.selection.window;
    const int pool = c->problem.selection.pool;
    for (long long j = 0; j < candidates; j++) {
        out[j] = 0;
        for (int h = first; h < first + heads; h++)
            for (long long i = j - pool / 2; i <= j + pool / 2; i++)
                if (i >= 0 && i < candidates) out[j] += (double)score[h * candidates + i];
        out[j] /= pool * divisor;
    }
}

static int compare(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Kept outside the window by coverage, where the sum of `sorted`, ascending, may pass tau `slack` early. */
static long long coverage_keep(const struct gpu_case *c, const double *sorted, long long candidates, double slack)
{
    double total = 0, sum = 0;
    long long drop = 0;
    for (long long j = 0; j < candidates; j++) total += sorted[j];
    const double limit = c->problem.selection.coverage * total * (1 + slack);
    while (drop < candidates && (sum += sorted[drop]) < limit) drop++;
    if (drop == 0) return candidates;
    const long long keep = candidates - (drop + 1), least = c->problem.selection.min_tokens;
    return keep > least ? keep : least;
}

/* The budget by the definition; by coverage anything between what 1e-6 less and more of tau give. */
static bool check_budget(const struct gpu_case *c, double *mean, long long candidates, long long keep)
{
    const tamis_selection *s = &c->problem.selection;
    long long least = candidates, most = candidates;
    if (candidates > s->min_tokens && s->policy == TAMIS_RATIO) {
        least = most = (long long)fmax((double)s->min_tokens, ceil(s->ratio * (double)candidates));
    } else if (candidates > s->min_tokens && s->policy == TAMIS_COUNT) {
        least = s->count > s->min_tokens ? s->count : s->min_tokens;
        least = most = least < candidates ? least : candidates;
    } else if (candidates > s->min_tokens && s->policy == TAMIS_COVERAGE && s->coverage > 0) {
        qsort(mean, (size_t)candidates, sizeof *mean, compare);
        most = coverage_keep(c, mean, candidates, -1e-6);
        least = coverage_keep(c, mean, candidates, 1e-6);
    }
    if (keep >= least && keep <= most) return true;
    printf("  keeps %lld outside the window, not %lld to %lld of %lld\n", keep, least, most, candidates);
    return false;
}

/* Kept tokens rank at least as high as the lowest that should be kept, dropped ones at most; 2^-12 apart counts as equal. */
static bool check_list(const double *rank, double *scratch, const int *list, long long candidates, long long keep)
{
    memcpy(scratch, rank, (size_t)candidates * sizeof *rank);
    qsort(scratch, (size_t)candidates, sizeof *scratch, compare);
    const double threshold = keep > 0 ? scratch[candidates - keep] : INFINITY;
    const double slack = keep > 0 ? threshold / 4096 + 1e-36 : 0;
    for (long long j = 0, at = 0; j < candidates; j++) {
        const bool kept = at < keep && list[at] == j;
        at += kept;
        if (kept ? rank[j] >= threshold - slack : rank[j] <= threshold + slack) continue;
        printf("  token %lld is %s: rank %g, threshold %g\n", j, kept ? "kept" : "dropped", rank[j], threshold);
        return false;
    }
    return true;
}

/* Do two tokens have the same bits of score in each of the heads that choose together? */
static bool same_scores(const float *score, int first, int heads, long long candidates, long long a, long long b)
{
    for (int h = first; h < first + heads; h++)
        if (memcmp(&score[h * candidates + a], &score[h * candidates + b], sizeof *score) != 0) return false;
    return true;
}

/* Without pooling, no token may be kept after one of the very same scores was dropped. Counts what ties were decided. */
static bool check_ties(const float *score, int first, int heads, const int *list, long long candidates, long long keep,
                       struct gpu_tally *tally)
{
    enum { room = 8 }; /* tied inputs have three different scores, or four at the most */
    long long dropped[room];
    int count = 0;
    for (long long j = 0, at = 0; j < candidates; j++) {
        int same = 0;
        while (same < count && !same_scores(score, first, heads, candidates, dropped[same], j)) same++;
        if (at >= keep || list[at] != j) {
            if (same == count && count < room) dropped[count++] = j;
            continue;
        }
        at++;
        if (same == count) continue;
        printf("  token %lld is kept, %lld of equal score is not\n", j, dropped[same]);
        return false;
    }
    for (long long at = 0; at < keep; at++)
        for (int i = 0; i < count; i++)
            if (same_scores(score, first, heads, candidates, dropped[i], list[at])) return tally->ties++, true;
    return true;
}

static bool check_sequence(const struct random_case *r, int sequence, double *rank, double *scratch, struct gpu_tally *tally)
{
    const struct gpu_case *c = &r->c;
    const tamis_problem *p = &c->problem;
    const long long candidates = p->seq_len - p->selection.window;
    const long long keep = ((const int *)c->kept.host)[sequence] - p->selection.window;
    const float *score = (const float *)c->score.host + (long long)sequence * p->q_heads * candidates;
    const int lists = tamis_plan_index_heads(c->plan), heads = p->q_heads / lists;
    pool_heads(c, rank, score, 0, p->q_heads, p->q_heads);
    if (!check_budget(c, rank, candidates, keep)) return false;
    for (int i = 0; i < lists && keep < candidates; i++) {
        const int *list = (const int *)c->indices.host + ((long long)sequence * lists + i) * tamis_plan_capacity(c->plan);
        pool_heads(c, rank, score, i * heads, heads, p->selection.scope == TAMIS_SCOPE_LAYER ? heads : 1);
        if (!check_list(rank, scratch, list, candidates, keep)) return false;
        if (p->selection.pool == 1 && (r->kinds[sequence] == EQUAL || r->kinds[sequence] == TIED) &&
            !check_ties(score, i * heads, heads, list, candidates, keep, tally))
            return false;
    }
    return true;
}

static void count_case(const struct random_case *r, struct gpu_tally *tally)
{
    const tamis_problem *p = &r->c.problem;
    int whole = 0, all_but_one = 0, large = 0;
    for (int b = 0; b < p->batch; b++) {
        const int kept = ((const int *)r->c.kept.host)[b];
        whole += kept == p->seq_len;
        all_but_one += kept == p->seq_len - 1;
        large += r->kinds[b] == LARGE;
    }
    tally->mixed += whole > 0 && whole < p->batch;
    tally->all_but_one += all_but_one > 0;
    tally->large += large > 0;
}

static bool check_selection(const struct random_case *r, struct gpu_tally *tally)
{
    const tamis_problem *p = &r->c.problem;
    const long long candidates = p->seq_len - p->selection.window;
    count_case(r, tally);
    if (candidates <= 0) return true;
    if (!check_scores(r, candidates)) return false;
    double *rank = malloc((size_t)candidates * sizeof *rank), *scratch = malloc((size_t)candidates * sizeof *scratch);
    bool ok = rank && scratch;
    for (int b = 0; b < p->batch && ok; b++) {
        ok = check_sequence(r, b, rank, scratch, tally);
        if (!ok) printf("  in sequence %d of %s scores\n", b, kind_names[r->kinds[b]]);
    }
    free(rank);
    free(scratch);
    return ok;
}

/* A second run, its outputs poisoned again, has the same bits. */
static bool check_again(struct gpu_case *c)
{
    struct gpu_array *const arrays[] = {&c->output, &c->lse, &c->score, &c->kept};
    enum { count = sizeof arrays / sizeof *arrays };
    void *first[count] = {NULL};
    bool ok = true;
    for (int i = 0; i < count; i++) {
        first[i] = malloc(arrays[i]->bytes);
        ok = ok && first[i];
        if (ok) memcpy(first[i], arrays[i]->host, arrays[i]->bytes);
    }
    ok = ok && gpu_case_poison(c) && gpu_case_run(c) && gpu_case_fetch(c);
    for (int i = 0; i < count; i++) {
        if (ok && memcmp(first[i], arrays[i]->host, arrays[i]->bytes) != 0) {
            printf("  a second run gives other bits\n");
            ok = false;
        }
        free(first[i]);
    }
    return ok;
}

bool gpu_check_random(int number, tamis_context *context, tamis_store *store, struct gpu_tally *tally)
{
    struct random_case r;
    memset(&r, 0, sizeof r);
    r.c.seed = seed_of(number);
    gpu_random_problem(&r.c.problem, number);
    choose_kinds(&r, number);
    const bool ok = gpu_case_open(&r.c, context, store) && write_inputs(&r) && gpu_case_poison(&r.c) && gpu_case_run(&r.c) &&
                    gpu_case_fetch(&r.c) && gpu_case_check(&r.c, samples) && check_selection(&r, tally) && check_again(&r.c);
    gpu_case_close(&r.c);
    return ok;
}
