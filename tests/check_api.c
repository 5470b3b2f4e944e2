/*
 * check_api.c: the public API on the CPU backend: contexts, plans, memory, what each refuses and says; what optional
 * outputs change (nothing), what running allocates (nothing), and what is left when memory runs out. Arguments of runs and
 * steps are in check_api_args.c; results are in check_cpu.c.
 */
#include "check_alloc.h"
#include "cpu_case.h"
#include "plan.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *api_suite(void);
TCase *api_args_case(void);

#define expect_fail(expression, expected, words)                                                                           \
    do {                                                                                                                   \
        const tamis_status found = (expression);                                                                           \
        ck_assert_msg(found == (expected), "%s: %s, \"%s\"", #expression, tamis_status_name(found), tamis_last_error());   \
        ck_assert_msg(strstr(tamis_last_error(), words) != NULL, "%s: \"%s\"", #expression, tamis_last_error());           \
    } while (0)

static tamis_context *open_context(void)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = 2;
    ck_assert_msg(tamis_context_create(&context, &options) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_str_eq(tamis_last_error(), "");
    return context;
}

static tamis_problem small_problem(void)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    problem.q_heads = 4;
    problem.kv_heads = 2;
    problem.head_dim = 64;
    problem.seq_len = 300;
    problem.selection = (tamis_selection){TAMIS_COVERAGE, TAMIS_SCOPE_HEAD, 32, 7, 16, 0.2, 1.0, 0};
    return problem;
}

START_TEST(version)
{
    char text[32];
    ck_assert_uint_eq(tamis_version(), TAMIS_VERSION_NUMBER);
    snprintf(text, sizeof text, "%u.%u.%u", tamis_version() / 10000, tamis_version() / 100 % 100, tamis_version() % 100);
    ck_assert_str_eq(tamis_version_string(), text);
}
END_TEST

/* Freeing nothing does nothing, nor does asking it; the thread's message stays. */
START_TEST(nothing_to_free)
{
    tamis_context *context = open_context();
    expect_fail(tamis_stream_synchronize(NULL, NULL), TAMIS_EINVAL, "context: is NULL");
    tamis_context_free(NULL);
    tamis_store_free(NULL);
    tamis_plan_free(NULL);
    tamis_memory_free(NULL, NULL);
    tamis_memory_free(context, NULL);
    tamis_stream_free(NULL, NULL);
    tamis_stream_free(context, NULL);
    ck_assert_uint_eq(tamis_plan_workspace_bytes(NULL), 0);
    ck_assert_int_eq(tamis_plan_capacity(NULL), 0);
    ck_assert_int_eq(tamis_plan_index_heads(NULL), 0);
    ck_assert_int_eq(tamis_plan_compact_heads(NULL), 0);
    ck_assert_str_eq(tamis_last_error(), "context: is NULL");
    tamis_context_free(context);
}
END_TEST

/* ---- contexts */

static const struct {
    int device, precision;
    const char *words;
} bad_contexts[] = {{-2, TAMIS_FP32, "options.device is -2: it must be a GPU's number or TAMIS_DEVICE_CPU"},
                    {INT_MIN, TAMIS_FP32, "options.device is -2147483648"},
                    {TAMIS_DEVICE_CPU, 2, "options.precision is 2: it must be TAMIS_FP32 or TAMIS_FP64"},
                    {TAMIS_DEVICE_CPU, -1, "options.precision is -1"}};

START_TEST(bad_context)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context = (tamis_context *)&options;
    options.device = bad_contexts[_i].device;
    options.precision = (tamis_precision)bad_contexts[_i].precision;
    expect_fail(tamis_context_create(&context, &options), TAMIS_EINVAL, bad_contexts[_i].words);
    ck_assert_ptr_null(context);
    expect_fail(tamis_context_create(NULL, &options), TAMIS_EINVAL, "out: is NULL");
}
END_TEST

