/*
 * check_gpu_fault.c: single driver calls that fail: each call of a whole session in turn, and device memory that runs out.
 * A failure is a status and a message, leaves nothing open and never a crash. Part of the gpu_plan suite.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

#include <stdint.h>

/* What fails, and of which plan: on all blocks, with a pattern, or with an output map. */
struct sweep {
    int code;
    bool tma;
    tamis_pattern_kind kind;
    bool map;
};

/* ---- a session: everything that a host does, stopping at the first failure but giving all back */

struct session {
    const struct sweep *sweep;
    tamis_context *context;
    tamis_store *store;
    tamis_plan *plan;
    tamis_stream stream;
    void *memory;
};

#define AT(number) ((void *)(uintptr_t)((unsigned long long)(number) << 40))

static tamis_tensor tensor_at(int number, int heads, long long rows)
{
    return (tamis_tensor){AT(number), heads * rows * 128, rows * 128, 128};
}

static tamis_status run_all(const struct session *session)
{
    const tamis_plan *plan = session->plan;
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    const long long rows = 4096, capacity = tamis_plan_capacity(plan);
    const tamis_tensor q = tensor_at(1, 32, rows), k = tensor_at(2, 8, rows), v = tensor_at(3, 8, rows);
    const tamis_tensor output = tensor_at(4, 32, rows), compact_q = tensor_at(5, 32, capacity);
    const tamis_tensor compact_k = tensor_at(6, 32, capacity), compact_v = tensor_at(7, 32, capacity);
    const tamis_tensor compact_output = tensor_at(8, 32, capacity);
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = q, args.k = k, args.v = v, args.output = output;
    if (session->sweep->map) args.output_map = AT(14);
    TAMIS_TRY(tamis_run(plan, &args, AT(20), bytes, session->stream));
    if (session->sweep->map)
        return tamis_attend_map(plan, &compact_q, &compact_k, &compact_v, AT(12), AT(14), &compact_output, NULL, AT(20), bytes,
                                session->stream);
    if (session->sweep->kind != TAMIS_PATTERN_NONE) {
        tamis_blocks blocks = TAMIS_BLOCKS_INIT;
        blocks.count = AT(15), blocks.list = AT(16);
        TAMIS_TRY(tamis_make_blocks(plan, &compact_q, &compact_k, AT(12), NULL, AT(15), AT(16), AT(20), bytes,
                                    session->stream));
        return tamis_attend_blocks(plan, &compact_q, &compact_k, &compact_v, AT(12), &blocks, &compact_output, NULL, AT(20),
                                   bytes, session->stream);
    }
    TAMIS_TRY(tamis_score(plan, &q, &k, AT(9), AT(10), AT(11), AT(20), bytes, session->stream));
    TAMIS_TRY(tamis_select(plan, AT(10), AT(11), AT(12), AT(13), AT(20), bytes, session->stream));
    TAMIS_TRY(tamis_compress(plan, &q, &k, &v, AT(12), AT(13), &compact_q, &compact_k, &compact_v, AT(20), bytes,
                             session->stream));
    TAMIS_TRY(tamis_attend(plan, &compact_q, &compact_k, &compact_v, AT(12), &compact_output, NULL, AT(20), bytes,
                           session->stream));
    return tamis_decompress(plan, &compact_output, NULL, AT(12), AT(13), &output, NULL, AT(20), bytes, session->stream);
}

static tamis_status try_session(struct session *session)
{
    const tamis_problem problem = bench_problem(4096);
    char data[64] = "data";
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    pattern.kind = session->sweep->kind;
    options.pattern = &pattern;
    options.output_map = session->sweep->map;
    TAMIS_TRY(tamis_context_create(&session->context, NULL));
    TAMIS_TRY(tamis_plan_create_with(&session->plan, session->context, session->store, &problem, &options));
    TAMIS_TRY(tamis_stream_create(&session->stream, session->context));
    TAMIS_TRY(tamis_memory_alloc(&session->memory, session->context, sizeof data));
    TAMIS_TRY(tamis_memory_write(session->context, session->memory, data, sizeof data, session->stream));
    TAMIS_TRY(run_all(session));
    TAMIS_TRY(tamis_stream_synchronize(session->context, session->stream));
    return tamis_memory_read(session->context, data, session->memory, sizeof data, NULL);
}

