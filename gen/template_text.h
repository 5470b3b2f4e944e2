/*
 * template_text.h: the template language as text: which lines are Lua, where ${expressions} begin and end, and the Lua chunk
 * that a template stands for. Pure text; runs nothing. Below template_emit.h.
 */
#ifndef TEMPLATE_TEXT_H
#define TEMPLATE_TEXT_H

#include "buf.h"
#include "tamis.h"

#include <stdbool.h>
#include <stddef.h>

#define TEMPLATE_MAX_FILE_BYTES (1 << 20)

struct template_line {
    const char *text; /* without the newline */
    size_t bytes;
};

/* The next line of [*at, end); false at the end. A last line without a newline counts. */
bool template_next_line(struct template_line *out, const char **at, const char *end);

/*
 * A line split at its interpolations: each call gives the next stretch of plain text or the next expression,
 * without its ${ and }. Braces, strings, comments and long brackets inside an expression are Lua's.
 */
struct template_piece {
    const char *text;
    size_t bytes;
    bool is_expression;
    bool is_unclosed; /* an expression whose } is missing */
};
bool template_next_piece(struct template_piece *out, const char **at, const char *end);

/* A line of Lua: its first non-blank is '$', followed by a blank or nothing. Then `code` is what follows. */
bool template_is_lua(const struct template_line *line, struct template_line *code);

/*
 * Append the Lua chunk of a template to `chunk`, line by line: Lua lines as they are, each other line as a call of the
 * chunk's argument with the line's number and its expressions. So Lua's own positions are the template's.
 * TAMIS_EINVAL with "file:line: ..." for what is not closed on its line.
 */
tamis_status template_translate(struct tamisi_buf *chunk, const char *file, const char *text, size_t bytes);

/* Read a regular text file. TAMIS_ENOTFOUND, TAMIS_EIO, TAMIS_EINVAL, TAMIS_ENOMEM; messages call it `name`. */
tamis_status template_read_file(struct tamisi_buf *out, const char *path, const char *name);

#endif
