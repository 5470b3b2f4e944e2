/*
 * bench_host.c: see bench_host.h.
 */
#define _GNU_SOURCE
#include "bench_host.h"

#include "bench.h"
#include "cli.h"
#include "dynamic.h"
#include "error.h"
#include "gpu.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLANS 20  /* made again */
#define UNTIMED 5 /* calls before those that count */
#define BURST 16  /* calls, one behind the other, on a stream that is kept busy: far fewer than a driver lets queue up */

enum array { Q, K, V, OUTPUT, WORKSPACE, ARRAYS };

struct host {
    tamis_context *context;
    tamis_store *store;
    tamis_plan *plan;
    tamis_stream stream;
    tamis_run_args args;
    void *arrays[ARRAYS];
    size_t workspace_bytes;
    void *graph; /* a replay's; NULL: calls are eager */
    const struct graph_calls *graphs;
};

/* ---- graphs: entry points that the library itself has no use for */

struct graph_calls {
    tamisi_cu_result (*capture_begin)(tamis_stream, int);
    tamisi_cu_result (*capture_end)(tamis_stream, void **);
    tamisi_cu_result (*instantiate)(void **, void *, unsigned long long);
    tamisi_cu_result (*launch)(void *, tamis_stream);
    tamisi_cu_result (*exec_destroy)(void *);
    tamisi_cu_result (*graph_destroy)(void *);
};

enum { CAPTURE_THREAD_LOCAL = 1 }; /* CUstreamCaptureMode */

static tamis_status find_graph_calls(struct graph_calls *out, const struct tamisi_cuda *cuda)
{
    static const struct tamisi_symbol symbols[] = {
        {"cuStreamBeginCapture_v2", offsetof(struct graph_calls, capture_begin)},
        {"cuStreamEndCapture", offsetof(struct graph_calls, capture_end)},
        {"cuGraphInstantiateWithFlags", offsetof(struct graph_calls, instantiate)},
        {"cuGraphLaunch", offsetof(struct graph_calls, launch)},
        {"cuGraphExecDestroy", offsetof(struct graph_calls, exec_destroy)},
        {"cuGraphDestroy", offsetof(struct graph_calls, graph_destroy)}};
    void *library = dlopen(cuda->path, RTLD_NOW | RTLD_LOCAL); /* it is open already, and stays so */
    if (!library) return tamisi_fail(TAMIS_ENODEVICE, "cannot open the CUDA driver again: %s", dlerror());
    const char *missing = tamisi_dynamic_fill(out, library, symbols, sizeof symbols / sizeof *symbols);
    return missing ? tamisi_fail(TAMIS_ENODEVICE, "%s lacks %s", cuda->path, missing) : TAMIS_OK;
}

/* ---- memory: the host's own matter, which is not timed */

static tamis_tensor tensor_of(const tamis_problem *problem, void *data, int heads)
{
    const long long dim = problem->head_dim, rows = problem->seq_len;
    return (tamis_tensor){data, heads * rows * dim, rows * dim, dim};
}

static tamis_status provide(struct host *host, const tamis_problem *p)
{
    struct tamisi_facts facts;
    struct tamisi_workspace workspace = {.bytes = 0};
    const size_t rows = (size_t)p->batch * (size_t)p->seq_len * (size_t)p->head_dim * 2;
    const size_t of_q = rows * (size_t)p->q_heads, of_k = rows * (size_t)p->kv_heads;
    tamisi_facts_make(&facts, p);
    TAMIS_TRY(tamisi_workspace_make(&workspace, p, &facts));
    host->workspace_bytes = workspace.bytes;
    const size_t sizes[ARRAYS] = {of_q, of_k, of_k, of_q, workspace.bytes};
    const struct tamisi_gpu *gpu = host->context->state;
    TAMIS_TRY(tamis_stream_create(&host->stream, host->context));
    for (int id = 0; id < ARRAYS; id++) {
        TAMIS_TRY(tamis_memory_alloc(&host->arrays[id], host->context, sizes[id]));
        TAMIS_TRY(tamisi_gpu_enter(host->context));
        const tamisi_cu_result result = gpu->cuda->memset_d8_async((tamisi_cu_deviceptr)(uintptr_t)host->arrays[id], 0,
                                                                   sizes[id], host->stream);
        tamisi_gpu_leave(host->context);
        TAMIS_TRY(tamisi_cuda_check(gpu->cuda, result, "cannot fill memory"));
    }
    host->args = (tamis_run_args)TAMIS_RUN_ARGS_INIT;
    host->args.q = tensor_of(p, host->arrays[Q], p->q_heads);
    host->args.k = tensor_of(p, host->arrays[K], p->kv_heads);
    host->args.v = tensor_of(p, host->arrays[V], p->kv_heads);
    host->args.output = tensor_of(p, host->arrays[OUTPUT], p->q_heads);
    return tamis_stream_synchronize(host->context, host->stream);
}

