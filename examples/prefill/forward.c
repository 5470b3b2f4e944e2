/*
 * forward.c: the prefill of a Llama-family decoder: embedding; in each layer norm, projections, rotary embedding, libtamis's
 * attention and the MLP, with residuals; norm and head of the last token. One sequence, all of it at once but for the MLP,
 * whose wide rows are kept for a chunk of tokens only.
 */
#include "prefill.h"

#include <stdlib.h>
#include <string.h>

const char *const stage_names[STAGES] = {"projections", "attention", "output", "mlp", "drift"};

struct prefill {
    struct backend *backend;
    const struct model *model;
    const struct weights *weights;
    struct prefill_options options;
    int64_t qkv_width;
    void *hidden;    /* (tokens, width): the residual stream */
    void *before;    /* (tokens, width): the same before the layer, for its drift; NULL until asked for */
    void *normed;    /* (tokens, width) */
    void *qkv;       /* (tokens, qkv_width): a token's query, key and value heads */
    void *attention; /* (tokens, heads head_dim) */
    void *gate_up;   /* (chunk, 2 inner) */
    void *angles;    /* (tokens, head_dim / 2, 2) float */
    void *ids;       /* (tokens) int32 */
    void *logits;    /* (vocabulary) float */
    tamis_plan *dense, *sparse, *blocks; /* blocks: of the pattern on all tokens; NULL without one */
    void *workspace;
    size_t workspace_bytes, bytes;
    tamis_drift *drift;
    void *drift_state;
};

static void *allocate(struct prefill *p, int64_t rows, int64_t columns, size_t element_bytes)
{
    const size_t bytes = (size_t)rows * (size_t)columns * element_bytes;
    p->bytes += bytes;
    return device_alloc(p->backend, bytes);
}

static tamis_plan *make_plan(struct prefill *p, const tamis_selection *selection, const tamis_pattern *pattern)
{
    const struct model *m = p->model;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    tamis_plan *plan;
    problem.dtype = m->dtype;
    problem.q_heads = m->heads;
    problem.kv_heads = m->kv_heads;
    problem.head_dim = m->head_dim;
    problem.seq_len = p->options.tokens;
    if (selection) problem.selection = *selection;
    options.pattern = pattern;
    need(tamis_plan_create_with(&plan, p->backend->context, p->options.store, &problem, &options), "plan");
    if (tamis_plan_workspace_bytes(plan) > p->workspace_bytes) p->workspace_bytes = tamis_plan_workspace_bytes(plan);
    return plan;
}

static void upload_angles(struct prefill *p)
{
    const int64_t tokens = p->options.tokens;
    float *angles = model_angles(p->model, tokens);
    need(tamis_memory_write(p->backend->context, p->angles, angles,
                            (size_t)tokens * (size_t)p->model->head_dim * sizeof *angles,
                            p->backend->stream), "copying angles");
    free(angles);
}

struct prefill *prefill_open(struct backend *backend, const struct model *model, const struct weights *weights,
                             const struct prefill_options *options)
{
    struct prefill *p = calloc(1, sizeof *p);
    if (!p) die("out of memory");
    const int64_t tokens = options->tokens;
    if (options->chunk < 1 || options->chunk > tokens) die("the MLP's chunk must be from 1 to %lld tokens", (long long)tokens);
    *p = (struct prefill){.backend = backend, .model = model, .weights = weights, .options = *options,
                          .qkv_width = (int64_t)(model->heads + 2 * model->kv_heads) * model->head_dim};
    const tamis_pattern *pattern = options->pattern.kind != TAMIS_PATTERN_NONE ? &options->pattern : NULL;
    p->dense = make_plan(p, NULL, NULL);
    p->sparse = make_plan(p, &options->selection, pattern);
    if (pattern) p->blocks = make_plan(p, NULL, pattern);
    if (p->workspace_bytes > 0) p->workspace = device_alloc(backend, p->workspace_bytes);
    p->hidden = allocate(p, tokens, model->width, 2);
    p->normed = allocate(p, tokens, model->width, 2);
    p->qkv = allocate(p, tokens, p->qkv_width, 2);
    p->attention = allocate(p, tokens, (int64_t)model->heads * model->head_dim, 2);
    p->gate_up = allocate(p, options->chunk, 2 * (int64_t)model->inner, 2);
    p->angles = allocate(p, tokens, model->head_dim, sizeof(float));
    p->ids = allocate(p, tokens, 1, sizeof(int32_t));
    p->logits = allocate(p, model->vocabulary, 1, sizeof(float));
    upload_angles(p);
    return p;
}

