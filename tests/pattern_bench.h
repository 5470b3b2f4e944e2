/*
 * pattern_bench.h: a plan with a block pattern on the CPU, its inputs, which tests fill, and the lists that it makes of them.
 * For the pattern suite. All calls end the test where the library fails.
 */
#ifndef PATTERN_BENCH_H
#define PATTERN_BENCH_H

#include "pattern_case.h"
#include "tamis.h"

#include <stddef.h>
#include <stdint.h>

struct pattern_bench {
    tamis_context *context;
    tamis_plan *plan;
    void *workspace;
    size_t workspace_bytes;
    uint16_t *q, *k;
    int32_t *count, *list;
    struct pattern_case c;
};

/* Memory is for inputs, which are left to the caller, and lists. */
void pattern_bench_open(struct pattern_bench *bench, const tamis_pattern *pattern, int batch, int q_heads, int kv_heads,
                        int dim, long long rows);
void pattern_bench_fill(struct pattern_bench *bench, enum pattern_input input);
void pattern_bench_make(struct pattern_bench *bench, const int32_t *kept); /* rows of each sequence, or NULL for all */
void pattern_bench_close(struct pattern_bench *bench);

/* Lists against brute force; of at most `most_either` blocks that cannot tell. */
void pattern_bench_check(struct pattern_bench *bench, double slack, long long most_either, const char *what);

/* Exactly these blocks of query block `i` of head 0. */
void pattern_bench_expect(const struct pattern_bench *bench, int i, int count, const int *blocks);

tamis_pattern pattern_of(tamis_pattern_kind kind); /* of the published parameters */

#endif
