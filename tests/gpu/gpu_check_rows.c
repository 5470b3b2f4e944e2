/*
 * gpu_check_rows.c: the checks of gpu_case.h: sampled rows in double precision, one thread a (sequence, head), and the
 * selection against the CPU backend.
 */
#define _GNU_SOURCE
#include "gpu_case.h"

#include "half.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct job {
    const struct gpu_case *c;
    int samples;
    atomic_int next; /* the next (sequence, head) */
    atomic_bool failed;
    pthread_mutex_t lock;
    double error, norm; /* sums of squares over all sampled rows */
    double worst_lse;
};

/*
 * Attention of compact row `row` over rows 0..last of one head, in double; returns the log-sum-exp. `list`: the head, counted
 * through all sequences. A row that sees no key is zero.
 */
static double reference_row(const struct gpu_case *c, long long list, const unsigned short *q, const unsigned short *k,
                            const unsigned short *v, const int *token, int row, int last, double *out)
{
    const int dim = c->problem.head_dim;
    const double scale = c->problem.scale != 0.0 ? c->problem.scale : 1.0 / sqrt(dim);
    double query[256], key[256], value[256], peak = -INFINITY, sum = 0.0;
    double *logit = malloc(((size_t)last + 1) * sizeof *logit);
    if (!logit) abort();
    gpu_elements(query, c->problem.dtype, q + (long long)token[row] * dim, dim);
    for (int j = 0; j <= last; j++) {
        logit[j] = -INFINITY;
        if (c->sees && !c->sees(c->pattern, list, row, j)) continue;
        gpu_elements(key, c->problem.dtype, k + (long long)token[j] * dim, dim);
        double dot = 0.0;
        for (int d = 0; d < dim; d++) dot += query[d] * key[d];
        logit[j] = dot * scale;
        peak = fmax(peak, logit[j]);
    }
    memset(out, 0, (size_t)dim * sizeof *out);
    for (int j = 0; j <= last && peak > -INFINITY; j++) {
        const double p = exp(logit[j] - peak);
        if (c->sees && p == 0) continue; /* not seen, or as good as that */
        gpu_elements(value, c->problem.dtype, v + (long long)token[j] * dim, dim);
        sum += p;
        for (int d = 0; d < dim; d++) out[d] += p * value[d];
    }
    for (int d = 0; d < dim; d++) out[d] = sum > 0 ? out[d] / sum : 0;
    free(logit);
    return peak + log(sum);
}

/* A row of a head times its matrix of the output map, as tamis.h has it. */
static void map_row(const struct gpu_case *c, int head, double *row)
{
    const tamis_problem *p = &c->problem;
    const int dim = p->head_dim;
    const unsigned short *map = (const unsigned short *)c->map.host + (long long)head * dim * dim;
    double rounded[256], matrix[256];
    for (int i = 0; i < dim; i++) {
        rounded[i] = gpu_element(p->dtype, tamisi_half_from_float((float)row[i], p->dtype));
        row[i] = 0;
    }
    for (int i = 0; i < dim; i++) {
        gpu_elements(matrix, p->dtype, map + (long long)i * dim, dim);
        for (int j = 0; j < dim; j++) row[j] += rounded[i] * matrix[j];
    }
}

/* Indices ascend, end with the window, and every row that is not among them is zero. */
static bool check_layout(const struct gpu_case *c, const int *token, int kept, const unsigned short *output,
                         const float *lse)
{
    const int length = (int)c->problem.seq_len, dim = c->problem.head_dim;
    const int window = c->problem.selection.window < length ? c->problem.selection.window : length;
    int next = 0;
    for (int t = 0; t < length; t++) {
        if (next < kept && token[next] == t) {
            next++;
            continue;
        }
        if (t >= length - window) {
            printf("  token %d of the window is not kept\n", t);
            return false;
        }
        for (int d = 0; d < dim; d++)
            if (output[(long long)t * dim + d] != 0) {
                printf("  dropped row %d is not zero\n", t);
                return false;
            }
        if (lse[t] != -INFINITY) {
            printf("  lse of dropped row %d is %g\n", t, (double)lse[t]);
            return false;
        }
    }
    if (next == kept) return true;
    printf("  indices do not ascend: %d of %d in order\n", next, kept);
    return false;
}

