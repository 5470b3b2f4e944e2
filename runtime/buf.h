/*
 * buf.h: a growable byte string. Lowest layer.
 *
 * Invariant: `data` is NULL, or holds `size` bytes and a terminating zero. After a failed allocation `failed` is set,
 * further appends do nothing, and the owner checks once at the end.
 */
#ifndef TAMISI_BUF_H
#define TAMISI_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct tamisi_buf {
    char *data;
    size_t size;     /* bytes in use, the terminating zero not counted */
    size_t capacity; /* bytes allocated */
    bool failed;     /* an allocation failed; content is incomplete */
};

#define TAMISI_BUF_INIT {NULL, 0, 0, false}

void tamisi_buf_free(struct tamisi_buf *buf);                                   /* and reset to TAMISI_BUF_INIT */
void tamisi_buf_clear(struct tamisi_buf *buf);                                  /* size 0; memory is kept */
void tamisi_buf_append(struct tamisi_buf *buf, const void *data, size_t bytes); /* data may hold zeros */
void tamisi_buf_puts(struct tamisi_buf *buf, const char *text);
__attribute__((format(printf, 2, 3))) void tamisi_buf_printf(struct tamisi_buf *buf, const char *format, ...);
/* The caller frees it; "" is returned as an allocated empty string; NULL if failed. */
char *tamisi_buf_take(struct tamisi_buf *buf);

#endif
