/*
 * template_emit.h: the output of an expansion: lines with their origin, and included files. Above template_text.h, below
 * template.c. Knows no Lua.
 */
#ifndef TEMPLATE_EMIT_H
#define TEMPLATE_EMIT_H

#include "buf.h"
#include "tamis.h"
#include "template_text.h"

#include <stdbool.h>

#define TEMPLATE_MAX_INCLUDES 32
#define TEMPLATE_MAX_OUTPUT_BYTES (8 << 20)

struct template_include {
    char name[64];
    struct tamisi_buf data;
};

struct template_emitter {
    const char *templates_dir; /* headers are looked for in its include/, */
    const char *abi_dir;       /* then here */
    struct tamisi_buf text;
    struct tamisi_buf lined;
    const char *file; /* where the next line comes from if nothing jumps */
    int line;
    bool gap; /* a blank line is due before the next one */
    struct template_include includes[TEMPLATE_MAX_INCLUDES];
    int include_count;
};

/* Empty, with a blank line due: the header of the output stands before it. */
void template_emitter_init(struct template_emitter *emitter, const char *templates_dir, const char *abi_dir);
void template_emitter_free(struct template_emitter *emitter);

/* An #include of whatever form: the line must then go to template_emit_include. */
bool template_is_include(const struct template_line *line);

/* All three: TAMIS_EINVAL with "file:line: ...", TAMIS_EIO, TAMIS_ENOMEM. `file` must outlive the emitter. */
tamis_status template_emit_line(struct template_emitter *emitter, const char *file, int number,
                                const struct template_line *line);
tamis_status template_emit_include(struct template_emitter *emitter, const char *file, int number,
                                   const struct template_line *line);

#endif
