#include "options.h"

#include <math.h>
#include <string.h>

#include "error.h"
#include "settle.h"
#include "signal.h"
#include "trace.h"

static bool is_callable (lua_State *L, int index) {
  if (lua_isfunction (L, index))
    return true;
  if (luaL_getmetafield (L, index, "__call") == LUA_TNIL)
    return false;
  lua_pop (L, 1);
  return true;
}

static bool is_timeout (lua_State *L, int index) {
  return lua_type (L, index) == LUA_TNUMBER && lua_tonumber (L, index) >= 0;
}

static bool is_count (lua_State *L, int index) {
  int integer;
  lua_Integer count = lua_tointegerx (L, index, &integer);
  return lua_type (L, index) == LUA_TNUMBER && integer && count >= 1;
}

static bool is_name (lua_State *L, int index) {
  return lua_type (L, index) == LUA_TSTRING;
}

static bool is_flag (lua_State *L, int index) {
  return lua_type (L, index) == LUA_TBOOLEAN;
}

static const struct {
  const char *name, *expected;
  bool (*check) (lua_State *L, int index); /* NULL: a signal */
} known[] = {
  { "signal", "a signal", NULL },
  { "timeout", "a number of seconds, 0 or more", is_timeout },
  { "concurrency", "an integer, 1 or more", is_count },
  { "on_settle", "a function", is_callable },
  { "name", "a string", is_name },
  { "debug", "a boolean", is_flag },
};
enum { KNOWN = sizeof known / sizeof *known };

static void refuse (lua_State *L, const char *function, int key) {
  struct near near;
  size_t i, length;
  const char *name;
  if (lua_type (L, key) != LUA_TSTRING)
    luaL_error (L, "%s: option names are strings (got %s)", function, luaL_typename (L, key));
  name = lua_tolstring (L, key, &length);
  error_near_open (&near, name, length);
  for (i = 0; i < KNOWN; i++)
    error_near_add (&near, known[i].name, strlen (known[i].name));
  luaL_error (L, "%s: unknown option \"%s\"%s", function, name, error_near_hint (L, &near));
}

void options_check (lua_State *L, allua *host, int index, const char *name) {
  if (!lua_istable (L, index))
    luaL_error (L, "%s: expected a table of options (got %s)", name, luaL_typename (L, index));
  for (lua_pushnil (L); lua_next (L, index); lua_pop (L, 1)) {
    const char *key = lua_type (L, -2) == LUA_TSTRING ? lua_tostring (L, -2) : "";
    int i, value = lua_gettop (L);
    for (i = 0; i < KNOWN && strcmp (key, known[i].name) != 0; i++)
      ;
    if (i == KNOWN)
      refuse (L, name, value - 1);
    else if (!(known[i].check ? known[i].check (L, value) : signal_at (L, host, value) != NULL))
      luaL_error (L, "%s: option \"%s\" must be %s (got %s)", name, key, known[i].expected,
                  lua_type (L, value) == LUA_TNUMBER ? lua_tostring (L, value)
                                                     : luaL_typename (L, value));
  }
}

/* Push an option's value; false (nothing pushed) where it is not given. */
static bool get (lua_State *L, int index, const char *name) {
  lua_pushstring (L, name);
  if (lua_rawget (L, index) != LUA_TNIL)
    return true;
  lua_pop (L, 1);
  return false;
}

void options_apply (lua_State *L, int index, int group_index) {
  struct group_options *options = group_extend (L, group_index);
  if (get (L, index, "signal"))
    group_set (L, group_index, OUTSIDE);
  if (get (L, index, "timeout")) {
    options->timeout_seconds = lua_tonumber (L, -1);
    lua_pop (L, 1);
  }
  if (get (L, index, "concurrency")) {
    lua_Integer limit = lua_tointeger (L, -1);
    options->limit = limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX;
    lua_pop (L, 1);
  }
  if (get (L, index, "on_settle")) {
    options->on_settle = true;
    group_set (L, group_index, ON_SETTLE);
  }
  if (get (L, index, "name"))
    group_set (L, group_index, LABEL);
  if (get (L, index, "debug")) {
    if (lua_toboolean (L, -1))
      trace_open (L, group_index, true);
    else
      options->unseen = true;
    lua_pop (L, 1);
  }
}

static int make_timeout_error (lua_State *L) {
  struct group *group = lua_touserdata (L, 1);
  luaL_Buffer text;
  const char *separator = "";
  uint32_t i;
  int told = 0;
  luaL_buffinit (L, &text);
  for (i = 0; i < group->size; i++) {
    struct task *task = &group->tasks[i];
    if (task->promise.status != PROMISE_PENDING || group->kind == GROUP_CALL)
      continue;
    if (++told > 20) {
      luaL_addstring (&text, ", ...");
      break;
    }
    luaL_addstring (&text, separator);
    group_push_title (L, task, false);
    luaL_tolstring (L, -1, NULL);
    lua_remove (L, -2);
    luaL_addvalue (&text);
    separator = ", ";
  }
  luaL_pushresult (&text);
  lua_pushfstring (L, "%f", group->options->timeout_seconds);
  error_push (L, group->host, "TimeoutError", "timed out after %s s%s%s", lua_tostring (L, -1),
              told ? "; still running: " : "", lua_tostring (L, -2));
  return 1;
}

static void on_timeout (allua *host, struct timer *timer) {
  struct group_options *options
      = (struct group_options *)((char *)timer - offsetof (struct group_options, timeout));
  lua_pushcfunction (host->worker, make_timeout_error);
  lua_pushlightuserdata (host->worker, options->group);
  lua_pcall (host->worker, 1, 1, 0); /* without memory for it, the error of that is the reason */
  lua_xmove (host->worker, host->L, 1);
  settle_abort (options->group, true);
}

bool options_start_timer (struct group *group) {
  struct group_options *options = group->options;
  return !options || options->timeout_seconds == HUGE_VAL
         || timer_start (group->host, &options->timeout, options->timeout_seconds, on_timeout);
}

void options_listen (lua_State *L, int group_index) {
  struct group *group = lua_touserdata (L, group_index);
  if (group_get (L, group_index, OUTSIDE) != LUA_TNIL)
    signal_listen (L, lua_gettop (L), group);
  lua_pop (L, 1);
}
