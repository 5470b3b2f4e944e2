/*
 * error.c: the thread's last error, its detail, and log lines. Thread-local and of fixed size, so that reporting an
 * error, out of memory included, allocates nothing.
 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_BYTES 1024
#define DETAIL_BYTES 16384

static _Thread_local struct {
    char message[MESSAGE_BYTES];
    char detail[DETAIL_BYTES];
} last;

/* A message is one line whatever was put into it, a file name with a newline for one. */
static void make_one_line(char *text)
{
    for (; *text; text++)
        if (*text == '\n' || *text == '\r') *text = ' ';
}

tamis_status tamisi_fail(tamis_status status, const char *format, ...)
{
    char text[MESSAGE_BYTES]; /* an argument may be the last message itself */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_one_line(text);
    memcpy(last.message, text, sizeof text);
    last.detail[0] = '\0';
    return status;
}

void tamisi_error_detail(const char *detail)
{
    const size_t bytes = strlen(detail), kept = bytes < DETAIL_BYTES ? bytes : DETAIL_BYTES - 1;
    memmove(last.detail, detail, kept);
    last.detail[kept] = '\0';
}

void tamisi_error_clear(void)
{
    last.message[0] = '\0';
    last.detail[0] = '\0';
}

void tamisi_log(const struct tamisi_log *log, tamis_log_level level, const char *format, ...)
{
    if (!log || !log->fn) return;
    char text[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_one_line(text);
    log->fn(log->payload, level, text);
}

const char *tamis_last_error(void) { return last.message; }

const char *tamis_last_error_detail(void) { return last.detail; }

const char *tamis_status_name(tamis_status status)
{
    switch (status) {
    case TAMIS_OK: return "TAMIS_OK";
    case TAMIS_EINVAL: return "TAMIS_EINVAL";
    case TAMIS_ENOMEM: return "TAMIS_ENOMEM";
    case TAMIS_ENOTFOUND: return "TAMIS_ENOTFOUND";
    case TAMIS_EUNSUPPORTED: return "TAMIS_EUNSUPPORTED";
    case TAMIS_EIO: return "TAMIS_EIO";
    case TAMIS_ECORRUPT: return "TAMIS_ECORRUPT";
    case TAMIS_EVERSION: return "TAMIS_EVERSION";
    case TAMIS_ENODEVICE: return "TAMIS_ENODEVICE";
    case TAMIS_ECUDA: return "TAMIS_ECUDA";
    case TAMIS_ECOMPILE: return "TAMIS_ECOMPILE";
    case TAMIS_EWORKSPACE: return "TAMIS_EWORKSPACE";
    }
    return "unknown status";
}
