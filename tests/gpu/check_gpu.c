/*
 * check_gpu.c: what only a GPU can show. `check_gpu STORE [quick|random|lists|blocks|patterns|maps|drift|few|emulated|full]
 * [device]` prints a line a check and exits 1 if one failed. quick: small problems, for running under compute-sanitizer;
 * random: a series of awkward ones; lists: selection from long and awkward lists; blocks: attention on block patterns;
 * patterns: those that are made of Q and K; maps: attention with an output map; drift: representation drift; these six the
 * CPU backend (device -1, STORE not looked at) passes too; full: all of these, many shapes, and real sizes. For the emulated
 * GPU of tests/emulate there are emulated: of all the small ones, and few: just enough of head_dim 64 and bf16 that a broken
 * kernel fails. The checks themselves are in the gpu_check_*.c; here is which of them a word means.
 */
#include "check_gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tamis_context *gpu_context;
tamis_store *gpu_store;
static const char *store_path;
static int passed_count, failed_count;
static int device; /* ordinal */

unsigned long long gpu_next_seed(void)
{
    static unsigned long long seeds = 20261124;
    return seeds++;
}

void gpu_report(bool ok, const char *name)
{
    if (ok)
        passed_count++;
    else
        failed_count++;
    printf("%s %s\n", ok ? "ok    " : "FAILED", name);
    fflush(stdout);
}

void gpu_problem_name(char *out, size_t size, const tamis_problem *p, const char *what)
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

tamis_problem gpu_make_problem(tamis_dtype dtype, int batch, int q_heads, int kv_heads, long long seq_len, int head_dim)
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

static void check_layouts(long long seq_len)
{
    tamis_problem p = gpu_make_problem(TAMIS_BF16, 2, 8, 2, seq_len, 128);
    gpu_report(gpu_check_tokens_first(&p, false, gpu_context, gpu_store),
               "tokens before heads, dense: the bits of heads before tokens");
    gpu_report(gpu_check_shared_head(&p, gpu_context, gpu_store), "a head stride of 0, dense: the bits of copied heads");
    p.selection.policy = TAMIS_RATIO;
    p.selection.ratio = 0.4;
    gpu_report(gpu_check_tokens_first(&p, false, gpu_context, gpu_store),
               "tokens before heads, sparse: the bits of heads before tokens");
    gpu_report(gpu_check_shared_head(&p, gpu_context, gpu_store), "a head stride of 0, sparse: the bits of copied heads");
    gpu_report(gpu_check_tokens_first(&p, true, gpu_context, gpu_store),
               "tokens before heads, with an output map: the same bits");
}

static void check_warm_plan(void)
{
    tamis_problem p = gpu_make_problem(TAMIS_BF16, 2, 8, 2, 1500, 128);
    p.selection.policy = TAMIS_RATIO;
    p.selection.ratio = 0.4;
    gpu_report(gpu_check_warm_plan(&p, gpu_context, store_path), "a warm store opened and a plan made in under 10 ms");
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
        gpu_problem_name(name, sizeof name, &p, what);
        gpu_report(gpu_check_random(i, gpu_context, gpu_store, &tally), name);
    }
    return tally;
}

static void check_random_series(void)
{
    const struct gpu_tally tally = check_random(100);
    printf("  %d mixed batches, %d with all tokens kept but one, %d lists with ties, %d of large logits\n", tally.mixed,
           tally.all_but_one, tally.ties, tally.large);
    gpu_report(tally.mixed >= 5 && tally.all_but_one >= 5 && tally.ties >= 10 && tally.large >= 10,
               "the random problems are as awkward as they are meant to be");
}

