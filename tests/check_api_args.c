/*
 * check_api_args.c: every argument of every function that runs a plan, made wrong in every way that has a name: the status,
 * the argument's name in the message, and that nothing was written. The list of faults is made from a description of each
 * function, so that no argument is forgotten. Other functions' arguments are in check_api.c.
 */
#include "tamis.h"

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

TCase *api_args_case(void);

enum { BATCH = 2, Q_HEADS = 4, KV_HEADS = 2, DIM = 64, LENGTH = 100, WINDOW = 32 };

enum tensor { Q, K, V, COMPACT_Q, COMPACT_K, COMPACT_V, COMPACT_OUTPUT, OUTPUT, TENSORS };
enum array { SCORE, RANK, MEAN, KEPT, INDICES, COMPACT_LSE, LSE, ARRAYS };
enum function { RUN, STEP_SCORE, STEP_SELECT, STEP_COMPRESS, STEP_ATTEND, STEP_DECOMPRESS, FUNCTIONS };

/* The arguments of any of the functions. */
struct call {
    const tamis_plan *plan;
    tamis_tensor tensors[TENSORS];
    bool no_tensor[TENSORS]; /* pass NULL for the struct */
    void *arrays[ARRAYS];
    bool no_args;
    size_t struct_size;
    void *workspace;
    size_t workspace_bytes;
    tamis_stream stream;
};

/* All memory a call may touch, in slots of one size, so that what begins in one slot ends in it. */
struct world {
    tamis_context *context;
    tamis_plan *plan;
    size_t slot_bytes, bytes;
    char *memory, *before;
    struct call good;
};

/* What a function takes. */
struct argument {
    int index;
    const char *name;
    bool written, optional;
};

static const struct {
    const char *name;
    struct argument tensors[7]; /* up to the first without a name */
    struct argument arrays[5];
} functions[FUNCTIONS] = {
    [RUN] = {"run",
             {{Q, "args.q", 0, 0}, {K, "args.k", 0, 0}, {V, "args.v", 0, 0}, {OUTPUT, "args.output", 1, 0}},
             {{LSE, "args.lse", 1, 1},
              {SCORE, "args.score", 1, 1},
              {KEPT, "args.kept", 1, 1},
              {INDICES, "args.indices", 1, 1}}},
    [STEP_SCORE] = {"score",
                    {{Q, "q", 0, 0}, {K, "k", 0, 0}},
                    {{SCORE, "score", 1, 0}, {RANK, "rank", 1, 0}, {MEAN, "mean", 1, 0}}},
    [STEP_SELECT] = {"select",
                     {{0, NULL, 0, 0}},
                     {{RANK, "rank", 0, 0}, {MEAN, "mean", 0, 0}, {KEPT, "kept", 1, 0}, {INDICES, "indices", 1, 0}}},
    [STEP_COMPRESS] = {"compress",
                       {{Q, "q", 0, 0},
                        {K, "k", 0, 0},
                        {V, "v", 0, 0},
                        {COMPACT_Q, "compact_q", 1, 0},
                        {COMPACT_K, "compact_k", 1, 0},
                        {COMPACT_V, "compact_v", 1, 0}},
                       {{KEPT, "kept", 0, 0}, {INDICES, "indices", 0, 0}}},
    [STEP_ATTEND] = {"attend",
                     {{COMPACT_Q, "compact_q", 0, 0},
                      {COMPACT_K, "compact_k", 0, 0},
                      {COMPACT_V, "compact_v", 0, 0},
                      {COMPACT_OUTPUT, "compact_output", 1, 0}},
                     {{KEPT, "kept", 0, 0}, {COMPACT_LSE, "compact_lse", 1, 1}}},
    [STEP_DECOMPRESS] = {"decompress",
                         {{COMPACT_OUTPUT, "compact_output", 0, 0}, {OUTPUT, "output", 1, 0}},
                         {{KEPT, "kept", 0, 0},
                          {INDICES, "indices", 0, 0},
                          {COMPACT_LSE, "compact_lse", 0, 0}, /* optional with lse only */
                          {LSE, "lse", 1, 0}}},
};

