/*
 * weights.c: a model's weights on the device: from its files, or random ones of the same sizes. Projections that have one
 * input are put together, so that each is one product.
 */
#include "prefill.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void need(tamis_status status, const char *what)
{
    if (status != TAMIS_OK) die("%s: %s", what, tamis_last_error());
}

void *device_alloc(struct backend *backend, size_t bytes)
{
    void *memory;
    need(tamis_memory_alloc(&memory, backend->context, bytes), "memory");
    return memory;
}

struct loader {
    struct weights *weights;
    struct backend *backend;
    const struct model *model;
    struct tensor_files *files; /* NULL: random */
    uint32_t seed;
    const char *dir;
};

static void *allocate(struct loader *loader, int64_t rows, int64_t columns)
{
    const size_t bytes = (size_t)rows * (size_t)columns * sizeof(uint16_t);
    loader->weights->bytes += bytes;
    return device_alloc(loader->backend, bytes);
}

/* A file's elements as they are, or, of the other 16-bit type, rounded to ours. */
static void upload(struct loader *loader, void *to, const struct tensor *tensor)
{
    const size_t count = (size_t)(tensor->rows * tensor->columns);
    uint16_t *converted = NULL;
    if (tensor->dtype != loader->model->dtype) {
        converted = malloc(count * sizeof *converted);
        if (!converted) die("%s: out of memory", loader->dir);
        for (size_t i = 0; i < count; i++)
            converted[i] = half_from_float(half_to_float(tensor->data[i], tensor->dtype), loader->model->dtype);
    }
    need(tamis_memory_write(loader->backend->context, to, converted ? converted : tensor->data, 2 * count,
                            loader->backend->stream), "copying weights");
    free(converted);
}

static void load_ones(struct loader *loader, void *to, int64_t count)
{
    uint16_t *ones = malloc((size_t)count * sizeof *ones);
    if (!ones) die("out of memory for a layer's norm");
    for (int64_t i = 0; i < count; i++) ones[i] = half_from_float(1, loader->model->dtype);
    need(tamis_memory_write(loader->backend->context, to, ones, 2 * (size_t)count, loader->backend->stream), "copying weights");
    free(ones);
}

/* Rows of the matrix `to` from row `first` on. Vectors, which scale, are 1 where they are random; matrices keep the size. */
static void load(struct loader *loader, void *to, int64_t first, int64_t rows, int64_t columns, const char *name)
{
    char *place = (char *)to + 2 * first * columns;
    struct tensor tensor;
    if (!loader->files && rows > 1) {
        loader->backend->table->fill(loader->backend, place, rows * columns, loader->seed++, 1 / sqrtf((float)columns));
        return;
    }
    if (!loader->files) {
        load_ones(loader, place, columns);
        return;
    }
    if (!tensor_find(&tensor, loader->files, name)) die("%s: has no %s", loader->dir, name);
    if (tensor.rows != rows || tensor.columns != columns)
        die("%s: %s is %lld by %lld, the configuration says %lld by %lld", loader->dir, name, (long long)tensor.rows,
            (long long)tensor.columns, (long long)rows, (long long)columns);
    upload(loader, place, &tensor);
}

static void load_layer(struct loader *loader, int index)
{
    const struct model *m = loader->model;
    struct layer_weights *layer = &loader->weights->layers[index];
    const int64_t q = (int64_t)m->heads * m->head_dim, kv = (int64_t)m->kv_heads * m->head_dim;
    char name[96];
    const int prefix = snprintf(name, sizeof name, "model.layers.%d.", index);
#define NAMED(suffix) (snprintf(name + prefix, sizeof name - (size_t)prefix, "%s.weight", suffix), name)
    layer->input_norm = allocate(loader, 1, m->width);
    layer->qkv = allocate(loader, q + 2 * kv, m->width);
    layer->output = allocate(loader, m->width, q);
    layer->post_norm = allocate(loader, 1, m->width);
    layer->gate_up = allocate(loader, 2 * (int64_t)m->inner, m->width);
    layer->down = allocate(loader, m->width, m->inner);
    load(loader, layer->input_norm, 0, 1, m->width, NAMED("input_layernorm"));
    load(loader, layer->qkv, 0, q, m->width, NAMED("self_attn.q_proj"));
    load(loader, layer->qkv, q, kv, m->width, NAMED("self_attn.k_proj"));
    load(loader, layer->qkv, q + kv, kv, m->width, NAMED("self_attn.v_proj"));
    load(loader, layer->output, 0, m->width, q, NAMED("self_attn.o_proj"));
    load(loader, layer->post_norm, 0, 1, m->width, NAMED("post_attention_layernorm"));
    load(loader, layer->gate_up, 0, m->inner, m->width, NAMED("mlp.gate_proj"));
    load(loader, layer->gate_up, m->inner, m->inner, m->width, NAMED("mlp.up_proj"));
    load(loader, layer->down, 0, m->width, m->inner, NAMED("mlp.down_proj"));
#undef NAMED
}

void weights_open(struct weights *out, struct backend *backend, const struct model *model, const char *dir, uint32_t seed)
{
    struct loader loader = {out, backend, model, dir ? tensor_files_open(dir) : NULL, seed, dir};
    memset(out, 0, sizeof *out);
    out->embedding = allocate(&loader, model->vocabulary, model->width);
    load(&loader, out->embedding, 0, model->vocabulary, model->width, "model.embed_tokens.weight");
    for (int i = 0; i < model->layers; i++) load_layer(&loader, i);
    out->final_norm = allocate(&loader, 1, model->width);
    load(&loader, out->final_norm, 0, 1, model->width, "model.norm.weight");
    out->head = model->tied ? out->embedding : allocate(&loader, model->vocabulary, model->width);
    if (!model->tied) load(&loader, out->head, 0, model->vocabulary, model->width, "lm_head.weight");
    if (loader.files) tensor_files_close(loader.files);
}

void weights_free(struct weights *weights, struct backend *backend, const struct model *model)
{
    tamis_context *context = backend->context;
    for (int i = 0; i < model->layers; i++) {
        struct layer_weights *layer = &weights->layers[i];
        void *const all[] = {layer->input_norm, layer->qkv, layer->output, layer->post_norm, layer->gate_up, layer->down};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) tamis_memory_free(context, all[j]);
    }
    if (!model->tied) tamis_memory_free(context, weights->head);
    tamis_memory_free(context, weights->final_norm);
    tamis_memory_free(context, weights->embedding);
}
