/*
 * check_blocks.c: block patterns through the public API on the CPU backend: what plans and runs refuse, in words; lists of all
 * blocks, which are plain attention to the bit; and lists that break their rules, which touch no memory that is not theirs.
 * Values on patterns of all kinds are compared with double precision by tests/gpu/gpu_check_blocks.c.
 */
#include "cpu_case.h"

#include "block_args.h"
#include "block_mask.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *blocks_suite(void);

enum { BATCH = 2, Q_HEADS = 4, KV_HEADS = 2, DIM = 64, LENGTH = 300, TILES = 3, HEADS = BATCH * Q_HEADS, ROWS = HEADS * TILES };

/* A problem with its plan, and lists of all blocks in each form. */
struct world {
    struct cpu_case c; /* of a plan without a pattern, which has run */
    tamis_plan *plan;
    tamis_run_args args;
    void *workspace, *output;
    int32_t count[ROWS], list[ROWS * TILES], columns[ROWS * TILES];
    int64_t offsets[ROWS + 1];
    uint32_t bits[ROWS], masks[2 * TAMIS_BLOCK_MASK_WORDS];
    tamis_blocks blocks;
};

static tamis_pattern pattern_of(tamis_blocks_form form)
{
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    pattern.kind = TAMIS_PATTERN_HOST_BLOCKS;
    pattern.host_blocks.form = form;
    return pattern;
}

static tamis_status make_plan(tamis_plan **out, struct world *w, const tamis_pattern *pattern)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.pattern = pattern;
    return tamis_plan_create_with(out, w->c.context, NULL, &w->c.problem, &options);
}

static void list_all(struct world *w)
{
    int64_t all = 0;
    for (int row = 0; row < ROWS; row++) {
        w->count[row] = row % TILES + 1;
        w->offsets[row] = all;
        w->bits[row] = 0xffffffffu; /* those behind the diagonal too */
        for (int j = 0; j <= row % TILES; j++) w->columns[all++] = w->list[row * TILES + j] = j;
    }
    w->offsets[ROWS] = all;
    memset(w->masks, 0xff, sizeof w->masks);
}

static void name_blocks(struct world *w, tamis_blocks_form form)
{
    w->blocks = (tamis_blocks)TAMIS_BLOCKS_INIT;
    if (form == TAMIS_BLOCKS_BITS) {
        w->blocks.bits = w->bits;
        return;
    }
    w->blocks.mask_count = 2;
    w->blocks.masks = w->masks;
    if (form == TAMIS_BLOCKS_LISTS) {
        w->blocks.count = w->count;
        w->blocks.list = w->list;
        return;
    }
    w->blocks.offsets = w->offsets;
    w->blocks.columns = w->columns;
    w->blocks.column_count = w->offsets[ROWS];
}

