/*
 * json_read.c: a reader for the lines that tamis and its benchmark scripts write, and for small files of others. It goes
 * through the text once, keeps nothing, and nests no deeper than a fixed bound.
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

/* Says where it is wrong: the innermost reader, once; those around it pass the NULL on. */
static const char *stop(const char **wrong, const char *at)
{
    *wrong = at;
    return NULL;
}

/* Each reader takes the place where its value begins and returns the one behind it; NULL: there is no such value. */

static const char *read_string(const char *at, struct json_text *out, const char **wrong)
{
    if (*at != '"') return stop(wrong, at);
    out->begin = ++at;
    for (; *at != '"'; at++) {
        if (*at == '\\') at++;
        if ((unsigned char)*at < ' ') return stop(wrong, at); /* the end of the text too */
    }
    out->bytes = (size_t)(at - out->begin);
    return at + 1;
}

static const char *read_digits(const char *at, const char **wrong)
{
    if (!isdigit((unsigned char)*at)) return stop(wrong, at);
    while (isdigit((unsigned char)*at)) at++;
    return at;
}

static const char *read_number(const char *at, struct json_text *out, const char **wrong)
{
    out->begin = at;
    if (*at == '-') at++;
    if (*at == '0' && isdigit((unsigned char)at[1])) return stop(wrong, at);
    at = read_digits(at, wrong);
    if (at && *at == '.') at = read_digits(at + 1, wrong);
    if (at && (*at == 'e' || *at == 'E')) {
        at++;
        at = read_digits(at + (*at == '+' || *at == '-'), wrong);
    }
    if (at) out->bytes = (size_t)(at - out->begin);
    return at;
}

static const char *read_word(const char *at, struct json_text *out, const char **wrong)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        out->begin = at;
        out->bytes = strlen(words[i]);
        if (strncmp(at, words[i], out->bytes) == 0) return at + out->bytes;
    }
    return stop(wrong, at);
}

static const char *read_value(const char *at, struct json_value *out, int depth, const char **wrong);

/*
 * An object or array; `at` is behind its bracket. Nobody need ask for its content: `member` may be NULL. An array's
 * elements have empty keys.
 */
static const char *read_content(const char *at, char close, int depth, json_member *member, void *payload,
                                const char **wrong)
{
    if (depth > MAX_DEPTH) return stop(wrong, at - 1);
    at = skip_blanks(at);
    if (*at == close) return at + 1;
    for (;; at++) {
        struct json_text key;
        struct json_value value;
        at = skip_blanks(at);
        key = (struct json_text){at, 0};
        if (close == '}') {
            at = read_string(at, &key, wrong);
            if (!at) return NULL;
            at = skip_blanks(at);
            if (*at != ':') return stop(wrong, at);
            at = skip_blanks(at + 1);
        }
        at = read_value(at, &value, depth, wrong);
        if (!at) return NULL;
        if (member) member(payload, key, &value);
        at = skip_blanks(at);
        if (*at == close) return at + 1;
        if (*at != ',') return stop(wrong, at);
    }
}

static char closing(char open) { return open == '{' ? '}' : ']'; }

static const char *read_value(const char *at, struct json_value *out, int depth, const char **wrong)
{
    const char *end;
    if (*at == '{' || *at == '[') {
        out->type = JSON_NESTED;
        end = read_content(at + 1, closing(*at), depth + 1, NULL, NULL, wrong);
        out->text = (struct json_text){at, end ? (size_t)(end - at) : 0};
        return end;
    }
    out->type = *at == '"' ? JSON_STRING : *at == '-' || isdigit((unsigned char)*at) ? JSON_NUMBER : JSON_WORD;
    return out->type == JSON_STRING   ? read_string(at, &out->text, wrong)
           : out->type == JSON_NUMBER ? read_number(at, &out->text, wrong)
                                      : read_word(at, &out->text, wrong);
}

const char *json_read_text(const char *text, json_member *member, void *payload)
{
    const char *wrong = NULL, *at = skip_blanks(text);
    if (*at != '{') return at;
    at = read_content(at + 1, '}', 0, member, payload, &wrong);
    if (!at) return wrong;
    at = skip_blanks(at);
    return *at ? at : NULL;
}

bool json_read(const char *line, json_member *member, void *payload)
{
    return json_read_text(line, member, payload) == NULL;
}

void json_read_nested(const struct json_value *value, json_member *member, void *payload)
{
    const char *wrong = NULL, *at = value->text.begin;
    if (value->type == JSON_NESTED) read_content(at + 1, closing(*at), 0, member, payload, &wrong);
}

bool json_text_is(struct json_text text, const char *word)
{
    return strlen(word) == text.bytes && memcmp(text.begin, word, text.bytes) == 0;
}

bool json_value_is(const struct json_value *value, const char *word)
{
    return value->type == JSON_WORD && json_text_is(value->text, word);
}

bool json_value_is_object(const struct json_value *value)
{
    return value->type == JSON_NESTED && *value->text.begin == '{';
}

bool json_value_number(const struct json_value *value, double *out)
{
    if (value->type != JSON_NUMBER) return false;
    const double number = strtod(value->text.begin, NULL); /* what follows a JSON number continues none of C's */
    if (!isfinite(number)) return false;
    *out = number;
    return true;
}
