/*
 * bench_compose.c: see bench_compose.h. Rows are sampled from the whole sequence and, as of these few may be kept, as many from
 * its window; what is compared with is computed once for all ways.
 */
#include "bench_compose.h"

#include "bench_rows.h"
#include "error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const compose_names[COMPOSE_WAYS] = {"dense", "pattern", "tokens", "both"};

#define SAMPLES 24 /* rows of a head */

enum array_id { Q, K, V, OUTPUT, WORKSPACE, KEPT, COUNT, LIST, BITS, ARRAYS };

struct trial {
    struct bench *bench;
    const struct compose_case *compose;
    tamis_problem problems[COMPOSE_WAYS];
    tamis_plan *plans[COMPOSE_WAYS];
    struct block_mask masks[COMPOSE_WAYS]; /* the host's, of the ways that have a pattern */
    void *bits[COMPOSE_WAYS];
    void *arrays[ARRAYS];
    size_t workspace_bytes, output_bytes;
    struct bench_rows rows; /* that are sampled */
};

static bool has_pattern(enum compose_way way) { return way == COMPOSE_PATTERN || way == COMPOSE_BOTH; }

static bool has_tokens(enum compose_way way) { return way == COMPOSE_TOKENS || way == COMPOSE_BOTH; }

static tamis_tensor tensor_of(const struct trial *trial, enum array_id id, int heads)
{
    const long long rows = trial->compose->problem.seq_len, dim = trial->compose->problem.head_dim;
    return (tamis_tensor){trial->arrays[id], heads * rows * dim, rows * dim, dim};
}

/* ---- plans and memory */

static tamis_status make_plan(struct trial *trial, enum compose_way way)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    tamis_problem *p = &trial->problems[way];
    *p = trial->compose->problem;
    if (!has_tokens(way)) {
        p->selection.policy = TAMIS_DENSE;
        p->selection.scope = TAMIS_SCOPE_KV_GROUP; /* of all tokens K is the compact K, so that find_density can give it */
    }
    if (has_pattern(way)) options.pattern = &trial->compose->pattern;
    TAMIS_TRY(tamis_plan_create_with(&trial->plans[way], trial->bench->context, trial->compose->store, p, &options));
    const size_t bytes = tamis_plan_workspace_bytes(trial->plans[way]);
    if (bytes > trial->workspace_bytes) trial->workspace_bytes = bytes;
    return TAMIS_OK;
}

static tamis_status send_blocks(struct trial *trial, enum compose_way way)
{
    struct block_mask *mask = &trial->masks[way];
    const tamis_problem *p = &trial->compose->problem;
    if (!has_pattern(way) || !trial->compose->blocks) return TAMIS_OK;
    TAMIS_TRY(block_mask_read(mask, trial->compose->blocks, 1, p->q_heads, tamis_plan_block_count(trial->plans[way])));
    TAMIS_TRY(tamis_memory_alloc(&trial->bits[way], trial->bench->context, block_mask_bytes(mask)));
    return tamis_memory_write(trial->bench->context, trial->bits[way], mask->bits, block_mask_bytes(mask),
                              trial->bench->stream);
}

static tamis_status prepare(struct trial *trial, unsigned long long seed)
{
    const tamis_problem *p = &trial->compose->problem;
    tamis_context *context = trial->bench->context;
    const size_t row = (size_t)p->seq_len * (size_t)p->head_dim * 2;
    const size_t sizes[] = {[Q] = (size_t)p->q_heads * row, [K] = (size_t)p->kv_heads * row, [V] = (size_t)p->kv_heads * row};
    for (int way = 0; way < COMPOSE_WAYS; way++) {
        TAMIS_TRY(make_plan(trial, (enum compose_way)way));
        TAMIS_TRY(send_blocks(trial, (enum compose_way)way));
    }
    trial->output_bytes = sizes[Q];
    for (int id = Q; id <= V; id++) TAMIS_TRY(tamis_memory_alloc(&trial->arrays[id], context, sizes[id]));
    TAMIS_TRY(tamis_memory_alloc(&trial->arrays[OUTPUT], context, trial->output_bytes));
    TAMIS_TRY(tamis_memory_alloc(&trial->arrays[WORKSPACE], context, trial->workspace_bytes + 1));
    TAMIS_TRY(tamis_memory_alloc(&trial->arrays[KEPT], context, sizeof(int32_t)));
    return structured_fill(trial->bench, &trial->compose->structure, p, trial->arrays[Q], trial->arrays[K], trial->arrays[V],
                           seed);
}

