/*
 * json_read.h: reading one JSON object: its own members, in order. What lies inside arrays and objects is checked for form
 * and passed over; who wants it reads the member's value in turn. Lowest layer of the tool, beside json.h.
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

typedef void json_member(void *payload, struct json_text key, const struct json_value *value);

/* Calls `member` for each member. False: no object, or something but blanks behind it; members before that were given. */
bool json_read(const char *line, json_member *member, void *payload);

/* The same; returns NULL, or the place in `text` where it is no JSON: the zero at its end if it is not whole. */
const char *json_read_text(const char *text, json_member *member, void *payload);

/*
 * The members of an object, or an array's elements with empty keys, of a value that a reader gave. None of any other value.
 */
void json_read_nested(const struct json_value *value, json_member *member, void *payload);

bool json_text_is(struct json_text text, const char *word);
bool json_value_is(const struct json_value *value, const char *word); /* the word, not a string */
bool json_value_is_object(const struct json_value *value);
bool json_value_number(const struct json_value *value, double *out); /* false: none, or not finite */

#endif
