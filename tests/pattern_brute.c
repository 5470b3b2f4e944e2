/*
 * pattern_brute.c: block patterns by brute force in double, written from the definitions in runtime/cpu_pattern.h and sharing
 * nothing with the backend but the reading of 16-bit numbers. Where a choice ends, it also says what lies so near that
 * arithmetic of another precision may choose otherwise.
 */
#include "pattern_case.h"

#include "half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One (sequence, query head). */
struct head {
    const struct pattern_case *c;
    double *q, *k; /* (rows, D) */
    long long rows;
    int blocks; /* of these rows */
    double slack;
    unsigned char *decisions; /* (T, T) */
    int tiles;
};

static double dot(const struct head *h, const double *a, const double *b)
{
    double sum = 0;
    for (int d = 0; d < h->c->head_dim; d++) sum += a[d] * b[d];
    return sum;
}

static const double *query(const struct head *h, long long i) { return h->q + i * h->c->head_dim; }
static const double *key(const struct head *h, long long i) { return h->k + i * h->c->head_dim; }

static double *numbers(long long count)
{
    double *out = calloc((size_t)count + 1, sizeof *out);
    if (!out) abort();
    return out;
}

static void softmax(double *values, long long count)
{
    double peak = -INFINITY, sum = 0;
    for (long long i = 0; i < count; i++) peak = fmax(peak, values[i]);
    for (long long i = 0; i < count; i++) sum += values[i] = exp(values[i] - peak);
    for (long long i = 0; i < count; i++) values[i] /= sum;
}

/* ---- where choices end */

static int decide(bool surely_in, bool surely_out)
{
    return surely_in ? PATTERN_IN : surely_out ? PATTERN_OUT : PATTERN_EITHER;
}

/* Does value `a` at place i come before b at j, certainly or, `lax`, perhaps? `unit` is what slack is relative to. */
static bool before(const double *values, long long i, long long j, double margin, bool lax)
{
    if (fabs(values[i] - values[j]) <= margin) return lax || (margin == 0 && i < j);
    return values[i] > values[j];
}

/* Among `count` values the best `least` to `most` (as far as is known) are taken. */
static void decide_best(unsigned char *out, const double *values, long long count, long long least, long long most,
                        double margin)
{
    for (long long j = 0; j < count; j++) {
        long long fewest = 0, rank = 0; /* that come before j */
        for (long long i = 0; i < count; i++) {
            if (i == j) continue;
            fewest += before(values, i, j, margin, false);
            rank += before(values, i, j, margin, true) && !(margin == 0 && values[i] == values[j] && i > j);
        }
        out[j] = (unsigned char)decide(rank < least, fewest >= most);
    }
}

/*
 * Those taken in descending order by what the sum of those before (and, `inclusive`, of itself) comes to: while it is below
 * `goal`, or at most the goal where inclusive. `base` is there already.
 */
static void decide_mass(unsigned char *out, const double *values, long long count, double base, double goal, bool inclusive,
                        double slack)
{
    for (long long j = 0; j < count; j++) {
        const double margin = slack * values[j];
        double low = base, high = base;
        for (long long i = 0; i < count; i++) {
            if (i == j) continue;
            if (before(values, i, j, 2 * margin, false)) low += values[i];
            if (before(values, i, j, 2 * margin, true) && !(margin == 0 && values[i] == values[j] && i > j)) high += values[i];
        }
        if (inclusive) low += values[j], high += values[j];
        const double give = slack * goal;
        out[j] = (unsigned char)(inclusive ? decide(high <= goal - give, low > goal + give)
                                           : decide(high < goal - give, low >= goal + give));
    }
}

/* ---- means and their products */

static double *means(const struct head *h, const double *rows)
{
    const int dim = h->c->head_dim;
    double *out = numbers((long long)h->blocks * dim);
    for (int block = 0; block < h->blocks; block++) {
        const long long first = 128ll * block, end = first + 128 < h->rows ? first + 128 : h->rows;
        for (int d = 0; d < dim; d++) {
            for (long long i = first; i < end; i++) out[block * dim + d] += rows[i * dim + d];
            out[block * dim + d] /= (double)(end - first);
        }
    }
    return out;
}

