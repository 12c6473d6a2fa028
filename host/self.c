#include "self.h"

#include <string.h>

#include "all.h"
#include "cycle.h"
#include "error.h"
#include "outcome.h"
#include "promise_object.h"
#include "settle.h"
#include "signal.h"
#include "trace.h"

static int raise_unknown (lua_State *L, struct group *group, int key) {
  struct near near;
  size_t length;
  const char *name;
  uint32_t i;
  if (lua_type (L, key) != LUA_TSTRING)
    return luaL_error (L, "unknown task %s", luaL_tolstring (L, key, NULL));
  name = lua_tolstring (L, key, &length);
  error_near_open (&near, name, length);
  for (i = 0; group->named && i < group->size; i++) {
    group_push_name_at (L, 1, &group->tasks[i]);
    if (lua_type (L, -1) == LUA_TSTRING) {
      size_t size;
      const char *candidate = lua_tolstring (L, -1, &size);
      error_near_add (&near, candidate, size);
    }
    lua_pop (L, 1);
  }
  lua_pushliteral (L, "unknown task \"");
  lua_pushvalue (L, key);
  lua_pushliteral (L, "\"");
  error_near_hint (L, &near);
  lua_concat (L, 4);
  return error_raise (L);
}

/* The task of a group with names that is called what is at `key`, or NULL: the names are sorted, integers
   first, then strings in byte order. */
static struct task *search (lua_State *L, struct group *group, int key) {
  bool integer = lua_isinteger (L, key);
  size_t length = 0;
  const char *name = lua_type (L, key) == LUA_TSTRING ? lua_tolstring (L, key, &length) : NULL;
  uint32_t low = 0, high = group->size;
  if (!integer && !name)
    return NULL;
  lua_getiuservalue (L, 1, 1);
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    int order;
    lua_rawgeti (L, -1, group_place (&group->tasks[middle]) + 1);
    if (lua_isinteger (L, -1)) {
      lua_Integer x = lua_tointeger (L, key), y = lua_tointeger (L, -1);
      order = integer ? (x > y) - (x < y) : 1;
    } else if (integer) {
      order = -1;
    } else {
      size_t size;
      const char *other = lua_tolstring (L, -1, &size);
      order = memcmp (name, other, length < size ? length : size);
      if (order == 0)
        order = (length > size) - (length < size);
    }
    lua_pop (L, 1);
    if (order == 0) {
      lua_pop (L, 1);
      return &group->tasks[middle];
    }
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  lua_pop (L, 1);
  return NULL;
}

/* The same for any group; raises where there is none. */
static struct task *find (lua_State *L, struct group *group, int key) {
  struct task *task;
  lua_Integer index;
  int integer;
  index = lua_tointegerx (L, key, &integer);
  if (integer && lua_type (L, key) == LUA_TNUMBER) {
    lua_pushinteger (L, index); /* 1.0 is 1 */
    lua_replace (L, key);
    if (!group->named) {
      if ((lua_Unsigned)index - 1u < (lua_Unsigned)group->size)
        return &group->tasks[index - 1];
      raise_unknown (L, group, key);
    }
  }
  task = group->named ? search (L, group, key) : NULL;
  if (!task)
    raise_unknown (L, group, key);
  return task;
}

enum { ALL_VALUES = 1 }; /* with the task's address in the context of a wait */

static int waited (lua_State *L, int status, lua_KContext ctx);

/* Give the task's first value, or all of them, or wait for it; the name is at 2. */
static int give (lua_State *L, allua *host, struct task *task, bool all) {
  struct task *reader;
  if (task->promise.status != PROMISE_PENDING) {
    task->promise.handled = true;
    return all ? outcome_push_all (L, 1, task) : outcome_push_first (L, 1, task);
  }
  reader = task_enter (L, host);
  if (!reader)
    return all_run_outside (L, host);
  if (cycle_find (L, reader, task))
    return error_raise (L);
  if (trace_of (reader->group))
    trace_wait (reader, task);
  return sched_wait_promise (L, reader, &task->promise, (lua_KContext)task | (all ? ALL_VALUES : 0),
                             waited);
}

/* The stack is as it was: the group, the name. */
static int waited (lua_State *L, int status, lua_KContext ctx) {
  struct task *task = (struct task *)(ctx & ~(lua_KContext)ALL_VALUES);
  struct group *group = task->group;
  allua *host = group->host;
  bool all = ctx & ALL_VALUES;
  (void)status;
  if (host->current && trace_of (host->current->group))
    trace_resume (host->current);
  task_resumed (L, host);
  if (!all && task->promise.status == PROMISE_FULFILLED && !task->has_nil && !group->ended) {
    /* The quick way, as in self_index. */
    lua_getiuservalue (L, 1, 2);
    lua_pushvalue (L, 2);
    lua_rawget (L, -2);
    return 1;
  }
  return give (L, host, task, all);
}

/* A name was read that has no value yet: from now on the results say which task it is. They have room
   for every name, so this does not allocate. */
static void map_names (lua_State *L, struct group *group) {
  uint32_t i;
  lua_settop (L, 2);
  lua_getiuservalue (L, 1, 1);
  lua_getiuservalue (L, 1, 2);
  for (i = 0; i < group->size; i++) {
    struct task *task = &group->tasks[i];
    if (task->promise.status != PROMISE_FULFILLED || task->has_nil) {
      lua_rawgeti (L, 3, group_place (task) + 1);
      lua_pushlightuserdata (L, task);
      lua_rawset (L, 4);
    }
  }
  group->mapped = true;
}

