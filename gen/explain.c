/*
 * explain.c: see explain.h. The grids are those of the runtime's gpu_stages.c and gpu_attend.c; a test holds the two
 * together.
 */
#include "explain.h"

#include <math.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------------- the workspace */

void explain_parts(struct explain_part out[EXPLAIN_PARTS], const struct tamisi_workspace *workspace)
{
    const struct {
        const char *name, *shape;
        size_t offset;
    } parts[EXPLAIN_PARTS] = {{"score", "float (B, Hq, N)", workspace->score},
                              {"rank", "float (B, Hi, N)", workspace->rank},
                              {"mean", "float (B, N)", workspace->mean},
                              {"partial", "float (B, Hq, W, chunks, 2)", workspace->partial},
                              {"lse2", "float (B, Hq, W up to a multiple of 64)", workspace->lse2},
                              {"kept", "int32 (B)", workspace->kept},
                              {"indices", "int32 (B, Hi, C)", workspace->indices},
                              {"compact_k", "16 bits (B, Hc, C, D)", workspace->compact_k},
                              {"compact_v", "16 bits (B, Hc, C, D)", workspace->compact_v},
                              {"counter", "uint32, of attention's tiles", workspace->counter}};
    for (int i = 0; i < EXPLAIN_PARTS; i++) {
        const size_t end = i + 1 < EXPLAIN_PARTS ? parts[i + 1].offset : workspace->bytes;
        out[i] = (struct explain_part){parts[i].name, parts[i].shape, (long long)(end - parts[i].offset)};
    }
}

/* ----------------------------------------------------------------------------------------------------------------- kept */

struct explain_kept explain_kept(const tamis_problem *problem, const struct tamisi_facts *facts, double ratio)
{
    const long long window = problem->seq_len - facts->candidates;
    if (facts->fixed_keep >= 0) return (struct explain_kept){facts->fixed_keep + window, false};
    long long keep = (long long)ceil(ratio * (double)facts->candidates);
    if (keep < problem->selection.min_tokens) keep = problem->selection.min_tokens;
    if (keep > facts->candidates) keep = facts->candidates;
    return (struct explain_kept){keep + window, true};
}

/* --------------------------------------------------------------------------------------------------------- the launches */

tamis_status explain_add(struct explain_kernels *kernels, const struct tamisi_variant *variant,
                         const struct tamisi_resource *resources, int resource_count)
{
    for (int i = 0; i < variant->entry_count; i++) {
        if (kernels->count == EXPLAIN_KERNELS)
            return tamisi_fail(TAMIS_EINVAL, "%s: more than %d kernels", variant->name, EXPLAIN_KERNELS);
        struct explain_kernel *kernel = &kernels->list[kernels->count++];
        *kernel = (struct explain_kernel){.entry = variant->entries[i]};
        for (int r = 0; r < resource_count; r++) {
            if (strcmp(resources[r].symbol, kernel->entry.symbol) != 0) continue;
            kernel->resource = resources[r];
            kernel->compiled = true;
        }
    }
    return TAMIS_OK;
}

static const struct explain_kernel *find_kernel(const struct explain_kernels *kernels, const char *stage)
{
    for (int i = 0; i < kernels->count; i++)
        if (strcmp(kernels->list[i].entry.stage, stage) == 0) return &kernels->list[i];
    return NULL;
}

/* The launches so far. */
struct launches {
    struct explain_launch *list;
    int count;
    const struct explain_kernels *kernels;
    const char *missing; /* the first stage that no kernel serves */
};

/* A launch whose grid is blocks of `rows` by y by z. */
static void add_launch(struct launches *launches, const char *stage, const char *what, long long rows, long long y,
                       long long z)
{
    const struct explain_kernel *kernel = find_kernel(launches->kernels, stage);
    if (!kernel || kernel->entry.block_m <= 0) {
        if (!launches->missing) launches->missing = stage;
        return;
    }
    const long long block = kernel->entry.block_m;
    launches->list[launches->count++] =
        (struct explain_launch){.kernel = kernel, .what = what, .grid = {(rows + block - 1) / block, y, z}};
}

/* A launch whose grid is y by z lists of `candidates`: each a block or, of long ones, a cluster of block_m blocks. */
static void add_lists(struct launches *launches, const char *stage, long long candidates, long long y, long long z)
{
    const int before = launches->count;
    add_launch(launches, stage, "", 1, y, z);
    if (launches->count == before) return;
    struct explain_launch *launch = &launches->list[before];
    if (candidates > launch->kernel->entry.block_n) launch->grid[0] = launch->kernel->entry.block_m;
}

/* One whose persistent blocks share out `items` tiles of `rows` each. */
static void add_persistent(struct launches *launches, const char *stage, const char *what, long long rows, long long items)
{
    const int sm_count = launches->kernels->sm_count, before = launches->count;
    add_launch(launches, stage, what, rows, 1, 1);
    if (launches->count == before) return;
    struct explain_launch *launch = &launches->list[before];
    launch->grid[0] *= items;
    launch->up_to = sm_count == 0;
    if (sm_count > 0 && launch->grid[0] > sm_count) launch->grid[0] = sm_count;
}

static void add_stats(struct launches *launches, const tamis_problem *problem, const struct tamisi_facts *facts)
{
    const long long heads = (long long)problem->batch * problem->kv_heads, rows = facts->group * problem->selection.window;
    const int before = launches->count;
    if (find_kernel(launches->kernels, "score_stats_tma")) {
        add_persistent(launches, "score_stats_tma", "", rows, heads * facts->score_chunks);
        return;
    }
    add_launch(launches, "score_stats", "", rows, 0, heads);
    if (launches->count == before) return;
    long long *grid = launches->list[before].grid; /* its tiles of rows are along y */
    grid[1] = grid[0];
    grid[0] = facts->score_chunks;
}

