#include "script.h"

#include <string.h>

#include "all.h"
#include "error.h"

void script_forget_error (allua *host) {
  mem_resize (&host->mem, host->error, host->error_size, 0);
  host->error = NULL;
  host->error_size = 0;
}

/* Arguments: the error, the host. */
static int make_report (lua_State *L) {
  allua *host = lua_touserdata (L, 2);
  error_push_record (L, host, 1);
  error_push_report (L, 1);
  return 1;
}

void script_keep_error (lua_State *L, allua *host) {
  const char *report = "not enough memory";
  size_t size;
  script_forget_error (host);
  lua_pushcfunction (L, make_report);
  lua_insert (L, -2);
  lua_pushlightuserdata (L, host);
  if (lua_pcall (L, 2, 1, 0) == LUA_OK)
    report = lua_tostring (L, -1);
  size = strlen (report) + 1;
  host->error = mem_resize (&host->mem, NULL, 0, size);
  if (host->error) {
    memcpy (host->error, report, size);
    host->error_size = size;
  }
  lua_pop (L, 1);
}

int script_refuse_nested (lua_State *L) {
  lua_pushliteral (L, "cannot run inside a run, or in a callback of the loop: use allua_start");
  return 1;
}

/* Arguments: the host, then the function and its own. */
static int run (lua_State *L) {
  allua *host = lua_touserdata (L, 1);
  lua_remove (L, 1);
  all_run (L, host, lua_gettop (L) - 1);
  return 0;
}

/* The message handler of a run: an error from outside every task still wants its traceback. */
static int add_traceback (lua_State *L) {
  allua *host = allua_of (L);
  error_push_record (L, host, 1);
  if (lua_isnil (L, -1) && lua_type (L, 1) == LUA_TSTRING) {
    luaL_traceback (L, L, lua_tostring (L, 1), 1);
    return 1;
  }
  lua_settop (L, 1);
  return 1;
}

int script_run (allua *host, int arguments) {
  lua_State *L = host->main;
  int base = lua_gettop (L) - arguments, status;
  script_forget_error (host);
  if (!lua_checkstack (L, LUA_MINSTACK)) {
    lua_settop (L, base - 1);
    return ALLUA_MEMORY;
  }
  lua_pushcfunction (L, add_traceback);
  lua_insert (L, base);
  lua_pushcfunction (L, run);
  lua_insert (L, base + 1);
  lua_pushlightuserdata (L, host);
  lua_insert (L, base + 2);
  status = lua_pcall (L, arguments + 2, 0, base);
  if (status != LUA_OK) {
    host_push (host, L, SLOT_MEMORY);
    status = lua_rawequal (L, -1, -2) ? ALLUA_MEMORY : ALLUA_ERROR;
    lua_pop (L, 1);
    script_keep_error (L, host);
  }
  lua_settop (L, base - 1);
  return status;
}
