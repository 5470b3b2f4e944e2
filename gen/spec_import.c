/*
 * spec_import.c: see spec_import.h. Members are collected first, each with its place, and judged afterwards, because what
 * one says hangs on others and their order is free.
 */
#include "spec_import.h"

#include "error.h"
#include "json_read.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the members that are looked at */

enum {
    NAME, LAYERS, Q_HEADS, KV_HEADS, HEAD_DIM, V_HEAD_DIM, HIDDEN, QUERY_SCALAR, MULTIPLIER, TORCH_DTYPE, DTYPE, LORA_RANK,
    WINDOW, USE_WINDOW, POSITIONS, LAYER_TYPES, MODEL_TYPE, TEXT_CONFIG, MEMBERS
};

static const char *const member_names[MEMBERS] = {
    [NAME] = "_name_or_path", [LAYERS] = "num_hidden_layers", [Q_HEADS] = "num_attention_heads",
    [KV_HEADS] = "num_key_value_heads", [HEAD_DIM] = "head_dim", [V_HEAD_DIM] = "v_head_dim", [HIDDEN] = "hidden_size",
    [QUERY_SCALAR] = "query_pre_attn_scalar", [MULTIPLIER] = "attention_multiplier", [TORCH_DTYPE] = "torch_dtype",
    [DTYPE] = "dtype", [LORA_RANK] = "kv_lora_rank", [WINDOW] = "sliding_window", [USE_WINDOW] = "use_sliding_window",
    [POSITIONS] = "max_position_embeddings", [LAYER_TYPES] = "layer_types", [MODEL_TYPE] = "model_type",
    [TEXT_CONFIG] = "text_config"};

/* Members that, unless null, false, 0 or empty, change the attention to one that the operator has not. */
static const struct {
    const char *name, *note;
} lacking[] = {
    {"attn_logit_softcapping", "The model caps its attention logits; the kernels do not"},
    {"attention_chunk_size", "The model attends within chunks in some layers; the kernels attend to all tokens before"},
    {"alibi", "The model adds position biases to its attention logits; the kernels do not"},
    {"add_cross_attention", "The model has cross attention; the kernels are for self attention"},
    {"cross_attention_layers", "The model has layers of cross attention; the kernels are for self attention"},
    {"is_encoder_decoder", "The model has an encoder and cross attention; the kernels are for causal self attention"},
    {"use_bidirectional_attention", "The model attends to later tokens too; the kernels are causal"},
};
#define LACKING ((int)(sizeof lacking / sizeof lacking[0]))

struct config {
    const char *file, *text;
    struct json_value members[MEMBERS];
    bool given[MEMBERS]; /* and not null */
    bool lacks[LACKING];
    bool sinks;
};

static bool says_something(const struct json_value *value)
{
    double number;
    if (value->type == JSON_WORD) return json_value_is(value, "true");
    if (json_value_number(value, &number)) return number != 0;
    if (value->type == JSON_NESTED) return value->text.bytes > 2; /* [] */
    return value->text.bytes > 0;
}

static bool name_has(struct json_text name, const char *part)
{
    const size_t bytes = strlen(part);
    for (size_t i = 0; i + bytes <= name.bytes; i++)
        if (memcmp(name.begin + i, part, bytes) == 0) return true;
    return false;
}

/* The last of a name counts, as where the file comes from; a null leaves what an outer object says. */
static void collect(void *payload, struct json_text key, const struct json_value *value)
{
    struct config *config = payload;
    if (json_value_is(value, "null")) return;
    for (int i = 0; i < MEMBERS; i++) {
        if (!json_text_is(key, member_names[i])) continue;
        config->members[i] = *value;
        config->given[i] = true;
    }
    for (int i = 0; i < LACKING; i++)
        if (json_text_is(key, lacking[i].name)) config->lacks[i] = says_something(value);
    if (name_has(key, "attention_sink")) config->sinks = config->sinks || says_something(value);
}

/* ---- errors */

static tamis_status fail_at(const struct config *config, const char *place, const char *why)
{
    int line = 1;
    const char *line_begin = config->text;
    for (const char *at = config->text; at < place; at++)
        if (*at == '\n') {
            line++;
            line_begin = at + 1;
        }
    return tamisi_fail(TAMIS_EINVAL, "%s:%d:%d: %s", config->file, line, (int)(place - line_begin) + 1, why);
}