static void clean_up(struct trial *trial)
{
    tamis_context *context = trial->bench->context;
    for (int id = 0; id < ARRAYS; id++) tamis_memory_free(context, trial->arrays[id]);
    for (int way = 0; way < COMPOSE_WAYS; way++) {
        tamis_memory_free(context, trial->bits[way]);
        block_mask_free(&trial->masks[way]);
        tamis_plan_free(trial->plans[way]);
    }
    bench_rows_free(&trial->rows);
}

/* ---- running */

static tamis_status run(struct trial *trial, enum compose_way way, bool tells_kept)
{
    const tamis_problem *p = &trial->compose->problem;
    tamis_blocks blocks = TAMIS_BLOCKS_INIT;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = tensor_of(trial, Q, p->q_heads);
    args.k = tensor_of(trial, K, p->kv_heads);
    args.v = tensor_of(trial, V, p->kv_heads);
    args.output = tensor_of(trial, OUTPUT, p->q_heads);
    blocks.bits = trial->bits[way];
    if (blocks.bits) args.blocks = &blocks;
    if (tells_kept) args.kept = trial->arrays[KEPT];
    return tamis_run(trial->plans[way], &args, trial->arrays[WORKSPACE], trial->workspace_bytes, trial->bench->stream);
}

/* The pattern's lists for all tokens, alone. */
static tamis_status make_lists(struct trial *trial)
{
    const tamis_problem *p = &trial->compose->problem;
    const tamis_tensor q = tensor_of(trial, Q, p->q_heads), k = tensor_of(trial, K, p->kv_heads);
    tamis_blocks blocks = TAMIS_BLOCKS_INIT;
    blocks.bits = trial->bits[COMPOSE_PATTERN];
    return tamis_make_blocks(trial->plans[COMPOSE_PATTERN], &q, &k, trial->arrays[KEPT], blocks.bits ? &blocks : NULL,
                             trial->arrays[COUNT], trial->arrays[LIST], trial->arrays[WORKSPACE], trial->workspace_bytes,
                             trial->bench->stream);
}

/* Each way, and last the lists. */
static tamis_status round_of_all(void *payload)
{
    struct trial *trial = payload;
    struct bench *bench = trial->bench;
    TAMIS_TRY(stopwatch_mark(&bench->watch, bench->stream));
    for (int way = 0; way < COMPOSE_WAYS; way++) {
        TAMIS_TRY(run(trial, (enum compose_way)way, false));
        TAMIS_TRY(stopwatch_mark(&bench->watch, bench->stream));
    }
    TAMIS_TRY(make_lists(trial));
    return stopwatch_mark(&bench->watch, bench->stream);
}

/* ---- what dense attention gives */

/* Half of the rows from the window, the last one among them. */
static void choose_rows(struct trial *trial)
{
    const tamis_problem *p = &trial->compose->problem;
    const long long window = p->selection.window < p->seq_len ? p->selection.window : p->seq_len;
    for (int i = 0; i < BENCH_HEADS * SAMPLES; i++) {
        const int s = i % SAMPLES;
        const unsigned long long random = bench_random(&trial->bench->random);
        trial->rows.at[i / SAMPLES][s] = s == 0      ? p->seq_len - 1
                                               : s % 2 == 0 ? p->seq_len - 1 - (long long)(random % (unsigned long long)window)
                                                            : (long long)(random % (unsigned long long)p->seq_len);
    }
}

/* ---- how far each way is from it */

static bool is_dropped(const uint16_t *row, int head_dim)
{
    for (int d = 0; d < head_dim; d++)
        if (row[d] != 0) return false;
    return true;
}

/* The output of a way is on the device. A row that nobody wrote is NaN, and makes the error one. */
static tamis_status compare(struct trial *trial, struct compose_figure *out, enum compose_way way)
{
    const tamis_problem *p = &trial->problems[way];
    struct bench_norms norms = {0, 0};
    uint16_t *output = malloc((size_t)p->seq_len * (size_t)p->head_dim * sizeof *output);
    tamis_status status = output ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for a head's output");
    for (int place = 0; place < BENCH_HEADS && status == TAMIS_OK; place++) {
        status = bench_rows_read(&trial->rows, output, trial->arrays[OUTPUT], bench_rows_head(p, place));
        for (int s = 0; s < SAMPLES && status == TAMIS_OK; s++) {
            const uint16_t *row = output + trial->rows.at[place][s] * p->head_dim;
            if (has_tokens(way) && is_dropped(row, p->head_dim)) continue;
            bench_norms_add_half(&norms, row, bench_rows_right(&trial->rows, place, s), p);
        }
    }
    out->error[way] = bench_norms_error(&norms);
    free(output);
    return status;
}

