/*
 * pattern_options.c: see pattern_options.h. Kinds and keys are those of tamis_pattern, so that what this takes is what a
 * plan takes; whether values are within bounds is the plan's to say.
 */
#define _GNU_SOURCE
#include "pattern_options.h"

#include "plan.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY(kind, group, member, type) {kind, #member, type, offsetof(tamis_pattern, group.member)}
enum value_type { INT32, INT64, REAL };

static const struct pattern_key {
    tamis_pattern_kind kind;
    const char *name;
    enum value_type type;
    size_t offset;
} keys[] = {
    KEY(TAMIS_PATTERN_SLIDING, sliding, sink_tokens, INT64),
    KEY(TAMIS_PATTERN_SLIDING, sliding, window_tokens, INT64),
    KEY(TAMIS_PATTERN_VERTICAL_SLASH, vertical_slash, last_queries, INT32),
    KEY(TAMIS_PATTERN_VERTICAL_SLASH, vertical_slash, vertical_lines, INT64),
    KEY(TAMIS_PATTERN_VERTICAL_SLASH, vertical_slash, slash_lines, INT64),
    KEY(TAMIS_PATTERN_VERTICAL_SLASH, vertical_slash, coverage, REAL),
    KEY(TAMIS_PATTERN_FLEXPREFILL, flexprefill, gamma, REAL),
    KEY(TAMIS_PATTERN_FLEXPREFILL, flexprefill, tau, REAL),
    KEY(TAMIS_PATTERN_FLEXPREFILL, flexprefill, min_tokens, INT64),
    KEY(TAMIS_PATTERN_FLEXPREFILL, flexprefill, max_tokens, INT64),
    KEY(TAMIS_PATTERN_XATTENTION, xattention, stride, INT32),
    KEY(TAMIS_PATTERN_XATTENTION, xattention, threshold, REAL),
    KEY(TAMIS_PATTERN_TOPK_BLOCKS, topk_blocks, blocks, INT64),
    KEY(TAMIS_PATTERN_TOPK_BLOCKS, topk_blocks, ratio, REAL),
};
#define KEY_COUNT (sizeof keys / sizeof *keys)

static bool put_value(tamis_pattern *out, const struct pattern_key *key, const char *text)
{
    char *at = (char *)out + key->offset, *end;
    errno = 0;
    if (key->type == REAL) {
        const double value = strtod(text, &end);
        memcpy(at, &value, sizeof value);
        return *text && !*end && !errno;
    }
    const long long value = strtoll(text, &end, 10);
    const int64_t wide = value;
    const int32_t narrow = (int32_t)value;
    if (!*text || *end || errno) return false;
    if (key->type == INT64)
        memcpy(at, &wide, sizeof wide);
    else
        memcpy(at, &narrow, sizeof narrow);
    return key->type == INT64 || narrow == value;
}

/* "key=value" of the kind. */
static int read_key(struct cli *cli, tamis_pattern *out, const char *word)
{
    const char *equal = strchr(word, '=');
    const size_t length = equal ? (size_t)(equal - word) : strlen(word);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (keys[i].kind != out->kind || strlen(keys[i].name) != length || strncmp(keys[i].name, word, length) != 0) continue;
        if (equal && put_value(out, &keys[i], equal + 1)) return CLI_OK;
        return cli_usage(cli, "--pattern: %s wants %s", keys[i].name, keys[i].type == REAL ? "a number" : "an integer");
    }
    return cli_usage(cli, "--pattern: %s has no \"%.*s\"", tamisi_pattern_name(out->kind), (int)length, word);
}

static int read_keys(struct cli *cli, tamis_pattern *out, const char *text)
{
    while (text) {
        char word[64];
        const size_t bytes = strcspn(text, ",");
        snprintf(word, sizeof word, "%.*s", (int)(bytes < sizeof word ? bytes : sizeof word - 1), text);
        const int code = read_key(cli, out, word);
        if (code != CLI_OK) return code;
        text = text[bytes] ? text + bytes + 1 : NULL;
    }
    return CLI_OK;
}

int pattern_options_read(struct cli *cli, tamis_pattern *out, const char **blocks)
{
    const char *text = cli_value(cli, "pattern");
    *out = (tamis_pattern)TAMIS_PATTERN_INIT;
    *blocks = NULL;
    if (!text) return CLI_OK;
    if (strncmp(text, "blocks=", 7) == 0) {
        out->kind = TAMIS_PATTERN_HOST_BLOCKS;
        out->host_blocks.form = TAMIS_BLOCKS_BITS;
        *blocks = text + 7;
        return CLI_OK;
    }
    const size_t length = strcspn(text, ":");
    for (int kind = TAMIS_PATTERN_SLIDING; tamisi_pattern_name((tamis_pattern_kind)kind); kind++) {
        const char *name = tamisi_pattern_name((tamis_pattern_kind)kind);
        if (strlen(name) != length || strncmp(name, text, length) != 0) continue;
        out->kind = (tamis_pattern_kind)kind;
        return read_keys(cli, out, text[length] ? text + length + 1 : NULL);
    }
    return cli_usage(cli, "--pattern: \"%.*s\" is none: blocks=FILE.npy would be right", (int)length, text);
}
