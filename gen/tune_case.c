/*
 * tune_case.c: see tune_case.h.
 */
#include "tune_case.h"

#include "bench.h"
#include "equal.h"
#include "error.h"
#include "half.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEFORE 649 /* tokens before the window: odd, and a few tiles of any size */
#define KV_HEADS 2
#define MIN_TOKENS 16
#define SEED 20260101
#define DENSITY 0.5
#define LSE_ERROR 0.01f /* a sum of two probabilities in bf16 is off by less */

/* Geometry as the spec's, but for the number of heads: whole groups of them. */
static void make_problem(tamis_problem *out, const tamis_problem *problem, tamis_policy policy)
{
    *out = *problem;
    out->batch = 2;
    out->kv_heads = problem->kv_heads < KV_HEADS ? problem->kv_heads : KV_HEADS;
    out->q_heads = problem->q_heads / problem->kv_heads * out->kv_heads;
    out->seq_len = BEFORE + problem->selection.window;
    out->selection.policy = policy;
    out->selection.min_tokens = MIN_TOKENS;
    out->selection.ratio = 0.5;
    out->selection.coverage = 0.25;
}

/* Random numbers of variance 1 into (B, heads, L, D). */
static tamis_status fill(struct npy *out, const tamis_problem *problem, int heads, unsigned long long *random)
{
    const size_t count = (size_t)problem->batch * (size_t)heads * (size_t)problem->seq_len * (size_t)problem->head_dim;
    uint16_t *data = malloc(count * sizeof *data);
    if (!data) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a case");
    for (size_t i = 0; i < count; i++) {
        const unsigned long long bits = bench_random(random);
        float sum = -6; /* of twelve even ones */
        for (int k = 0; k < 12; k++) sum += (float)(bits >> (5 * k) & 31) / 31;
        data[i] = tamisi_half_from_float(sum, problem->dtype);
    }
    *out = (struct npy){.type = NPY_U16, .bytes = count * sizeof *data, .data = data};
    return TAMIS_OK;
}

/* One head's rows of the reference, in double precision, by the reference's own lists. */
static void reference_head(float *output, const struct tune_case *made, int sequence, int head, double *row, int32_t *seen,
                           double *scratch)
{
    const tamis_problem *p = &made->input.problem;
    const long long dim = p->head_dim, size = p->seq_len * dim;
    const int kv_head = head / (p->q_heads / p->kv_heads), lists = case_index_heads(p);
    const uint16_t *q = (const uint16_t *)made->input.q.data + (sequence * p->q_heads + head) * size;
    const uint16_t *k = (const uint16_t *)made->input.k.data + (sequence * p->kv_heads + kv_head) * size;
    const uint16_t *v = (const uint16_t *)made->input.v.data + (sequence * p->kv_heads + kv_head) * size;
    const int list_head = sequence * lists + head / (p->q_heads / lists);
    const int32_t *list = made->indices + list_head * made->capacity;
    for (long long i = 0; i < made->kept[sequence]; i++) {
        if (made->mask.bits)
            equal_attend_blocks(row, p, q, k, v, list, i, &made->mask, sequence * p->q_heads + head, seen, scratch);
        else
            equal_attend_row(row, p, q, k, v, list, i, scratch);
        for (long long d = 0; d < dim; d++) output[list[i] * dim + d] = (float)row[d];
    }
}

static tamis_status make_output(struct tune_case *made)
{
    const tamis_problem *p = &made->input.problem;
    const size_t size = (size_t)p->seq_len * (size_t)p->head_dim;
    double *row = malloc(((size_t)p->head_dim + (size_t)p->seq_len) * sizeof *row);
    int32_t *seen = malloc((size_t)p->seq_len * sizeof *seen);
    made->output = calloc((size_t)p->batch * (size_t)p->q_heads * size, sizeof *made->output);
    if (!row || !seen || !made->output) {
        free(row);
        free(seen);
        return tamisi_fail(TAMIS_ENOMEM, "out of memory for a case");
    }
    for (int b = 0; b < p->batch; b++)
        for (int h = 0; h < p->q_heads; h++)
            reference_head(made->output + (size_t)(b * p->q_heads + h) * size, made, b, h, row, seen, row + p->head_dim);
    free(row);
    free(seen);
    return TAMIS_OK;
}

static tamis_status open_on(struct runner **out, const struct tune_case *made, tamis_context *context, tamis_store *store,
                            const struct tamisi_force *force)
{
    const bool listed = made->mask.bits != NULL;
    return runner_open_forced(out, context, store, &made->input, force, listed ? &made->pattern : NULL,
                              listed ? &made->mask : NULL);
}

/* Scores, counts and lists from the CPU backend, in double precision. */
static tamis_status make_reference(struct tune_case *made)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *cpu = NULL;
    struct runner *runner = NULL;
    struct runner_result result = {.output = NULL};
    struct runner_times times;
    options.device = TAMIS_DEVICE_CPU;
    options.precision = TAMIS_FP64;
    tamis_status status = tamis_context_create(&cpu, &options);
    if (status == TAMIS_OK) status = open_on(&runner, made, cpu, NULL, NULL);
    if (status == TAMIS_OK) status = runner_run(runner, &result, &times);
    if (status == TAMIS_OK) {
        made->capacity = tamis_plan_capacity(runner_plan(runner));
        made->score = result.score;
        made->lse = result.lse;
        made->kept = result.kept;
        made->indices = result.indices;
        result.score = result.lse = NULL;
        result.kept = result.indices = NULL;
        status = make_output(made);
    }
    runner_result_free(&result);
    runner_close(runner);
    tamis_context_free(cpu);
    return status;
}

