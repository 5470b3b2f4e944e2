/*
 * complete.c: see complete.h. Reads the words before the last as main.c and cli.c would, then says what fits there.
 */
#define _GNU_SOURCE
#include "complete.h"

#include "data.h"
#include "spec.h"
#include "store.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct completion {
    const struct cli_command *command;
    char **words;
    int count;
    const struct cli_option *pending; /* the word before the last is an option that still wants its value */
    int operands;                     /* before the last word */
    bool options_ended;               /* by -- */
    const char *lead;                 /* the last word's part that every candidate begins with: "--arch=sm_80," */
    size_t lead_bytes;
    const char *typed; /* what follows it: a candidate goes on from there */
};

/* ---- candidates */

static void offer(const struct completion *c, const char *word, size_t bytes, const char *description)
{
    const size_t typed = strlen(c->typed);
    if (bytes < typed || memcmp(word, c->typed, typed) != 0) return;
    printf("%.*s%.*s%s%s\n", (int)c->lead_bytes, c->lead, (int)bytes, word, description ? "\t" : "",
           description ? description : "");
}

static void offer_text(const struct completion *c, const char *word, const char *description)
{
    offer(c, word, strlen(word), description);
}

static void offer_options(const struct completion *c, const struct cli_option *options)
{
    char word[64];
    for (; options && options->name; options++) {
        snprintf(word, sizeof word, "--%s", options->name);
        offer_text(c, word, options->help);
    }
}

static void offer_all_options(const struct completion *c)
{
    offer_options(c, c->command->options);
    offer_options(c, cli_common_options);
}

static void offer_specs(const struct completion *c)
{
    struct data data;
    int count;
    if (data_find(&data) != TAMIS_OK) return;
    char **names = data_spec_names(&data, &count);
    for (int i = 0; i < count; i++) offer_text(c, names[i], "a spec of the tool's own");
    data_spec_names_free(names, count);
}

static bool is_repeated(const struct tamisi_variant *variants, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(variants[i].name, variants[at].name) == 0) return true;
    return false;
}

/* Those of the store that another word names; no candidates from a spec, whose variants take too long to expand. */
static void offer_variants(const struct completion *c)
{
    const tamis_store_options options = {sizeof options, TAMIS_STORE_READ, NULL, NULL};
    const struct tamisi_variant_query all = {.dtype = -1, .head_dim = -1};
    struct tamisi_variant *variants = NULL;
    tamis_store *store = NULL;
    size_t variant_count = 0;
    int at = 0;
    while (at < c->count - 1 && !data_is_store(c->words[at])) at++;
    if (at == c->count - 1 || tamis_store_open(&store, c->words[at], &options) != TAMIS_OK) return;
    if (tamisi_store_find_variants(&variants, &variant_count, store, &all) == TAMIS_OK)
        for (size_t i = 0; i < variant_count; i++)
            if (!is_repeated(variants, i)) offer_text(c, variants[i].name, variants[i].params);
    free(variants);
    tamis_store_free(store);
}

/* ---- kinds of things, as the tables call them in capitals; others have no candidates */

static bool is_kind(const char *kind, size_t bytes, const char *name)
{
    return strlen(name) == bytes && memcmp(kind, name, bytes) == 0;
}

static void offer_files(const char *kind, size_t bytes)
{
    static const struct {
        const char *kind, *request;
    } requests[] = {{"STORE", ":files .tamis"}, {"BUNDLE", ":files .tamis"}, {"OUT", ":files .tamis"},
                    {"SPEC", ":files .yaml"},   {"CONFIG", ":files .json"},  {"FILE", ":files"},
                    {"PATH", ":files"},         {"DIR", ":folders"}};
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        if (is_kind(kind, bytes, requests[i].kind)) puts(requests[i].request);
}

