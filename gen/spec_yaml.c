/*
 * spec_yaml.c: YAML text to libyaml's document, in two passes. The first walks events and keeps nothing, so that a text
 * that nests or repeats without bound is refused before memory is spent on it; the second, libyaml's loader, builds the
 * nodes.
 */
#define _GNU_SOURCE
#include "spec_yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files */

static tamis_status fail_size(const char *name)
{
    return tamisi_fail(TAMIS_EINVAL, "%s:1:1: the file is larger than %d KiB, a spec of a few would be right", name,
                       SPEC_YAML_MAX_BYTES / 1024);
}

static tamis_status read_all(struct tamisi_buf *out, int file, const char *path)
{
    char block[16384];
    for (;;) {
        const ssize_t bytes = read(file, block, sizeof block);
        if (bytes < 0 && errno == EINTR) continue;
        if (bytes < 0) return tamisi_fail(TAMIS_EIO, "%s: cannot read: %s", path, strerror(errno));
        if (bytes == 0) break;
        tamisi_buf_append(out, block, (size_t)bytes);
        if (out->size > SPEC_YAML_MAX_BYTES)
            return fail_size(path);
    }
    tamisi_buf_puts(out, "");
    return out->failed ? tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", path) : TAMIS_OK;
}

tamis_status spec_yaml_load(struct tamisi_buf *out, const char *path)
{
    struct stat info;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would hold us up */
    if (file < 0)
        return tamisi_fail(errno == ENOENT || errno == ENOTDIR ? TAMIS_ENOTFOUND : TAMIS_EIO, "%s: %s", path,
                           strerror(errno));
    tamis_status status;
    if (fstat(file, &info) == 0 && !S_ISREG(info.st_mode))
        status = tamisi_fail(TAMIS_EIO, "%s: is no regular file", path);
    else
        status = read_all(out, file, path);
    close(file);
    return status;
}

/* ---- messages */

static tamis_status fail_at(const char *name, size_t line, size_t column, const char *format, va_list arguments)
{
    char text[640];
    vsnprintf(text, sizeof text, format, arguments);
    return tamisi_fail(TAMIS_EINVAL, "%s:%zu:%zu: %s", name, line + 1, column + 1, text);
}

__attribute__((format(printf, 3, 4))) static tamis_status fail_mark(const char *name, yaml_mark_t mark,
                                                                    const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const tamis_status status = fail_at(name, mark.line, mark.column, format, arguments);
    va_end(arguments);
    return status;
}

tamis_status spec_yaml_fail(const struct spec_yaml *yaml, const yaml_node_t *at, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const tamis_status status = fail_at(yaml->name, at->start_mark.line, at->start_mark.column, format, arguments);
    va_end(arguments);
    return status;
}

void spec_yaml_show(char out[SPEC_YAML_SHOWN], const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.length == 0) {
        snprintf(out, SPEC_YAML_SHOWN, "%s",
                 node->type == YAML_MAPPING_NODE ? "a mapping" : node->type == YAML_SEQUENCE_NODE ? "a list" : "empty");
        return;
    }
    const size_t length = node->data.scalar.length, shown = length < 40 ? length : 40;
    size_t used = 0;
    out[used++] = '"';
    for (size_t i = 0; i < shown; i++) {
        const unsigned char c = node->data.scalar.value[i];
        out[used++] = c < ' ' || c > '~' ? '?' : (char)c;
    }
    snprintf(out + used, SPEC_YAML_SHOWN - used, "%s\"", shown < length ? "..." : "");
}

bool spec_yaml_is_plain(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* ---- parsing */

/* Where a byte stands, from 0; columns in bytes, which is what there is where text is no UTF-8. */
static yaml_mark_t mark_of_byte(const char *text, size_t bytes, size_t at)
{
    yaml_mark_t mark = {at, 0, 0};
    for (size_t i = 0; i < at && i < bytes; i++) {
        mark.column++;
        if (text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        }
    }
    return mark;
}

/* The byte that a mark, which counts characters, stands at; 0 behind the end. */
static char byte_at_mark(const char *text, size_t bytes, yaml_mark_t mark)
{
    size_t characters = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (((unsigned char)text[i] & 0xc0) == 0x80) continue; /* inside a character */
        if (characters++ == mark.index) return text[i];
    }
    return '\0';
}

