/*
 * cpu_pattern_lines.c: the patterns VERTICAL_SLASH and FLEXPREFILL on the CPU: what the last queries attend to by columns and
 * diagonals, and blocks of both. Their definitions are in cpu_pattern.h.
 */
#include "cpu_pattern.h"

#include <math.h>

#define KEYS_TASK 64 /* columns or diagonals worked on together */

struct lines_work {
    const struct tamisi_cpu_maker *maker;
    int queries; /* W */
    double lse[TAMIS_BLOCK_SIZE];
};

/* ---- vertical(k) and slash(d) */

static double logit(const struct tamisi_cpu_maker *maker, const double *query, const double *key)
{
    return maker->scale * tamisi_cpu_maker_dot(query, key, maker->head_dim);
}

static void lse_task(void *argument, long long w)
{
    struct lines_work *work = argument;
    const struct tamisi_cpu_maker *maker = work->maker;
    const long long q = maker->rows - work->queries + w;
    double query[TAMISI_CPU_HEAD_DIM_MAX], key[TAMISI_CPU_HEAD_DIM_MAX], peak = -INFINITY, sum = 0;
    tamisi_cpu_maker_row(query, maker, &maker->q, q);
    for (long long k = 0; k <= q; k++) {
        tamisi_cpu_maker_row(key, maker, &maker->k, k);
        const double value = logit(maker, query, key);
        if (value > peak) {
            sum *= exp(peak - value);
            peak = value;
        }
        sum += exp(value - peak);
    }
    work->lse[w] = peak + log(sum);
}

static void vertical_task(void *argument, long long index)
{
    const struct lines_work *work = argument;
    const struct tamisi_cpu_maker *maker = work->maker;
    const long long first = index * KEYS_TASK;
    double query[TAMISI_CPU_HEAD_DIM_MAX], keys[KEYS_TASK][TAMISI_CPU_HEAD_DIM_MAX];
    for (long long k = first; k < first + KEYS_TASK && k < maker->rows; k++) {
        tamisi_cpu_maker_row(keys[k - first], maker, &maker->k, k);
        maker->memory.vertical[k] = 0;
    }
    for (int w = 0; w < work->queries; w++) {
        const long long q = maker->rows - work->queries + w;
        tamisi_cpu_maker_row(query, maker, &maker->q, q);
        for (long long k = first; k < first + KEYS_TASK && k <= q; k++)
            maker->memory.vertical[k] += exp(logit(maker, query, keys[k - first]) - work->lse[w]) / work->queries;
    }
}

static void slash_task(void *argument, long long index)
{
    const struct lines_work *work = argument;
    const struct tamisi_cpu_maker *maker = work->maker;
    const long long first = index * KEYS_TASK;
    double query[TAMISI_CPU_HEAD_DIM_MAX], keys[KEYS_TASK][TAMISI_CPU_HEAD_DIM_MAX]; /* key k at k % KEYS_TASK */
    long long loaded = 0;                                                            /* all keys below */
    for (long long d = first; d < first + KEYS_TASK && d < maker->rows; d++) maker->memory.slash[d] = 0;
    for (int w = 0; w < work->queries; w++) {
        const long long q = maker->rows - work->queries + w;
        tamisi_cpu_maker_row(query, maker, &maker->q, q);
        /* Of the next query there is one key more. */
        if (loaded < q - first - KEYS_TASK + 1) loaded = q - first - KEYS_TASK + 1;
        for (; loaded <= q - first; loaded++) tamisi_cpu_maker_row(keys[loaded % KEYS_TASK], maker, &maker->k, loaded);
        for (long long d = first; d < first + KEYS_TASK && d <= q; d++)
            maker->memory.slash[d] += exp(logit(maker, query, keys[(q - d) % KEYS_TASK]) - work->lse[w]) / work->queries;
    }
}

static void find_lines(const struct tamisi_cpu_maker *maker, int last_queries)
{
    struct lines_work work = {.maker = maker};
    work.queries = (int)(last_queries < maker->rows ? last_queries : maker->rows);
    const long long tasks = tamisi_cpu_tiles(maker->rows, KEYS_TASK);
    tamisi_cpu_threads_run(maker->threads, work.queries, lse_task, &work);
    tamisi_cpu_threads_run(maker->threads, tasks, vertical_task, &work);
    tamisi_cpu_threads_run(maker->threads, tasks, slash_task, &work);
}

/* ---- blocks of lines */