static void close_all(struct host *host)
{
    tamis_plan_free(host->plan);
    tamis_store_free(host->store);
    for (int id = 0; id < ARRAYS && host->context; id++) tamis_memory_free(host->context, host->arrays[id]);
    if (host->stream) tamis_stream_free(host->context, host->stream);
    tamis_context_free(host->context);
}

/* ---- what is timed */

static double ms_since(double seconds) { return 1e3 * (cli_seconds() - seconds); }

static tamis_status start_cuda(struct host *host, int device, struct bench_host_figure *out)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    options.device = device;
    const double started = cli_seconds();
    TAMIS_TRY(tamis_context_create(&host->context, &options));
    out->start_ms = ms_since(started);
    const struct tamisi_gpu *gpu = host->context->state;
    memcpy(out->gpu, gpu->name, sizeof out->gpu);
    return TAMIS_OK;
}

static tamis_status make_plan(tamis_plan **out, const struct host *host, const tamis_problem *problem, double *ms)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.compiling = TAMIS_COMPILE_NEVER;
    const double started = cli_seconds();
    TAMIS_TRY(tamis_plan_create_with(out, host->context, host->store, problem, &options));
    *ms = ms_since(started);
    return TAMIS_OK;
}

static tamis_status put_on_stream(const struct host *host)
{
    if (!host->graph)
        return tamis_run(host->plan, &host->args, host->arrays[WORKSPACE], host->workspace_bytes, host->stream);
    const struct tamisi_gpu *gpu = host->context->state;
    return tamisi_cuda_check(gpu->cuda, host->graphs->launch(host->graph, host->stream), "cannot replay a graph");
}

static tamis_status first_use(struct host *host, const char *store, const tamis_problem *problem,
                              struct bench_host_figure *out)
{
    double started = cli_seconds();
    TAMIS_TRY(tamis_store_open(&host->store, store, NULL));
    out->open_ms = ms_since(started);
    TAMIS_TRY(make_plan(&host->plan, host, problem, &out->plan_ms));
    started = cli_seconds();
    TAMIS_TRY(put_on_stream(host));
    out->launch_ms = ms_since(started);
    return tamis_stream_synchronize(host->context, host->stream);
}

static tamis_status time_plans(const struct host *host, const tamis_problem *problem, double *median_ms)
{
    double ms[PLANS];
    for (int i = 0; i < PLANS; i++) {
        tamis_plan *plan;
        TAMIS_TRY(make_plan(&plan, host, problem, &ms[i]));
        tamis_plan_free(plan);
    }
    *median_ms = bench_median(ms, PLANS);
    return TAMIS_OK;
}

/* `burst` calls in a row, of which the first comes to an idle stream and, where others follow, does not count. */
static tamis_status time_burst(const struct host *host, int burst, double *us)
{
    for (int i = 0; i < burst; i++) {
        const double started = cli_seconds();
        TAMIS_TRY(put_on_stream(host));
        if (i > 0 || burst == 1) *us++ = 1e3 * ms_since(started);
    }
    return tamis_stream_synchronize(host->context, host->stream);
}

static tamis_status time_calls(const struct host *host, int calls, int burst, double *median_us)
{
    double *us = malloc(((size_t)calls + BURST) * sizeof *us);
    tamis_status status = us ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for %d times", calls);
    for (int i = 0; i < UNTIMED && status == TAMIS_OK; i++) status = time_burst(host, 1, us);
    for (int done = 0; done < calls && status == TAMIS_OK; done += burst > 1 ? burst - 1 : 1)
        status = time_burst(host, burst, us + done);
    if (status == TAMIS_OK) *median_us = bench_median(us, calls);
    free(us);
    return status;
}

