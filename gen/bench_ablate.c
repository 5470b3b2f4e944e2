/*
 * bench_ablate.c: see bench_ablate.h. Each layer has several inputs of one structure: on the first ones each head's linear map
 * is fitted to our own dense attention, on the last everything is judged, by sampled rows in double precision. Ranks do not
 * depend on the ratio, and are made once for an input.
 */
#include "bench_ablate_judge.h"

#include "error.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum array_id {
    Q, K, V, OUTPUT, WORKSPACE, SCORE, RANK, MEAN, KEPT, INDICES, /* what a run and the choice take */
    COMPACT_Q, COMPACT_K, COMPACT_V, COMPACT_OUTPUT,
    MATRICES,
    ARRAYS
};
struct trial {
    struct bench *bench;
    const struct ablate_case *ablate;
    tamis_problem dense_problem;
    tamis_plan *dense, *plans[BENCH_MAX_LIST][ABLATE_SCOPES];
    tamis_plan *mapped[BENCH_MAX_LIST][ABLATE_SCOPES]; /* the same with an output map, or NULL */
    bool fused;                                        /* there are those */
    void *arrays[ARRAYS];
    size_t bytes[ARRAYS];
    long long candidates;
    struct bench_rows rows;
    uint16_t *dense_heads, *heads, *head; /* (BENCH_HEADS, L, D), twice, and (L, D): outputs on the host */
    uint16_t *matrices;                   /* (Hq, D, D) */
    float *score;                 /* (Hq, N) */
    float *ranks[ABLATE_WAYS];    /* (Hi, N) */
    float *first;                 /* (inputs, N): scope layer's rank in layer 0 */
    int32_t *lists;               /* (Hi, C) */
    struct bench_norms dense_norms;
    struct ablate_sums (*sums)[ABLATE_WAYS]; /* of each ratio */
};

static tamis_tensor tensor_of(const struct trial *trial, enum array_id id, int heads, long long rows)
{
    const long long dim = trial->ablate->problem.head_dim;
    return (tamis_tensor){trial->arrays[id], heads * rows * dim, rows * dim, dim};
}

static tamis_tensor input_of(const struct trial *trial, enum array_id id)
{
    const tamis_problem *p = &trial->ablate->problem;
    return tensor_of(trial, id, id == Q || id == OUTPUT ? p->q_heads : p->kv_heads, p->seq_len);
}

/* ---- plans and memory */

/* Where the store has no such kernel the plan stays NULL. */
static tamis_status make_mapped(struct trial *trial, tamis_plan **out, const tamis_problem *problem)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.output_map = 1;
    const tamis_status status =
        tamis_plan_create_with(out, trial->bench->context, trial->ablate->store, problem, &options);
    if (status == TAMIS_EUNSUPPORTED) trial->fused = false;
    return status == TAMIS_EUNSUPPORTED ? TAMIS_OK : status;
}

static tamis_status make_plans(struct trial *trial)
{
    const struct ablate_case *ablate = trial->ablate;
    size_t most = 0;
    trial->dense_problem = ablate->problem;
    trial->dense_problem.selection.policy = TAMIS_DENSE;
    TAMIS_TRY(tamis_plan_create(&trial->dense, trial->bench->context, ablate->store, &trial->dense_problem));
    most = tamis_plan_workspace_bytes(trial->dense);
    for (int i = 0; i < ablate->ratio_count * ABLATE_SCOPES; i++) {
        tamis_plan **plan = &trial->plans[i / ABLATE_SCOPES][i % ABLATE_SCOPES];
        tamis_problem problem = ablate->problem;
        problem.selection.ratio = ablate->ratios[i / ABLATE_SCOPES];
        problem.selection.scope = ablate_scope((enum ablate_way)(i % ABLATE_SCOPES));
        TAMIS_TRY(tamis_plan_create(plan, trial->bench->context, ablate->store, &problem));
        TAMIS_TRY(make_mapped(trial, &trial->mapped[i / ABLATE_SCOPES][i % ABLATE_SCOPES], &problem));
        if (tamis_plan_workspace_bytes(*plan) > most) most = tamis_plan_workspace_bytes(*plan); /* with a map as without */
    }
    trial->bytes[WORKSPACE] = most;
    return TAMIS_OK;
}

/* Place of the scope that a way runs by. */
static int scope_of(enum ablate_way way)
{
    int scope = 0;
    while (ablate_scope((enum ablate_way)scope) != ablate_scope(way)) scope++;
    return scope;
}

