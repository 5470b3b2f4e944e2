/*
 * error.h: the thread's last error.
 *
 * Lowest layer of the runtime. A function that fails sets the message where it knows most, once; callers pass the status
 * up untouched with TAMIS_TRY. Public functions call tamisi_error_clear() first.
 */
#ifndef TAMISI_ERROR_H
#define TAMISI_ERROR_H

#include "tamis.h"

#include <stdbool.h>

/* Set this thread's message and return `status`. One line, no capital, no full stop: "what failed: why". */
__attribute__((format(printf, 2, 3))) tamis_status tamisi_fail(tamis_status status, const char *format, ...);

/* Attach a longer text (a compiler's log) to the error just set; copied, cut to what a thread keeps. */
void tamisi_error_detail(const char *detail);

void tamisi_error_clear(void);

/* Return from the current function with the status of `expression` unless it is TAMIS_OK. */
#define TAMIS_TRY(expression)                                                                                              \
    do {                                                                                                                   \
        tamis_status tamisi_try_status = (expression);                                                                     \
        if (tamisi_try_status != TAMIS_OK) return tamisi_try_status;                                                       \
    } while (0)

/* A log callback with its payload; fn may be NULL. */
struct tamisi_log {
    tamis_log_fn fn;
    void *payload;
};

__attribute__((format(printf, 3, 4))) void tamisi_log(const struct tamisi_log *log, tamis_log_level level,
                                                      const char *format, ...);

#endif