static tamis_status check_way(struct trial *trial, struct compose_figure *out, enum compose_way way)
{
    struct bench *bench = trial->bench;
    int32_t kept = 0;
    TAMIS_TRY(bench_poison(bench, trial->arrays[OUTPUT], trial->output_bytes));
    TAMIS_TRY(run(trial, way, true));
    TAMIS_TRY(tamis_memory_read(bench->context, &kept, trial->arrays[KEPT], sizeof kept, bench->stream));
    out->kept[way] = kept;
    return compare(trial, out, way);
}

/* Of the pattern on all tokens, as its maker lists them; `kept` on the device is all of them from here on. */
static tamis_status find_density(struct trial *trial, struct compose_figure *out)
{
    struct bench *bench = trial->bench;
    tamis_plan *plan = trial->plans[COMPOSE_PATTERN];
    const tamis_problem *p = &trial->compose->problem;
    const int32_t kept = (int32_t)p->seq_len;
    const size_t tiles = (size_t)tamis_plan_block_count(plan), lists = (size_t)p->q_heads * tiles;
    int32_t *count = malloc(lists * sizeof *count);
    long long all = 0;
    tamis_status status = count ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu counts", lists);
    if (status == TAMIS_OK) status = tamis_memory_alloc(&trial->arrays[COUNT], bench->context, lists * sizeof *count);
    if (status == TAMIS_OK) status = tamis_memory_alloc(&trial->arrays[LIST], bench->context, lists * tiles * sizeof *count);
    if (status == TAMIS_OK)
        status = tamis_memory_write(bench->context, trial->arrays[KEPT], &kept, sizeof kept, bench->stream);
    if (status == TAMIS_OK) status = make_lists(trial);
    if (status == TAMIS_OK)
        status = tamis_memory_read(bench->context, count, trial->arrays[COUNT], lists * sizeof *count, bench->stream);
    for (size_t i = 0; i < lists && status == TAMIS_OK; i++) all += count[i];
    out->density = (double)all / ((double)p->q_heads * (double)tiles * (double)(tiles + 1) / 2);
    free(count);
    return status;
}

static tamis_status measure(struct trial *trial, struct compose_figure *out, unsigned long long seed)
{
    TAMIS_TRY(prepare(trial, seed));
    trial->rows = (struct bench_rows){.bench = trial->bench,
                                      .problem = &trial->problems[COMPOSE_DENSE],
                                      .q = trial->arrays[Q],
                                      .k = trial->arrays[K],
                                      .v = trial->arrays[V],
                                      .samples = SAMPLES};
    choose_rows(trial);
    TAMIS_TRY(bench_rows_compute(&trial->rows));
    out->error_limit = trial->compose->problem.dtype == TAMIS_FP16 ? 1e-3 : 4e-3;
    out->right = true;
    for (int way = 0; way < COMPOSE_WAYS; way++) {
        TAMIS_TRY(check_way(trial, out, (enum compose_way)way));
        out->right = out->right && !isnan(out->error[way]);
    }
    out->right = out->right && out->error[COMPOSE_DENSE] <= out->error_limit;
    if (!out->right) return TAMIS_OK;
    TAMIS_TRY(find_density(trial, out));
    struct bench_time times[COMPOSE_WAYS + 1];
    TAMIS_TRY(bench_time_rounds(trial->bench, times, COMPOSE_WAYS + 1, &out->sm_mhz, round_of_all, trial));
    memcpy(out->time, times, sizeof out->time);
    out->lists = times[COMPOSE_WAYS];
    return TAMIS_OK;
}

tamis_status bench_compose_measure(struct bench *bench, struct compose_figure *out, const struct compose_case *compose,
                                   unsigned long long seed)
{
    struct trial trial = {.bench = bench, .compose = compose};
    *out = (struct compose_figure){.right = false};
    const tamis_status status = measure(&trial, out, seed);
    clean_up(&trial);
    return status;
}
