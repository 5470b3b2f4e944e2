/*
 * template.c: one expansion: reads the template, has it translated to a Lua chunk, runs that in a bounded state and gathers
 * its output and its entries. What Lua can name of ours is defined here: p, entry, reject, use and the line emitter.
 */
#include "template.h"

#include "error.h"
#include "lua_host.h"
#include "template_emit.h"
#include "template_text.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct expansion {
    const struct template_request *request;
    struct template_output *out;
    char file[64]; /* "attend.cu.lua" */
    struct tamisi_buf source;
    struct tamisi_buf chunk;
    struct tamisi_buf scratch; /* the line being put together */
    struct tamisi_buf used;    /* the text of a use() */
    struct template_line *lines; /* owned; the source by line */
    size_t line_count;
    struct template_emitter emitter;
};

/* ---- entry{} */

static const char *const stages[] = {"score_stats", "score_stats_tma", "score_merge", "score_sum", "score_sum_tma",
                                     "select_pool", "select_budget", "select_tokens", "compress", "attend", "attend_tma",
                                     "decompress", "drift", "blocks_bits", "blocks_rows", "blocks_order", "attend_blocks",
                                     "attend_blocks_tma", "pattern_sliding", "pattern_means", "pattern_products",
                                     "pattern_choose", "pattern_stats", "pattern_merge", "pattern_lines", "pattern_heads",
                                     "pattern_soften", "pattern_cut", "pattern_lists", "pattern_xattn", "pattern_xattn_tma",
                                     "attend_map", "attend_map_tma"};
#define STAGE_COUNT (sizeof stages / sizeof stages[0])

#define MAX_THREADS 1024 /* a block, on every architecture */

static const char *const entry_fields[] = {"stage", "symbol", "threads", "shared_bytes", "block_m", "block_n"};
#define ENTRY_FIELD_COUNT (sizeof entry_fields / sizeof entry_fields[0])

static void check_entry_fields(lua_State *lua)
{
    for (lua_pushnil(lua); lua_next(lua, 1); lua_pop(lua, 1)) {
        bool known = false;
        for (size_t i = 0; lua_type(lua, -2) == LUA_TSTRING && i < ENTRY_FIELD_COUNT; i++)
            known = known || strcmp(lua_tostring(lua, -2), entry_fields[i]) == 0;
        if (!known)
            luaL_error(lua, "entry has no field \"%s\"; there are: stage, symbol, threads, shared_bytes, block_m, block_n",
                       lua_type(lua, -2) == LUA_TSTRING ? lua_tostring(lua, -2) : luaL_typename(lua, -2));
    }
}

static void get_entry_text(lua_State *lua, const char *field, char *out, size_t out_bytes)
{
    lua_pushstring(lua, field);
    if (lua_rawget(lua, 1) != LUA_TSTRING)
        luaL_error(lua, "entry: %s must be a string, is %s", field, luaL_typename(lua, -1));
    size_t bytes;
    const char *text = lua_tolstring(lua, -1, &bytes);
    if (bytes >= out_bytes) luaL_error(lua, "entry: %s is longer than %d characters", field, (int)out_bytes - 1);
    memset(out, 0, out_bytes);
    memcpy(out, text, bytes);
    lua_pop(lua, 1);
}

static int get_entry_int(lua_State *lua, const char *field, int least, int most)
{
    lua_pushstring(lua, field);
    lua_rawget(lua, 1);
    if (!lua_isinteger(lua, -1))
        luaL_error(lua, "entry: %s must be an integer, is %s", field,
                   lua_type(lua, -1) == LUA_TNUMBER ? "a float" : luaL_typename(lua, -1));
    const lua_Integer value = lua_tointeger(lua, -1);
    if (value < least || value > most)
        luaL_error(lua, "entry: %s must be %d to %d, is %I", field, least, most, (LUAI_UACINT)value);
    lua_pop(lua, 1);
    return (int)value;
}

static bool is_identifier(const char *text)
{
    if (!isalpha((unsigned char)text[0]) && text[0] != '_') return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && *text != '_') return false;
    return true;
}

static void check_entry_names(lua_State *lua, const struct template_output *out, const struct tamisi_entry *entry)
{
    bool known = false;
    for (size_t i = 0; i < STAGE_COUNT; i++) known = known || strcmp(entry->stage, stages[i]) == 0;
    if (!known) luaL_error(lua, "entry: \"%s\" is no stage that the runtime launches", entry->stage);
    if (!is_identifier(entry->symbol)) luaL_error(lua, "entry: symbol \"%s\" is no C identifier", entry->symbol);
    for (int i = 0; i < out->entry_count; i++) {
        if (strcmp(out->entries[i].stage, entry->stage) == 0)
            luaL_error(lua, "entry: stage \"%s\" is declared twice", entry->stage);
        if (strcmp(out->entries[i].symbol, entry->symbol) == 0)
            luaL_error(lua, "entry: symbol \"%s\" is declared twice", entry->symbol);
    }
}