static const tamis_plan *plan_of(const struct trial *trial, int ratio, enum ablate_way way)
{
    return trial->plans[ratio][scope_of(way)];
}

static tamis_status allocate(struct trial *trial)
{
    const tamis_problem *p = &trial->ablate->problem;
    long long capacity = 0;
    for (int i = 0; i < trial->ablate->ratio_count; i++) {
        const long long own = tamis_plan_capacity(trial->plans[i][0]);
        if (own > capacity) capacity = own;
    }
    const size_t heads = (size_t)p->q_heads, row = 2 * (size_t)p->head_dim, scores = (size_t)trial->candidates * sizeof(float);
    size_t *bytes = trial->bytes;
    bytes[Q] = bytes[OUTPUT] = heads * (size_t)p->seq_len * row;
    bytes[K] = bytes[V] = (size_t)p->kv_heads * (size_t)p->seq_len * row;
    bytes[SCORE] = bytes[RANK] = heads * scores;
    bytes[MEAN] = scores;
    bytes[KEPT] = sizeof(int32_t);
    bytes[INDICES] = heads * (size_t)capacity * sizeof(int32_t);
    for (int id = COMPACT_Q; id <= COMPACT_OUTPUT; id++) bytes[id] = heads * (size_t)capacity * row;
    bytes[MATRICES] = heads * (size_t)p->head_dim * row;
    for (int id = 0; id < ARRAYS; id++)
        TAMIS_TRY(tamis_memory_alloc(&trial->arrays[id], trial->bench->context, bytes[id] + 1));
    return TAMIS_OK;
}

static tamis_status allocate_on_host(struct trial *trial)
{
    const tamis_problem *p = &trial->ablate->problem;
    const size_t head_bytes = (size_t)p->seq_len * (size_t)p->head_dim * 2;
    trial->dense_heads = malloc(BENCH_HEADS * head_bytes);
    trial->heads = malloc(BENCH_HEADS * head_bytes);
    trial->head = malloc(head_bytes);
    trial->matrices = malloc(trial->bytes[MATRICES]);
    trial->score = malloc(trial->bytes[SCORE] + 1);
    trial->lists = malloc(trial->bytes[INDICES]);
    trial->sums = calloc((size_t)trial->ablate->ratio_count, sizeof *trial->sums);
    bool good = trial->dense_heads && trial->heads && trial->head && trial->matrices && trial->score && trial->lists &&
                trial->sums;
    for (int way = 0; way < ABLATE_WAYS; way++) good = (trial->ranks[way] = malloc(trial->bytes[RANK] + 1)) && good;
    trial->first = malloc((size_t)(trial->ablate->fits + 1) * trial->bytes[MEAN] + 1);
    good = good && trial->first;
    return good ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for %lld rows of a head", (long long)p->seq_len);
}

static struct linear_map *map_at(struct trial *trial, int i)
{
    return &trial->sums[i / BENCH_HEADS / ABLATE_WAYS][i / BENCH_HEADS % ABLATE_WAYS].maps[i % BENCH_HEADS];
}

static int map_count(const struct trial *trial) { return trial->ablate->ratio_count * ABLATE_WAYS * BENCH_HEADS; }

/* Of another layer. */
static tamis_status renew_maps(struct trial *trial)
{
    bool good = true;
    for (int i = 0; i < map_count(trial); i++) {
        linear_map_close(map_at(trial, i));
        good = linear_map_open(map_at(trial, i), trial->ablate->problem.head_dim) && good;
    }
    return good ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for linear maps");
}

static void clean_up(struct trial *trial)
{
    for (int i = 0; trial->sums && i < map_count(trial); i++) linear_map_close(map_at(trial, i));
    for (int id = 0; id < ARRAYS; id++) tamis_memory_free(trial->bench->context, trial->arrays[id]);
    for (int i = 0; i < BENCH_MAX_LIST * ABLATE_SCOPES; i++) {
        tamis_plan_free(trial->plans[i / ABLATE_SCOPES][i % ABLATE_SCOPES]);
        tamis_plan_free(trial->mapped[i / ABLATE_SCOPES][i % ABLATE_SCOPES]);
    }
    tamis_plan_free(trial->dense);
    bench_rows_free(&trial->rows);
    for (int way = 0; way < ABLATE_WAYS; way++) free(trial->ranks[way]);
    free(trial->first);
    free(trial->dense_heads);
    free(trial->heads);
    free(trial->head);
    free(trial->matrices);
    free(trial->score);
    free(trial->lists);
    free(trial->sums);
}

