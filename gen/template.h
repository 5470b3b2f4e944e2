/*
 * template.h: a CUDA template and one set of parameters to CUDA text. Pure: no files but through the given folder, no time,
 * no environment. Uses lua_host.h for the sandboxed Lua state.
 *
 * The language, two rules:
 *   a line whose first non-blank is '$' followed by a blank (or the end of the line) is Lua;
 *   in any other line ${expression} is replaced by the value of a Lua expression: a string, an integer or a boolean; nil, a
 *   float or a table is an error. All else is copied as it is.
 * A Lua string or long comment must close on its own line, or it would swallow text; a value cannot hold a line break.
 * A line `#include "name.cuh"` outside Lua is replaced by that file of the include folders, once per expansion; included
 * files are plain text, not templates, and may include others. `#pragma once` and include guards are left out, and one
 * blank line sets a file off from what stands around it.
 *
 * What Lua sees: `p`, the read-only parameters (p.head_dim, p.dtype, p.arch, p.cc, p.shared_limit, and the tile parameters;
 * reading an absent one is an error), and
 *   entry{stage=, symbol=, threads=, shared_bytes=, block_m=, block_n=}   declares a kernel and how to launch it: all six
 *     fields, threads a multiple of 32; more than 1024 threads reject the variant;
 *   reject(reason)   this combination cannot be built: the variant is dropped before compiling, with the reason;
 *   use(name)   the table that include/<name>.lua returns, read-only: Lua functions that templates share. Such a file is Lua
 *     alone, sees the same names, and counts towards the same limits.
 */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include "buf.h"
#include "store.h"
#include "tamis.h"

#include <stdbool.h>

struct template_param {
    char name[32];
    long value;
    char text[TAMISI_SYMBOL_SIZE]; /* when not "": a string parameter, and `value` is ignored */
};

struct template_request {
    const char *templates_dir; /* holds <family>.cu.lua and include/ */
    const char *abi_dir;       /* holds kernel_args.h */
    const char *family;        /* which template */
    const struct template_param *params;
    int param_count;
    const char *banner; /* first lines of the output, as a CUDA comment body: the command that makes this file */
};

struct template_output {
    struct tamisi_buf text;  /* readable CUDA, no #line: what is stored, hashed and shown */
    struct tamisi_buf lined; /* the same with #line wherever the origin jumps: what is compiled, so that errors name the
                                template's own line */
    struct tamisi_entry entries[TAMISI_MAX_ENTRIES];
    int entry_count;
    bool rejected; /* reject() was called: text is not usable */
    char reason[160];
};

/*
 * On failure: TAMIS_EINVAL with "attend.cu.lua:41: what is wrong" (Lua errors, a limit of the sandbox, a bad include), or
 * TAMIS_ENOTFOUND, TAMIS_EIO, TAMIS_ENOMEM. A rejection is success with `rejected` set.
 */
tamis_status template_expand(struct template_output *out, const struct template_request *request);
void template_output_free(struct template_output *output);

#endif
