/*
 * gpu_check_patterns.c: a seeded series of block patterns that are made of Q and K, of all kinds: lists against brute force on
 * inputs with and without structure, for sequences of any length up to the capacity; then the whole operator, whose rows are
 * compared with double precision on those lists, in one call and, to the same bits, in steps.
 */
#define _GNU_SOURCE
#include "../pattern_case.h"
#include "gpu_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { block = TAMIS_BLOCK_SIZE, DEVICE_ARRAYS = 16 };

static const char *const kinds[] = {[TAMIS_PATTERN_SLIDING] = "sliding",
                                    [TAMIS_PATTERN_VERTICAL_SLASH] = "vertical-slash",
                                    [TAMIS_PATTERN_FLEXPREFILL] = "flexprefill",
                                    [TAMIS_PATTERN_XATTENTION] = "xattention",
                                    [TAMIS_PATTERN_TOPK_BLOCKS] = "top blocks"};

struct patterns_case {
    struct gpu_case c;
    tamis_pattern pattern;
    tamis_plan_options options;
    int tiles;
    long long lists;      /* B * Hq * T */
    int32_t *count, *list; /* of the last tamis_make_blocks; list (B, Hq, T, T) */
    int32_t *device_count, *device_list;
    void *device[DEVICE_ARRAYS]; /* to be freed */
    int device_arrays;
};

static int below(unsigned long long *state, int count) { return (int)(gpu_random(state) % (unsigned)count); }

static unsigned long long seed_of(int number) { return 0x510e527full + (unsigned long long)number * 0x9b05688c2b3e6c1full; }

static void make_pattern(tamis_pattern *pattern, long long seq_len, int number, unsigned long long *state)
{
    static const double parts[] = {0.5, 0.8, 0.9, 0.95, 1.0};
    static const int64_t tokens[] = {0, 1, 100, 128, 300, 1024};
    *pattern = (tamis_pattern)TAMIS_PATTERN_INIT;
    pattern->kind = (tamis_pattern_kind)(TAMIS_PATTERN_SLIDING + number % 5);
    pattern->sliding.sink_tokens = tokens[below(state, 6)];
    pattern->sliding.window_tokens = 1 + tokens[below(state, 6)];
    pattern->vertical_slash.last_queries = 1 << below(state, 8);
    pattern->vertical_slash.vertical_lines = tokens[below(state, 6)];
    pattern->vertical_slash.slash_lines = tokens[below(state, 6)];
    pattern->vertical_slash.coverage = below(state, 2) ? parts[below(state, 5)] : 0;
    pattern->flexprefill.gamma = parts[below(state, 4)];
    pattern->flexprefill.tau = below(state, 3) ? 0.1 : 1.0;
    pattern->flexprefill.min_tokens = tokens[below(state, 6)];
    pattern->flexprefill.max_tokens = below(state, 4) ? 0 : 512;
    pattern->xattention.stride = seq_len > 1024 ? 4 : 4 << below(state, 5); /* of 4, so that there are whole tiles */
    pattern->xattention.threshold = 0.3 + 0.1 * below(state, 7);
    pattern->topk_blocks.blocks = below(state, 5);
    pattern->topk_blocks.ratio = parts[below(state, 5)] / 3;
}

static void make_problem(tamis_problem *p, tamis_pattern *pattern, int number)
{
    static const int dims[] = {128, 64, 96, 256}, groups[] = {1, 2, 3};
    static const long long lengths[] = {1, 17, 128, 129, 300, 640, 900, 1153, 1500, 1700, 2000};
    unsigned long long state = seed_of(number);
    *p = (tamis_problem)TAMIS_PROBLEM_INIT;
    p->dtype = number / 5 % 2 ? TAMIS_FP16 : TAMIS_BF16;
    p->head_dim = dims[number / 2 % 4];
    p->batch = 1 + below(&state, 2);
    p->kv_heads = 1 + below(&state, 2);
    p->q_heads = p->kv_heads * groups[below(&state, 3)];
    p->seq_len = lengths[number < 5 ? 8 : below(&state, 11)]; /* the first of each kind are long, and their lists too */
    p->selection.window = 24;
    p->selection.min_tokens = 8;
    static const tamis_policy policies[] = {TAMIS_DENSE, TAMIS_RATIO, TAMIS_COVERAGE};
    p->selection.policy = policies[number < 5 ? 2 : number / 3 % 3];
    p->selection.scope = (tamis_scope)below(&state, 3);
    p->selection.ratio = 0.7;
    p->selection.coverage = below(&state, 3) ? 0.1 : 1e-9; /* the latter finds out on the device that it drops nothing */
    make_pattern(pattern, p->seq_len, number, &state);
}

void gpu_patterns_name(char *out, size_t size, int number)
{
    static const char *const policies[] = {"dense", "coverage", "ratio", "count"};
    tamis_problem p;
    tamis_pattern pattern;
    make_problem(&p, &pattern, number);
    snprintf(out, size, "patterns %d: %s, %s B%d Hq%d Hkv%d L%lld D%d, %s", number, kinds[pattern.kind],
             p.dtype == TAMIS_BF16 ? "bf16" : "fp16", p.batch, p.q_heads, p.kv_heads, (long long)p.seq_len, p.head_dim,
             policies[p.selection.policy]);
}