static const tamis_tensor *tensor_of(const struct call *c, enum tensor tensor)
{
    return c->no_tensor[tensor] ? NULL : &c->tensors[tensor];
}

static tamis_status call_run(const struct call *c)
{
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.struct_size = c->struct_size;
    args.q = c->tensors[Q];
    args.k = c->tensors[K];
    args.v = c->tensors[V];
    args.output = c->tensors[OUTPUT];
    args.lse = c->arrays[LSE];
    args.score = c->arrays[SCORE];
    args.kept = c->arrays[KEPT];
    args.indices = c->arrays[INDICES];
    return tamis_run(c->plan, c->no_args ? NULL : &args, c->workspace, c->workspace_bytes, c->stream);
}

static tamis_status call(enum function function, const struct call *c)
{
    void *work = c->workspace;
    const size_t bytes = c->workspace_bytes;
    switch (function) {
    case RUN: return call_run(c);
    case STEP_SCORE:
        return tamis_score(c->plan, tensor_of(c, Q), tensor_of(c, K), c->arrays[SCORE], c->arrays[RANK], c->arrays[MEAN],
                           work, bytes, c->stream);
    case STEP_SELECT:
        return tamis_select(c->plan, c->arrays[RANK], c->arrays[MEAN], c->arrays[KEPT], c->arrays[INDICES], work, bytes,
                            c->stream);
    case STEP_COMPRESS:
        return tamis_compress(c->plan, tensor_of(c, Q), tensor_of(c, K), tensor_of(c, V), c->arrays[KEPT],
                              c->arrays[INDICES], tensor_of(c, COMPACT_Q), tensor_of(c, COMPACT_K), tensor_of(c, COMPACT_V),
                              work, bytes, c->stream);
    case STEP_ATTEND:
        return tamis_attend(c->plan, tensor_of(c, COMPACT_Q), tensor_of(c, COMPACT_K), tensor_of(c, COMPACT_V),
                            c->arrays[KEPT], tensor_of(c, COMPACT_OUTPUT), c->arrays[COMPACT_LSE], work, bytes, c->stream);
    case STEP_DECOMPRESS:
        return tamis_decompress(c->plan, tensor_of(c, COMPACT_OUTPUT), c->arrays[COMPACT_LSE], c->arrays[KEPT],
                                c->arrays[INDICES], tensor_of(c, OUTPUT), c->arrays[LSE], work, bytes, c->stream);
    case FUNCTIONS: break;
    }
    return TAMIS_EUNSUPPORTED;
}

/* ---- the world */

static void open_plan(struct world *w)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = 1;
    problem.batch = BATCH;
    problem.q_heads = Q_HEADS;
    problem.kv_heads = KV_HEADS;
    problem.head_dim = DIM;
    problem.seq_len = LENGTH;
    problem.selection = (tamis_selection){TAMIS_COVERAGE, TAMIS_SCOPE_HEAD, WINDOW, 7, 8, 0.2, 1.0, 0};
    ck_assert_msg(tamis_context_create(&w->context, &options) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_msg(tamis_plan_create(&w->plan, w->context, NULL, &problem) == TAMIS_OK, "%s", tamis_last_error());
}