static void set_rejected(struct template_output *out, const char *reason)
{
    out->rejected = true;
    snprintf(out->reason, sizeof out->reason, "%s", reason);
    for (char *at = out->reason; *at; at++)
        if ((unsigned char)*at < ' ') *at = ' ';
}

static int declare_entry(lua_State *lua)
{
    struct expansion *expansion = lua_host_of(lua)->payload;
    struct template_output *out = expansion->out;
    struct tamisi_entry entry;
    memset(&entry, 0, sizeof entry);
    luaL_checktype(lua, 1, LUA_TTABLE);
    lua_settop(lua, 1);
    check_entry_fields(lua);
    get_entry_text(lua, "stage", entry.stage, sizeof entry.stage);
    get_entry_text(lua, "symbol", entry.symbol, sizeof entry.symbol);
    entry.threads = get_entry_int(lua, "threads", 32, 1 << 20);
    entry.shared_bytes = get_entry_int(lua, "shared_bytes", 0, 1 << 30);
    entry.block_m = get_entry_int(lua, "block_m", 1, 1 << 20);
    entry.block_n = get_entry_int(lua, "block_n", 0, 1 << 20);
    check_entry_names(lua, out, &entry);
    if (entry.threads % 32 != 0) luaL_error(lua, "entry: threads must be a multiple of 32, is %d", entry.threads);
    if (entry.threads > MAX_THREADS) { /* what tile lists may well ask for: no error of the template */
        char reason[160];
        snprintf(reason, sizeof reason, "%s has %d threads, a block has at most %d", entry.stage, entry.threads,
                 MAX_THREADS);
        set_rejected(out, reason);
        return lua_host_abort(lua);
    }
    if (out->entry_count == TAMISI_MAX_ENTRIES) return luaL_error(lua, "more than %d entries", TAMISI_MAX_ENTRIES);
    out->entries[out->entry_count++] = entry;
    return 0;
}

/* ---- reject(), use() and lines */

static int reject_variant(lua_State *lua)
{
    struct expansion *expansion = lua_host_of(lua)->payload;
    set_rejected(expansion->out, luaL_checkstring(lua, 1));
    return lua_host_abort(lua);
}

/*
 * use(name): the table that include/NAME.lua returns, read-only: functions that templates share. A buffer serves one text after
 * the other, as Lua has read it before it runs, and may use the next.
 */
static int use_text(lua_State *lua)
{
    struct expansion *expansion = lua_host_of(lua)->payload;
    const char *name = luaL_checkstring(lua, 1);
    if (!is_identifier(name) || strlen(name) > 48) return luaL_error(lua, "use: a file is named by letters, digits and _");
    const char *file = lua_pushfstring(lua, "%s.lua", name);
    const char *path = lua_pushfstring(lua, "%s/include/%s", expansion->request->templates_dir, file);
    tamisi_buf_clear(&expansion->used);
    const tamis_status status = template_read_file(&expansion->used, path, file);
    if (status == TAMIS_ENOTFOUND) return luaL_error(lua, "use: include/ has no %s", file);
    if (status != TAMIS_OK) return lua_host_throw(lua, status);
    lua_host_use(lua, file, expansion->used.size > 0 ? expansion->used.data : "", expansion->used.size);
    if (lua_type(lua, -1) != LUA_TTABLE) return luaL_error(lua, "use: %s returns no table", file);
    lua_env_seal(lua, name);
    return 1;
}

