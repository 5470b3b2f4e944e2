/*
 * cpu_pattern.c: block patterns on the CPU: the scratch of a maker, which head it is at, and what makers share. What a pattern
 * is, is defined in cpu_pattern.h.
 */
#include "cpu_pattern.h"

#include "half.h"

/* ---- what makers share */

void tamisi_cpu_maker_row(double *out, const struct tamisi_cpu_maker *maker, const struct tamisi_cpu_rows *rows, long long i)
{
    const long long place = maker->indices ? maker->indices[i] : i;
    tamisi_half_read_double(out, rows->data + place * rows->stride, (size_t)maker->head_dim, maker->dtype);
}

double tamisi_cpu_maker_dot(const double *a, const double *b, int count)
{
    double sums[4] = {0, 0, 0, 0}; /* head dims are multiples of 4 */
    for (int d = 0; d < count; d += 4)
        for (int i = 0; i < 4; i++) sums[i] += a[d + i] * b[d + i];
    return sums[0] + sums[1] + (sums[2] + sums[3]);
}

static void mean_of(double *mean, const struct tamisi_cpu_maker *maker, const struct tamisi_cpu_rows *rows, long long block)
{
    double row[TAMISI_CPU_HEAD_DIM_MAX];
    const long long first = block * TAMIS_BLOCK_SIZE, left = maker->rows - first;
    const int count = (int)(left < TAMIS_BLOCK_SIZE ? left : TAMIS_BLOCK_SIZE);
    for (int d = 0; d < maker->head_dim; d++) mean[d] = 0;
    for (int i = 0; i < count; i++) {
        tamisi_cpu_maker_row(row, maker, rows, first + i);
        for (int d = 0; d < maker->head_dim; d++) mean[d] += row[d];
    }
    for (int d = 0; d < maker->head_dim; d++) mean[d] /= count;
}

static void means_task(void *argument, long long block)
{
    const struct tamisi_cpu_maker *maker = argument;
    mean_of(maker->memory.mean_q + block * maker->head_dim, maker, &maker->q, block);
    mean_of(maker->memory.mean_k + block * maker->head_dim, maker, &maker->k, block);
}

void tamisi_cpu_maker_means(const struct tamisi_cpu_maker *maker)
{
    struct tamisi_cpu_maker work = *maker;
    tamisi_cpu_threads_run(maker->threads, maker->blocks, means_task, &work);
}

/* Does `a` come before `b`? A NaN comes last, so that there is an order in any case. */
static bool precedes(const struct tamisi_cpu_item *a, const struct tamisi_cpu_item *b)
{
    const bool a_lacks = !(a->value == a->value), b_lacks = !(b->value == b->value);
    if (a_lacks != b_lacks) return b_lacks;
    if (!a_lacks && a->value != b->value) return a->value > b->value;
    return a->at < b->at;
}

/* Sink items[root] in the heap whose top is what comes last. */
static void sink(struct tamisi_cpu_item *items, long long root, long long count)
{
    const struct tamisi_cpu_item item = items[root];
    for (;;) {
        long long child = 2 * root + 1;
        if (child >= count) break;
        if (child + 1 < count && precedes(&items[child], &items[child + 1])) child++;
        if (!precedes(&item, &items[child])) break;
        items[root] = items[child];
        root = child;
    }
    items[root] = item;
}

/* In place: qsort may ask for memory, which running does not. */
void tamisi_cpu_items_sort(struct tamisi_cpu_item *items, long long count)
{
    for (long long root = count / 2 - 1; root >= 0; root--) sink(items, root, count);
    for (long long last = count - 1; last > 0; last--) {
        const struct tamisi_cpu_item item = items[last];
        items[last] = items[0];
        items[0] = item;
        sink(items, 0, last);
    }
}

void tamisi_cpu_maker_list(const struct tamisi_cpu_maker *maker, int i, const unsigned char *chosen)
{
    int32_t *list = maker->list + (long long)i * maker->row;
    int count = 0;
    for (int j = 0; j <= i; j++)
        if (chosen[j]) list[count++] = j;
    maker->count[i] = count;
}

/* ---- scratch */

static size_t take(size_t *bytes, long long count, size_t size)
{
    const size_t offset = *bytes;
    *bytes += ((size_t)count * size + 63) / 64 * 64;
    return offset;
}