/* Every argument good; every output filled by running all functions once. */
static void world_open(struct world *w)
{
    open_plan(w);
    const size_t workspace = tamis_plan_workspace_bytes(w->plan), tensor = (size_t)BATCH * Q_HEADS * LENGTH * DIM * 2;
    w->slot_bytes = ((workspace > tensor ? workspace : tensor) + 511) / 256 * 256;
    w->bytes = w->slot_bytes * (TENSORS + ARRAYS + 1);
    w->memory = aligned_alloc(256, w->bytes);
    w->before = malloc(w->bytes);
    ck_assert(w->memory && w->before);
    for (size_t i = 0; i < w->bytes; i++) w->memory[i] = (char)(i % 64 * 2 % 61); /* small numbers of either type */

    const int heads[TENSORS] = {Q_HEADS, KV_HEADS, KV_HEADS, Q_HEADS, Q_HEADS, Q_HEADS, Q_HEADS, Q_HEADS};
    char *slot = w->memory;
    w->good = (struct call){.plan = w->plan, .struct_size = sizeof(tamis_run_args), .workspace_bytes = workspace};
    for (int i = 0; i < TENSORS; i++, slot += w->slot_bytes)
        w->good.tensors[i] = (tamis_tensor){slot, heads[i] * LENGTH * DIM, LENGTH * DIM, DIM};
    for (int i = 0; i < ARRAYS; i++, slot += w->slot_bytes) w->good.arrays[i] = slot;
    w->good.workspace = slot;
    static const enum function order[] = {RUN, STEP_SCORE, STEP_SELECT, STEP_COMPRESS, STEP_ATTEND, STEP_DECOMPRESS};
    for (int i = 0; i < FUNCTIONS; i++)
        ck_assert_msg(call(order[i], &w->good) == TAMIS_OK, "%s: %s", functions[order[i]].name, tamis_last_error());
    memcpy(w->before, w->memory, w->bytes);
}

static void world_close(struct world *w)
{
    tamis_plan_free(w->plan);
    tamis_context_free(w->context);
    free(w->memory);
    free(w->before);
}

/* The call fails, for an argument of this name, in these words, and without a byte written. */
static void expect(struct world *w, enum function function, const struct call *c, tamis_status status, const char *name,
                   const char *words)
{
    const char *const who = functions[function].name;
    const tamis_status found = call(function, c);
    if (found != status) ck_abort_msg("%s, %s %s: %s (%s)", who, name, words, tamis_status_name(found), tamis_last_error());
    if (strncmp(tamis_last_error(), name, strlen(name)) != 0 || !strstr(tamis_last_error(), words))
        ck_abort_msg("%s: \"%s\", not \"%s...%s\"", who, tamis_last_error(), name, words);
    if (memcmp(w->memory, w->before, w->bytes) != 0) ck_abort_msg("%s, %s %s: memory was written", who, name, words);
}

/* ---- tensors */

static const struct tensor_fault {
    int64_t batch_stride, head_stride, token_stride; /* put in place of the good ones unless 1 */
    long data_shift;
    bool null_data;
    bool only_written;
    const char *words;
} tensor_faults[] = {
    {1, 1, 1, 0, true, false, ".data: is NULL"},
    {1, 1, 1, 8, false, false, ".data: is not aligned to 16 bytes"},
    {1, 1, 1, 1, false, false, ".data: is not aligned to 16 bytes"},
    {-8, 1, 1, 0, false, false, ".batch_stride is -8: it must not be negative"},
    {1, -8, 1, 0, false, false, ".head_stride is -8: it must not be negative"},
    {1, 1, -64, 0, false, false, ".token_stride is -64: it must not be negative"},
    {INT64_MIN, 1, 1, 0, false, false, ".batch_stride is -9223372036854775808"},
    {Q_HEADS * LENGTH * DIM + 4, 1, 1, 0, false, false, ".batch_stride is 25604: it must be a multiple of 8"},
    {1, LENGTH * DIM + 1, 1, 0, false, false, ".head_stride is 6401: it must be a multiple of 8"},
    {1, 1, DIM + 4, 0, false, false, ".token_stride is 68: it must be a multiple of 8"},
    {1, 1, 0, 0, false, false, ".token_stride is 0: it must be at least head_dim, 64"},
    {1, 1, DIM - 8, 0, false, false, ".token_stride is 56: it must be at least head_dim, 64"},
    {INT64_MAX - 7, 1, 1, 0, false, false, ": its strides lead past 2^63 bytes"},
    {1, INT64_MAX - 7, 1, 0, false, false, ": its strides lead past 2^63 bytes"},
    {1, 1, INT64_MAX - 7, 0, false, false, ": its strides lead past 2^63 bytes"},
    {1ll << 62, 1, 1, 0, false, false, ": its strides lead past 2^63 bytes"},      /* fits in elements, not in bytes */
    {0, 1, 1, 0, false, true, ": its strides put several rows in one place"},
    {1, 0, 1, 0, false, true, ": its strides put several rows in one place"},
    {LENGTH * DIM, 1, 1, 0, false, true, ": its strides put several rows in one place"},
    {1, 1, DIM + 8, 0, false, true, ": its strides put several rows in one place"},
};