static void world_open(struct world *w, tamis_blocks_form form, tamis_policy policy)
{
    const tamis_pattern pattern = pattern_of(form);
    memset(w, 0, sizeof *w);
    w->c = (struct cpu_case)CPU_CASE_INIT;
    tamis_problem *p = &w->c.problem;
    p->batch = BATCH;
    p->q_heads = Q_HEADS;
    p->kv_heads = KV_HEADS;
    p->head_dim = DIM;
    p->seq_len = LENGTH;
    p->selection = (tamis_selection){policy, TAMIS_SCOPE_HEAD, 32, 7, 8, 0.1, 1.0, 0};
    cpu_case_open(&w->c);
    cpu_case_run(&w->c);
    list_all(w);
    name_blocks(w, form);
    ck_assert_msg(make_plan(&w->plan, w, &pattern) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq(tamis_plan_block_count(w->plan), TILES);
    ck_assert_int_eq(tamis_plan_block_count(w->c.plan), 0);
    w->workspace = guarded_alloc(tamis_plan_workspace_bytes(w->plan));
    w->output = guarded_alloc(cpu_case_elements(&w->c, Q_HEADS) * 2);
    const int64_t head = LENGTH * DIM;
    w->args = (tamis_run_args)TAMIS_RUN_ARGS_INIT;
    w->args.q = (tamis_tensor){w->c.q, Q_HEADS * head, head, DIM};
    w->args.k = (tamis_tensor){w->c.k, KV_HEADS * head, head, DIM};
    w->args.v = (tamis_tensor){w->c.v, KV_HEADS * head, head, DIM};
    w->args.output = (tamis_tensor){w->output, Q_HEADS * head, head, DIM};
    w->args.blocks = &w->blocks;
}

static void world_close(struct world *w)
{
    tamis_plan_free(w->plan);
    guarded_free(w->workspace);
    guarded_free(w->output);
    cpu_case_close(&w->c);
}

static tamis_status run(struct world *w)
{
    return tamis_run(w->plan, &w->args, w->workspace, tamis_plan_workspace_bytes(w->plan), NULL);
}

static void must_run(struct world *w)
{
    ck_assert_msg(run(w) == TAMIS_OK, "%s", tamis_last_error());
    guarded_check(w->workspace);
    guarded_check(w->output);
}

static void expect_plain(struct world *w)
{
    must_run(w);
    ck_assert_int_eq(memcmp(w->output, w->c.output, cpu_case_elements(&w->c, Q_HEADS) * 2), 0);
}

/* ---- values */

/* All blocks: the bits of a plan without a pattern. Each form, on all tokens and on those kept. */
START_TEST(all_blocks_are_plain_attention)
{
    struct world w;
    world_open(&w, (tamis_blocks_form)(_i / 2), _i % 2 ? TAMIS_COVERAGE : TAMIS_DENSE);
    expect_plain(&w);
    if (w.blocks.masks) { /* masks of ones change nothing */
        for (int i = 0; i < ROWS * TILES; i++) {
            w.list[i] |= 2 << TAMIS_BLOCK_BITS;
            w.columns[i] |= 1 << TAMIS_BLOCK_BITS;
        }
        expect_plain(&w);
    }
    world_close(&w);
}
END_TEST

/* Without any block every row is zero and says that it saw nothing. */
START_TEST(no_blocks)
{
    struct world w;
    float *lse = guarded_alloc(HEADS * LENGTH * sizeof *lse);
    world_open(&w, (tamis_blocks_form)_i, TAMIS_DENSE);
    memset(w.count, 0, sizeof w.count);
    memset(w.offsets, 0, sizeof w.offsets);
    memset(w.bits, 0, sizeof w.bits);
    w.args.lse = lse;
    must_run(&w);
    for (size_t i = 0; i < cpu_case_elements(&w.c, Q_HEADS); i++)
        if (((const uint16_t *)w.output)[i] != 0) ck_abort_msg("element %zu is not zero", i);
    for (int i = 0; i < HEADS * LENGTH; i++)
        if (lse[i] != -INFINITY) ck_abort_msg("row %d: %g", i, (double)lse[i]);
    world_close(&w);
    guarded_free(lse);
}
END_TEST

/* What lies behind the diagonal counts as absent; other nonsense is harmless. The lists themselves lie in guarded memory. */
START_TEST(rules_broken)
{
    struct world w;
    world_open(&w, TAMIS_BLOCKS_LISTS, TAMIS_DENSE);
    int32_t *list = guarded_alloc(sizeof w.list);
    w.blocks.list = list;
    memcpy(list, w.list, sizeof w.list);
    for (int row = 0; row < ROWS; row++)
        for (int j = w.count[row]; j < TILES; j++) list[row * TILES + j] = j;
    for (int row = 0; row < ROWS; row++) w.count[row] = row % 2 ? TILES : INT32_MAX; /* more than there are */
    expect_plain(&w);
    for (int row = 0; row < ROWS; row++) list[row * TILES] |= 2000 << TAMIS_BLOCK_BITS; /* no such mask: a whole block */
    expect_plain(&w);
    for (int i = 0; i < ROWS * TILES; i++) list[i] = INT32_MAX - i; /* all behind the diagonal */
    must_run(&w);
    for (int row = 0; row < ROWS; row++) w.count[row] = -7;
    must_run(&w);
    guarded_free(list);
    world_close(&w);

    world_open(&w, TAMIS_BLOCKS_ROWS, TAMIS_DENSE);
    int32_t *columns = guarded_alloc((size_t)w.blocks.column_count * sizeof *columns);
    memset(columns, 0, (size_t)w.blocks.column_count * sizeof *columns); /* the same block over and over */
    w.blocks.columns = columns;
    w.offsets[0] = INT64_MIN, w.offsets[3] = -5, w.offsets[5] = 7, w.offsets[6] = 2, w.offsets[ROWS] = INT64_MAX;
    must_run(&w);
    guarded_free(columns);
    world_close(&w);
}
END_TEST

/* ---- masks of the tool */

/* What the density asks for, the same in every head, with the diagonal and nothing behind it; no two heads alike. */
START_TEST(random_masks)
{
    enum { tiles = 70, heads = 3 };
    static const double densities[] = {1e-9, 0.1, 0.25, 0.5, 1};
    const double density = densities[_i];
    struct block_mask mask;
    int32_t *count, *list;
    long long all = 0;
    double pairs = 0;
    ck_assert_int_eq(block_mask_random(&mask, heads, tiles, density, 7), TAMIS_OK);
    ck_assert_int_eq(block_mask_lists(&mask, &count, &list), TAMIS_OK);
    for (int row = 0; row < heads * tiles; row++) {
        const int tile = row % tiles, *mine = list + row * tiles, asked = (int)lround(density * (tile + 1));
        ck_assert_int_eq(count[row], asked > 1 ? asked : 1);
        ck_assert_int_eq(mine[count[row] - 1], tile);
        for (int i = 1; i < count[row]; i++) ck_assert_int_lt(mine[i - 1], mine[i]);
        for (int i = 0; i < count[row]; i++) ck_assert(block_mask_has(&mask, row / tiles, tile, mine[i]));
        all += count[row];
        const double queries = tile == tiles - 1 ? 1 : 128; /* of 69 * 128 + 1 rows */
        pairs += queries * 128 * (count[row] - 1) + queries * queries / 2;
    }
    ck_assert_int_eq(block_mask_count(&mask), all);
    ck_assert_double_eq(block_mask_pairs(&mask, (tiles - 1) * 128 + 1), pairs);
    const size_t head_bytes = block_mask_bytes(&mask) / heads;
    const bool alike = memcmp(mask.bits, (const char *)mask.bits + head_bytes, head_bytes) == 0;
    ck_assert(alike == (density < 1e-3 || density == 1));
    free(count);
    free(list);
    block_mask_free(&mask);
}
END_TEST

/* ---- what is refused */

static void expect_refused(struct world *w, const tamis_pattern *pattern, const char *words)
{
    tamis_plan *plan = w->plan;
    const tamis_status status = make_plan(&plan, w, pattern);
    ck_assert_msg(status == TAMIS_EINVAL && !plan, "%s: %s", words, tamis_status_name(status));
    ck_assert_msg(strcmp(tamis_last_error(), words) == 0, "\"%s\", not \"%s\"", tamis_last_error(), words);
}

START_TEST(patterns_refused)
{
    struct world w;
    tamis_pattern p;
    world_open(&w, TAMIS_BLOCKS_LISTS, TAMIS_DENSE);
#define REFUSED(of_kind, fault, words) \
    p = (tamis_pattern)TAMIS_PATTERN_INIT, p.kind = of_kind, fault, expect_refused(&w, &p, words)
    REFUSED((tamis_pattern_kind)77, (void)0, "pattern.kind is 77: it must be a tamis_pattern_kind");
    REFUSED(TAMIS_PATTERN_HOST_BLOCKS, p.host_blocks.form = (tamis_blocks_form)3,
            "pattern.host_blocks.form is 3: it must be a tamis_blocks_form");
    REFUSED(TAMIS_PATTERN_SLIDING, p.sliding.sink_tokens = -1, "pattern.sliding.sink_tokens is -1: it must be at least 0");
    REFUSED(TAMIS_PATTERN_SLIDING, p.sliding.window_tokens = 0, "pattern.sliding.window_tokens is 0: it must be at least 1");
    REFUSED(TAMIS_PATTERN_VERTICAL_SLASH, p.vertical_slash.last_queries = 129,
            "pattern.vertical_slash.last_queries is 129: it must be 1 to 128");
    REFUSED(TAMIS_PATTERN_VERTICAL_SLASH, p.vertical_slash.coverage = 1.5,
            "pattern.vertical_slash.coverage is 1.5: it must be above 0 and at most 1");
    REFUSED(TAMIS_PATTERN_FLEXPREFILL, p.flexprefill.gamma = 0,
            "pattern.flexprefill.gamma is 0: it must be above 0 and at most 1");
    REFUSED(TAMIS_PATTERN_FLEXPREFILL, p.flexprefill.tau = -0.5,
            "pattern.flexprefill.tau is -0.5: it must not be negative, and finite");
    REFUSED(TAMIS_PATTERN_XATTENTION, p.xattention.stride = 12,
            "pattern.xattention.stride is 12: it must be 4, 8, 16, 32 or 64");
    REFUSED(TAMIS_PATTERN_TOPK_BLOCKS, p.topk_blocks.ratio = NAN,
            "pattern.topk_blocks.ratio is nan: it must be above 0 and at most 1");
#undef REFUSED
    p = pattern_of(TAMIS_BLOCKS_LISTS);
    w.c.problem.mask = TAMIS_FULL;
    expect_refused(&w, &p, "pattern.kind is blocks and mask is TAMIS_FULL: patterns are causal");
    w.c.problem.mask = TAMIS_CAUSAL;
    p.struct_size = 8;
    tamis_plan *plan;
    ck_assert_int_eq(make_plan(&plan, &w, &p), TAMIS_EINVAL);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), "options.pattern: struct_size is 8"));

    /* A host of the version before: its options end where the pattern begins. */
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.struct_size = offsetof(tamis_plan_options, pattern);
    options.pattern = (const tamis_pattern *)(uintptr_t)8; /* not looked at */
    ck_assert_int_eq(tamis_plan_create_with(&plan, w.c.context, NULL, &w.c.problem, &options), TAMIS_OK);
    ck_assert_int_eq(tamis_plan_block_count(plan), 0);
    tamis_plan_free(plan);
    world_close(&w);
}
END_TEST

