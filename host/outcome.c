#include "outcome.h"

#include "error.h"
#include "task.h"
#include "trace.h"

#define MOST_REASONS 10 /* that the message of an AggregateError tells */

/* The record of a task's failure, or nil. */
static void push_record (lua_State *L, int index, uint32_t task) {
  if (group_get (L, index, RECORDS) != LUA_TNIL) {
    lua_rawgeti (L, -1, (lua_Integer)task + 1);
    lua_remove (L, -2);
  }
}

void outcome_push_error (lua_State *L, int index, struct task *task) {
  struct group *group = task->group;
  index = lua_absindex (L, index);
  group_push_own (L, index, task);
  if (!lua_isnil (L, -1) && task->failed)
    return;
  if (!task->promise.cancelled)
    return; /* an error that is nil */
  /* It ended because it was cancelled, without an error of its own: one is made when asked for. */
  lua_pop (L, 1);
  group_push_name_at (L, index, task);
  if (task->own_reason) {
    lua_getiuservalue (L, index, VALUE_EXTRA);
    lua_rawgeti (L, -1, -(lua_Integer)task->index - 1);
    lua_remove (L, -2);
  } else if (group->own_reason) {
    group_get (L, index, REASON);
  } else {
    lua_pushliteral (L, "its owner was cancelled");
  }
  error_push_cancelled (L, group->host);
  lua_pushvalue (L, -1);
  group_set_own (L, index, task);
  task->failed = true;
}

static int raise_task (lua_State *L, int index, struct task *task) {
  index = lua_absindex (L, index);
  outcome_push_error (L, index, task);
  push_record (L, index, task->index);
  error_raised (L, task->group->host, -2);
  return lua_error (L);
}

int outcome_push_first (lua_State *L, int index, struct task *task) {
  struct group *group = task->group;
  if (task->promise.status == PROMISE_REJECTED)
    return raise_task (L, index, task);
  if (task->has_nil) {
    lua_pushnil (L);
    return 1;
  }
  if (!group->named) {
    group_push_own (L, index, task);
    return 1;
  }
  index = lua_absindex (L, index);
  lua_getiuservalue (L, index, VALUE_RESULTS);
  group_push_name_at (L, index, task);
  lua_rawget (L, -2);
  lua_remove (L, -2);
  return 1;
}

int outcome_push_all (lua_State *L, int index, struct task *task) {
  int count, i, values;
  if (task->promise.status == PROMISE_REJECTED || (!task->several && !task->nothing))
    return outcome_push_first (L, index, task);
  if (task->nothing)
    return 0;
  group_get (L, index, group_several (task));
  values = lua_gettop (L);
  lua_getfield (L, values, "n");
  count = (int)lua_tointeger (L, -1);
  luaL_checkstack (L, count, "too many values");
  for (i = 1; i <= count; i++)
    lua_rawgeti (L, values, i);
  return count;
}

/* Push the record of the failure that ended the group: of the task that failed first, or, where others
   failed by meeting that, the one at the end of the longest chain. */
static void push_chain (lua_State *L, struct group *group) {
  lua_Integer deepest = 0, last = 0;
  int first;
  push_record (L, 1, group->winner - 1);
  if (!lua_istable (L, -1))
    return;
  first = lua_gettop (L);
  group_get (L, 1, RECORDS);
  for (lua_pushnil (L); lua_next (L, first + 1); lua_settop (L, first + 2)) {
    lua_Integer depth, index = lua_tointeger (L, first + 2);
    lua_getfield (L, first + 3, "depth");
    depth = lua_tointeger (L, -1);
    lua_getfield (L, first + 3, "origin");
    if (lua_rawequal (L, -1, first) && (depth > deepest || (depth == deepest && index < last))) {
      deepest = depth;
      last = index;
    }
  }
  if (last)
    lua_rawgeti (L, first + 1, last);
  else
    lua_pushvalue (L, first);
  lua_replace (L, first);
  lua_settop (L, first);
}

int outcome_raise (lua_State *L, struct group *group) {
  group_get (L, 1, REASON);
  if (group->winner)
    push_chain (L, group);
  else
    lua_pushnil (L);
  error_raised (L, group->host, -2);
  return lua_error (L);
}

/* The name of the sibling whose failure the task met, or nil. */
static void push_from (lua_State *L, struct task *task) {
  int top = lua_gettop (L);
  push_record (L, 1, task->index);
  if (lua_istable (L, -1)) {
    lua_getfield (L, -1, "awaited");
    if (lua_toboolean (L, -1)) {
      lua_getfield (L, -2, "from");
      lua_getfield (L, -1, "index");
      group_push_name_at (L, 1, &task->group->tasks[lua_tointeger (L, -1)]);
      lua_replace (L, top + 1);
      lua_settop (L, top + 1);
      return;
    }
  }
  lua_settop (L, top);
  lua_pushnil (L);
}

