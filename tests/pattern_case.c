/*
 * pattern_case.c: inputs and comparisons of pattern_case.h. What is expected comes from pattern_brute.c.
 */
#include "pattern_case.h"

#include "half.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- inputs; tests/pattern_golden.md has the same in Python */

static uint32_t mix(uint32_t x)
{
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

/* An integer from -range to range - 1, one of 2 * range, which is a power of two. */
static int draw(uint32_t stream, uint32_t a, uint32_t b, int range)
{
    return (int)(mix(mix(mix(stream) + a) + b) & (uint32_t)(2 * range - 1)) - range;
}

enum { STREAM_Q = 1, STREAM_K = 2, STREAM_SINK = 3, STREAM_LOCAL = 4, STREAM_HEAVY = 5, STREAM_BLOCK = 6 };

/* In 64ths. Directions that queries and keys share are of the KV head, so that groups agree in them. */
static int element(enum pattern_input input, bool is_query, uint32_t head, uint32_t row, uint32_t d)
{
    const uint32_t shared = d + 4096 * (head & 1);
    int value = draw(is_query ? STREAM_Q : STREAM_K, head << 20 | row, d, input == PATTERN_NOISE ? 128 : 32);
    if (input == PATTERN_MODEL) {
        const bool is_sink = row < 4, is_heavy = mix(row / 8 + 77) % 61 == 0;
        if (is_query || is_sink) value += draw(STREAM_SINK, 0, shared, 32);
        if (is_query || is_heavy) value += draw(STREAM_HEAVY, 0, shared, 32);
        value += draw(STREAM_LOCAL, row / 96, shared, 32);
    }
    if (input == PATTERN_BLOCKS) value = value / 8 + draw(STREAM_BLOCK, row / 128 % 5 * (1 + (head & 1)), d, 64);
    return value;
}

void pattern_fill(uint16_t *out, enum pattern_input input, bool is_query, int sequence, int heads, long long rows, int dim,
                  tamis_dtype dtype)
{
    for (int head = 0; head < heads; head++)
        for (long long row = 0; row < rows; row++)
            for (int d = 0; d < dim; d++)
                *out++ = tamisi_half_from_float(
                    (float)element(input, is_query, (uint32_t)(head + 16 * sequence), (uint32_t)row, (uint32_t)d) / 64, dtype);
}

int pattern_tiles(const struct pattern_case *c) { return (int)((c->capacity + 127) / 128); }

/* ---- comparisons */

static _Thread_local char message[200];

__attribute__((format(printf, 1, 2))) static const char *wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return message;
}

static long long rows_of(const struct pattern_case *c, int sequence) { return c->kept ? c->kept[sequence] : c->capacity; }

/* One list: ascending, up to its block, and what the decisions say. */
static const char *compare_list(const unsigned char *decisions, const int32_t *list, int count, int i, long long *either)
{
    int at = 0;
    if (count < 0 || count > i + 1) return wrong("query block %d: count is %d", i, count);
    for (int j = 0; j <= i; j++) {
        const bool listed = at < count && list[at] == j;
        at += listed;
        if (either) *either += decisions[j] == PATTERN_EITHER;
        if (decisions[j] != PATTERN_EITHER && listed != (decisions[j] == PATTERN_IN))
            return wrong("query block %d: block %d is %slisted", i, j, listed ? "" : "not ");
    }
    if (at != count) return wrong("query block %d: entry %d is %d, out of order", i, at, list[at]);
    return NULL;
}

const char *pattern_compare(const struct pattern_case *c, const unsigned char *decisions, const int32_t *count,
                            const int32_t *list, int row, long long *either)
{
    char where[200];
    const long long tiles = pattern_tiles(c);
    for (long long head = 0; head < (long long)c->batch * c->q_heads; head++)
        for (long long i = 0; i < (rows_of(c, (int)(head / c->q_heads)) + 127) / 128; i++) {
            const long long at = head * tiles + i;
            const char *error = compare_list(decisions + at * tiles, list + at * row, count[at], (int)i, either);
            if (!error) continue;
            snprintf(where, sizeof where, "%s", error);
            return wrong("sequence %lld, head %lld, %.150s", head / c->q_heads, head % c->q_heads, where);
        }
    return NULL;
}

/* Which keys of the row's list a query sees, one byte a key. */
static const char *see_keys(unsigned char *seen, const int32_t *list, int count, const uint32_t *masks, long long q)
{
    int before = -1;
    memset(seen, 0, (size_t)q + 128);
    for (int at = 0; at < count; at++) {
        const int j = list[at] & 0xfffff, mask = list[at] >> 20;
        if (j <= before || j > q / 128) return wrong("query %lld: entry %d is block %d", q, at, j);
        before = j;
        for (int k = 0; k < 128; k++)
            seen[128 * j + k] = mask == 0 || (masks[512 * (mask - 1) + q % 128 * 4 + k / 32] >> k % 32 & 1);
    }
    return NULL;
}

const char *pattern_compare_sliding(const struct pattern_case *c, const int32_t *count, const int32_t *list, int row,
                                    const uint32_t *masks)
{
    static _Thread_local unsigned char seen[1 << 16];
    const long long sink = c->pattern->sliding.sink_tokens, window = c->pattern->sliding.window_tokens;
    const long long tiles = pattern_tiles(c);
    for (long long head = 0; head < (long long)c->batch * c->q_heads; head++)
        for (long long q = 0; q < rows_of(c, (int)(head / c->q_heads)); q++) {
            const long long at = head * tiles + q / 128;
            const char *error = see_keys(seen, list + at * row, count[at], masks, q);
            if (error) return error;
            for (long long k = 0; k <= q; k++)
                if (seen[k] != (k < sink || q - k < window)) return wrong("query %lld sees key %lld: %d", q, k, seen[k]);
        }
    return NULL;
}