/* ---- work on the stream */

static tamis_status read_back(struct trial *trial, void *out, enum array_id id, size_t bytes)
{
    return tamis_memory_read(trial->bench->context, out, trial->arrays[id], bytes, trial->bench->stream);
}

static tamis_status run(struct trial *trial, const tamis_plan *plan, const void *output_map)
{
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = input_of(trial, Q);
    args.k = input_of(trial, K);
    args.v = input_of(trial, V);
    args.output = input_of(trial, OUTPUT);
    args.output_map = output_map;
    return tamis_run(plan, &args, trial->arrays[WORKSPACE], trial->bytes[WORKSPACE], trial->bench->stream);
}

/* What each way chooses by. */
static tamis_status make_ranks(struct trial *trial, int input, int layer, unsigned long long seed)
{
    float *first = trial->first + input * trial->candidates;
    const tamis_problem *p = &trial->ablate->problem;
    const tamis_tensor q = input_of(trial, Q), k = input_of(trial, K);
    void **a = trial->arrays;
    for (int way = 0; way < ABLATE_SCOPES; way++) {
        const tamis_plan *plan = plan_of(trial, 0, (enum ablate_way)way);
        const size_t bytes = (size_t)tamis_plan_index_heads(plan) * trial->bytes[MEAN];
        TAMIS_TRY(tamis_score(plan, &q, &k, a[SCORE], a[RANK], a[MEAN], a[WORKSPACE], trial->bytes[WORKSPACE],
                              trial->bench->stream));
        TAMIS_TRY(read_back(trial, trial->ranks[way], RANK, bytes));
    }
    for (long long j = 0; layer == 0 && j < trial->candidates; j++) first[j] = trial->ranks[ABLATE_LAYER][j];
    for (int way = ABLATE_SCOPES; way < ABLATE_WAYS; way++)
        ablate_rank(trial->ranks[way], (enum ablate_way)way, p, first, layer, seed);
    return read_back(trial, trial->score, SCORE, trial->bytes[SCORE]);
}

/* From a way's ranks to the output, by the steps. The lists are then on the host too. */
static tamis_status run_steps(struct trial *trial, int ratio, enum ablate_way way, int32_t *kept)
{
    static const enum array_id poisoned[] = {OUTPUT, KEPT, INDICES};
    const tamis_plan *plan = plan_of(trial, ratio, way);
    const tamis_stream stream = trial->bench->stream;
    const size_t bytes = trial->bytes[WORKSPACE], lists = (size_t)tamis_plan_index_heads(plan);
    const long long rows = tamis_plan_capacity(plan);
    const int q_heads = trial->ablate->problem.q_heads, compact_heads = tamis_plan_compact_heads(plan);
    const tamis_tensor q = input_of(trial, Q), k = input_of(trial, K), v = input_of(trial, V), output = input_of(trial, OUTPUT);
    const tamis_tensor compact_q = tensor_of(trial, COMPACT_Q, q_heads, rows);
    const tamis_tensor compact_k = tensor_of(trial, COMPACT_K, compact_heads, rows);
    const tamis_tensor compact_v = tensor_of(trial, COMPACT_V, compact_heads, rows);
    const tamis_tensor compact_output = tensor_of(trial, COMPACT_OUTPUT, q_heads, rows);
    void **a = trial->arrays, *workspace = a[WORKSPACE];
    TAMIS_TRY(tamis_memory_write(trial->bench->context, a[RANK], trial->ranks[way], lists * trial->bytes[MEAN], stream));
    for (size_t i = 0; i < sizeof poisoned / sizeof *poisoned; i++)
        TAMIS_TRY(bench_poison(trial->bench, a[poisoned[i]], trial->bytes[poisoned[i]]));
    TAMIS_TRY(tamis_select(plan, a[RANK], a[MEAN], a[KEPT], a[INDICES], workspace, bytes, stream));
    TAMIS_TRY(tamis_compress(plan, &q, &k, &v, a[KEPT], a[INDICES], &compact_q, &compact_k, &compact_v, workspace, bytes,
                             stream));
    TAMIS_TRY(tamis_attend(plan, &compact_q, &compact_k, &compact_v, a[KEPT], &compact_output, NULL, workspace, bytes, stream));
    TAMIS_TRY(tamis_decompress(plan, &compact_output, NULL, a[KEPT], a[INDICES], &output, NULL, workspace, bytes, stream));
    TAMIS_TRY(read_back(trial, kept, KEPT, sizeof *kept));
    return read_back(trial, trial->lists, INDICES, lists * (size_t)rows * sizeof *trial->lists);
}