/* No driver says so; a GPU number past all there are is no GPU, with or without a driver. */
START_TEST(no_such_gpu)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context = (tamis_context *)&options;
    options.device = INT_MAX;
    ck_assert_int_eq(tamis_context_create(&context, &options), TAMIS_ENODEVICE);
    ck_assert_ptr_null(context);
    ck_assert_str_ne(tamis_last_error(), "");
}
END_TEST

/* ---- structs that begin with their size */

struct longer_options {
    tamis_context_options options;
    char more[40];
};

START_TEST(size_of_options)
{
    struct longer_options longer = {TAMIS_CONTEXT_OPTIONS_INIT, {0}};
    tamis_context *context;
    longer.options.device = TAMIS_DEVICE_CPU;
    longer.options.struct_size = sizeof longer; /* a newer header's, its members not set */
    ck_assert_msg(tamis_context_create(&context, &longer.options) == TAMIS_OK, "%s", tamis_last_error());
    tamis_context_free(context);
    longer.more[39] = 1;
    expect_fail(tamis_context_create(&context, &longer.options), TAMIS_EINVAL, ", and a member is set that this libtamis ");
    ck_assert_ptr_null(context);
    longer.options.struct_size = sizeof longer.options; /* what lies behind it is not its */
    ck_assert_int_eq(tamis_context_create(&context, &longer.options), TAMIS_OK);
    tamis_context_free(context);
    static const size_t sizes[] = {0, 1, sizeof(tamis_context_options) - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        longer.options.struct_size = sizes[i];
        expect_fail(tamis_context_create(&context, &longer.options), TAMIS_EINVAL, "use TAMIS_CONTEXT_OPTIONS_INIT");
    }
    longer.options.struct_size = SIZE_MAX;
    expect_fail(tamis_context_create(&context, &longer.options), TAMIS_EINVAL, "which no version has");
}
END_TEST

struct longer_problem {
    tamis_problem problem;
    int64_t more[2];
};

START_TEST(size_of_problem)
{
    struct longer_problem longer = {small_problem(), {0}};
    tamis_context *context = open_context();
    tamis_plan *plan;
    longer.problem.struct_size = sizeof longer;
    ck_assert_msg(tamis_plan_create(&plan, context, NULL, &longer.problem) == TAMIS_OK, "%s", tamis_last_error());
    tamis_plan_free(plan);
    longer.more[0] = 1;
    expect_fail(tamis_plan_create(&plan, context, NULL, &longer.problem), TAMIS_EINVAL, "problem: struct_size is ");
    ck_assert_ptr_null(plan);
    longer.problem.struct_size = offsetof(tamis_problem, mask) - 1;
    expect_fail(tamis_plan_create(&plan, context, NULL, &longer.problem), TAMIS_EINVAL, "use TAMIS_PROBLEM_INIT");
    tamis_context_free(context);
}
END_TEST

