/*
 * tune_maker.c: see tune_maker.h.
 */
#include "tune_maker.h"

#include "bench.h"
#include "error.h"
#include "half.h"
#include "structured.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 2437 /* twenty blocks, five rows of the last */
#define SHORTER 300
#define KV_HEADS 2
#define SEED 20260103
#define GUARD_BYTES 256
#define GUARD 0x5a
#define TIES 2 /* blocks of a list, one that is listed and another that is not */
#define BLOCK_NUMBER ((1 << TAMIS_BLOCK_BITS) - 1)

static size_t mask_bytes(int masks) { return (size_t)masks * TAMIS_BLOCK_MASK_WORDS * sizeof(uint32_t); }

static size_t lists_of(const struct tune_made *made) { return (size_t)made->heads * (size_t)made->tiles; }

tamis_status tune_made_alloc(struct tune_made *out, long long heads, int tiles)
{
    *out = (struct tune_made){.heads = heads, .tiles = tiles};
    out->count = malloc(lists_of(out) * sizeof *out->count);
    out->list = malloc(lists_of(out) * (size_t)tiles * sizeof *out->list);
    out->masks = calloc(1, mask_bytes(TAMISI_PATTERN_MASKS));
    if (out->count && out->list && out->masks) return TAMIS_OK;
    return tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu lists of blocks", lists_of(out));
}

void tune_made_free(struct tune_made *made)
{
    free(made->count);
    free(made->list);
    free(made->masks);
    *made = (struct tune_made){.heads = 0};
}

/* ---- lists compared */

/* One list: of its entries those that count. */
struct one {
    const int32_t *list;
    int count;
};

static struct one list_at(const struct tune_made *made, long long head, int tile)
{
    const long long at = head * made->tiles + tile;
    return (struct one){made->list + at * made->tiles, made->count[at]};
}

/* Ascending, up to the query block itself. */
static bool is_sound(struct one list, int tile)
{
    if (list.count < 0 || list.count > tile + 1) return false;
    for (int e = 0; e < list.count; e++) {
        const int block = list.list[e] & BLOCK_NUMBER, last = e > 0 ? list.list[e - 1] & BLOCK_NUMBER : -1;
        if (list.list[e] < 0 || block <= last || block > tile || list.list[e] >> TAMIS_BLOCK_BITS > TAMISI_PATTERN_MASKS)
            return false;
    }
    return true;
}

static bool same_entry(const struct tune_made *a, int32_t entry_a, const struct tune_made *b, int32_t entry_b)
{
    const int mask_a = entry_a >> TAMIS_BLOCK_BITS, mask_b = entry_b >> TAMIS_BLOCK_BITS;
    if ((entry_a & BLOCK_NUMBER) != (entry_b & BLOCK_NUMBER) || (mask_a == 0) != (mask_b == 0)) return false;
    if (mask_a == 0) return true;
    return memcmp(a->masks + (mask_a - 1) * TAMIS_BLOCK_MASK_WORDS, b->masks + (mask_b - 1) * TAMIS_BLOCK_MASK_WORDS,
                  mask_bytes(1)) == 0;
}

/* Entries of one that the other does not have, both ways. */
static int differences(const struct tune_made *made, struct one a, const struct tune_made *reference, struct one b)
{
    int i = 0, j = 0, same = 0;
    while (i < a.count && j < b.count) {
        const int block_a = a.list[i] & BLOCK_NUMBER, block_b = b.list[j] & BLOCK_NUMBER;
        same += same_entry(made, a.list[i], reference, b.list[j]);
        i += block_a <= block_b;
        j += block_b <= block_a;
    }
    return a.count + b.count - 2 * same;
}

/* Of one head: how many lists are others; what is wrong into `why`. */
static int compare_head(const struct tune_made *made, const struct tune_made *reference, long long head, int tiles,
                        char why[TUNE_WHY])
{
    int others = 0;
    for (int tile = 0; tile < tiles && !why[0]; tile++) {
        const struct one list = list_at(made, head, tile), right = list_at(reference, head, tile);
        const bool sound = is_sound(list, tile);
        const int differ = sound ? differences(made, list, reference, right) : 0;
        others += differ > 0;
        if (!sound)
            snprintf(why, TUNE_WHY, "head %lld: the list of query block %d is no list", head, tile);
        else if (differ > TIES)
            snprintf(why, TUNE_WHY, "head %lld: of query block %d, %d blocks are listed, not %d, and %d are others", head, tile,
                     list.count, right.count, differ);
    }
    return others;
}

