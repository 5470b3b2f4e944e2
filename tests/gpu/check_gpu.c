/*
 * check_gpu.c: what only a GPU can show. `check_gpu STORE [quick|random|lists|blocks|patterns|maps|drift|few|emulated|full]
 * [device]` prints a line a check and exits 1 if one failed. quick: small problems, for running under compute-sanitizer; random:
 * a series of awkward ones; lists: selection from long and awkward lists; blocks: attention on block patterns; patterns: those
 * that are made of Q and K; maps: attention with an output map; drift: representation drift; these six the CPU backend (device
 * -1, STORE not looked at) passes too; full: all of these, many shapes, and real sizes. For the emulated GPU of tests/emulate
 * there are emulated: of all the small ones, and few: just enough of head_dim 64 and bf16 that a broken kernel fails.
 * Each problem has fresh random inputs, NaN-poisoned outputs and workspace, and guard bytes around every output.
 */
#define _GNU_SOURCE
#include "gpu_case.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static tamis_context *context;
static tamis_store *store;
static const char *store_path;
static int passed_count, failed_count;
static int device; /* ordinal */
static unsigned long long seeds = 20261124;

static void report(bool ok, const char *name)
{
    if (ok)
        passed_count++;
    else
        failed_count++;
    printf("%s %s\n", ok ? "ok    " : "FAILED", name);
    fflush(stdout);
}

static void name_of(char *out, size_t size, const tamis_problem *p, const char *what)
{
    const tamis_selection *s = &p->selection;
    char policy[64];
    if (s->policy == TAMIS_COVERAGE)
        snprintf(policy, sizeof policy, "coverage %g", s->coverage);
    else if (s->policy == TAMIS_RATIO)
        snprintf(policy, sizeof policy, "ratio %g", s->ratio);
    else if (s->policy == TAMIS_COUNT)
        snprintf(policy, sizeof policy, "count %lld", (long long)s->count);
    else
        snprintf(policy, sizeof policy, "dense");
    snprintf(out, size, "%s: %s B%d Hq%d Hkv%d L%lld D%d, %s%s, scope %d, W%d P%d M%lld", what,
             p->dtype == TAMIS_BF16 ? "bf16" : "fp16", p->batch, p->q_heads, p->kv_heads, (long long)p->seq_len, p->head_dim,
             policy, p->mask == TAMIS_FULL ? ", full mask" : "", (int)s->scope, s->window, s->pool,
             (long long)s->min_tokens);
}

static tamis_problem make_problem(tamis_dtype dtype, int batch, int q_heads, int kv_heads, long long seq_len, int head_dim)
{
    tamis_problem p = TAMIS_PROBLEM_INIT;
    p.dtype = dtype;
    p.batch = batch;
    p.q_heads = q_heads;
    p.kv_heads = kv_heads;
    p.seq_len = seq_len;
    p.head_dim = head_dim;
    p.selection.min_tokens = 16;
    return p;
}

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
    c.seed = seeds++;
    name_of(name, sizeof name, problem, what);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    const bool ok = gpu_case_open(&c, context, store) && check_values(&c, samples);
    gpu_case_close(&c);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    snprintf(name + strlen(name), sizeof name - strlen(name), " (%.1f s)", seconds);
    report(ok, name);
}

static void check_problem(const char *what, const tamis_problem *problem, double sharpness, int samples)
{
    const struct gpu_case c = {.sharpness = sharpness};
    check_case(what, problem, c, samples);
}

/* ---- logits that grow as a row's keys are walked through, so that what was summed up has to be rescaled */

