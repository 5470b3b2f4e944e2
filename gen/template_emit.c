/*
 * template_emit.c: writes the two texts of an expansion, the readable one and the one with #line, and puts included files
 * into them, once each and without their guards. Blank lines set an included file off from what stands around it.
 */
#include "template_emit.h"

#include "error.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

void template_emitter_init(struct template_emitter *emitter, const char *templates_dir, const char *abi_dir)
{
    *emitter = (struct template_emitter){.templates_dir = templates_dir, .abi_dir = abi_dir, .gap = true};
}

void template_emitter_free(struct template_emitter *emitter)
{
    tamisi_buf_free(&emitter->text);
    tamisi_buf_free(&emitter->lined);
    for (int i = 0; i < emitter->include_count; i++) tamisi_buf_free(&emitter->includes[i].data);
    emitter->include_count = 0;
}

static bool is_blank_line(const struct template_line *line)
{
    for (size_t i = 0; i < line->bytes; i++)
        if (!isspace((unsigned char)line->text[i])) return false;
    return true;
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && isspace((unsigned char)*at)) at++;
    return at;
}

/* Behind the directive `name` if that is what [at, end) holds, else NULL. */
static const char *behind_directive(const char *at, const char *end, const char *name)
{
    const size_t bytes = strlen(name);
    at = skip_blanks(at, end);
    if (end - at >= 2 && at[0] == '%' && at[1] == ':')
        at++; /* another spelling of # */
    else if (at == end || *at != '#')
        return NULL;
    at = skip_blanks(at + 1, end);
    if ((size_t)(end - at) < bytes || memcmp(at, name, bytes) != 0) return NULL;
    at += bytes;
    return at < end && (isalnum((unsigned char)*at) || *at == '_') ? NULL : at;
}

/* The first character of a line that is neither blank nor comment, or NULL; `comment` carries an open one on. */
static const char *find_code(const struct template_line *line, bool *comment)
{
    const char *code = NULL, *end = line->text + line->bytes;
    char quote = '\0';
    for (const char *at = line->text; at < end; at++) {
        const char next = at + 1 < end ? at[1] : '\0';
        if (*comment) {
            if (*at != '*' || next != '/') continue;
            *comment = false;
            at++;
        } else if (quote) {
            if (*at == '\\') at++;
            else if (*at == quote) quote = '\0';
        } else if (*at == '/' && next == '/') {
            break;
        } else if (*at == '/' && next == '*') {
            *comment = true;
            at++;
        } else if (!isspace((unsigned char)*at)) {
            if (!code) code = at;
            if (*at == '"' || *at == '\'') quote = *at;
        }
    }
    return code;
}

bool template_is_include(const struct template_line *line)
{
    bool comment = false;
    const char *code = find_code(line, &comment), *end = line->text + line->bytes;
    return code && (behind_directive(code, end, "include") || behind_directive(code, end, "include_next"));
}

tamis_status template_emit_line(struct template_emitter *emitter, const char *file, int number,
                                const struct template_line *line)
{
    if (emitter->lined.size + line->bytes > TEMPLATE_MAX_OUTPUT_BYTES)
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: the output is larger than %d MB", file, number,
                           TEMPLATE_MAX_OUTPUT_BYTES >> 20);
    if (emitter->gap && is_blank_line(line)) return TAMIS_OK;
    if (emitter->gap) {
        tamisi_buf_puts(&emitter->text, "\n");
        tamisi_buf_puts(&emitter->lined, "\n");
        emitter->gap = false;
        emitter->line++;
    }
    if (emitter->file != file || emitter->line != number)
        tamisi_buf_printf(&emitter->lined, "#line %d \"%s\"\n", number, file);
    tamisi_buf_append(&emitter->text, line->text, line->bytes);
    tamisi_buf_puts(&emitter->text, "\n");
    tamisi_buf_append(&emitter->lined, line->text, line->bytes);
    tamisi_buf_puts(&emitter->lined, "\n");
    emitter->file = file;
    emitter->line = number + 1;
    return TAMIS_OK;
}

/* ---- included files */

/* The word at `at`: its length, 0 if it is none or if more than blanks and comments follow it. */
static size_t only_word(const char *at, const char *end)
{
    size_t bytes = 0;
    while (at + bytes < end && (isalnum((unsigned char)at[bytes]) || at[bytes] == '_')) bytes++;
    const struct template_line rest = {at + bytes, (size_t)(end - at) - bytes};
    bool comment = false;
    return find_code(&rest, &comment) ? 0 : bytes;
}

/* The lines of an include guard, numbered from 1; 0 where there is none. */
struct guard {
    int ifndef, define, endif;
};

