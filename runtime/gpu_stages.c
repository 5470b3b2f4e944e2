/*
 * gpu_stages.c: the GPU backend's steps: fill a kernel's arguments, shape its grid, put it on the stream. Nothing here
 * allocates, synchronises or copies; arguments have been checked by the API.
 */
#include "gpu.h"

struct tamis_rows tamisi_gpu_rows_of(const tamis_tensor *tensor)
{
    return (struct tamis_rows){tensor->data, tensor->batch_stride, tensor->head_stride, tensor->token_stride};
}

static struct tamis_rows rows_of(const tamis_tensor *tensor) { return tamisi_gpu_rows_of(tensor); }

/* A plain (B, heads, rows, D) tensor of the plan at `data`. */
static tamis_tensor plain_tensor(const tamis_plan *plan, void *data, int heads, long long rows)
{
    const long long head_stride = rows * plan->problem.head_dim;
    return (tamis_tensor){data, heads * head_stride, head_stride, plan->problem.head_dim};
}

unsigned tamisi_gpu_tiles(long long rows, int block) { return (unsigned)((rows + block - 1) / block); }

tamis_status tamisi_gpu_launch_clusters(const tamis_plan *plan, enum tamisi_stage stage, unsigned cluster, unsigned x,
                                        unsigned y, unsigned z, void *args, tamis_stream stream)
{
    const struct tamisi_gpu *gpu = plan->context->state;
    const struct tamisi_kernel *kernel = &((const struct tamisi_gpu_plan *)plan->state)->kernels[stage];
    void *params[] = {args};
    struct tamisi_cu_launch_attribute attributes[2];
    unsigned count = 0;
    /* The kernel may be set up while the one before it ends: every template waits for it before it touches memory. */
    if (gpu->starts_early)
        attributes[count++] =
            (struct tamisi_cu_launch_attribute){.id = TAMISI_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION, .value = {1}};
    if (cluster > 1)
        attributes[count++] =
            (struct tamisi_cu_launch_attribute){.id = TAMISI_CU_LAUNCH_CLUSTER_DIMENSION, .value = {cluster, 1, 1}};
    const struct tamisi_cu_launch launch = {.grid = {x, y, z},
                                            .block = {(unsigned)kernel->entry.threads, 1, 1},
                                            .shared_bytes = (unsigned)kernel->entry.shared_bytes,
                                            .stream = stream,
                                            .attributes = attributes,
                                            .attribute_count = count};
    return tamisi_cuda_check(gpu->cuda, gpu->cuda->launch_kernel(&launch, kernel->function, params, NULL),
                             kernel->entry.symbol);
}

tamis_status tamisi_gpu_launch(const tamis_plan *plan, enum tamisi_stage stage, unsigned x, unsigned y, unsigned z,
                               void *args, tamis_stream stream)
{
    return tamisi_gpu_launch_clusters(plan, stage, 1, x, y, z, args, stream);
}

tamis_status tamisi_gpu_launch_persistent(const tamis_plan *plan, enum tamisi_stage stage, long long items, void *args,
                                          tamis_stream stream)
{
    const struct tamisi_gpu *gpu = plan->context->state;
    return tamisi_gpu_launch(plan, stage, (unsigned)(items < gpu->sm_count ? items : gpu->sm_count), 1, 1, args, stream);
}

bool tamisi_gpu_has(const tamis_plan *plan, enum tamisi_stage stage)
{
    return ((const struct tamisi_gpu_plan *)plan->state)->kernels[stage].function != NULL;
}

const struct tamisi_entry *tamisi_gpu_entry(const tamis_plan *plan, enum tamisi_stage stage)
{
    return &((const struct tamisi_gpu_plan *)plan->state)->kernels[stage].entry;
}

/* ---- the stages, in a current context */