/* Lists up to four times as long as what any cluster keeps in registers, and about as long as those of one block. */
static void check_lists(int first, int end)
{
    static const long long candidates[] = {1, 2, 31, 33, 1000, 4095, 8064, 16384, 16385, 24576, 24577, 130944, 524289};
    static const double coverages[] = {1e-9, 0.005, 0.5, 0.999};
    for (int i = first; i < end && i < (int)(sizeof candidates / sizeof *candidates); i++) {
        const long long count = candidates[i], counts[] = {0, 1, count / 2, count - 1};
        tamis_problem p = gpu_make_problem(TAMIS_BF16, 3, 4, 2, count + 17, 64);
        char name[256];
        p.selection.window = 17;
        p.selection.min_tokens = 0;
        for (int j = 0; j < 4; j++) {
            p.selection.policy = TAMIS_COUNT;
            p.selection.count = counts[j];
            gpu_problem_name(name, sizeof name, &p, "lists");
            gpu_report(gpu_check_select(&p, i + 3 * j, gpu_context, gpu_store), name);
            p.selection.policy = TAMIS_COVERAGE;
            p.selection.coverage = coverages[j];
            gpu_problem_name(name, sizeof name, &p, "lists");
            gpu_report(gpu_check_select(&p, i + 3 * j, gpu_context, gpu_store), name);
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
        gpu_report(gpu_check_blocks(i, gpu_context, gpu_store, &blind), name);
    }
    gpu_report(blind >= least_blind, "some rows of the block patterns see no key");
}

static void check_all_blocks(void) { check_blocks(0, 96, 1, 100); }

/* Output maps: each `step`th from `first` on. Of every four a head_dim comes once, bf16 of every eight. */
static void check_maps(int first, int end, int step)
{
    for (int i = first; i < end; i += step) {
        char name[256];
        gpu_maps_name(name, sizeof name, i);
        gpu_report(gpu_check_maps(i, gpu_context, gpu_store), name);
    }
}

static void check_all_maps(void) { check_maps(0, 96, 1); }

/* Patterns that are made of Q and K: of a series of all kinds those from number `first` on. */
static void check_patterns(int first, int end, struct gpu_patterns_tally *tally)
{
    for (int i = first; i < end; i++) {
        char name[256];
        gpu_patterns_name(name, sizeof name, i);
        gpu_report(gpu_check_patterns(i, gpu_context, gpu_store, tally), name);
    }
}

static void check_all_patterns(void)
{
    struct gpu_patterns_tally tally = {0, 0, 0};
    check_patterns(0, 80, &tally);
    gpu_report(tally.decided > 20 * tally.either, "most blocks of the patterns are far from where choices end");
    gpu_report(tally.left_out > tally.decided / 4, "a good part of the blocks is left out");
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

static void check_batch(long long seq_len)
{
    tamis_problem p = gpu_make_problem(TAMIS_BF16, 2, 8, 2, seq_len, 128);
    p.selection.policy = TAMIS_COVERAGE;
    p.selection.coverage = 0.1;
    gpu_report(gpu_check_batch(&p, gpu_next_seed(), gpu_context, gpu_store), "a sequence of a batch has the bits it has alone");
}

static void check_graph(void)
{
    tamis_problem p = gpu_make_problem(TAMIS_BF16, 1, 8, 2, 4096, 128);
    p.selection.policy = TAMIS_COVERAGE;
    p.selection.coverage = 1.3e-4;
    void *cuda = gpu_graph_cuda(device);
    gpu_report(cuda && gpu_check_graph(&p, gpu_context, gpu_store, cuda),
               "a captured graph replayed on sparse and on dense data has the bits of eager runs");
    gpu_report(cuda && gpu_check_drift_graph(gpu_context, gpu_store, cuda),
               "a captured graph of drifts has the bits of eager calls");
}

static void check_drifts(void)
{
    char name[160];
    for (int i = 0; i < gpu_check_drift_count(); i++) {
        gpu_check_drift_name(name, sizeof name, i);
        gpu_report(gpu_check_drift(i, gpu_context, gpu_store), name);
    }
}

/* Enough that a kernel that is wrong fails: masked steps and others, a dense sequence, a sparse one, an end within a tile. */
static void check_few(void)
{
    gpu_shapes_few();
    check_blocks(1, 34, 16, 0); /* lists, rows and bits */
    check_maps(0, 25, 8);       /* kept tokens, all, and without a mask */
    static const int whole_tiles[] = {3}; /* of XAttention */
    check_some_patterns(whole_tiles, 1);
}

static void check_emulated(void)
{
    const long long longest = 300;
    gpu_shapes_lengths(longest);
    gpu_shapes_masks(longest);
    gpu_shapes_growth(longest / 2, 16, 0, 5);
    check_random(8);
    check_lists(0, 6);
    check_lists(10, 11); /* too long for one block where there are clusters */
    check_drifts();
    check_layouts(longest / 2);
    check_batch(longest / 2);
    check_blocks(0, 24, 1, 1);
    /* Each head_dim in both types, each policy, one without a mask. */
    static const int maps[] = {5, 6, 8, 9, 11, 12, 15, 18};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) check_maps(maps[i], maps[i] + 1, 1);
    /* One of each kind, at most 640 positions; whole tiles of XAttention. */
    static const int numbers[] = {3, 45, 51, 53, 64, 67};
    check_some_patterns(numbers, sizeof numbers / sizeof *numbers);
}

static void check_full(void)
{
    const long long longest = 1 << 24;
    gpu_shapes_small();
    check_random_series();
    check_all_lists();
    check_all_blocks();
    check_all_patterns();
    check_all_maps();
    check_drifts();
    gpu_shapes_lengths(longest);
    gpu_shapes_masks(longest);
    gpu_shapes_growth(3000, 32, 0, 1);
    gpu_shapes_selections();
    check_layouts(1500);
    check_warm_plan();
    check_batch(2500);
    check_graph();
    gpu_shapes_large();
}

static void check_quick(void)
{
    gpu_shapes_small();
    gpu_shapes_growth(400, 64, 2, 4); /* head_dim 128 alone: sanitizers take their time */
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
        fprintf(stderr, "usage: %s STORE [quick|random|lists|blocks|patterns|maps|drift|few|emulated|full] [device]\n",
                argv[0]);
        return 2;
    }
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    if (argc > 3) device = atoi(argv[3]);
    options.device = device;
    tamis_status status = tamis_context_create(&gpu_context, &options);
    if (status == TAMIS_OK && device != TAMIS_DEVICE_CPU) status = tamis_store_open(&gpu_store, argv[1], NULL);
    if (status != TAMIS_OK) {
        fprintf(stderr, "check_gpu: %s\n", tamis_last_error());
        return 1;
    }
    store_path = argv[1];
    run();
    tamis_store_free(gpu_store);
    tamis_context_free(gpu_context);
    printf("%d passed, %d failed\n", passed_count, failed_count);
    return failed_count > 0;
}
