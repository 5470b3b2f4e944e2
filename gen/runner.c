/*
 * runner.c: the operator on host arrays, by its public interface alone. What a run must write is poisoned before each one,
 * so that a row that was forgotten shows as NaN.
 */
#include "runner.h"

#include "error.h"
#include "half.h"
#include "stopwatch.h"

#include <stdlib.h>
#include <string.h>

const char *const runner_step_names[RUNNER_STEPS] = {"score", "select", "compress", "attend", "decompress"};

#define POISON_BYTES ((size_t)1 << 20)
#define GUARD_BYTES 256 /* behind each array */
#define GUARD 0xa5

/* A device array. */
struct array {
    void *data;
    size_t bytes;
};

enum array_id {
    Q, K, V, BLOCKS, WORKSPACE,
    OUTPUT, SCORE, LSE, KEPT, INDICES, /* outputs */
    RANK, MEAN, COMPACT_Q, COMPACT_K, COMPACT_V, COMPACT_OUTPUT, COMPACT_LSE, BLOCK_COUNT, BLOCK_LIST, /* of the steps only */
    ARRAYS
};

struct runner {
    tamis_context *context;
    tamis_plan *plan;
    tamis_problem problem;
    tamis_stream stream;
    struct stopwatch watch;
    bool watch_open;
    struct array arrays[ARRAYS];
    struct block_mask mask; /* the host's blocks, if it names any */
    tamis_blocks blocks;    /* the same on the device */
};

/* What a plan takes beside the defaults. */
struct choices {
    const struct tamisi_force *force;
    const tamis_pattern *pattern;
    const char *blocks; /* file */
    const struct block_mask *mask; /* in its place */
};

const tamis_plan *runner_plan(const struct runner *runner) { return runner->plan; }

const struct block_mask *runner_blocks(const struct runner *runner) { return runner->mask.bits ? &runner->mask : NULL; }

/* ---- memory */

static size_t product(long long a, long long b, long long c, long long d)
{
    return (size_t)a * (size_t)b * (size_t)c * (size_t)d;
}

/* Bytes of each array, all within 64 bits once the plan is made. */
static size_t bytes_of(const struct runner *runner, enum array_id id)
{
    const tamis_problem *p = &runner->problem;
    const long long window = p->selection.window, candidates = p->seq_len > window ? p->seq_len - window : 0;
    const long long capacity = tamis_plan_capacity(runner->plan), index_heads = tamis_plan_index_heads(runner->plan);
    const long long compact_heads = tamis_plan_compact_heads(runner->plan), tiles = tamis_plan_block_count(runner->plan);
    switch (id) {
    case Q:
    case OUTPUT: return product(p->batch, p->q_heads, p->seq_len, p->head_dim) * 2;
    case K:
    case V: return product(p->batch, p->kv_heads, p->seq_len, p->head_dim) * 2;
    case BLOCKS: return runner->mask.bits ? block_mask_bytes(&runner->mask) : 0;
    case WORKSPACE: return tamis_plan_workspace_bytes(runner->plan);
    case SCORE: return product(p->batch, p->q_heads, candidates, sizeof(float));
    case LSE: return product(p->batch, p->q_heads, p->seq_len, sizeof(float));
    case KEPT: return product(p->batch, 1, 1, sizeof(int32_t));
    case INDICES: return product(p->batch, index_heads, capacity, sizeof(int32_t));
    case RANK: return product(p->batch, index_heads, candidates, sizeof(float));
    case MEAN: return product(p->batch, 1, candidates, sizeof(float));
    case COMPACT_Q:
    case COMPACT_OUTPUT: return product(p->batch, p->q_heads, capacity, p->head_dim) * 2;
    case COMPACT_K:
    case COMPACT_V: return product(p->batch, compact_heads, capacity, p->head_dim) * 2;
    case COMPACT_LSE: return product(p->batch, p->q_heads, capacity, sizeof(float));
    case BLOCK_COUNT: return product(p->batch, p->q_heads, tiles, sizeof(int32_t));
    case BLOCK_LIST: return product(p->batch, p->q_heads, tiles * tiles, sizeof(int32_t));
    case ARRAYS: break;
    }
    return 0;
}