/* As bits: the kernel that makes lists of them is looked at too. */
static tamis_status make_mask(struct tune_case *made)
{
    const tamis_problem *p = &made->input.problem;
    struct tamisi_facts facts;
    tamisi_facts_make(&facts, p);
    made->pattern.kind = TAMIS_PATTERN_HOST_BLOCKS;
    made->pattern.host_blocks.form = TAMIS_BLOCKS_BITS;
    return block_mask_random(&made->mask, (long long)p->batch * p->q_heads, tamisi_pattern_tiles(&facts), DENSITY, SEED);
}

tamis_status tune_case_make(struct tune_case *out, const tamis_problem *problem, tamis_policy policy, bool listed)
{
    unsigned long long random = SEED;
    *out = (struct tune_case){.pattern = TAMIS_PATTERN_INIT};
    tamis_problem *p = &out->input.problem;
    make_problem(p, problem, policy);
    tamis_status status = listed ? make_mask(out) : TAMIS_OK;
    if (status == TAMIS_OK) status = fill(&out->input.q, p, p->q_heads, &random);
    if (status == TAMIS_OK) status = fill(&out->input.k, p, p->kv_heads, &random);
    if (status == TAMIS_OK) status = fill(&out->input.v, p, p->kv_heads, &random);
    if (status == TAMIS_OK) status = make_reference(out);
    out->made = status == TAMIS_OK;
    if (status != TAMIS_OK) tune_case_free(out);
    return status;
}

void tune_case_free(struct tune_case *made)
{
    case_free(&made->input);
    block_mask_free(&made->mask);
    free(made->score);
    free(made->lse);
    free(made->output);
    free(made->kept);
    free(made->indices);
    *made = (struct tune_case){.made = false};
}

/* Of lists that are the same: dropped rows have -inf, others a sum of exponentials, in whatever precision it was added up. */
static bool lse_is_right(const struct tune_case *made, const float *lse)
{
    const tamis_problem *p = &made->input.problem;
    for (long long i = 0; i < (long long)p->batch * p->q_heads * p->seq_len; i++) {
        const bool dropped = isinf(made->lse[i]);
        if (dropped ? lse[i] != made->lse[i] : !(fabsf(lse[i] - made->lse[i]) <= LSE_ERROR)) return false;
    }
    return true;
}

static tamis_status compare(const struct tune_case *made, struct runner *runner, const struct runner_result *result,
                            char why[TUNE_WHY])
{
    const tamis_problem *p = &made->input.problem;
    const struct equal_case reference = {.problem = p,
                                         .q = made->input.q.data,
                                         .k = made->input.k.data,
                                         .v = made->input.v.data,
                                         .score = p->selection.policy == TAMIS_DENSE ? NULL : made->score,
                                         .kept = made->kept,
                                         .indices = made->indices,
                                         .capacity = made->capacity,
                                         .output = made->output,
                                         .mask = made->mask.bits ? &made->mask : NULL};
    const struct equal_result found = {result->kept, result->indices, tamis_plan_capacity(runner_plan(runner)),
                                       result->output};
    struct equal_report report;
    const char *overrun;
    TAMIS_TRY(runner_find_overrun(runner, &overrun));
    if (overrun) {
        snprintf(why, TUNE_WHY, "seq_len %lld: it writes behind the end of %s", (long long)p->seq_len, overrun);
        return TAMIS_OK;
    }
    TAMIS_TRY(equal_check(&report, &reference, &found));
    if (!report.equal) snprintf(why, TUNE_WHY, "seq_len %lld: %.130s", (long long)p->seq_len, report.message);
    else if (report.kept_differ == 0 && report.positions_differ == 0 && !lse_is_right(made, result->lse))
        snprintf(why, TUNE_WHY, "seq_len %lld: the log-sum-exp of a row is wrong", (long long)p->seq_len);
    return TAMIS_OK;
}

tamis_status tune_case_check(const struct tune_case *made, tamis_context *context, tamis_store *store,
                             const struct tamisi_force *force, char why[TUNE_WHY])
{
    struct runner *runner = NULL;
    struct runner_result result = {.output = NULL};
    struct runner_times times;
    why[0] = '\0';
    tamis_status status = open_on(&runner, made, context, store, force);
    if (status == TAMIS_OK) status = runner_run(runner, &result, &times);
    if (status == TAMIS_OK && runner_bad_kept(runner, &result) >= 0)
        snprintf(why, TUNE_WHY, "seq_len %lld: sequence %d keeps no possible number of tokens",
                 (long long)made->input.problem.seq_len, runner_bad_kept(runner, &result));
    else if (status == TAMIS_OK)
        status = compare(made, runner, &result, why);
    runner_result_free(&result);
    runner_close(runner);
    return status;
}
