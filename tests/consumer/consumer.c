/*
 * consumer.c: a host of the installed package, C11 and C++17: opens the store that the installed tool made of
 * consumer.yaml, plans for the CPU, runs, and compares with what the inputs were made to give.
 *
 * Each KV head has 40 marked tokens before the window, which all its queries like alike: logit 4, all other keys 0. So a
 * query head keeps just those and the window, and attention among them is a mean with weights e^4 and 1.
 */
#include <tamis.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY(call) ((call) == TAMIS_OK ? (void)0 : (fprintf(stderr, "%s: %s\n", #call, tamis_last_error()), exit(1)))
#define NEED(truth) ((truth) ? (void)0 : (fprintf(stderr, "consumer: not so: %s\n", #truth), exit(1)))

enum { Q_HEADS = 6, KV_HEADS = 2, DIM = 64, WINDOW = 16, COUNT = 40, TOKENS = 5 * COUNT + WINDOW, KEPT = COUNT + WINDOW };

static uint16_t q[Q_HEADS][TOKENS][DIM], k[KV_HEADS][TOKENS][DIM], v[KV_HEADS][TOKENS][DIM], output[Q_HEADS][TOKENS][DIM];
static int32_t kept, indices[Q_HEADS][KEPT];

static uint16_t bf16(float value) /* of numbers that it has exactly */
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static double number(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static int is_marked(int kv, int token) { return token < TOKENS - WINDOW && token % 5 == 1 + 2 * kv; }

static void make_inputs(void)
{
    int head, token, d;
    for (token = 0; token < TOKENS; token++) {
        for (head = 0; head < Q_HEADS; head++) q[head][token][head] = bf16(2);
        for (head = 0; head < KV_HEADS; head++) {
            for (d = 0; is_marked(head, token) && d < Q_HEADS; d++) k[head][token][d] = bf16(4);
            for (d = 0; d < DIM; d++) v[head][token][d] = bf16((float)((7 * token + 3 * d + 11 * head) % 32 - 12));
        }
    }
    memset(output, 0xff, sizeof output); /* not a number */
    memset(indices, 0xff, sizeof indices);
}

/* The store is the one that the tool made of consumer.yaml. */
static void check_problem(const tamis_problem *problem, tamis_store *store)
{
    tamis_problem other = TAMIS_PROBLEM_INIT;
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    int32_t layers;
    size_t count;
    NEED(problem->q_heads == Q_HEADS && problem->kv_heads == KV_HEADS && problem->head_dim == DIM);
    NEED(problem->dtype == TAMIS_BF16 && fabs(problem->scale - 0.5) < 1e-12);
    NEED(problem->selection.policy == TAMIS_COUNT && problem->selection.count == COUNT);
    NEED(problem->selection.window == WINDOW && problem->selection.pool == 1 && problem->selection.min_tokens == 0);
    NEED(tamis_store_layers(&layers, NULL, 0, &count, store, NULL) == TAMIS_OK && layers == 3 && count == 0);
    NEED(tamis_store_pattern(&pattern, store, NULL) == TAMIS_OK && pattern.kind == TAMIS_PATTERN_NONE);
    NEED(tamis_store_problem(&other, store, "another") == TAMIS_ENOTFOUND);
    NEED(strstr(tamis_last_error(), "consumer") != NULL);
}

/* Squares of the difference and of what is right are added up. */
static void check_head(int head, double squares[2])
{
    const int kv = head / (Q_HEADS / KV_HEADS);
    double sums[DIM] = {0}, total = 0;
    int at = 0, token, d;
    for (token = 0; token < TOKENS; token++) {
        const int wanted = is_marked(kv, token) || token >= TOKENS - WINDOW;
        const double weight = is_marked(kv, token) ? exp(4.0) : 1.0;
        if (wanted) NEED(indices[head][at] == token);
        at += wanted;
        total += wanted ? weight : 0;
        for (d = 0; d < DIM; d++) {
            if (!wanted) NEED(output[head][token][d] == 0);
            if (!wanted) continue;
            sums[d] += weight * number(v[kv][token][d]);
            squares[0] += pow(number(output[head][token][d]) - sums[d] / total, 2);
            squares[1] += pow(sums[d] / total, 2);
        }
    }
}

static void run(tamis_context *context, const tamis_plan *plan)
{
    const int64_t head = TOKENS * DIM;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    void *workspace;
    args.q.data = q, args.k.data = k, args.v.data = v, args.output.data = output; /* the CPU's memory is the host's */
    args.q.head_stride = args.k.head_stride = args.v.head_stride = args.output.head_stride = head;
    args.q.token_stride = args.k.token_stride = args.v.token_stride = args.output.token_stride = DIM;
    args.kept = &kept, args.indices = &indices[0][0];
    NEED(tamis_plan_capacity(plan) == KEPT && tamis_plan_index_heads(plan) == Q_HEADS);
    TRY(tamis_memory_alloc(&workspace, context, tamis_plan_workspace_bytes(plan) + 1));
    TRY(tamis_run(plan, &args, workspace, tamis_plan_workspace_bytes(plan), NULL));
    tamis_memory_free(context, workspace);
}

int main(int argc, char **argv)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_store_options store_options = TAMIS_STORE_OPTIONS_INIT;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    tamis_context *context;
    tamis_store *store;
    tamis_plan *plan;
    double squares[2] = {0, 0}, error;
    int head;

    if (argc != 2) return fprintf(stderr, "usage: %s STORE\n", argv[0]), 2;
    NEED(tamis_version() == TAMIS_VERSION_NUMBER);
    options.device = TAMIS_DEVICE_CPU;
    store_options.mode = TAMIS_STORE_READ;
    TRY(tamis_context_create(&context, &options));
    TRY(tamis_store_open(&store, argv[1], &store_options));
    TRY(tamis_store_problem(&problem, store, NULL));
    check_problem(&problem, store);
    problem.seq_len = TOKENS;
    TRY(tamis_plan_create(&plan, context, store, &problem));
    make_inputs();
    run(context, plan);
    NEED(kept == KEPT);
    for (head = 0; head < Q_HEADS; head++) check_head(head, squares);
    error = sqrt(squares[0] / squares[1]);
    NEED(error <= 4e-3);
    printf("right: tamis %s kept %d of %d tokens, relative error %.1e\n", tamis_version_string(), (int)kept, TOKENS, error);
    tamis_plan_free(plan), tamis_store_free(store), tamis_context_free(context);
    return 0;
}