static int self_index (lua_State *L) {
  struct group *group = lua_touserdata (L, 1);
  bool quick = group->named && !group->ended;
  while (quick) {
    /* The results have its value, or say which task it is. */
    struct task *task;
    lua_getiuservalue (L, 1, 2);
    lua_pushvalue (L, 2);
    switch (lua_rawget (L, -2)) {
    case LUA_TNIL:
      quick = !group->mapped;
      if (quick)
        map_names (L, group);
      break;
    case LUA_TLIGHTUSERDATA:
      task = lua_touserdata (L, -1);
      if (task < group->tasks || task >= group->tasks + group->size)
        return 1;
      return give (L, group->host, task, false);
    default:
      return 1;
    }
  }
  lua_settop (L, 2);
  return give (L, host_of (L), find (L, group, 2), false);
}

static int self_call (lua_State *L) {
  lua_settop (L, 2);
  return give (L, host_of (L), find (L, lua_touserdata (L, 1), 2), true);
}

static int self_newindex (lua_State *L) {
  lua_pushliteral (L, "self is read-only: cannot set \"");
  luaL_tolstring (L, 2, NULL);
  lua_pushliteral (L, "\"");
  lua_concat (L, 3);
  return error_raise (L);
}

/* How many tasks are called 1, 2, 3, … */
static int self_len (lua_State *L) {
  struct group *group = lua_touserdata (L, 1);
  uint32_t length = 0;
  if (!group->named)
    length = group->size;
  lua_settop (L, 1);
  while (group->named && length < group->size) {
    lua_pushinteger (L, (lua_Integer)length + 1);
    if (!search (L, group, 2))
      break;
    lua_settop (L, 1);
    length++;
  }
  lua_pushinteger (L, length);
  return 1;
}

static int self_tostring (lua_State *L) {
  struct group *group = lua_touserdata (L, 1);
  lua_pushfstring (L, "allua.self: %d tasks, %d unfinished", (int)group->size, (int)group->pending);
  return 1;
}

static struct task *check_task (lua_State *L) {
  return *(struct task **)luaL_checkudata (L, 1, "allua.task");
}

/* task:promise (name) */
static int task_promise (lua_State *L) {
  struct task *task = check_task (L);
  struct group *group = task->group;
  luaL_checkany (L, 2);
  lua_settop (L, 2);
  lua_getiuservalue (L, 1, 1);
  lua_replace (L, 1);
  task = find (L, group, 2);
  return promise_object_push_view (L, group->host, 1, task);
}

/* task:finish (...) */
static int task_finish (lua_State *L) {
  struct task *task = check_task (L);
  struct group *group = task->group;
  allua *host = group->host;
  struct task *caller = host->current;
  int count = lua_gettop (L) - 1, i;
  if (group->kind != GROUP_FLOW)
    return luaL_error (L, "task:finish is for the tasks of a flow");
  if (group->ended)
    return luaL_error (L, "task:finish: the flow has ended");
  if (!caller)
    return luaL_error (L, "task:finish: only a task can finish a flow");
  while (caller && caller->group != group)
    caller = caller->group->owner;
  if (!caller)
    return luaL_error (
        L, "task:finish: only a task of the flow, or one that it started, can finish it");
  caller = host->current;
  if (!group->decided && !group->failed && !group->cancelled) {
    luaL_checkstack (L, 4, NULL);
    lua_createtable (L, count, 1);
    for (i = 1; i <= count; i++) {
      lua_pushvalue (L, i + 1);
      lua_rawseti (L, -2, i);
    }
    lua_pushinteger (L, count);
    lua_setfield (L, -2, "n");
    lua_xmove (L, host->L, 1);
    group_put (group, AUX);
    settle_decide (group);
  }
  /* Never back to the caller, shielded or not. */
  caller->cancelled = true;
  task_push_cancelled (L, caller);
  return lua_error (L);
}

static int task_index (lua_State *L) {
  struct task *task = check_task (L);
  const char *key = luaL_checkstring (L, 2);
  lua_settop (L, 2);
  lua_getiuservalue (L, 1, 1);
  if (strcmp (key, "name") == 0)
    group_push_name_at (L, 3, task);
  else if (strcmp (key, "signal") == 0)
    signal_push_of (L, 3);
  else
    lua_getfield (L, lua_upvalueindex (2), key);
  return 1;
}

void self_open (lua_State *L, allua *host) {
  static const luaL_Reg self[] = { { "__index", self_index },
                                   { "__call", self_call },
                                   { "__newindex", self_newindex },
                                   { "__close", all_each_close },
                                   { "__tostring", self_tostring },
                                   { "__len", self_len },
                                   { NULL, NULL } };
  static const luaL_Reg methods[]
      = { { "promise", task_promise }, { "finish", task_finish }, { NULL, NULL } };
  host_push (host, L, SLOT_SELF);
  host_push (host, L, SLOT_BOX);
  luaL_setfuncs (L, self, 1);
  lua_pushliteral (L, "allua.self");
  lua_setfield (L, -2, "__metatable");
  lua_pop (L, 1);
  host_push (host, L, SLOT_TASK);
  host_push (host, L, SLOT_BOX);
  luaL_newlibtable (L, methods);
  host_push (host, L, SLOT_BOX);
  luaL_setfuncs (L, methods, 1);
  lua_pushcclosure (L, task_index, 2);
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
}