/* The run fails in these words, and has written nothing. */
static void expect_no_run(struct world *w, const char *words)
{
    const size_t bytes = cpu_case_elements(&w->c, Q_HEADS) * 2;
    memset(w->output, 0x5a, bytes);
    const tamis_status status = run(w);
    ck_assert_msg(status == TAMIS_EINVAL, "%s: %s", words, tamis_status_name(status));
    ck_assert_msg(strcmp(tamis_last_error(), words) == 0, "\"%s\", not \"%s\"", tamis_last_error(), words);
    for (size_t i = 0; i < bytes; i++) /* not ck_assert, which is slow even where it holds */
        if (((const unsigned char *)w->output)[i] != 0x5a) ck_abort_msg("%s: byte %zu was written", words, i);
}

START_TEST(runs_refused)
{
    struct world w;
    world_open(&w, TAMIS_BLOCKS_LISTS, TAMIS_DENSE);
    const tamis_blocks good = w.blocks;
    w.args.blocks = NULL;
    expect_no_run(&w, "args.blocks: is NULL");
    w.args.struct_size = offsetof(tamis_run_args, blocks); /* an old host, which cannot name any */
    w.args.blocks = &w.blocks;
    expect_no_run(&w, "args.blocks: is NULL");
    w.args.struct_size = sizeof w.args;
#define NO_RUN(fault, words) w.blocks = good, fault, expect_no_run(&w, words)
    NO_RUN(w.blocks.count = NULL, "args.blocks.count: is NULL");
    NO_RUN(w.blocks.list = NULL, "args.blocks.list: is NULL");
    NO_RUN(w.blocks.list = (const int32_t *)((uintptr_t)w.list + 2), "args.blocks.list: is not aligned to 4 bytes");
    NO_RUN(w.blocks.bits = w.bits, "args.blocks.bits: is not NULL, and blocks come as lists");
    NO_RUN(w.blocks.offsets = w.offsets, "args.blocks.offsets: is not NULL, and blocks come as lists");
    NO_RUN(w.blocks.mask_count = 2048, "args.blocks.mask_count is 2048: it must be 0 to 2047");
    NO_RUN(w.blocks.mask_count = -1, "args.blocks.mask_count is -1: it must be 0 to 2047");
    NO_RUN(w.blocks.masks = NULL, "args.blocks.masks: is NULL");
    NO_RUN(w.blocks.list = w.output, "args.output: overlaps args.blocks.list");
    NO_RUN(w.blocks.count = (const int32_t *)w.workspace, "workspace: overlaps args.blocks.count");
    world_close(&w);

    world_open(&w, TAMIS_BLOCKS_ROWS, TAMIS_DENSE);
    const tamis_blocks rows = w.blocks;
    w.blocks.column_count = -3, expect_no_run(&w, "args.blocks.column_count is -3: it must not be negative");
    w.blocks = rows, w.blocks.columns = NULL, expect_no_run(&w, "args.blocks.columns: is NULL");
    w.blocks = rows, w.blocks.offsets = (const int64_t *)((uintptr_t)w.offsets + 4);
    expect_no_run(&w, "args.blocks.offsets: is not aligned to 8 bytes");
    world_close(&w);

    world_open(&w, TAMIS_BLOCKS_BITS, TAMIS_DENSE);
    w.blocks.masks = w.masks, w.blocks.mask_count = 1;
    expect_no_run(&w, "args.blocks.masks: is not NULL, and blocks come as bits");
    w.blocks.masks = NULL;
    expect_no_run(&w, "args.blocks.mask_count is 1: it must be 0, as blocks that come as bits have no masks");
    tamis_plan_free(w.plan);
    ck_assert_int_eq(tamis_plan_create(&w.plan, w.c.context, NULL, &w.c.problem), TAMIS_OK);
    w.blocks = (tamis_blocks)TAMIS_BLOCKS_INIT;
    expect_no_run(&w, "args.blocks: is not NULL, and the plan's pattern is not TAMIS_PATTERN_HOST_BLOCKS");
#undef NO_RUN
    world_close(&w);
}
END_TEST