/* The first version of the struct ended before the mask: what lies there is not its, and the attention is causal. */
START_TEST(problem_without_a_mask)
{
    tamis_context *context = open_context();
    tamis_problem problem = small_problem();
    tamis_plan *plan;
    char text[2048];
    problem.selection.policy = TAMIS_DENSE;
    problem.mask = TAMIS_FULL;
    ck_assert_msg(tamis_plan_create(&plan, context, NULL, &problem) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq(tamis_plan_describe(plan, text, sizeof text, NULL), TAMIS_OK);
    ck_assert_ptr_nonnull(strstr(text, ", not causal\n"));
    tamis_plan_free(plan);
    for (int value = -1; value <= 1; value++) {
        problem.struct_size = offsetof(tamis_problem, mask);
        problem.mask = (tamis_mask)value;
        ck_assert_msg(tamis_plan_create(&plan, context, NULL, &problem) == TAMIS_OK, "%s", tamis_last_error());
        ck_assert_int_eq(tamis_plan_describe(plan, text, sizeof text, NULL), TAMIS_OK);
        ck_assert_ptr_null(strstr(text, "causal"));
        tamis_plan_free(plan);
    }
    tamis_context_free(context);
}
END_TEST

/* ---- plans */

START_TEST(bad_plan)
{
    tamis_context *context = open_context(), gpu = {.device = 0, .backend = &tamisi_backend_gpu};
    tamis_problem problem = small_problem();
    tamis_plan *plan = (tamis_plan *)&problem;
    expect_fail(tamis_plan_create(NULL, context, NULL, &problem), TAMIS_EINVAL, "out: is NULL");
    expect_fail(tamis_plan_create(&plan, NULL, NULL, &problem), TAMIS_EINVAL, "context: is NULL");
    ck_assert_ptr_null(plan);
    expect_fail(tamis_plan_create(&plan, context, NULL, NULL), TAMIS_EINVAL, "problem: is NULL");
    expect_fail(tamis_plan_create(&plan, &gpu, NULL, &problem), TAMIS_EINVAL, "store: is NULL");
    const tamis_problem unset = TAMIS_PROBLEM_INIT; /* as INIT leaves it */
    expect_fail(tamis_plan_create(&plan, context, NULL, &unset), TAMIS_EINVAL, "q_heads is 0");
    problem.selection.window = 0;
    expect_fail(tamis_plan_create(&plan, context, NULL, &problem), TAMIS_EINVAL, "selection.window is 0");
    ck_assert_ptr_null(plan);
    tamis_context_free(context);
}
END_TEST

/* A plan has its own copy of the problem. */
START_TEST(plan_getters)
{
    static const int index_heads[] = {4, 2, 1}, compact_heads[] = {4, 2, 2};
    tamis_context *context = open_context();
    tamis_problem problem = small_problem();
    tamis_plan *plan;
    problem.selection.policy = TAMIS_COUNT;
    problem.selection.count = 100;
    problem.selection.scope = (tamis_scope)_i;
    ck_assert_int_eq(tamis_plan_create(&plan, context, NULL, &problem), TAMIS_OK);
    memset(&problem, 0xff, sizeof problem);
    ck_assert_int_eq(tamis_plan_capacity(plan), 132);
    ck_assert_int_eq(tamis_plan_index_heads(plan), index_heads[_i]);
    ck_assert_int_eq(tamis_plan_compact_heads(plan), compact_heads[_i]);
    ck_assert_uint_gt(tamis_plan_workspace_bytes(plan), 0);
    ck_assert_uint_eq(tamis_plan_workspace_bytes(plan) % 256, 0);
    tamis_plan_free(plan);
    tamis_context_free(context);
}
END_TEST

static const struct {
    tamis_policy policy;
    int seq_len;
    const char *line;
} descriptions[] = {
    {TAMIS_DENSE, 300, "policy: dense; every token is kept\n"},
    {TAMIS_COVERAGE, 300,
     "policy: coverage 0.2, scope head, window 32, pool 7, min_tokens 16; up to 300 tokens are kept\n"},
    {TAMIS_RATIO, 300, "policy: ratio 0.5, scope head, window 32, pool 7, min_tokens 16; 166 tokens are kept\n"},
    {TAMIS_COUNT, 300, "policy: count 100, scope head, window 32, pool 7, min_tokens 16; 132 tokens are kept\n"},
    {TAMIS_COUNT, 48, "policy: count 100, scope head, window 32, pool 7, min_tokens 16; every token is kept\n"}};

START_TEST(description)
{
    tamis_context *context = open_context();
    tamis_problem problem = small_problem();
    tamis_plan *plan;
    char whole[2048], cut[2048];
    size_t needed = 0;
    problem.seq_len = descriptions[_i].seq_len;
    problem.selection.policy = descriptions[_i].policy;
    problem.selection.ratio = 0.5;
    problem.selection.count = 100;
    ck_assert_int_eq(tamis_plan_create(&plan, context, NULL, &problem), TAMIS_OK);
    ck_assert_int_eq(tamis_plan_describe(plan, NULL, 0, &needed), TAMIS_OK);
    ck_assert_int_eq(tamis_plan_describe(plan, whole, sizeof whole, NULL), TAMIS_OK);
    ck_assert_uint_eq(needed, strlen(whole) + 1);
    ck_assert_msg(strstr(whole, descriptions[_i].line) != NULL, "%s", whole);
    ck_assert_ptr_nonnull(strstr(whole, "problem: bf16, batch 1, q_heads 4, kv_heads 2, head_dim 64, seq_len "));
    ck_assert_ptr_nonnull(strstr(whole, "device: CPU, 2 threads\n"));
    ck_assert_ptr_nonnull(strstr(whole, "\nworkspace: "));
    for (size_t size = 1; size <= needed + 1; size++) { /* cut anywhere, terminated, not a byte more */
        memset(cut, 'z', sizeof cut);
        ck_assert_int_eq(tamis_plan_describe(plan, cut, size, NULL), TAMIS_OK);
        const size_t kept = size < needed ? size - 1 : needed - 1;
        if (strlen(cut) != kept || memcmp(cut, whole, kept) != 0 || cut[kept + 1] != 'z') ck_abort_msg("size %zu", size);
    }
    needed = 77;
    expect_fail(tamis_plan_describe(NULL, cut, sizeof cut, &needed), TAMIS_EINVAL, "plan: is NULL");
    expect_fail(tamis_plan_describe(plan, NULL, 1, &needed), TAMIS_EINVAL, "buffer: is NULL");
    ck_assert_uint_eq(needed, 77);
    tamis_plan_free(plan);
    tamis_context_free(context);
}
END_TEST

/* ---- memory, streams, stores */

START_TEST(bad_memory)
{
    tamis_context *context = open_context();
    void *memory = context;
    char host[8] = "host", device[8] = "device";
    tamis_stream stream = (tamis_stream)(void *)host;
    expect_fail(tamis_memory_alloc(NULL, context, 1), TAMIS_EINVAL, "out: is NULL");
    expect_fail(tamis_memory_alloc(&memory, NULL, 1), TAMIS_EINVAL, "context: is NULL");
    ck_assert_ptr_null(memory);
    expect_fail(tamis_memory_alloc(&memory, context, 0), TAMIS_EINVAL, "bytes is 0");
    expect_fail(tamis_memory_alloc(&memory, context, SIZE_MAX), TAMIS_ENOMEM, "out of memory");
    expect_fail(tamis_memory_alloc(&memory, context, PTRDIFF_MAX), TAMIS_ENOMEM, "out of memory");
    expect_fail(tamis_memory_write(NULL, device, host, 1, NULL), TAMIS_EINVAL, "context: is NULL");
    expect_fail(tamis_memory_write(context, NULL, host, 1, NULL), TAMIS_EINVAL, "device: is NULL");
    expect_fail(tamis_memory_write(context, device, NULL, 1, NULL), TAMIS_EINVAL, "host: is NULL");
    expect_fail(tamis_memory_write(context, device, host, SIZE_MAX, NULL), TAMIS_EINVAL, "bytes is 18446744073709551615");
    expect_fail(tamis_memory_write(context, device, host, 1, stream), TAMIS_EINVAL, "stream: is not NULL");
    expect_fail(tamis_memory_read(NULL, host, device, 1, NULL), TAMIS_EINVAL, "context: is NULL");
    expect_fail(tamis_memory_read(context, NULL, device, 1, NULL), TAMIS_EINVAL, "host: is NULL");
    expect_fail(tamis_memory_read(context, host, NULL, 1, NULL), TAMIS_EINVAL, "device: is NULL");
    expect_fail(tamis_memory_read(context, host, device, SIZE_MAX, NULL), TAMIS_EINVAL, "bytes is 18446744073709551615");
    expect_fail(tamis_memory_read(context, host, device, 1, stream), TAMIS_EINVAL, "stream: is not NULL");
    ck_assert_str_eq(host, "host");
    ck_assert_str_eq(device, "device");
    ck_assert_int_eq(tamis_memory_write(context, NULL, NULL, 0, NULL), TAMIS_OK);
    ck_assert_int_eq(tamis_memory_read(context, NULL, NULL, 0, NULL), TAMIS_OK);
    ck_assert_str_eq(tamis_last_error(), ""); /* cleared by success */

    expect_fail(tamis_stream_create(NULL, context), TAMIS_EINVAL, "out: is NULL");
    expect_fail(tamis_stream_create(&stream, NULL), TAMIS_EINVAL, "context: is NULL");
    ck_assert_ptr_null(stream);
    expect_fail(tamis_stream_synchronize(context, (tamis_stream)(void *)host), TAMIS_EINVAL, "stream: is not NULL");
    tamis_context_free(context);
}
END_TEST

START_TEST(bad_store)
{
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;
    tamis_problem problem, before;
    tamis_store *store = (tamis_store *)&options;
    memset(&problem, 0x5a, sizeof problem); /* padding too: it is compared */
    memset(&before, 0x5a, sizeof before);
    expect_fail(tamis_store_open(NULL, "x", NULL), TAMIS_EINVAL, "out: is NULL");
    expect_fail(tamis_store_open(&store, "", NULL), TAMIS_EINVAL, "path: is empty");
    ck_assert_ptr_null(store);
    options.mode = (tamis_store_mode)3;
    expect_fail(tamis_store_open(&store, "x", &options), TAMIS_EINVAL, "mode 3");
    options.mode = (tamis_store_mode)-1;
    expect_fail(tamis_store_open(&store, "x", &options), TAMIS_EINVAL, "mode -1");
    options.struct_size = 0;
    expect_fail(tamis_store_open(&store, "x", &options), TAMIS_EINVAL, "struct_size is 0");
    options.struct_size = SIZE_MAX;
    expect_fail(tamis_store_open(&store, "x", &options), TAMIS_EINVAL, "which no version has");
    expect_fail(tamis_store_problem(NULL, store, NULL), TAMIS_EINVAL, "out: is NULL");
    expect_fail(tamis_store_problem(&problem, NULL, NULL), TAMIS_EINVAL, "store: is NULL");
    ck_assert_mem_eq(&problem, &before, sizeof problem);
}
END_TEST

/* ---- runs */

static void open_case(struct cpu_case *c, tamis_policy policy)
{
    *c = (struct cpu_case)CPU_CASE_INIT;
    c->problem = small_problem();
    c->problem.batch = 2;
    c->problem.selection.policy = policy;
    cpu_case_open(c);
    cpu_case_run(c);
}

/* Arguments of a case's inputs, with an output of its own. */
static tamis_run_args args_of(const struct cpu_case *c, uint16_t *output)
{
    const long long dim = c->problem.head_dim, head = c->problem.seq_len * dim;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = (tamis_tensor){c->q, c->problem.q_heads * head, head, dim};
    args.k = (tamis_tensor){c->k, c->problem.kv_heads * head, head, dim};
    args.v = (tamis_tensor){c->v, c->problem.kv_heads * head, head, dim};
    args.output = (tamis_tensor){output, c->problem.q_heads * head, head, dim};
    return args;
}

/* Each of the 16 choices of optional outputs, under a sparse and a dense plan: those asked for are as with all. */
START_TEST(optional_outputs)
{
    struct cpu_case c;
    open_case(&c, _i / 16 ? TAMIS_DENSE : TAMIS_COVERAGE);
    const size_t elements = cpu_case_elements(&c, c.problem.q_heads), rows = elements / (size_t)c.problem.head_dim;
    const size_t scores = (size_t)c.problem.batch * 4 * (size_t)c.candidates, lists = (size_t)c.problem.batch * 4;
    const size_t bytes = tamis_plan_workspace_bytes(c.plan);
    void *workspace = guarded_alloc(bytes);
    uint16_t *output = guarded_alloc(elements * sizeof *output);
    float *lse = guarded_alloc(rows * sizeof *lse), *score = guarded_alloc(scores * sizeof *score);
    int32_t *kept = guarded_alloc(2 * sizeof *kept), *indices = guarded_alloc(lists * (size_t)c.capacity * sizeof *indices);
    tamis_run_args args = args_of(&c, output);
    if (_i & 1) args.lse = lse;
    if (_i & 2) args.score = score;
    if (_i & 4) args.kept = kept;
    if (_i & 8) args.indices = indices;
    ck_assert_msg(tamis_run(c.plan, &args, workspace, bytes, NULL) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_mem_eq(output, c.output, elements * sizeof *output);
    if (_i & 1) ck_assert_mem_eq(lse, c.lse, rows * sizeof *lse);
    if (_i & 2) ck_assert_mem_eq(score, c.score, scores * sizeof *score);
    if (_i & 4) ck_assert_mem_eq(kept, c.kept, 2 * sizeof *kept);
    for (size_t list = 0; list < lists && (_i & 8); list++)
        ck_assert_mem_eq(indices + list * (size_t)c.capacity, c.indices + list * (size_t)c.capacity,
                         (size_t)c.kept[list / 4] * sizeof *indices);
    void *const used[] = {workspace, output, lse, score, kept, indices};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++) guarded_free(used[i]);
    cpu_case_close(&c);
}
END_TEST

/* With one workspace for all, and nothing but it, the operator runs; so it does with malloc refusing everything. */
START_TEST(running_allocates_nothing)
{
    struct cpu_case c;
    if (!alloc_counted()) return;
    open_case(&c, _i ? TAMIS_DENSE : TAMIS_COVERAGE);
    const size_t elements = cpu_case_elements(&c, c.problem.q_heads), bytes = tamis_plan_workspace_bytes(c.plan);
    uint16_t *output = guarded_alloc(elements * sizeof *output);
    void *workspace = guarded_alloc(bytes);
    const tamis_run_args args = args_of(&c, output);
    const long long before = alloc_count();
    alloc_refuse(0);
    const tamis_status status = tamis_run(c.plan, &args, workspace, bytes, NULL);
    alloc_refuse(-1);
    const long long after = alloc_count();
    ck_assert_int_eq(status, TAMIS_OK);
    ck_assert_int_eq(after, before);
    ck_assert_mem_eq(output, c.output, elements * sizeof *output);
    guarded_free(workspace);
    guarded_free(output);
    cpu_case_close(&c);
}
END_TEST

START_TEST(steps_allocate_nothing)
{
    struct cpu_case c;
    if (!alloc_counted()) return;
    open_case(&c, TAMIS_COVERAGE);
    const size_t elements = cpu_case_elements(&c, 4), bytes = tamis_plan_workspace_bytes(c.plan);
    void *work = guarded_alloc(bytes), *memory[6];
    for (size_t i = 0; i < 6; i++) memory[i] = guarded_alloc(elements * sizeof(uint16_t)); /* 300 * 64 / 2 floats a head */
    const tamis_run_args args = args_of(&c, memory[0]);
    tamis_tensor compact[4] = {args.output, args.output, args.output, args.output};
    for (size_t i = 0; i < 4; i++) compact[i].data = memory[1 + i];
    float *rank = memory[5], *mean = rank + 2 * 4 * 268;
    const long long before = alloc_count();
    alloc_refuse(0);
    const tamis_status statuses[] = {
        tamis_score(c.plan, &args.q, &args.k, c.score, rank, mean, work, bytes, NULL),
        tamis_select(c.plan, rank, mean, c.kept, c.indices, work, bytes, NULL),
        tamis_compress(c.plan, &args.q, &args.k, &args.v, c.kept, c.indices, &compact[0], &compact[1], &compact[2], work,
                       bytes, NULL),
        tamis_attend(c.plan, &compact[0], &compact[1], &compact[2], c.kept, &compact[3], NULL, work, bytes, NULL),
        tamis_decompress(c.plan, &compact[3], NULL, c.kept, c.indices, &args.output, NULL, work, bytes, NULL)};
    alloc_refuse(-1);
    const long long after = alloc_count();
    for (size_t i = 0; i < 5; i++) ck_assert_int_eq(statuses[i], TAMIS_OK);
    ck_assert_int_eq(after, before);
    ck_assert_mem_eq(memory[0], c.output, elements * sizeof(uint16_t));
    for (size_t i = 0; i < 6; i++) guarded_free(memory[i]);
    guarded_free(work);
    cpu_case_close(&c);
}
END_TEST

/* Every allocation on the way to a plan and its description, refused in turn: TAMIS_ENOMEM, no handle, nothing lost. */
START_TEST(out_of_memory)
{
    const tamis_problem problem = small_problem();
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    char text[2048];
    int refusals = 0, outcomes[2] = {0, 0};
    if (!alloc_counted()) return;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = 1;
    for (int passed = 0; refusals == passed; passed++) {
        tamis_context *context = NULL;
        tamis_plan *plan = NULL;
        alloc_refuse(passed);
        tamis_status status = tamis_context_create(&context, &options);
        if (status == TAMIS_OK) status = tamis_plan_create(&plan, context, NULL, &problem);
        if (status == TAMIS_OK) status = tamis_plan_describe(plan, text, sizeof text, NULL);
        alloc_refuse(-1);
        ck_assert_int_eq(plan == NULL && status == TAMIS_OK, 0);
        if (status != TAMIS_OK) {
            ck_assert_int_eq(status, TAMIS_ENOMEM);
            ck_assert_msg(strncmp(tamis_last_error(), "out of memory", 13) == 0, "%s", tamis_last_error());
            refusals++;
        }
        outcomes[0] += context == NULL;
        outcomes[1] += context != NULL && plan == NULL;
        tamis_plan_free(plan);
        tamis_context_free(context);
        ck_assert_int_lt(passed, 100);
    }
    ck_assert_int_ge(refusals, 4); /* context, its state and threads, plan, text */
    ck_assert_int_ge(outcomes[0], 2);
    ck_assert_int_ge(outcomes[1], 1);
}
END_TEST

Suite *api_suite(void)
{
    Suite *suite = suite_create("api");
    TCase *handles = tcase_create("handles"), *runs = tcase_create("runs");
    tcase_set_timeout(runs, 60);
    tcase_add_test(handles, version);
    tcase_add_test(handles, nothing_to_free);
    tcase_add_loop_test(handles, bad_context, 0, (int)(sizeof bad_contexts / sizeof *bad_contexts));
    tcase_add_test(handles, no_such_gpu);
    tcase_add_test(handles, size_of_options);
    tcase_add_test(handles, size_of_problem);
    tcase_add_test(handles, problem_without_a_mask);
    tcase_add_test(handles, bad_plan);
    tcase_add_loop_test(handles, plan_getters, 0, 3);
    tcase_add_loop_test(handles, description, 0, (int)(sizeof descriptions / sizeof *descriptions));
    tcase_add_test(handles, bad_memory);
    tcase_add_test(handles, bad_store);
    tcase_add_loop_test(runs, optional_outputs, 0, 32);
    tcase_add_loop_test(runs, running_allocates_nothing, 0, 2);
    tcase_add_test(runs, steps_allocate_nothing);
    tcase_add_test(runs, out_of_memory);
    suite_add_tcase(suite, handles);
    suite_add_tcase(suite, runs);
    suite_add_tcase(suite, api_args_case());
    return suite;
}
