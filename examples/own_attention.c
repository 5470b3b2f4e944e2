/*
 * own_attention.c: a host's own attention between tamis_compress and tamis_decompress. Here it is a plain loop in C, on the
 * CPU backend; on a GPU it would be the host's kernel on the same stream, reading kept[b] on the device. The result is
 * checked against tamis_run, which does all steps itself. Uses tamis.h alone, and needs no store.
 *
 *     own_attention
 */
#include <tamis.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, Q_HEADS = 8, KV_HEADS = 2, DIM = 64, LENGTH = 700 };

#define TRY(call) ((call) == TAMIS_OK ? (void)0 : (fprintf(stderr, "%s: %s\n", #call, tamis_last_error()), exit(1)))

static float number(uint16_t bf16) /* the upper half of a float */
{
    const uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t rounded(float value) /* to nearest, ties to even */
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A contiguous (BATCH, heads, rows, DIM) tensor of random numbers from 0.5 to 2 of either sign. */
static tamis_tensor make_tensor(tamis_context *context, int heads, int64_t rows)
{
    tamis_tensor tensor = {NULL, heads * rows * DIM, rows * DIM, DIM};
    TRY(tamis_memory_alloc(&tensor.data, context, (size_t)(BATCH * tensor.batch_stride) * sizeof(uint16_t)));
    uint16_t *data = (uint16_t *)tensor.data; /* on the CPU backend "device" memory is the host's */
    for (int64_t i = 0; i < BATCH * tensor.batch_stride; i++)
        data[i] = (uint16_t)((rand() & 1) << 15 | (0x3f00 + (rand() >> 5) % 256));
    return tensor;
}

static void *make_array(tamis_context *context, int64_t count)
{
    void *array;
    TRY(tamis_memory_alloc(&array, context, (size_t)count * sizeof(float)));
    return array;
}

static uint16_t *row_of(const tamis_tensor *tensor, int64_t sequence, int64_t head, int64_t row)
{
    uint16_t *data = (uint16_t *)tensor->data;
    return data + sequence * tensor->batch_stride + head * tensor->head_stride + row * tensor->token_stride;
}

/* The host's attention: row i of a head attends to the rows 0 .. i of its K and V. Returns log(sum of exp(logits)). */
static float own_row(uint16_t *out, const uint16_t *q, const uint16_t *k, const uint16_t *v, int64_t i)
{
    float logits[LENGTH], sums[DIM] = {0}, largest = -INFINITY, total = 0;
    for (int64_t j = 0; j <= i; j++) {
        logits[j] = 0;
        for (int d = 0; d < DIM; d++) logits[j] += number(q[d]) * number(k[j * DIM + d]);
        logits[j] /= sqrtf((float)DIM);
        largest = fmaxf(largest, logits[j]);
    }
    for (int64_t j = 0; j <= i; j++) {
        const float weight = expf(logits[j] - largest);
        total += weight;
        for (int d = 0; d < DIM; d++) sums[d] += weight * number(v[j * DIM + d]);
    }
    for (int d = 0; d < DIM; d++) out[d] = rounded(sums[d] / total);
    return largest + logf(total);
}

static void own_attention(const tamis_tensor *q, const tamis_tensor *k, const tamis_tensor *v, const int32_t *kept,
                          const tamis_tensor *output, float *lse, int heads_a_kv_head, int64_t capacity)
{
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t h = 0; h < Q_HEADS; h++)
            for (int64_t i = 0; i < kept[b]; i++)
                lse[(b * Q_HEADS + h) * capacity + i] =
                    own_row(row_of(output, b, h, i), row_of(q, b, h, i), row_of(k, b, h / heads_a_kv_head, 0),
                            row_of(v, b, h / heads_a_kv_head, 0), i);
}

/* Prints and returns whether the two results are one: dropped rows zero in both, kept ones equal but for rounding. */
static int same(const tamis_tensor *own, const tamis_tensor *whole, const float *own_lse, const float *lse,
                const int32_t *kept)
{
    double difference = 0, norm = 0, lse_difference = 0;
    int64_t mismatched = 0, kept_rows = 0;
    for (int64_t row = 0; row < (int64_t)BATCH * Q_HEADS * LENGTH; row++) {
        const uint16_t *a = (const uint16_t *)own->data + row * DIM, *b = (const uint16_t *)whole->data + row * DIM;
        const int dropped = isinf(lse[row]) != 0;
        mismatched += dropped != (isinf(own_lse[row]) != 0);
        kept_rows += !dropped;
        if (!dropped) lse_difference = fmax(lse_difference, fabs((double)(lse[row] - own_lse[row])));
        for (int d = 0; d < DIM; d++) {
            mismatched += dropped && (a[d] != 0 || b[d] != 0);
            difference += pow((double)(number(a[d]) - number(b[d])), 2);
            norm += pow((double)number(b[d]), 2);
        }
    }
    const double error = sqrt(difference / norm);
    const int right = mismatched == 0 && kept_rows == (int64_t)Q_HEADS * (kept[0] + kept[1]) && error <= 4e-3 &&
                      lse_difference <= 1e-4;
    printf("%s: kept %d and %d of %d tokens; relative difference %.1e, of log-sum-exps %.1e, mismatches %d\n",
           right ? "right" : "WRONG", (int)kept[0], (int)kept[1], (int)LENGTH, error, lse_difference, (int)mismatched);
    return right;
}

