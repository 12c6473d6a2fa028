#include "signal.h"

#include <math.h>
#include <string.h>

#include "all.h"
#include "error.h"
#include "settle.h"

struct signal *signal_new (lua_State *L, allua *host) {
  struct signal *signal = lua_newuserdatauv (L, sizeof *signal, 2);
  memset (signal, 0, sizeof *signal);
  host_push (host, L, SLOT_SIGNAL);
  lua_setmetatable (L, -2);
  return signal;
}

struct signal *signal_at (lua_State *L, allua *host, int index) {
  bool same = false;
  if (lua_type (L, index) == LUA_TUSERDATA && lua_getmetatable (L, index)) {
    host_push (host, L, SLOT_SIGNAL);
    same = lua_rawequal (L, -1, -2);
    lua_pop (L, 2);
  }
  return same ? lua_touserdata (L, index) : NULL;
}

static struct signal *check (lua_State *L, allua *host) {
  struct signal *signal = signal_at (L, host, 1);
  if (!signal)
    luaL_typeerror (L, 1, "signal");
  return signal;
}

void signal_listen (lua_State *L, int index, struct group *group) {
  struct signal *signal = lua_touserdata (L, index);
  struct group_options *options = group->options;
  if (signal->aborted) {
    lua_getiuservalue (L, index, 1);
    lua_xmove (L, group->host->L, 1);
    settle_abort (group, true);
    return;
  }
  options->signal_next = signal->groups;
  options->signal_back = &signal->groups;
  if (signal->groups)
    signal->groups->signal_back = &options->signal_next;
  signal->groups = options;
}

static int report_listener (lua_State *L) {
  error_push_message (L, 1);
  lua_pushfstring (L, "allua: a listener of a signal failed: %s", lua_tostring (L, -1));
  lua_warning (L, lua_tostring (L, -1), 0);
  return 0;
}

/* Run listeners from the `next`th on: the signal is at 1, their table at 2. Each may wait. */
static int run_listeners (lua_State *L, int status, lua_KContext next) {
  struct signal *signal = lua_touserdata (L, 1);
  for (;;) {
    if (status != LUA_OK && status != LUA_YIELD) {
      lua_pushcfunction (L, report_listener);
      lua_insert (L, -2);
      lua_pcall (L, 1, 0, 0);
    }
    lua_settop (L, 2);
    if (next > signal->last)
      return 0;
    status = LUA_OK;
    if (lua_rawgeti (L, 2, next++) == LUA_TNIL)
      continue;
    lua_pushnil (L);
    lua_rawseti (L, 2, next - 1);
    lua_getiuservalue (L, 1, 1);
    status = lua_pcallk (L, 1, 0, 0, next, run_listeners);
  }
}

static int start_listeners (lua_State *L) {
  lua_settop (L, 1);
  if (lua_getiuservalue (L, 1, 2) == LUA_TNIL)
    return 0;
  return run_listeners (L, LUA_OK, 1);
}

/* Arguments: the signal, its group (light). A task for the listeners. */
static int launch_listeners (lua_State *L) {
  struct group *group = lua_touserdata (L, 2), *listeners;
  allua *host = group->host;
  host_push (host, L, SLOT_BOX);
  lua_pushcclosure (L, start_listeners, 1);
  lua_pushvalue (L, 1);
  listeners = all_single (L, host, GROUP_SPAWN, 1, HUGE_VAL);
  all_begin (listeners, group->owner);
  return 0;
}

void signal_push_of (lua_State *L, int index) {
  struct group *group = lua_touserdata (L, index);
  struct signal *signal;
  index = lua_absindex (L, index);
  if (group_get (L, index, SIGNAL) != LUA_TNIL)
    return;
  lua_pop (L, 1);
  signal = signal_new (L, group->host);
  signal->aborted = group->cancelled;
  if (group->cancelled) {
    if (!group->ended)
      group_push_reason (L, &group->tasks[0]);
    else
      group_get (L, index, REASON);
    lua_setiuservalue (L, -2, 1);
  }
  lua_pushvalue (L, -1);
  group_set (L, index, SIGNAL);
  group->has_signal = true;
}

void signal_abort_group (struct group *group) {
  lua_State *L = group->host->L;
  struct signal *signal;
  group_peek (L, group, SIGNAL);
  signal = lua_touserdata (L, -1);
  if (!signal->aborted) {
    signal->aborted = true;
    /* While the group is under way its reason can be found; no member has one of its own. */
    if (group->own_reason)
      group_peek (L, group, REASON);
    else if (group->owner)
      group_push_reason (L, group->owner);
    else
      lua_pushnil (L);
    lua_setiuservalue (L, -2, 1);
    while (signal->groups) {
      struct group *listener = signal->groups->group;
      lua_getiuservalue (L, -1, 1);
      settle_detach (listener);
      settle_abort (listener, true);
    }
    if (lua_getiuservalue (L, -1, 2) != LUA_TNIL) {
      lua_State *worker = group->host->worker;
      lua_pushcfunction (worker, launch_listeners);
      lua_pushvalue (L, -2);
      lua_xmove (L, worker, 1);
      lua_pushlightuserdata (worker, group);
      if (lua_pcall (worker, 2, 0, 0) != LUA_OK) {
        lua_warning (worker, "allua: not enough memory to call the listeners of a signal", 0);
        lua_pop (worker, 1);
      }
    }
    lua_pop (L, 1);
  }
  lua_pop (L, 1);
}

