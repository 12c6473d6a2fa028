#include "runner.h"

#include "arity.h"
#include "error.h"

/* The stack of a runner: the message handler, then the group of the task that runs, with its results, its
   names and its table of functions (see group_value), so that functions and values need not go through
   another stack, then the task's name where there are names, and the function that is called. A prepared
   task's function stands where the group would be. */
enum { HANDLER = 1, GROUP, RESULTS, NAMES, FUNCTIONS, FUNCTION, PREPARED = GROUP };

/* Where the function of a task stands. */
static int function_of (const struct task *task) {
  if (task_is_prepared (task))
    return PREPARED;
  return task->group->named ? FUNCTION + 1 : FUNCTION;
}

/* What belongs to the group on top. */
static void push_tables (lua_State *L, const struct group *group) {
  lua_getiuservalue (L, GROUP, VALUE_RESULTS);
  if (!group->named) {
    lua_pushnil (L);
    lua_pushnil (L);
    return;
  }
  lua_getiuservalue (L, GROUP, VALUE_SHAPE);
  if (group->tabled) {
    lua_getiuservalue (L, NAMES, VALUE_FIRST);
    lua_replace (L, NAMES);
    lua_getiuservalue (L, GROUP, VALUE_FUNCTIONS);
  } else {
    lua_pushnil (L);
  }
}

/* Another group in the place of the one that was there, and nothing above it. */
static void load (lua_State *L, struct group *group) {
  lua_settop (L, HANDLER);
  task_push_group (L, group);
  push_tables (L, group);
}

/* `task`, with the group it belongs to, which is on top. */
static void push_task_object (lua_State *L, struct task *task) {
  struct task **object = lua_newuserdatauv (L, sizeof *object, 1);
  *object = task;
  host_push (task->group->host, L, SLOT_TASK);
  lua_setmetatable (L, -2);
  lua_pushvalue (L, GROUP);
  lua_setiuservalue (L, -2, 1);
}

/* Push the task's name where there are names, then its function, or a map's item. */
static inline int push_own (lua_State *L, const struct task *task) {
  const struct group *group = task->group;
  if (!group->named)
    return lua_rawgeti (L, RESULTS, group_place (task));
  shape_push_name (L, NAMES, group->shape, task->index);
  if (group->tabled)
    return lua_rawgeti (L, FUNCTIONS, group_place (task));
  return lua_getiuservalue (L, GROUP, (int)group_place (task));
}

/* The same, the function checked before, with its arguments, above what belongs to its group. Returns how many
   arguments. May raise. */
static inline int push_function (lua_State *L, struct task *task) {
  struct group *group = task->group;
  bool wants = true;
  if (group->kind == GROUP_MAP) {
    lua_getiuservalue (L, GROUP, VALUE_AUX);
    push_own (L, task);
    if (lua_touserdata (L, -1) == (void *)&group_no_item) {
      lua_pop (L, 1);
      lua_pushnil (L);
    }
    lua_pushinteger (L, (lua_Integer)task->index + 1);
    return 2;
  }
  if (push_own (L, task) == LUA_TFUNCTION) {
    wants = !arity_is_plain (L, group->host);
  } else if (lua_getmetatable (L, -1)) {
    /* Most likely a promise, which runs as its own await; a callable one is called. */
    bool promise;
    host_push (group->host, L, SLOT_PROMISE);
    promise = lua_rawequal (L, -1, -2);
    lua_pop (L, 2);
    if (promise) {
      host_push (group->host, L, SLOT_AWAIT);
      lua_insert (L, -2);
      return 1;
    }
  }
  lua_pushvalue (L, GROUP);
  if (!wants)
    return 1;
  push_task_object (L, task);
  return 2;
}

/* After on_settle: its error goes on top of the results. */
static int after_hook (lua_State *L, int status, lua_KContext results) {
  allua *host = *(allua **)lua_touserdata (L, lua_upvalueindex (1));
  host->current->shields--;
  if (status == LUA_OK || status == LUA_YIELD) {
    lua_settop (L, (int)results + 1);
    return (int)results;
  }
  host->current->hook_failed = true;
  return (int)results + 1;
}

/* Note how many values a task gave, from `first` on; several are kept with the group. May raise. */
static void keep_values (lua_State *L, allua *host, struct task *task, int first, int results) {
  struct group *group = task->group;
  int i;
  if (results == 0)
    task->nothing = true;
  if (results <= 1 || group->kind == GROUP_ROOT)
    return;
  luaL_checkstack (L, 6, "too many results to store");
  group_load (group);
  host_push (host, L, SLOT_GROUP);
  lua_createtable (L, results, 1);
  for (i = 1; i <= results; i++) {
    lua_pushvalue (L, first + i - 1);
    lua_rawseti (L, -2, i);
  }
  lua_pushinteger (L, results);
  lua_setfield (L, -2, "n");
  group_set (L, -2, group_several (task));
  lua_pop (L, 1);
  task->several = true;
}

/* The task's function is done; its results, or its error on top, are from `function` on. Leave to the
   scheduler what it means. */