void tune_made_compare(const struct tune_made *made, const struct tune_made *reference, const int32_t *rows, int sequences,
                       char why[TUNE_WHY])
{
    const long long most = made->heads > 8 ? made->heads / 8 : 1;
    long long heads = 0;
    why[0] = '\0';
    for (long long head = 0; head < made->heads && !why[0]; head++) {
        const int32_t of = rows[head / (made->heads / sequences)];
        heads += compare_head(made, reference, head, (of + TAMIS_BLOCK - 1) / TAMIS_BLOCK, why) > 0;
    }
    if (!why[0] && heads > most)
        snprintf(why, TUNE_WHY, "in %lld of %lld heads other blocks are listed", heads, made->heads);
}

/* ---- lists made */

enum { Q, K, KEPT, COUNT, LIST, WORKSPACE, ARRAYS };

/* A plan and its arrays on a device. */
struct work {
    tamis_context *context;
    tamis_plan *plan;
    struct {
        void *data;
        size_t bytes;
    } arrays[ARRAYS];
};

static tamis_status open_plan(struct work *work, tamis_store *store, const tamis_problem *problem, const tamis_pattern *pattern,
                              const struct tamisi_force *force)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.tuning = TAMIS_TUNING_OFF;
    options.compiling = TAMIS_COMPILE_NEVER;
    options.pattern = pattern;
    return tamisi_plan_create_forced(&work->plan, work->context, store, problem, &options, force);
}

/* NaN or -1 in all of it, then what is known, then bytes that must stay. */
static tamis_status provide(struct work *work, int id, size_t bytes, const void *content)
{
    void *host = malloc(bytes + GUARD_BYTES);
    if (!host) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a case");
    memset(host, 0xff, bytes);
    if (content) memcpy(host, content, bytes);
    memset((char *)host + bytes, GUARD, GUARD_BYTES);
    work->arrays[id].bytes = bytes;
    tamis_status status = tamis_memory_alloc(&work->arrays[id].data, work->context, bytes + GUARD_BYTES);
    if (status == TAMIS_OK)
        status = tamis_memory_write(work->context, work->arrays[id].data, host, bytes + GUARD_BYTES, NULL);
    free(host);
    return status;
}

static tamis_status find_overrun(const struct work *work, char why[TUNE_WHY])
{
    static const char *const names[ARRAYS] = {[COUNT] = "block count", [LIST] = "block list", [WORKSPACE] = "workspace"};
    for (int id = COUNT; id <= WORKSPACE; id++) {
        unsigned char found[GUARD_BYTES];
        TAMIS_TRY(tamis_memory_read(work->context, found, (char *)work->arrays[id].data + work->arrays[id].bytes, sizeof found,
                                    NULL));
        for (int i = 0; i < GUARD_BYTES; i++)
            if (found[i] != GUARD) snprintf(why, TUNE_WHY, "it writes behind the end of %s", names[id]);
    }
    return TAMIS_OK;
}

static tamis_status read_lists(const struct work *work, struct tune_made *out)
{
    TAMIS_TRY(tamis_memory_read(work->context, out->count, work->arrays[COUNT].data, work->arrays[COUNT].bytes, NULL));
    TAMIS_TRY(tamis_memory_read(work->context, out->list, work->arrays[LIST].data, work->arrays[LIST].bytes, NULL));
    if (!tamisi_pattern_has_masks(&work->plan->pattern)) return TAMIS_OK;
    return tamis_memory_read(work->context, out->masks,
                             (char *)work->arrays[WORKSPACE].data + work->plan->workspace.block_masks,
                             mask_bytes(TAMISI_PATTERN_MASKS), NULL);
}

