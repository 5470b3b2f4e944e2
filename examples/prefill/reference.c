/*
 * reference.c: a Llama-family decoder's forward written straight down, in double precision and plain loops, to compare the
 * prefill with. Shares with it the weights and the rotary embedding's angles, and no arithmetic. Can round at random what the
 * prefill rounds, to say how far that takes a model's logits.
 */
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double *allocate(int64_t count)
{
    double *memory = calloc((size_t)count, sizeof *memory);
    if (!memory) die("out of memory for the reference");
    return memory;
}

/* ---- rounding */

struct rounding {
    tamis_dtype dtype;
    uint32_t seed; /* 0: none */
    uint64_t next; /* numbers drawn so far */
};

static double round_one(double value, struct rounding *rounding)
{
    const int bits = rounding->dtype == TAMIS_BF16 ? 8 : 11, least = rounding->dtype == TAMIS_BF16 ? -133 : -24;
    int exponent;
    frexp(value, &exponent);
    const double step = ldexp(1, exponent - bits > least ? exponent - bits : least);
    const double uniform = 0.5 + (double)prefill_random(rounding->seed, rounding->next++, 0.28867513f); /* 1 / sqrt(12) */
    return floor(value / step + uniform) * step;
}

static void round_all(double *values, int64_t count, struct rounding *rounding)
{
    for (int64_t i = 0; i < count && rounding->seed; i++) values[i] = round_one(values[i], rounding);
}

/* ---- parts of a layer */

/* `count` of the device's elements. */
static double *read_back(struct backend *backend, const void *device, int64_t count)
{
    double *out = allocate(count);
    uint16_t *halves = malloc(2 * (size_t)count);
    if (!halves) die("out of memory for the reference");
    need(tamis_memory_read(backend->context, halves, device, 2 * (size_t)count, backend->stream), "reading weights");
    for (int64_t i = 0; i < count; i++) out[i] = half_to_float(halves[i], backend->dtype);
    free(halves);
    return out;
}

/* out (rows, n) += in (rows, k) times weight (n, k) transposed. */
static void multiply(double *out, const double *in, const double *weight, int rows, int n, int k)
{
    for (int row = 0; row < rows; row++)
        for (int j = 0; j < n; j++)
            for (int i = 0; i < k; i++) out[(int64_t)row * n + j] += in[(int64_t)row * k + i] * weight[(int64_t)j * k + i];
}

static void normalise(double *out, const double *in, const double *weight, int rows, int width, double epsilon)
{
    for (int row = 0; row < rows; row++, in += width, out += width) {
        double squares = 0;
        for (int i = 0; i < width; i++) squares += in[i] * in[i];
        for (int i = 0; i < width; i++) out[i] = in[i] / sqrt(squares / width + epsilon) * weight[i];
    }
}

/* One head of one token, as a complex number a pair. */
static void rotate(double *head, const float *angles, int head_dim)
{
    const int half = head_dim / 2;
    for (int i = 0; i < half; i++) {
        const double a = head[i], b = head[i + half], cosine = angles[2 * i], sine = angles[2 * i + 1];
        head[i] = a * cosine - b * sine;
        head[i + half] = a * sine + b * cosine;
    }
}

/* Causal attention of one query head's token; `qkv` has rows of queries, keys and values. Kernels round exponentials before
   they multiply with values, but not where they sum them up. */
static void attend(double *out, const double *qkv, const struct model *m, int token, int head, struct rounding *rounding)
{
    const int pitch = (m->heads + 2 * m->kv_heads) * m->head_dim, kv = head / (m->heads / m->kv_heads);
    const double *q = qkv + (int64_t)token * pitch + head * m->head_dim;
    double total = 0, largest = -INFINITY, *weights = allocate(token + 1);
    for (int t = 0; t <= token; t++) {
        const double *k = qkv + (int64_t)t * pitch + (m->heads + kv) * m->head_dim;
        for (int i = 0; i < m->head_dim; i++) weights[t] += q[i] * k[i] / sqrt(m->head_dim);
        largest = fmax(largest, weights[t]);
    }
    for (int t = 0; t <= token; t++) total += weights[t] = exp(weights[t] - largest);
    round_all(weights, token + 1, rounding);
    for (int t = 0; t <= token; t++) {
        const double *v = qkv + (int64_t)t * pitch + (m->heads + m->kv_heads + kv) * m->head_dim;
        for (int i = 0; i < m->head_dim; i++) out[i] += weights[t] / total * v[i];
    }
    free(weights);
}

