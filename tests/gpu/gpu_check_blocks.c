/*
 * gpu_check_blocks.c: a seeded series of block patterns that a host names: in each of the three forms, dense, sparse, without
 * the diagonal, without any block, with masks that cut through blocks, on all tokens and on those that were kept. Rows are
 * compared with double precision by gpu_case_check; running in steps has to give the bits of the one call.
 */
#define _GNU_SOURCE
#include "gpu_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { block = TAMIS_BLOCK_SIZE, mask_count = 5, mask_words = 512, number_bits = 20, DEVICE_ARRAYS = 16 };

/* What the host names: lists as tamis_blocks has them, and the same in the other forms. */
struct pattern {
    int tiles;
    long long heads;
    int32_t *count, *list, *columns;
    int64_t *offsets;
    uint32_t *bits, *masks;
    tamis_blocks blocks; /* in device memory */
};

struct blocks_case {
    struct gpu_case c;
    struct pattern pattern;
    tamis_pattern kind;
    tamis_plan_options options;
    void *device[DEVICE_ARRAYS]; /* to be freed */
    int device_count;
};

static int below(unsigned long long *state, int count) { return (int)(gpu_random(state) % (unsigned)count); }

static unsigned long long seed_of(int number) { return 0x3c6ef372ull + (unsigned long long)number * 0x632be59bd9b4e019ull; }

static void make_problem(tamis_problem *p, tamis_pattern *pattern, int number)
{
    static const int dims[] = {128, 64, 96, 256}, groups[] = {1, 2, 4};
    static const long long lengths[] = {1, 127, 128, 129, 200, 256, 300, 385, 520, 640, 1000};
    unsigned long long state = seed_of(number);
    *p = (tamis_problem)TAMIS_PROBLEM_INIT;
    *pattern = (tamis_pattern)TAMIS_PATTERN_INIT;
    p->dtype = number / 4 % 2 ? TAMIS_FP16 : TAMIS_BF16;
    p->head_dim = dims[number % 4];
    p->batch = 1 + below(&state, 2);
    p->kv_heads = 1 + below(&state, 2);
    p->q_heads = p->kv_heads * groups[below(&state, 3)];
    p->seq_len = lengths[below(&state, 11)];
    p->selection.window = 24;
    p->selection.min_tokens = 8;
    p->selection.policy = number % 3 == 0 ? TAMIS_DENSE : number % 3 == 1 ? TAMIS_RATIO : TAMIS_COVERAGE;
    p->selection.scope = (tamis_scope)below(&state, 3);
    p->selection.ratio = 0.7;
    p->selection.coverage = below(&state, 3) ? 0.1 : 1e-9; /* the latter finds out on the device that it drops nothing */
    pattern->kind = TAMIS_PATTERN_HOST_BLOCKS;
    pattern->host_blocks.form = (tamis_blocks_form)(number / 2 % 3);
}

void gpu_blocks_name(char *out, size_t size, int number)
{
    static const char *const forms[] = {"lists", "bits", "rows"}, *const policies[] = {"dense", "coverage", "ratio", "count"};
    tamis_problem p;
    tamis_pattern pattern;
    make_problem(&p, &pattern, number);
    snprintf(out, size, "blocks %d: %s B%d Hq%d Hkv%d L%lld D%d, %s, %s", number, p.dtype == TAMIS_BF16 ? "bf16" : "fp16",
             p.batch, p.q_heads, p.kv_heads, (long long)p.seq_len, p.head_dim, policies[p.selection.policy],
             forms[pattern.host_blocks.form]);
}

/* ---- the pattern */

/* Masks: a window that cuts through, every other key, few keys, no key at all, and all. */
static void make_masks(uint32_t *masks, unsigned long long *state)
{
    for (int m = 0; m < mask_count; m++)
        for (int q = 0; q < block; q++)
            for (int k = 0; k < block; k++) {
                const bool sees[mask_count] = {k > q - 40, (q + k) % 2 == 0, below(state, 20) == 0, false, true};
                if (sees[m]) masks[m * mask_words + q * 4 + k / 32] |= 1u << k % 32;
            }
}

/*
 * One list; each block is there one time in `rarity`, of 4 the query block itself three times. One in three lists has a block
 * behind the diagonal, which nobody sees.
 */
static int make_list(int32_t *list, int tile, int tiles, int rarity, bool masked, int *masks_used, unsigned long long *state)
{
    int count = 0;
    for (int j = 0; j <= tile; j++) {
        const bool listed = j == tile ? rarity < 100 && below(state, 4) > 0 : below(state, rarity) == 0;
        if (!listed) continue;
        const int mask = masked && below(state, 2) ? 1 + *masks_used % mask_count : 0; /* each of them in turn */
        *masks_used += mask > 0;
        list[count++] = j | mask << number_bits;
    }
    if (tile + 1 < tiles && below(state, 3) == 0) list[count++] = tile + 1;
    return count;
}

