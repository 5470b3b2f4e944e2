/*
 * check_main.c: runs the Check suites, all of them or those named as arguments. The list below is the only one there is;
 * CMake and run.sh ask for it with --list. Each test is a process of its own unless $CK_FORK is "no", which is Check's own
 * switch and what valgrind wants.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *api_suite(void);
Suite *base_suite(void);
Suite *bench_suite(void);
Suite *blocks_suite(void);
Suite *calibrate_suite(void);
Suite *choice_suite(void);
Suite *compile_suite(void);
Suite *cpu_suite(void);
Suite *drift_suite(void);
Suite *driver_suite(void);
Suite *explain_suite(void);
Suite *export_suite(void);
Suite *gpu_plan_suite(void);
Suite *import_suite(void);
Suite *npy_suite(void);
Suite *output_map_suite(void);
Suite *pattern_suite(void);
Suite *plan_suite(void);
Suite *space_suite(void);
Suite *spec_suite(void);
Suite *store_suite(void);
Suite *template_suite(void);
Suite *tune_suite(void);

/* From the lowest layer up: the first failure is then the nearest to its cause. */
static const struct {
    const char *name;
    Suite *(*make)(void);
} suites[] = {{"base", base_suite},     {"store", store_suite}, {"driver", driver_suite},     {"compile", compile_suite},
              {"cpu", cpu_suite},       {"plan", plan_suite},   {"gpu_plan", gpu_plan_suite}, {"api", api_suite},
              {"drift", drift_suite},   {"npy", npy_suite},     {"spec", spec_suite},         {"template", template_suite},
              {"space", space_suite},   {"bench", bench_suite}, {"export", export_suite},     {"explain", explain_suite},
              {"import", import_suite}, {"choice", choice_suite}, {"tune", tune_suite},
              {"calibrate", calibrate_suite}, {"blocks", blocks_suite}, {"pattern", pattern_suite},
              {"output_map", output_map_suite}};

#define SUITE_COUNT (sizeof suites / sizeof suites[0])

static SRunner *add_suite(SRunner *runner, size_t index)
{
    Suite *suite = suites[index].make();
    if (runner) srunner_add_suite(runner, suite);
    return runner ? runner : srunner_create(suite);
}

/* NULL where a name is of no suite. */
static SRunner *make_runner(int count, char **names)
{
    SRunner *runner = NULL;
    for (size_t i = 0; i < SUITE_COUNT && count == 0; i++) runner = add_suite(runner, i);
    for (int n = 0; n < count; n++) {
        size_t i = 0;
        while (i < SUITE_COUNT && strcmp(names[n], suites[i].name) != 0) i++;
        if (i == SUITE_COUNT) {
            fprintf(stderr, "check_tamis: no suite is called %s; --list prints those there are\n", names[n]);
            if (runner) srunner_free(runner);
            return NULL;
        }
        runner = add_suite(runner, i);
    }
    return runner;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < SUITE_COUNT; i++) printf("%s\n", suites[i].name);
        return EXIT_SUCCESS;
    }
    if (!getenv("TAMIS_SOURCE_DIR")) {
        fprintf(stderr, "check_tamis: TAMIS_SOURCE_DIR must name the source tree\n");
        return 2;
    }
    SRunner *runner = make_runner(argc - 1, argv + 1);
    if (!runner) return 2;
    srunner_run_all(runner, CK_ENV); /* CK_VERBOSITY; a line a failure unless set */
    const int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
    srunner_free(runner);
    if (run == 0) fprintf(stderr, "check_tamis: no test was run\n");
    return failed > 0 || run == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