/* Steps are those of a plan with a pattern, and only of one. */
START_TEST(steps_refused)
{
    struct world w;
    world_open(&w, TAMIS_BLOCKS_LISTS, TAMIS_DENSE);
    const int32_t kept[BATCH] = {LENGTH, LENGTH};
    const size_t bytes = tamis_plan_workspace_bytes(w.plan);
    const tamis_run_args *a = &w.args;
    int32_t *count = malloc(sizeof w.count), *list = malloc(sizeof w.list);
    ck_assert(count && list);
    ck_assert_int_eq(tamis_attend(w.plan, &a->q, &a->k, &a->v, kept, &a->output, NULL, w.workspace, bytes, NULL), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "plan: has a pattern: its step is tamis_attend_blocks");
    ck_assert_int_eq(
        tamis_attend_blocks(w.c.plan, &a->q, &a->k, &a->v, kept, &w.blocks, &a->output, NULL, w.workspace, bytes, NULL),
        TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "plan: has no pattern: its step is tamis_attend");
    ck_assert_int_eq(tamis_make_blocks(w.c.plan, &a->q, &a->k, kept, NULL, count, list, w.workspace, bytes, NULL), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "plan: has no pattern: there are no lists to make");
    ck_assert_int_eq(tamis_make_blocks(w.plan, NULL, NULL, kept, &w.blocks, count, list, w.workspace, bytes, NULL),
                     TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "plan: its pattern is given as lists: there is nothing to make");
    ck_assert_int_eq(
        tamis_attend_blocks(w.plan, &a->q, &a->k, &a->v, kept, NULL, &a->output, NULL, w.workspace, bytes, NULL),
        TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "blocks: is NULL");
    free(count);
    free(list);
    world_close(&w);
}
END_TEST