/* In a current context, which the graph's calls, unlike tamis's own, want. */
static tamis_status time_graph(struct host *host, int calls, double *median_us)
{
    const struct tamisi_gpu *gpu = host->context->state;
    const struct graph_calls *graphs = host->graphs;
    void *graph = NULL;
    TAMIS_TRY(tamisi_cuda_check(gpu->cuda, graphs->capture_begin(host->stream, CAPTURE_THREAD_LOCAL), "cannot capture"));
    tamis_status status = put_on_stream(host);
    const tamisi_cu_result ended = graphs->capture_end(host->stream, &graph);
    if (status == TAMIS_OK) status = tamisi_cuda_check(gpu->cuda, ended, "cannot capture");
    if (status == TAMIS_OK)
        status = tamisi_cuda_check(gpu->cuda, graphs->instantiate(&host->graph, graph, 0), "cannot make a graph");
    if (graph) graphs->graph_destroy(graph);
    if (status == TAMIS_OK) status = time_calls(host, calls, 1, median_us);
    if (host->graph) graphs->exec_destroy(host->graph);
    host->graph = NULL;
    return status;
}

static tamis_status measure_graph(struct host *host, int calls, double *median_us)
{
    const struct tamisi_gpu *gpu = host->context->state;
    struct graph_calls graphs;
    TAMIS_TRY(find_graph_calls(&graphs, gpu->cuda));
    host->graphs = &graphs;
    TAMIS_TRY(tamisi_gpu_enter(host->context));
    const tamis_status status = time_graph(host, calls, median_us);
    tamisi_gpu_leave(host->context);
    host->graphs = NULL;
    return status;
}

tamis_status bench_host_measure(struct bench_host_figure *out, const char *store, int device, const tamis_problem *problem,
                                int calls)
{
    struct host host = {.context = NULL};
    *out = (struct bench_host_figure){.gpu = ""};
    tamis_status status = start_cuda(&host, device, out);
    if (status == TAMIS_OK) status = provide(&host, problem);
    if (status == TAMIS_OK) status = first_use(&host, store, problem, out);
    if (status == TAMIS_OK) status = time_plans(&host, problem, &out->replan_ms);
    if (status == TAMIS_OK) status = time_calls(&host, calls, 1, &out->run_us);
    if (status == TAMIS_OK) status = time_calls(&host, calls, BURST, &out->busy_run_us);
    if (status == TAMIS_OK) status = measure_graph(&host, calls, &out->replay_us);
    close_all(&host);
    return status;
}

/* ---- in a process of its own */

struct message {
    tamis_status status;
    char error[512];
    struct bench_host_figure figure;
};

static _Noreturn void be_child(int out, const char *store, int device, const tamis_problem *problem, int calls)
{
    struct message message;
    memset(&message, 0, sizeof message);
    message.status = bench_host_measure(&message.figure, store, device, problem, calls);
    if (message.status != TAMIS_OK) snprintf(message.error, sizeof message.error, "%s", tamis_last_error());
    const ssize_t put = write(out, &message, sizeof message); /* less than what a pipe takes in one piece */
    _exit(put == (ssize_t)sizeof message ? 0 : 1);
}

tamis_status bench_host_fork(struct bench_host_figure *out, const char *store, int device, const tamis_problem *problem,
                             int calls)
{
    struct message message;
    int ends[2], status = 0;
    if (pipe(ends) != 0) return tamisi_fail(TAMIS_EIO, "cannot make a pipe: %s", strerror(errno));
    const pid_t child = fork();
    if (child == 0) be_child(ends[1], store, device, problem, calls);
    close(ends[1]);
    const ssize_t got = child > 0 ? read(ends[0], &message, sizeof message) : -1;
    close(ends[0]);
    if (child < 0) return tamisi_fail(TAMIS_EIO, "cannot start a process: %s", strerror(errno));
    waitpid(child, &status, 0);
    if (got != (ssize_t)sizeof message)
        return tamisi_fail(TAMIS_ECUDA, "the process that ran it ended %s %d", WIFSIGNALED(status) ? "by signal" : "with code",
                           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    *out = message.figure;
    return message.status == TAMIS_OK ? TAMIS_OK : tamisi_fail(message.status, "%s", message.error);
}