static bool make_pattern(struct pattern *pattern, const struct gpu_case *c, bool masked, int number)
{
    static const int rarities[] = {1, 2, 4, 1000};
    unsigned long long state = seed_of(number) + 1;
    const int tiles = tamis_plan_block_count(c->plan), words = (tiles + 31) / 32;
    const long long heads = (long long)c->problem.batch * c->problem.q_heads, rows = heads * tiles;
    int masks_used = 0;
    pattern->tiles = tiles;
    pattern->heads = heads;
    pattern->count = calloc((size_t)rows, sizeof *pattern->count);
    pattern->list = calloc((size_t)(rows * tiles), sizeof *pattern->list);
    pattern->columns = calloc((size_t)(rows * tiles) + 1, sizeof *pattern->columns);
    pattern->offsets = calloc((size_t)rows + 1, sizeof *pattern->offsets);
    pattern->bits = calloc((size_t)(rows * words), sizeof *pattern->bits);
    pattern->masks = calloc(mask_count * mask_words, sizeof *pattern->masks);
    if (!pattern->count || !pattern->list || !pattern->columns || !pattern->offsets || !pattern->bits || !pattern->masks)
        return false;
    make_masks(pattern->masks, &state);
    for (long long row = 0; row < rows; row++) {
        int32_t *list = pattern->list + row * tiles;
        const int count = make_list(list, (int)(row % tiles), tiles, rarities[below(&state, 4)], masked, &masks_used, &state);
        pattern->count[row] = count;
        pattern->offsets[row + 1] = pattern->offsets[row] + count;
        for (int i = 0; i < count; i++) {
            const int number_of = list[i] & ((1 << number_bits) - 1);
            pattern->columns[pattern->offsets[row] + i] = list[i];
            pattern->bits[row * words + number_of / 32] |= 1u << number_of % 32;
        }
    }
    return true;
}

static bool sees(const void *argument, long long head, int row, int key)
{
    const struct pattern *pattern = argument;
    const long long place = head * pattern->tiles + row / block;
    for (int i = 0; i < pattern->count[place]; i++) {
        const int32_t entry = pattern->list[place * pattern->tiles + i];
        if ((entry & ((1 << number_bits) - 1)) != key / block) continue;
        const int mask = (entry >> number_bits) - 1, k = key % block;
        return mask < 0 || (pattern->masks[mask * mask_words + row % block * 4 + k / 32] >> k % 32 & 1);
    }
    return false;
}

static void *to_device(struct blocks_case *b, const void *host, size_t bytes)
{
    void *device = NULL;
    if (tamis_memory_alloc(&device, b->c.context, bytes) != TAMIS_OK) return NULL;
    b->device[b->device_count++] = device;
    return !host || tamis_memory_write(b->c.context, device, host, bytes, NULL) == TAMIS_OK ? device : NULL;
}

static bool send_pattern(struct blocks_case *b)
{
    struct pattern *p = &b->pattern;
    const size_t rows = (size_t)(p->heads * p->tiles), tiles = (size_t)p->tiles;
    p->blocks = (tamis_blocks)TAMIS_BLOCKS_INIT;
    if (b->kind.host_blocks.form == TAMIS_BLOCKS_BITS) {
        p->blocks.bits = to_device(b, p->bits, rows * ((tiles + 31) / 32) * sizeof *p->bits);
        return p->blocks.bits != NULL;
    }
    p->blocks.mask_count = mask_count;
    p->blocks.masks = to_device(b, p->masks, mask_count * mask_words * sizeof *p->masks);
    if (b->kind.host_blocks.form == TAMIS_BLOCKS_LISTS) {
        p->blocks.count = to_device(b, p->count, rows * sizeof *p->count);
        p->blocks.list = to_device(b, p->list, rows * tiles * sizeof *p->list);
        return p->blocks.masks && p->blocks.count && p->blocks.list;
    }
    p->blocks.column_count = p->offsets[rows];
    p->blocks.offsets = to_device(b, p->offsets, (rows + 1) * sizeof *p->offsets);
    p->blocks.columns = to_device(b, p->columns, (rows * tiles + 1) * sizeof *p->columns);
    return p->blocks.masks && p->blocks.offsets && p->blocks.columns;
}

/* ---- the steps, on compact rows all of their own */

static tamis_tensor compact_tensor(struct blocks_case *b, int heads)
{
    const int64_t head = tamis_plan_capacity(b->c.plan) * b->c.problem.head_dim;
    return (tamis_tensor){to_device(b, NULL, (size_t)(b->c.problem.batch * heads * head) * 2), heads * head, head,
                          b->c.problem.head_dim};
}

