/*
 * check_tune_tasks.c: which buckets of which families a spec's shapes are tuned in: of the operator, of attention on listed
 * blocks and of the makers of lists. Part of the tune suite.
 */
#include "tune.h"

#include "error.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TCase *tune_tasks_case(void);

START_TEST(tasks_of_shapes)
{
    static const char *const families[] = {"score", "select", "compress", "attend", "decompress"};
    const long long lengths[] = {1000, 8192, 16384};
    const double ratios[] = {0.75, 0.5};
    struct tune_shapes shapes = {TAMIS_PROBLEM_INIT, TAMIS_PATTERN_INIT, lengths, 3, ratios, 2, true};
    struct tamisi_variant all[7];
    struct tune_tasks tasks;
    shapes.problem.q_heads = 32, shapes.problem.kv_heads = 8, shapes.problem.head_dim = 128;
    for (int i = 0; i < 7; i++) {
        all[i] = (struct tamisi_variant){.dtype = TAMISI_ANY, .rank = i > 4};
        snprintf(all[i].family, sizeof all[i].family, "%s", families[i < 5 ? i : 3]);
    }
    all[6].dtype = TAMIS_FP16;
    ck_assert_int_eq(tune_tasks_make(&tasks, &shapes, all, 7), TAMIS_OK);
    /* 1000 tokens are dense whatever the ratio: one task. Else dense attention, the score once, four families a ratio. */
    ck_assert_uint_eq(tasks.count, 1 + 2 * (1 + 1 + 2 * 4));
    ck_assert_str_eq(tasks.tasks[0].family, "attend");
    ck_assert_uint_eq(tasks.tasks[0].count, 2); /* of the problem's dtype */
    ck_assert(tasks.tasks[1].bucket.dense && tasks.tasks[1].bucket.seq_len == 8192);
    ck_assert_str_eq(tasks.tasks[2].family, "score");
    ck_assert_int_eq(tasks.tasks[3].bucket.kept, 6048 + 128);
    ck_assert_double_gt(tune_cost(&tasks.tasks[11]), tune_cost(&tasks.tasks[1]));
    tune_tasks_free(&tasks);
    ck_assert_int_eq(tune_tasks_make(&tasks, &shapes, all, 4), TAMIS_EINVAL);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), "decompress"));
    /* Attention that writes the zero rows takes decompress's place; of two of which one does, it may be either's plan. */
    snprintf(all[3].entries[all[3].entry_count++].stage, sizeof all[3].entries[0].stage, "attend_tma");
    ck_assert_int_eq(tune_tasks_make(&tasks, &shapes, all, 7), TAMIS_OK);
    ck_assert_uint_eq(tasks.count, 1 + 2 * (1 + 1 + 2 * 4));
    ck_assert_str_eq(tasks.tasks[6].family, "decompress");
    ck_assert(!tune_is_launched(&tasks.tasks[6], &all[3]));
    ck_assert(tune_is_launched(&tasks.tasks[6], &all[5]));
    ck_assert(tune_is_launched(&tasks.tasks[5], &all[3]));
    tune_tasks_free(&tasks);
    ck_assert_int_eq(tune_tasks_make(&tasks, &shapes, all, 4), TAMIS_OK);
    ck_assert_uint_eq(tasks.count, 1 + 2 * (1 + 1 + 2 * 3));
    tune_tasks_free(&tasks);
    all[3].entry_count = 0;
    shapes.ratio_count = 0;
    ck_assert_int_eq(tune_tasks_make(&tasks, &shapes, all, 7), TAMIS_OK);
    ck_assert_uint_eq(tasks.count, 3);
    tune_tasks_free(&tasks);
}
END_TEST

