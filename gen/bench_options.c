/*
 * bench_options.c: see bench_options.h. A list is values with commas between, each given once.
 */
#include "bench_options.h"

#include "bench.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SEQ_LEN (1ll << 24)
#define MAX_HEADS 1024

/* The next value of a list; false: an empty or overlong one, which is none. `*text` moves on, to NULL at the end. */
static bool next_word(const char **text, char *word, size_t room)
{
    const size_t bytes = strcspn(*text, ",");
    const bool good = bytes > 0 && bytes < room;
    snprintf(word, room, "%.*s", (int)(bytes < room ? bytes : room - 1), *text);
    *text = (*text)[bytes] ? *text + bytes + 1 : NULL;
    return good;
}

static bool add_value(struct cli *cli, const char *name, struct bench_list *list, const char *word, long long value)
{
    for (int i = 0; i < list->count; i++)
        if (list->values[i] == value) return cli_usage(cli, "--%s: %s is given twice", name, word), false;
    if (list->count == BENCH_MAX_LIST)
        return cli_usage(cli, "--%s: more than %d values", name, BENCH_MAX_LIST), false;
    list->values[list->count++] = value;
    return true;
}

/* `fallback` where the option is not given. */
static bool read_integers(struct cli *cli, const char *name, long long most, const char *fallback, struct bench_list *out)
{
    const char *text = cli_value(cli, name);
    if (!text) text = fallback;
    while (text) {
        char word[32], *end;
        const bool good = next_word(&text, word, sizeof word) && isdigit((unsigned char)*word);
        errno = 0;
        const long long value = strtoll(word, &end, 10);
        if (!good || errno || *end || value < 1 || value > most)
            return cli_usage(cli, "--%s: \"%s\" is not an integer from 1 to %lld", name, word, most), false;
        if (!add_value(cli, name, out, word, value)) return false;
    }
    return true;
}

/* A value is its name's place among `names`. */
static bool read_names(struct cli *cli, const char *name, const char *const *names, const char *fallback,
                       struct bench_list *out)
{
    const char *text = cli_value(cli, name);
    if (!text) text = fallback;
    while (text) {
        char word[32];
        int value = 0;
        const bool good = next_word(&text, word, sizeof word);
        while (names[value] && strcmp(names[value], word) != 0) value++;
        if (!good || !names[value])
            return cli_usage(cli, "--%s: \"%s\" is none of %s, %s", name, word, names[0], names[1]), false;
        if (!add_value(cli, name, out, word, value)) return false;
    }
    return true;
}

static bool read_ratios(struct cli *cli, const char *name, const char *fallback, double *out, int *count)
{
    const char *text = cli_value(cli, name);
    if (!text) text = fallback;
    while (text) {
        char word[32], *end;
        const bool good = next_word(&text, word, sizeof word) && (isdigit((unsigned char)*word) || *word == '.');
        const double value = strtod(word, &end);
        if (!good || *end || !(value > 0 && value <= 1))
            return cli_usage(cli, "--%s: \"%s\" is not a ratio above 0 and up to 1", name, word), false;
        for (int i = 0; i < *count; i++)
            if (out[i] == value) return cli_usage(cli, "--%s: %s is given twice", name, word), false;
        if (*count == BENCH_MAX_LIST) return cli_usage(cli, "--%s: more than %d values", name, BENCH_MAX_LIST), false;
        out[(*count)++] = value;
    }
    return true;
}

bool bench_options_lengths(struct cli *cli, const char *fallback, struct bench_list *out)
{
    return read_integers(cli, "lengths", MAX_SEQ_LEN, fallback, out);
}

bool bench_options_ratios(struct cli *cli, const char *fallback, double out[BENCH_MAX_LIST], int *count)
{
    return read_ratios(cli, "ratios", fallback, out, count);
}

bool bench_options_dtypes(struct cli *cli, const char *fallback, struct bench_list *out)
{
    static const char *const names[] = {"bf16", "fp16", NULL};
    return read_names(cli, "dtypes", names, fallback, out);
}