static tamis_status guard(struct runner *runner, const struct array *array)
{
    unsigned char bytes[GUARD_BYTES];
    memset(bytes, GUARD, sizeof bytes);
    return tamis_memory_write(runner->context, (char *)array->data + array->bytes, bytes, sizeof bytes, runner->stream);
}

static tamis_status allocate(struct runner *runner, enum array_id first, enum array_id last)
{
    for (int id = (int)first; id <= (int)last; id++) {
        struct array *array = &runner->arrays[id];
        if (array->data) continue;
        array->bytes = bytes_of(runner, (enum array_id)id);
        TAMIS_TRY(tamis_memory_alloc(&array->data, runner->context, array->bytes + GUARD_BYTES));
        TAMIS_TRY(guard(runner, array));
    }
    return TAMIS_OK;
}

tamis_status runner_find_overrun(struct runner *runner, const char **name)
{
    static const char *const names[ARRAYS] = {"q",    "k",       "v",    "blocks", "workspace", "output",    "score",     "lse",
                                              "kept", "indices", "rank", "mean",   "compact q", "compact k", "compact v",
                                              "compact output", "compact lse", "block count", "block list"};
    *name = NULL;
    for (int id = 0; id < ARRAYS && !*name; id++) {
        const struct array *array = &runner->arrays[id];
        unsigned char found[GUARD_BYTES];
        if (!array->data) continue;
        TAMIS_TRY(tamis_memory_read(runner->context, found, (char *)array->data + array->bytes, sizeof found, runner->stream));
        for (int i = 0; i < GUARD_BYTES; i++)
            if (found[i] != GUARD) *name = names[id];
    }
    return TAMIS_OK;
}

static tamis_status poison(struct runner *runner, enum array_id id, const void *block)
{
    const struct array *array = &runner->arrays[id];
    for (size_t done = 0; done < array->bytes; done += POISON_BYTES) {
        const size_t left = array->bytes - done;
        TAMIS_TRY(tamis_memory_write(runner->context, (char *)array->data + done, block,
                                     left < POISON_BYTES ? left : POISON_BYTES, runner->stream));
    }
    return TAMIS_OK;
}

static tamis_status poison_all(struct runner *runner, enum array_id first, enum array_id last)
{
    void *block = malloc(POISON_BYTES);
    if (!block) return tamisi_fail(TAMIS_ENOMEM, "out of memory");
    memset(block, 0xff, POISON_BYTES); /* NaN in every format; -1 */
    tamis_status status = TAMIS_OK;
    for (int id = (int)first; id <= (int)last && status == TAMIS_OK; id++)
        status = poison(runner, (enum array_id)id, block);
    free(block);
    return status;
}

static tamis_status upload(struct runner *runner, const struct case_input *input)
{
    const struct npy *const from[] = {[Q] = &input->q, [K] = &input->k, [V] = &input->v};
    TAMIS_TRY(allocate(runner, Q, INDICES));
    for (int id = Q; id <= V; id++)
        TAMIS_TRY(tamis_memory_write(runner->context, runner->arrays[id].data, from[id]->data, from[id]->bytes,
                                     runner->stream));
    if (!runner->mask.bits) return TAMIS_OK;
    runner->blocks = (tamis_blocks)TAMIS_BLOCKS_INIT;
    runner->blocks.bits = runner->arrays[BLOCKS].data;
    return tamis_memory_write(runner->context, runner->arrays[BLOCKS].data, runner->mask.bits, runner->arrays[BLOCKS].bytes,
                              runner->stream);
}

static tamis_status open_plan(struct runner *runner, tamis_store *store, const struct choices *choices)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.pattern = choices->pattern;
    if (!choices->force) return tamis_plan_create_with(&runner->plan, runner->context, store, &runner->problem, &options);
    options.tuning = TAMIS_TUNING_OFF;
    options.compiling = TAMIS_COMPILE_NEVER;
    return tamisi_plan_create_forced(&runner->plan, runner->context, store, &runner->problem, &options, choices->force);
}