static void add_score(struct launches *launches, const tamis_problem *problem, const struct tamisi_facts *facts)
{
    const long long batch = problem->batch, kv_heads = problem->kv_heads;
    add_stats(launches, problem, facts);
    add_launch(launches, "score_merge", "", facts->lse2_rows, problem->q_heads, batch);
    if (find_kernel(launches->kernels, "score_sum_tma"))
        add_persistent(launches, "score_sum_tma", "", facts->candidates, batch * kv_heads);
    else
        add_launch(launches, "score_sum", "", facts->candidates, kv_heads, batch);
    add_launch(launches, "select_pool", "", facts->candidates, batch, 1);
}

/* Heads that read one head of K or V are along x, behind the blocks of rows; K and V along y. */
static void add_compress(struct launches *launches, const tamis_problem *problem, const struct tamisi_facts *facts)
{
    const int before = launches->count;
    add_launch(launches, "compress", "K, V", facts->capacity, 2 * problem->kv_heads, problem->batch);
    if (launches->count > before) launches->list[before].grid[0] *= facts->compact_heads / problem->kv_heads;
}

static void add_attend(struct launches *launches, const tamis_problem *problem, const struct tamisi_facts *facts)
{
    if (find_kernel(launches->kernels, "attend_tma"))
        add_persistent(launches, "attend_tma", facts->dense ? "" : "+ zero rows", facts->capacity,
                       (long long)problem->batch * problem->q_heads);
    else
        add_launch(launches, "attend", "", facts->capacity, problem->q_heads, problem->batch);
}

tamis_status explain_launches(struct explain_launch out[EXPLAIN_LAUNCHES], int *count, const struct explain_kernels *kernels,
                              const tamis_problem *problem, const struct tamisi_facts *facts)
{
    struct launches launches = {.list = out, .kernels = kernels};
    const long long batch = problem->batch;
    if (!facts->dense) {
        add_score(&launches, problem, facts);
        if (facts->fixed_keep < 0) add_lists(&launches, "select_budget", facts->candidates, batch, 1); /* else pool's work */
        add_lists(&launches, "select_tokens", facts->candidates, facts->index_heads, batch);
        add_compress(&launches, problem, facts);
    }
    add_attend(&launches, problem, facts);
    if (!facts->dense && !find_kernel(kernels, "attend_tma")) /* which does it itself */
        add_launch(&launches, "decompress", "zero rows", problem->seq_len, problem->q_heads, batch);
    *count = launches.count;
    if (!launches.missing) return TAMIS_OK;
    return tamisi_fail(TAMIS_ENOTFOUND, "no kernel serves %s", launches.missing);
}

/* ----------------------------------------------------------------------------------------------------------- the floors */

int explain_floors(struct explain_floor out[EXPLAIN_FLOORS], const tamis_problem *problem, const struct tamisi_facts *facts,
                   long long kept)
{
    const double batch = problem->batch, q_heads = problem->q_heads, kv_heads = problem->kv_heads;
    const double length = (double)problem->seq_len, candidates = (double)facts->candidates, window = length - candidates;
    const double dim = problem->head_dim, row = 2 * dim, n = (double)kept, word = sizeof(float);
    const double lists = batch * facts->index_heads, compact_heads = facts->dense ? kv_heads : facts->compact_heads;
    const double pairs = problem->mask == TAMIS_FULL ? n * n : n * (n + 1) / 2;
    const double scores = batch * q_heads * candidates * word, means = batch * candidates * word;
    const double ranks = lists * candidates * word, positions = lists * n * word, sums = batch * q_heads * window * word;
    const double window_rows = batch * q_heads * window * row;
    int count = 0;
    if (!facts->dense) {
        /* Pass 1: each query's log-sum-exp over all keys. Pass 2: the probabilities before the window, summed over it. */
        out[count++] = (struct explain_floor){"score, pass 1", batch * kv_heads * length * row + window_rows, sums,
                                              2 * window * batch * q_heads * length * dim};
        out[count++] = (struct explain_floor){"score, pass 2", batch * kv_heads * candidates * row + window_rows + sums, scores,
                                              2 * window * batch * q_heads * candidates * dim};
        /* A fixed budget is written with the means, one by coverage is read from them. */
        const bool is_fixed = facts->fixed_keep >= 0;
        out[count++] = (struct explain_floor){"pool", scores, ranks + means + is_fixed * batch * word, 0};
        if (!is_fixed) out[count++] = (struct explain_floor){"budget", means, batch * word, 0};
        out[count++] = (struct explain_floor){"select", ranks, positions, 0};
        out[count++] = (struct explain_floor){"compress", 2 * batch * kv_heads * n * row + positions,
                                              2 * batch * compact_heads * n * row, 0};
    }
    out[count++] = (struct explain_floor){"attend", batch * (q_heads + 2 * compact_heads) * n * row, batch * q_heads * n * row,
                                          4 * batch * q_heads * pairs * dim};
    if (!facts->dense) out[count++] = (struct explain_floor){"zero rows", 0, batch * q_heads * (length - n) * row, 0};
    return count;
}

double explain_least_ms(const struct explain_floor *floor, double bytes_per_second, double flops_per_second)
{
    return 1e3 * fmax((floor->read_bytes + floor->written_bytes) / bytes_per_second, floor->flops / flops_per_second);
}
