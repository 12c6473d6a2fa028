#include "lib.h"

#include <math.h>
#include <string.h>

#include "all.h"
#include "blob.h"
#include "builtin.h"
#include "clock.h"
#include "context.h"
#include "coroutine.h"
#include "deadlock.h"
#include "dump.h"
#include "error.h"
#include "fetch.h"
#include "fetch_multi.h"
#include "gate.h"
#include "json.h"
#include "loop.h"
#include "postgres.h"
#include "progress.h"
#include "promise_object.h"
#include "self.h"
#include "serve.h"
#include "shape.h"
#include "signal.h"
#include "sqlite.h"
#include "sqlite_query.h"
#include "tracer.h"
#include "watch.h"

/* sleep (seconds) */
static int lib_sleep (lua_State *L) {
  allua *host = host_of (L);
  double seconds = lua_type (L, 1) == LUA_TNUMBER ? lua_tonumber (L, 1) : -1;
  struct task *task;
  if (lua_isnone (L, 1))
    lua_pushnil (L);
  if (!(seconds >= 0) || seconds == HUGE_VAL)
    return luaL_error (L, "sleep: expected a number of seconds, 0 or more (got %s)",
                       luaL_tolstring (L, 1, NULL));
  task = task_enter (L, host);
  return task ? sched_sleep (L, task, seconds) : all_run_outside (L, host);
}

static int lib_yield (lua_State *L) {
  allua *host = host_of (L);
  struct task *task = task_enter (L, host);
  return task ? sched_give_way (L, task) : all_run_outside (L, host);
}

static int lib_now (lua_State *L) {
  lua_pushnumber (L, clock_seconds (host_of (L)));
  return 1;
}

static int shield_done (lua_State *L, int status, lua_KContext ctx) {
  allua *host = host_of (L);
  (void)ctx;
  host->current->shields--;
  if (status != LUA_OK && status != LUA_YIELD)
    return lua_error (L);
  return lua_gettop (L) - 1;
}

/* shield (fn, ...) */
static int lib_shield (lua_State *L) {
  allua *host = host_of (L);
  struct task *task = host->current;
  if (!lua_isfunction (L, 1) && luaL_getmetafield (L, 1, "__call") == LUA_TNIL)
    return luaL_error (L, "shield: expected a function (got %s)", luaL_typename (L, 1));
  if (!lua_isfunction (L, 1))
    lua_pop (L, 1);
  if (!task || host->running != L) {
    lua_call (L, lua_gettop (L) - 1, LUA_MULTRET);
    return lua_gettop (L);
  }
  if (task->shields == UINT8_MAX)
    return luaL_error (L, "too many shields inside each other");
  luaL_checkstack (L, 4, NULL);
  host_push (host, L, SLOT_TASK_FAILED);
  lua_insert (L, 1);
  task->shields++;
  return shield_done (L, lua_pcallk (L, lua_gettop (L) - 2, LUA_MULTRET, 1, 0, shield_done), 0);
}

/* is_error (e [, name]) */
static int lib_is_error (lua_State *L) {
  allua *host = host_of (L);
  const char *name = luaL_optstring (L, 2, NULL);
  bool is = false;
  luaL_checkany (L, 1);
  if (lua_istable (L, 1) && lua_getmetatable (L, 1)) {
    host_push (host, L, SLOT_ERROR);
    is = lua_rawequal (L, -1, -2) || error_is_cancelled (L, host, 1);
    if (is && name) {
      lua_getfield (L, 1, "name");
      is = lua_isstring (L, -1) && strcmp (lua_tostring (L, -1), name) == 0;
    }
  }
  lua_pushboolean (L, is);
  return 1;
}

/* core.error (fields): an error table of allua's. */
static int core_error (lua_State *L) {
  luaL_checktype (L, 1, LUA_TTABLE);
  lua_settop (L, 1);
  host_push (host_of (L), L, SLOT_ERROR);
  lua_setmetatable (L, 1);
  return 1;
}

static void count_handle (uv_handle_t *handle, void *data) {
  size_t *count = data;
  if (uv_is_active (handle) && !uv_is_closing (handle))
    ++*count;
}

static void set_count (lua_State *L, const char *field, size_t count) {
  lua_pushinteger (L, (lua_Integer)count);
  lua_setfield (L, -2, field);
}