/* The last two steps once more, on the same compact rows, with a way's maps in the attention kernel. */
static tamis_status run_mapped(struct trial *trial, int ratio, enum ablate_way way)
{
    const tamis_plan *plan = trial->mapped[ratio][scope_of(way)];
    const tamis_stream stream = trial->bench->stream;
    const size_t bytes = trial->bytes[WORKSPACE];
    const long long rows = tamis_plan_capacity(plan);
    const int q_heads = trial->ablate->problem.q_heads, compact_heads = tamis_plan_compact_heads(plan);
    const tamis_tensor compact_q = tensor_of(trial, COMPACT_Q, q_heads, rows), output = input_of(trial, OUTPUT);
    const tamis_tensor compact_k = tensor_of(trial, COMPACT_K, compact_heads, rows);
    const tamis_tensor compact_v = tensor_of(trial, COMPACT_V, compact_heads, rows);
    const tamis_tensor compact_output = tensor_of(trial, COMPACT_OUTPUT, q_heads, rows);
    void **a = trial->arrays, *workspace = a[WORKSPACE];
    ablate_matrices(trial->matrices, &trial->sums[ratio][way], &trial->ablate->problem);
    TAMIS_TRY(tamis_memory_write(trial->bench->context, a[MATRICES], trial->matrices, trial->bytes[MATRICES], stream));
    TAMIS_TRY(bench_poison(trial->bench, a[OUTPUT], trial->bytes[OUTPUT]));
    TAMIS_TRY(tamis_attend_map(plan, &compact_q, &compact_k, &compact_v, a[KEPT], a[MATRICES], &compact_output, NULL, workspace,
                               bytes, stream));
    return tamis_decompress(plan, &compact_output, NULL, a[KEPT], a[INDICES], &output, NULL, workspace, bytes, stream);
}

/* ---- a way on an input */

/* What the steps have written, and then what they write with maps. */
static tamis_status judge_way(struct trial *trial, const struct ablate_lists *lists, int ratio, enum ablate_way way)
{
    const tamis_problem *p = &trial->ablate->problem;
    const long long dim = p->head_dim, head_elements = p->seq_len * dim;
    void *output = trial->arrays[OUTPUT];
    for (int place = 0; place < BENCH_HEADS; place++)
        TAMIS_TRY(bench_rows_read(&trial->rows, trial->heads + place * head_elements, output, bench_rows_head(p, place)));
    if (trial->fused) TAMIS_TRY(run_mapped(trial, ratio, way));
    for (int place = 0; place < BENCH_HEADS; place++) {
        const int head = bench_rows_head(p, place);
        struct ablate_output judged = {trial->heads + place * head_elements, NULL, NULL};
        if (trial->fused) {
            TAMIS_TRY(bench_rows_read(&trial->rows, trial->head, output, head));
            judged.mapped = trial->head;
            judged.matrix = trial->matrices + head * dim * dim;
        }
        TAMIS_TRY(ablate_judge(&trial->sums[ratio][way], lists, &trial->rows, place, &judged));
    }
    return TAMIS_OK;
}

static tamis_status fit_way(struct trial *trial, const struct ablate_lists *lists, int ratio, enum ablate_way way)
{
    const tamis_problem *p = &trial->ablate->problem;
    for (int place = 0; place < BENCH_HEADS; place++) {
        const uint16_t *dense = trial->dense_heads + place * p->seq_len * p->head_dim;
        TAMIS_TRY(bench_rows_read(&trial->rows, trial->head, trial->arrays[OUTPUT], bench_rows_head(p, place)));
        TAMIS_TRY(ablate_fit(&trial->sums[ratio][way].maps[place], lists, place, trial->head, dense));
    }
    return TAMIS_OK;
}

