/*
 * json_read.c: a reader for the lines that tamis and its benchmark scripts write. It goes through the text once, keeps
 * nothing, and nests no deeper than a fixed bound.
 */
#include "json_read.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 16

static const char *skip_blanks(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n') at++;
    return at;
}

/* Each reader takes the place where its value begins and returns the one behind it; NULL: there is no such value. */

static const char *read_string(const char *at, struct json_text *out)
{
    if (*at++ != '"') return NULL;
    out->begin = at;
    for (; *at != '"'; at++) {
        if (*at == '\\') at++;
        if ((unsigned char)*at < ' ') return NULL; /* the end of the line too */
    }
    out->bytes = (size_t)(at - out->begin);
    return at + 1;
}

static const char *read_digits(const char *at)
{
    if (!isdigit((unsigned char)*at)) return NULL;
    while (isdigit((unsigned char)*at)) at++;
    return at;
}

static const char *read_number(const char *at, struct json_text *out)
{
    out->begin = at;
    if (*at == '-') at++;
    if (*at == '0' && isdigit((unsigned char)at[1])) return NULL;
    at = read_digits(at);
    if (at && *at == '.') at = read_digits(at + 1);
    if (at && (*at == 'e' || *at == 'E')) {
        at++;
        at = read_digits(at + (*at == '+' || *at == '-'));
    }
    if (at) out->bytes = (size_t)(at - out->begin);
    return at;
}

static const char *read_word(const char *at, struct json_text *out)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        out->begin = at;
        out->bytes = strlen(words[i]);
        if (strncmp(at, words[i], out->bytes) == 0) return at + out->bytes;
    }
    return NULL;
}

static const char *read_value(const char *at, struct json_value *out, int depth);

/* An object or array whose content nobody asked for; `at` is behind its bracket. */
static const char *read_nested(const char *at, char close, int depth)
{
    if (depth > MAX_DEPTH) return NULL;
    at = skip_blanks(at);
    if (*at == close) return at + 1;
    for (;; at++) {
        struct json_text key;
        struct json_value value;
        at = skip_blanks(at);
        if (close == '}') {
            at = read_string(at, &key);
            if (at) at = skip_blanks(at);
            if (!at || *at++ != ':') return NULL;
            at = skip_blanks(at);
        }
        at = read_value(at, &value, depth);
        if (!at) return NULL;
        at = skip_blanks(at);
        if (*at == close) return at + 1;
        if (*at != ',') return NULL;
    }
}

static const char *read_value(const char *at, struct json_value *out, int depth)
{
    const char *end;
    if (*at == '{' || *at == '[') {
        out->type = JSON_NESTED;
        end = read_nested(at + 1, *at == '{' ? '}' : ']', depth + 1);
        out->text = (struct json_text){at, end ? (size_t)(end - at) : 0};
        return end;
    }
    out->type = *at == '"' ? JSON_STRING : *at == '-' || isdigit((unsigned char)*at) ? JSON_NUMBER : JSON_WORD;
    return out->type == JSON_STRING   ? read_string(at, &out->text)
           : out->type == JSON_NUMBER ? read_number(at, &out->text)
                                      : read_word(at, &out->text);
}

bool json_read(const char *line, void (*member)(void *payload, struct json_text key, const struct json_value *value),
               void *payload)
{
    const char *at = skip_blanks(line);
    if (*at++ != '{') return false;
    at = skip_blanks(at);
    if (*at == '}') return *skip_blanks(at + 1) == '\0';
    for (;; at++) {
        struct json_text key;
        struct json_value value;
        at = read_string(skip_blanks(at), &key);
        if (at) at = skip_blanks(at);
        if (!at || *at++ != ':') return false;
        at = read_value(skip_blanks(at), &value, 0);
        if (!at) return false;
        member(payload, key, &value);
        at = skip_blanks(at);
        if (*at == '}') return *skip_blanks(at + 1) == '\0';
        if (*at != ',') return false;
    }
}

bool json_text_is(struct json_text text, const char *word)
{
    return strlen(word) == text.bytes && memcmp(text.begin, word, text.bytes) == 0;
}

bool json_value_number(const struct json_value *value, double *out)
{
    if (value->type != JSON_NUMBER) return false;
    const double number = strtod(value->text.begin, NULL); /* what follows a JSON number continues none of C's */
    if (!isfinite(number)) return false;
    *out = number;
    return true;
}