static bool run_steps(struct blocks_case *b)
{
    struct gpu_case *c = &b->c;
    const tamis_problem *p = &c->problem;
    const size_t rows = (size_t)(b->pattern.heads * b->pattern.tiles), bytes = tamis_plan_workspace_bytes(c->plan);
    const int heads = tamis_plan_compact_heads(c->plan);
    const tamis_tensor q = compact_tensor(b, p->q_heads), k = compact_tensor(b, heads), v = compact_tensor(b, heads);
    const tamis_tensor out = compact_tensor(b, p->q_heads);
    tamis_blocks lists = b->pattern.blocks;
    void *work = c->workspace.device;
    if (!q.data || !k.data || !v.data || !out.data) return false;
    tamis_status status = tamis_compress(c->plan, &c->args.q, &c->args.k, &c->args.v, c->args.kept, c->args.indices, &q, &k, &v,
                                         work, bytes, NULL);
    if (status == TAMIS_OK && b->kind.host_blocks.form != TAMIS_BLOCKS_LISTS) {
        int32_t *count = to_device(b, NULL, rows * sizeof *count);
        int32_t *list = to_device(b, NULL, rows * (size_t)b->pattern.tiles * sizeof *list);
        if (!count || !list) return false;
        status = tamis_make_blocks(c->plan, NULL, NULL, c->args.kept, &b->pattern.blocks, count, list, work, bytes, NULL);
        lists.bits = NULL, lists.offsets = NULL, lists.columns = NULL;
        lists.count = count, lists.list = list;
    }
    if (status == TAMIS_OK)
        status = tamis_attend_blocks(c->plan, &q, &k, &v, c->args.kept, &lists, &out, NULL, work, bytes, NULL);
    if (status == TAMIS_OK)
        status = tamis_decompress(c->plan, &out, NULL, c->args.kept, c->args.indices, &c->args.output, NULL, work, bytes, NULL);
    if (status == TAMIS_OK) status = tamis_stream_synchronize(c->context, NULL);
    if (status != TAMIS_OK) printf("  in steps: %s\n", tamis_last_error());
    return status == TAMIS_OK;
}

/* The bits of the one call: what was selected is taken from it, and the output is poisoned again. */
static bool check_steps(struct blocks_case *b)
{
    struct gpu_case *c = &b->c;
    void *first = malloc(c->output.bytes), *poison = malloc(c->output.bytes);
    bool ok = first && poison;
    if (ok) memcpy(first, c->output.host, c->output.bytes);
    if (ok) memset(poison, 0xff, c->output.bytes);
    ok = ok && tamis_memory_write(c->context, c->output.device, poison, c->output.bytes, NULL) == TAMIS_OK && run_steps(b) &&
         gpu_case_fetch(c);
    if (ok && memcmp(first, c->output.host, c->output.bytes) != 0) {
        printf("  the steps give other bits\n");
        ok = false;
    }
    free(first);
    free(poison);
    return ok;
}

/* ---- a case */

/* Kept rows whose log-sum-exp says that they saw no key. */
static long long count_blind(const struct gpu_case *c)
{
    const tamis_problem *p = &c->problem;
    long long blind = 0, dropped = 0;
    for (long long i = 0; i < (long long)p->batch * p->q_heads * p->seq_len; i++)
        blind += ((const float *)c->lse.host)[i] == -__builtin_inff();
    for (int i = 0; i < p->batch; i++) dropped += p->q_heads * (p->seq_len - ((const int *)c->kept.host)[i]);
    return blind - dropped;
}

static void close_case(struct blocks_case *b)
{
    struct pattern *p = &b->pattern;
    for (int i = 0; i < b->device_count; i++) tamis_memory_free(b->c.context, b->device[i]);
    free(p->count), free(p->list), free(p->columns), free(p->offsets), free(p->bits), free(p->masks);
    gpu_case_close(&b->c);
}

bool gpu_check_blocks(int number, tamis_context *context, tamis_store *store, long long *blind_rows)
{
    struct blocks_case b = {.c = {.sharpness = number % 5 == 4 ? 20.0 : 1.0, .seed = seed_of(number)}};
    make_problem(&b.c.problem, &b.kind, number);
    b.options = (tamis_plan_options)TAMIS_PLAN_OPTIONS_INIT;
    b.options.pattern = &b.kind;
    b.c.options = &b.options;
    b.c.climb = number % 7 == 3 ? 300 : 0; /* maxima that grow by far from step to step */
    bool ok = gpu_case_open(&b.c, context, store) &&
              make_pattern(&b.pattern, &b.c, b.kind.host_blocks.form != TAMIS_BLOCKS_BITS, number) && send_pattern(&b);
    b.c.args.blocks = &b.pattern.blocks;
    b.c.sees = sees;
    b.c.pattern = &b.pattern;
    ok = ok && gpu_case_poison(&b.c) && gpu_case_run(&b.c) && gpu_case_fetch(&b.c) && gpu_case_check(&b.c, 200);
    if (ok) *blind_rows += count_blind(&b.c);
    ok = ok && check_steps(&b);
    close_case(&b);
    return ok;
}