void prefill_free(struct prefill *p)
{
    tamis_context *context = p->backend->context;
    void *const all[] = {p->hidden, p->before, p->normed, p->qkv,  p->attention, p->gate_up,
                         p->angles, p->ids,    p->logits, p->workspace, p->drift_state};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) tamis_memory_free(context, all[i]);
    tamis_drift_free(p->drift);
    tamis_plan_free(p->dense);
    tamis_plan_free(p->sparse);
    tamis_plan_free(p->blocks);
    free(p);
}

size_t prefill_bytes(const struct prefill *p) { return p->bytes; }
size_t prefill_workspace(const struct prefill *p) { return p->workspace_bytes; }

/* ---- a layer */

static void project(struct prefill *p, const struct layer_weights *layer)
{
    const struct model *m = p->model;
    const struct backend_table *table = p->backend->table;
    const int64_t tokens = p->options.tokens;
    table->rms_norm(p->backend, p->normed, p->hidden, layer->input_norm, tokens, m->width, (float)m->epsilon);
    table->gemm(p->backend, p->qkv, p->qkv_width, p->normed, m->width, layer->qkv, tokens, (int)p->qkv_width, m->width, 0);
    /* Queries and keys lie side by side: all their heads at once. */
    table->rope(p->backend, p->qkv, p->qkv_width, p->angles, tokens, m->heads + m->kv_heads, m->head_dim);
}

/* A (1, heads, tokens, head_dim) tensor that lies in rows of `stride` elements, from element `first` of each. */
static tamis_tensor heads_of(void *rows, int64_t first, int64_t stride, int head_dim)
{
    return (tamis_tensor){(uint16_t *)rows + first, 0, head_dim, stride};
}

static const tamis_plan *plan_of(const struct prefill *p, int layer, bool sparse)
{
    if (sparse && p->options.sparse[layer]) return p->sparse;
    return sparse && p->blocks ? p->blocks : p->dense;
}

static void attend(struct prefill *p, const tamis_plan *plan)
{
    const struct model *m = p->model;
    const int64_t q = (int64_t)m->heads * m->head_dim, kv = (int64_t)m->kv_heads * m->head_dim;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = heads_of(p->qkv, 0, p->qkv_width, m->head_dim);
    args.k = heads_of(p->qkv, q, p->qkv_width, m->head_dim);
    args.v = heads_of(p->qkv, q + kv, p->qkv_width, m->head_dim);
    args.output = heads_of(p->attention, 0, q, m->head_dim);
    need(tamis_run(plan, &args, p->workspace, p->workspace_bytes, p->backend->stream), "attention");
}

static void add_output(struct prefill *p, const struct layer_weights *layer)
{
    const struct model *m = p->model;
    const int64_t q = (int64_t)m->heads * m->head_dim;
    p->backend->table->gemm(p->backend, p->hidden, m->width, p->attention, q, layer->output, p->options.tokens, m->width,
                            (int)q,
                            GEMM_ADD);
}

static void add_mlp(struct prefill *p, const struct layer_weights *layer)
{
    const struct model *m = p->model;
    const struct backend_table *table = p->backend->table;
    const int64_t tokens = p->options.tokens, wide = 2 * (int64_t)m->inner;
    table->rms_norm(p->backend, p->normed, p->hidden, layer->post_norm, tokens, m->width, (float)m->epsilon);
    for (int64_t first = 0; first < tokens; first += p->options.chunk) {
        const int64_t rows = first + p->options.chunk < tokens ? p->options.chunk : tokens - first;
        const uint16_t *in = (const uint16_t *)p->normed + first * m->width;
        uint16_t *out = (uint16_t *)p->hidden + first * m->width;
        table->gemm(p->backend, p->gate_up, wide, in, m->width, layer->gate_up, rows, (int)wide, m->width, 0);
        table->swiglu(p->backend, p->gate_up, rows, m->inner);
        table->gemm(p->backend, out, m->width, p->gate_up, wide, layer->down, rows, m->width, m->inner, GEMM_ADD);
    }
}

/* ---- drift */

static void open_drift(struct prefill *p)
{
    const struct model *m = p->model;
    if (p->drift) return;
    need(tamis_drift_create(&p->drift, p->backend->context, p->options.store, m->dtype, m->layers, m->width), "drift");
    p->drift_state = device_alloc(p->backend, tamis_drift_state_bytes(p->drift));
    p->before = allocate(p, p->options.tokens, m->width, 2);
}

static void add_drift(struct prefill *p, int layer)
{
    const int64_t width = p->model->width;
    need(tamis_drift_add(p->drift, p->drift_state, layer, p->before, width, p->hidden, width, p->options.tokens,
                         p->backend->stream), "drift");
}