static void expect_words(tamis_status got, tamis_status wanted, const char *words)
{
    ck_assert_msg(got == wanted && strcmp(tamis_last_error(), words) == 0, "%s: \"%s\", not \"%s\"", tamis_status_name(got),
                  tamis_last_error(), words);
}

/* Each argument of the steps in turn. */
START_TEST(step_arguments)
{
    struct world w;
    const int32_t all[BATCH] = {LENGTH, LENGTH}, *kept = all;
    world_open(&w, TAMIS_BLOCKS_BITS, TAMIS_DENSE);
    int32_t *count = w.count, *list = w.list;
    void *work = w.workspace;
    size_t bytes = tamis_plan_workspace_bytes(w.plan);
    char words[96];
    const tamis_run_args *a = &w.args;
    const tamis_tensor *q = NULL, *k = NULL; /* a host's blocks are made without them */
#define MAKES(wanted, words) \
    expect_words(tamis_make_blocks(w.plan, q, k, kept, &w.blocks, count, list, work, bytes, NULL), wanted, words)
    MAKES(TAMIS_OK, "");
    kept = NULL, MAKES(TAMIS_EINVAL, "kept: is NULL"), kept = all;
    count = NULL, MAKES(TAMIS_EINVAL, "count: is NULL"), count = w.count;
    list = (int32_t *)((uintptr_t)w.list + 2), MAKES(TAMIS_EINVAL, "list: is not aligned to 4 bytes"), list = w.list;
    list = (int32_t *)(uintptr_t)w.bits, MAKES(TAMIS_EINVAL, "list: overlaps blocks.bits"), list = w.list;
    count = list, MAKES(TAMIS_EINVAL, "list: overlaps count"), count = w.count;
    work = NULL, snprintf(words, sizeof words, "workspace: is NULL, the plan needs %zu bytes", bytes);
    MAKES(TAMIS_EINVAL, words), work = w.workspace;
    snprintf(words, sizeof words, "workspace_bytes is %zu: the plan needs %zu", bytes - 1, bytes);
    bytes--, MAKES(TAMIS_EWORKSPACE, words), bytes++;
    w.blocks.bits = NULL, MAKES(TAMIS_EINVAL, "blocks.bits: is NULL");
#undef MAKES
    name_blocks(&w, TAMIS_BLOCKS_LISTS); /* as they have just been made */
    const tamis_tensor compact_k = {w.c.k, a->k.batch_stride, 0, DIM}; /* of Hq heads, which share one's rows */
    const tamis_tensor compact_v = {w.c.v, a->v.batch_stride, 0, DIM};
    const tamis_tensor *v = &compact_v, *output = &a->output;
    q = &a->q, k = &compact_k;
    tamis_tensor wrong = a->output;
#define ATTENDS(wanted, words) \
    expect_words(tamis_attend_blocks(w.plan, q, k, v, kept, &w.blocks, output, NULL, work, bytes, NULL), wanted, words)
    ATTENDS(TAMIS_OK, "");
    q = NULL, ATTENDS(TAMIS_EINVAL, "compact_q: is NULL"), q = &a->q;
    k = NULL, ATTENDS(TAMIS_EINVAL, "compact_k: is NULL"), k = &compact_k;
    v = NULL, ATTENDS(TAMIS_EINVAL, "compact_v: is NULL"), v = &compact_v;
    kept = NULL, ATTENDS(TAMIS_EINVAL, "kept: is NULL"), kept = all;
    output = NULL, ATTENDS(TAMIS_EINVAL, "compact_output: is NULL"), output = &wrong;
    wrong.head_stride = DIM, ATTENDS(TAMIS_EINVAL, "compact_output: its strides put several rows in one place");
    wrong = a->q, ATTENDS(TAMIS_EINVAL, "compact_output: overlaps compact_q"), output = &a->output;
    w.blocks.list = w.output, ATTENDS(TAMIS_EINVAL, "compact_output: overlaps blocks.list");
    w.blocks.list = NULL, ATTENDS(TAMIS_EINVAL, "blocks.list: is NULL");
#undef ATTENDS
    world_close(&w);
}
END_TEST

START_TEST(description)
{
    struct world w;
    char text[2048];
    world_open(&w, TAMIS_BLOCKS_ROWS, TAMIS_DENSE);
    ck_assert_int_eq(tamis_plan_describe(w.plan, text, sizeof text, NULL), TAMIS_OK);
    ck_assert_msg(strstr(text, "\npattern: blocks, as rows\n") != NULL, "%s", text);
    world_close(&w);
}
END_TEST

Suite *blocks_suite(void)
{
    Suite *suite = suite_create("blocks");
    TCase *values = tcase_create("values"), *refused = tcase_create("refused");
    tcase_add_loop_test(values, all_blocks_are_plain_attention, 0, 6);
    tcase_add_loop_test(values, no_blocks, 0, 3);
    tcase_add_test(values, rules_broken);
    tcase_add_loop_test(values, random_masks, 0, 5);
    suite_add_tcase(suite, values);
    tcase_add_test(refused, patterns_refused);
    tcase_add_test(refused, runs_refused);
    tcase_add_test(refused, steps_refused);
    tcase_add_test(refused, step_arguments);
    tcase_add_test(refused, description);
    suite_add_tcase(suite, refused);
    return suite;
}
