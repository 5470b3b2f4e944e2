/*
 * buf.c: a growable byte string; see buf.h for its invariant.
 */
#include "buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for `bytes` more and the terminating zero. */
static bool reserve(struct tamisi_buf *buf, size_t bytes)
{
    if (buf->failed) return false;
    if (bytes >= SIZE_MAX / 2 - buf->size) {
        buf->failed = true;
        return false;
    }
    const size_t wanted = buf->size + bytes + 1;
    if (wanted <= buf->capacity) return true;
    size_t capacity = buf->capacity ? buf->capacity : 64;
    while (capacity < wanted) capacity *= 2;
    char *data = realloc(buf->data, capacity);
    if (!data) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

void tamisi_buf_free(struct tamisi_buf *buf)
{
    free(buf->data);
    *buf = (struct tamisi_buf)TAMISI_BUF_INIT;
}

void tamisi_buf_clear(struct tamisi_buf *buf)
{
    buf->size = 0;
    if (buf->data) buf->data[0] = '\0';
}

void tamisi_buf_append(struct tamisi_buf *buf, const void *data, size_t bytes)
{
    if (!reserve(buf, bytes)) return;
    if (bytes > 0) memcpy(buf->data + buf->size, data, bytes);
    buf->size += bytes;
    buf->data[buf->size] = '\0';
}

void tamisi_buf_puts(struct tamisi_buf *buf, const char *text) { tamisi_buf_append(buf, text, strlen(text)); }

void tamisi_buf_printf(struct tamisi_buf *buf, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int bytes = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (bytes < 0) buf->failed = true;
    if (bytes < 0 || !reserve(buf, (size_t)bytes)) return;
    va_start(arguments, format);
    vsnprintf(buf->data + buf->size, (size_t)bytes + 1, format, arguments);
    va_end(arguments);
    buf->size += (size_t)bytes;
}

char *tamisi_buf_take(struct tamisi_buf *buf)
{
    char *data = NULL;
    if (reserve(buf, 0)) {
        data = buf->data;
        data[buf->size] = '\0';
        buf->data = NULL;
    }
    tamisi_buf_free(buf);
    return data;
}