static bool check_head(struct job *job, int sequence, int head)
{
    const struct gpu_case *c = job->c;
    const tamis_problem *p = &c->problem;
    const long long head_elements = p->seq_len * p->head_dim;
    const int kv_head = head / (p->q_heads / p->kv_heads), index_heads = tamis_plan_index_heads(c->plan);
    const int index_head = head / (p->q_heads / index_heads);
    const long long list = (long long)sequence * p->q_heads + head, kv_list = (long long)sequence * p->kv_heads + kv_head;
    const unsigned short *output = (const unsigned short *)c->output.host + list * head_elements;
    const float *lse = (const float *)c->lse.host + list * p->seq_len;
    const int kept = ((const int *)c->kept.host)[sequence];
    const int *token = (const int *)c->indices.host +
                       ((long long)sequence * index_heads + index_head) * tamis_plan_capacity(c->plan);
    if (kept < 1 || kept > tamis_plan_capacity(c->plan)) {
        printf("  kept[%d] = %d\n", sequence, kept);
        return false;
    }
    if (!check_layout(c, token, kept, output, lse)) return false;

    double error = 0.0, norm = 0.0, worst_lse = 0.0;
    unsigned long long state = c->seed ^ (unsigned long long)list << 32;
    for (int i = 0; i < job->samples; i++) {
        /* The first and the last row always; the others at random. */
        const int row = i == 0 ? 0 : i == 1 ? kept - 1 : (int)(gpu_random(&state) % (unsigned)kept);
        const int last = p->mask == TAMIS_FULL ? kept - 1 : row;
        const unsigned short *q = (const unsigned short *)c->q.host + list * head_elements;
        const unsigned short *k = (const unsigned short *)c->k.host + kv_list * head_elements;
        const unsigned short *v = (const unsigned short *)c->v.host + kv_list * head_elements;
        double want[256];
        const double want_lse = reference_row(c, list, q, k, v, token, row, last, want);
        if (c->has_map) map_row(c, head, want);
        for (int d = 0; d < p->head_dim; d++) {
            const double got = gpu_element(p->dtype, output[(long long)token[row] * p->head_dim + d]);
            error += (got - want[d]) * (got - want[d]);
            norm += want[d] * want[d];
        }
        if (want_lse == -INFINITY && lse[token[row]] == -INFINITY) continue;
        worst_lse = fmax(worst_lse, fabs(lse[token[row]] - want_lse) / fmax(1.0, fabs(want_lse)));
    }
    pthread_mutex_lock(&job->lock);
    job->error += error;
    job->norm += norm;
    job->worst_lse = isnan(worst_lse) ? INFINITY : fmax(job->worst_lse, worst_lse);
    pthread_mutex_unlock(&job->lock);
    return true;
}

static void *work(void *argument)
{
    struct job *job = argument;
    const tamis_problem *p = &job->c->problem;
    for (int i; (i = atomic_fetch_add(&job->next, 1)) < p->batch * p->q_heads;)
        if (!check_head(job, i / p->q_heads, i % p->q_heads)) atomic_store(&job->failed, true);
    return NULL;
}

bool gpu_case_check(const struct gpu_case *c, int samples)
{
    enum { max_threads = 64 };
    pthread_t threads[max_threads];
    struct job job = {.c = c, .samples = samples, .lock = PTHREAD_MUTEX_INITIALIZER};
    int count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (count > max_threads) count = max_threads;
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, &job) != 0) abort();
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    if (atomic_load(&job.failed)) return false;
    /* Where no row sees a key all must be zero, to the bit. */
    const double error = job.error == 0 ? 0 : sqrt(job.error / job.norm), bound = c->problem.dtype == TAMIS_BF16 ? 4e-3 : 1e-3;
    if (error <= bound && job.worst_lse <= 1e-4) return true; /* a NaN compares false */
    printf("  error %.3g (at most %.3g), lse off by %.3g\n", error, bound, job.worst_lse);
    return false;
}

/* ---- selection */

/* A tensor of the CPU context over an array's host copy. */
static tamis_tensor host_tensor(const struct gpu_case *c, const struct gpu_array *array, int heads)
{
    const int64_t head = c->problem.seq_len * c->problem.head_dim;
    return (tamis_tensor){array->host, heads * head, head, c->problem.head_dim};
}