/* `kept`: of a plan whose budget is fixed, to be written with the rest; or NULL. */
static tamis_status score_stage(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, float *score,
                                float *rank, float *mean, int32_t *kept, char *workspace, tamis_stream stream)
{
    const tamis_problem *problem = &plan->problem;
    const struct tamisi_facts *facts = &plan->facts;
    if (facts->candidates == 0) return TAMIS_OK;

    const struct tamis_rows q_rows = rows_of(q), k_rows = rows_of(k);
    TAMIS_TRY(tamisi_gpu_score_launch(plan, &q_rows, &k_rows, score, workspace, stream));
    struct tamis_pool_args pool = {.score = score,
                                   .rank = rank,
                                   .mean = mean,
                                   .candidates = facts->candidates,
                                   .q_heads = problem->q_heads,
                                   .index_heads = facts->index_heads,
                                   .pool = problem->selection.pool,
                                   .kept = kept};
    if (kept) pool.fixed_kept = (int)(facts->fixed_keep + problem->seq_len - facts->candidates);
    const unsigned blocks = tamisi_gpu_tiles(facts->candidates, tamisi_gpu_entry(plan, TAMISI_SELECT_POOL)->block_m);
    return tamisi_gpu_launch(plan, TAMISI_SELECT_POOL, blocks, (unsigned)problem->batch, 1, &pool, stream);
}

/* A stage in which one block or, of a list that is long for one, block_m blocks go through `candidates`; y by z lists. */
static tamis_status launch_lists(const tamis_plan *plan, enum tamisi_stage stage, long long candidates, unsigned y, unsigned z,
                                 void *args, tamis_stream stream)
{
    const struct tamisi_entry *entry = tamisi_gpu_entry(plan, stage);
    const unsigned blocks = candidates > entry->block_n ? (unsigned)entry->block_m : 1;
    return tamisi_gpu_launch_clusters(plan, stage, blocks, blocks, y, z, args, stream);
}

static tamis_status budget_stage(const tamis_plan *plan, const float *mean, int32_t *kept, tamis_stream stream)
{
    const tamis_problem *problem = &plan->problem;
    const struct tamisi_facts *facts = &plan->facts;
    struct tamis_budget_args budget = {.mean = mean,
                                       .kept = kept,
                                       .seq_len = problem->seq_len,
                                       .candidates = facts->candidates,
                                       .min_tokens = problem->selection.min_tokens,
                                       .fixed_keep = facts->fixed_keep,
                                       .coverage = problem->selection.coverage};
    const long long candidates = facts->fixed_keep < 0 ? facts->candidates : 0; /* that are looked at */
    return launch_lists(plan, TAMISI_SELECT_BUDGET, candidates, (unsigned)problem->batch, 1, &budget, stream);
}

static tamis_status tokens_stage(const tamis_plan *plan, const float *rank, const int32_t *kept, int32_t *indices,
                                 tamis_stream stream)
{
    const tamis_problem *problem = &plan->problem;
    const struct tamisi_facts *facts = &plan->facts;
    struct tamis_tokens_args tokens = {.rank = rank,
                                       .kept = kept,
                                       .indices = indices,
                                       .seq_len = problem->seq_len,
                                       .candidates = facts->candidates,
                                       .capacity = facts->capacity,
                                       .index_heads = facts->index_heads};
    return launch_lists(plan, TAMISI_SELECT_TOKENS, facts->candidates, (unsigned)facts->index_heads, (unsigned)problem->batch,
                        &tokens, stream);
}

static tamis_status select_stage(const tamis_plan *plan, const float *rank, const float *mean, int32_t *kept,
                                 int32_t *indices, tamis_stream stream)
{
    TAMIS_TRY(budget_stage(plan, mean, kept, stream));
    return tokens_stage(plan, rank, kept, indices, stream);
}

static struct tamis_compress_tensor compress_tensor(const tamis_tensor *source, int source_heads,
                                                    const tamis_tensor *compact, int heads)
{
    return (struct tamis_compress_tensor){rows_of(source), rows_of(compact), heads, source_heads};
}

/* K and V, and Q where `compact_q` is given. `counter`: of the attention that follows in the same run, or NULL. */
static tamis_status compress_stage(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                   const tamis_tensor *v, const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                                   const tamis_tensor *compact_v, const int32_t *kept, const int32_t *indices,
                                   unsigned *counter, tamis_stream stream)
{
    const struct tamisi_facts *facts = &plan->facts;
    const int q_heads = plan->problem.q_heads, kv_heads = plan->problem.kv_heads, heads = facts->compact_heads;
    struct tamis_compress_args args = {.tensors = {compress_tensor(k, kv_heads, compact_k, heads),
                                                   compress_tensor(v, kv_heads, compact_v, heads)},
                                       .kept = kept,
                                       .indices = indices,
                                       .seq_len = plan->problem.seq_len,
                                       .capacity = facts->capacity,
                                       .index_heads = facts->index_heads,
                                       .head_run = heads / kv_heads, /* they read one head of K and V */
                                       .skip_dense = counter != NULL,
                                       .counter = counter};
    if (compact_q) args.tensors[2] = compress_tensor(q, q_heads, compact_q, q_heads);
    const unsigned run = (unsigned)args.head_run, all_heads = (unsigned)(2 * heads + args.tensors[2].heads);
    const unsigned blocks = tamisi_gpu_tiles(facts->capacity, tamisi_gpu_entry(plan, TAMISI_COMPRESS)->block_m);
    return tamisi_gpu_launch(plan, TAMISI_COMPRESS, blocks * run, all_heads / run, (unsigned)plan->problem.batch, &args,
                             stream);
}