__attribute__((format(printf, 3, 4))) static tamis_status fail_member(const struct config *config, int member,
                                                                      const char *format, ...)
{
    const struct json_value *value = &config->members[member];
    char why[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    return fail_at(config, value->text.begin - (value->type == JSON_STRING), why);
}

/* Text of the file that may be shown: cut, and of its bytes the printable ones. */
static const char *show(char *out, size_t size, struct json_text text)
{
    size_t bytes = text.bytes < size ? text.bytes : size - 1;
    for (size_t i = 0; i < bytes; i++) out[i] = text.begin[i] < ' ' || text.begin[i] > '~' ? '?' : text.begin[i];
    out[bytes] = '\0';
    return out;
}

static tamis_status fail_value(const struct config *config, int member, const char *right)
{
    const struct json_value *value = &config->members[member];
    const char *quote = value->type == JSON_STRING ? "\"" : "";
    char shown[40];
    return fail_member(config, member, "%s is %s%s%s, %s would be right", member_names[member], quote,
                       show(shown, sizeof shown, value->text), quote, right);
}

static tamis_status fail_missing(const struct config *config, int member, const char *what)
{
    return tamisi_fail(TAMIS_EINVAL, "%s: there is no %s: %s", config->file, member_names[member], what);
}

/* ---- values; one that is not given is left alone */

static tamis_status read_integer(const struct config *config, int member, int most, int *out)
{
    double number;
    char right[48];
    if (!config->given[member]) return TAMIS_OK;
    snprintf(right, sizeof right, "an integer from 1 to %d", most);
    if (!json_value_number(&config->members[member], &number) || number < 1 || number > most || number != floor(number))
        return fail_value(config, member, right);
    *out = (int)number;
    return TAMIS_OK;
}

static tamis_status read_positive(const struct config *config, int member, double *out)
{
    if (!config->given[member]) return TAMIS_OK;
    if (!json_value_number(&config->members[member], out) || *out <= 0 || *out > 1e6)
        return fail_value(config, member, "a number above 0, up to 1000000,");
    return TAMIS_OK;
}

static bool string_is(const struct config *config, int member, const char *word)
{
    const struct json_value *value = &config->members[member];
    return config->given[member] && value->type == JSON_STRING && json_text_is(value->text, word);
}

__attribute__((format(printf, 2, 3))) static void note(struct spec_import *out, const char *format, ...)
{
    va_list arguments;
    if (out->note_count == SPEC_IMPORT_MAX_NOTES) return;
    va_start(arguments, format);
    vsnprintf(out->notes[out->note_count++], sizeof out->notes[0], format, arguments);
    va_end(arguments);
}
_Static_assert(LACKING + 6 <= SPEC_IMPORT_MAX_NOTES, "each note finds room");

/* ---- what they say together */

static void read_name(const struct config *config, struct spec_import *out)
{
    const struct json_value *value = &config->members[NAME];
    if (!config->given[NAME] || value->type != JSON_STRING) return;
    show(out->model, sizeof out->model, value->text);
    spec_import_name(out->name, value->text.begin, value->text.bytes);
}

static tamis_status read_heads(const struct config *config, struct spec_import *out)
{
    TAMIS_TRY(read_integer(config, LAYERS, 1024, &out->layers));
    TAMIS_TRY(read_integer(config, Q_HEADS, 1024, &out->q_heads));
    if (!out->q_heads) return fail_missing(config, Q_HEADS, "the query heads of a layer");
    out->kv_heads = out->q_heads;
    TAMIS_TRY(read_integer(config, KV_HEADS, 1024, &out->kv_heads));
    if (!out->layers) note(out, "The configuration has no num_hidden_layers");
    if (out->q_heads % out->kv_heads == 0) return TAMIS_OK;
    return fail_member(config, KV_HEADS, "num_key_value_heads is %d, a divisor of num_attention_heads, %d, would be right",
                       out->kv_heads, out->q_heads);
}

static tamis_status read_head_dim(const struct config *config, struct spec_import *out)
{
    static const char right[] = "and tamis has kernels for 64, 96, 128 and 256";
    int hidden = 0, v_head_dim = 0, from = HEAD_DIM;
    TAMIS_TRY(read_integer(config, HEAD_DIM, 65536, &out->head_dim));
    if (!out->head_dim) {
        from = HIDDEN;
        TAMIS_TRY(read_integer(config, HIDDEN, 1 << 24, &hidden));
        if (!hidden) return fail_missing(config, HEAD_DIM, "nor hidden_size, which it would follow from");
        out->head_dim = hidden / out->q_heads;
        if (hidden % out->q_heads)
            return fail_member(config, HIDDEN, "hidden_size is %d, a multiple of num_attention_heads, %d, would be right",
                               hidden, out->q_heads);
    }
    const int dim = out->head_dim;
    if (dim != 64 && dim != 96 && dim != 128 && dim != 256)
        return fail_member(config, from, "head_dim is %d%s, %s", dim,
                           from == HIDDEN ? ", by hidden_size / num_attention_heads" : "", right);
    TAMIS_TRY(read_integer(config, V_HEAD_DIM, 65536, &v_head_dim));
    if (!v_head_dim || v_head_dim == dim) return TAMIS_OK;
    return fail_member(config, V_HEAD_DIM, "v_head_dim is %d, head_dim, %d, would be right: values are as wide as keys",
                       v_head_dim, dim);
}

static tamis_status read_scale(const struct config *config, struct spec_import *out)
{
    double scalar = 0;
    TAMIS_TRY(read_positive(config, QUERY_SCALAR, &scalar));
    TAMIS_TRY(read_positive(config, MULTIPLIER, &out->scale));
    if (scalar > 0) out->scale = 1 / sqrt(scalar);
    if (out->scale > 1000) return fail_value(config, scalar > 0 ? QUERY_SCALAR : MULTIPLIER, "a scale of at most 1000");
    return TAMIS_OK;
}

static void read_dtype(const struct config *config, struct spec_import *out)
{
    const int member = config->given[TORCH_DTYPE] ? TORCH_DTYPE : DTYPE;
    char shown[40];
    out->dtype = TAMIS_BF16;
    if (string_is(config, member, "bfloat16")) return;
    if (string_is(config, member, "float16"))
        out->dtype = TAMIS_FP16;
    else if (config->given[member])
        note(out, "The configuration's %s is %s; bf16 was taken", member_names[member],
             show(shown, sizeof shown, config->members[member].text));
    else
        note(out, "The configuration has no torch_dtype; bf16 was taken");
}

struct layer_types {
    int count, full;
    struct json_text other;
};

static void count_layer_type(void *payload, struct json_text key, const struct json_value *value)
{
    struct layer_types *types = payload;
    (void)key;
    types->count++;
    if (value->type == JSON_STRING && json_text_is(value->text, "full_attention"))
        types->full++;
    else
        types->other = value->text;
}

/* A window as long as the model's longest sequence, or that no layer uses, hides nothing. */
static tamis_status read_window(const struct config *config, struct spec_import *out)
{
    struct layer_types types = {0, 0, {NULL, 0}};
    int window = 0, positions = 0;
    char shown[40];
    if (config->given[LAYER_TYPES] && config->members[LAYER_TYPES].type != JSON_NESTED)
        return fail_value(config, LAYER_TYPES, "a list");
    if (config->given[LAYER_TYPES]) json_read_nested(&config->members[LAYER_TYPES], count_layer_type, &types);
    if (types.full < types.count)
        note(out, "%d of %d layers are not full attention but others, such as %s; the kernels are for the full ones",
             types.count - types.full, types.count, show(shown, sizeof shown, types.other));
    if (config->given[WINDOW] && says_something(&config->members[WINDOW]))
        TAMIS_TRY(read_integer(config, WINDOW, 1 << 30, &window));
    TAMIS_TRY(read_integer(config, POSITIONS, 1 << 30, &positions));
    const bool unused = config->given[USE_WINDOW] && !says_something(&config->members[USE_WINDOW]);
    if (!window || unused || (positions && window >= positions) || (types.count && types.full == types.count))
        return TAMIS_OK;
    note(out, "The model has a sliding window of %d tokens; the kernels attend to all tokens before", window);
    return TAMIS_OK;
}

static tamis_status read_attention(const struct config *config, struct spec_import *out)
{
    if (config->given[LORA_RANK] && says_something(&config->members[LORA_RANK]))
        return fail_member(config, LORA_RANK, "kv_lora_rank is given: the model has multi-head latent attention, for "
                                              "which tamis has no kernels");
    read_name(config, out);
    TAMIS_TRY(read_heads(config, out));
    TAMIS_TRY(read_head_dim(config, out));
    TAMIS_TRY(read_scale(config, out));
    read_dtype(config, out);
    TAMIS_TRY(read_window(config, out));
    for (int i = 0; i < LACKING; i++)
        if (config->lacks[i]) note(out, "%s (%s)", lacking[i].note, lacking[i].name);
    if (config->sinks || string_is(config, MODEL_TYPE, "gpt_oss"))
        note(out, "The model has attention sinks, a learned logit a head; the kernels have none");
    return TAMIS_OK;
}

tamis_status spec_import_read(struct spec_import *out, const char *file, const char *text, size_t bytes)
{
    struct config config = {.file = file, .text = text};
    memset(out, 0, sizeof *out);
    const char *wrong = json_read_text(text, collect, &config);
    if (wrong == text + bytes) return fail_at(&config, wrong, "the file ends where JSON does not");
    if (wrong)
        return fail_at(&config, wrong, *wrong ? "no JSON object has this here, or none so deep" : "a zero byte is no JSON");
    if (strlen(text) < bytes) return fail_at(&config, text + strlen(text), "a zero byte is no JSON");
    if (config.given[TEXT_CONFIG] && !json_value_is_object(&config.members[TEXT_CONFIG]))
        return fail_value(&config, TEXT_CONFIG, "an object");
    if (config.given[TEXT_CONFIG]) {
        const struct json_value nested = config.members[TEXT_CONFIG];
        const struct json_value name = config.members[NAME];
        const bool named = config.given[NAME];
        json_read_nested(&nested, collect, &config);
        if (named) { /* the whole model's */
            config.members[NAME] = name;
            config.given[NAME] = true;
        }
    }
    return read_attention(&config, out);
}

/* ---- the spec */

void spec_import_name(char out[64], const char *text, size_t bytes)
{
    size_t begin, count = 0;
    while (bytes > 0 && text[bytes - 1] == '/') bytes--;
    for (begin = bytes; begin > 0 && text[begin - 1] != '/'; begin--) continue;
    for (size_t i = begin; i < bytes && count < 63; i++) {
        char letter = text[i];
        if (letter >= 'A' && letter <= 'Z') letter = (char)(letter - 'A' + 'a');
        const bool plain = (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9') || letter == '.';
        if (!plain) letter = '-';
        if ((letter == '-' || letter == '.') && (count == 0 || out[count - 1] == '-')) continue;
        out[count++] = letter;
    }
    while (count > 0 && (out[count - 1] == '-' || out[count - 1] == '.')) count--;
    out[count] = '\0';
}

/* The fewest digits that read back to the same number. */
static void put_real(struct tamisi_buf *out, double value)
{
    char text[40];
    double read = 0;
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (sscanf(text, "%lf", &read) == 1 && read == value) break;
    }
    tamisi_buf_puts(out, text);
}

void spec_import_write(struct tamisi_buf *out, const struct spec_import *import, double coverage)
{
    tamisi_buf_printf(out, "# %s. Geometry: its config.json.\n", import->model[0] ? import->model : import->name);
    for (int i = 0; i < import->note_count; i++) tamisi_buf_printf(out, "# %s.\n", import->notes[i]);
    tamisi_buf_printf(out, "name: %s\n", import->name);
    if (import->layers) tamisi_buf_printf(out, "layers: %d\n", import->layers);
    tamisi_buf_printf(out, "dtypes: [%s]\nattention:\n  q_heads: %d\n  kv_heads: %d\n  head_dim: %d\n",
                      spec_dtype_name(import->dtype), import->q_heads, import->kv_heads, import->head_dim);
    if (import->scale > 0) {
        tamisi_buf_puts(out, "  scale: ");
        put_real(out, import->scale);
        tamisi_buf_puts(out, "\n");
    }
    tamisi_buf_puts(out, "selection:\n  coverage: ");
    put_real(out, coverage);
    tamisi_buf_puts(out, "\n  window: 128\n  pool: 7\n  min_tokens: 1024\narchs: [");
    for (int i = 0; spec_archs[i]; i++) tamisi_buf_printf(out, "%s%s", i ? ", " : "", spec_archs[i]);
    tamisi_buf_puts(out, "]\ntiles: [tiles/sm_90a.yaml, tiles/portable.yaml]\n");
}