static tamis_status fail_parser(const char *name, const yaml_parser_t *parser, const char *text, size_t bytes)
{
    const char *problem = parser->problem ? parser->problem : "it cannot be read";
    if (parser->error == YAML_MEMORY_ERROR || parser->error == YAML_NO_ERROR)
        return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", name);
    if (parser->error == YAML_READER_ERROR)
        return fail_mark(name, mark_of_byte(text, bytes, parser->problem_offset),
                         "not plain text (%s), UTF-8 without control characters would be right", problem);
    if (byte_at_mark(text, bytes, parser->problem_mark) == '\t')
        return fail_mark(name, parser->problem_mark, "a tab, spaces would be right");
    return fail_mark(name, parser->problem_mark,
                     "not YAML (%s%s%s), closed quotes and brackets and even indentation would be right",
                     parser->context ? parser->context : "", parser->context ? ": " : "", problem);
}

/* What one event adds to the counts, and whether a spec may hold it. */
struct scan {
    const char *name;
    int depth, nodes, documents;
};

static tamis_status check_properties(const char *name, yaml_mark_t mark, const yaml_char_t *anchor,
                                     const yaml_char_t *tag)
{
    if (anchor) return fail_mark(name, mark, "an anchor (&), the values themselves, written out, would be right");
    if (tag) return fail_mark(name, mark, "a tag (!), a value without one would be right");
    return TAMIS_OK;
}

static tamis_status check_event(struct scan *scan, const yaml_event_t *event)
{
    const yaml_mark_t mark = event->start_mark;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++scan->documents > 1) return fail_mark(scan->name, mark, "a second document, one a file would be right");
        return TAMIS_OK;
    case YAML_ALIAS_EVENT: return fail_mark(scan->name, mark, "an alias (*), the value itself would be right");
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: scan->depth--; return TAMIS_OK;
    case YAML_SCALAR_EVENT:
        TAMIS_TRY(check_properties(scan->name, mark, event->data.scalar.anchor, event->data.scalar.tag));
        break;
    case YAML_SEQUENCE_START_EVENT:
        TAMIS_TRY(check_properties(scan->name, mark, event->data.sequence_start.anchor,
                                   event->data.sequence_start.tag));
        scan->depth++;
        break;
    case YAML_MAPPING_START_EVENT:
        TAMIS_TRY(check_properties(scan->name, mark, event->data.mapping_start.anchor,
                                   event->data.mapping_start.tag));
        scan->depth++;
        break;
    default: return TAMIS_OK;
    }
    if (scan->depth > SPEC_YAML_MAX_DEPTH)
        return fail_mark(scan->name, mark, "nested deeper than %d, the few levels of a spec would be right",
                         SPEC_YAML_MAX_DEPTH);
    if (++scan->nodes > SPEC_YAML_MAX_NODES)
        return fail_mark(scan->name, mark, "more than %d values, fewer would be right", SPEC_YAML_MAX_NODES);
    return TAMIS_OK;
}

static tamis_status open_parser(yaml_parser_t *parser, const char *name, const char *text, size_t bytes)
{
    if (!yaml_parser_initialize(parser)) return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", name);
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING); /* else two bytes could make it UTF-16 */
    yaml_parser_set_input_string(parser, (const unsigned char *)text, bytes);
    return TAMIS_OK;
}

static tamis_status scan_events(const char *name, const char *text, size_t bytes)
{
    yaml_parser_t parser;
    struct scan scan = {name, 0, 0, 0};
    tamis_status status = open_parser(&parser, name, text, bytes);
    if (status != TAMIS_OK) return status;
    for (bool done = false; !done && status == TAMIS_OK;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            status = fail_parser(name, &parser, text, bytes);
            break;
        }
        status = check_event(&scan, &event);
        done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (status == TAMIS_OK && scan.documents == 0)
        return tamisi_fail(TAMIS_EINVAL, "%s:1:1: the file is empty, a mapping with keys would be right", name);
    return status;
}

tamis_status spec_yaml_parse(struct spec_yaml *out, const char *name, const char *text, size_t bytes)
{
    yaml_parser_t parser;
    out->name = name;
    if (bytes > SPEC_YAML_MAX_BYTES)
        return fail_size(name);
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
        text += 3;
        bytes -= 3;
    }
    TAMIS_TRY(scan_events(name, text, bytes));
    TAMIS_TRY(open_parser(&parser, name, text, bytes));
    const bool loaded = yaml_parser_load(&parser, &out->document) != 0;
    yaml_parser_delete(&parser);
    return loaded ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", name); /* the text is sound: just scanned */
}

void spec_yaml_close(struct spec_yaml *yaml) { yaml_document_delete(&yaml->document); }

/* libyaml's accessors change nothing, but their types say that they might. */
const yaml_node_t *spec_yaml_node(const struct spec_yaml *yaml, int id)
{
    return yaml->document.nodes.start + id - 1;
}

const yaml_node_t *spec_yaml_root(const struct spec_yaml *yaml) { return spec_yaml_node(yaml, 1); }