static void spoil_tensor(tamis_tensor *tensor, const struct tensor_fault *fault)
{
    if (fault->batch_stride != 1) tensor->batch_stride = fault->batch_stride;
    if (fault->head_stride != 1) tensor->head_stride = fault->head_stride;
    if (fault->token_stride != 1) tensor->token_stride = fault->token_stride;
    tensor->data = fault->null_data ? NULL : (char *)tensor->data + fault->data_shift;
}

START_TEST(tensors)
{
    struct world w;
    world_open(&w);
    for (const struct argument *a = functions[_i].tensors; a->name; a++) {
        struct call bad = w.good;
        if (_i != RUN) {
            bad.no_tensor[a->index] = true;
            expect(&w, (enum function)_i, &bad, TAMIS_EINVAL, a->name, ": is NULL");
        }
        for (size_t f = 0; f < sizeof tensor_faults / sizeof *tensor_faults; f++) {
            if (tensor_faults[f].only_written && !a->written) continue;
            bad = w.good;
            spoil_tensor(&bad.tensors[a->index], &tensor_faults[f]);
            expect(&w, (enum function)_i, &bad, TAMIS_EINVAL, a->name, tensor_faults[f].words);
        }
        bad = w.good; /* a good shape that begins too near the end of all addresses */
        bad.tensors[a->index].data = (void *)(UINTPTR_MAX - 0xfff);
        expect(&w, (enum function)_i, &bad, TAMIS_EINVAL, a->name, "pass the end of the address space");
    }
    world_close(&w);
}
END_TEST

/* ---- arrays and all else */

START_TEST(arrays)
{
    struct world w;
    world_open(&w);
    for (const struct argument *a = functions[_i].arrays; a->name; a++) {
        struct call bad = w.good;
        bad.arrays[a->index] = NULL;
        if (!a->optional) expect(&w, (enum function)_i, &bad, TAMIS_EINVAL, a->name, ": is NULL");
        bad.arrays[a->index] = (char *)w.good.arrays[a->index] + 2;
        expect(&w, (enum function)_i, &bad, TAMIS_EINVAL, a->name, ": is not aligned to 4 bytes");
        bad.arrays[a->index] = (void *)(UINTPTR_MAX - 3);
        expect(&w, (enum function)_i, &bad, TAMIS_EINVAL, a->name, "pass the end of the address space");
    }
    world_close(&w);
}
END_TEST

START_TEST(plan_stream_and_workspace)
{
    struct world w;
    struct call bad;
    const enum function function = (enum function)_i;
    world_open(&w);
    bad = w.good;
    bad.plan = NULL;
    expect(&w, function, &bad, TAMIS_EINVAL, "plan", ": is NULL");
    bad = w.good;
    bad.stream = (tamis_stream)(void *)w.memory;
    expect(&w, function, &bad, TAMIS_EINVAL, "stream", ": is not NULL, and the CPU backend has no streams");
    bad = w.good;
    bad.workspace_bytes--;
    expect(&w, function, &bad, TAMIS_EWORKSPACE, "workspace_bytes is ", ": the plan needs ");
    bad.workspace_bytes = 0;
    expect(&w, function, &bad, TAMIS_EWORKSPACE, "workspace_bytes is 0", ": the plan needs ");
    bad.workspace = NULL;
    expect(&w, function, &bad, TAMIS_EWORKSPACE, "workspace_bytes is 0", ": the plan needs ");
    bad.workspace_bytes = w.good.workspace_bytes;
    expect(&w, function, &bad, TAMIS_EINVAL, "workspace", ": is NULL, the plan needs ");
    bad.workspace = (char *)w.good.workspace + 128;
    expect(&w, function, &bad, TAMIS_EINVAL, "workspace", ": is not aligned to 256 bytes");
    bad.workspace = (void *)(UINTPTR_MAX - 255);
    expect(&w, function, &bad, TAMIS_EINVAL, "workspace", "pass the end of the address space");
    world_close(&w);
}
END_TEST