static void check_growth(long long seq_len, int samples, int first, int step)
{
    static const int dims[] = {64, 96, 128, 256};
    const struct gpu_case cases[] = {{.sharpness = 1.0, .climb = 40},      /* beyond what fp16 holds */
                                     {.sharpness = 1.0, .climb = 200},     /* beyond what bf16 holds, once or twice */
                                     {.sharpness = 1.0, .climb = 4000},    /* at each step */
                                     {.sharpness = 1.0, .spike_every = 97} /* in one row, then in another */};
    static const char *const names[] = {"climb 40", "climb 200", "climb 4000", "spikes"};
    for (int i = first; i < 16; i += step) {
        tamis_problem p = make_problem(i / 4 % 2 ? TAMIS_FP16 : TAMIS_BF16, 1, 4, 2, seq_len + i, dims[i % 4]);
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

/* ---- shapes */

static void check_small(void)
{
    static const int dims[] = {64, 96, 128, 256};
    for (int i = 0; i < 4; i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            tamis_problem p = make_problem((tamis_dtype)dtype, 1, 4, 2, 300 + 37 * i, dims[i]);
            p.selection.policy = TAMIS_COVERAGE;
            p.selection.coverage = 0.1;
            p.selection.window = 32;
            check_problem("small", &p, 1.0, 300);
        }
    tamis_problem dense = make_problem(TAMIS_BF16, 2, 2, 1, 257, 128);
    check_problem("small", &dense, 1.0, 257);
    dense.mask = TAMIS_FULL;
    check_problem("small", &dense, 1.0, 257);
}

static void check_lengths(long long longest)
{
    static const long long lengths[] = {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 4097};
    static const int dims[] = {64, 96, 128, 256};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths && lengths[i] <= longest; i++) {
        tamis_problem p = make_problem(i % 2 ? TAMIS_FP16 : TAMIS_BF16, 1, 4, i % 3 ? 2 : 4, lengths[i], dims[i % 4]);
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
static void check_masks(long long longest)
{
    static const long long lengths[] = {1, 31, 63, 64, 65, 127, 128, 129, 175, 176, 177, 191, 192, 193, 1000, 4097};
    static const int dims[] = {64, 96, 128, 256}, kv_heads[] = {4, 2, 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths && lengths[i] <= longest; i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            tamis_problem p = make_problem((tamis_dtype)dtype, 1 + (int)i % 2, 4, kv_heads[i % 3], lengths[i],
                                           dims[(i + (size_t)dtype) % 4]);
            p.mask = TAMIS_FULL;
            check_problem("no causal mask", &p, 1.0, 64);
        }
}

static void check_selections(void)
{
    static const int windows[] = {1, 7, 64, 128, 256, 1024}, pools[] = {1, 3, 7, 15, 31, 63};
    for (int i = 0; i < 6; i++)
        for (int scope = 0; scope < 3; scope++) {
            tamis_problem p = make_problem(TAMIS_BF16, 2, 8, 2, 3000 + 333 * i, i % 2 ? 128 : 64);
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
    tamis_problem last = make_problem(TAMIS_BF16, 1, 2, 1, 128 + 16 + 1, 128); /* L just above M + W; kept = L - 1 */
    last.selection.policy = TAMIS_COUNT;
    last.selection.count = 16;
    check_problem("edge", &last, 1.0, 64);
    last.selection.policy = TAMIS_COVERAGE;
    last.selection.coverage = 1e-9; /* drops nothing: dense, found out on the device */
    last.seq_len = 2000;
    check_problem("edge", &last, 1.0, 64);
}

static void check_layouts(long long seq_len)
{
    tamis_problem p = make_problem(TAMIS_BF16, 2, 8, 2, seq_len, 128);
    report(gpu_check_tokens_first(&p, false, context, store), "tokens before heads, dense: the bits of heads before tokens");
    report(gpu_check_shared_head(&p, context, store), "a head stride of 0, dense: the bits of copied heads");
    p.selection.policy = TAMIS_RATIO;
    p.selection.ratio = 0.4;
    report(gpu_check_tokens_first(&p, false, context, store), "tokens before heads, sparse: the bits of heads before tokens");
    report(gpu_check_shared_head(&p, context, store), "a head stride of 0, sparse: the bits of copied heads");
    report(gpu_check_tokens_first(&p, true, context, store), "tokens before heads, with an output map: the same bits");
}

static void check_warm_plan(void)
{
    tamis_problem p = make_problem(TAMIS_BF16, 2, 8, 2, 1500, 128);
    p.selection.policy = TAMIS_RATIO;
    p.selection.ratio = 0.4;
    report(gpu_check_warm_plan(&p, context, store_path), "a warm store opened and a plan made in under 10 ms");
}

/* Its own seeds: a problem is the same one wherever and after whatever it runs. */
static struct gpu_tally check_random(int problems)
{
    struct gpu_tally tally = {0, 0, 0, 0};
    for (int i = 0; i < problems; i++) {
        tamis_problem p;
        char name[256], what[32];
        gpu_random_problem(&p, i);
        snprintf(what, sizeof what, "random %d", i);
        name_of(name, sizeof name, &p, what);
        report(gpu_check_random(i, context, store, &tally), name);
    }
    return tally;
}

static void check_random_series(void)
{
    const struct gpu_tally tally = check_random(100);
    printf("  %d mixed batches, %d with all tokens kept but one, %d lists with ties, %d of large logits\n", tally.mixed,
           tally.all_but_one, tally.ties, tally.large);
    report(tally.mixed >= 5 && tally.all_but_one >= 5 && tally.ties >= 10 && tally.large >= 10,
           "the random problems are as awkward as they are meant to be");
}

/* Lists up to four times as long as what any cluster keeps in registers, and about as long as those of one block. */
static void check_lists(int first, int end)
{
    static const long long candidates[] = {1, 2, 31, 33, 1000, 4095, 8064, 16384, 16385, 24576, 24577, 130944, 524289};
    static const double coverages[] = {1e-9, 0.005, 0.5, 0.999};
    for (int i = first; i < end && i < (int)(sizeof candidates / sizeof *candidates); i++) {
        const long long count = candidates[i], counts[] = {0, 1, count / 2, count - 1};
        tamis_problem p = make_problem(TAMIS_BF16, 3, 4, 2, count + 17, 64);
        char name[256];
        p.selection.window = 17;
        p.selection.min_tokens = 0;
        for (int j = 0; j < 4; j++) {
            p.selection.policy = TAMIS_COUNT;
            p.selection.count = counts[j];
            name_of(name, sizeof name, &p, "lists");
            report(gpu_check_select(&p, i + 3 * j, context, store), name);
            p.selection.policy = TAMIS_COVERAGE;
            p.selection.coverage = coverages[j];
            name_of(name, sizeof name, &p, "lists");
            report(gpu_check_select(&p, i + 3 * j, context, store), name);
        }
    }
}

static void check_all_lists(void) { check_lists(0, 99); }

/* Block patterns in all forms: each `step`th from `first` on. Of every four a head_dim comes once, bf16 of every eight. */
static void check_blocks(int first, int end, int step, long long least_blind)
{
    long long blind = 0;
    for (int i = first; i < end; i += step) {
        char name[256];
        gpu_blocks_name(name, sizeof name, i);
        report(gpu_check_blocks(i, context, store, &blind), name);
    }
    report(blind >= least_blind, "some rows of the block patterns see no key");
}

static void check_all_blocks(void) { check_blocks(0, 96, 1, 100); }

/* Output maps: each `step`th from `first` on. Of every four a head_dim comes once, bf16 of every eight. */
static void check_maps(int first, int end, int step)
{
    for (int i = first; i < end; i += step) {
        char name[256];
        gpu_maps_name(name, sizeof name, i);
        report(gpu_check_maps(i, context, store), name);
    }
}

static void check_all_maps(void) { check_maps(0, 96, 1); }

/* Patterns that are made of Q and K: of a series of all kinds those from number `first` on. */
static void check_patterns(int first, int end, struct gpu_patterns_tally *tally)
{
    for (int i = first; i < end; i++) {
        char name[256];
        gpu_patterns_name(name, sizeof name, i);
        report(gpu_check_patterns(i, context, store, tally), name);
    }
}

static void check_all_patterns(void)
{
    struct gpu_patterns_tally tally = {0, 0, 0};
    check_patterns(0, 80, &tally);
    report(tally.decided > 20 * tally.either, "most blocks of the patterns are far from where choices end");
    report(tally.left_out > tally.decided / 4, "a good part of the blocks is left out");
}

static void check_some_patterns(const int *numbers, size_t n)
{
    struct gpu_patterns_tally tally = {0, 0, 0};
    for (size_t i = 0; i < n; i++) check_patterns(numbers[i], numbers[i] + 1, &tally);
}

/* Head dim 128 alone; of each kind one. */
static void check_head_dim_patterns(void)
{
    static const int numbers[] = {24, 25, 32, 41, 48}; /* the last one with whole tiles of XAttention */
    check_some_patterns(numbers, sizeof numbers / sizeof *numbers);
}

/* A batch of two equals the two alone, bit for bit. The second sequence is the first one's inputs under another seed. */
static void check_batch(long long seq_len)
{
    struct gpu_case both, alone;
    memset(&both, 0, sizeof both);
    memset(&alone, 0, sizeof alone);
    both.problem = make_problem(TAMIS_BF16, 2, 8, 2, seq_len, 128);
    both.problem.selection.policy = TAMIS_COVERAGE;
    both.problem.selection.coverage = 0.1;
    both.seed = seeds++;
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
    report(ok, "a sequence of a batch has the bits it has alone");
}

/* ---- a CUDA graph, captured once and replayed with other data */

typedef int (*retain_fn)(void **, int);
typedef int (*set_current_fn)(void *);
typedef int (*capture_begin_fn)(tamis_stream, int);
typedef int (*capture_end_fn)(tamis_stream, void **);
typedef int (*instantiate_fn)(void **, void *, unsigned long long);
typedef int (*launch_fn)(void *, tamis_stream);

static bool replay_equals_eager(struct gpu_case *c, void *exec, launch_fn launch)
{
    bool ok = gpu_case_fill(c) && gpu_case_poison(c) && gpu_case_run(c) && gpu_case_fetch(c) && gpu_case_check(c, 8);
    void *eager = malloc(c->output.bytes);
    if (!ok || !eager) return false;
    memcpy(eager, c->output.host, c->output.bytes);
    ok = gpu_case_poison(c) && launch(exec, c->stream) == 0 && tamis_stream_synchronize(context, c->stream) == TAMIS_OK &&
         gpu_case_fetch(c) && memcmp(eager, c->output.host, c->output.bytes) == 0;
    free(eager);
    return ok;
}

static bool check_replays(struct gpu_case *c, void *cuda)
{
    /* Casting dlsym's result is what POSIX asks for. */
    const capture_begin_fn begin = (capture_begin_fn)dlsym(cuda, "cuStreamBeginCapture_v2");
    const capture_end_fn end = (capture_end_fn)dlsym(cuda, "cuStreamEndCapture");
    const instantiate_fn instantiate = (instantiate_fn)dlsym(cuda, "cuGraphInstantiateWithFlags");
    const launch_fn launch = (launch_fn)dlsym(cuda, "cuGraphLaunch");
    void *graph = NULL, *exec = NULL;
    if (!begin || !end || !instantiate || !launch) return false;
    if (tamis_stream_create(&c->stream, context) != TAMIS_OK || !gpu_case_open(c, context, store)) return false;
    const int thread_local_mode = 1;
    bool ok = begin(c->stream, thread_local_mode) == 0 &&
              tamis_run(c->plan, &c->args, c->workspace.device, tamis_plan_workspace_bytes(c->plan), c->stream) == TAMIS_OK;
    ok = end(c->stream, &graph) == 0 && ok && instantiate(&exec, graph, 0) == 0;
    const double sharpness[] = {6.0, 4.0, 0.001}; /* uneven scores drop more; of even ones the smallest is over coverage */
    int kept[3] = {0, 0, 0};
    for (int i = 0; i < 3 && ok; i++) {
        c->seed = seeds++;
        c->sharpness = sharpness[i];
        ok = replay_equals_eager(c, exec, launch);
        kept[i] = ((const int *)c->kept.host)[0];
    }
    if (ok && (kept[0] == kept[1] || kept[1] == c->problem.seq_len || kept[2] != c->problem.seq_len)) {
        printf("  kept %d, %d and %d: the inputs do not tell sparse from sparse and from dense\n", kept[0], kept[1], kept[2]);
        ok = false;
    }
    return ok;
}

/* The calls above, unlike tamis, want the device's context to be current. */
static bool make_current(void *cuda)
{
    const retain_fn retain = (retain_fn)dlsym(cuda, "cuDevicePrimaryCtxRetain");
    const set_current_fn set_current = (set_current_fn)dlsym(cuda, "cuCtxSetCurrent");
    void *primary = NULL;
    return retain && set_current && retain(&primary, device) == 0 && set_current(primary) == 0;
}

static void check_graph(void)
{
    struct gpu_case c;
    memset(&c, 0, sizeof c);
    c.problem = make_problem(TAMIS_BF16, 1, 8, 2, 4096, 128);
    c.problem.selection.policy = TAMIS_COVERAGE;
    c.problem.selection.coverage = 1.3e-4;
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
    const bool current = cuda && make_current(cuda), ok = current && check_replays(&c, cuda);
    gpu_case_close(&c);
    if (c.stream) tamis_stream_free(context, c.stream);
    report(ok, "a captured graph replayed on sparse and on dense data has the bits of eager runs");
    report(current && gpu_check_drift_graph(context, store, cuda), "a captured graph of drifts has the bits of eager calls");
}

static void check_drifts(void)
{
    char name[160];
    for (int i = 0; i < gpu_check_drift_count(); i++) {
        gpu_check_drift_name(name, sizeof name, i);
        report(gpu_check_drift(i, context, store), name);
    }
}

/* ---- real sizes */

static void check_large(void)
{
    tamis_problem p = make_problem(TAMIS_BF16, 1, 32, 8, 131072, 128);
    p.selection.min_tokens = 1024;
    p.selection.policy = TAMIS_COVERAGE;
    p.selection.coverage = 0.05;
    check_problem("128K", &p, 1.0, 64);
    /* Q and the output hold 2^31 elements and 4 GiB each: 32-bit offsets would show. */
    tamis_problem huge = make_problem(TAMIS_BF16, 1, 32, 8, 524288, 128);
    huge.selection.policy = TAMIS_RATIO;
    huge.selection.ratio = 0.02;
    huge.selection.window = 16; /* the reference's time goes with it */
    check_problem("512K", &huge, 1.0, 8);
    tamis_problem longest = make_problem(TAMIS_BF16, 1, 8, 8, 1048576, 128);
    longest.selection.policy = TAMIS_RATIO;
    longest.selection.ratio = 0.02;
    longest.selection.window = 16;
    check_problem("1M", &longest, 1.0, 16);
}

/* Enough that a kernel that is wrong fails: masked steps and others, a dense sequence, a sparse one, an end within a tile. */
static void check_few(void)
{
    tamis_problem p = make_problem(TAMIS_BF16, 1, 4, 2, 300, 64);
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
    check_blocks(1, 34, 16, 0); /* lists, rows and bits */
    check_maps(0, 25, 8);       /* kept tokens, all, and without a mask */
    static const int whole_tiles[] = {3}; /* of XAttention */
    check_some_patterns(whole_tiles, 1);
}

static void check_emulated(void)
{
    const long long longest = 300;
    check_lengths(longest);
    check_masks(longest);
    check_growth(longest / 2, 16, 0, 5);
    check_random(8);
    check_lists(0, 6);
    check_lists(10, 11); /* too long for one block where there are clusters */
    check_drifts();
    check_layouts(longest / 2);
    check_batch(longest / 2);
    check_blocks(0, 24, 1, 1);
    check_maps(0, 24, 1);
    static const int numbers[] = {3, 45, 51, 53, 64, 67}; /* one of each kind, at most 640 positions; whole tiles of XAttention */
    check_some_patterns(numbers, sizeof numbers / sizeof *numbers);
}

static void check_full(void)
{
    const long long longest = 1 << 24;
    check_small();
    check_random_series();
    check_all_lists();
    check_all_blocks();
    check_all_patterns();
    check_all_maps();
    check_drifts();
    check_lengths(longest);
    check_masks(longest);
    check_growth(3000, 32, 0, 1);
    check_selections();
    check_layouts(1500);
    check_warm_plan();
    check_batch(2500);
    check_graph();
    check_large();
}

static void check_quick(void)
{
    check_small();
    check_growth(400, 64, 2, 4); /* head_dim 128 alone: sanitizers take their time */
    check_blocks(0, 96, 12, 1); /* likewise */
    check_maps(2, 96, 12);      /* likewise */
    check_head_dim_patterns();
    check_drifts();
}

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {{"quick", check_quick}, {"random", check_random_series}, {"lists", check_all_lists},
             {"blocks", check_all_blocks}, {"patterns", check_all_patterns}, {"maps", check_all_maps},
             {"drift", check_drifts}, {"few", check_few}, {"emulated", check_emulated}, {"full", check_full}};

static void (*find_mode(const char *name))(void)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(modes[i].name, name) == 0) return modes[i].run;
    return NULL;
}

int main(int argc, char **argv)
{
    void (*const run)(void) = find_mode(argc > 2 ? argv[2] : "full");
    if (argc < 2 || argc > 4 || !run) {
        fprintf(stderr, "usage: %s STORE [quick|random|lists|blocks|patterns|maps|drift|few|emulated|full] [device]\n", argv[0]);
        return 2;
    }
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    if (argc > 3) device = atoi(argv[3]);
    options.device = device;
    tamis_status status = tamis_context_create(&context, &options);
    if (status == TAMIS_OK && device != TAMIS_DEVICE_CPU) status = tamis_store_open(&store, argv[1], NULL);
    if (status != TAMIS_OK) {
        fprintf(stderr, "check_gpu: %s\n", tamis_last_error());
        return 1;
    }
    store_path = argv[1];
    run();
    tamis_store_free(store);
    tamis_context_free(context);
    printf("%d passed, %d failed\n", passed_count, failed_count);
    return failed_count > 0;
}