static struct guard find_guard(const char *text, size_t bytes)
{
    const struct guard none = {0, 0, 0};
    struct guard guard = none;
    struct template_line line;
    const char *name = NULL;
    size_t name_bytes = 0;
    int number = 0, depth = 0;
    bool comment = false;
    for (const char *at = text, *end = text + bytes; template_next_line(&line, &at, end);) {
        number++;
        const char *line_end = line.text + line.bytes, *code = find_code(&line, &comment);
        if (!code) continue;
        if (guard.endif) return none; /* something stands behind it */
        const char *behind;
        if (!guard.ifndef) {
            behind = behind_directive(code, line_end, "ifndef");
            if (!behind) return none;
            name = skip_blanks(behind, line_end);
            name_bytes = only_word(name, line_end);
            guard.ifndef = number;
            depth = 1;
        } else if (!guard.define) {
            behind = behind_directive(code, line_end, "define");
            const char *defined = behind ? skip_blanks(behind, line_end) : NULL;
            if (!behind || name_bytes == 0 || only_word(defined, line_end) != name_bytes ||
                memcmp(defined, name, name_bytes) != 0)
                return none;
            guard.define = number;
        } else if (behind_directive(code, line_end, "if") || behind_directive(code, line_end, "ifdef") ||
                   behind_directive(code, line_end, "ifndef")) {
            depth++;
        } else if (behind_directive(code, line_end, "endif") && --depth == 0) {
            guard.endif = number;
        }
    }
    return guard.endif ? guard : none;
}

static tamis_status emit_included_file(struct template_emitter *emitter, const struct template_include *include)
{
    const char *text = include->data.data ? include->data.data : "";
    const struct guard guard = find_guard(text, include->data.size);
    struct template_line line;
    int number = 0;
    bool comment = false;
    emitter->gap = true;
    for (const char *at = text, *end = text + include->data.size; template_next_line(&line, &at, end);) {
        number++;
        const bool in_comment = comment;
        const char *code = find_code(&line, &comment), *line_end = line.text + line.bytes;
        const char *pragma = code ? behind_directive(code, line_end, "pragma") : NULL;
        if (number == guard.ifndef || number == guard.define || number == guard.endif) continue;
        if (pragma && only_word(skip_blanks(pragma, line_end), line_end) == 4 &&
            memcmp(skip_blanks(pragma, line_end), "once", 4) == 0)
            continue;
        if (is_blank_line(&line))
            emitter->gap = true; /* so that runs of blank lines become one */
        else if (!in_comment && template_is_include(&line))
            TAMIS_TRY(template_emit_include(emitter, include->name, number, &line));
        else
            TAMIS_TRY(template_emit_line(emitter, include->name, number, &line));
    }
    emitter->gap = true;
    return TAMIS_OK;
}

static bool is_name_character(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '-';
}

/* The quoted name of an #include line, if that is all it holds and names no path. */
static tamis_status read_include_name(char out[64], const char *file, int number, const struct template_line *line)
{
    const char *end = line->text + line->bytes, *at = behind_directive(line->text, end, "include");
    at = at ? skip_blanks(at, end) : end;
    if (at < end && *at == '<')
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: #include <...>: generated code is self-contained, use \"name\"", file,
                           number);
    size_t bytes = 0;
    if (at < end && *at == '"')
        for (at++; at + bytes < end && is_name_character(at[bytes]);) bytes++;
    if (bytes == 0 || bytes >= 64 || *at == '.' || at + bytes == end || at[bytes] != '"')
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: #include wants a quoted file name of letters, digits, _ . and -, no path",
                           file, number);
    const struct template_line rest = {at + bytes + 1, (size_t)(end - at) - bytes - 1};
    bool comment = false;
    if (find_code(&rest, &comment) || comment)
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: #include \"%.*s\": something follows the name", file, number,
                           (int)bytes, at);
    memcpy(out, at, bytes);
    out[bytes] = '\0';
    return TAMIS_OK;
}

/* Read a header from the first folder that has it. */
static tamis_status read_include(struct template_emitter *emitter, struct template_include *include, const char *file,
                                 int number)
{
    const char *const folders[][2] = {{emitter->templates_dir, "/include"}, {emitter->abi_dir, ""}};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        struct tamisi_buf path = TAMISI_BUF_INIT;
        tamisi_buf_printf(&path, "%s%s/%s", folders[i][0], folders[i][1], include->name);
        const tamis_status status = path.failed ? tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", include->name)
                                                : template_read_file(&include->data, path.data, include->name);
        tamisi_buf_free(&path);
        if (status != TAMIS_ENOTFOUND) return status;
    }
    return tamisi_fail(TAMIS_EINVAL, "%s:%d: #include \"%s\": neither include/ nor the runtime's folder has it", file,
                       number, include->name);
}

tamis_status template_emit_include(struct template_emitter *emitter, const char *file, int number,
                                   const struct template_line *line)
{
    char name[64];
    TAMIS_TRY(read_include_name(name, file, number, line));
    for (int i = 0; i < emitter->include_count; i++)
        if (strcmp(emitter->includes[i].name, name) == 0) return TAMIS_OK;
    if (emitter->include_count == TEMPLATE_MAX_INCLUDES)
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: more than %d files are included", file, number, TEMPLATE_MAX_INCLUDES);

    struct template_include *include = &emitter->includes[emitter->include_count++];
    *include = (struct template_include){.data = TAMISI_BUF_INIT};
    memcpy(include->name, name, sizeof name);
    TAMIS_TRY(read_include(emitter, include, file, number));
    return emit_included_file(emitter, include);
}
