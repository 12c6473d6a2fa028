#include "barrier.h"

#include <lualib.h>
#include <string.h>

/* The name of the function at `function` in a module's table, which is on top (popped): pushed. */
static bool push_field_name (lua_State *L, int function, const char *module) {
  if (lua_istable (L, -1))
    for (lua_pushnil (L); lua_next (L, -2); lua_pop (L, 1))
      if (lua_type (L, -2) == LUA_TSTRING && lua_rawequal (L, -1, function)) {
        if (module)
          lua_pushfstring (L, "%s.%s", module, lua_tostring (L, -2));
        else
          lua_pushvalue (L, -2);
        lua_replace (L, function + 1);
        lua_settop (L, function + 1);
        return true;
      }
  lua_settop (L, function);
  return false;
}

/* Push the name of the function on top as Lua's standard libraries, or allua, have it; or nil. */
static const char *push_function_name (lua_State *L) {
  static const char *const modules[]
      = { LUA_STRLIBNAME, LUA_TABLIBNAME, LUA_COLIBNAME, LUA_IOLIBNAME,
          LUA_OSLIBNAME,  LUA_DBLIBNAME,  "allua",       NULL };
  int function = lua_gettop (L), i;
  lua_rawgeti (L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  if (push_field_name (L, function, NULL))
    return lua_tostring (L, -1);
  for (i = 0; modules[i]; i++) {
    luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield (L, -1, modules[i]);
    lua_remove (L, -2);
    if (push_field_name (L, function, modules[i]))
      return lua_tostring (L, -1);
  }
  lua_pushnil (L);
  return NULL;
}

/* Whether a function that Lua calls by this name lets its callee suspend. */
static bool lets_suspend (const char *name) {
  return strcmp (name, "pcall") == 0 || strcmp (name, "xpcall") == 0 || strcmp (name, "dofile") == 0
         || strncmp (name, "allua.", 6) == 0 || strncmp (name, "coroutine.", 10) == 0;
}

/* Push what keeps a coroutine from suspending, in words: the innermost C function that cannot. */
static void push_barrier (lua_State *L, lua_State *co, int level) {
  lua_Debug info;
  bool handler = false;
  for (; lua_getstack (co, level, &info); level++) {
    lua_getinfo (co, "Snf", &info);
    if (co != L)
      lua_xmove (co, L, 1);
    if (strcmp (info.namewhat, "metamethod") == 0
        && (strcmp (info.name, "gc") == 0 || strcmp (info.name, "close") == 0)) {
      lua_pushfstring (L, "a __%s metamethod that Lua runs here", info.name);
      return;
    }
    if (info.what[0] == 'C') {
      const char *name = push_function_name (L);
      if (name && strcmp (name, "xpcall") == 0)
        handler = true;
      if (name && strcmp (name, "error") == 0) {
        lua_pushliteral (L, "a message handler of xpcall");
        return;
      }
      if (strcmp (info.namewhat, "for iterator") == 0) {
        lua_pushliteral (L, "an iterator written in C, such as ipairs");
        return;
      }
      if (name && !lets_suspend (name))
        return;
      if (!name && info.name) {
        lua_pushstring (L, info.name);
        return;
      }
      lua_pop (L, 1);
    }
    lua_pop (L, 1);
  }
  lua_pushstring (L, handler ? "a message handler of xpcall" : "a C function");
}

int barrier_raise (lua_State *L, allua *host) {
  luaL_checkstack (L, 12, NULL);
  if (!host->current)
    return luaL_error (L, "cannot wait in a callback of the loop: start a task there, with "
                          "allua.spawn(function() ... end)");
  if (host->running != L)
    return luaL_error (L, "cannot wait inside a coroutine made by Lua's own coroutine library: "
                          "make it with allua.coroutine.wrap or allua.coroutine.create");
  if (host->barrier_name)
    return luaL_error (L, "cannot wait inside %s", host->barrier_name);
  if (host->barrier)
    push_barrier (L, host->barrier, 0);
  else
    push_barrier (L, L, 1);
  return luaL_error (L,
                     "cannot wait inside %s: Lua cannot suspend it; wait before the call and "
                     "pass it the value",
                     lua_tostring (L, -1));
}