static tamis_status open_parts(struct runner *runner, tamis_store *store, const struct case_input *input,
                               const struct choices *choices)
{
    const tamis_problem *p = &runner->problem;
    TAMIS_TRY(open_plan(runner, store, choices));
    if (choices->blocks)
        TAMIS_TRY(block_mask_read(&runner->mask, choices->blocks, p->batch, p->q_heads, tamis_plan_block_count(runner->plan)));
    if (choices->mask) TAMIS_TRY(block_mask_copy(&runner->mask, choices->mask));
    TAMIS_TRY(tamis_stream_create(&runner->stream, runner->context));
    TAMIS_TRY(stopwatch_open(&runner->watch, runner->context));
    runner->watch_open = true;
    return upload(runner, input);
}

static tamis_status open_runner(struct runner **out, tamis_context *context, tamis_store *store,
                                const struct case_input *input, const struct choices *choices)
{
    *out = NULL;
    struct runner *runner = calloc(1, sizeof *runner);
    if (!runner) return tamisi_fail(TAMIS_ENOMEM, "out of memory");
    runner->context = context;
    runner->problem = input->problem;
    const tamis_status status = open_parts(runner, store, input, choices);
    if (status == TAMIS_OK)
        *out = runner;
    else
        runner_close(runner);
    return status;
}

tamis_status runner_open(struct runner **out, tamis_context *context, tamis_store *store, const struct case_input *input)
{
    return open_runner(out, context, store, input, &(struct choices){.force = NULL});
}

tamis_status runner_open_forced(struct runner **out, tamis_context *context, tamis_store *store,
                                const struct case_input *input, const struct tamisi_force *force, const tamis_pattern *pattern,
                                const struct block_mask *mask)
{
    return open_runner(out, context, store, input, &(struct choices){.force = force, .pattern = pattern, .mask = mask});
}

tamis_status runner_open_pattern(struct runner **out, tamis_context *context, tamis_store *store,
                                 const struct case_input *input, const tamis_pattern *pattern, const char *file)
{
    return open_runner(out, context, store, input, &(struct choices){.pattern = pattern, .blocks = file});
}

void runner_close(struct runner *runner)
{
    if (!runner) return;
    for (int id = 0; id < ARRAYS; id++) tamis_memory_free(runner->context, runner->arrays[id].data);
    if (runner->watch_open) stopwatch_close(&runner->watch);
    tamis_stream_free(runner->context, runner->stream);
    tamis_plan_free(runner->plan);
    block_mask_free(&runner->mask);
    free(runner);
}

/* ---- results */

static tamis_status read_array(struct runner *runner, void *out, enum array_id id)
{
    void **host = out;
    const struct array *array = &runner->arrays[id];
    *host = malloc(array->bytes + 1);
    if (!*host) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the results");
    if (array->bytes == 0) return TAMIS_OK;
    return tamis_memory_read(runner->context, *host, array->data, array->bytes, runner->stream);
}

static tamis_status download(struct runner *runner, struct runner_result *result)
{
    TAMIS_TRY(read_array(runner, &result->bits, OUTPUT));
    TAMIS_TRY(read_array(runner, &result->score, SCORE));
    TAMIS_TRY(read_array(runner, &result->lse, LSE));
    TAMIS_TRY(read_array(runner, &result->kept, KEPT));
    TAMIS_TRY(read_array(runner, &result->indices, INDICES));
    const size_t count = runner->arrays[OUTPUT].bytes / 2;
    result->output = malloc(count * sizeof *result->output);
    if (!result->output) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the results");
    tamisi_half_read_float(result->output, result->bits, count, runner->problem.dtype);
    return TAMIS_OK;
}

void runner_result_free(struct runner_result *result)
{
    free(result->bits);
    free(result->output);
    free(result->score);
    free(result->lse);
    free(result->kept);
    free(result->indices);
    memset(result, 0, sizeof *result);
}

