/*
 * model.c: a Llama-family decoder's sizes from its config.json, and the rotary embedding's angles. What such a file says of
 * a model that this program cannot run is refused with the key named.
 */
#include "prefill.h"

#include "json_read.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    struct model *model;
    const char *path;
    bool kv_heads, head_dim, epsilon; /* were given */
};

static void refuse(const struct reader *reader, struct json_text key, const char *wanted)
{
    die("%s: %.*s is none that this program can run: %s would be right", reader->path, (int)key.bytes, key.begin, wanted);
}

static double number(const struct reader *reader, struct json_text key, const struct json_value *value)
{
    double out = 0;
    if (!json_value_number(value, &out)) refuse(reader, key, "a number");
    return out;
}

static int whole(const struct reader *reader, struct json_text key, const struct json_value *value)
{
    const double out = number(reader, key, value);
    if (!(out >= 1 && out <= 1 << 24 && out == floor(out))) refuse(reader, key, "a whole number from 1 to 2^24");
    return (int)out;
}

static bool is_text(const struct json_value *value, const char *word)
{
    return value->type == JSON_STRING && json_text_is(value->text, word);
}

/* rope_scaling, or what newer files have in its place, rope_parameters. */
static void read_rope(void *payload, struct json_text key, const struct json_value *value)
{
    struct reader *reader = payload;
    struct model *model = reader->model;
    if (json_value_is(value, "null")) return;
    if (json_text_is(key, "rope_type") || json_text_is(key, "type")) {
        if (is_text(value, "default")) model->rope = ROPE_PLAIN;
        else if (is_text(value, "linear")) model->rope = ROPE_LINEAR;
        else if (is_text(value, "llama3")) model->rope = ROPE_LLAMA3;
        else refuse(reader, key, "default, linear or llama3");
    }
    if (json_text_is(key, "rope_theta")) model->rope_theta = number(reader, key, value);
    if (json_text_is(key, "factor")) model->rope_factor = number(reader, key, value);
    if (json_text_is(key, "low_freq_factor")) model->rope_low = number(reader, key, value);
    if (json_text_is(key, "high_freq_factor")) model->rope_high = number(reader, key, value);
    if (json_text_is(key, "original_max_position_embeddings")) model->rope_positions = number(reader, key, value);
}

static void read_dtype(struct reader *reader, struct json_text key, const struct json_value *value)
{
    if (is_text(value, "bfloat16")) reader->model->dtype = TAMIS_BF16;
    else if (is_text(value, "float16")) reader->model->dtype = TAMIS_FP16;
    else refuse(reader, key, "bfloat16 or float16");
}

/* Members that make another model of it. */
static void refuse_others(struct reader *reader, struct json_text key, const struct json_value *value)
{
    static const char *const biases[] = {"attention_bias", "mlp_bias", "qkv_bias", "use_qk_norm"};
    if (json_text_is(key, "model_type") && !is_text(value, "llama") && !is_text(value, "mistral"))
        refuse(reader, key, "llama or mistral");
    if (json_text_is(key, "hidden_act") && !is_text(value, "silu")) refuse(reader, key, "silu");
    if (json_text_is(key, "sliding_window")) refuse(reader, key, "null");
    for (size_t i = 0; i < sizeof biases / sizeof *biases; i++)
        if (json_text_is(key, biases[i]) && !json_value_is(value, "false")) refuse(reader, key, "false");
}

static void read_member(void *payload, struct json_text key, const struct json_value *value)
{
    struct reader *reader = payload;
    struct model *model = reader->model;
    const struct {
        const char *name;
        int *out;
    } sizes[] = {{"num_hidden_layers", &model->layers},       {"hidden_size", &model->width},
                 {"num_attention_heads", &model->heads},      {"num_key_value_heads", &model->kv_heads},
                 {"head_dim", &model->head_dim},              {"intermediate_size", &model->inner},
                 {"vocab_size", &model->vocabulary}};
    if (json_value_is(value, "null")) return;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (json_text_is(key, sizes[i].name)) *sizes[i].out = whole(reader, key, value);
    if (json_text_is(key, "rms_norm_eps")) model->epsilon = number(reader, key, value);
    if (json_text_is(key, "rope_theta")) model->rope_theta = number(reader, key, value);
    if (json_text_is(key, "tie_word_embeddings")) model->tied = json_value_is(value, "true");
    if (json_text_is(key, "torch_dtype") || json_text_is(key, "dtype")) read_dtype(reader, key, value);
    if (json_text_is(key, "rope_scaling") || json_text_is(key, "rope_parameters"))
        json_read_nested(value, read_rope, reader);
    refuse_others(reader, key, value);
}