static tamis_status one_way(struct trial *trial, struct ablate_figures *out, bool is_fit, int ratio, enum ablate_way way)
{
    const tamis_problem *p = &trial->ablate->problem;
    const tamis_plan *plan = plan_of(trial, ratio, way);
    struct ablate_lists lists = {p, trial->lists, tamis_plan_index_heads(plan), tamis_plan_capacity(plan), 0};
    TAMIS_TRY(run_steps(trial, ratio, way, &lists.kept));
    if (!ablate_lists_are_right(&lists)) {
        snprintf(out->wrong, sizeof out->wrong, "of %d kept tokens, where %lld are right, a list is not in order",
                 (int)lists.kept, lists.capacity);
        return TAMIS_OK;
    }
    out->ratios[ratio].ways[way].kept = lists.kept;
    if (is_fit) return fit_way(trial, &lists, ratio, way);
    trial->sums[ratio][way].window_mass += ablate_window_mass(&lists, trial->score);
    return judge_way(trial, &lists, ratio, way);
}

/* ---- inputs */

/* ABLATE_UNIFORM of them one in each part of the sequence, then the last row and others of the window. */
static void choose_rows(struct trial *trial)
{
    const tamis_problem *p = &trial->ablate->problem;
    const long long seq_len = p->seq_len, window = p->selection.window < seq_len ? p->selection.window : seq_len;
    for (int place = 0; place < BENCH_HEADS; place++)
        for (int s = 0; s < BENCH_SAMPLES; s++) {
            const long long first = s < ABLATE_UNIFORM ? s * seq_len / ABLATE_UNIFORM : seq_len - window;
            const long long end = s < ABLATE_UNIFORM ? (s + 1) * seq_len / ABLATE_UNIFORM : seq_len;
            const long long room = end > first ? end - first : 1;
            const long long random = (long long)(bench_random(&trial->bench->random) % (unsigned long long)room);
            trial->rows.at[place][s] = s == ABLATE_UNIFORM ? seq_len - 1 : first + random;
        }
}

static tamis_status run_dense(struct trial *trial, bool is_fit)
{
    const tamis_problem *p = &trial->ablate->problem;
    TAMIS_TRY(bench_poison(trial->bench, trial->arrays[OUTPUT], trial->bytes[OUTPUT]));
    TAMIS_TRY(run(trial, trial->dense, NULL));
    for (int place = 0; place < BENCH_HEADS; place++) {
        uint16_t *head = trial->dense_heads + place * p->seq_len * p->head_dim;
        TAMIS_TRY(bench_rows_read(&trial->rows, head, trial->arrays[OUTPUT], bench_rows_head(p, place)));
        for (int s = 0; s < BENCH_SAMPLES && !is_fit; s++)
            bench_norms_add_half(&trial->dense_norms, head + trial->rows.at[place][s] * p->head_dim,
                                 bench_rows_right(&trial->rows, place, s), p);
    }
    return TAMIS_OK;
}

static tamis_status one_input(struct trial *trial, struct ablate_figures *out, int input, int layer,
                              unsigned long long seed)
{
    const struct ablate_case *ablate = trial->ablate;
    const bool is_fit = input < ablate->fits;
    struct structured structure = ablate->structure;
    structure.layer = layer;
    TAMIS_TRY(structured_fill(trial->bench, &structure, &ablate->problem, trial->arrays[Q], trial->arrays[K], trial->arrays[V],
                              seed));
    if (!is_fit) {
        choose_rows(trial);
        TAMIS_TRY(bench_rows_compute(&trial->rows));
    }
    TAMIS_TRY(run_dense(trial, is_fit));
    TAMIS_TRY(make_ranks(trial, input, layer, seed));
    for (int i = 0; i < ablate->ratio_count * ABLATE_WAYS && !out->wrong[0]; i++)
        TAMIS_TRY(one_way(trial, out, is_fit, i / ABLATE_WAYS, (enum ablate_way)(i % ABLATE_WAYS)));
    return TAMIS_OK;
}

static tamis_status one_layer(struct trial *trial, struct ablate_figures *out, int layer, unsigned long long seed)
{
    TAMIS_TRY(renew_maps(trial));
    for (int input = 0; input <= trial->ablate->fits && !out->wrong[0]; input++) {
        for (int i = 0; input == trial->ablate->fits && i < map_count(trial); i++) linear_map_solve(map_at(trial, i));
        TAMIS_TRY(one_input(trial, out, input, layer, seed));
    }
    return TAMIS_OK;
}

/* ---- figures */