int runner_bad_kept(const struct runner *runner, const struct runner_result *result)
{
    const long long capacity = tamis_plan_capacity(runner->plan);
    for (int b = 0; b < runner->problem.batch; b++)
        if (result->kept[b] < 1 || result->kept[b] > capacity) return b;
    return -1;
}

/* Positions behind kept[b] are unspecified: only those before it are compared. */
static bool lists_differ(const struct runner *runner, const struct runner_result *a, const struct runner_result *b)
{
    const long long capacity = tamis_plan_capacity(runner->plan), heads = tamis_plan_index_heads(runner->plan);
    for (long long list = 0; list < runner->problem.batch * heads; list++)
        if (memcmp(a->indices + list * capacity, b->indices + list * capacity,
                   (size_t)a->kept[list / heads] * sizeof(int32_t)) != 0)
            return true;
    return false;
}

const char *runner_difference(const struct runner *runner, const struct runner_result *a, const struct runner_result *b)
{
    if (memcmp(a->score, b->score, runner->arrays[SCORE].bytes) != 0) return "score";
    if (memcmp(a->kept, b->kept, runner->arrays[KEPT].bytes) != 0) return "kept";
    if (lists_differ(runner, a, b)) return "indices";
    if (memcmp(a->bits, b->bits, runner->arrays[OUTPUT].bytes) != 0) return "output";
    if (memcmp(a->lse, b->lse, runner->arrays[LSE].bytes) != 0) return "lse";
    return NULL;
}

/* ---- running */

static tamis_tensor tensor_of(const struct runner *runner, enum array_id id, int heads, long long rows)
{
    const long long dim = runner->problem.head_dim;
    return (tamis_tensor){runner->arrays[id].data, heads * rows * dim, rows * dim, dim};
}

static tamis_status mark(struct runner *runner) { return stopwatch_mark(&runner->watch, runner->stream); }

static tamis_status run_once(struct runner *runner, struct runner_times *times)
{
    const tamis_problem *p = &runner->problem;
    struct array *arrays = runner->arrays;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = tensor_of(runner, Q, p->q_heads, p->seq_len);
    args.k = tensor_of(runner, K, p->kv_heads, p->seq_len);
    args.v = tensor_of(runner, V, p->kv_heads, p->seq_len);
    args.output = tensor_of(runner, OUTPUT, p->q_heads, p->seq_len);
    args.lse = arrays[LSE].data;
    args.score = arrays[SCORE].data;
    args.kept = arrays[KEPT].data;
    args.indices = arrays[INDICES].data;
    if (runner->mask.bits) args.blocks = &runner->blocks;
    TAMIS_TRY(poison_all(runner, OUTPUT, INDICES));
    TAMIS_TRY(mark(runner));
    TAMIS_TRY(tamis_run(runner->plan, &args, arrays[WORKSPACE].data, arrays[WORKSPACE].bytes, runner->stream));
    TAMIS_TRY(mark(runner));
    return stopwatch_read(&runner->watch, &times->run_ms);
}

/* On a GPU a first round loads the code and wakes the clocks. */
static int rounds(const struct runner *runner) { return runner->watch.cuda ? 2 : 1; }

tamis_status runner_run(struct runner *runner, struct runner_result *result, struct runner_times *times)
{
    memset(result, 0, sizeof *result);
    for (int i = 0; i < rounds(runner); i++) TAMIS_TRY(run_once(runner, times));
    return download(runner, result);
}

/* On all blocks, or on those that the plan's pattern has made before. */
static tamis_status attend_step(struct runner *runner, const tamis_tensor *q, const tamis_tensor *k, const tamis_tensor *v,
                                const tamis_tensor *output)
{
    const tamis_plan *plan = runner->plan;
    struct array *a = runner->arrays;
    void *workspace = a[WORKSPACE].data;
    const size_t bytes = a[WORKSPACE].bytes;
    if (tamis_plan_block_count(plan) == 0)
        return tamis_attend(plan, q, k, v, a[KEPT].data, output, a[COMPACT_LSE].data, workspace, bytes, runner->stream);
    tamis_blocks lists = TAMIS_BLOCKS_INIT;
    lists.count = a[BLOCK_COUNT].data;
    lists.list = a[BLOCK_LIST].data;
    TAMIS_TRY(tamis_make_blocks(plan, q, k, a[KEPT].data, runner->mask.bits ? &runner->blocks : NULL, a[BLOCK_COUNT].data,
                                a[BLOCK_LIST].data, workspace, bytes, runner->stream));
    TAMIS_TRY(mark(runner));
    return tamis_attend_blocks(plan, q, k, v, a[KEPT].data, &lists, output, a[COMPACT_LSE].data, workspace, bytes,
                               runner->stream);
}