/* ---- memory */

static void *to_device(struct patterns_case *p, const void *host, size_t bytes)
{
    void *device = NULL;
    if (tamis_memory_alloc(&device, p->c.context, bytes) != TAMIS_OK) return NULL;
    p->device[p->device_arrays++] = device;
    return !host || tamis_memory_write(p->c.context, device, host, bytes, NULL) == TAMIS_OK ? device : NULL;
}

static tamis_tensor compact_tensor(struct patterns_case *p, const void *host, int heads)
{
    const int64_t head = tamis_plan_capacity(p->c.plan) * p->c.problem.head_dim;
    return (tamis_tensor){to_device(p, host, (size_t)(p->c.problem.batch * heads * head) * 2), heads * head, head,
                          p->c.problem.head_dim};
}

static bool open_lists(struct patterns_case *p)
{
    p->tiles = tamis_plan_block_count(p->c.plan);
    p->lists = (long long)p->c.problem.batch * p->c.problem.q_heads * p->tiles;
    const size_t lists = (size_t)p->lists, tiles = (size_t)p->tiles;
    p->count = malloc(lists * sizeof *p->count);
    p->list = malloc(lists * tiles * sizeof *p->list);
    p->device_count = to_device(p, NULL, lists * sizeof *p->count);
    p->device_list = to_device(p, NULL, lists * tiles * sizeof *p->list);
    return p->count && p->list && p->device_count && p->device_list;
}

static bool fail(const char *what, const char *why)
{
    printf("  %s: %s\n", what, why);
    return false;
}

/* Lists out of these tensors, fetched. What was there before must not matter, so it is poison. */
static bool make_lists(struct patterns_case *p, const tamis_tensor *q, const tamis_tensor *k, const int32_t *kept)
{
    const size_t count_bytes = (size_t)p->lists * sizeof *p->count, list_bytes = count_bytes * (size_t)p->tiles;
    const size_t workspace = tamis_plan_workspace_bytes(p->c.plan);
    memset(p->count, 0x7f, count_bytes);
    memset(p->list, 0xff, list_bytes);
    tamis_status status = tamis_memory_write(p->c.context, p->device_count, p->count, count_bytes, NULL);
    if (status == TAMIS_OK) status = tamis_memory_write(p->c.context, p->device_list, p->list, list_bytes, NULL);
    if (status == TAMIS_OK)
        status = tamis_make_blocks(p->c.plan, q, k, kept, NULL, p->device_count, p->device_list, p->c.workspace.device,
                                   workspace, NULL);
    if (status == TAMIS_OK) status = tamis_memory_read(p->c.context, p->count, p->device_count, count_bytes, NULL);
    if (status == TAMIS_OK) status = tamis_memory_read(p->c.context, p->list, p->device_list, list_bytes, NULL);
    return status == TAMIS_OK ? true : fail("making lists", tamis_last_error());
}

/* ---- lists against brute force */

static bool compare_lists(struct patterns_case *p, const struct pattern_case *c, struct gpu_patterns_tally *tally)
{
    const double slack = 1e-3; /* single precision, exponentials of logits of up to some hundreds */
    if (p->pattern.kind == TAMIS_PATTERN_SLIDING) return true; /* with masks; judged by the rows that attention makes */
    unsigned char *decisions = pattern_brute(c, slack);
    const char *error = pattern_compare(c, decisions, p->count, p->list, p->tiles, &tally->either);
    for (long long row = 0; row < p->lists; row++)
        for (long long j = 0; j <= row % p->tiles; j++) {
            tally->decided += decisions[row * p->tiles + j] != PATTERN_EITHER;
            tally->left_out += decisions[row * p->tiles + j] == PATTERN_OUT;
        }
    free(decisions);
    return error ? fail("lists", error) : true;
}

/* One kind of inputs, on sequences of two lengths. */
static bool check_lists(struct patterns_case *p, int number, struct gpu_patterns_tally *tally)
{
    const tamis_problem *problem = &p->c.problem;
    const int kv_heads = tamis_plan_compact_heads(p->c.plan), dim = problem->head_dim;
    const long long capacity = tamis_plan_capacity(p->c.plan);
    const enum pattern_input input = (enum pattern_input)(number / 5 % PATTERN_INPUTS);
    unsigned long long state = seed_of(number) + 2;
    const int32_t kept[2] = {(int32_t)capacity - below(&state, (int)(capacity < 260 ? capacity : 260)), (int32_t)capacity};
    const long long q_head = problem->q_heads * capacity * dim, k_head = kv_heads * capacity * dim;
    uint16_t *q = malloc((size_t)(problem->batch * q_head) * 2), *k = malloc((size_t)(problem->batch * k_head) * 2);
    for (int b = 0; b < problem->batch && q && k; b++) {
        pattern_fill(q + b * q_head, input, true, b, problem->q_heads, capacity, dim, problem->dtype);
        pattern_fill(k + b * k_head, input, false, b, kv_heads, capacity, dim, problem->dtype);
    }
    const struct pattern_case c = {.pattern = &p->pattern, .batch = problem->batch, .q_heads = problem->q_heads,
                                   .kv_heads = kv_heads, .head_dim = dim, .capacity = capacity, .kept = kept,
                                   .dtype = problem->dtype, .scale = 1 / sqrt((double)dim), .q = q, .k = k};
    const tamis_tensor q_tensor = compact_tensor(p, q, problem->q_heads), k_tensor = compact_tensor(p, k, kv_heads);
    const int32_t *device_kept = to_device(p, kept, sizeof kept);
    const bool there = q && k && q_tensor.data && k_tensor.data && device_kept;
    const bool ok = there && make_lists(p, &q_tensor, &k_tensor, device_kept) && compare_lists(p, &c, tally);
    free(q);
    free(k);
    return ok;
}

