/* json.h: writing JSON, one object a line, correctly escaped. No reading. */
#ifndef JSON_H
#define JSON_H

#include "buf.h"

#include <stdbool.h>

struct json {
    struct tamisi_buf *out;
    bool comma; /* the next member needs one */
};

void json_open(struct json *json, struct tamisi_buf *out);             /* { */
void json_close(struct json *json);                                    /* } and a newline */
void json_string(struct json *json, const char *key, const char *text); /* NULL text: null */
void json_int(struct json *json, const char *key, long long value);
void json_real(struct json *json, const char *key, double value); /* NaN and infinities: null */
void json_bool(struct json *json, const char *key, bool value);
void json_object(struct json *json, const char *key); /* "key":{ ; key NULL inside arrays */
void json_object_end(struct json *json);
void json_array(struct json *json, const char *key); /* "key":[ */
void json_array_end(struct json *json);

#endif