/* Append the value at `index`, of the expression `piece`, to the line. */
static void append_value(lua_State *lua, struct tamisi_buf *line, int index, const struct template_piece *piece)
{
    lua_pushlstring(lua, piece->text, piece->bytes);
    const char *expression = lua_tostring(lua, -1);
    size_t bytes;
    const char *text;
    switch (lua_type(lua, index)) {
    case LUA_TBOOLEAN: tamisi_buf_puts(line, lua_toboolean(lua, index) ? "true" : "false"); break;
    case LUA_TNUMBER:
        if (!lua_isinteger(lua, index))
            luaL_error(lua, "${%s} is a float (%f); integers come from // and math.tointeger", expression,
                       lua_tonumber(lua, index));
        tamisi_buf_printf(line, "%lld", (long long)lua_tointeger(lua, index));
        break;
    case LUA_TSTRING:
        text = lua_tolstring(lua, index, &bytes);
        if (bytes > TEMPLATE_MAX_OUTPUT_BYTES) luaL_error(lua, "${%s} is too long", expression);
        for (size_t i = 0; i < bytes; i++) /* a line break would put every later #line out of step */
            if (iscntrl((unsigned char)text[i]))
                luaL_error(lua, "${%s} holds a line break or control character", expression);
        tamisi_buf_append(line, text, bytes);
        break;
    default:
        luaL_error(lua, "${%s} is %s%s; only a string, an integer or a boolean has a text", expression,
                   lua_isnil(lua, index) ? "" : "a ", luaL_typename(lua, index));
    }
    lua_pop(lua, 1);
}

