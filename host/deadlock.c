#include "deadlock.h"

#include "dump.h"
#include "error.h"
#include "settle.h"

static void push_error (lua_State *L, allua *host) {
  dump_push (L, host, true, true);
  error_push (L, host, "DeadlockError", "deadlock: every task waits, and nothing is pending%s",
              lua_tostring (L, -1));
}

int deadlock_raise (lua_State *L, allua *host) {
  if (host->close_asked)
    return luaL_error (L, "the host was closed while this ran");
  push_error (L, host);
  return lua_error (L);
}

/* The key of a script's handler in the registry. */
static const char on_stall = 's';

/* Argument: the host. */
static int tell (lua_State *L) {
  lua_rawgetp (L, LUA_REGISTRYINDEX, &on_stall);
  push_error (L, lua_touserdata (L, 1));
  lua_remove (L, -2);
  lua_call (L, 1, 0);
  return 0;
}

static bool stalled (allua *host) {
  lua_State *L = host->worker;
  lua_pushcfunction (L, tell);
  lua_pushlightuserdata (L, host);
  if (lua_pcall (L, 1, 0, 0) != LUA_OK)
    lua_pop (L, 1);
  return host->ready.first != NULL;
}

int deadlock_on_stall (lua_State *L) {
  allua *host = allua_of (L);
  lua_settop (L, 1);
  host->stalled = lua_isnil (L, 1) ? NULL : stalled;
  lua_rawgetp (L, LUA_REGISTRYINDEX, &on_stall);
  lua_insert (L, 1);
  lua_rawsetp (L, LUA_REGISTRYINDEX, &on_stall);
  return 1;
}

/* Argument: the host. */
static int make_error (lua_State *L) {
  push_error (L, lua_touserdata (L, 1));
  return 1;
}

int deadlock_break (allua *host, lua_State *L, struct group *group, bool (*done) (void *data),
                    void *data) {
  int error;
  if (host->close_asked)
    return luaL_error (L, "the host was closed while this ran");
  /* Protected: for want of memory to say why, the group must not stay. */
  lua_pushcfunction (L, make_error);
  lua_pushlightuserdata (L, host);
  lua_pcall (L, 1, 1, 0);
  error = lua_gettop (L);
  lua_pushvalue (L, error);
  lua_xmove (L, host->L, 1);
  settle_abort (group, true);
  if (!sched_run (host, L, done, data))
    settle_stop_all (host);
  lua_pushvalue (L, error);
  lua_pushnil (L);
  error_raised (L, host, -2);
  return lua_error (L);
}