/* 1 more than how many of the largest values add up to at most `coverage`. */
static long long lines_covering(const struct tamisi_cpu_maker *maker, const double *values, double coverage)
{
    struct tamisi_cpu_item *items = maker->memory.items;
    long long lines = 0;
    double sum = 0;
    for (long long i = 0; i < maker->rows; i++) items[i] = (struct tamisi_cpu_item){values[i], i};
    tamisi_cpu_items_sort(items, maker->rows);
    while (lines < maker->rows && sum + items[lines].value <= coverage) sum += items[lines++].value;
    return lines + 1;
}

static int blocks_of(const struct tamisi_cpu_maker *maker, long long lines)
{
    const long long blocks = lines / TAMIS_BLOCK_SIZE + 1;
    return (int)(blocks < maker->blocks ? blocks : maker->blocks);
}

static void sum_blocks(const struct tamisi_cpu_maker *maker)
{
    const struct tamisi_cpu_maker_memory *memory = &maker->memory;
    for (int j = 0; j < maker->blocks; j++) memory->vertical_blocks[j] = memory->slash_blocks[j] = 0;
    for (long long i = 0; i < maker->rows; i++) {
        memory->vertical_blocks[i / TAMIS_BLOCK_SIZE] += memory->vertical[i];
        memory->slash_blocks[maker->blocks - 1 - (maker->rows - 1 - i) / TAMIS_BLOCK_SIZE] += memory->slash[i];
    }
}

/* The `wanted` largest of the blocks' sums, block 0 first of all. */
static void choose_blocks(const struct tamisi_cpu_maker *maker, unsigned char *chosen, const double *sums, int wanted)
{
    struct tamisi_cpu_item *items = maker->memory.items;
    for (int j = 0; j < maker->blocks; j++) {
        items[j] = (struct tamisi_cpu_item){j == 0 ? INFINITY : sums[j], j};
        chosen[j] = 0;
    }
    tamisi_cpu_items_sort(items, maker->blocks);
    for (int rank = 0; rank < wanted; rank++) chosen[items[rank].at] = 1;
}

static void choose_lines(const struct tamisi_cpu_maker *maker, int vertical, int slash)
{
    const struct tamisi_cpu_maker_memory *memory = &maker->memory;
    choose_blocks(maker, memory->chosen_vertical, memory->vertical_blocks, vertical);
    choose_blocks(maker, memory->chosen_slash, memory->slash_blocks, slash);
}

/* Lists of the chosen lines, and of the chosen pairs where there are any. */
static void write_lists(const struct tamisi_cpu_maker *maker, bool with_pairs)
{
    const struct tamisi_cpu_maker_memory *memory = &maker->memory;
    for (int i = 0; i < maker->blocks; i++) {
        unsigned char *chosen = memory->chosen + tamisi_cpu_triangle(i);
        for (int j = 0; j <= i; j++)
            chosen[j] = (with_pairs && chosen[j]) || memory->chosen_vertical[j] || memory->chosen_slash[i - j];
        tamisi_cpu_maker_list(maker, i, chosen);
    }
}

void tamisi_cpu_make_vertical_slash(const struct tamisi_cpu_maker *maker)
{
    const tamis_pattern *pattern = maker->pattern;
    const double coverage = pattern->vertical_slash.coverage;
    long long vertical = pattern->vertical_slash.vertical_lines, slash = pattern->vertical_slash.slash_lines;
    find_lines(maker, pattern->vertical_slash.last_queries);
    if (coverage > 0) {
        vertical = lines_covering(maker, maker->memory.vertical, coverage);
        slash = lines_covering(maker, maker->memory.slash, coverage);
    }
    sum_blocks(maker);
    choose_lines(maker, blocks_of(maker, vertical), blocks_of(maker, slash));
    write_lists(maker, false);
}

/* ---- FlexPrefill */

/* In place; what is 0 afterwards was too far below the largest. */
static void softmax(double *values, long long count)
{
    double peak = -INFINITY, sum = 0;
    for (long long i = 0; i < count; i++) peak = values[i] > peak ? values[i] : peak;
    for (long long i = 0; i < count; i++) sum += values[i] = exp(values[i] - peak);
    for (long long i = 0; i < count; i++) values[i] /= sum;
}

static double divergence_term(double p, double m) { return p > 0 ? p * log(p / m) : 0; }