static int push_settled (lua_State *L, struct group *group) {
  uint32_t i;
  int results;
  lua_createtable (L, group->named ? 0 : (int)group->size, group->named ? (int)group->size : 0);
  results = lua_gettop (L);
  for (i = 0; i < group->size; i++) {
    struct task *task = &group->tasks[i];
    bool rejected = task->promise.status == PROMISE_REJECTED;
    group_push_name_at (L, 1, task);
    lua_createtable (L, 0, 3);
    lua_pushstring (L, promise_status_name (&task->promise));
    lua_setfield (L, -2, "status");
    if (!rejected) {
      outcome_push_first (L, 1, task);
      lua_setfield (L, -2, "value");
    } else {
      if (task->promise.cancelled && group->own_reason && !task->own_reason)
        group_get (L, 1, REASON); /* why all of it was cancelled says more than that it was */
      else
        outcome_push_error (L, 1, task);
      push_record (L, 1, task->index);
      error_seen (L, group->host, -2);
      lua_setfield (L, -2, "reason");
      push_from (L, task);
      lua_setfield (L, -2, "from");
    }
    lua_rawset (L, results);
  }
  return 1;
}

/* Push what an AggregateError says: why each task failed, as far as a reader reads. */
static const char *push_reasons (lua_State *L, struct group *group) {
  uint32_t i, shown = group->size > MOST_REASONS ? MOST_REASONS - 1 : group->size;
  int at;
  luaL_Buffer text;
  if (group->size == 0)
    return lua_pushliteral (L, "there was no task to succeed");
  lua_settop (L, at = lua_gettop (L) + 2); /* a place for the name and one for the error */
  luaL_buffinit (L, &text);
  lua_pushfstring (L, "none of the tasks succeeded (%d failed)", (int)group->size);
  luaL_addvalue (&text);
  for (i = 0; i < shown; i++) {
    group_push_name_at (L, 1, &group->tasks[i]);
    luaL_tolstring (L, -1, NULL);
    lua_replace (L, at - 1);
    lua_pop (L, 1);
    outcome_push_error (L, 1, &group->tasks[i]);
    error_push_message (L, -1);
    lua_replace (L, at);
    lua_pop (L, 1);
    luaL_addstring (&text, "\n  ");
    lua_pushvalue (L, at - 1);
    luaL_addvalue (&text);
    luaL_addstring (&text, ": ");
    /* The further lines of a message belong to it. */
    luaL_gsub (L, lua_tostring (L, at), "\n", "\n    ");
    luaL_addvalue (&text);
  }
  if (shown < group->size) {
    lua_pushfstring (L, "\n  and %d more", (int)(group->size - shown));
    luaL_addvalue (&text);
  }
  luaL_pushresult (&text);
  lua_replace (L, at - 1);
  lua_settop (L, at - 1);
  return lua_tostring (L, -1);
}

static int raise_aggregate (lua_State *L, struct group *group) {
  uint32_t i;
  error_push (L, group->host, "AggregateError", "%s", push_reasons (L, group));
  lua_newtable (L);
  for (i = 0; i < group->size; i++) {
    group_push_name_at (L, 1, &group->tasks[i]);
    outcome_push_error (L, 1, &group->tasks[i]);
    push_record (L, 1, i);
    error_seen (L, group->host, -2);
    lua_rawset (L, -3);
  }
  lua_setfield (L, -2, "errors");
  return lua_error (L);
}

static int push_flow (lua_State *L) {
  int count, i;
  if (group_get (L, 1, AUX) != LUA_TTABLE)
    return 0;
  lua_getfield (L, -1, "n");
  count = (int)lua_tointeger (L, -1);
  lua_pop (L, 1);
  luaL_checkstack (L, count, "too many values");
  for (i = 1; i <= count; i++)
    lua_rawgeti (L, 2, i);
  return count;
}

int outcome_of (lua_State *L, int status, lua_KContext ctx) {
  struct group *group = (struct group *)ctx;
  struct task *owner = group->owner;
  (void)status;
  group->at = NULL;
  lua_settop (L, 1);
  if (trace_of (group))
    trace_finish (L, 1);
  if (group->failed && (group->kind != GROUP_SETTLED || group->hook_failed))
    return outcome_raise (L, group);
  if (group->cancelled && !group->own_reason && owner && task_is_cancelled (owner))
    return task_raise_cancelled (L, owner);
  switch (group->kind) {
  case GROUP_SETTLED:
    return push_settled (L, group);
  case GROUP_FLOW:
    return push_flow (L);
  case GROUP_CALL:
    return outcome_push_all (L, 1, &group->tasks[0]);
  case GROUP_ANY:
    if (!group->winner)
      return raise_aggregate (L, group);
    /* fall through */
  case GROUP_RACE:
    if (!group->winner)
      return 0;
    outcome_push_first (L, 1, &group->tasks[group->winner - 1]);
    group_push_name_at (L, 1, &group->tasks[group->winner - 1]);
    return 2;
  default:
    lua_getiuservalue (L, 1, VALUE_RESULTS);
    return 1;
  }
}
