#include "luvs.h"

#include <luv/luv.h>
#include <string.h>

#include "error.h"
#include "loop.h"
#include "report.h"

static int keep_traceback (lua_State *L) {
  error_push_message (L, 1);
  luaL_traceback (L, L, lua_tostring (L, -1), 1);
  return 1;
}

/* How luv calls a callback: an error is reported, and the loop goes on. */
static int call_back (lua_State *L, int arguments, int results, int flags) {
  int top = lua_gettop (L) - arguments - 1, status;
  (void)flags;
  lua_pushcfunction (L, keep_traceback);
  lua_insert (L, top + 1);
  status = lua_pcall (L, arguments, results, top + 1);
  lua_remove (L, top + 1);
  if (status != LUA_OK) {
    allua *host = allua_of (L);
    if (host) {
      lua_pushliteral (L, "error in a callback of luv: ");
      lua_insert (L, -2);
      lua_concat (L, 2);
      report_text (L, host, lua_tostring (L, -1));
    }
    lua_settop (L, top);
    return -status;
  }
  return lua_gettop (L) - top;
}

/* Call `found` for each handle (and request) of luv's that libuv knows of: those it keeps in the
   registry. */
static void each_object (lua_State *L, bool requests, void (*found) (lua_State *L, void *data),
                         void *data) {
  lua_Integer i, last = (lua_Integer)lua_rawlen (L, LUA_REGISTRYINDEX);
  int top = lua_gettop (L), kinds = top + 1;
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  if (lua_getfield (L, LUA_REGISTRYINDEX, "uv_handle") == LUA_TTABLE) {
    luaL_getmetatable (L, "uv_req");
    luaL_getmetatable (L, "uv_fs");
    for (i = 1; i <= last; i++) {
      if (lua_rawgeti (L, LUA_REGISTRYINDEX, i) == LUA_TUSERDATA && lua_getmetatable (L, -1)) {
        bool fs = lua_rawequal (L, -1, kinds + 2), handle;
        bool request = fs || lua_rawequal (L, -1, kinds + 1);
        /* What uv.fs_scandir gives without a callback is no request that anybody waits for. */
        if (fs && !((uv_fs_t *)lua_touserdata (L, -2))->cb)
          request = false;
        lua_rawget (L, kinds);
        handle = lua_toboolean (L, -1);
        lua_pop (L, 1);
        if (handle || (request && requests))
          found (L, data);
      }
      lua_settop (L, kinds + 2);
    }
  }
  lua_settop (L, top);
}

static void count (lua_State *L, void *data) {
  (void)L;
  ++*(size_t *)data;
}

size_t luvs_count (lua_State *L, allua *host) {
  size_t result = 0;
  /* luv keeps some requests after their end (of uv.fs_scandir): those libuv does not count. */
  each_object (L, host->loop->active_reqs.count > 0, count, &result);
  return result;
}

/* The object is on top. Not through its methods: scripts may have changed those. */
static void close_object (lua_State *L, void *data) {
  const char *method = "close";
  lua_rawgetp (L, LUA_REGISTRYINDEX, data);
  lua_getmetatable (L, -2);
  lua_pushliteral (L, "__name");
  lua_rawget (L, -2);
  if (lua_isstring (L, -1)
      && (strcmp (lua_tostring (L, -1), "uv_req") == 0
          || strcmp (lua_tostring (L, -1), "uv_fs") == 0))
    method = "cancel";
  else {
    uv_handle_t **handle = lua_touserdata (L, -4);
    if (!*handle || uv_is_closing (*handle))
      return;
  }
  lua_getfield (L, -3, method);
  lua_pushvalue (L, -5);
  lua_pcall (L, 1, 0, 0);
}

static const char luv_functions; /* registry key: luv's close and cancel */

void luvs_close_all (lua_State *L, allua *host) {
  if (host->own_luv)
    each_object (L, true, close_object, (void *)&luv_functions);
}

static void call_walk (lua_State *L, void *data) {
  (void)data;
  lua_pushvalue (L, 1);
  lua_pushvalue (L, -2);
  lua_call (L, 1, 0);
}

/* uv.walk (fn): luv's own would meet the host's handles, which it does not know. */
static int walk (lua_State *L) {
  luaL_checktype (L, 1, LUA_TFUNCTION);
  lua_settop (L, 1);
  each_object (L, false, call_walk, NULL);
  return 0;
}

static int run (lua_State *L) {
  return luaL_error (L, "uv.run: allua runs the loop; a task waits with allua's own calls, and the "
                        "program goes on until its last handle is closed");
}

int luvs_open (lua_State *L) {
  allua *host = allua_of (L);
  if (!host)
    return luaL_error (L, "this allua host is closed");
  luv_set_loop (L, host->loop);
  luv_context (L)->L = host->main;
  luv_set_callback (L, call_back);
  luaopen_luv (L);
  host->own_luv = true;
  lua_createtable (L, 0, 2);
  lua_getfield (L, -2, "close");
  lua_setfield (L, -2, "close");
  lua_getfield (L, -2, "cancel");
  lua_setfield (L, -2, "cancel");
  lua_rawsetp (L, LUA_REGISTRYINDEX, &luv_functions);
  lua_pushcfunction (L, walk);
  lua_setfield (L, -2, "walk");
  lua_pushcfunction (L, run);
  lua_setfield (L, -2, "run");
  return 1;
}

uv_loop_t *luvs_loop (lua_State *L) {
  lua_getglobal (L, "require");
  lua_pushliteral (L, "luv");
  if (lua_pcall (L, 1, 1, 0) != LUA_OK)
    return NULL;
  lua_pop (L, 1);
  return luv_loop (L);
}