static void set_figures(const struct trial *trial, struct ablate_figures *out)
{
    bool nan = false, mapped = true;
    out->fused = trial->fused;
    out->dense_error = bench_norms_error(&trial->dense_norms);
    out->error_limit = trial->ablate->problem.dtype == TAMIS_FP16 ? 1e-3 : 4e-3;
    for (int i = 0; i < trial->ablate->ratio_count * ABLATE_WAYS; i++) {
        struct ablate_row *row = &out->ratios[i / ABLATE_WAYS].ways[i % ABLATE_WAYS];
        const struct ablate_sums *sums = &trial->sums[i / ABLATE_WAYS][i % ABLATE_WAYS];
        ablate_sums_read(sums, row, trial->ablate->layers);
        mapped = mapped && (!trial->fused || bench_norms_error(&sums->fused) <= out->error_limit);
        nan = nan || isnan(row->window_error + row->error + row->error_mapped + row->zeros + row->zeros_mapped);
    }
    out->right = out->dense_error <= out->error_limit && mapped && !nan;
    if (!out->right)
        snprintf(out->wrong, sizeof out->wrong, "dense attention's error is %.3g, at most %g is right%s%s", out->dense_error,
                 out->error_limit, mapped ? "" : "; mapped rows are not what they should be", nan ? "; a kept row is NaN" : "");
}

struct turns {
    struct trial *trial;
    int ratio;
};

static tamis_status time_round(void *payload)
{
    const struct turns *turns = payload;
    struct bench *bench = turns->trial->bench;
    TAMIS_TRY(stopwatch_mark(&bench->watch, bench->stream));
    TAMIS_TRY(run(turns->trial, turns->trial->dense, NULL));
    for (int scope = 0; scope < ABLATE_SCOPES; scope++) {
        TAMIS_TRY(stopwatch_mark(&bench->watch, bench->stream));
        TAMIS_TRY(run(turns->trial, turns->trial->plans[turns->ratio][scope], NULL));
    }
    for (int scope = 0; scope < ABLATE_SCOPES && turns->trial->fused; scope++) {
        TAMIS_TRY(stopwatch_mark(&bench->watch, bench->stream));
        TAMIS_TRY(run(turns->trial, turns->trial->mapped[turns->ratio][scope], turns->trial->arrays[MATRICES]));
    }
    return stopwatch_mark(&bench->watch, bench->stream);
}

static tamis_status time_ratio(struct trial *trial, struct ablate_figure *out, int ratio)
{
    struct bench_time times[1 + 2 * ABLATE_SCOPES];
    struct turns turns = {trial, ratio};
    const int parts = 1 + (trial->fused ? 2 : 1) * ABLATE_SCOPES;
    TAMIS_TRY(bench_time_rounds(trial->bench, times, parts, &out->sm_mhz, time_round, &turns));
    out->dense = times[0];
    for (int scope = 0; scope < ABLATE_SCOPES; scope++) out->ways[scope].time = times[1 + scope];
    for (int scope = 0; scope < ABLATE_SCOPES && trial->fused; scope++)
        out->ways[scope].mapped_time = times[1 + ABLATE_SCOPES + scope];
    return TAMIS_OK;
}

static tamis_status measure(struct trial *trial, struct ablate_figures *out, unsigned long long seed)
{
    TAMIS_TRY(make_plans(trial));
    TAMIS_TRY(allocate(trial));
    TAMIS_TRY(allocate_on_host(trial));
    trial->rows = (struct bench_rows){.bench = trial->bench,
                                      .problem = &trial->dense_problem,
                                      .q = trial->arrays[Q],
                                      .k = trial->arrays[K],
                                      .v = trial->arrays[V],
                                      .samples = BENCH_SAMPLES,
                                      .with_weights = true};
    for (int layer = 0; layer < trial->ablate->layers; layer++) TAMIS_TRY(one_layer(trial, out, layer, seed));
    if (!out->wrong[0]) set_figures(trial, out);
    for (int i = 0; i < trial->ablate->ratio_count && out->right; i++) TAMIS_TRY(time_ratio(trial, &out->ratios[i], i));
    return TAMIS_OK;
}

tamis_status bench_ablate_measure(struct bench *bench, struct ablate_figures *out, const struct ablate_case *ablate,
                                  unsigned long long seed)
{
    struct trial trial = {.bench = bench, .ablate = ablate, .fused = true};
    const tamis_problem *p = &ablate->problem;
    trial.candidates = p->seq_len > p->selection.window ? p->seq_len - p->selection.window : 0;
    *out = (struct ablate_figures){.right = false};
    const tamis_status status = measure(&trial, out, seed);
    clean_up(&trial);
    return status;
}
