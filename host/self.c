#include "self.h"

#include <string.h>

#include "all.h"
#include "cycle.h"
#include "error.h"
#include "outcome.h"
#include "promise_object.h"
#include "settle.h"
#include "signal.h"

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

/* The task of a group with names that is called what is at `key`, or NULL. */
static inline struct task *search (lua_State *L, struct group *group, int key) {
  uint32_t number = shape_find_string (L, group->shape, key);
  if (number == group->size) {
    lua_getiuservalue (L, 1, VALUE_SHAPE);
    number = shape_find (L, lua_gettop (L), group->shape, key);
    lua_pop (L, 1);
  }
  return number < group->size ? &group->tasks[number] : NULL;
}

/* The task of a group without names that is called what is at `key`, or NULL. */
static struct task *at_number (lua_State *L, struct group *group, int key) {
  lua_Integer number = lua_type (L, key) == LUA_TNUMBER ? lua_tointeger (L, key) : 0;
  return (lua_Unsigned)number - 1u < group->size ? &group->tasks[number - 1] : NULL;
}

/* The same for any group; raises where there is none. */
static struct task *find (lua_State *L, struct group *group, int key) {
  struct task *task;
  int integer;
  lua_Integer number = lua_tointegerx (L, key, &integer);
  if (integer && lua_type (L, key) == LUA_TNUMBER) {
    lua_pushinteger (L, number); /* 1.0 is 1 */
    lua_replace (L, key);
  }
  task = group->named ? search (L, group, key) : at_number (L, group, key);
  if (!task)
    raise_unknown (L, group, key);
  return task;
}

/* So many reads of what has settled, and the rest are likely to be worth a metatable. */
enum { READS_BEFORE_DIRECT = 8 };

enum { ALL_VALUES = 1 }; /* with the task's address in the context of a wait */

static int waited (lua_State *L, int status, lua_KContext ctx);

/* Wait for the task; the name is at 2. */
static inline int await (lua_State *L, allua *host, struct task *task, bool all) {
  struct task *reader = task_enter (L, host);
  if (!reader)
    return all_run_outside (L, host);
  if (cycle_find (L, reader, task))
    return error_raise (L);
  return sched_wait_promise (L, reader, &task->promise, (lua_KContext)task | (all ? ALL_VALUES : 0),
                             waited);
}

/* Give the task's first value, or all of them, or wait for it; the name is at 2. */
static inline int give (lua_State *L, allua *host, struct task *task, bool all) {
  if (task->promise.status == PROMISE_PENDING)
    return await (L, host, task, all);
  task->promise.handled = true;
  return all ? outcome_push_all (L, 1, task) : outcome_push_first (L, 1, task);
}

/* The value of a fulfilled task of a group under way, which is at 1: no other can have changed the results.
   `key` is its name. */
static int give_result (lua_State *L, const struct group *group, const struct task *task, int key) {
  lua_getiuservalue (L, 1, VALUE_RESULTS);
  if (!group->named) {
    lua_rawgeti (L, -1, group_place (task));
    return 1;
  }
  lua_pushvalue (L, key);
  lua_rawget (L, -2);
  return 1;
}

/* The group and the name are at the bottom of the stack, as they were. */
static int waited (lua_State *L, int status, lua_KContext ctx) {
  struct task *task = (struct task *)(ctx & ~(lua_KContext)ALL_VALUES);
  struct group *group = task->group;
  allua *host = group->host;
  bool all = ctx & ALL_VALUES;
  (void)status;
  task_resumed (L, host);
  if (!all && task->promise.status == PROMISE_FULFILLED && !task->has_nil && !group->ended)
    return give_result (L, group, task, 2);
  return give (L, host, task, all);
}

/* Lua calls it with the results of a group that is read directly and a name that has no value there. */
static int self_missing (lua_State *L) {
  struct group *group = lua_touserdata (L, lua_upvalueindex (2));
  struct task *task;
  lua_pushvalue (L, lua_upvalueindex (2));
  lua_replace (L, 1);
  task = search (L, group, 2);
  return give (L, group->host, task ? task : find (L, group, 2), false);
}

/* Let Lua itself find in the results what has settled, by a metatable of the group's own. */
static void read_directly (lua_State *L, struct group *group) {
  int own;
  luaL_checkstack (L, 6, NULL);
  lua_newtable (L);
  own = lua_gettop (L);
  host_push (group->host, L, SLOT_SELF);
  for (lua_pushnil (L); lua_next (L, own + 1); lua_pop (L, 1)) {
    lua_pushvalue (L, -2);
    lua_pushvalue (L, -2);
    lua_rawset (L, own);
  }
  lua_getiuservalue (L, 1, VALUE_RESULTS);
  lua_createtable (L, 0, 1);
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushvalue (L, 1);
  lua_pushcclosure (L, self_missing, 2);
  lua_setfield (L, -2, "__index");
  lua_pushvalue (L, -2);
  lua_setfield (L, own, "__index");
  lua_setmetatable (L, -2);
  lua_pushvalue (L, own);
  lua_setmetatable (L, 1);
  lua_settop (L, own - 1);
  group->direct = true;
}

/* Lua calls it with the group and the name. While the group is under way, most reads need no more than
   the results. */
static int self_index (lua_State *L) {
  struct group *group = lua_touserdata (L, 1);
  struct task *task = NULL;
  if (group->ended) {
    /* its results are the script's by now */
  } else if (!group->named) {
    task = at_number (L, group, 2);
    if (task && task->promise.status == PROMISE_FULFILLED)
      return give_result (L, group, task, 2);
  } else {
    if (group->pending < group->size) {
      lua_getiuservalue (L, 1, VALUE_RESULTS);
      lua_pushvalue (L, 2);
      if (lua_rawget (L, -2) != LUA_TNIL) {
        if (++group->reads == READS_BEFORE_DIRECT)
          read_directly (L, group);
        return 1;
      }
    }
    task = search (L, group, 2);
  }
  if (task)
    return give (L, group->host, task, false);
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
  const struct task *member;
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
  member = caller;
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
    group->winner = member->index + 1;
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