static void add_attention(double *hidden, struct backend *backend, const struct model *m, const struct layer_weights *layer,
                          const float *angles, int tokens, struct rounding *rounding)
{
    const int q = m->heads * m->head_dim, pitch = q + 2 * m->kv_heads * m->head_dim;
    double *norm = read_back(backend, layer->input_norm, m->width), *in = allocate((int64_t)tokens * m->width);
    double *project = read_back(backend, layer->qkv, (int64_t)pitch * m->width), *qkv = allocate((int64_t)tokens * pitch);
    double *output = read_back(backend, layer->output, (int64_t)m->width * q), *out = allocate((int64_t)tokens * q);
    normalise(in, hidden, norm, tokens, m->width, m->epsilon);
    round_all(in, (int64_t)tokens * m->width, rounding);
    multiply(qkv, in, project, tokens, pitch, m->width);
    round_all(qkv, (int64_t)tokens * pitch, rounding);
    for (int t = 0; t < tokens; t++)
        for (int head = 0; head < m->heads + m->kv_heads; head++) {
            double *at = qkv + (int64_t)t * pitch + head * m->head_dim;
            rotate(at, angles + (int64_t)t * m->head_dim, m->head_dim);
            round_all(at, m->head_dim, rounding);
        }
    for (int t = 0; t < tokens; t++)
        for (int head = 0; head < m->heads; head++)
            attend(out + (int64_t)t * q + head * m->head_dim, qkv, m, t, head, rounding);
    round_all(out, (int64_t)tokens * q, rounding);
    multiply(hidden, out, output, tokens, m->width, q);
    round_all(hidden, (int64_t)tokens * m->width, rounding);
    double *const all[] = {norm, in, project, qkv, output, out};
    for (int i = 0; i < 6; i++) free(all[i]);
}

static void add_mlp(double *hidden, struct backend *backend, const struct model *m, const struct layer_weights *layer,
                    int tokens, struct rounding *rounding)
{
    const int64_t inner = (int64_t)tokens * m->inner;
    double *norm = read_back(backend, layer->post_norm, m->width), *in = allocate((int64_t)tokens * m->width);
    double *gate_up = read_back(backend, layer->gate_up, 2 * (int64_t)m->inner * m->width);
    double *down = read_back(backend, layer->down, (int64_t)m->width * m->inner);
    double *gate = allocate(inner), *up = allocate(inner);
    normalise(in, hidden, norm, tokens, m->width, m->epsilon);
    round_all(in, (int64_t)tokens * m->width, rounding);
    multiply(gate, in, gate_up, tokens, m->inner, m->width);
    multiply(up, in, gate_up + (int64_t)m->inner * m->width, tokens, m->inner, m->width);
    round_all(gate, inner, rounding);
    round_all(up, inner, rounding);
    for (int64_t i = 0; i < inner; i++) gate[i] *= up[i] / (1 + exp(-gate[i]));
    round_all(gate, inner, rounding);
    multiply(hidden, gate, down, tokens, m->width, m->inner);
    round_all(hidden, (int64_t)tokens * m->width, rounding);
    double *const all[] = {norm, in, gate_up, down, gate, up};
    for (int i = 0; i < 6; i++) free(all[i]);
}

static double drift_of(const double *before, const double *after, int tokens, int width)
{
    double sum = 0;
    for (int t = 0; t < tokens; t++) {
        double change = 0, squares = 0;
        for (int i = t * width; i < (t + 1) * width; i++) {
            change += pow(after[i] - before[i], 2);
            squares += pow(before[i], 2);
        }
        sum += sqrt(change) / (sqrt(squares) + 1e-8) / tokens;
    }
    return sum;
}

static void run_head(double *logits, struct backend *backend, const struct model *m, const struct weights *weights,
                     const double *last, struct rounding *rounding)
{
    double *norm = read_back(backend, weights->final_norm, m->width), *in = allocate(m->width);
    double *head = read_back(backend, weights->head, (int64_t)m->vocabulary * m->width);
    normalise(in, last, norm, 1, m->width, m->epsilon);
    round_all(in, m->width, rounding);
    memset(logits, 0, (size_t)m->vocabulary * sizeof *logits);
    multiply(logits, in, head, 1, m->vocabulary, m->width);
    free(norm);
    free(in);
    free(head);
}

void reference_forward(double *logits, double *drifts, struct backend *backend, const struct model *model,
                       const struct weights *weights, const int32_t *ids, int tokens, uint32_t seed)
{
    struct rounding rounding = {.dtype = backend->dtype, .seed = seed};
    const int64_t count = (int64_t)tokens * model->width;
    double *table = read_back(backend, weights->embedding, (int64_t)model->vocabulary * model->width), total = 0;
    double *hidden = allocate(count), *before = allocate(count);
    float *angles = model_angles(model, tokens);
    for (int t = 0; t < tokens; t++)
        memcpy(hidden + (int64_t)t * model->width, table + (int64_t)ids[t] * model->width,
               (size_t)model->width * sizeof *hidden);
    for (int i = 0; i < model->layers; i++) {
        memcpy(before, hidden, (size_t)count * sizeof *before);
        add_attention(hidden, backend, model, &weights->layers[i], angles, tokens, &rounding);
        add_mlp(hidden, backend, model, &weights->layers[i], tokens, &rounding);
        total += drifts[i] = drift_of(before, hidden, tokens, model->width);
    }
    for (int i = 0; i < model->layers; i++) drifts[i] /= total;
    run_head(logits, backend, model, weights, hidden + count - model->width, &rounding);
    free(table);
    free(hidden);
    free(before);
    free(angles);
}
