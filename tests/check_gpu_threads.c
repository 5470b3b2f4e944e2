/*
 * check_gpu_threads.c: tamis_run from several threads at once, and under a host that has a context of its own. Part of the
 * gpu_plan suite.
 */
#define _XOPEN_SOURCE 700

#include "gpu_launch_case.h"

#include <pthread.h>

enum { threads_count = 4, runs_a_thread = 50 };

static void *run_plan(void *argument)
{
    struct gpu_bench *bench = argument;
    const tamis_run_args args = launch_args(&bench->plan->problem);
    for (int i = 0; i < runs_a_thread; i++)
        if (tamis_run(bench->plan, &args, AT(AT_WORKSPACE), tamis_plan_workspace_bytes(bench->plan), NULL) != TAMIS_OK)
            return NULL;
    return bench;
}

static void expect_threads(const void *argument)
{
    pthread_t threads[threads_count];
    struct fake_cuda_counts counts;
    struct gpu_bench bench;
    (void)argument;
    launch_open(&bench, &launch_shapes[0]);
    bench.watch(NULL, NULL);
    for (int i = 0; i < threads_count; i++)
        child_expect(pthread_create(&threads[i], NULL, run_plan, &bench) == 0, "no thread");
    for (int i = 0; i < threads_count; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        child_expect(result == &bench, "thread %d failed", i);
    }
    bench.counts(&counts);
    child_expect(counts.launches == 9 * threads_count * runs_a_thread, "%ld launches", counts.launches);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_threads)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_threads, NULL);
}
END_TEST

/* The host's own context, of another GPU, is current again after every call. */
static void expect_host_context(const void *argument)
{
    const tamis_problem problem = launch_problem(&launch_shapes[0]);
    const tamis_run_args args = launch_args(&problem);
    const struct tamisi_cuda *cuda;
    tamisi_cu_context own, popped;
    tamis_stream foreign;
    struct gpu_bench bench;
    struct fake_cuda_counts counts;
    (void)argument;
    setenv("FAKE_CUDA_DEVICES", "2", 1);
    launch_open(&bench, &launch_shapes[0]);
    bench_must(tamisi_cuda_get(&cuda), "driver");
    child_expect(cuda->primary_ctx_retain(&own, 1) == 0 && cuda->ctx_push(own) == 0, "no context of the host");
    child_expect(cuda->stream_create(&foreign, 0) == 0, "no stream");
    const size_t bytes = tamis_plan_workspace_bytes(bench.plan);
    bench_must(tamis_run(bench.plan, &args, AT(AT_WORKSPACE), bytes, NULL), "run");
    launch_expect(&bench, launch_sparse_stages(bench.plan), "run");
    /* A stream of that other GPU is an error, and nothing is launched on it. */
    const tamis_status status = tamis_run(bench.plan, &args, AT(AT_WORKSPACE), bytes, foreign);
    child_expect(status == TAMIS_ECUDA && launched.count == 0, "%s: %d launches", tamis_status_name(status), launched.count);
    child_expect(strstr(tamis_last_error(), "k_score_score_stats: CUDA_ERROR_INVALID_CONTEXT") != NULL, "%s",
                 tamis_last_error());
    bench_close(&bench);
    child_expect(cuda->stream_destroy(foreign) == 0, "the stream is gone");
    child_expect(cuda->ctx_pop(&popped) == 0 && popped == own, "another context is current");
    child_expect(cuda->primary_ctx_release(1) == 0, "the host's context is gone");
    bench.counts(&counts);
    child_expect(counts.misuses == 1 && strstr(counts.misuse, "the stream is of another context"), "%ld misuses: %s",
                 counts.misuses, counts.misuse);
    child_expect(counts.retained == 0 && counts.pushed == 0 && counts.libraries == 0, "something is left open");
}

START_TEST(test_host_context)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_host_context, NULL);
}
END_TEST

TCase *gpu_threads_case(void)
{
    TCase *threads = tcase_create("threads");
    tcase_add_checked_fixture(threads, gpu_plan_set_up, folder_remove);
    tcase_add_test(threads, test_threads);
    tcase_add_test(threads, test_host_context);
    return threads;
}