/* (T, T), row-major, of all pairs. */
static double *products(const struct head *h)
{
    const int dim = h->c->head_dim;
    double *q = means(h, h->q), *k = means(h, h->k), *out = numbers((long long)h->blocks * h->blocks);
    for (int i = 0; i < h->blocks; i++)
        for (int j = 0; j < h->blocks; j++)
            for (int d = 0; d < dim; d++) out[i * h->blocks + j] += h->c->scale * q[i * dim + d] * k[j * dim + d];
    free(q);
    free(k);
    return out;
}

static void brute_topk(const struct head *h)
{
    const tamis_pattern *pattern = h->c->pattern;
    double *values = products(h);
    for (int i = 0; i < h->blocks; i++) {
        const double *row = values + (long long)i * h->blocks;
        double largest = 0;
        for (int j = 0; j <= i; j++) largest = fmax(largest, fabs(row[j]));
        long long wanted = pattern->topk_blocks.blocks;
        if (wanted == 0) wanted = (long long)ceil(pattern->topk_blocks.ratio * (i + 1));
        decide_best(h->decisions + (long long)i * h->tiles, row, i + 1, wanted, wanted, h->slack * largest);
    }
    free(values);
}

/* ---- antidiagonals */

static void brute_xattention(const struct head *h)
{
    const int stride = h->c->pattern->xattention.stride, part = 128 / stride;
    const long long reduced = (h->rows + stride - 1) / stride;
    double *estimate = numbers((long long)h->blocks * h->blocks), *row = numbers(reduced);
    for (long long r = 0; r < reduced; r++) {
        for (long long c = 0; c <= r; c++) {
            row[c] = 0;
            for (int t = 0; t < stride; t++) {
                const long long i = r * stride + stride - 1 - t, j = c * stride + t;
                if (i < h->rows && j < h->rows) row[c] += h->c->scale / stride * dot(h, query(h, i), key(h, j));
            }
        }
        softmax(row, r + 1);
        for (long long c = 0; c <= r; c++) estimate[r / part * h->blocks + c / part] += row[c];
    }
    for (int i = 0; i < h->blocks; i++) {
        double *values = estimate + (long long)i * h->blocks, total = 0;
        unsigned char *out = h->decisions + (long long)i * h->tiles;
        for (int j = 0; j <= i; j++) total += values[j];
        const double base = i > 0 ? values[0] + values[i] : values[0];
        if (i > 1) decide_mass(out + 1, values + 1, i - 1, base, h->c->pattern->xattention.threshold * total, false, h->slack);
        out[0] = out[i] = PATTERN_IN;
    }
    free(estimate);
    free(row);
}

/* ---- lines */

struct lines {
    double *vertical, *slash;               /* n each */
    double *vertical_blocks, *slash_blocks; /* T each */
};

static struct lines find_lines(const struct head *h, long long queries)
{
    struct lines lines = {numbers(h->rows), numbers(h->rows), numbers(h->blocks), numbers(h->blocks)};
    double *row = numbers(h->rows);
    if (queries > h->rows) queries = h->rows;
    for (long long q = h->rows - queries; q < h->rows; q++) {
        for (long long k = 0; k <= q; k++) row[k] = h->c->scale * dot(h, query(h, q), key(h, k));
        softmax(row, q + 1);
        for (long long k = 0; k <= q; k++) {
            lines.vertical[k] += row[k] / (double)queries;
            lines.slash[q - k] += row[k] / (double)queries;
            lines.vertical_blocks[k / 128] += row[k] / (double)queries;
            lines.slash_blocks[h->blocks - 1 - (h->rows - 1 - (q - k)) / 128] += row[k] / (double)queries;
        }
    }
    free(row);
    return lines;
}

static void free_lines(struct lines *lines)
{
    free(lines->vertical);
    free(lines->slash);
    free(lines->vertical_blocks);
    free(lines->slash_blocks);
}

static int descending(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left < right) - (left > right);
}

/* Lines that cover, at least and at most. */
static void cover(const struct head *h, const double *values, double coverage, long long *least, long long *most)
{
    double *sorted = numbers(h->rows), sum = 0;
    memcpy(sorted, values, (size_t)h->rows * sizeof *sorted);
    qsort(sorted, (size_t)h->rows, sizeof *sorted, descending);
    *least = *most = 1;
    for (long long i = 0; i < h->rows; i++) {
        sum += sorted[i];
        *least += sum <= coverage * (1 - h->slack);
        *most += sum <= coverage * (1 + h->slack);
    }
    free(sorted);
}