static void offer_kind(const struct completion *c, const char *kind, size_t bytes)
{
    if (!isupper((unsigned char)*kind)) {
        offer(c, kind, bytes, NULL);
    } else if (is_kind(kind, bytes, "ARCH")) {
        for (const char *const *arch = spec_archs; *arch; arch++) offer_text(c, *arch, NULL);
    } else if (is_kind(kind, bytes, "DEVICE")) {
        offer_text(c, "cpu", NULL);
        offer_text(c, "cuda:0", NULL);
    } else if (is_kind(kind, bytes, "VARIANT")) {
        offer_variants(c);
    } else {
        if (is_kind(kind, bytes, "SPEC")) offer_specs(c);
        offer_files(kind, bytes);
    }
}

/* "SPEC|STORE", "auto|always|never", "ARCH,...". */
static void offer_kinds(const struct completion *c, const char *kinds)
{
    size_t bytes;
    for (const char *kind = kinds; (bytes = cli_next_word(&kind)) > 0; kind += bytes) offer_kind(c, kind, bytes);
}

/* ---- the words */

/* An option's value, of which `value` is typed already; in a list, what follows its last comma. */
static void offer_value(struct completion *c, const struct cli_option *option, const char *value)
{
    const char *comma = strstr(option->value, ",...") ? strrchr(value, ',') : NULL;
    c->typed = comma ? comma + 1 : value;
    c->lead_bytes = (size_t)(c->typed - c->lead);
    offer_kinds(c, option->value);
}

/* An option that takes its value from the next word, or NULL. `word` begins with a dash. */
static const struct cli_option *wants_value(const struct cli_command *command, const char *word)
{
    if (word[1] == '-') {
        const struct cli_option *option = cli_find_option(command, word + 2, strlen(word + 2), 0);
        return option && option->value ? option : NULL;
    }
    for (const char *letter = word + 1; *letter; letter++) {
        const struct cli_option *option = cli_find_option(command, NULL, 0, *letter);
        if (!option) return NULL;
        if (option->value) return letter[1] ? NULL : option;
    }
    return NULL;
}

static void read_word(struct completion *c, const char *word)
{
    if (c->pending)
        c->pending = NULL;
    else if (c->options_ended || word[0] != '-' || !word[1])
        c->operands++;
    else if (strcmp(word, "--") == 0)
        c->options_ended = true;
    else
        c->pending = wants_value(c->command, word);
}

static void offer_last(struct completion *c, const char *last)
{
    const char *equals = strchr(last, '=');
    if (c->pending) {
        offer_value(c, c->pending, last);
    } else if (!c->options_ended && strncmp(last, "--", 2) == 0 && equals) {
        const struct cli_option *option = cli_find_option(c->command, last + 2, (size_t)(equals - last - 2), 0);
        if (option && option->value) offer_value(c, option, equals + 1);
    } else if (!c->options_ended && *last == '-') {
        offer_all_options(c);
    } else if (c->command->operand_max < 0 || c->operands < c->command->operand_max) {
        offer_kinds(c, c->command->operands);
    } else if (!c->options_ended && !*last) {
        offer_all_options(c); /* nothing else can come */
    }
}

/* Below a command that has commands: their names. */
static void offer_commands(const struct completion *c, bool top)
{
    for (const struct cli_command *const *child = c->command->children; *child; child++)
        offer_text(c, cli_command_word(*child), (*child)->summary);
    if (top) offer_text(c, "help", "what a command does");
    if (top && *c->typed == '-') offer_text(c, "--version", "the tool's version");
    if (*c->typed == '-') offer_text(c, "--help", "this command's help");
}

int complete(const struct cli_command *tool, int count, char **words)
{
    const char *last = words[count - 1];
    struct completion c = {.command = tool, .words = words, .count = count, .lead = last, .typed = last};
    const bool asked = count > 1 && strcmp(words[0], "help") == 0;
    int at = asked;
    while (c.command->children && at < count - 1) {
        c.command = cli_find_command(c.command->children, words[at++]);
        if (!c.command) return CLI_OK;
    }
    if (c.command->children) {
        offer_commands(&c, c.command == tool && !asked);
    } else if (!asked) {
        while (at < count - 1) read_word(&c, words[at++]);
        offer_last(&c, last);
    }
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}