/* A spec's own pattern is what makers are tuned for: those of its kernels that there are, each at each length. */
START_TEST(tasks_of_makers)
{
    static const char *const families[] = {"attend", "attend_blocks", "blocks", "pattern", "pattern_lines", "pattern_xattn"};
    static const struct {
        tamis_pattern_kind kind;
        const char *wanted[3];
    } of[] = {{TAMIS_PATTERN_NONE, {NULL}},
              {TAMIS_PATTERN_HOST_BLOCKS, {NULL}},
              {TAMIS_PATTERN_SLIDING, {"pattern", NULL}},
              {TAMIS_PATTERN_FLEXPREFILL, {"pattern", "pattern_lines", NULL}}, /* no kernel of pattern_heads is here */
              {TAMIS_PATTERN_XATTENTION, {"pattern", "pattern_xattn", NULL}}};
    const long long lengths[] = {8192, 16384};
    struct tune_shapes shapes = {TAMIS_PROBLEM_INIT, TAMIS_PATTERN_INIT, lengths, 2, NULL, 0, true};
    struct tamisi_variant all[6];
    shapes.problem.q_heads = 32, shapes.problem.kv_heads = 8, shapes.problem.head_dim = 128;
    for (int i = 0; i < 6; i++) {
        all[i] = (struct tamisi_variant){.dtype = TAMISI_ANY};
        snprintf(all[i].family, sizeof all[i].family, "%s", families[i]);
    }
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        struct tune_tasks tasks;
        size_t makers = 0;
        shapes.pattern.kind = of[k].kind;
        ck_assert_int_eq(tune_tasks_make(&tasks, &shapes, all, 6), TAMIS_OK);
        while (of[k].wanted[makers]) makers++;
        ck_assert_uint_eq(tasks.count, 2 * (1 + TUNE_DENSITIES + makers));
        for (size_t m = 0; m < 2 * makers; m++) {
            const struct tune_task *one = &tasks.tasks[(m / makers + 1) * (1 + TUNE_DENSITIES) + m];
            ck_assert_str_eq(one->family, of[k].wanted[m % makers]);
            ck_assert_int_eq(one->lists.pattern.kind, of[k].kind);
            ck_assert_int_eq(one->bucket.pattern, of[k].kind);
            ck_assert_int_eq(one->bucket.seq_len, lengths[m / makers]);
            ck_assert_int_eq(one->bucket.detail, of[k].kind == TAMIS_PATTERN_XATTENTION ? 16 : 0);
        }
        tune_tasks_free(&tasks);
    }
}
END_TEST

/* Where there are kernels of block patterns, attention on them has a task for each density, behind all else of a length. */
START_TEST(tasks_of_lists)
{
    static const char *const families[] = {"score", "select", "compress", "attend", "decompress", "attend_blocks"};
    const long long lengths[] = {8192, 16384};
    struct tune_shapes shapes = {TAMIS_PROBLEM_INIT, TAMIS_PATTERN_INIT, lengths, 2, NULL, 0, true};
    struct tamisi_variant all[8];
    struct tune_tasks tasks;
    shapes.problem.q_heads = 32, shapes.problem.kv_heads = 8, shapes.problem.head_dim = 128;
    for (int i = 0; i < 8; i++) {
        all[i] = (struct tamisi_variant){.dtype = TAMISI_ANY, .rank = i > 5};
        snprintf(all[i].family, sizeof all[i].family, "%s", families[i < 6 ? i : 5]);
    }
    all[7].dtype = TAMIS_FP16;
    ck_assert_int_eq(tune_tasks_make(&tasks, &shapes, all, 5), TAMIS_OK);
    ck_assert_uint_eq(tasks.count, 2);
    tune_tasks_free(&tasks);
    ck_assert_int_eq(tune_tasks_make(&tasks, &shapes, all, 8), TAMIS_OK);
    ck_assert_uint_eq(tasks.count, 2 * (1 + TUNE_DENSITIES));
    for (size_t i = 0; i < tasks.count; i++) {
        const struct tune_task *one = &tasks.tasks[i];
        const size_t place = i % (1 + TUNE_DENSITIES);
        ck_assert_int_eq(one->bucket.seq_len, lengths[i / (1 + TUNE_DENSITIES)]);
        ck_assert_str_eq(one->family, place == 0 ? "attend" : "attend_blocks");
        if (place == 0) ck_assert_int_eq(one->lists.pattern.kind, TAMIS_PATTERN_NONE);
        if (place == 0) continue;
        ck_assert_uint_eq(one->count, 2); /* of the problem's dtype */
        ck_assert_int_eq(one->lists.pattern.kind, TAMIS_PATTERN_HOST_BLOCKS);
        ck_assert_double_eq(one->lists.density, tune_densities[place - 1]);
        ck_assert_int_eq(one->bucket.detail, (int)lround(1000 * tune_densities[place - 1]));
        ck_assert(one->bucket.dense && one->bucket.kept == one->bucket.seq_len);
        if (place > 1) ck_assert_double_lt(tune_cost(one), tune_cost(one - 1)); /* fewer blocks */
    }
    tune_tasks_free(&tasks);
    shapes.problem.mask = TAMIS_FULL; /* under which no pattern is */
    ck_assert_int_eq(tune_tasks_make(&tasks, &shapes, all, 8), TAMIS_OK);
    ck_assert_uint_eq(tasks.count, 2);
    tune_tasks_free(&tasks);
}
END_TEST

TCase *tune_tasks_case(void)
{
    TCase *tasks = tcase_create("tasks");
    tcase_add_test(tasks, tasks_of_shapes);
    tcase_add_test(tasks, tasks_of_lists);
    tcase_add_test(tasks, tasks_of_makers);
    return tasks;
}