struct selection {
    float *score, *rank, *mean;
    int32_t *kept, *indices;
    void *workspace;
};

static bool reference_selection(const struct gpu_case *c, tamis_plan *plan, struct selection *s)
{
    const tamis_problem *p = &c->problem;
    const size_t candidates = (size_t)(p->seq_len - p->selection.window), batch = (size_t)p->batch;
    const size_t lists = batch * (size_t)tamis_plan_index_heads(plan), bytes = tamis_plan_workspace_bytes(plan);
    s->score = malloc(batch * (size_t)p->q_heads * candidates * sizeof *s->score);
    s->rank = malloc(lists * candidates * sizeof *s->rank);
    s->mean = malloc(batch * candidates * sizeof *s->mean);
    s->kept = malloc(batch * sizeof *s->kept);
    s->indices = malloc(lists * (size_t)tamis_plan_capacity(plan) * sizeof *s->indices);
    s->workspace = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!s->score || !s->rank || !s->mean || !s->kept || !s->indices || !s->workspace) return false;
    const tamis_tensor q = host_tensor(c, &c->q, p->q_heads), k = host_tensor(c, &c->k, p->kv_heads);
    tamis_status status = tamis_score(plan, &q, &k, s->score, s->rank, s->mean, s->workspace, bytes, NULL);
    if (status == TAMIS_OK)
        status = tamis_select(plan, s->rank, s->mean, s->kept, s->indices, s->workspace, bytes, NULL);
    if (status != TAMIS_OK) printf("  CPU reference: %s\n", tamis_last_error());
    return status == TAMIS_OK;
}

/* Positions in one list but not in the other must have a rank within 2^-12 of the threshold: the lowest rank kept. */
static bool compare_list(const float *rank, const int *got, const int *want, int keep)
{
    double threshold = INFINITY;
    for (int i = 0; i < keep; i++) threshold = fmin(threshold, rank[want[i]]);
    for (int g = 0, w = 0; g < keep || w < keep;) {
        int only; /* the position that just one of them has */
        if (g < keep && w < keep && got[g] == want[w]) {
            g++, w++;
            continue;
        }
        if (w == keep || (g < keep && got[g] < want[w]))
            only = got[g++];
        else
            only = want[w++];
        if (fabs(rank[only] - threshold) > threshold / 4096.0) {
            printf("  token %d chosen differently: rank %g, threshold %g\n", only, (double)rank[only], threshold);
            return false;
        }
    }
    return true;
}

static bool compare_selection(const struct gpu_case *c, const struct selection *s)
{
    const tamis_problem *p = &c->problem;
    const int index_heads = tamis_plan_index_heads(c->plan), window = p->selection.window;
    const long long candidates = p->seq_len - window, capacity = tamis_plan_capacity(c->plan);
    for (int b = 0; b < p->batch; b++) {
        const int got = ((const int *)c->kept.host)[b];
        if (got != s->kept[b]) {
            printf("  sequence %d keeps %d, reference %d\n", b, got, s->kept[b]);
            return false;
        }
        if (got == p->seq_len) continue;
        for (int h = 0; h < index_heads; h++) {
            const long long list = (long long)b * index_heads + h;
            if (!compare_list(s->rank + list * candidates, (const int *)c->indices.host + list * capacity,
                              s->indices + list * capacity, got - window))
                return false;
        }
    }
    return true;
}

bool gpu_case_check_selection(const struct gpu_case *c)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    options.device = TAMIS_DEVICE_CPU;
    options.precision = TAMIS_FP64;
    tamis_context *cpu = NULL;
    tamis_plan *plan = NULL;
    struct selection s = {NULL, NULL, NULL, NULL, NULL, NULL};
    bool ok = c->problem.seq_len > c->problem.selection.window;
    if (!ok) return true; /* nothing to choose from */
    ok = tamis_context_create(&cpu, &options) == TAMIS_OK && tamis_plan_create(&plan, cpu, NULL, &c->problem) == TAMIS_OK;
    if (!ok) printf("  CPU reference: %s\n", tamis_last_error());
    ok = ok && reference_selection(c, plan, &s) && compare_selection(c, &s);
    free(s.score);
    free(s.rank);
    free(s.mean);
    free(s.kept);
    free(s.indices);
    free(s.workspace);
    tamis_plan_free(plan);
    tamis_context_free(cpu);
    return ok;
}