/* With a pattern there is a mark more: before attend its lists are made. */
static tamis_status read_steps(struct runner *runner, struct runner_times *times)
{
    double ms[RUNNER_STEPS + 1];
    int at = 0;
    TAMIS_TRY(stopwatch_read(&runner->watch, ms));
    for (int step = 0; step < RUNNER_STEPS; step++) {
        if (step == RUNNER_ATTEND && tamis_plan_block_count(runner->plan) > 0) times->blocks_ms = ms[at++];
        times->step_ms[step] = ms[at++];
    }
    return TAMIS_OK;
}

static tamis_status steps_once(struct runner *runner, struct runner_times *times)
{
    const tamis_problem *p = &runner->problem;
    const tamis_plan *plan = runner->plan;
    const tamis_stream stream = runner->stream;
    const int compact_heads = tamis_plan_compact_heads(plan);
    const long long rows = tamis_plan_capacity(plan);
    struct array *a = runner->arrays;
    void *workspace = a[WORKSPACE].data;
    const size_t bytes = a[WORKSPACE].bytes;
    const tamis_tensor q = tensor_of(runner, Q, p->q_heads, p->seq_len), k = tensor_of(runner, K, p->kv_heads, p->seq_len);
    const tamis_tensor v = tensor_of(runner, V, p->kv_heads, p->seq_len);
    const tamis_tensor output = tensor_of(runner, OUTPUT, p->q_heads, p->seq_len);
    const tamis_tensor compact_q = tensor_of(runner, COMPACT_Q, p->q_heads, rows);
    const tamis_tensor compact_k = tensor_of(runner, COMPACT_K, compact_heads, rows);
    const tamis_tensor compact_v = tensor_of(runner, COMPACT_V, compact_heads, rows);
    const tamis_tensor compact_output = tensor_of(runner, COMPACT_OUTPUT, p->q_heads, rows);

    TAMIS_TRY(poison_all(runner, OUTPUT, BLOCK_LIST));
    TAMIS_TRY(mark(runner));
    TAMIS_TRY(tamis_score(plan, &q, &k, a[SCORE].data, a[RANK].data, a[MEAN].data, workspace, bytes, stream));
    TAMIS_TRY(mark(runner));
    TAMIS_TRY(tamis_select(plan, a[RANK].data, a[MEAN].data, a[KEPT].data, a[INDICES].data, workspace, bytes, stream));
    TAMIS_TRY(mark(runner));
    TAMIS_TRY(tamis_compress(plan, &q, &k, &v, a[KEPT].data, a[INDICES].data, &compact_q, &compact_k, &compact_v, workspace,
                             bytes, stream));
    TAMIS_TRY(mark(runner));
    TAMIS_TRY(attend_step(runner, &compact_q, &compact_k, &compact_v, &compact_output));
    TAMIS_TRY(mark(runner));
    TAMIS_TRY(tamis_decompress(plan, &compact_output, a[COMPACT_LSE].data, a[KEPT].data, a[INDICES].data, &output,
                               a[LSE].data, workspace, bytes, stream));
    TAMIS_TRY(mark(runner));
    return read_steps(runner, times);
}

tamis_status runner_steps(struct runner *runner, struct runner_result *result, struct runner_times *times)
{
    memset(result, 0, sizeof *result);
    TAMIS_TRY(allocate(runner, RANK, BLOCK_LIST));
    for (int i = 0; i < rounds(runner); i++) TAMIS_TRY(steps_once(runner, times));
    return download(runner, result);
}