int main(void)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    tamis_context *context;
    tamis_plan *plan;
    options.device = TAMIS_DEVICE_CPU;
    problem.batch = BATCH;
    problem.q_heads = Q_HEADS;
    problem.kv_heads = KV_HEADS;
    problem.head_dim = DIM;
    problem.seq_len = LENGTH;
    problem.selection.policy = TAMIS_COVERAGE;
    problem.selection.coverage = 0.2;
    problem.selection.min_tokens = 64;
    problem.selection.scope = TAMIS_SCOPE_KV_GROUP; /* compact K and V have KV_HEADS heads */
    TRY(tamis_context_create(&context, &options));
    TRY(tamis_plan_create(&plan, context, NULL, &problem));

    const int64_t candidates = LENGTH - problem.selection.window, capacity = tamis_plan_capacity(plan);
    const int index_heads = tamis_plan_index_heads(plan), compact_heads = tamis_plan_compact_heads(plan);
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    void *workspace;
    TRY(tamis_memory_alloc(&workspace, context, bytes));
    const tamis_tensor q = make_tensor(context, Q_HEADS, LENGTH), k = make_tensor(context, KV_HEADS, LENGTH);
    const tamis_tensor v = make_tensor(context, KV_HEADS, LENGTH), output = make_tensor(context, Q_HEADS, LENGTH);
    const tamis_tensor whole = make_tensor(context, Q_HEADS, LENGTH);
    const tamis_tensor compact_q = make_tensor(context, Q_HEADS, capacity);
    const tamis_tensor compact_k = make_tensor(context, compact_heads, capacity);
    const tamis_tensor compact_v = make_tensor(context, compact_heads, capacity);
    const tamis_tensor compact_output = make_tensor(context, Q_HEADS, capacity);
    float *score = (float *)make_array(context, (int64_t)BATCH * Q_HEADS * candidates);
    float *rank = (float *)make_array(context, BATCH * index_heads * candidates);
    float *mean = (float *)make_array(context, BATCH * candidates);
    float *compact_lse = (float *)make_array(context, BATCH * Q_HEADS * capacity);
    float *lse = (float *)make_array(context, (int64_t)BATCH * Q_HEADS * LENGTH);
    float *whole_lse = (float *)make_array(context, (int64_t)BATCH * Q_HEADS * LENGTH);
    int32_t *kept = (int32_t *)make_array(context, BATCH);
    int32_t *indices = (int32_t *)make_array(context, BATCH * index_heads * capacity);

    /* The steps. A host with tensor-parallel ranks would average `mean` over them between the first two. */
    TRY(tamis_score(plan, &q, &k, score, rank, mean, workspace, bytes, NULL));
    TRY(tamis_select(plan, rank, mean, kept, indices, workspace, bytes, NULL));
    TRY(tamis_compress(plan, &q, &k, &v, kept, indices, &compact_q, &compact_k, &compact_v, workspace, bytes, NULL));
    own_attention(&compact_q, &compact_k, &compact_v, kept, &compact_output, compact_lse, Q_HEADS / compact_heads,
                  capacity);
    TRY(tamis_decompress(plan, &compact_output, compact_lse, kept, indices, &output, lse, workspace, bytes, NULL));

    /* The same in one call. */
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = q;
    args.k = k;
    args.v = v;
    args.output = whole;
    args.lse = whole_lse;
    TRY(tamis_run(plan, &args, workspace, bytes, NULL));

    const int right = same(&output, &whole, lse, whole_lse, kept);
    void *const used[] = {workspace,      q.data,         k.data,         v.data,
                          output.data,    whole.data,     compact_q.data, compact_k.data,
                          compact_v.data, compact_output.data, score,     rank,
                          mean,           compact_lse,    lse,            whole_lse,
                          kept,           indices};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++) tamis_memory_free(context, used[i]);
    tamis_plan_free(plan);
    tamis_context_free(context);
    return !right;
}