/* core.census () → what is alive. */
static int core_census (lua_State *L) {
  allua *host = host_of (L);
  size_t handles = 0;
  uv_walk (host->loop, count_handle, &handles);
  lua_createtable (L, 0, 8);
  set_count (L, "tasks", host->live_tasks);
  set_count (L, "groups", host->live_groups);
  set_count (L, "promises", host->live_promises);
  set_count (L, "coroutines", host->live_coroutines);
  set_count (L, "timers", host->timer_count);
  set_count (L, "clocks", clock_count (host));
  set_count (L, "reported", host->reported);
  set_count (L, "handles", handles - loop_count_active (host) - fetch_multi_count_idle (host));
  return 1;
}

/* core.keep_clocks (count): close the virtual clocks that were opened after these. */
static int core_keep_clocks (lua_State *L) {
  clock_keep (host_of (L), (size_t)luaL_checkinteger (L, 1));
  return 0;
}

/* core.collect (): give pooled coroutines and remembered shapes back. */
static int core_collect (lua_State *L) {
  task_trim (host_of (L), 0);
  shape_forget (host_of (L));
  return 0;
}

/* core.task () → an identity of the running task, or nil. */
static int core_task (lua_State *L) {
  allua *host = host_of (L);
  if (!host->current)
    return 0;
  lua_pushlightuserdata (L, host->current);
  return 1;
}

/* core.answers (t): while t[1] is the event of a request, the running task, which was spawned, is there for it: so
   a dump says. */
static int core_answers (lua_State *L) {
  allua *host = host_of (L);
  luaL_checktype (L, 1, LUA_TTABLE);
  lua_settop (L, 1);
  if (!host->current || host->current->group->kind != GROUP_SPAWN)
    return luaL_error (L, "answers: not a spawned task");
  lua_xmove (L, host->L, 1);
  group_put (host->current->group, AUX);
  return 0;
}

/* core.within (task) → whether the running task is that one, or descends from it. */
static int core_within (lua_State *L) {
  struct task *task = host_of (L)->current;
  while (task && task != lua_touserdata (L, 1))
    task = task->group->owner;
  lua_pushboolean (L, task != NULL);
  return 1;
}

/* core.origin () → where the running task comes from, "app.lua:12": where its function begins, or it was spawned;
   nil: not in Lua. */
static int core_origin (lua_State *L) {
  struct task *task = host_of (L)->current;
  struct group *group = task ? task->group : NULL;
  lua_Debug info;
  if (!group)
    return 0;
  if (group->kind == GROUP_SPAWN) {
    group_peek (L, group, STARTED);
    return 1;
  }
  if (group->kind == GROUP_CALL) {
    error_push_place (L, group->at ? group->at : L, 0);
    return 1;
  }
  if (group->kind == GROUP_MAP) {
    group_peek (L, group, AUX);
  } else {
    group_load (group);
    group_push_own (group->host->L, SLOT_GROUP, task);
    lua_xmove (group->host->L, L, 1);
  }
  if (!lua_isfunction (L, -1) || !lua_getinfo (L, ">S", &info) || info.linedefined <= 0)
    return 0;
  lua_pushfstring (L, "%s:%d", info.short_src, info.linedefined);
  return 1;
}

/* core.waits ([times]) → what each unfinished task waits for, as text; times: and for how long. */
static int core_waits (lua_State *L) {
  dump_push (L, host_of (L), true, lua_toboolean (L, 1));
  return 1;
}

/* Push "file:line: " of the innermost Lua function on `at` that is not of the Lua half, whose files begin with
   `own`. Returns whether there is one. */
static bool push_where (lua_State *L, lua_State *at, int level, const char *own) {
  lua_Debug info;
  for (; lua_getstack (at, level, &info); level++) {
    lua_getinfo (at, "Sl", &info);
    if (info.currentline > 0 && strncmp (info.source, "@allua/", 7) != 0
        && strncmp (info.source, own, strlen (own)) != 0) {
      lua_pushfstring (L, "%s:%d: ", info.short_src, info.currentline);
      return true;
    }
  }
  return false;
}

/* core.where () → "file:line: " of what called the Lua half: in this task, or in the one that it was started by; ""
   where there is none. */