static tamis_status run_session(struct session *session, char message[256])
{
    const tamis_status status = try_session(session);
    snprintf(message, 256, "%s", tamis_last_error());
    tamis_memory_free(session->context, session->memory);
    if (session->stream) tamis_stream_free(session->context, session->stream);
    tamis_plan_free(session->plan);
    tamis_context_free(session->context);
    child_expect(strncmp(tamis_last_error(), message, 255) == 0, "giving back turned \"%s\" into \"%s\"", message,
                 tamis_last_error()); /* they return no status, so it is of the call before */
    *session = (struct session){.sweep = session->sweep, .store = session->store};
    return status;
}

/* Failures of these have nobody to be told to: they give something back, in functions that return nothing. */
static bool gives_back(const char *function)
{
    static const char *const names[] = {"cuCtxPopCurrent_v2", "cuLibraryUnload", "cuMemFree_v2", "cuStreamDestroy_v2",
                                        "cuDevicePrimaryCtxRelease_v2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], function) == 0) return true;
    return false;
}

/* True where the call that failed was one for a tensor map. */
static bool check_call(const struct gpu_bench *bench, struct session *session, long nth, int code)
{
    char message[256];
    struct fake_cuda_counts before, counts;
    bench->inject(NULL, 0, 0);
    bench->inject("*", nth, code);
    bench->counts(&before);
    const tamis_status status = run_session(session, message);
    bench->counts(&counts);
    child_expect(counts.failed[0] != '\0', "call %ld was not made", nth);
    child_expect(counts.misuses == 0, "after %s (call %ld) failed: %s", counts.failed, nth, counts.misuse);
    child_expect(
        counts.retained + counts.pushed + counts.libraries + counts.streams + counts.allocations == 0,
        "after %s (call %ld) failed: %ld contexts, %ld pushed, %ld libraries, %ld streams, %ld allocations are open",
        counts.failed, nth, counts.retained, counts.pushed, counts.libraries, counts.streams, counts.allocations);
    /* Without its context current a stream or memory cannot be given back: it ends with the context, but it alone. */
    const long reclaimed = counts.reclaimed - before.reclaimed;
    const bool entering = strcmp(counts.failed, "cuCtxPushCurrent_v2") == 0;
    child_expect(reclaimed <= entering, "after %s (call %ld) failed: %ld left open", counts.failed, nth, reclaimed);
    if (gives_back(counts.failed) || reclaimed > 0) return false;
    const tamis_status wanted = code == TAMISI_CU_ERROR_OUT_OF_MEMORY ? TAMIS_ENOMEM : TAMIS_ECUDA;
    child_expect(status == wanted, "%s (call %ld) failed, but: %s: %s", counts.failed, nth, tamis_status_name(status),
                 message);
    child_expect(strstr(message, code == 999 ? "CUDA_ERROR_UNKNOWN" : "memory") != NULL, "%s (call %ld) failed: \"%s\"",
                 counts.failed, nth, message);
    const bool of_map = strcmp(counts.failed, "cuTensorMapEncodeTiled") == 0;
    child_expect(of_map == (strstr(message, "cannot describe a tensor to the copy engine: CUDA_ERROR") != NULL),
                 "%s (call %ld) failed: \"%s\"", counts.failed, nth, message);
    return of_map;
}

static void expect_sweep(const void *argument)
{
    const struct sweep *sweep = argument;
    const bool is_plain = sweep->kind == TAMIS_PATTERN_NONE && !sweep->map;
    int maps = 0;
    struct session session = {.sweep = sweep};
    struct gpu_bench bench = {NULL};
    struct fake_cuda_counts before, after;
    const struct tamisi_cuda *cuda;
    char message[256];
    bench_environment(NULL);
    bench_fake(&bench);
    bench.assume(AT(20), (size_t)1 << 40); /* the workspace */
    bench_must(tamisi_cuda_get(&cuda), "driver"); /* whose failure is once a process: see check_driver.c */
    bench_must(tamis_store_open(&session.store, folder_file("a.tamis"), NULL), "store");
    bench.counts(&before);
    bench_must(run_session(&session, message), "the session itself");
    bench.counts(&after);
    bench_expect_closed(&bench);
    const long calls = after.calls - before.calls;
    child_expect(calls > (is_plain ? 80 : 60), "a session has only %ld calls", calls);
    for (long nth = 1; nth <= calls; nth++) maps += check_call(&bench, &session, nth, sweep->code);
    /* The score's K, Q and K again, which the step has kept; the run's compact and full K and V; the step's Q, K and V. */
    const int least = sweep->tma ? 3 + 4 + 3 : 0;
    child_expect(is_plain ? maps == least : maps >= least, "%d calls for tensor maps", maps);
    tamis_store_free(session.store);
}

static const struct sweep sweeps[] = {{.code = 999},
                                      {.code = TAMISI_CU_ERROR_OUT_OF_MEMORY},
                                      {.code = 999, .tma = true},
                                      {.code = TAMISI_CU_ERROR_OUT_OF_MEMORY, .tma = true},
                                      {.code = 999, .kind = TAMIS_PATTERN_FLEXPREFILL},
                                      {.code = 999, .kind = TAMIS_PATTERN_XATTENTION, .tma = true},
                                      {.code = 999, .map = true},
                                      {.code = 999, .map = true, .tma = true}};

START_TEST(test_every_call)
{
    gpu_plan_make_store(&(struct store_plan){.tma = sweeps[_i].tma, .patterns = true, .maps = true});
    child_run(expect_sweep, &sweeps[_i]);
}
END_TEST

/* ---- device memory */

static void expect_memory(const void *argument)
{
    enum { bytes = 1 << 20 };
    struct gpu_bench bench;
    void *memory[2], *more = &bench;
    char *data = calloc(2, bytes);
    (void)argument;
    bench_environment((const char *const[]){"FAKE_CUDA_MEMORY", "3145728", NULL});
    bench_open(&bench);
    child_expect(data != NULL, "no memory for the test");
    memset(data, 7, bytes);
    for (int i = 0; i < 2; i++) {
        bench_must(tamis_memory_alloc(&memory[i], bench.context, bytes), "memory");
        child_expect((uintptr_t)memory[i] % 256 == 0, "memory is not aligned");
    }
    child_expect(tamis_memory_alloc(&more, bench.context, 2 * bytes) == TAMIS_ENOMEM, "too much is given");
    child_expect(strstr(tamis_last_error(), "out of device memory: 2097152 bytes asked for, 1048576 of 3145728 free") !=
                     NULL,
                 "%s", tamis_last_error());
    child_expect(more == NULL, "the pointer is not set to NULL");
    bench_must(tamis_memory_write(bench.context, memory[1], data, bytes, NULL), "write");
    bench_must(tamis_memory_read(bench.context, data + bytes, memory[1], bytes, NULL), "read");
    child_expect(memcmp(data, data + bytes, bytes) == 0, "what is read is not what was written");
    bench.inject("*", 1, 999); /* nothing to copy is no call */
    bench_must(tamis_memory_write(bench.context, NULL, NULL, 0, NULL), "write of nothing");
    bench_must(tamis_memory_read(bench.context, NULL, NULL, 0, NULL), "read of nothing");
    bench.inject(NULL, 0, 0);
    tamis_memory_free(bench.context, memory[0]);
    bench_must(tamis_memory_alloc(&more, bench.context, 2 * bytes), "what was given back");
    tamis_memory_free(bench.context, more);
    tamis_memory_free(bench.context, memory[1]);
    tamis_memory_free(bench.context, NULL);
    free(data);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_memory)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_memory, NULL);
}
END_TEST

TCase *gpu_fault_case(void)
{
    TCase *faults = tcase_create("faults");
    tcase_add_checked_fixture(faults, gpu_plan_set_up, folder_remove);
    tcase_set_timeout(faults, 120);
    tcase_add_loop_test(faults, test_every_call, 0, sizeof sweeps / sizeof *sweeps);
    tcase_add_test(faults, test_memory);
    return faults;
}
