#include "watch.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "group.h"

enum { EVERY = 10000 }; /* instructions */

static double now (void) {
  struct timespec time;
  clock_gettime (CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static bool is_same (const struct watch *watch, const allua *host) {
  return host->current == watch->task && host->steps == watch->steps && host->turn == watch->turn;
}

bool watch_note (allua *host) {
  struct watch *watch = &host->watch;
  double held;
  if (!host->current || !is_same (watch, host)) {
    watch->task = host->current;
    watch->steps = host->steps;
    watch->turn = host->turn;
    watch->since = now ();
    watch->warned = false;
    return false;
  }
  held = now () - watch->since;
  return (watch->slow > 0 && held > watch->slow && !watch->warned)
         || (watch->stuck > 0 && held > watch->stuck);
}

/* Argument: the task that runs. Leaves the warning. */
static int make_warning (lua_State *L) {
  const struct task *task = lua_touserdata (L, 1), *up;
  luaL_Buffer text;
  luaL_buffinit (L, &text);
  lua_pushfstring (L, "a task has held the loop for longer than %f s\n",
                   task->group->host->watch.slow);
  luaL_addvalue (&text);
  luaL_traceback (L, L, NULL, 1);
  luaL_addvalue (&text);
  for (up = task; up; up = up->group->owner) {
    luaL_addstring (&text, "\ntask \"");
    group_push_name (L, up);
    luaL_tolstring (L, -1, NULL);
    lua_remove (L, -2);
    luaL_addvalue (&text);
    luaL_addchar (&text, '"');
  }
  luaL_pushresult (&text);
  return 1;
}

static void warn (lua_State *L, allua *host) {
  if (!lua_checkstack (L, 2 * LUA_MINSTACK))
    return;
  lua_pushcfunction (L, make_warning);
  lua_pushlightuserdata (L, host->current);
  if (lua_pcall (L, 1, 1, 0) == LUA_OK) {
    if (host->on_slow) {
      host->on_slow (host, lua_tostring (L, -1), host->data);
    } else {
      lua_warning (L, "allua: ", 1);
      lua_warning (L, lua_tostring (L, -1), 0);
    }
  }
  lua_pop (L, 1);
}

void watch_look (lua_State *L, allua *host) {
  struct watch *watch = &host->watch;
  double held = now () - watch->since;
  if (!host->current || host->running != L || !is_same (watch, host))
    return;
  if (watch->slow > 0 && held > watch->slow && !watch->warned) {
    watch->warned = true;
    warn (L, host);
  }
  if (watch->stuck > 0 && held > watch->stuck) {
    watch->since = now (); /* one that catches it is ended again after as long */
    luaL_checkstack (L, LUA_MINSTACK, NULL);
    group_push_name (L, host->current);
    luaL_tolstring (L, -1, NULL);
    error_push (L, host, "StuckError", "task \"%s\" held the loop for longer than %f s",
                lua_tostring (L, -1), watch->stuck);
    lua_error (L);
  }
}

static void on_count (lua_State *L, lua_Debug *info) {
  allua *host = allua_of (L);
  (void)info;
  if (host && watch_note (host))
    watch_look (L, host);
}

void watch_arm (lua_State *co, const allua *host) {
  lua_Hook hook = lua_gethook (co);
  if (host->watch.counts && !hook)
    lua_sethook (co, on_count, LUA_MASKCOUNT, EVERY);
  else if (!host->watch.counts && hook == on_count)
    lua_sethook (co, NULL, 0, 0);
}

void watch_count (allua *host, double slow, double stuck) {
  struct group *group;
  size_t i;
  host->watch.slow = slow;
  host->watch.stuck = stuck;
  host->watch.counts = slow > 0 || stuck > 0;
  for (i = 0; i < host->pooled; i++)
    watch_arm (host->pool[i].co, host);
  for (group = host->roots; group; group = group_walk (group)) {
    uint32_t at;
    for (at = 0; at < group->size; at++)
      if (group->tasks[at].co)
        watch_arm (group->tasks[at].co, host);
  }
  if (host->running)
    watch_arm (host->running, host);
}

/* The field of the table at 1, 0: it is not there. */
static double check_seconds (lua_State *L, const char *field) {
  double seconds = 0;
  if (lua_getfield (L, 1, field) != LUA_TNIL) {
    seconds = lua_tonumber (L, -1);
    if (lua_type (L, -1) != LUA_TNUMBER || !(seconds > 0) || seconds == HUGE_VAL)
      luaL_error (L, "watchdog: expected a number of seconds, more than 0, for %s (got %s)", field,
                  luaL_tolstring (L, -1, NULL));
  }
  lua_pop (L, 1);
  return seconds;
}

int watch_set (lua_State *L) {
  allua *host = host_of (L);
  double slow = 0, stuck = 0;
  lua_settop (L, 1);
  if (!lua_isnil (L, 1)) {
    if (!lua_istable (L, 1))
      return luaL_error (L, "watchdog: expected a table of options (got %s)", luaL_typename (L, 1));
    for (lua_pushnil (L); lua_next (L, 1); lua_pop (L, 1)) {
      const char *name = lua_type (L, -2) == LUA_TSTRING ? lua_tostring (L, -2) : NULL;
      struct near near;
      if (name && (strcmp (name, "slow_turn") == 0 || strcmp (name, "stuck_turn") == 0))
        continue;
      name = luaL_tolstring (L, -2, NULL);
      error_near_open (&near, name, strlen (name));
      error_near_add (&near, "slow_turn", 9);
      error_near_add (&near, "stuck_turn", 10);
      return luaL_error (L, "watchdog: unknown option \"%s\"%s", name, error_near_hint (L, &near));
    }
    slow = check_seconds (L, "slow_turn");
    stuck = check_seconds (L, "stuck_turn");
  }
  watch_count (host, slow, stuck);
  return 0;
}
