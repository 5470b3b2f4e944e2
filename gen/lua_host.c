/*
 * lua_host.c: the bounded Lua state: allocator, hook, protected calls, and how an outcome becomes a status and a message.
 * The names a chunk can use are lua_env.c's. Knows nothing of templates.
 *
 * A hook never fires inside a C function, so the hook bounds a run only because lua_env.c offers none that can be slow.
 */
#define _POSIX_C_SOURCE 200809L

#include "lua_host.h"

#include "error.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOOK_STRIDE 100 /* instructions between looks at the clock */

const struct lua_host_limits lua_host_default_limits = {64u << 20, 10000000, 5.0};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

struct lua_host *lua_host_of(lua_State *lua)
{
    return *(struct lua_host **)lua_getextraspace(lua);
}

static void *bounded_alloc(void *payload, void *block, size_t old_bytes, size_t new_bytes)
{
    struct lua_host *host = payload;
    const size_t held = block ? old_bytes : 0; /* for a new block Lua passes its type here */
    if (new_bytes == 0) {
        free(block);
        host->used_bytes -= held;
        return NULL;
    }
    if (new_bytes > held && new_bytes - held > host->limits.memory_bytes - host->used_bytes) return NULL;
    void *moved = realloc(block, new_bytes);
    if (moved)
        host->used_bytes = host->used_bytes - held + new_bytes;
    else
        host->memory_denied = true;
    return moved;
}

/* The line is kept because Lua's memory error has no position; the count is what ends endless loops. */
static void on_hook(lua_State *lua, lua_Debug *record)
{
    struct lua_host *host = lua_host_of(lua);
    if (record->event == LUA_HOOKLINE) {
        lua_getinfo(lua, "S", record);
        if (strcmp(record->short_src, host->file) == 0) host->line = record->currentline;
        return;
    }
    host->instructions += HOOK_STRIDE;
    if (host->instructions > host->limits.instructions)
        host->stopped = "the template runs without end: its limit of Lua instructions is reached";
    else if (now() > host->deadline)
        host->stopped = "the template takes too long: its time limit is reached";
    if (host->stopped) luaL_error(lua, "stopped"); /* finish() finds the reason in the host */
}

/* Set the message "file:line: text", or the text alone where it has its place already, as one line. */
static tamis_status fail_with_text(const struct lua_host *host, const char *text)
{
    char line[512];
    snprintf(line, sizeof line, "%s", text);
    for (char *at = line; *at; at++)
        if ((unsigned char)*at < ' ') *at = ' ';
    const size_t file_bytes = strlen(host->file);
    if (strncmp(line, host->file, file_bytes) == 0 && line[file_bytes] == ':')
        return tamisi_fail(TAMIS_EINVAL, "%s", line);
    return tamisi_fail(TAMIS_EINVAL, "%s:%d: %s", host->file, host->line, line);
}

/* The outcome of a protected call; clears the stack. */
static tamis_status finish(struct lua_host *host, int result)
{
    tamis_status status = TAMIS_OK;
    char memory[96];
    if (host->aborted) {
        status = TAMIS_OK;
    } else if (host->status != TAMIS_OK) {
        status = host->status;
    } else if (host->stopped) {
        status = fail_with_text(host, host->stopped);
    } else if (result == LUA_ERRMEM && !host->memory_denied) {
        snprintf(memory, sizeof memory, "the template needs more than its %zu KB of memory",
                 host->limits.memory_bytes >> 10);
        status = fail_with_text(host, memory);
    } else if (result == LUA_ERRMEM) {
        status = tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", host->file);
    } else if (result != LUA_OK && lua_type(host->lua, -1) == LUA_TSTRING) {
        status = fail_with_text(host, lua_tostring(host->lua, -1));
    } else if (result != LUA_OK) {
        status = fail_with_text(host, "an error without a message");
    }
    lua_settop(host->lua, 0);
    return status;
}

tamis_status lua_host_open(struct lua_host *host, const char *file, const struct lua_host_limits *limits,
                           lua_CFunction define, void *payload)
{
    *host = (struct lua_host){.limits = *limits, .payload = payload, .line = 1};
    snprintf(host->file, sizeof host->file, "%s", file);
    host->lua = lua_newstate(bounded_alloc, host);
    if (!host->lua) return tamisi_fail(TAMIS_ENOMEM, "%s: no memory for a Lua state", file);

    *(struct lua_host **)lua_getextraspace(host->lua) = host;
    lua_pushcfunction(host->lua, lua_env_build);
    lua_pushcfunction(host->lua, define);
    const tamis_status status = finish(host, lua_pcall(host->lua, 1, 0, 0));
    if (status != TAMIS_OK) lua_host_close(host);
    return status;
}

void lua_host_close(struct lua_host *host)
{
    if (host->lua) lua_close(host->lua);
    host->lua = NULL;
}

/* A chunk in up to three parts, so that texts need no copy to be wrapped. */
struct parts {
    const char *text[3];
    size_t bytes[3];
    int next;
};

static const char *read_part(lua_State *lua, void *payload, size_t *bytes)
{
    (void)lua;
    struct parts *parts = payload;
    while (parts->next < 3 && parts->bytes[parts->next] == 0) parts->next++; /* an empty part would mean the end */
    if (parts->next == 3) return NULL;
    *bytes = parts->bytes[parts->next];
    return parts->text[parts->next++];
}

static bool compiles(struct lua_host *host, const char *before, const char *text, size_t bytes, const char *after)
{
    struct parts parts = {{before, text, after}, {strlen(before), bytes, strlen(after)}, 0};
    const int result = lua_load(host->lua, read_part, &parts, "=expression", "t");
    lua_settop(host->lua, 0);
    return result == LUA_OK;
}

bool lua_host_is_expression(struct lua_host *host, const char *text, size_t bytes)
{
    /* Alone, "1)(2" passes the second test; "1, 2" and "1 -- one" pass the first. */
    return compiles(host, "return ", text, bytes, "\n") && compiles(host, "return (", text, bytes, ")");
}

tamis_status lua_host_run(struct lua_host *host, const char *chunk, size_t bytes, lua_CFunction argument)
{
    char name[sizeof host->file + 1];
    snprintf(name, sizeof name, "@%s", host->file);
    struct parts parts = {{chunk, "", ""}, {bytes, 0, 0}, 0};
    int result = lua_load(host->lua, read_part, &parts, name, "t"); /* "t": bytecode can break the machine */
    if (result == LUA_OK) {
        host->deadline = now() + host->limits.seconds;
        lua_pushcfunction(host->lua, argument);
        lua_sethook(host->lua, on_hook, LUA_MASKCOUNT | LUA_MASKLINE, HOOK_STRIDE);
        result = lua_pcall(host->lua, 1, 0, 0);
        lua_sethook(host->lua, NULL, 0, 0);
    }
    return finish(host, result);
}

void lua_host_use(lua_State *lua, const char *file, const char *text, size_t bytes)
{
    struct parts parts = {{text, "", ""}, {bytes, 0, 0}, 0};
    lua_pushfstring(lua, "@%s", file);
    if (lua_load(lua, read_part, &parts, lua_tostring(lua, -1), "t") != LUA_OK) lua_error(lua);
    lua_remove(lua, -2);
    lua_call(lua, 0, 1);
}

int lua_host_abort(lua_State *lua)
{
    lua_host_of(lua)->aborted = true;
    lua_pushnil(lua);
    return lua_error(lua);
}

int lua_host_throw(lua_State *lua, tamis_status status)
{
    lua_host_of(lua)->status = status;
    lua_pushnil(lua);
    return lua_error(lua);
}