/* controller:abort (reason) */
static int controller_abort (lua_State *L) {
  allua *host = host_of (L);
  struct signal *signal;
  luaL_checkudata (L, 1, "allua.controller");
  lua_settop (L, 2);
  lua_getiuservalue (L, 1, 1);
  signal = lua_touserdata (L, 3);
  if (signal->aborted)
    return 0;
  if (lua_isnil (L, 2)) {
    error_push (L, host, "AbortError", "aborted");
    lua_replace (L, 2);
  }
  signal->aborted = true;
  lua_pushvalue (L, 2);
  lua_setiuservalue (L, 3, 1);
  while (signal->groups) {
    struct group *group = signal->groups->group;
    lua_pushvalue (L, 2);
    lua_xmove (L, host->L, 1);
    settle_detach (group);
    settle_abort (group, true);
  }
  lua_replace (L, 1);
  return start_listeners (L);
}

static int controller_index (lua_State *L) {
  const char *key = luaL_checkstring (L, 2);
  luaL_checkudata (L, 1, "allua.controller");
  if (strcmp (key, "signal") == 0)
    lua_getiuservalue (L, 1, 1);
  else if (strcmp (key, "abort") == 0)
    lua_pushvalue (L, lua_upvalueindex (2));
  else
    lua_pushnil (L);
  return 1;
}

int signal_controller (lua_State *L) {
  allua *host = host_of (L);
  lua_newuserdatauv (L, 1, 1);
  host_push (host, L, SLOT_CONTROLLER);
  lua_setmetatable (L, -2);
  signal_new (L, host);
  lua_setiuservalue (L, -2, 1);
  return 1;
}

/* The function that removes a listener; upvalues: box, signal, its number. */
static int remove_listener (lua_State *L) {
  if (lua_getiuservalue (L, lua_upvalueindex (2), 2) != LUA_TNIL) {
    lua_pushnil (L);
    lua_rawseti (L, -2, lua_tointeger (L, lua_upvalueindex (3)));
  }
  return 0;
}

static int on_abort (lua_State *L) {
  allua *host = host_of (L);
  struct signal *signal = check (L, host);
  lua_settop (L, 2);
  if (!lua_isfunction (L, 2) && luaL_getmetafield (L, 2, "__call") == LUA_TNIL)
    return luaL_error (L, "on_abort: expected a function (got %s)", luaL_typename (L, 2));
  lua_settop (L, 2);
  if (signal->aborted) {
    lua_pushvalue (L, 2);
    lua_getiuservalue (L, 1, 1);
    lua_call (L, 1, 0);
  } else {
    if (lua_getiuservalue (L, 1, 2) == LUA_TNIL) {
      lua_newtable (L);
      lua_replace (L, 3);
      lua_pushvalue (L, 3);
      lua_setiuservalue (L, 1, 2);
    }
    lua_pushvalue (L, 2);
    lua_rawseti (L, 3, ++signal->last);
  }
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushvalue (L, 1);
  lua_pushinteger (L, signal->aborted ? 0 : signal->last);
  lua_pushcclosure (L, remove_listener, 3);
  return 1;
}

static int throw_if_aborted (lua_State *L) {
  struct signal *signal = check (L, host_of (L));
  if (!signal->aborted)
    return 0;
  lua_getiuservalue (L, 1, 1);
  return lua_error (L);
}

static int signal_index (lua_State *L) {
  struct signal *signal = check (L, host_of (L));
  const char *key = luaL_checkstring (L, 2);
  if (strcmp (key, "aborted") == 0)
    lua_pushboolean (L, signal->aborted);
  else if (strcmp (key, "reason") == 0)
    lua_getiuservalue (L, 1, 1);
  else
    lua_getfield (L, lua_upvalueindex (2), key);
  return 1;
}

void signal_open (lua_State *L, allua *host) {
  static const luaL_Reg methods[]
      = { { "on_abort", on_abort }, { "throw_if_aborted", throw_if_aborted }, { NULL, NULL } };
  host_push (host, L, SLOT_SIGNAL);
  host_push (host, L, SLOT_BOX);
  luaL_newlibtable (L, methods);
  host_push (host, L, SLOT_BOX);
  luaL_setfuncs (L, methods, 1);
  lua_pushcclosure (L, signal_index, 2);
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
  host_push (host, L, SLOT_CONTROLLER);
  host_push (host, L, SLOT_BOX);
  host_push (host, L, SLOT_BOX);
  lua_pushcclosure (L, controller_abort, 1);
  lua_pushcclosure (L, controller_index, 2);
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
}
