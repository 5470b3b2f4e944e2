/*
 * lua_host.h: a Lua state that runs one text chunk which nobody has to trust. Lowest of the template modules.
 *
 * Bounded: memory by the allocator, instructions and time by a hook, both checked again after the run. What a chunk can name
 * is a short list (lua_env.c): nothing that reads a file, the clock, the environment or memory, nothing that catches errors
 * (a caught limit would not be one), no function whose own running time the hook cannot see, and no order or text that
 * differs from run to run. All names are read-only; a global cannot be assigned.
 */
#ifndef LUA_HOST_H
#define LUA_HOST_H

#include "tamis.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

struct lua_host_limits {
    size_t memory_bytes;
    long long instructions; /* of the Lua machine */
    double seconds;
};

/* 64 MB, ten million instructions, five seconds: a thousand times what a template needs. */
extern const struct lua_host_limits lua_host_default_limits;

struct lua_host {
    lua_State *lua;
    void *payload; /* for the C functions that the owner defines */
    char file[64]; /* what messages call the chunk */
    int line;      /* the line of the chunk itself reached last, not of what it uses */
    struct lua_host_limits limits;
    size_t used_bytes;
    long long instructions;
    double deadline;     /* on the monotonic clock */
    bool memory_denied;  /* by the system, not the limit */
    bool aborted;        /* lua_host_abort() ended the run */
    const char *stopped; /* sticky: which limit was passed, or NULL */
    tamis_status status; /* sticky: given to lua_host_throw() */
};

/*
 * Make a state. `define` is called in protected mode with a table at index 1, to which it adds names for the chunk; its C
 * functions find the host with lua_host_of(). The host must not move afterwards. On failure nothing is left to close.
 */
tamis_status lua_host_open(struct lua_host *host, const char *file, const struct lua_host_limits *limits,
                           lua_CFunction define, void *payload);
void lua_host_close(struct lua_host *host);

/* Does `text` stand for exactly one Lua expression? Compiles, runs nothing. */
bool lua_host_is_expression(struct lua_host *host, const char *text, size_t bytes);

/*
 * Load and run a chunk with one argument, a C function. TAMIS_EINVAL with "file:line: what is wrong" (syntax, errors,
 * limits), TAMIS_ENOMEM, or what was thrown. An aborted run is TAMIS_OK.
 */
tamis_status lua_host_run(struct lua_host *host, const char *chunk, size_t bytes, lua_CFunction argument);

/* For C functions called by the chunk. lua_host_abort and lua_host_throw do not return. */
struct lua_host *lua_host_of(lua_State *lua);
int lua_host_abort(lua_State *lua);                       /* end the run without an error */
int lua_host_throw(lua_State *lua, tamis_status status); /* end it with an error whose message is set already */
/* Run another text within the same limits and push what it returns; messages call it `file`. Lua's errors. */
void lua_host_use(lua_State *lua, const char *file, const char *text, size_t bytes);

/* lua_env.c */
int lua_env_build(lua_State *lua); /* C function: (define) -> (); installs the environment */
/* Replace the table on top by a read-only view of it, which messages call `what`; reading an absent name is an error. */
void lua_env_seal(lua_State *lua, const char *what);

#endif
