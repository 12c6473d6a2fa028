#include "luvs.h"

#include <luv/lhandle.h>
#include <luv/luv.h>

#include "error.h"
#include "loop.h"
#include "report.h"
#include "tracer.h"

static int describe (lua_State *L) {
  lua_pushliteral (L, "error in a callback of luv: ");
  error_push_message (L, 1);
  lua_concat (L, 2);
  luaL_traceback (L, L, lua_tostring (L, -1), 1);
  return 1;
}

/* How luv calls a callback: an error is reported, and the loop goes on. */
static int call_back (lua_State *L, int arguments, int results, int flags) {
  int top = lua_gettop (L) - arguments - 1, status;
  (void)flags;
  lua_pushcfunction (L, describe);
  lua_insert (L, top + 1);
  status = lua_pcall (L, arguments, results, top + 1);
  lua_remove (L, top + 1);
  if (status != LUA_OK) {
    allua *host = allua_of (L);
    if (host) /* a memory error has not been described, but is a string */
      report_text (L, host,
                   lua_type (L, -1) == LUA_TSTRING ? lua_tostring (L, -1)
                                                   : "error in a callback of luv");
    lua_settop (L, top);
    return -status;
  }
  return lua_gettop (L) - top;
}

/* Keys of the registry: luv's metatables, by which its objects are known. */
static const char handle_kinds, request_kind, fs_kind;

/* Call `found` for each handle (and request) of luv's that libuv may know of: those it keeps in the
   registry. Allocates nothing. */
static void each_object (lua_State *L, bool requests, void (*found) (lua_State *L, void *data),
                         void *data) {
  lua_Integer i, last = (lua_Integer)lua_rawlen (L, LUA_REGISTRYINDEX);
  int top = lua_gettop (L), kinds = top + 1;
  if (lua_rawgetp (L, LUA_REGISTRYINDEX, &handle_kinds) == LUA_TTABLE) {
    lua_rawgetp (L, LUA_REGISTRYINDEX, &request_kind);
    lua_rawgetp (L, LUA_REGISTRYINDEX, &fs_kind);
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

size_t luvs_count (allua *host) {
  size_t result = 0;
  /* luv keeps some requests after their end (of uv.fs_scandir): those libuv does not count. */
  each_object (host->main, host->loop->active_reqs.count > 0, count, &result);
  return result - host->luv_closed;
}

static void on_closed (uv_handle_t *handle) {
  const luv_handle_t *data = handle->data;
  allua *host = data->ctx->extra;
  if (host)
    host->luv_closed++; /* its memory goes with its userdata, when the state is closed */
}

/* The handle's userdata is on top. */
static void close_handle (lua_State *L, void *data) {
  uv_handle_t *handle = *(uv_handle_t **)lua_touserdata (L, -1);
  (void)data;
  if (handle && !uv_is_closing (handle))
    uv_close (handle, on_closed);
}

void luvs_close_all (allua *host) {
  if (host->own_luv)
    each_object (host->main, false, close_handle, NULL);
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
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  each_object (L, false, call_walk, NULL);
  return 0;
}

/* uv.spawn (program, …): luv's own, which is upvalue 1; a trace shows what is started. */
static int spawn (lua_State *L) {
  allua *host = allua_of (L);
  if (host && host->tracer && lua_type (L, 1) == LUA_TSTRING)
    tracer_instant (L, host, "uv.spawn", "program", 1);
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_insert (L, 1);
  lua_call (L, lua_gettop (L) - 1, LUA_MULTRET);
  return lua_gettop (L);
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
  luv_context (L)->extra = host;
  luaopen_luv (L);
  lua_getfield (L, LUA_REGISTRYINDEX, "uv_handle");
  lua_rawsetp (L, LUA_REGISTRYINDEX, &handle_kinds);
  luaL_getmetatable (L, "uv_req");
  lua_rawsetp (L, LUA_REGISTRYINDEX, &request_kind);
  luaL_getmetatable (L, "uv_fs");
  lua_rawsetp (L, LUA_REGISTRYINDEX, &fs_kind);
  host->own_luv = true;
  lua_getfield (L, -1, "spawn");
  lua_pushcclosure (L, spawn, 1);
  lua_setfield (L, -2, "spawn");
  lua_pushcfunction (L, walk);
  lua_setfield (L, -2, "walk");
  lua_pushcfunction (L, run);
  lua_setfield (L, -2, "run");
  return 1;
}

void luvs_forget (lua_State *L) {
  if (lua_rawgetp (L, LUA_REGISTRYINDEX, &handle_kinds) == LUA_TTABLE)
    luv_context (L)->extra = NULL;
  lua_pop (L, 1);
}

bool luvs_is_running (lua_State *L) {
  return luv_context (L)->mode != -1;
}

uv_loop_t *luvs_loop (lua_State *L) {
  lua_getglobal (L, "require");
  lua_pushliteral (L, "luv");
  if (lua_pcall (L, 1, 1, 0) != LUA_OK)
    return NULL;
  lua_pop (L, 1);
  return luv_loop (L);
}