static tamis_status make_in(struct work *work, struct tune_made *out, const uint16_t *q, const uint16_t *k, const int32_t *kept,
                            char why[TUNE_WHY])
{
    const tamis_problem *p = &work->plan->problem;
    const long long head = p->seq_len * p->head_dim;
    const size_t q_bytes = (size_t)(p->batch * p->q_heads * head) * 2, k_bytes = (size_t)(p->batch * p->kv_heads * head) * 2;
    TAMIS_TRY(tune_made_alloc(out, (long long)p->batch * p->q_heads, tamis_plan_block_count(work->plan)));
    TAMIS_TRY(provide(work, Q, q_bytes, q));
    TAMIS_TRY(provide(work, K, k_bytes, k));
    TAMIS_TRY(provide(work, KEPT, (size_t)p->batch * sizeof *kept, kept));
    TAMIS_TRY(provide(work, COUNT, lists_of(out) * sizeof *out->count, NULL));
    TAMIS_TRY(provide(work, LIST, lists_of(out) * (size_t)out->tiles * sizeof *out->list, NULL));
    TAMIS_TRY(provide(work, WORKSPACE, tamis_plan_workspace_bytes(work->plan), NULL));
    const tamis_tensor q_tensor = {work->arrays[Q].data, p->q_heads * head, head, p->head_dim};
    const tamis_tensor k_tensor = {work->arrays[K].data, p->kv_heads * head, head, p->head_dim};
    TAMIS_TRY(tamis_make_blocks(work->plan, &q_tensor, &k_tensor, work->arrays[KEPT].data, NULL, work->arrays[COUNT].data,
                                work->arrays[LIST].data, work->arrays[WORKSPACE].data, work->arrays[WORKSPACE].bytes, NULL));
    TAMIS_TRY(tamis_stream_synchronize(work->context, NULL));
    TAMIS_TRY(find_overrun(work, why));
    return read_lists(work, out);
}

static tamis_status make_lists(struct tune_made *out, tamis_context *context, tamis_store *store, const tamis_problem *problem,
                               const tamis_pattern *pattern, const struct tamisi_force *force, const uint16_t *q,
                               const uint16_t *k, const int32_t *kept, char why[TUNE_WHY])
{
    struct work work = {.context = context};
    tamis_status status = open_plan(&work, store, problem, pattern, force);
    if (status == TAMIS_OK) status = make_in(&work, out, q, k, kept, why);
    for (int id = 0; id < ARRAYS; id++) tamis_memory_free(context, work.arrays[id].data);
    tamis_plan_free(work.plan);
    return status;
}

/* On the CPU, whose makers are the definition. */
static tamis_status make_reference(struct tune_made *out, const tamis_problem *problem, const tamis_pattern *pattern,
                                   const uint16_t *q, const uint16_t *k, const int32_t *kept)
{
    const struct tamisi_force none = {NULL, NULL};
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *cpu = NULL;
    char why[TUNE_WHY] = "";
    options.device = TAMIS_DEVICE_CPU;
    options.precision = TAMIS_FP64;
    *out = (struct tune_made){.heads = 0};
    TAMIS_TRY(tamis_context_create(&cpu, &options));
    const tamis_status status = make_lists(out, cpu, NULL, problem, pattern, &none, q, k, kept, why);
    tamis_context_free(cpu);
    return status;
}

tamis_status tune_made_of_head(struct tune_made *out, const tamis_problem *problem, const tamis_pattern *pattern,
                               const uint16_t *q, const uint16_t *k)
{
    const int32_t kept = (int32_t)problem->seq_len;
    tamis_problem one = *problem;
    one.batch = one.q_heads = one.kv_heads = 1;
    one.selection.policy = TAMIS_DENSE;
    return make_reference(out, &one, pattern, q, k, &kept);
}

#define PRODUCTS 1e9 /* of two numbers, a second, on one core */

double tune_made_seconds(const tamis_problem *problem, const tamis_pattern *pattern)
{
    const double rows = (double)problem->seq_len, tiles = rows / TAMIS_BLOCK;
    if (pattern->kind == TAMIS_PATTERN_SLIDING) return 0;
    const double estimated = pattern->kind == TAMIS_PATTERN_XATTENTION ? rows * rows / (2 * pattern->xattention.stride)
                                                                       : 2 * TAMIS_BLOCK * rows + tiles * tiles;
    return estimated * problem->head_dim / PRODUCTS;
}

/* ---- the small problem */