START_TEST(run_args_struct)
{
    static const struct {
        size_t size;
        const char *words;
    } sizes[] = {{0, "struct_size is 0, at least"},
                 {offsetof(tamis_run_args, blocks) - 1, "use TAMIS_RUN_ARGS_INIT"},
                 {SIZE_MAX, "which no version has"}};
    struct world w;
    world_open(&w);
    struct call bad = w.good;
    bad.no_args = true;
    expect(&w, RUN, &bad, TAMIS_EINVAL, "args", ": is NULL");
    bad.no_args = false;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bad.struct_size = sizes[i].size;
        expect(&w, RUN, &bad, TAMIS_EINVAL, "args: ", sizes[i].words);
    }
    world_close(&w);
}
END_TEST

/* What goes together is given together. */
START_TEST(given_together)
{
    struct world w;
    world_open(&w);
    struct call fine = w.good;
    fine.no_tensor[Q] = fine.no_tensor[COMPACT_Q] = true;
    ck_assert_int_eq(call(STEP_COMPRESS, &fine), TAMIS_OK);
    fine = w.good;
    fine.arrays[COMPACT_LSE] = fine.arrays[LSE] = NULL;
    ck_assert_int_eq(call(STEP_DECOMPRESS, &fine), TAMIS_OK);
    fine.tensors[Q].batch_stride = fine.tensors[Q].head_stride = 0; /* inputs may share rows */
    ck_assert_int_eq(call(STEP_SCORE, &fine), TAMIS_OK);
    world_close(&w);
}
END_TEST

/* ---- overlap */

/* All arguments of a function as one list: tensors, arrays, the workspace. */
struct place {
    const char *name;
    void **data; /* in a call */
    bool written;
};

static int places_of(struct place *places, enum function function, struct call *c)
{
    int count = 0;
    for (const struct argument *a = functions[function].tensors; a->name; a++)
        places[count++] = (struct place){a->name, &c->tensors[a->index].data, a->written};
    for (const struct argument *a = functions[function].arrays; a->name; a++)
        places[count++] = (struct place){a->name, &c->arrays[a->index], a->written};
    places[count++] = (struct place){"workspace", &c->workspace, true};
    return count;
}

START_TEST(written_over_another)
{
    struct world w;
    world_open(&w);
    struct call bad = w.good;
    struct place places[16];
    const int count = places_of(places, (enum function)_i, &bad);
    int pairs = 0;
    for (int a = 0; a < count; a++)
        for (int b = 0; b < count; b++) {
            if (a == b || !places[a].written) continue;
            void *const own = *places[a].data;
            *places[a].data = *places[b].data;
            /* The one that is written is named first; of two, either. */
            const bool a_first = strncmp((call((enum function)_i, &bad), tamis_last_error()), places[a].name,
                                         strlen(places[a].name)) == 0;
            expect(&w, (enum function)_i, &bad, TAMIS_EINVAL,
                   a_first || !places[b].written ? places[a].name : places[b].name, ": overlaps ");
            ck_assert_ptr_nonnull(strstr(tamis_last_error(), places[b].name));
            *places[a].data = own;
            pairs++;
        }
    ck_assert_int_ge(pairs, count - 1); /* the workspace alone makes so many */
    ck_assert_int_eq(call((enum function)_i, &bad), TAMIS_OK); /* all are back in place */
    world_close(&w);
}
END_TEST

/* Inputs may be one memory, and neighbours may touch. */
START_TEST(what_is_no_overlap)
{
    struct world w;
    world_open(&w);
    struct call fine = w.good;
    fine.tensors[V].data = fine.tensors[K].data;
    ck_assert_msg(call(RUN, &fine) == TAMIS_OK, "%s", tamis_last_error());
    const size_t bytes = (size_t)BATCH * KV_HEADS * LENGTH * DIM * 2;
    fine.tensors[OUTPUT].data = (char *)fine.tensors[K].data + bytes; /* the slot of V, no longer used */
    ck_assert_msg(call(RUN, &fine) == TAMIS_OK, "%s", tamis_last_error());
    fine.tensors[OUTPUT].data = (char *)fine.tensors[OUTPUT].data - 16;
    ck_assert_int_eq(call(RUN, &fine), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "args.output: overlaps args.k");
    world_close(&w);
}
END_TEST