static tamis_status decompress_stage(const tamis_plan *plan, const tamis_tensor *compact, const float *compact_lse,
                                     const int32_t *kept, const int32_t *indices, const tamis_tensor *output, float *lse,
                                     tamis_stream stream)
{
    const tamis_problem *problem = &plan->problem;
    struct tamis_decompress_args args = {.output = rows_of(output),
                                         .compact_lse = compact_lse,
                                         .lse = lse,
                                         .kept = kept,
                                         .indices = indices,
                                         .seq_len = problem->seq_len,
                                         .capacity = plan->facts.capacity,
                                         .q_heads = problem->q_heads,
                                         .index_heads = plan->facts.index_heads};
    if (compact) args.compact = rows_of(compact);
    const unsigned blocks = tamisi_gpu_tiles(problem->seq_len, tamisi_gpu_entry(plan, TAMISI_DECOMPRESS)->block_m);
    return tamisi_gpu_launch(plan, TAMISI_DECOMPRESS, blocks, (unsigned)problem->q_heads, (unsigned)problem->batch, &args,
                             stream);
}

/* ---- the steps as the API calls them */

tamis_status tamisi_gpu_score(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, float *score,
                              float *rank, float *mean, char *workspace, tamis_stream stream)
{
    TAMIS_TRY(tamisi_gpu_enter(plan->context));
    const tamis_status status = score_stage(plan, q, k, score, rank, mean, NULL, workspace, stream);
    tamisi_gpu_leave(plan->context);
    return status;
}

tamis_status tamisi_gpu_select(const tamis_plan *plan, const float *rank, const float *mean, int32_t *kept,
                               int32_t *indices, char *workspace, tamis_stream stream)
{
    (void)workspace; /* its sums fit in shared memory */
    TAMIS_TRY(tamisi_gpu_enter(plan->context));
    const tamis_status status = select_stage(plan, rank, mean, kept, indices, stream);
    tamisi_gpu_leave(plan->context);
    return status;
}

tamis_status tamisi_gpu_compress(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                 const tamis_tensor *v, const int32_t *kept, const int32_t *indices,
                                 const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                                 const tamis_tensor *compact_v, tamis_stream stream)
{
    TAMIS_TRY(tamisi_gpu_enter(plan->context));
    const tamis_status status = compress_stage(plan, q, k, v, compact_q, compact_k, compact_v, kept, indices, NULL, stream);
    tamisi_gpu_leave(plan->context);
    return status;
}

tamis_status tamisi_gpu_attend(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                               const tamis_tensor *v, const int32_t *kept, const void *output_map,
                               const tamis_tensor *output, float *lse, char *workspace, tamis_stream stream)
{
    struct tamis_attend_args args = tamisi_gpu_attend_compact(plan, q, k, v, kept, output, lse);
    TAMIS_TRY(tamisi_gpu_enter(plan->context));
    const tamis_status status = tamisi_gpu_attend_launch(plan, &args, output_map, workspace, stream);
    tamisi_gpu_leave(plan->context);
    return status;
}

tamis_status tamisi_gpu_decompress(const tamis_plan *plan, const tamis_tensor *compact_output, const float *compact_lse,
                                   const int32_t *kept, const int32_t *indices, const tamis_tensor *output, float *lse,
                                   tamis_stream stream)
{
    TAMIS_TRY(tamisi_gpu_enter(plan->context));
    const tamis_status status = decompress_stage(plan, compact_output, compact_lse, kept, indices, output, lse, stream);
    tamisi_gpu_leave(plan->context);
    return status;
}

/* ---- the operator in one call */

static tamis_status attend_stage(const tamis_plan *plan, const tamis_run_args *run, struct tamis_attend_args *args,
                                 char *workspace, tamis_stream stream)
{
    if (plan->pattern.kind == TAMIS_PATTERN_NONE)
        return tamisi_gpu_attend_launch(plan, args, run->output_map, workspace, stream);
    return tamisi_gpu_attend_pattern(plan, args, run->blocks, workspace, stream);
}

