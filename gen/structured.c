/*
 * structured.c: see structured.h.
 */
#include "structured.h"

#include "error.h"
#include "half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define UNIT 8.0 /* what a query has of each part: large enough that no key's element is */
#define BASE 2.18       /* between pairs: the slowest turns once in some 10^6 tokens */
#define FIRST_ANGLE 1.0 /* of a token, in the fastest pair */

enum thing { LOCAL = 1, HITTING, HITTER, OWN_HITTER /* of layer 0; then of those above */ };

static double strength(unsigned long long seed, enum thing thing, int head)
{
    return 0.5 + bench_chance(seed, thing, (unsigned long long)head);
}

/* What makes the local band: the same in all heads, and most of the work. */
struct waves {
    double cos[STRUCTURED_FREQUENCIES], sin[STRUCTURED_FREQUENCIES];
};

static struct waves waves_of(long long row)
{
    struct waves waves;
    double angle = FIRST_ANGLE;
    for (int f = 0; f < STRUCTURED_FREQUENCIES; f++, angle /= BASE) {
        waves.cos[f] = cos(angle * (double)row);
        waves.sin[f] = sin(angle * (double)row);
    }
    return waves;
}

/* All of the structure is in the keys, but for what differs between heads. */
static void make_query(float out[STRUCTURED_ELEMENTS], unsigned long long seed, int head, const struct waves *waves)
{
    const double local = strength(seed, LOCAL, head);
    out[0] = (float)UNIT;
    out[1] = (float)(UNIT * strength(seed, HITTING, head));
    for (int f = 0; f < STRUCTURED_FREQUENCIES; f++) {
        out[2 + 2 * f] = (float)(UNIT * local * waves->cos[f]);
        out[3 + 2 * f] = (float)(UNIT * local * waves->sin[f]);
    }
}

void structured_query(float out[STRUCTURED_ELEMENTS], const struct structured *structure, unsigned long long seed, int head,
                      long long row)
{
    const struct waves waves = waves_of(row);
    (void)structure;
    make_query(out, seed, head, &waves);
}

static void make_key(float out[STRUCTURED_ELEMENTS], const struct structured *structure, unsigned long long seed, int kv_head,
                     long long row, int head_dim, double scale, const struct waves *waves)
{
    const double element = 1 / (UNIT * (scale > 0 ? scale : 1 / sqrt((double)head_dim))); /* of a logit of 1 */
    const unsigned long long which = (unsigned long long)kv_head << 32 ^ (unsigned long long)row;
    const unsigned long long own_thing = OWN_HITTER + (unsigned long long)structure->layer;
    const bool hits = bench_chance(seed, HITTER, which) * structure->spacing < 1 - structure->own ||
                      bench_chance(seed, own_thing, which) * structure->spacing < structure->own;
    const double amplitude = structure->local * element / STRUCTURED_FREQUENCIES;
    out[0] = row < structure->sinks ? (float)(structure->sink * element) : 0;
    out[1] = hits ? (float)(structure->hitter * element) : 0;
    for (int f = 0; f < STRUCTURED_FREQUENCIES; f++) {
        out[2 + 2 * f] = (float)(amplitude * waves->cos[f]);
        out[3 + 2 * f] = (float)(amplitude * waves->sin[f]);
    }
}

void structured_key(float out[STRUCTURED_ELEMENTS], const struct structured *structure, unsigned long long seed, int kv_head,
                    long long row, int head_dim, double scale)
{
    const struct waves waves = waves_of(row);
    make_key(out, structure, seed, kv_head, row, head_dim, scale, &waves);
}

/* ---- tensors, a piece of a head's rows at a time */

#define PIECE_ROWS 4096

struct tensor {
    struct bench *bench;
    const struct structured *structure;
    const tamis_problem *problem;
    unsigned long long seed;
    bool of_queries;
    uint16_t *piece;     /* on the host */
    struct waves *waves; /* of its rows */
};

static void write_row(const struct tensor *tensor, uint16_t *row, int head, long long at, const struct waves *waves)
{
    const tamis_problem *p = tensor->problem;
    float elements[STRUCTURED_ELEMENTS];
    if (tensor->of_queries)
        make_query(elements, tensor->seed, head, waves);
    else
        make_key(elements, tensor->structure, tensor->seed, head, at, p->head_dim, p->scale, waves);
    for (int i = 0; i < STRUCTURED_ELEMENTS; i++) row[i] = tamisi_half_from_float(elements[i], tensor->problem->dtype);
}

/* Of random numbers that are on the device the first ones of each row are written over. */
static tamis_status add_structure(const struct tensor *tensor, void *device, int heads)
{
    struct bench *bench = tensor->bench;
    const long long seq_len = tensor->problem->seq_len, dim = tensor->problem->head_dim;
    for (long long first = 0; first < seq_len; first += PIECE_ROWS) {
        const long long rows = seq_len - first < PIECE_ROWS ? seq_len - first : PIECE_ROWS;
        for (long long i = 0; i < rows; i++) tensor->waves[i] = waves_of(first + i);
        for (int head = 0; head < heads; head++) {
            uint16_t *there = (uint16_t *)device + (head * seq_len + first) * dim;
            const size_t bytes = (size_t)(rows * dim) * sizeof *there;
            TAMIS_TRY(tamis_memory_read(bench->context, tensor->piece, there, bytes, bench->stream));
            for (long long i = 0; i < rows; i++)
                write_row(tensor, tensor->piece + i * dim, head, first + i, &tensor->waves[i]);
            TAMIS_TRY(tamis_memory_write(bench->context, there, tensor->piece, bytes, bench->stream));
        }
    }
    return TAMIS_OK;
}

tamis_status structured_fill(struct bench *bench, const struct structured *structure, const tamis_problem *problem, void *q,
                             void *k, void *v, unsigned long long seed)
{
    struct tensor tensor = {bench, structure, problem, seed, true, NULL, NULL};
    TAMIS_TRY(bench_fill(bench, q, problem, problem->q_heads, problem->seq_len, 0));
    TAMIS_TRY(bench_fill(bench, k, problem, problem->kv_heads, problem->seq_len, 40));
    TAMIS_TRY(bench_fill(bench, v, problem, problem->kv_heads, problem->seq_len, 24));
    tensor.piece = malloc((size_t)PIECE_ROWS * (size_t)problem->head_dim * sizeof *tensor.piece);
    tensor.waves = malloc(PIECE_ROWS * sizeof *tensor.waves);
    const bool enough = tensor.piece && tensor.waves;
    tamis_status status = enough ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for random numbers");
    if (status == TAMIS_OK) status = add_structure(&tensor, q, problem->q_heads);
    tensor.of_queries = false;
    if (status == TAMIS_OK) status = add_structure(&tensor, k, problem->kv_heads);
    free(tensor.piece);
    free(tensor.waves);
    return status;
}