/* ---- all layers */

static uint64_t hash_bytes(const void *data, size_t bytes) /* FNV-1a, a 64-bit word at a time where there is one */
{
    const unsigned char *at = data;
    uint64_t hash = 0xcbf29ce484222325u, word;
    for (; bytes >= sizeof word; at += sizeof word, bytes -= sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = (hash ^ word) * 0x100000001b3u;
        hash ^= hash >> 32;
    }
    for (; bytes > 0; at++, bytes--) hash = (hash ^ *at) * 0x100000001b3u;
    return hash;
}

static uint64_t hash_attention(const struct prefill *p)
{
    const size_t bytes = 2 * (size_t)p->options.tokens * (size_t)p->model->heads * (size_t)p->model->head_dim;
    void *host = malloc(bytes);
    if (!host) die("out of memory for a layer's attention");
    need(tamis_memory_read(p->backend->context, host, p->attention, bytes, p->backend->stream), "reading attention");
    const uint64_t hash = hash_bytes(host, bytes);
    free(host);
    return hash;
}

static void run_layer(struct prefill *p, int index, bool sparse, bool drift, struct prefill_result *result)
{
    const struct layer_weights *layer = &p->weights->layers[index];
    struct backend *backend = p->backend;
    const int slot = STAGES * index;
    if (drift) backend->table->copy(backend, p->before, p->hidden, 2 * (size_t)p->options.tokens * (size_t)p->model->width);
    project(p, layer);
    backend->table->mark(backend, slot + 1);
    attend(p, plan_of(p, index, sparse));
    if (p->options.hash_attention) result->attention_hash[index] = hash_attention(p);
    backend->table->mark(backend, slot + 2);
    add_output(p, layer);
    backend->table->mark(backend, slot + 3);
    add_mlp(p, layer);
    backend->table->mark(backend, slot + 4);
    if (drift) add_drift(p, index);
    backend->table->mark(backend, slot + 5);
}

static void run_head(struct prefill *p)
{
    const struct model *m = p->model;
    const struct backend_table *table = p->backend->table;
    const uint16_t *last = (const uint16_t *)p->hidden + (p->options.tokens - 1) * m->width;
    table->rms_norm(p->backend, p->normed, last, p->weights->final_norm, 1, m->width, (float)m->epsilon);
    table->gemm(p->backend, p->logits, m->vocabulary, p->normed, m->width, p->weights->head, 1, m->vocabulary, m->width,
                GEMM_FLOAT);
}

static void read_logits(struct prefill *p, float *logits, struct prefill_result *result)
{
    const size_t bytes = (size_t)p->model->vocabulary * sizeof *logits;
    float *host = malloc(bytes);
    if (!host) die("out of memory for the logits");
    need(tamis_memory_read(p->backend->context, host, p->logits, bytes, p->backend->stream), "reading logits");
    result->token = 0;
    for (int i = 1; i < p->model->vocabulary; i++)
        if (host[i] > host[result->token]) result->token = i;
    result->logits_hash = hash_bytes(host, bytes);
    if (logits) memcpy(logits, host, bytes);
    free(host);
}

void prefill_run(struct prefill *p, const int32_t *ids, bool sparse, bool drift, float *logits, struct prefill_result *result)
{
    struct backend *backend = p->backend;
    const struct model *m = p->model;
    const int64_t tokens = p->options.tokens;
    const int ends = STAGES * m->layers + 1;
    *result = (struct prefill_result){.milliseconds = 0};
    if (drift) {
        open_drift(p);
        need(tamis_drift_reset(p->drift, p->drift_state, backend->stream), "drift");
    }
    need(tamis_memory_write(backend->context, p->ids, ids, (size_t)tokens * sizeof *ids, backend->stream),
         "copying the prompt");
    backend->table->mark(backend, ends);
    backend->table->embed(backend, p->hidden, p->weights->embedding, p->ids, tokens, m->width);
    backend->table->mark(backend, 0);
    for (int i = 0; i < m->layers; i++) run_layer(p, i, sparse, drift, result);
    run_head(p);
    read_logits(p, logits, result);
    backend->table->mark(backend, ends + 1);
    need(tamis_stream_synchronize(backend->context, backend->stream), "the prefill");
    result->milliseconds = backend->table->between(backend, ends, ends + 1);
    for (int i = 0; i < m->layers; i++)
        for (int stage = 0; stage < STAGES; stage++)
            result->stages[i][stage] = backend->table->between(backend, STAGES * i + stage, STAGES * i + stage + 1);
    if (drift) need(tamis_drift_read(result->drift, p->drift, p->drift_state, backend->stream), "drift");
}
