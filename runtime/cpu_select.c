/*
 * cpu_select.c: steps 3 and 4 on the CPU: how many tokens, and which. Scores are not negative, so the bits of a float
 * order as the score does, and both questions are answered by descending through the digits of those bits with a
 * histogram: exact, without a sort and so without memory for one.
 */
#include "cpu_stage.h"

#include <math.h>
#include <string.h>

#define DIGITS 3
#define BINS 2048

/* 11, 11 and 9 bits below the sign. */
static const int digit_shift[DIGITS] = {20, 9, 0};
static const uint32_t digit_mask[DIGITS] = {0x7ff, 0x7ff, 0x1ff};

struct bins {
    long long count[BINS];
    double sum[BINS];
};

/* The integer that orders as the score does. No sign: only a NaN could bring one, and must not lead out of the bins. */
static uint32_t key_of(float score)
{
    uint32_t key;
    memcpy(&key, &score, sizeof key);
    return key & 0x7fffffffu;
}

/* Count and sum, by the values of one digit, the scores whose higher digits are `prefix`. */
static void fill(struct bins *bins, const float *scores, long long count, int digit, uint32_t prefix)
{
    memset(bins, 0, sizeof *bins);
    for (long long j = 0; j < count; j++) {
        const uint32_t key = key_of(scores[j]);
        if (digit > 0 && key >> digit_shift[digit - 1] != prefix) continue;
        const uint32_t bin = key >> digit_shift[digit] & digit_mask[digit];
        bins->count[bin]++;
        bins->sum[bin] += fabs((double)scores[j]);
    }
}

/* How many of the smallest scores have prefix sums below `limit`. */
static long long count_below(const float *scores, long long count, double limit)
{
    struct bins bins;
    uint32_t prefix = 0;
    long long below = 0, equal = 0;
    double sum = 0; /* of the `below` smallest */
    for (int digit = 0; digit < DIGITS; digit++) {
        uint32_t bin = 0;
        fill(&bins, scores, count, digit, prefix);
        for (; bin <= digit_mask[digit] && !(sum + bins.sum[bin] >= limit); bin++) {
            sum += bins.sum[bin];
            below += bins.count[bin];
        }
        if (bin > digit_mask[digit]) return below; /* the sum of all stays below; deeper, but for rounding it would not */
        prefix = prefix << (digit == DIGITS - 1 ? 9 : 11) | bin;
        equal = bins.count[bin];
    }
    float value; /* the one score at which the sum reaches the limit; `equal` tokens have it */
    memcpy(&value, &prefix, sizeof value);
    for (; equal > 0 && (sum += (double)value) < limit; equal--) below++;
    return below;
}

/* Tokens to keep outside the window, by coverage. */
static long long coverage_keep(const float *mean, long long candidates, const tamis_selection *selection)
{
    double total = 0;
    for (long long j = 0; j < candidates; j++) total += (double)mean[j];
    const double limit = selection->coverage * total;
    const long long drop = limit > 0 ? count_below(mean, candidates, limit) : 0; /* NaN: drop nothing */
    if (drop == 0) return candidates;
    const long long keep = candidates - (drop + 1);
    const long long least = selection->min_tokens < candidates ? selection->min_tokens : candidates;
    return keep > least ? keep : least;
}

/* The smallest key among the `keep` largest; *ties: how many tokens with just this key are among them. */
static uint32_t threshold(const float *rank, long long candidates, long long keep, long long *ties)
{
    struct bins bins;
    uint32_t prefix = 0;
    for (int digit = 0; digit < DIGITS; digit++) {
        uint32_t bin = digit_mask[digit];
        fill(&bins, rank, candidates, digit, prefix);
        for (; bins.count[bin] < keep; bin--) keep -= bins.count[bin];
        prefix = prefix << (digit == DIGITS - 1 ? 9 : 11) | bin;
    }
    *ties = keep;
    return prefix;
}

struct select_work {
    const tamis_plan *plan;
    const float *rank, *mean;
    int32_t *kept, *indices;
};

static void budget(void *argument, long long sequence)
{
    const struct select_work *work = argument;
    const struct tamisi_facts *facts = &work->plan->facts;
    const long long candidates = facts->candidates;
    const long long keep = facts->dense             ? candidates
                           : facts->fixed_keep >= 0 ? facts->fixed_keep
                                                    : coverage_keep(work->mean + sequence * candidates, candidates,
                                                                    &work->plan->problem.selection);
    work->kept[sequence] = (int32_t)(keep + work->plan->problem.seq_len - candidates);
}

/* The list of index head `row` of all B * Hi. */
static void tokens(void *argument, long long row)
{
    const struct select_work *work = argument;
    const struct tamisi_facts *facts = &work->plan->facts;
    const long long candidates = facts->candidates, seq_len = work->plan->problem.seq_len;
    const long long keep = work->kept[row / facts->index_heads] - (seq_len - candidates);
    int32_t *out = work->indices + row * facts->capacity;

    if (keep == candidates) {
        for (long long j = 0; j < candidates; j++) *out++ = (int32_t)j;
    } else if (keep > 0) {
        const float *rank = work->rank + row * candidates;
        long long ties;
        const uint32_t least = threshold(rank, candidates, keep, &ties);
        for (long long j = 0; j < candidates; j++) {
            const uint32_t key = key_of(rank[j]);
            if (key > least || (key == least && ties-- > 0)) *out++ = (int32_t)j;
        }
    }
    for (long long j = candidates; j < seq_len; j++) *out++ = (int32_t)j;
}

void tamisi_cpu_select(const tamis_plan *plan, const float *rank, const float *mean, int32_t *kept, int32_t *indices)
{
    struct select_work work = {plan, rank, mean, kept, indices};
    struct tamisi_cpu_threads *threads = tamisi_cpu_of(plan)->threads;
    tamisi_cpu_threads_run(threads, plan->problem.batch, budget, &work);
    tamisi_cpu_threads_run(threads, (long long)plan->problem.batch * plan->facts.index_heads, tokens, &work);
}