/* ---- attention on them */

static bool sees(const void *argument, long long head, int row, int key)
{
    const struct patterns_case *p = argument;
    const tamis_pattern *pattern = &p->pattern;
    if (pattern->kind == TAMIS_PATTERN_SLIDING)
        return key < pattern->sliding.sink_tokens || row - key < pattern->sliding.window_tokens;
    const long long place = head * p->tiles + row / block;
    for (int i = 0; i < p->count[place]; i++)
        if (p->list[place * p->tiles + i] == key / block) return true;
    return false;
}

/* The steps on what the one call has selected, with lists of their own, which stay to be looked at. */
static bool run_steps(struct patterns_case *p)
{
    struct gpu_case *c = &p->c;
    const size_t bytes = tamis_plan_workspace_bytes(c->plan);
    const int heads = tamis_plan_compact_heads(c->plan);
    const tamis_tensor q = compact_tensor(p, NULL, c->problem.q_heads), k = compact_tensor(p, NULL, heads);
    const tamis_tensor v = compact_tensor(p, NULL, heads), out = compact_tensor(p, NULL, c->problem.q_heads);
    void *work = c->workspace.device;
    tamis_blocks blocks = TAMIS_BLOCKS_INIT;
    blocks.count = p->device_count;
    blocks.list = p->device_list;
    if (!q.data || !k.data || !v.data || !out.data) return false;
    tamis_status status = tamis_compress(c->plan, &c->args.q, &c->args.k, &c->args.v, c->args.kept, c->args.indices, &q, &k, &v,
                                         work, bytes, NULL);
    if (status == TAMIS_OK && !make_lists(p, &q, &k, c->args.kept)) return false;
    if (status == TAMIS_OK)
        status = tamis_attend_blocks(c->plan, &q, &k, &v, c->args.kept, &blocks, &out, NULL, work, bytes, NULL);
    if (status == TAMIS_OK)
        status = tamis_decompress(c->plan, &out, NULL, c->args.kept, c->args.indices, &c->args.output, NULL, work, bytes, NULL);
    if (status == TAMIS_OK) status = tamis_stream_synchronize(c->context, NULL);
    return status == TAMIS_OK ? true : fail("in steps", tamis_last_error());
}

/* The one call, then the steps: the same bits, and rows that the lists explain. */
static bool check_attention(struct patterns_case *p)
{
    struct gpu_case *c = &p->c;
    bool ok = gpu_case_poison(c) && gpu_case_run(c) && gpu_case_fetch(c);
    void *first = malloc(c->output.bytes), *poison = malloc(c->output.bytes);
    ok = ok && first && poison;
    if (ok) memcpy(first, c->output.host, c->output.bytes);
    if (ok) memset(poison, 0xff, c->output.bytes);
    ok = ok && tamis_memory_write(c->context, c->output.device, poison, c->output.bytes, NULL) == TAMIS_OK && run_steps(p) &&
         gpu_case_fetch(c);
    if (ok && memcmp(first, c->output.host, c->output.bytes) != 0) ok = fail("steps", "they give other bits");
    free(first);
    free(poison);
    return ok && gpu_case_check(c, 100);
}

static void close_case(struct patterns_case *p)
{
    for (int i = 0; i < p->device_arrays; i++) tamis_memory_free(p->c.context, p->device[i]);
    free(p->count);
    free(p->list);
    gpu_case_close(&p->c);
}

bool gpu_check_patterns(int number, tamis_context *context, tamis_store *store, struct gpu_patterns_tally *tally)
{
    struct patterns_case p = {.c = {.sharpness = number % 4 == 3 ? 20.0 : 1.0, .seed = seed_of(number)}};
    make_problem(&p.c.problem, &p.pattern, number);
    p.options = (tamis_plan_options)TAMIS_PLAN_OPTIONS_INIT;
    p.options.pattern = &p.pattern;
    p.c.options = &p.options;
    p.c.sees = sees;
    p.c.pattern = &p;
    const bool ok =
        gpu_case_open(&p.c, context, store) && open_lists(&p) && check_lists(&p, number, tally) && check_attention(&p);
    close_case(&p);
    return ok;
}