static void check(const struct model *model, const char *path)
{
    const struct {
        const char *name;
        int value;
    } sizes[] = {{"num_hidden_layers", model->layers},   {"hidden_size", model->width},  {"num_attention_heads", model->heads},
                 {"intermediate_size", model->inner},    {"vocab_size", model->vocabulary}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value == 0) die("%s: %s is missing", path, sizes[i].name);
    if (model->layers > MOST_LAYERS)
        die("%s: num_hidden_layers is %d, at most %d would be right", path, model->layers, MOST_LAYERS);
    if (model->heads % model->kv_heads) die("%s: num_attention_heads is no multiple of num_key_value_heads", path);
    if (model->head_dim % 2 || model->width % 8 || model->inner % 8)
        die("%s: hidden_size and intermediate_size must be multiples of 8, head_dim of 2", path);
    if (!(model->rope_theta > 0 && model->epsilon > 0)) die("%s: rope_theta and rms_norm_eps must be above 0", path);
    const bool scaled = model->rope == ROPE_PLAIN || model->rope_factor > 0;
    const bool banded = model->rope != ROPE_LLAMA3 || (model->rope_high > model->rope_low && model->rope_low > 0 &&
                                                       model->rope_positions > 0);
    if (!scaled || !banded) die("%s: the scaling of the rotary embedding lacks a number, or has one out of range", path);
}

void model_read(struct model *out, const char *path)
{
    struct reader reader = {.model = out, .path = path};
    char *text = read_text(path, 1 << 20);
    *out = (struct model){.epsilon = 1e-6, .rope_theta = 10000, .dtype = TAMIS_BF16};
    const char *wrong = json_read_text(text, read_member, &reader);
    if (wrong) die("%s: is no JSON object, from byte %zu on", path, (size_t)(wrong - text));
    free(text);
    if (out->kv_heads == 0) out->kv_heads = out->heads ? out->heads : 1;
    if (out->head_dim == 0 && out->heads) out->head_dim = out->width / out->heads;
    check(out, path);
}

void model_llama_8b(struct model *out)
{
    *out = (struct model){.layers = 32, .width = 4096, .heads = 32, .kv_heads = 8, .head_dim = 128, .inner = 14336,
                          .vocabulary = 128256, .epsilon = 1e-5, .rope_theta = 500000, .rope = ROPE_LLAMA3, .rope_factor = 8,
                          .rope_low = 1, .rope_high = 4, .rope_positions = 8192, .dtype = TAMIS_BF16};
}

/* Llama 3's scaling: short wavelengths stay, long ones are stretched by the factor, those between in proportion. */
static double scale_frequency(const struct model *model, double frequency)
{
    if (model->rope == ROPE_LINEAR) return frequency / model->rope_factor;
    if (model->rope == ROPE_PLAIN) return frequency;
    const double turns = model->rope_positions * frequency / (2 * acos(-1)); /* within the positions it was trained on */
    if (turns > model->rope_high) return frequency;
    if (turns < model->rope_low) return frequency / model->rope_factor;
    const double part = (turns - model->rope_low) / (model->rope_high - model->rope_low);
    return (1 - part) * frequency / model->rope_factor + part * frequency;
}

/* An angle is the float product of position and frequency, as frameworks have it; its cosine and sine are exact. */
float *model_angles(const struct model *model, int64_t tokens)
{
    const int half = model->head_dim / 2;
    float *angles = malloc((size_t)tokens * (size_t)model->head_dim * sizeof *angles);
    if (!angles) die("out of memory for the angles of %lld positions", (long long)tokens);
    for (int i = 0; i < half; i++) {
        const float frequency = (float)scale_frequency(model, pow(model->rope_theta, -2.0 * i / model->head_dim));
        for (int64_t t = 0; t < tokens; t++) {
            const double angle = (double)((float)t * frequency);
            angles[(t * half + i) * 2] = (float)cos(angle);
            angles[(t * half + i) * 2 + 1] = (float)sin(angle);
        }
    }
    return angles;
}
