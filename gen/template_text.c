/*
 * template_text.c: template text to Lua chunk, and the reading of files. Knows Lua's tokens only as far as needed to find
 * where an expression ends.
 */
#define _POSIX_C_SOURCE 200809L

#include "template_text.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the chunk calls its argument. Declared constant, and no name of the language. */
#define EMIT "_emit"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

bool template_next_line(struct template_line *out, const char **at, const char *end)
{
    if (*at == end) return false;
    const char *newline = memchr(*at, '\n', (size_t)(end - *at));
    out->text = *at;
    out->bytes = (size_t)((newline ? newline : end) - *at);
    *at = newline ? newline + 1 : end;
    return true;
}

bool template_is_lua(const struct template_line *line, struct template_line *code)
{
    const char *at = line->text, *end = line->text + line->bytes;
    while (at < end && is_blank(*at)) at++;
    if (at == end || *at != '$' || (at + 1 < end && !is_blank(at[1]))) return false;
    *code = (struct template_line){at + 1, (size_t)(end - at - 1)};
    return true;
}

/* Behind a long bracket that opens at `at` ("[[", "[=["), NULL if it does not close; `at` itself if none opens. */
static const char *skip_long_bracket(const char *at, const char *end)
{
    const char *open = at;
    if (open < end && *open == '[') open++;
    while (open < end && *open == '=') open++;
    if (open == at || open >= end || *open != '[') return at;
    const size_t level = (size_t)(open - at - 1);
    for (const char *close = open + 1; (size_t)(end - close) >= level + 2; close++)
        if (close[0] == ']' && close[level + 1] == ']' && memcmp(close + 1, at + 1, level) == 0) return close + level + 2;
    return NULL;
}

static const char *skip_string(const char *at, const char *end)
{
    const char quote = *at++;
    for (; at < end && *at != quote; at++)
        if (*at == '\\' && at + 1 < end) at++;
    return at < end ? at + 1 : NULL;
}

/* Behind the Lua token at `at` as far as matters here: strings, comments and long brackets whole, else one character. */
static const char *skip_token(const char *at, const char *end)
{
    if (*at == '"' || *at == '\'') return skip_string(at, end);
    const bool comment = *at == '-' && at + 1 < end && at[1] == '-';
    const char *bracket = comment ? at + 2 : at;
    const char *behind = skip_long_bracket(bracket, end);
    if (behind != bracket) return behind;
    return comment ? end : at + 1;
}

bool template_next_piece(struct template_piece *out, const char **at, const char *end)
{
    if (*at == end) return false;
    *out = (struct template_piece){.text = *at};
    const char *stop = *at;
    if (end - stop >= 2 && stop[0] == '$' && stop[1] == '{') {
        out->is_expression = true;
        out->text = stop = *at + 2;
        int depth = 0;
        while (stop && stop < end && (depth > 0 || *stop != '}')) {
            depth += (*stop == '{') - (*stop == '}');
            stop = skip_token(stop, end);
        }
        out->is_unclosed = !stop || stop == end;
        if (out->is_unclosed) stop = end;
        out->bytes = (size_t)(stop - out->text);
        *at = out->is_unclosed ? end : stop + 1;
        return true;
    }
    do stop++;
    while (stop < end && !(stop[0] == '$' && end - stop >= 2 && stop[1] == '{'));
    out->bytes = (size_t)(stop - *at);
    *at = stop;
    return true;
}

/* A string or comment that ran on would swallow text lines without a trace. */
static tamis_status translate_lua(struct tamisi_buf *chunk, const char *file, int number, const struct template_line *code)
{
    for (const char *at = code->text, *end = at + code->bytes; at < end;) {
        at = skip_token(at, end);
        if (!at)
            return tamisi_fail(TAMIS_EINVAL, "%s:%d: a string or long bracket is not closed on its line", file, number);
    }
    tamisi_buf_append(chunk, code->text, code->bytes);
    return TAMIS_OK;
}

/* "do emit(n, (a), (b)) end": as a statement that cannot continue a Lua expression of the line before. */
static tamis_status translate_text(struct tamisi_buf *chunk, const char *file, int number, const struct template_line *line)
{
    tamisi_buf_printf(chunk, "do " EMIT "(%d", number);
    struct template_piece piece;
    for (const char *at = line->text, *end = at + line->bytes; template_next_piece(&piece, &at, end);) {
        if (!piece.is_expression) continue;
        if (piece.is_unclosed) return tamisi_fail(TAMIS_EINVAL, "%s:%d: ${ without its }", file, number);
        tamisi_buf_puts(chunk, ", (");
        tamisi_buf_append(chunk, piece.text, piece.bytes);
        tamisi_buf_puts(chunk, ")");
    }
    tamisi_buf_puts(chunk, ") end");
    return TAMIS_OK;
}

tamis_status template_translate(struct tamisi_buf *chunk, const char *file, const char *text, size_t bytes)
{
    int number = 0;
    struct template_line line, code;
    tamisi_buf_puts(chunk, "local " EMIT " <const> = ...; ");
    for (const char *at = text, *end = text + bytes; template_next_line(&line, &at, end);) {
        number++;
        if (template_is_lua(&line, &code))
            TAMIS_TRY(translate_lua(chunk, file, number, &code));
        else
            TAMIS_TRY(translate_text(chunk, file, number, &line));
        tamisi_buf_puts(chunk, "\n");
    }
    return chunk->failed ? tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", file) : TAMIS_OK;
}

static tamis_status read_descriptor(struct tamisi_buf *out, int descriptor, const char *name)
{
    struct stat facts;
    if (fstat(descriptor, &facts) != 0) return tamisi_fail(TAMIS_EIO, "%s: %s", name, strerror(errno));
    if (!S_ISREG(facts.st_mode)) return tamisi_fail(TAMIS_EINVAL, "%s: not a regular file", name);

    char block[8192];
    ssize_t got;
    while ((got = read(descriptor, block, sizeof block)) != 0) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return tamisi_fail(TAMIS_EIO, "%s: %s", name, strerror(errno));
        if (memchr(block, '\0', (size_t)got))
            return tamisi_fail(TAMIS_EINVAL, "%s: holds a zero byte, so it is no text", name);
        tamisi_buf_append(out, block, (size_t)got);
        if (out->failed) return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", name);
        if (out->size > TEMPLATE_MAX_FILE_BYTES)
            return tamisi_fail(TAMIS_EINVAL, "%s: larger than %d KB", name, TEMPLATE_MAX_FILE_BYTES >> 10);
    }
    return TAMIS_OK;
}

tamis_status template_read_file(struct tamisi_buf *out, const char *path, const char *name)
{
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make us wait */
    if (descriptor < 0 && (errno == ENOENT || errno == ENOTDIR))
        return tamisi_fail(TAMIS_ENOTFOUND, "%s: no such file: %s", name, path);
    if (descriptor < 0) return tamisi_fail(TAMIS_EIO, "%s: %s: %s", name, path, strerror(errno));
    const tamis_status status = read_descriptor(out, descriptor, name);
    close(descriptor);
    return status;
}
