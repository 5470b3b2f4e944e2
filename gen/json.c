/*
 * json.c: writing JSON. Text is taken as UTF-8; bytes that are none become U+FFFD, so that every line can be read back.
 * Lowest layer of the tool.
 */
#include "json.h"

#include <math.h>
#include <string.h>

/* Length of the UTF-8 sequence at `text`, which ends in a zero; 0 if there is no valid one. */
static int sequence_bytes(const unsigned char *text)
{
    static const struct {
        unsigned char first, last, second_first, second_last;
        int bytes;
    } forms[] = {{0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
                 {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
                 {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (text[0] < forms[i].first || text[0] > forms[i].last) continue;
        if (forms[i].bytes > 1 && (text[1] < forms[i].second_first || text[1] > forms[i].second_last)) return 0;
        for (int at = 2; at < forms[i].bytes; at++)
            if (text[at] < 0x80 || text[at] > 0xbf) return 0;
        return forms[i].bytes;
    }
    return 0;
}

static void quote(struct tamisi_buf *out, const char *text)
{
    tamisi_buf_puts(out, "\"");
    while (*text) {
        const unsigned char byte = (unsigned char)*text;
        const int bytes = sequence_bytes((const unsigned char *)text);
        if (byte == '"' || byte == '\\')
            tamisi_buf_printf(out, "\\%c", byte);
        else if (byte == '\n')
            tamisi_buf_puts(out, "\\n");
        else if (byte < 0x20 || byte == 0x7f)
            tamisi_buf_printf(out, "\\u%04x", byte);
        else if (bytes == 0)
            tamisi_buf_puts(out, "\\ufffd");
        else
            tamisi_buf_append(out, text, (size_t)bytes);
        text += bytes ? bytes : 1;
    }
    tamisi_buf_puts(out, "\"");
}

/* The comma before a member, and its key. */
static void begin(struct json *json, const char *key)
{
    if (json->comma) tamisi_buf_puts(json->out, ",");
    json->comma = true;
    if (!key) return;
    quote(json->out, key);
    tamisi_buf_puts(json->out, ":");
}

void json_open(struct json *json, struct tamisi_buf *out)
{
    json->out = out;
    json->comma = false;
    tamisi_buf_puts(out, "{");
}

void json_close(struct json *json)
{
    tamisi_buf_puts(json->out, "}\n");
    json->comma = false;
}

void json_string(struct json *json, const char *key, const char *text)
{
    begin(json, key);
    if (text)
        quote(json->out, text);
    else
        tamisi_buf_puts(json->out, "null");
}

void json_int(struct json *json, const char *key, long long value)
{
    begin(json, key);
    tamisi_buf_printf(json->out, "%lld", value);
}

void json_real(struct json *json, const char *key, double value)
{
    begin(json, key);
    if (isfinite(value))
        tamisi_buf_printf(json->out, "%.9g", value);
    else
        tamisi_buf_puts(json->out, "null");
}

void json_bool(struct json *json, const char *key, bool value)
{
    begin(json, key);
    tamisi_buf_puts(json->out, value ? "true" : "false");
}

void json_object(struct json *json, const char *key)
{
    begin(json, key);
    tamisi_buf_puts(json->out, "{");
    json->comma = false;
}

void json_object_end(struct json *json)
{
    tamisi_buf_puts(json->out, "}");
    json->comma = true;
}

void json_array(struct json *json, const char *key)
{
    begin(json, key);
    tamisi_buf_puts(json->out, "[");
    json->comma = false;
}

void json_array_end(struct json *json)
{
    tamisi_buf_puts(json->out, "]");
    json->comma = true;
}
