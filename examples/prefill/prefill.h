/*
 * prefill.h: what the files of the prefill example share. From the bottom: backend_cpu.c and backend_gpu.c (arithmetic, over
 * one table), model.c (a configuration), weights.c (tensors), forward.c (the decoder), report.c and main.c.
 *
 * Activations and weights are bf16 or fp16, row-major, in memory of libtamis's context: a GPU's, or on the CPU the host's.
 * What goes wrong is said in one line, and ends the program: see die().
 */
#ifndef PREFILL_H
#define PREFILL_H

#include <tamis.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOST_LAYERS 256
#define STAGES 5 /* of a layer, that are timed: see stage_names */

__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...); /* main.c, check.c */
void need(tamis_status status, const char *what); /* weights.c: or die with the library's message */

/* ---- model.c */

enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3 };

/* A Llama-family decoder, as its config.json describes it. */
struct model {
    int layers, width, heads, kv_heads, head_dim, inner, vocabulary;
    double epsilon, rope_theta;
    enum rope_kind rope;
    double rope_factor, rope_low, rope_high, rope_positions; /* the last three: ROPE_LLAMA3 */
    bool tied;                                               /* the head is the embedding */
    tamis_dtype dtype;
};

void model_read(struct model *out, const char *path); /* config.json */
void model_llama_8b(struct model *out);               /* Llama-3.1-8B's sizes */
/* The (tokens, head_dim / 2, 2) cosines and sines of the positions 0 to tokens - 1; the caller frees. */
float *model_angles(const struct model *model, int64_t tokens);

/* ---- the arithmetic, of a device */

enum { GEMM_ADD = 1, GEMM_FLOAT = 2 }; /* add to the output; the output is float */

struct backend;
struct backend_table {
    const char *name; /* "GPU" */
    /* out (rows, n) = in (rows, k) times weight (n, k) transposed; sums in float. Strides in elements. */
    void (*gemm)(struct backend *backend, void *out, int64_t out_stride, const void *in, int64_t in_stride, const void *weight,
                 int64_t rows, int n, int k, int flags);
    /* Each (width) row over the root of its mean square plus epsilon, times weight. */
    void (*rms_norm)(struct backend *backend, void *out, const void *in, const void *weight, int64_t rows, int width,
                     float epsilon);
    /* Rotate the halves of each of a row's heads by the row's angles, in place. */
    void (*rope)(struct backend *backend, void *rows_of_heads, int64_t stride, const float *angles, int64_t rows, int heads,
                 int head_dim);
    /* in place, rows of (2 inner): the first half becomes silu(first) * second. */
    void (*swiglu)(struct backend *backend, void *gate_up, int64_t rows, int inner);
    void (*embed)(struct backend *backend, void *out, const void *table, const int32_t *ids, int64_t rows, int width);
    void (*copy)(struct backend *backend, void *to, const void *from, size_t bytes);
    /* Uniform numbers of mean 0 and that deviation; of equal seeds the same bits on every device. */
    void (*fill)(struct backend *backend, void *out, int64_t count, uint32_t seed, float deviation);
    void (*mark)(struct backend *backend, int slot);                 /* the time when all before it is done */
    double (*between)(struct backend *backend, int from, int to);    /* two marks, in ms; after a synchronisation */
    size_t (*memory)(struct backend *backend, size_t *total); /* of the device, in use by all; 0: not known */
    void (*close)(struct backend *backend);
};

struct backend {
    const struct backend_table *table;
    tamis_context *context;
    tamis_stream stream;
    tamis_dtype dtype;
    char device[128]; /* "NVIDIA H200" */
    void *state;
};
#define MOST_MARKS (STAGES * MOST_LAYERS + 4)

void backend_cpu_open(struct backend *out, int threads, tamis_dtype dtype);
void backend_gpu_open(struct backend *out, int device, tamis_dtype dtype); /* libcuda,
    NVRTC and cuBLAS are opened at run time */
void backend_close(struct backend *backend);
float prefill_random(uint32_t seed, uint64_t index, float deviation); /* what `fill` puts there, not yet rounded */
uint16_t half_from_float(float value, tamis_dtype dtype);
float half_to_float(uint16_t bits, tamis_dtype dtype);

/* ---- weights.c */

struct layer_weights {
    void *input_norm; /* (width) */
    void *qkv;        /* ((heads + 2 kv_heads) head_dim, width): queries, keys, values */
    void *output;     /* (width, heads head_dim) */
    void *post_norm;  /* (width) */
    void *gate_up;    /* (2 inner, width) */
    void *down;       /* (width, inner) */
};

struct weights {
    void *embedding; /* (vocabulary, width) */
    struct layer_weights layers[MOST_LAYERS];
    void *final_norm; /* (width) */
    void *head;       /* (vocabulary, width); the embedding where these are tied */
    size_t bytes;
};

/* From DIR/model.safetensors, or the files that DIR/model.safetensors.index.json names; NULL: random ones, by `seed`. */
void weights_open(struct weights *out, struct backend *backend, const struct model *model, const char *dir, uint32_t seed);
void weights_free(struct weights *weights, struct backend *backend, const struct model *model);
void *device_alloc(struct backend *backend, size_t bytes);

/* safetensors.c: files mapped into memory. */
struct tensor {
    const uint16_t *data;
    tamis_dtype dtype;
    int64_t rows, columns; /* a vector has one row */
};
struct tensor_files;
struct tensor_files *tensor_files_open(const char *dir);
void tensor_files_close(struct tensor_files *files);
bool tensor_find(struct tensor *out, struct tensor_files *files, const char *name); /* false: there is none */
char *read_text(const char *path, size_t most); /* a whole file, ended by a zero; the caller frees */

/* ---- forward.c */

struct prefill_options {
    int64_t tokens;
    tamis_store *store;        /* NULL: on the CPU alone */
    tamis_selection selection; /* of the sparse layers */
    tamis_pattern pattern;     /* of all layers of a sparse run; kind TAMIS_PATTERN_NONE: none */
    bool sparse[MOST_LAYERS];
    int64_t chunk;             /* tokens that the MLP handles at a time */
    bool hash_attention;
};

extern const char *const stage_names[STAGES];

struct prefill_result {
    double milliseconds;                /* from the prompt's tokens on the device to the next one's number on the host */
    double stages[MOST_LAYERS][STAGES]; /* in ms */
    int32_t token;                      /* the most likely next one */
    uint64_t logits_hash;
    uint64_t attention_hash[MOST_LAYERS]; /* of the attention's output; where asked for */
    double drift[MOST_LAYERS];            /* normalised; where measured */
};

struct prefill;
struct prefill *prefill_open(struct backend *backend, const struct model *model, const struct weights *weights,
                             const struct prefill_options *options);
void prefill_free(struct prefill *prefill);
size_t prefill_bytes(const struct prefill *prefill);     /* of activations */
size_t prefill_workspace(const struct prefill *prefill); /* of attention */
/* `ids` (tokens) on the host. `sparse`: the options' layers and pattern, else all is dense. `logits` (vocabulary) or NULL. */
void prefill_run(struct prefill *prefill, const int32_t *ids, bool sparse, bool drift, float *logits,
                 struct prefill_result *result);

#endif