/* Of parameters that count tokens or blocks, as many as leave something out of twenty blocks. */
static void fit_pattern(tamis_pattern *pattern)
{
    tamis_pattern *p = pattern;
    if (p->sliding.sink_tokens > 200) p->sliding.sink_tokens = 200;
    if (p->sliding.window_tokens > 700) p->sliding.window_tokens = 700;
    if (p->vertical_slash.vertical_lines > 300) p->vertical_slash.vertical_lines = 300;
    if (p->vertical_slash.slash_lines > 500) p->vertical_slash.slash_lines = 500;
    if (p->flexprefill.min_tokens > 256) p->flexprefill.min_tokens = 256;
    if (p->topk_blocks.blocks > 5) p->topk_blocks.blocks = 5;
}

static void make_problem(tamis_problem *out, const tamis_problem *problem)
{
    *out = *problem;
    out->batch = 2;
    out->kv_heads = problem->kv_heads < KV_HEADS ? problem->kv_heads : KV_HEADS;
    out->q_heads = problem->q_heads / problem->kv_heads * out->kv_heads;
    out->seq_len = ROWS;
    out->selection.policy = TAMIS_DENSE;
    out->selection.scope = TAMIS_SCOPE_KV_GROUP; /* whose compact K has the heads of K */
}

/* Random numbers, of each row the first ones those of attention as models have it. */
static uint16_t *make_rows(const tamis_problem *p, int heads, bool of_queries, unsigned long long *random)
{
    const struct structured structure = STRUCTURED_INIT;
    const long long rows = (long long)p->batch * heads * p->seq_len;
    uint16_t *out = malloc((size_t)(rows * p->head_dim) * sizeof *out);
    for (long long row = 0; row < rows && out; row++) {
        const int head = (int)(row / p->seq_len);
        float elements[STRUCTURED_ELEMENTS];
        if (of_queries) structured_query(elements, &structure, SEED, head, row % p->seq_len);
        else structured_key(elements, &structure, SEED, head, row % p->seq_len, p->head_dim, p->scale);
        for (int d = 0; d < p->head_dim; d++) {
            const double even = (double)(bench_random(random) >> 11) * 0x1p-53;
            const float value = d < STRUCTURED_ELEMENTS ? elements[d] : (float)(3.4641 * (even - 0.5)); /* of variance 1 */
            out[row * p->head_dim + d] = tamisi_half_from_float(value, p->dtype);
        }
    }
    return out;
}

tamis_status tune_maker_case_make(struct tune_maker_case *out, const tamis_problem *problem, const tamis_pattern *pattern)
{
    unsigned long long random = SEED;
    *out = (struct tune_maker_case){.pattern = *pattern, .kept = {ROWS, ROWS - SHORTER}};
    make_problem(&out->problem, problem);
    fit_pattern(&out->pattern);
    out->q = make_rows(&out->problem, out->problem.q_heads, true, &random);
    out->k = make_rows(&out->problem, out->problem.kv_heads, false, &random);
    tamis_status status = out->q && out->k ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for a case");
    if (status == TAMIS_OK)
        status = make_reference(&out->reference, &out->problem, &out->pattern, out->q, out->k, out->kept);
    out->made = status == TAMIS_OK;
    if (status != TAMIS_OK) tune_maker_case_free(out);
    return status;
}

void tune_maker_case_free(struct tune_maker_case *made)
{
    free(made->q);
    free(made->k);
    tune_made_free(&made->reference);
    *made = (struct tune_maker_case){.made = false};
}

tamis_status tune_maker_case_check(const struct tune_maker_case *made, tamis_context *context, tamis_store *store,
                                   const struct tamisi_force *force, char why[TUNE_WHY])
{
    struct tune_made found = {.heads = 0};
    char wrong[TUNE_WHY] = "";
    why[0] = '\0';
    const tamis_status status = make_lists(&found, context, store, &made->problem, &made->pattern, force, made->q, made->k,
                                           made->kept, wrong);
    if (status == TAMIS_OK && !wrong[0]) tune_made_compare(&found, &made->reference, made->kept, 2, wrong);
    if (status == TAMIS_OK && wrong[0]) snprintf(why, TUNE_WHY, "seq_len %d: %.130s", ROWS, wrong);
    tune_made_free(&found);
    return status;
}