/* Every token is kept, whatever the data: plain attention, and what else was asked for. */
static tamis_status run_dense(const tamis_plan *plan, const tamis_run_args *run, char *workspace, tamis_stream stream)
{
    if (run->score)
        TAMIS_TRY(score_stage(plan, &run->q, &run->k, run->score, (float *)(void *)(workspace + plan->workspace.rank),
                              (float *)(void *)(workspace + plan->workspace.mean), NULL, workspace, stream));
    if (run->kept || run->indices) {
        int32_t *kept = run->kept ? run->kept : (int32_t *)(void *)(workspace + plan->workspace.kept);
        int32_t *indices = run->indices ? run->indices : (int32_t *)(void *)(workspace + plan->workspace.indices);
        TAMIS_TRY(select_stage(plan, NULL, NULL, kept, indices, stream));
    }
    struct tamis_attend_args args = {.q = rows_of(&run->q),
                                     .k = rows_of(&run->k),
                                     .v = rows_of(&run->v),
                                     .output = rows_of(&run->output),
                                     .lse = run->lse,
                                     .lse_rows = plan->problem.seq_len,
                                     .compact_heads = plan->problem.kv_heads};
    return attend_stage(plan, run, &args, workspace, stream);
}

/*
 * The attention kernel gathers Q and scatters its rows itself, so compact Q and output do not exist; some write the dropped
 * rows too, and decompress does it for the others. A sequence that turns out to drop nothing is attended to in place:
 * compress and decompress find it so on the device and return at once.
 */
static tamis_status run_sparse(const tamis_plan *plan, const tamis_run_args *run, char *workspace, tamis_stream stream)
{
    const struct tamisi_workspace *parts = &plan->workspace;
    const int heads = plan->facts.compact_heads;
    float *score = run->score ? run->score : (float *)(void *)(workspace + parts->score);
    float *rank = (float *)(void *)(workspace + parts->rank), *mean = (float *)(void *)(workspace + parts->mean);
    int32_t *kept = run->kept ? run->kept : (int32_t *)(void *)(workspace + parts->kept);
    int32_t *indices = run->indices ? run->indices : (int32_t *)(void *)(workspace + parts->indices);
    const tamis_tensor k = plain_tensor(plan, workspace + parts->compact_k, heads, plan->facts.capacity);
    const tamis_tensor v = plain_tensor(plan, workspace + parts->compact_v, heads, plan->facts.capacity);

    const bool is_fixed = plan->facts.fixed_keep >= 0;
    TAMIS_TRY(score_stage(plan, &run->q, &run->k, score, rank, mean, is_fixed ? kept : NULL, workspace, stream));
    if (!is_fixed) TAMIS_TRY(budget_stage(plan, mean, kept, stream));
    TAMIS_TRY(tokens_stage(plan, rank, kept, indices, stream));
    unsigned *counter = (unsigned *)(void *)(workspace + parts->counter);
    TAMIS_TRY(compress_stage(plan, NULL, &run->k, &run->v, NULL, &k, &v, kept, indices, counter, stream));
    struct tamis_attend_args args = {.q = rows_of(&run->q),
                                     .k = rows_of(&k),
                                     .v = rows_of(&v),
                                     .output = rows_of(&run->output),
                                     .lse = run->lse,
                                     .kept = kept,
                                     .indices = indices,
                                     .lse_rows = plan->problem.seq_len,
                                     .compact_heads = heads};
    if (!is_fixed) { /* a fixed budget always drops some: two maps fewer to make */
        args.k_full = rows_of(&run->k);
        args.v_full = rows_of(&run->v);
    }
    TAMIS_TRY(attend_stage(plan, run, &args, workspace, stream));
    if (tamisi_gpu_attend_zeroes(plan)) return TAMIS_OK;
    return decompress_stage(plan, NULL, NULL, kept, indices, &run->output, run->lse, stream);
}

tamis_status tamisi_gpu_run(const tamis_plan *plan, const tamis_run_args *args, char *workspace, tamis_stream stream)
{
    TAMIS_TRY(tamisi_gpu_enter(plan->context));
    const tamis_status status = plan->facts.dense ? run_dense(plan, args, workspace, stream)
                                                  : run_sparse(plan, args, workspace, stream);
    tamisi_gpu_leave(plan->context);
    return status;
}