static int finish (lua_State *L, allua *host, int status, int function) {
  struct task *task = host->current;
  struct group *group = task->group;
  int results;
  if (status != LUA_OK && status != LUA_YIELD) {
    task->failed = true;
    results = 1;
    lua_copy (L, -1, PREPARED);
    lua_settop (L, PREPARED);
    if ((group->failed || group->decided || group->cancelled || task->cancelled)
        && group->kind <= GROUP_CALL && !error_is_cancelled (L, host, 2)) {
      bool same;
      group_push_reason (L, task);
      same = lua_rawequal (L, -1, 2);
      lua_pop (L, 1);
      if (!same) {
        group_push_name (L, task);
        error_push_message (L, 2);
        lua_pushfstring (L, "allua: task \"%s\" failed while it was cancelled: %s",
                         luaL_tolstring (L, -2, NULL), lua_tostring (L, -1));
        lua_warning (L, lua_tostring (L, -1), 0);
        lua_settop (L, 2);
      }
    }
  } else {
    results = lua_gettop (L) - function + 1;
    lua_rotate (L, PREPARED, results);
    lua_settop (L, PREPARED + results - 1);
    keep_values (L, host, task, PREPARED, results);
  }
  if (group->options && group->options->on_settle) {
    group_peek (L, group, ON_SETTLE);
    group_push_name (L, task);
    lua_pushstring (L, task->failed ? "rejected" : "fulfilled");
    if (results)
      lua_pushvalue (L, 2);
    else
      lua_pushnil (L);
    task->shields++; /* it may wait, for a cancelled task too */
    return after_hook (L, lua_pcallk (L, 3, 0, 0, results, after_hook), results);
  }
  return results;
}

/* Whether the function is the one that stands for a promise among the tasks. */
static bool is_adopting (lua_State *L, allua *host, int function) {
  bool same;
  host_push (host, L, SLOT_AWAIT);
  same = lua_rawequal (L, function, -1);
  lua_pop (L, 1);
  return same;
}

/* Take the next task off the ready queue if it is one to begin here: without a coroutine, and with
   nothing about it that the scheduler has to see to. */
static struct task *next_fresh (allua *host) {
  struct task *task = host->ready.first;
  if (!task || task->co || task->joined || task->cancelled || task->group->options || host->stopping
      || host->steps <= 0)
    return NULL;
  host->steps--;
  return ring_pop (&host->ready);
}

/* Settle a task of the common kind: nothing about it is special but its values, on top, and there are no
   options. Leaves what belongs to its group on the stack, and nothing else. Returns false for all others. */
static bool settle (lua_State *L, allua *host, struct task *task, int function) {
  const struct group *group = task->group;
  int results = lua_gettop (L) - function + 1;
  if (group->options || task->children || task->exposed || group->kind > GROUP_EACH)
    return false;
  if (results != 1)
    keep_values (L, host, task, function, results);
  host->current = NULL;
  if (results == 0 || lua_isnil (L, function) || group->kind > GROUP_SETTLED) {
    host->ended (host, task, results);
    lua_settop (L, FUNCTIONS);
    return true;
  }
  if (results != 1)
    lua_settop (L, function);
  if (group->named)
    lua_rawset (L, RESULTS);
  else
    lua_rawseti (L, RESULTS, group_place (task));
  host->fulfilled (host, task);
  return true;
}

static int begin (lua_State *L, int status, lua_KContext ctx);

/* A task's function is done. Where nothing is special about that, the task is settled here, and the
   coroutine goes on with the next one that has not started yet; so a task that never waits costs a
   call, and not a coroutine's start and end. With none, it is suspended until a task is given to it. All
   else goes back to the scheduler, and the coroutine ends. */
static int go_on (lua_State *L, int status, lua_KContext ctx) {
  allua *host = (allua *)ctx; /* which is not closed while a task runs */
  for (;;) {
    struct task *task = host->current;
    struct group *group = task->group;
    int anchor = task->anchor, function = function_of (task);
    if ((status != LUA_OK && status != LUA_YIELD) || function == PREPARED
        || !settle (L, host, task, function))
      return finish (L, host, status, function);
    task = next_fresh (host);
    if (!task) {
      lua_settop (L, HANDLER);
      return lua_yieldk (L, 0, ctx, begin);
    }
    task->co = L;
    task->anchor = anchor;
    task->state = TASK_RUNNING;
    host->current = task;
    host->live_tasks++;
    if (task->group != group)
      load (L, task->group);
    status = lua_pcallk (L, push_function (L, task), LUA_MULTRET, HANDLER, ctx, go_on);
  }
}

/* The first task that the scheduler has for a coroutine, or the first since it was suspended. */
static int begin (lua_State *L, int status, lua_KContext ctx) {
  allua *host = (allua *)ctx;
  struct task *task = host->current;
  int function = function_of (task), arguments;
  if (function == PREPARED) {
    arguments = lua_gettop (L) - function;
  } else {
    push_tables (L, task->group);
    arguments = push_function (L, task);
  }
  if (task_is_cancelled (task) && !is_adopting (L, host, function)) {
    /* It never starts, but somebody wants to hear of it. */
    lua_settop (L, HANDLER);
    task_push_cancelled (L, task);
    return finish (L, host, LUA_ERRRUN, PREPARED);
  }
  status = lua_pcallk (L, arguments, LUA_MULTRET, HANDLER, ctx, go_on);
  return go_on (L, status, ctx);
}

int runner_main (lua_State *L) {
  allua *host = *(allua **)lua_touserdata (L, lua_upvalueindex (1));
  return begin (L, LUA_OK, (lua_KContext)host);
}