static int core_where (lua_State *L) {
  const allua *host = host_of (L);
  const struct task *task = host->current;
  const char *own = lua_pushfstring (L, "@%s/allua/", host->path ? host->path : "allua");
  if (push_where (L, L, 1, own))
    return 1;
  for (; task; task = task->group->owner)
    if (task->group->at && push_where (L, task->group->at, 0, own))
      return 1;
  lua_pushliteral (L, "");
  return 1;
}

/* core.near (name, list) → a hint, "" when no candidate is near. */
static int core_near (lua_State *L) {
  struct near near;
  size_t length;
  const char *name = luaL_checklstring (L, 1, &length);
  lua_Integer i;
  error_near_open (&near, name, length);
  for (i = 1; lua_rawgeti (L, 2, i) == LUA_TSTRING; i++) {
    name = lua_tolstring (L, -1, &length);
    error_near_add (&near, name, length);
    lua_pop (L, 1);
  }
  error_near_hint (L, &near);
  return 1;
}

/* dump () → every task that has not ended, as text. */
static int lib_dump (lua_State *L) {
  dump_push (L, host_of (L), false, true);
  lua_pushstring (L, lua_tostring (L, -1) + (lua_rawlen (L, -1) ? 1 : 0));
  return 1;
}

/* core.describe (e), allua.traceback (e) → the report of an error that was caught: message, traceback, chain of tasks. */
static int core_describe (lua_State *L) {
  luaL_checkany (L, 1);
  lua_settop (L, 1);
  error_find_record (L, host_of (L), 1);
  error_push_report (L, 1);
  return 1;
}

/* core.report (): what nobody awaited is told now. */
static int core_report (lua_State *L) {
  promise_report_unhandled (L, host_of (L));
  return 0;
}

static int read_only (lua_State *L) {
  return luaL_error (L, "allua.context is read-only: set values with allua.with(values, fn)");
}

static void push_context (lua_State *L) {
  lua_newuserdatauv (L, 0, 0);
  lua_createtable (L, 0, 3);
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushcclosure (L, context_index, 1);
  lua_setfield (L, -2, "__index");
  lua_pushcfunction (L, read_only);
  lua_setfield (L, -2, "__newindex");
  lua_pushliteral (L, "allua.context");
  lua_setfield (L, -2, "__metatable");
  lua_setmetatable (L, -2);
}

/* Load one module of the Lua half, which gets its name and "allua.core": upvalue 2 is its place in the list. */
static int load_module (lua_State *L) {
  allua *host = host_of (L);
  const struct builtin *module = &builtin_modules[lua_tointeger (L, lua_upvalueindex (2))];
  const char *file = strchr (module->name, '.');
  int status;
  if (host->path) {
    lua_pushfstring (L, "%s/allua/%s.lua", host->path, file ? file + 1 : "init");
    status = luaL_loadfile (L, lua_tostring (L, -1));
  } else {
    lua_pushfstring (L, "@allua/%s.lua", file ? file + 1 : "init");
    status
        = luaL_loadbufferx (L, (const char *)module->text, module->size, lua_tostring (L, -1), "t");
  }
  if (status != LUA_OK)
    return lua_error (L);
  lua_pushvalue (L, 1);
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield (L, -1, "allua.core");
  lua_remove (L, -2);
  lua_call (L, 2, 1);
  return 1;
}

static void push_loader (lua_State *L, allua *host, const char *name) {
  lua_Integer i;
  for (i = 0; builtin_modules[i].name && strcmp (builtin_modules[i].name, name) != 0; i++)
    ;
  if (!builtin_modules[i].name)
    luaL_error (L, "allua has no part \"%s\"", name);
  host_push (host, L, SLOT_BOX);
  lua_pushinteger (L, i);
  lua_pushcclosure (L, load_module, 2);
}

void lib_preload (lua_State *L, allua *host) {
  const struct builtin *module;
  for (module = builtin_modules; module->name; module++) {
    if (strcmp (module->name, "allua") == 0)
      continue;
    push_loader (L, host, module->name);
    lua_setfield (L, -2, module->name);
  }
}