static long long clamp(long long value, long long low, long long high)
{
    return value < low ? low : value > high ? high : value;
}

/* Block 0, and the best of the others. */
static void decide_lines(const struct head *h, unsigned char *out, const double *sums, long long least, long long most)
{
    double largest = 0;
    for (int j = 1; j < h->blocks; j++) largest = fmax(largest, sums[j]);
    out[0] = PATTERN_IN;
    decide_best(out + 1, sums + 1, h->blocks - 1, least - 1, most - 1, h->slack * largest);
}

static int either_of(int a, int b)
{
    if (a == PATTERN_IN || b == PATTERN_IN) return PATTERN_IN;
    return a == PATTERN_EITHER || b == PATTERN_EITHER ? PATTERN_EITHER : PATTERN_OUT;
}

/* The union of lines, from least to most blocks of each. */
static void draw_lines(const struct head *h, const struct lines *lines, const long long vertical[2], const long long slash[2],
                       unsigned char *out)
{
    unsigned char *columns = calloc((size_t)h->blocks, 1), *diagonals = calloc((size_t)h->blocks, 1);
    if (!columns || !diagonals) abort();
    decide_lines(h, columns, lines->vertical_blocks, vertical[0], vertical[1]);
    decide_lines(h, diagonals, lines->slash_blocks, slash[0], slash[1]);
    for (int i = 0; i < h->blocks; i++)
        for (int j = 0; j <= i; j++) out[(long long)i * h->tiles + j] = (unsigned char)either_of(columns[j], diagonals[i - j]);
    free(columns);
    free(diagonals);
}

/* By coverage from `least` to `most` blocks. */
static void cover_blocks(const struct head *h, const double *values, double coverage, long long least, long long most,
                         long long out[2])
{
    cover(h, values, coverage, &out[0], &out[1]);
    for (int i = 0; i < 2; i++) out[i] = clamp(clamp(out[i] / 128 + 1, least, h->blocks), 1, most);
}

static void brute_vertical_slash(const struct head *h)
{
    const tamis_pattern *pattern = h->c->pattern;
    const double coverage = pattern->vertical_slash.coverage;
    struct lines lines = find_lines(h, pattern->vertical_slash.last_queries);
    long long vertical[2], slash[2];
    vertical[0] = vertical[1] = clamp(pattern->vertical_slash.vertical_lines / 128 + 1, 1, h->blocks);
    slash[0] = slash[1] = clamp(pattern->vertical_slash.slash_lines / 128 + 1, 1, h->blocks);
    if (coverage > 0) {
        cover_blocks(h, lines.vertical, coverage, 1, h->blocks, vertical);
        cover_blocks(h, lines.slash, coverage, 1, h->blocks, slash);
    }
    draw_lines(h, &lines, vertical, slash, h->decisions);
    free_lines(&lines);
}

/* ---- FlexPrefill */

static double distance(const struct head *h, const struct lines *lines)
{
    const int dim = h->c->head_dim;
    double *mean = numbers(dim), *k = means(h, h->k), *guess = numbers(h->blocks), sum = 0;
    for (long long q = h->rows - 128; q < h->rows; q++)
        for (int d = 0; d < dim; d++) mean[d] += query(h, q)[d] / 128;
    for (int j = 0; j < h->blocks; j++)
        for (int d = 0; d < dim; d++) guess[j] += h->c->scale * mean[d] * k[j * dim + d];
    softmax(guess, h->blocks);
    for (int j = 0; j < h->blocks; j++) {
        const double p = guess[j], v = lines->vertical_blocks[j], m = (p + v) / 2;
        if (p > 0) sum += p * log(p / m) / 2;
        if (v > 0) sum += v * log(v / m) / 2;
    }
    free(mean);
    free(k);
    free(guess);
    return sqrt(fmax(sum, 0));
}

