/*
 * gpu_check_maps.c: attention with an output map, on all tokens and on those that are kept: rows in double precision, the same
 * bits in steps as in one call; and a map that changes nothing, which must give the bits of a plan without one.
 */
#include "gpu_case.h"

#include "half.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { most_arrays = 8, samples = 100 };

static unsigned long long seed_of(int number) { return 0x3c6ef372ull + (unsigned long long)number * 0x632be59bd9b4e019ull; }

/* Of every four a head_dim comes once, of every eight with each dtype; lengths about the edges of tiles. */
static void make_problem(tamis_problem *p, int number)
{
    static const int dims[] = {64, 96, 128, 256}, groups[] = {1, 2, 4};
    static const int lengths[] = {1, 300, 129, 17, 257, 64, 193, 333, 127, 500, 16, 385, 80};
    static const tamis_policy policies[] = {TAMIS_RATIO, TAMIS_COVERAGE, TAMIS_DENSE, TAMIS_COUNT, TAMIS_RATIO};
    *p = (tamis_problem)TAMIS_PROBLEM_INIT;
    p->head_dim = dims[number % 4];
    p->dtype = number / 4 % 2 ? TAMIS_FP16 : TAMIS_BF16;
    p->batch = 1 + number % 3 / 2;
    p->kv_heads = 1 + number % 2;
    p->q_heads = p->kv_heads * groups[number / 2 % 3];
    p->seq_len = lengths[(number * 5 + number / 8) % 13];
    p->selection.policy = policies[(number / 4 + number % 4) % 5];
    p->selection.scope = (tamis_scope)(number / 3 % 3);
    p->selection.window = 1 + number * 7 % 40;
    p->selection.min_tokens = number % 3;
    p->selection.ratio = 0.4;
    p->selection.coverage = 0.15;
    p->selection.count = p->seq_len / 2;
    p->mask = p->selection.policy == TAMIS_DENSE && number / 8 % 2 ? TAMIS_FULL : TAMIS_CAUSAL;
}

void gpu_maps_name(char *out, size_t size, int number)
{
    static const char *const policies[] = {"dense", "coverage", "ratio", "count"};
    tamis_problem p;
    make_problem(&p, number);
    snprintf(out, size, "output map %d: %s B%d Hq%d Hkv%d L%lld D%d, %s%s, scope %d", number,
             p.dtype == TAMIS_BF16 ? "bf16" : "fp16", p.batch, p.q_heads, p.kv_heads, (long long)p.seq_len, p.head_dim,
             policies[p.selection.policy], p.mask == TAMIS_FULL ? ", full mask" : "", (int)p.selection.scope);
}

/* ---- the steps, on compact rows all of their own */

struct steps {
    struct gpu_case *c;
    void *device[most_arrays];
    int count;
};

static void *device_array(struct steps *steps, size_t bytes)
{
    void *device = NULL;
    if (tamis_memory_alloc(&device, steps->c->context, bytes) != TAMIS_OK) return NULL;
    steps->device[steps->count++] = device;
    return device;
}

static tamis_tensor compact_tensor(struct steps *steps, int heads)
{
    const tamis_problem *p = &steps->c->problem;
    const int64_t head = tamis_plan_capacity(steps->c->plan) * p->head_dim;
    return (tamis_tensor){device_array(steps, (size_t)(p->batch * heads * head) * 2), heads * head, head, p->head_dim};
}

/* What was selected is taken from the one call. */
static bool run_steps(struct steps *steps)
{
    struct gpu_case *c = steps->c;
    const int q_heads = c->problem.q_heads, heads = tamis_plan_compact_heads(c->plan);
    const size_t bytes = tamis_plan_workspace_bytes(c->plan);
    const tamis_tensor q = compact_tensor(steps, q_heads), k = compact_tensor(steps, heads), v = compact_tensor(steps, heads);
    const tamis_tensor out = compact_tensor(steps, q_heads);
    float *lse = device_array(steps, (size_t)(c->problem.batch * q_heads * tamis_plan_capacity(c->plan)) * sizeof *lse);
    void *work = c->workspace.device;
    if (!q.data || !k.data || !v.data || !out.data || !lse) return false;
    tamis_status status = tamis_compress(c->plan, &c->args.q, &c->args.k, &c->args.v, c->args.kept, c->args.indices, &q, &k, &v,
                                         work, bytes, NULL);
    if (status == TAMIS_OK)
        status = tamis_attend_map(c->plan, &q, &k, &v, c->args.kept, c->args.output_map, &out, lse, work, bytes, NULL);
    if (status == TAMIS_OK)
        status = tamis_decompress(c->plan, &out, lse, c->args.kept, c->args.indices, &c->args.output, c->args.lse, work, bytes,
                                  NULL);
    if (status == TAMIS_OK) status = tamis_stream_synchronize(c->context, NULL);
    if (status != TAMIS_OK) printf("  in steps: %s\n", tamis_last_error());
    return status == TAMIS_OK;
}