/* The chunk's argument: (number of a line, values of its expressions). */
static int emit_line(lua_State *lua)
{
    struct expansion *expansion = lua_host_of(lua)->payload;
    const lua_Integer number = luaL_checkinteger(lua, 1);
    luaL_argcheck(lua, number >= 1 && (size_t)number <= expansion->line_count, 1, "no such line");
    const struct template_line raw = expansion->lines[number - 1];

    struct tamisi_buf *scratch = &expansion->scratch;
    struct template_piece piece;
    int index = 1;
    tamisi_buf_clear(scratch);
    for (const char *at = raw.text, *end = at + raw.bytes; template_next_piece(&piece, &at, end);) {
        if (piece.is_expression)
            append_value(lua, scratch, ++index, &piece);
        else
            tamisi_buf_append(scratch, piece.text, piece.bytes);
        if (scratch->size > TEMPLATE_MAX_OUTPUT_BYTES) return luaL_error(lua, "a line is too long");
    }
    if (scratch->failed) return lua_host_throw(lua, tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", expansion->file));

    const struct template_line line = {scratch->size > 0 ? scratch->data : "", scratch->size};
    const bool include = template_is_include(&line);
    if (include && index > 1) return luaL_error(lua, "an #include cannot be put together by ${}");
    const tamis_status status = (include ? template_emit_include : template_emit_line)(
        &expansion->emitter, expansion->file, (int)number, &line);
    return status == TAMIS_OK ? 0 : lua_host_throw(lua, status);
}

/* Add p, entry, reject and use to the table at index 1. */
static int define_names(lua_State *lua)
{
    const struct template_request *request = ((struct expansion *)lua_host_of(lua)->payload)->request;
    lua_newtable(lua);
    for (int i = 0; i < request->param_count; i++) {
        const struct template_param *param = &request->params[i];
        if (param->text[0])
            lua_pushstring(lua, param->text);
        else
            lua_pushinteger(lua, param->value);
        lua_setfield(lua, -2, param->name);
    }
    lua_env_seal(lua, "p");
    lua_setfield(lua, 1, "p");
    lua_pushcfunction(lua, declare_entry);
    lua_setfield(lua, 1, "entry");
    lua_pushcfunction(lua, reject_variant);
    lua_setfield(lua, 1, "reject");
    lua_pushcfunction(lua, use_text);
    lua_setfield(lua, 1, "use");
    return 0;
}

/* ---- the expansion */

static tamis_status read_template(struct expansion *expansion)
{
    const struct template_request *request = expansion->request;
    const char *family = request->family;
    if (!is_identifier(family) || strlen(family) > 48)
        return tamisi_fail(TAMIS_EINVAL, "template \"%.60s\": a family is named by letters, digits and _", family);
    snprintf(expansion->file, sizeof expansion->file, "%s.cu.lua", family);
    struct tamisi_buf path = TAMISI_BUF_INIT;
    tamisi_buf_printf(&path, "%s/%s", request->templates_dir, expansion->file);
    const tamis_status status = path.failed ? tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", expansion->file)
                                            : template_read_file(&expansion->source, path.data, expansion->file);
    tamisi_buf_free(&path);
    if (status == TAMIS_OK && expansion->source.size == 0)
        return tamisi_fail(TAMIS_EINVAL, "%s:1: the template is empty", expansion->file);
    return status;
}

static tamis_status split_lines(struct expansion *expansion)
{
    const char *end = expansion->source.data + expansion->source.size;
    struct template_line line;
    size_t count = 0;
    for (const char *at = expansion->source.data; template_next_line(&line, &at, end);) count++;
    expansion->lines = malloc(count * sizeof *expansion->lines);
    if (!expansion->lines) return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", expansion->file);
    for (const char *at = expansion->source.data; template_next_line(&line, &at, end);)
        expansion->lines[expansion->line_count++] = line;
    return TAMIS_OK;
}

/* What is not one expression could close the call that carries it and run on as Lua of its own. */
static tamis_status check_expressions(const struct expansion *expansion, struct lua_host *host)
{
    for (size_t i = 0; i < expansion->line_count; i++) {
        const struct template_line *line = &expansion->lines[i];
        struct template_line code;
        struct template_piece piece;
        if (template_is_lua(line, &code)) continue;
        for (const char *at = line->text, *end = at + line->bytes; template_next_piece(&piece, &at, end);)
            if (piece.is_expression && !lua_host_is_expression(host, piece.text, piece.bytes))
                return tamisi_fail(TAMIS_EINVAL, "%s:%zu: ${%.*s} is not one Lua expression", expansion->file, i + 1,
                                   (int)(piece.bytes < 80 ? piece.bytes : 80), piece.text);
    }
    return TAMIS_OK;
}

static tamis_status run_template(struct expansion *expansion)
{
    struct lua_host host;
    TAMIS_TRY(lua_host_open(&host, expansion->file, &lua_host_default_limits, define_names, expansion));
    tamis_status status = check_expressions(expansion, &host);
    if (status == TAMIS_OK)
        status = lua_host_run(&host, expansion->chunk.data, expansion->chunk.size, emit_line);
    lua_host_close(&host);
    return status;
}

/* The comment that opens the output: the banner, then what each kernel takes. */
static void write_header(struct tamisi_buf *out, const struct expansion *expansion)
{
    struct template_line line;
    const char *banner = expansion->request->banner ? expansion->request->banner : "";
    for (const char *end = banner + strlen(banner); template_next_line(&line, &banner, end);)
        tamisi_buf_printf(out, "//%s%.*s\n", line.bytes ? " " : "", (int)line.bytes, line.text);
    for (int i = 0; i < expansion->out->entry_count; i++) {
        const struct tamisi_entry *entry = &expansion->out->entries[i];
        tamisi_buf_printf(out, "// %s: %d threads, %d bytes of dynamic shared memory\n", entry->symbol, entry->threads,
                          entry->shared_bytes);
    }
}

static tamis_status finish_output(struct expansion *expansion)
{
    struct template_output *out = expansion->out;
    const struct template_emitter *emitter = &expansion->emitter;
    if (out->entry_count == 0)
        return tamisi_fail(TAMIS_EINVAL, "%s:%zu: the template ends without an entry{}", expansion->file,
                           expansion->line_count);
    write_header(&out->text, expansion);
    write_header(&out->lined, expansion);
    tamisi_buf_append(&out->text, emitter->text.data ? emitter->text.data : "", emitter->text.size);
    tamisi_buf_append(&out->lined, emitter->lined.data ? emitter->lined.data : "", emitter->lined.size);
    if (out->text.failed || out->lined.failed || emitter->text.failed || emitter->lined.failed)
        return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", expansion->file);
    return TAMIS_OK;
}

static tamis_status expand(struct expansion *expansion)
{
    TAMIS_TRY(read_template(expansion));
    TAMIS_TRY(split_lines(expansion));
    TAMIS_TRY(template_translate(&expansion->chunk, expansion->file, expansion->source.data, expansion->source.size));
    TAMIS_TRY(run_template(expansion));
    return expansion->out->rejected ? TAMIS_OK : finish_output(expansion);
}

tamis_status template_expand(struct template_output *out, const struct template_request *request)
{
    *out = (struct template_output){.text = TAMISI_BUF_INIT, .lined = TAMISI_BUF_INIT};
    struct expansion expansion = {.request = request, .out = out};
    template_emitter_init(&expansion.emitter, request->templates_dir, request->abi_dir);
    const tamis_status status = expand(&expansion);
    template_emitter_free(&expansion.emitter);
    tamisi_buf_free(&expansion.source);
    tamisi_buf_free(&expansion.chunk);
    tamisi_buf_free(&expansion.scratch);
    tamisi_buf_free(&expansion.used);
    free(expansion.lines);
    if (status != TAMIS_OK) template_output_free(out);
    return status;
}

void template_output_free(struct template_output *output)
{
    tamisi_buf_free(&output->text);
    tamisi_buf_free(&output->lined);
    *output = (struct template_output){.text = TAMISI_BUF_INIT, .lined = TAMISI_BUF_INIT};
}
