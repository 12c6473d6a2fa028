#include "runner.h"

#include "error.h"

/* The stack of a runner: the message handler, then what belongs to the group of the task that runs, so
   that its tasks' functions and values need not go through another stack, then the function that is
   called. A prepared task's function stands where the slots would be. */
enum { HANDLER = 1, SLOTS, RESULTS, GROUP, FUNCTION, PREPARED = SLOTS };

static allua *get_host (lua_State *L) {
  return *(allua **)lua_touserdata (L, lua_upvalueindex (1));
}

/* Have the group's tables on the stack, and nothing above them. */
static void load (lua_State *L, struct group *group) {
  lua_State *own = group->host->L;
  if (lua_touserdata (L, GROUP) == group) {
    lua_settop (L, GROUP);
    return;
  }
  lua_settop (L, HANDLER);
  group_load (group);
  lua_pushvalue (own, SLOT_SLOTS);
  lua_pushvalue (own, SLOT_RESULTS);
  lua_pushvalue (own, SLOT_GROUP);
  lua_xmove (own, L, 3);
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

/* Whether the function on top looks at a second argument: only then is there a `task` to make. */
static bool wants_task_object (lua_State *L) {
  lua_Debug info;
  lua_pushvalue (L, -1);
  lua_getinfo (L, ">u", &info);
  return info.nparams > 1 || info.isvararg;
}

/* Push the task's function, checked before, and its arguments, above what belongs to its group. May
   raise. */
static void push_function (lua_State *L, struct task *task) {
  struct group *group = task->group;
  bool wants = true;
  load (L, group);
  if (group->kind == GROUP_MAP) {
    lua_rawgeti (L, SLOTS, group_key (group, AUX));
    lua_rawgeti (L, SLOTS, group_place (task));
    if (lua_touserdata (L, -1) == (void *)&group_no_item) {
      lua_pop (L, 1);
      lua_pushnil (L);
    }
    lua_pushinteger (L, (lua_Integer)task->index + 1);
    return;
  }
  if (lua_rawgeti (L, SLOTS, group_place (task)) == LUA_TFUNCTION) {
    wants = wants_task_object (L);
  } else if (lua_getmetatable (L, -1)) {
    /* Most likely a promise, which runs as its own await; a callable one is called. */
    bool promise;
    host_push (group->host, L, SLOT_PROMISE);
    promise = lua_rawequal (L, -1, -2);
    lua_pop (L, 2);
    if (promise) {
      host_push (group->host, L, SLOT_AWAIT);
      lua_insert (L, -2);
      return;
    }
  }
  lua_pushvalue (L, GROUP);
  if (wants)
    push_task_object (L, task);
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

/* Note how many values a task gave, from `first` on; several are kept in the slots. May raise. */
static void keep_values (lua_State *L, allua *host, struct task *task, int first, int results) {
  struct group *group = task->group;
  int i;
  if (results == 0)
    task->nothing = true;
  if (results <= 1 || group->kind == GROUP_ROOT)
    return;
  luaL_checkstack (L, 4, "too many results to store");
  group_load (group);
  lua_createtable (L, results, 1);
  for (i = 1; i <= results; i++) {
    lua_pushvalue (L, first + i - 1);
    lua_rawseti (L, -2, i);
  }
  lua_pushinteger (L, results);
  lua_setfield (L, -2, "n");
  host_push (host, L, SLOT_SLOTS);
  lua_insert (L, -2);
  lua_rawseti (L, -2, group_place (task));
  lua_pop (L, 1);
  task->several = true;
}

/* The task's function is done; its results, or its error on top, are from `function` on. Leave to the
   scheduler what it means. */
static int finish (lua_State *L, int status, int function) {
  allua *host = get_host (L);
  struct task *task = host->current;
  struct group *group = task->group;
  int results;
  while (function > PREPARED)
    lua_remove (L, --function);
  results = lua_gettop (L) - HANDLER;
  if (status != LUA_OK && status != LUA_YIELD) {
    task->failed = true;
    results = 1;
    lua_copy (L, -1, 2);
    lua_settop (L, 2);
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

/* Settle a task of the common kind: nothing about it is special but its values, from FUNCTION on, and
   there are no options. Returns false for all others. */
static bool settle (lua_State *L, allua *host, struct task *task) {
  const struct group *group = task->group;
  int results = lua_gettop (L) - GROUP;
  if (group->options || task->children || task->exposed || group->kind > GROUP_EACH)
    return false;
  if (results != 1)
    keep_values (L, host, task, FUNCTION, results);
  host->current = NULL;
  if (results == 0 || lua_isnil (L, FUNCTION) || group->kind > GROUP_SETTLED) {
    host->ended (host, task, results);
    return true;
  }
  lua_settop (L, FUNCTION);
  if (group->named) {
    lua_rawgeti (L, SLOTS, group_place (task) + 1);
    lua_pushvalue (L, FUNCTION);
    lua_rawset (L, RESULTS);
  } else {
    lua_rawseti (L, RESULTS, group_place (task));
  }
  host->fulfilled (host, task);
  return true;
}

/* A task's function is done. Where nothing is special about that, the task is settled here, and the
   coroutine goes on with the next one that has not started yet; so a task that never waits costs a
   call, and not a coroutine's start and end. All else goes back to the scheduler. */
static int go_on (lua_State *L, int status, lua_KContext function) {
  allua *host = get_host (L);
  for (;;) {
    struct task *task = host->current;
    int anchor = task->anchor;
    if ((status != LUA_OK && status != LUA_YIELD) || function == PREPARED
        || !settle (L, host, task))
      return finish (L, status, (int)function);
    task = next_fresh (host);
    if (!task)
      return 0;
    task->co = L;
    task->anchor = anchor;
    task->state = TASK_RUNNING;
    host->current = task;
    host->live_tasks++;
    push_function (L, task);
    status = lua_pcallk (L, lua_gettop (L) - FUNCTION, LUA_MULTRET, HANDLER, FUNCTION, go_on);
  }
}

int runner_main (lua_State *L) {
  allua *host = get_host (L);
  struct task *task = host->current;
  int function = PREPARED;
  if (lua_gettop (L) == HANDLER) {
    push_function (L, task);
    function = FUNCTION;
  }
  if (task_is_cancelled (task) && !is_adopting (L, host, function)) {
    /* It never starts, but somebody wants to hear of it. */
    lua_settop (L, HANDLER);
    task_push_cancelled (L, task);
    return finish (L, LUA_ERRRUN, PREPARED);
  }
  return go_on (L, lua_pcallk (L, lua_gettop (L) - function, LUA_MULTRET, HANDLER, function, go_on),
                function);
}