/* core.load (name): require for the Lua half's own modules, whatever a script does to require. */
static int core_load (lua_State *L) {
  const char *name = luaL_checkstring (L, 1);
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield (L, -1, name) == LUA_TNIL) {
    push_loader (L, host_of (L), name);
    lua_pushstring (L, name);
    lua_call (L, 1, 1);
    lua_pushvalue (L, -1);
    lua_setfield (L, 2, name);
  }
  return 1;
}

static int required (lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return lua_gettop (L);
}

/* allua.require: that of the Lua half (upvalue 2), which is loaded for the first module that is not there. */
static int lua_require (lua_State *L) {
  lua_settop (L, 1);
  if (lua_type (L, 1) == LUA_TSTRING) {
    luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue (L, 1);
    lua_gettable (L, 2);
    if (lua_toboolean (L, -1))
      return 1;
    lua_settop (L, 1);
  }
  if (lua_isnil (L, lua_upvalueindex (2))) {
    lua_pushvalue (L, lua_upvalueindex (1));
    lua_pushcclosure (L, core_load, 1);
    lua_pushliteral (L, "allua.require");
    lua_call (L, 1, 1);
    lua_replace (L, lua_upvalueindex (2));
  }
  lua_pushvalue (L, lua_upvalueindex (2));
  lua_insert (L, 1);
  lua_callk (L, 1, LUA_MULTRET, 0, required);
  return lua_gettop (L);
}

static const luaL_Reg functions[] = { { "sleep", lib_sleep },
                                      { "yield", lib_yield },
                                      { "now", lib_now },
                                      { "shield", lib_shield },
                                      { "with", context_with },
                                      { "progress", progress_set },
                                      { "promise", promise_object_new },
                                      { "abort_controller", signal_controller },
                                      { "is_error", lib_is_error },
                                      { "dump", lib_dump },
                                      { "watchdog", watch_set },
                                      { "traceback", core_describe },
                                      { NULL, NULL } };

static const luaL_Reg core[] = { { "error", core_error },
                                 { "census", core_census },
                                 { "collect", core_collect },
                                 { "task", core_task },
                                 { "answers", core_answers },
                                 { "within", core_within },
                                 { "origin", core_origin },
                                 { "waits", core_waits },
                                 { "where", core_where },
                                 { "near", core_near },
                                 { "report", core_report },
                                 { "describe", core_describe },
                                 { "on_stall", deadlock_on_stall },
                                 { "keep_clocks", core_keep_clocks },
                                 { "load", core_load },
                                 { "promise", promise_object_named },
                                 { NULL, NULL } };

/* With the box as upvalue, for those that need it. */
static int make (lua_State *L) {
  allua *host = host_of (L);
  signal_open (L, host);
  promise_object_open (L, host);
  self_open (L, host);
  /* The module "allua.core", which only the Lua half and tests use. */
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  luaL_newlibtable (L, core);
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, core, 1);
  gate_open (L);
  serve_open (L);
  fetch_open (L);
  tracer_open (L);
  progress_functions (L);
  json_open (L);
  blob_open (L);
  sqlite_open (L);
  sqlite_query_open (L);
  postgres_open (L);
  lua_pushvalue (L, -2);
  lua_setfield (L, -2, "loaded"); /* whatever a script makes of package.loaded */
  lua_pushvalue (L, -1);
  lua_setfield (L, -3, "allua.core");
  lua_createtable (L, 0, 32);
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, all_functions, 1);
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, functions, 1);
  coroutine_push (L, host);
  lua_setfield (L, -2, "coroutine");
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushnil (L);
  lua_pushcclosure (L, lua_require, 2);
  lua_setfield (L, -2, "require");
  clock_open (L, host);
  push_context (L);
  lua_setfield (L, -2, "context");
  lua_pushliteral (L, ALLUA_VERSION);
  lua_setfield (L, -2, "version");
  push_loader (L, host, "allua");
  lua_pushliteral (L, "allua");
  lua_call (L, 1, 1); /* gives a function (allua, core) */
  lua_pushvalue (L, -2);
  lua_pushvalue (L, -4);
  lua_call (L, 2, 0);
  return 1;
}

void lib_push (lua_State *L, allua *host) {
  host_push (host, L, SLOT_BOX);
  lua_pushcclosure (L, make, 1);
  lua_call (L, 0, 1);
}
