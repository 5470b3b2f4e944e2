/*
 * two_ranks.c: the operator under tensor parallelism: two ranks hold half of the heads each, and agree on how many tokens to
 * keep by averaging `mean` between tamis_score and tamis_select. Here both are in one process, on the CPU backend, and the
 * all-reduce is a loop; on GPUs it would be the host's own, on the same stream. Uses tamis.h alone, and needs no store.
 *
 * The result is checked against one plan with all heads. A head's score, list and attention depend on no other head: given
 * one count they are equal to the bit. The count follows from the head mean. Both ranks select by the same averaged bits, so
 * they always agree with each other. One plan rounds its mean once, the ranks round theirs and then the average: these differ
 * by some 1e-7 of a value, and the counts only where the sum of dropped scores passes the coverage within that distance; there
 * the definition leaves it open. With these inputs it does not. (Under TAMIS_SCOPE_LAYER `rank` is a mean too: average it.)
 */
#include <tamis.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 2, BATCH = 2, Q_HEADS = 8, KV_HEADS = 4, DIM = 64, LENGTH = 600, WINDOW = 32, CANDIDATES = LENGTH - WINDOW };

#define TRY(call) ((call) == TAMIS_OK ? (void)0 : (fprintf(stderr, "%s: %s\n", #call, tamis_last_error()), exit(1)))

static tamis_context *context;
static void *used[64];
static int used_count;

/* On the CPU backend "device" memory is the host's. All of it goes at the end. */
static void *make_array(int64_t bytes)
{
    if (used_count == (int)(sizeof used / sizeof *used)) exit(1);
    TRY(tamis_memory_alloc(&used[used_count], context, (size_t)bytes));
    return used[used_count++];
}

/* A contiguous (BATCH, heads, rows, DIM) tensor of bf16 from 0.5 to 2 of either sign. */
static tamis_tensor make_tensor(int heads, int64_t rows)
{
    static uint32_t state = 1;
    const tamis_tensor tensor = {make_array(BATCH * heads * rows * DIM * 2), heads * rows * DIM, rows * DIM, DIM};
    for (int64_t i = 0; i < BATCH * tensor.batch_stride; i++) {
        state = state * 1664525u + 1013904223u;
        ((uint16_t *)tensor.data)[i] = (uint16_t)((state >> 31) << 15 | (0x3f00 + (state >> 16) % 256));
    }
    return tensor;
}

/* The heads of one rank of `ranks`: the same memory, from another head on. */
static tamis_tensor part_of(tamis_tensor tensor, int rank, int ranks)
{
    tensor.data = (uint16_t *)tensor.data + rank * (tensor.batch_stride / ranks);
    return tensor;
}

static tamis_plan *make_plan(int share) /* of 1 / share of the heads */
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    tamis_plan *plan;
    problem.batch = BATCH;
    problem.q_heads = Q_HEADS / share;
    problem.kv_heads = KV_HEADS / share;
    problem.head_dim = DIM;
    problem.seq_len = LENGTH;
    problem.selection.policy = TAMIS_COVERAGE;
    problem.selection.coverage = 0.2;
    problem.selection.window = WINDOW;
    problem.selection.min_tokens = 64;
    TRY(tamis_plan_create(&plan, context, NULL, &problem));
    return plan;
}

/* Score, the all-reduce, then the other steps. Plans are immutable: both ranks run the same one. */
static void run_steps(int ranks, tamis_tensor q, tamis_tensor k, tamis_tensor v, tamis_tensor output, int32_t *const kept[],
                      int32_t *const indices[])
{
    tamis_plan *plan = make_plan(ranks);
    const int heads = Q_HEADS / ranks;
    const int64_t capacity = tamis_plan_capacity(plan), bytes = BATCH * CANDIDATES * 4;
    const size_t size = tamis_plan_workspace_bytes(plan);
    void *workspace = make_array((int64_t)size);
    float *score = (float *)make_array(heads * bytes), *ranking[RANKS], *mean[RANKS];
    const tamis_tensor cq = make_tensor(heads, capacity), ck = make_tensor(heads, capacity), cv = make_tensor(heads, capacity);
    const tamis_tensor compact_output = make_tensor(heads, capacity);
    for (int r = 0; r < ranks; r++) {
        const tamis_tensor part_q = part_of(q, r, ranks), part_k = part_of(k, r, ranks);
        ranking[r] = (float *)make_array(heads * bytes);
        mean[r] = (float *)make_array(bytes);
        TRY(tamis_score(plan, &part_q, &part_k, score, ranking[r], mean[r], workspace, size, NULL));
    }
    for (int i = 0; i < BATCH * CANDIDATES && ranks == 2; i++) mean[0][i] = mean[1][i] = (mean[0][i] + mean[1][i]) / 2;
    for (int r = 0; r < ranks; r++) {
        const tamis_tensor part_q = part_of(q, r, ranks), part_k = part_of(k, r, ranks), part_v = part_of(v, r, ranks);
        const tamis_tensor part_output = part_of(output, r, ranks);
        TRY(tamis_select(plan, ranking[r], mean[r], kept[r], indices[r], workspace, size, NULL));
        TRY(tamis_compress(plan, &part_q, &part_k, &part_v, kept[r], indices[r], &cq, &ck, &cv, workspace, size, NULL));
        TRY(tamis_attend(plan, &cq, &ck, &cv, kept[r], &compact_output, NULL, workspace, size, NULL));
        TRY(tamis_decompress(plan, &compact_output, NULL, kept[r], indices[r], &part_output, NULL, workspace, size, NULL));
    }
    tamis_plan_free(plan);
}

int main(void)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    options.device = TAMIS_DEVICE_CPU;
    TRY(tamis_context_create(&context, &options));
    const tamis_tensor q = make_tensor(Q_HEADS, LENGTH), k = make_tensor(KV_HEADS, LENGTH), v = make_tensor(KV_HEADS, LENGTH);
    const tamis_tensor whole = make_tensor(Q_HEADS, LENGTH), halves = make_tensor(Q_HEADS, LENGTH);
    int32_t *kept[RANKS + 1], *indices[RANKS + 1]; /* of the ranks, then of all heads; rows of C = LENGTH, as coverage has it */
    for (int i = 0; i <= RANKS; i++) {
        kept[i] = (int32_t *)make_array(BATCH * 4);
        indices[i] = (int32_t *)make_array(BATCH * Q_HEADS * LENGTH * 4);
    }
    run_steps(RANKS, q, k, v, halves, kept, indices);
    run_steps(1, q, k, v, whole, kept + RANKS, indices + RANKS);

    int wrong = memcmp(whole.data, halves.data, (size_t)(BATCH * whole.batch_stride) * 2) != 0;
    for (int b = 0; b < BATCH; b++) {
        const int n = kept[RANKS][b], half = Q_HEADS / RANKS;
        wrong += kept[0][b] != n || kept[1][b] != n || n >= LENGTH; /* a count of all would show nothing */
        for (int h = 0; h < Q_HEADS; h++)
            wrong += memcmp(indices[h / half] + (b * half + h % half) * LENGTH, indices[RANKS] + (b * Q_HEADS + h) * LENGTH,
                            (size_t)n * 4) != 0;
        printf("sequence %d: all heads keep %d of %d tokens, the ranks %d and %d\n", b, n, (int)LENGTH, (int)kept[0][b],
               (int)kept[1][b]);
    }
    printf("%s: counts, positions and outputs of two ranks and of one plan\n", wrong ? "DIFFERENT" : "the same");
    while (used_count > 0) tamis_memory_free(context, used[--used_count]);
    tamis_context_free(context);
    return wrong != 0;
}
