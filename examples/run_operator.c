/*
 * run_operator.c: the operator in one call. Opens a store, plans for a spec in it, runs on random data, and checks rows of
 * the result against attention computed here in double. Uses tamis.h alone.
 *
 *     run_operator STORE [SPEC [DEVICE]]    DEVICE: a GPU's number, or -1, the CPU; left out: GPU 0, else the CPU
 */
#include <tamis.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY(call) ((call) == TAMIS_OK ? (void)0 : (fprintf(stderr, "%s: %s\n", #call, tamis_last_error()), exit(1)))

static tamis_problem problem = TAMIS_PROBLEM_INIT;

static double number(uint16_t bf16) /* the upper half of a float */
{
    const uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

/* Squares of (row - reference) and of the reference added up. The row's token is the last of the `count` in `list`. */
static void compare_row(const uint16_t *row, const uint16_t *q, const uint16_t *k, const uint16_t *v, const int32_t *list,
                        int64_t count, double squares[2])
{
    const int dim = problem.head_dim;
    double sums[256] = {0}, total = 0;
    for (int64_t j = 0; j < count; j++) {
        double logit = 0;
        for (int d = 0; d < dim; d++) logit += number(q[list[count - 1] * dim + d]) * number(k[list[j] * dim + d]);
        const double weight = exp(logit * (problem.scale > 0 ? problem.scale : 1 / sqrt((double)dim)));
        total += weight;
        for (int d = 0; d < dim; d++) sums[d] += weight * number(v[list[j] * dim + d]);
    }
    for (int d = 0; d < dim; d++) squares[0] += pow(number(row[d]) - sums[d] / total, 2);
    for (int d = 0; d < dim; d++) squares[1] += pow(sums[d] / total, 2);
}

int main(int argc, char **argv)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context;
    tamis_store *store;
    tamis_plan *plan;
    void *device, *workspace;
    if (argc < 2) return fprintf(stderr, "usage: %s STORE [SPEC [DEVICE]]\n", argv[0]), 2;
    options.device = argc > 3 ? atoi(argv[3]) : 0;
    if (tamis_context_create(&context, &options) == TAMIS_ENODEVICE && argc <= 3) options.device = TAMIS_DEVICE_CPU;
    if (!context) TRY(tamis_context_create(&context, &options));
    TRY(tamis_store_open(&store, argv[1], NULL));
    TRY(tamis_store_problem(&problem, store, argc > 2 ? argv[2] : NULL)); /* heads, scale, what to keep */
    problem.dtype = TAMIS_BF16;
    problem.seq_len = problem.selection.min_tokens + problem.selection.window + 200;
    TRY(tamis_plan_create(&plan, context, store, &problem));

    /* One block of memory for q, k, v, output, kept and indices, random numbers of 0.5 to 2 and either sign at first. */
    const int64_t row = problem.head_dim, head = problem.seq_len * row, index_heads = tamis_plan_index_heads(plan);
    const int64_t q_size = problem.q_heads * head, kv_size = problem.kv_heads * head, capacity = tamis_plan_capacity(plan);
    const size_t bytes = (size_t)(2 * q_size + 2 * kv_size + 2 * (1 + index_heads * capacity)) * sizeof(uint16_t);
    uint16_t *q = (uint16_t *)malloc(bytes), *k = q + q_size, *v = k + kv_size, *output = v + kv_size;
    if (!q) return 1;
    for (size_t i = 0; i < bytes / sizeof *q; i++) q[i] = (uint16_t)((rand() & 1) << 15 | (0x3f00 + (rand() >> 5) % 256));
    TRY(tamis_memory_alloc(&device, context, bytes));
    TRY(tamis_memory_alloc(&workspace, context, tamis_plan_workspace_bytes(plan)));
    TRY(tamis_memory_write(context, device, q, bytes, NULL));
    uint16_t *at = (uint16_t *)device;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q.data = at, args.k.data = at += q_size, args.v.data = at += kv_size, args.output.data = at += kv_size;
    args.q.head_stride = args.k.head_stride = args.v.head_stride = args.output.head_stride = head; /* batch: 1 */
    args.q.token_stride = args.k.token_stride = args.v.token_stride = args.output.token_stride = row;
    args.kept = (int32_t *)(void *)(at + q_size), args.indices = args.kept + 1;
    TRY(tamis_run(plan, &args, workspace, tamis_plan_workspace_bytes(plan), NULL)); /* queued; reading waits for it */
    TRY(tamis_memory_read(context, q, device, bytes, NULL));
    const int32_t *kept = (const int32_t *)(const void *)(output + q_size);
    double squares[2] = {0, 0};
    int64_t rows = 0, wrong = 0;
    for (int64_t h = 0; h < problem.q_heads; h++) {
        const int64_t here = h * head, kv = h / (problem.q_heads / problem.kv_heads) * head;
        const int32_t *list = kept + 1 + h / (problem.q_heads / index_heads) * capacity, *next = list;
        for (int64_t token = 0; token < problem.seq_len; token++) {
            const uint16_t *out = output + here + token * row;
            if (next == list + *kept || *next != token) /* dropped: zero */
                for (int64_t d = 0; d < row; d++) wrong += out[d] != 0;
            else if (++next, (token + h) % 400 == 0) /* kept: some rows of each head */
                compare_row(out, q + here, k + kv, v + kv, list, next - list, squares), rows++;
        }
    }
    const double error = sqrt(squares[0] / squares[1]);
    const int right = error <= 4e-3 && rows > 0 && wrong == 0;
    printf("%s: device %d kept %d of %d tokens; relative error of %d rows: %.1e\n", right ? "right" : "WRONG",
           (int)options.device, (int)*kept, (int)problem.seq_len, (int)rows, error);
    free(q), tamis_memory_free(context, device), tamis_memory_free(context, workspace);
    tamis_plan_free(plan), tamis_store_free(store), tamis_context_free(context);
    return !right;
}