/* The parts of it from `base` on; returns their size. */
static size_t cut_memory(struct tamisi_cpu_maker_memory *memory, char *base, long long capacity, int head_dim)
{
    const long long blocks = (capacity + TAMIS_BLOCK_SIZE - 1) / TAMIS_BLOCK_SIZE, pairs = tamisi_cpu_triangle(blocks);
    size_t bytes = 0;
    memory->items = (void *)(base + take(&bytes, pairs > capacity ? pairs : capacity, sizeof *memory->items));
    memory->triangle = (void *)(base + take(&bytes, pairs, sizeof(double)));
    memory->vertical = (void *)(base + take(&bytes, capacity, sizeof(double)));
    memory->slash = (void *)(base + take(&bytes, capacity, sizeof(double)));
    memory->mean_q = (void *)(base + take(&bytes, blocks * head_dim, sizeof(double)));
    memory->mean_k = (void *)(base + take(&bytes, blocks * head_dim, sizeof(double)));
    memory->vertical_blocks = (void *)(base + take(&bytes, blocks, sizeof(double)));
    memory->slash_blocks = (void *)(base + take(&bytes, blocks, sizeof(double)));
    memory->chosen = (void *)(base + take(&bytes, pairs, 1));
    memory->chosen_vertical = (void *)(base + take(&bytes, blocks, 1));
    memory->chosen_slash = (void *)(base + take(&bytes, blocks, 1));
    return bytes;
}

static bool needs_memory(const tamis_pattern *pattern)
{
    return pattern->kind != TAMIS_PATTERN_NONE && pattern->kind != TAMIS_PATTERN_HOST_BLOCKS &&
           pattern->kind != TAMIS_PATTERN_SLIDING;
}

size_t tamisi_cpu_pattern_bytes(const tamis_problem *problem, const struct tamisi_facts *facts, const tamis_pattern *pattern)
{
    static char base[1]; /* of which nothing is touched */
    struct tamisi_cpu_maker_memory memory;
    return needs_memory(pattern) ? cut_memory(&memory, base, facts->capacity, problem->head_dim) : 0;
}

/* ---- the heads, in turn */

static void make_head(const struct tamisi_cpu_maker *maker)
{
    switch (maker->pattern->kind) {
    case TAMIS_PATTERN_SLIDING: tamisi_cpu_make_sliding(maker); break;
    case TAMIS_PATTERN_VERTICAL_SLASH: tamisi_cpu_make_vertical_slash(maker); break;
    case TAMIS_PATTERN_FLEXPREFILL: tamisi_cpu_make_flexprefill(maker); break;
    case TAMIS_PATTERN_XATTENTION: tamisi_cpu_make_xattention(maker); break;
    case TAMIS_PATTERN_TOPK_BLOCKS: tamisi_cpu_make_topk(maker); break;
    default: break;
    }
}

void tamisi_cpu_make_lists(const tamis_plan *plan, const struct tamisi_cpu_pattern_source *source,
                           const struct tamisi_cpu_lists *lists, char *scratch)
{
    const tamis_problem *problem = &plan->problem;
    const struct tamisi_facts *facts = &plan->facts;
    const int tiles = tamisi_pattern_tiles(facts);
    struct tamisi_cpu_maker maker = {.pattern = &plan->pattern,
                                     .threads = tamisi_cpu_of(plan)->threads,
                                     .head_dim = problem->head_dim,
                                     .dtype = problem->dtype,
                                     .scale = facts->scale,
                                     .row = lists->row};
    if (needs_memory(&plan->pattern)) cut_memory(&maker.memory, scratch, facts->capacity, problem->head_dim);
    if (plan->pattern.kind == TAMIS_PATTERN_SLIDING) tamisi_cpu_sliding_masks(lists->masks, &plan->pattern);
    for (long long at = 0; at < (long long)problem->batch * problem->q_heads; at++) {
        const long long sequence = at / problem->q_heads, head = at % problem->q_heads;
        const long long tokens = sequence * facts->index_heads + head / (problem->q_heads / facts->index_heads);
        if (source->q) maker.q = tamisi_cpu_rows_of(source->q, sequence, head);
        if (source->k) maker.k = tamisi_cpu_rows_of(source->k, sequence, head / (problem->q_heads / source->kv_heads));
        maker.indices = source->indices ? source->indices + tokens * facts->capacity : NULL;
        maker.rows = source->kept ? source->kept[sequence] : problem->seq_len;
        maker.blocks = (int)tamisi_cpu_tiles(maker.rows, TAMIS_BLOCK_SIZE);
        maker.count = lists->count + at * tiles;
        maker.list = lists->list + at * tiles * lists->row;
        make_head(&maker);
    }
}
