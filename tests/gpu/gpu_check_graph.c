/*
 * gpu_check_graph.c: a CUDA graph, captured once and replayed with other data, gives the bits of eager runs.
 */
#include "check_gpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    ok = gpu_case_poison(c) && launch(exec, c->stream) == 0 && tamis_stream_synchronize(c->context, c->stream) == TAMIS_OK &&
         gpu_case_fetch(c) && memcmp(eager, c->output.host, c->output.bytes) == 0;
    free(eager);
    return ok;
}

static bool check_replays(struct gpu_case *c, tamis_context *context, tamis_store *store, void *cuda)
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
        c->seed = gpu_next_seed();
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

static bool make_current(void *cuda, int device)
{
    const retain_fn retain = (retain_fn)dlsym(cuda, "cuDevicePrimaryCtxRetain");
    const set_current_fn set_current = (set_current_fn)dlsym(cuda, "cuCtxSetCurrent");
    void *primary = NULL;
    return retain && set_current && retain(&primary, device) == 0 && set_current(primary) == 0;
}

bool gpu_check_graph(const tamis_problem *problem, tamis_context *context, tamis_store *store, void *cuda)
{
    struct gpu_case c;
    memset(&c, 0, sizeof c);
    c.problem = *problem;
    const bool ok = check_replays(&c, context, store, cuda);
    gpu_case_close(&c);
    if (c.stream) tamis_stream_free(context, c.stream);
    return ok;
}

void *gpu_graph_cuda(int device)
{
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
    return cuda && make_current(cuda, device) ? cuda : NULL;
}
