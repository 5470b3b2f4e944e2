/*
 * json_read.h: reading one JSON object on a line: its own members, in order. What lies inside arrays and objects is checked
 * for form and passed over. Lowest layer of the tool, beside json.h.
 */
#ifndef JSON_READ_H
#define JSON_READ_H

#include <stdbool.h>
#include <stddef.h>

enum json_type { JSON_STRING, JSON_NUMBER, JSON_WORD, JSON_NESTED }; /* a word: true, false or null */

/* Text in the line: a string's between its quotes, escapes as they are written. */
struct json_text {
    const char *begin;
    size_t bytes;
};

struct json_value {
    enum json_type type;
    struct json_text text;
};

/* Calls `member` for each member. False: no object, or something but blanks behind it; members before that were given. */
bool json_read(const char *line, void (*member)(void *payload, struct json_text key, const struct json_value *value),
               void *payload);

bool json_text_is(struct json_text text, const char *word);
bool json_value_number(const struct json_value *value, double *out); /* false: none, or not finite */

#endif