static void draw_pairs(const struct head *h, unsigned char *out)
{
    const long long pairs = (long long)h->blocks * (h->blocks + 1) / 2;
    double *all = products(h), *flat = numbers(pairs);
    unsigned char *taken = calloc((size_t)pairs, 1);
    if (!taken) abort();
    for (long long i = 0, at = 0; i < h->blocks; at += ++i) {
        softmax(all + i * h->blocks, i + 1);
        memcpy(flat + at, all + i * h->blocks, (size_t)(i + 1) * sizeof *flat);
    }
    decide_mass(taken, flat, pairs, 0, h->c->pattern->flexprefill.gamma * h->blocks, true, h->slack);
    for (long long i = 0, at = 0; i < h->blocks; at += ++i)
        for (long long j = 0; j <= i; j++) {
            unsigned char *place = &out[i * h->tiles + j];
            *place = (unsigned char)either_of(*place, taken[at + j]);
        }
    free(all);
    free(flat);
    free(taken);
}

static void brute_flexprefill(const struct head *h)
{
    const tamis_pattern *pattern = h->c->pattern;
    const long long least = clamp((pattern->flexprefill.min_tokens + 127) / 128, 1, 1 << 20);
    const long long most = pattern->flexprefill.max_tokens ? (pattern->flexprefill.max_tokens + 127) / 128 : h->blocks;
    if (h->rows <= 256 || h->rows <= 128 * least) {
        for (int i = 0; i < h->blocks; i++) memset(h->decisions + (long long)i * h->tiles, PATTERN_IN, (size_t)i + 1);
        return;
    }
    const size_t bytes = (size_t)h->tiles * (size_t)h->tiles;
    unsigned char *aware = calloc(bytes, 1), *plain = calloc(bytes, 1);
    struct lines lines = find_lines(h, 128);
    const long long fixed[2] = {least, least};
    const double far = distance(h, &lines), tau = pattern->flexprefill.tau, margin = sqrt(h->slack) / 8;
    long long vertical[2], slash[2];
    if (!aware || !plain) abort();
    cover_blocks(h, lines.vertical, pattern->flexprefill.gamma, least, most, vertical);
    cover_blocks(h, lines.slash, pattern->flexprefill.gamma, least, most, slash);
    draw_lines(h, &lines, vertical, slash, plain);
    if (far < tau + margin) {
        draw_lines(h, &lines, fixed, fixed, aware);
        draw_pairs(h, aware);
    }
    for (size_t at = 0; at < bytes; at++) {
        if (far < tau - margin)
            h->decisions[at] = aware[at];
        else if (far >= tau + margin)
            h->decisions[at] = plain[at];
        else
            h->decisions[at] = aware[at] == plain[at] ? aware[at] : PATTERN_EITHER;
    }
    free_lines(&lines);
    free(aware);
    free(plain);
}

/* The same in double: each element is read many times. */
static double *widened(const uint16_t *in, const struct pattern_case *c, long long rows)
{
    double *out = numbers(rows * c->head_dim);
    for (long long i = 0; i < rows * c->head_dim; i++) out[i] = (double)tamisi_half_to_float(in[i], c->dtype);
    return out;
}

unsigned char *pattern_brute(const struct pattern_case *c, double slack)
{
    const long long tiles = pattern_tiles(c), head_elements = c->capacity * c->head_dim;
    unsigned char *decisions = calloc((size_t)(c->batch * c->q_heads * tiles * tiles), 1);
    if (!decisions) abort();
    for (long long at = 0; at < (long long)c->batch * c->q_heads; at++) {
        const long long sequence = at / c->q_heads, kv_head = at % c->q_heads / (c->q_heads / c->kv_heads);
        const long long rows = c->kept ? c->kept[sequence] : c->capacity;
        struct head h = {.c = c,
                         .q = widened(c->q + at * head_elements, c, rows),
                         .k = widened(c->k + (sequence * c->kv_heads + kv_head) * head_elements, c, rows),
                         .rows = rows,
                         .slack = slack,
                         .decisions = decisions + at * tiles * tiles,
                         .tiles = (int)tiles};
        h.blocks = (int)((h.rows + 127) / 128);
        switch (c->pattern->kind) {
        case TAMIS_PATTERN_VERTICAL_SLASH: brute_vertical_slash(&h); break;
        case TAMIS_PATTERN_FLEXPREFILL: brute_flexprefill(&h); break;
        case TAMIS_PATTERN_XATTENTION: brute_xattention(&h); break;
        case TAMIS_PATTERN_TOPK_BLOCKS: brute_topk(&h); break;
        default: break;
        }
        free(h.q);
        free(h.k);
    }
    return decisions;
}
