/*
 * lua_env.c: every name that a template's Lua can use, and the few functions that differ from Lua's own. Below template.c,
 * beside lua_host.c.
 *
 * Chosen by what is safe to have, not by what is dangerous: a function is here only if it runs in time proportional to its
 * arguments, catches no errors, and returns the same for the same arguments in every process.
 */
#include "lua_host.h"

#include "nearest.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LISTED 64 /* names that a message considers */

/* ---- read-only tables */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The string keys of the table at `index`, sorted. They live as long as the table holds them. */
static int list_names(lua_State *lua, int index, const char *names[MAX_LISTED])
{
    int count = 0;
    for (lua_pushnil(lua); lua_next(lua, index); lua_pop(lua, 1))
        if (lua_type(lua, -2) == LUA_TSTRING && count < MAX_LISTED) names[count++] = lua_tostring(lua, -2);
    qsort(names, (size_t)count, sizeof names[0], compare_names);
    return count;
}

/* __index of a sealed table. Upvalues: its members, what messages call it. */
static int read_member(lua_State *lua)
{
    lua_pushvalue(lua, 2);
    if (lua_rawget(lua, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    const char *what = lua_tostring(lua, lua_upvalueindex(2));
    if (lua_type(lua, 2) != LUA_TSTRING) return luaL_error(lua, "%s is indexed by a %s", what, luaL_typename(lua, 2));
    const char *names[MAX_LISTED];
    lua_pushvalue(lua, lua_upvalueindex(1));
    const int count = list_names(lua, lua_gettop(lua), names);
    char hint[320];
    nearest_describe(hint, sizeof hint, lua_tostring(lua, 2), names, count);
    return luaL_error(lua, "%s has no \"%s\"; %s", what, lua_tostring(lua, 2), hint);
}

/* __newindex of a sealed table. Upvalue: what messages call it. */
static int write_member(lua_State *lua)
{
    const char *name = lua_type(lua, 2) == LUA_TSTRING ? lua_tostring(lua, 2) : luaL_typename(lua, 2);
    return luaL_error(lua, "%s cannot be changed (assigning \"%s\"); new names need `local`",
                      lua_tostring(lua, lua_upvalueindex(1)), name);
}

void lua_env_seal(lua_State *lua, const char *what)
{
    const int members = lua_gettop(lua);
    luaL_checkstack(lua, 6, NULL);
    lua_newtable(lua);
    lua_newtable(lua);
    lua_pushvalue(lua, members);
    lua_pushstring(lua, what);
    lua_pushcclosure(lua, read_member, 2);
    lua_setfield(lua, -2, "__index");
    lua_pushstring(lua, what);
    lua_pushcclosure(lua, write_member, 1);
    lua_setfield(lua, -2, "__newindex");
    lua_pushvalue(lua, members);
    lua_setfield(lua, -2, "members");
    lua_setmetatable(lua, -2);
    lua_replace(lua, members);
}

/* ---- functions that differ from Lua's */

/* Lua's adds no position to the message. */
static int checked_assert(lua_State *lua)
{
    luaL_checkany(lua, 1);
    if (lua_toboolean(lua, 1)) return lua_gettop(lua);
    return luaL_error(lua, "%s", luaL_optstring(lua, 2, "an assertion failed"));
}

/* Takes only text, so that every error is one that can be shown. */
static int checked_error(lua_State *lua)
{
    const char *message = luaL_checkstring(lua, 1);
    const lua_Integer level = luaL_optinteger(lua, 2, 1);
    luaL_where(lua, level >= 1 && level <= 100 ? (int)level : 1);
    lua_pushstring(lua, message);
    lua_concat(lua, 2);
    return lua_error(lua);
}

/* Lua's prints the address of a table or function, which differs from run to run. */
static int checked_tostring(lua_State *lua)
{
    luaL_checkany(lua, 1);
    const int type = lua_type(lua, 1);
    luaL_argcheck(lua, type == LUA_TNIL || type == LUA_TBOOLEAN || type == LUA_TNUMBER || type == LUA_TSTRING, 1,
                  "only strings, numbers, booleans and nil have a text");
    luaL_tolstring(lua, 1, NULL);
    return 1;
}

/* Check one conversion behind its '%'; returns the first character behind it. */
static const char *check_conversion(lua_State *lua, const char *at, int argument)
{
    at += strspn(at, "-+ #0");
    const size_t width = strspn(at, "0123456789");
    at += width;
    const size_t precision = *at == '.' ? strspn(at + 1, "0123456789") : 0;
    at += *at == '.' ? 1 + precision : 0;
    if (width > 2 || precision > 2) luaL_error(lua, "string.format: widths and precisions have at most two digits");
    if (*at == '\0' || !strchr("dixXocsfeg", *at))
        luaL_error(lua, "string.format: a conversion must be one of %%d %%i %%x %%X %%o %%c %%s %%f %%e %%g");
    const int type = lua_type(lua, argument);
    luaL_argcheck(lua, type == LUA_TSTRING || type == LUA_TNUMBER || (type == LUA_TBOOLEAN && *at == 's'), argument,
                  "only strings, numbers and booleans can be formatted");
    return at + 1;
}

/* Lua's can print addresses. Upvalue: Lua's. */
static int checked_format(lua_State *lua)
{
    size_t bytes;
    const char *format = luaL_checklstring(lua, 1, &bytes);
    luaL_argcheck(lua, strlen(format) == bytes, 1, "a format cannot hold zeros");
    int argument = 1;
    for (const char *at = strchr(format, '%'); at; at = strchr(at, '%'))
        at = at[1] == '%' ? at + 2 : check_conversion(lua, at + 1, ++argument);
    lua_pushvalue(lua, lua_upvalueindex(1));
    lua_insert(lua, 1);
    lua_call(lua, lua_gettop(lua) - 1, 1);
    return 1;
}

/* ---- pairs, in the order of the keys: integers ascending, then strings by their bytes */

struct key {
    bool is_text;
    lua_Integer number;
    const char *text; /* held by the table */
    size_t bytes;
};

static int compare_keys(const void *left, const void *right)
{
    const struct key *a = left, *b = right;
    if (a->is_text != b->is_text) return a->is_text ? 1 : -1;
    if (!a->is_text) return (a->number > b->number) - (a->number < b->number);
    const int order = memcmp(a->text, b->text, a->bytes < b->bytes ? a->bytes : b->bytes);
    return order ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* Push the keys of the table at `index`, sorted, as an array. */
static void push_sorted_keys(lua_State *lua, int index)
{
    size_t count = 0;
    for (lua_pushnil(lua); lua_next(lua, index); lua_pop(lua, 1)) count++;
    struct key *keys = lua_newuserdatauv(lua, (count + 1) * sizeof *keys, 0); /* freed by Lua, whatever happens */
    size_t filled = 0;
    for (lua_pushnil(lua); lua_next(lua, index); lua_pop(lua, 1)) {
        struct key *key = &keys[filled++];
        *key = (struct key){.is_text = lua_type(lua, -2) == LUA_TSTRING};
        if (key->is_text) /* lua_tolstring would turn a number into text in its place, and lua_next lose its way */
            key->text = lua_tolstring(lua, -2, &key->bytes);
        else if (lua_isinteger(lua, -2))
            key->number = lua_tointeger(lua, -2);
        else
            luaL_error(lua, "pairs: keys must be strings or integers, one is a %s", luaL_typename(lua, -2));
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    lua_createtable(lua, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        if (keys[i].is_text)
            lua_pushlstring(lua, keys[i].text, keys[i].bytes);
        else
            lua_pushinteger(lua, keys[i].number);
        lua_rawseti(lua, -2, (lua_Integer)i + 1);
    }
    lua_remove(lua, -2);
}

/* Upvalues: the table, its keys, how many were visited. A key removed meanwhile is passed over. */
static int next_pair(lua_State *lua)
{
    lua_Integer visited = lua_tointeger(lua, lua_upvalueindex(3));
    for (;;) {
        lua_settop(lua, 0);
        visited++;
        if (lua_rawgeti(lua, lua_upvalueindex(2), visited) == LUA_TNIL) return 1;
        lua_pushvalue(lua, 1);
        if (lua_rawget(lua, lua_upvalueindex(1)) != LUA_TNIL) break;
    }
    lua_pushinteger(lua, visited);
    lua_replace(lua, lua_upvalueindex(3));
    return 2;
}

static int sorted_pairs(lua_State *lua)
{
    luaL_checktype(lua, 1, LUA_TTABLE);
    lua_settop(lua, 1);
    if (luaL_getmetafield(lua, 1, "members") == LUA_TTABLE) lua_replace(lua, 1); /* a sealed table is empty itself */
    lua_settop(lua, 1);
    push_sorted_keys(lua, 1);
    lua_pushinteger(lua, 0);
    lua_pushcclosure(lua, next_pair, 3);
    return 1;
}

/* ---- the environment */

static const char *const base_names[] = {"ipairs", "select", "tonumber", "type", NULL};
static const char *const math_names[] = {"abs",  "ceil",       "floor",      "max", "maxinteger",
                                         "min",  "mininteger", "tointeger", "type", NULL};
static const char *const string_names[] = {"byte", "char", "len", "lower", "sub", "upper", NULL};

/* Copy the named fields from the table on top to the one at `target`. */
static void copy_names(lua_State *lua, int target, const char *const *names)
{
    for (; *names; names++) {
        lua_getfield(lua, -1, *names);
        lua_setfield(lua, target, *names);
    }
}

/* Add a sealed library with the named members of Lua's to the table at index 2; leaves it and Lua's on the stack. */
static void add_library(lua_State *lua, lua_CFunction open, const char *name, const char *const *names)
{
    lua_pushcfunction(lua, open);
    lua_call(lua, 0, 1);
    lua_newtable(lua);
    lua_insert(lua, -2);
    copy_names(lua, lua_gettop(lua) - 1, names);
    if (open == luaopen_string) {
        lua_getfield(lua, -1, "format");
        lua_pushcclosure(lua, checked_format, 1);
        lua_setfield(lua, -3, "format");
    }
    lua_pop(lua, 1);
    lua_env_seal(lua, name);
    lua_pushvalue(lua, -1);
    lua_setfield(lua, 2, name);
}

int lua_env_build(lua_State *lua)
{
    static const luaL_Reg own[] = {{"assert", checked_assert},     {"error", checked_error}, {"pairs", sorted_pairs},
                                   {"tostring", checked_tostring}, {NULL, NULL}};
    lua_newtable(lua); /* index 2: the members */
    luaL_setfuncs(lua, own, 0);
    lua_pushcfunction(lua, luaopen_base);
    lua_call(lua, 0, 1);
    copy_names(lua, 2, base_names);
    lua_settop(lua, 2);
    add_library(lua, luaopen_math, "math", math_names);
    lua_settop(lua, 2);
    add_library(lua, luaopen_string, "string", string_names);

    /* ("x"):upper() finds methods through the metatable of strings, which luaopen_string gave all of Lua's. */
    lua_pushliteral(lua, "");
    lua_newtable(lua);
    lua_pushvalue(lua, 3);
    lua_setfield(lua, -2, "__index");
    lua_setmetatable(lua, -2);
    lua_settop(lua, 2);

    lua_pushvalue(lua, 1);
    lua_pushvalue(lua, 2);
    lua_call(lua, 1, 0);
    lua_env_seal(lua, "the template language");
    lua_rawseti(lua, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS); /* what chunks loaded from now on see as their globals */
    return 0;
}