static bool check_head_dims(struct cli *cli, const struct bench_list *list)
{
    for (int i = 0; i < list->count; i++) {
        const long long dim = list->values[i];
        if (dim != 64 && dim != 96 && dim != 128 && dim != 256)
            return cli_usage(cli, "--head-dims: %lld is none of 64, 96, 128, 256", dim), false;
    }
    return true;
}

/* What both commands have. */
static bool read_common(struct bench_options *out, struct cli *cli)
{
    long long q_heads = 32, kv_heads = 8, rounds = 7;
    *out = (struct bench_options){.seed = 1, .batch = 1};
    if (!bench_options_lengths(cli, "8192,32768,131072", &out->lengths) ||
        !read_integers(cli, "head-dims", 256, NULL, &out->head_dims) || !check_head_dims(cli, &out->head_dims) ||
        !bench_options_dtypes(cli, "bf16", &out->dtypes) || !cli_integer(cli, "q-heads", 1, MAX_HEADS, &q_heads) ||
        !cli_integer(cli, "kv-heads", 1, MAX_HEADS, &kv_heads) ||
        !cli_integer(cli, "rounds", 1, BENCH_MAX_ROUNDS, &rounds) || !cli_integer(cli, "seed", 0, 1ll << 62, &out->seed))
        return false;
    if (q_heads % kv_heads != 0)
        return cli_usage(cli, "--q-heads %lld is no multiple of --kv-heads %lld", q_heads, kv_heads), false;
    out->q_heads = (int)q_heads;
    out->kv_heads = (int)kv_heads;
    out->rounds = (int)rounds;
    return true;
}

int bench_options_read(struct bench_options *out, struct cli *cli)
{
    static const char *const masks[] = {"causal", "full", NULL};
    const bool good = read_common(out, cli) && read_names(cli, "mask", masks, "causal", &out->masks) &&
                      read_ratios(cli, "kept", NULL, out->kept, &out->kept_count) &&
                      read_ratios(cli, "density", NULL, out->densities, &out->density_count);
    return good ? CLI_OK : CLI_USAGE;
}

int bench_operator_options_read(struct bench_options *out, struct cli *cli)
{
    const tamis_problem defaults = TAMIS_PROBLEM_INIT;
    int scope = TAMIS_SCOPE_HEAD;
    if (!read_common(out, cli)) return CLI_USAGE;
    tamis_selection *s = &out->selection;
    *s = defaults.selection;
    long long batch = 1, window = s->window, pool = s->pool, min_tokens = s->min_tokens;
    if (cli_given(cli, "ratios") && cli_given(cli, "coverage"))
        return cli_usage(cli, "--ratios and --coverage: only one of them decides how many tokens are kept");
    if (!bench_options_ratios(cli, "0.75,0.5,0.25", out->ratios, &out->ratio_count) ||
        !cli_real(cli, "coverage", 0, 1, &s->coverage) || !cli_choice(cli, "scope", &scope) ||
        !cli_integer(cli, "batch", 1, 65535, &batch) || !cli_integer(cli, "window", 1, 1024, &window) ||
        !cli_integer(cli, "pool", 1, 63, &pool) || !cli_integer(cli, "min-tokens", 0, MAX_SEQ_LEN, &min_tokens))
        return CLI_USAGE;
    if (s->coverage >= 1) return cli_usage(cli, "--coverage: it must be below 1");
    if (pool % 2 == 0) return cli_usage(cli, "--pool %lld: it must be odd", pool);
    s->policy = cli_given(cli, "coverage") ? TAMIS_COVERAGE : TAMIS_RATIO;
    if (s->policy == TAMIS_COVERAGE) out->ratio_count = 0;
    s->scope = (tamis_scope)scope;
    s->window = (int32_t)window;
    s->pool = (int32_t)pool;
    s->min_tokens = min_tokens;
    out->batch = (int)batch;
    return CLI_OK;
}

void bench_options_each(const struct bench_options *options,
                        void (*visit)(void *payload, tamis_dtype dtype, int head_dim, long long seq_len), void *payload)
{
    for (int t = 0; t < options->dtypes.count; t++)
        for (int d = 0; d < options->head_dims.count; d++)
            for (int l = 0; l < options->lengths.count; l++)
                visit(payload, (tamis_dtype)options->dtypes.values[t], (int)options->head_dims.values[d],
                      options->lengths.values[l]);
}