/* ---- bits */

struct bits {
    void *output, *lse;
};

static void free_bits(struct bits *bits)
{
    free(bits->output);
    free(bits->lse);
}

static bool take_bits(struct bits *out, const struct gpu_case *c)
{
    *out = (struct bits){malloc(c->output.bytes), malloc(c->lse.bytes)};
    if (!out->output || !out->lse) return false;
    memcpy(out->output, c->output.host, c->output.bytes);
    memcpy(out->lse, c->lse.host, c->lse.bytes);
    return true;
}

static bool has_bits(const struct gpu_case *c, const struct bits *bits, const char *what)
{
    const bool output = memcmp(bits->output, c->output.host, c->output.bytes) == 0;
    const bool lse = memcmp(bits->lse, c->lse.host, c->lse.bytes) == 0;
    if (!output || !lse) printf("  %s: %s other bits\n", what, output ? "the log-sum-exps have" : "the rows have");
    return output && lse;
}

/* A second time, and in steps. */
static bool check_again(struct gpu_case *c, const struct bits *first)
{
    struct steps steps = {.c = c};
    bool ok = gpu_case_poison(c) && gpu_case_run(c) && gpu_case_fetch(c) && has_bits(c, first, "a second run");
    ok = ok && gpu_case_poison_rows(c) && run_steps(&steps) && gpu_case_fetch(c) && has_bits(c, first, "in steps");
    for (int i = 0; i < steps.count; i++) tamis_memory_free(c->context, steps.device[i]);
    return ok;
}

/* ---- a map that changes nothing */

static bool send_identity(struct gpu_case *c)
{
    unsigned short *map = c->map.host;
    const int dim = c->problem.head_dim;
    memset(map, 0, c->map.bytes);
    for (int row = 0; row < c->problem.q_heads * dim; row++)
        map[(long long)row * dim + row % dim] = tamisi_half_from_float(1, c->problem.dtype);
    return tamis_memory_write(c->context, c->map.device, map, c->map.bytes, NULL) == TAMIS_OK;
}

/* A sum in which all but one summand is zero is that one, but for -0: 0 and -0 are 0. */
static void drop_signs_of_zeros(struct gpu_case *c)
{
    unsigned short *output = c->output.host;
    for (size_t i = 0; i < c->output.bytes / 2; i++)
        if (output[i] == 0x8000) output[i] = 0;
}

/* What was rounded is not rounded again. */
static bool check_identity(const struct gpu_case *like, tamis_context *context, tamis_store *store)
{
    struct gpu_case with = {.problem = like->problem, .seed = like->seed, .has_map = true}, without = with;
    struct bits bits = {NULL, NULL};
    without.has_map = false;
    bool ok = gpu_case_open(&without, context, store) && gpu_case_poison(&without) && gpu_case_run(&without) &&
              gpu_case_fetch(&without) && gpu_case_open(&with, context, store) && send_identity(&with) &&
              gpu_case_poison(&with) && gpu_case_run(&with) && gpu_case_fetch(&with);
    if (ok) drop_signs_of_zeros(&without);
    ok = ok && take_bits(&bits, &without) && has_bits(&with, &bits, "by the identity");
    free_bits(&bits);
    gpu_case_close(&without);
    gpu_case_close(&with);
    return ok;
}

bool gpu_check_maps(int number, tamis_context *context, tamis_store *store)
{
    struct gpu_case c = {.sharpness = number % 5 == 4 ? 20.0 : 1.0, .seed = seed_of(number), .has_map = true};
    struct bits bits = {NULL, NULL};
    make_problem(&c.problem, number);
    c.climb = number % 7 == 3 ? 300 : 0; /* maxima that grow by far from step to step */
    const bool ok = gpu_case_open(&c, context, store) && gpu_case_poison(&c) && gpu_case_run(&c) && gpu_case_fetch(&c) &&
                    gpu_case_check(&c, samples) && gpu_case_check_selection(&c) && take_bits(&bits, &c) &&
                    check_again(&c, &bits) && check_identity(&c, context, store);
    free_bits(&bits);
    gpu_case_close(&c);
    return ok;
}