/* Q, K, V and the output as parts of each token of one (B, L, 12, D) buffer, or of each sequence of a (B, 12, L, D) one, give
   what separate ones do. */
START_TEST(one_buffer_for_all)
{
    enum { PARTS = Q_HEADS + KV_HEADS + KV_HEADS + Q_HEADS, SEQUENCE = PARTS * LENGTH * DIM };
    static const enum tensor order[] = {Q, K, V, OUTPUT};
    static const int heads[] = {Q_HEADS, KV_HEADS, KV_HEADS, Q_HEADS};
    const int by_token = _i == 0, head_stride = by_token ? DIM : LENGTH * DIM, token_stride = by_token ? PARTS * DIM : DIM;
    struct world w;
    world_open(&w);
    uint16_t *buffer = aligned_alloc(256, ((size_t)BATCH * SEQUENCE * 2 + 255) / 256 * 256);
    ck_assert_ptr_nonnull(buffer);
    struct call fused = w.good;
    uint16_t *part = buffer;
    for (int p = 0; p < 4; p++, part += heads[p - 1] * head_stride) {
        const tamis_tensor *from = &w.good.tensors[order[p]];
        fused.tensors[order[p]] = (tamis_tensor){part, SEQUENCE, head_stride, token_stride};
        for (int row = 0; row < BATCH * heads[p] * LENGTH; row++) {
            const int token = row % LENGTH, head = row / LENGTH % heads[p], sequence = row / LENGTH / heads[p];
            memcpy(part + (long)sequence * SEQUENCE + token * token_stride + head * head_stride,
                   (uint16_t *)from->data + (long)row * DIM, p < 3 ? DIM * 2 : 0);
        }
    }
    ck_assert_int_eq(call(RUN, &w.good), TAMIS_OK);
    ck_assert_msg(call(RUN, &fused) == TAMIS_OK, "%s", tamis_last_error());
    const uint16_t *separate = w.good.tensors[OUTPUT].data, *within = fused.tensors[OUTPUT].data;
    for (int row = 0; row < BATCH * Q_HEADS * LENGTH; row++) {
        const int token = row % LENGTH, head = row / LENGTH % Q_HEADS, sequence = row / LENGTH / Q_HEADS;
        ck_assert_mem_eq(within + (long)sequence * SEQUENCE + token * token_stride + head * head_stride,
                         separate + (long)row * DIM, DIM * 2);
    }

    fused.tensors[OUTPUT].data = (uint16_t *)fused.tensors[OUTPUT].data - DIM; /* where V ends */
    ck_assert_int_eq(call(RUN, &fused), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "args.output: overlaps args.v");
    fused.tensors[OUTPUT].data = (uint16_t *)fused.tensors[OUTPUT].data + 2 * DIM; /* its last is the next one's Q */
    ck_assert_int_eq(call(RUN, &fused), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "args.output: overlaps args.q");
    fused.tensors[OUTPUT].data = (uint16_t *)fused.tensors[OUTPUT].data - DIM; /* as it was, but for the second sequence */
    fused.tensors[OUTPUT].batch_stride += 8;
    ck_assert_int_eq(call(RUN, &fused), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), "args.output: overlaps args.q");
    free(buffer);
    world_close(&w);
}
END_TEST

TCase *api_args_case(void)
{
    TCase *args = tcase_create("args");
    tcase_set_timeout(args, 120);
    tcase_add_loop_test(args, tensors, 0, FUNCTIONS);
    tcase_add_loop_test(args, arrays, 0, FUNCTIONS);
    tcase_add_loop_test(args, plan_stream_and_workspace, 0, FUNCTIONS);
    tcase_add_test(args, run_args_struct);
    tcase_add_test(args, given_together);
    tcase_add_loop_test(args, written_over_another, 0, FUNCTIONS);
    tcase_add_test(args, what_is_no_overlap);
    tcase_add_loop_test(args, one_buffer_for_all, 0, 2);
    return args;
}