/* sqrt(JS) of what the blocks' means say the last queries attend to, and of what these do. */
static double distance(const struct tamisi_cpu_maker *maker)
{
    const struct tamisi_cpu_maker_memory *memory = &maker->memory;
    const int dim = maker->head_dim;
    double row[TAMISI_CPU_HEAD_DIM_MAX], mean[TAMISI_CPU_HEAD_DIM_MAX] = {0}, sum = 0;
    double *guess = memory->triangle; /* at least T of them */
    for (int w = 0; w < TAMIS_BLOCK_SIZE; w++) {
        tamisi_cpu_maker_row(row, maker, &maker->q, maker->rows - TAMIS_BLOCK_SIZE + w);
        for (int d = 0; d < dim; d++) mean[d] += row[d] / TAMIS_BLOCK_SIZE;
    }
    for (int j = 0; j < maker->blocks; j++)
        guess[j] = maker->scale * tamisi_cpu_maker_dot(mean, memory->mean_k + (long long)j * dim, dim);
    softmax(guess, maker->blocks);
    for (int j = 0; j < maker->blocks; j++) {
        const double m = (guess[j] + memory->vertical_blocks[j]) / 2;
        sum += divergence_term(guess[j], m) / 2 + divergence_term(memory->vertical_blocks[j], m) / 2;
    }
    return sqrt(sum > 0 ? sum : 0); /* of equal distributions rounding may leave less than nothing */
}

static void pairs_task(void *argument, long long i)
{
    const struct tamisi_cpu_maker *maker = argument;
    const struct tamisi_cpu_maker_memory *memory = &maker->memory;
    double *values = memory->triangle + tamisi_cpu_triangle(i);
    for (long long j = 0; j <= i; j++)
        values[j] = maker->scale * tamisi_cpu_maker_dot(memory->mean_q + i * maker->head_dim,
                                                        memory->mean_k + j * maker->head_dim, maker->head_dim);
    softmax(values, i + 1);
}

/* The pairs of blocks that together hold at most gamma of all, in `chosen`. */
static void choose_pairs(const struct tamisi_cpu_maker *maker)
{
    const struct tamisi_cpu_maker_memory *memory = &maker->memory;
    const long long pairs = tamisi_cpu_triangle(maker->blocks);
    const double goal = maker->pattern->flexprefill.gamma * maker->blocks;
    struct tamisi_cpu_maker work = *maker;
    double sum = 0;
    tamisi_cpu_threads_run(maker->threads, maker->blocks, pairs_task, &work);
    for (long long at = 0; at < pairs; at++) {
        memory->items[at] = (struct tamisi_cpu_item){memory->triangle[at], at};
        memory->chosen[at] = 0;
    }
    tamisi_cpu_items_sort(memory->items, pairs);
    for (long long rank = 0; rank < pairs && (sum += memory->items[rank].value) <= goal; rank++)
        memory->chosen[memory->items[rank].at] = 1;
}

static void list_all(const struct tamisi_cpu_maker *maker)
{
    for (int i = 0; i < maker->blocks; i++) {
        for (int j = 0; j <= i; j++) maker->list[(long long)i * maker->row + j] = j;
        maker->count[i] = i + 1;
    }
}

/* Between the least and the most that the pattern allows; never more than there are. */
static int bounded(const struct tamisi_cpu_maker *maker, int blocks, int least)
{
    const long long most = maker->pattern->flexprefill.max_tokens;
    if (blocks < least) blocks = least;
    if (most > 0 && blocks > tamisi_cpu_tiles(most, TAMIS_BLOCK_SIZE)) blocks = (int)tamisi_cpu_tiles(most, TAMIS_BLOCK_SIZE);
    return blocks;
}

void tamisi_cpu_make_flexprefill(const struct tamisi_cpu_maker *maker)
{
    const tamis_pattern *pattern = maker->pattern;
    const double gamma = pattern->flexprefill.gamma;
    long long least = tamisi_cpu_tiles(pattern->flexprefill.min_tokens, TAMIS_BLOCK_SIZE);
    if (least < 1) least = 1;
    if (maker->rows <= 2 * TAMIS_BLOCK_SIZE || maker->blocks <= least) {
        list_all(maker);
        return;
    }
    find_lines(maker, TAMIS_BLOCK_SIZE);
    tamisi_cpu_maker_means(maker);
    const int vertical = blocks_of(maker, lines_covering(maker, maker->memory.vertical, gamma));
    const int slash = blocks_of(maker, lines_covering(maker, maker->memory.slash, gamma));
    sum_blocks(maker);
    const bool aware = distance(maker) < pattern->flexprefill.tau;
    if (aware) {
        choose_lines(maker, (int)least, (int)least);
        choose_pairs(maker);
    } else {
        choose_lines(maker, bounded(maker, vertical, (int)least), bounded(maker, slash, (int)least));
    }
    write_lists(maker, aware);
}
