#include "all.h"

#include <math.h>

#include "arity.h"
#include "context.h"
#include "deadlock.h"
#include "error.h"
#include "fill.h"
#include "options.h"
#include "outcome.h"
#include "place.h"
#include "progress.h"
#include "promise_block.h"
#include "settle.h"
#include "trace.h"
#include "tracer.h"

/* Anchor a group that is ready to begin, the userdata on top of L. May raise; after it nothing may. */
static void anchor (lua_State *L, struct group *group) {
  allua *host = group->host;
  if (host->current && host->current->context)
    context_inherit (L, -1);
  group_anchor (L, group);
  if (!options_start_timer (group)) {
    group_release (group);
    error_raise_memory (L, host);
  }
}

struct group *all_single (lua_State *L, allua *host, enum group_kind kind, int arguments,
                          double timeout) {
  struct group *group;
  luaL_checkstack (L, 12, NULL);
  task_reserve (L, host);
  group = group_new (L, host, kind, 1, false);
  if (timeout < HUGE_VAL)
    group_extend (L, -1)->timeout_seconds = timeout;
  if (kind == GROUP_ROOT) {
    group_extend (L, -1);
    group->patient = true;
  }
  if (kind == GROUP_SPAWN) {
    error_push_place (L, L, 0);
    group_set (L, -2, STARTED);
    promise_register (L, host);
  }
  if (host->tracer)
    tracer_add_group (L, lua_gettop (L));
  if (host->progress)
    progress_add_group (L, lua_gettop (L));
  anchor (L, group);
  lua_insert (L, -2 - arguments);
  if (!task_prepare (host, L, &group->tasks[0], arguments + 1)) {
    settle_detach (group);
    group_release (group);
    luaL_error (L, "too many arguments for a task");
  }
  return group;
}

void all_begin (struct group *group, struct task *owner) {
  allua *host = group->host;
  uint32_t i;
  group_link (group, owner);
  if (!place_counts (group)) {
    sched_begin (group);
    return;
  }
  for (i = 0; i < group->size; i++) {
    struct task *task = &group->tasks[i];
    if (place_take_fresh (task))
      sched_ready (host, task);
  }
}

/* One run from outside. */
struct run {
  lua_State *L;
  bool done;
  int status, results;
};

static void on_run_done (lua_State *L, int status, int results, void *data) {
  struct run *run = data;
  run->done = true;
  run->status = status;
  if (lua_checkstack (run->L, results + 4)) {
    lua_xmove (L, run->L, results);
    run->results = results;
  } else {
    run->status = ALLUA_ERROR;
    host_push (allua_of (L), run->L, SLOT_MEMORY);
    run->results = 1;
  }
}

static bool is_run_done (void *data) {
  return ((struct run *)data)->done;
}

int all_run (lua_State *L, allua *host, int arguments) {
  struct run run = { .L = L };
  struct group *group = all_single (L, host, GROUP_ROOT, arguments, HUGE_VAL);
  group->options->done = on_run_done;
  group->options->done_data = &run;
  all_begin (group, NULL);
  lua_pop (L, 1); /* it is anchored while it is under way */
  if (!sched_run (host, L, is_run_done, &run)) {
    if (host->close_asked) {
      group->options->done = NULL; /* it ends later, when this C frame is gone */
      return luaL_error (L, "the host was closed while this ran");
    }
    deadlock_break (host, L, group, is_run_done, &run);
  }
  if (run.status != ALLUA_OK)
    return lua_error (L);
  return run.results;
}

int all_run_outside (lua_State *L, allua *host) {
  lua_Debug info;
  lua_getstack (L, 0, &info);
  lua_getinfo (L, "f", &info);
  lua_insert (L, 1);
  return all_run (L, host, lua_gettop (L) - 1);
}

/* Whether a group of this owner stands in no other. */
static bool is_outermost (const struct task *owner) {
  while (owner && owner->group->kind >= GROUP_CALL)
    owner = owner->group->owner;
  return !owner;
}

/* all (tasks [, options]) and its relatives. Leaves the group alone at stack index 1, begun. */
static struct group *begin (lua_State *L, allua *host, enum group_kind kind, struct task *owner,
                            int options) {
  bool with_options = !lua_isnil (L, options);
  struct group *group;
  if (!lua_istable (L, 1))
    luaL_error (L, "%s: expected a table of %s (got %s)", group_kind_name (kind),
                kind == GROUP_MAP ? "items" : "tasks", luaL_typename (L, 1));
  if (with_options)
    options_check (L, host, options, group_kind_name (kind));
  group = fill_group (L, host, kind);
  if (kind == GROUP_MAP) {
    lua_pushvalue (L, 2);
    group_set (L, -2, AUX);
  } else {
    arity_recall (L, host, group->size);
  }
  if (with_options)
    options_apply (L, options, lua_gettop (L));
  if (host->waterfall && !trace_of (group) && is_outermost (owner))
    trace_open (L, lua_gettop (L), true);
  if (host->traces)
    trace_nest (L, lua_gettop (L), owner);
  if (host->tracer)
    tracer_add_group (L, lua_gettop (L));
  if (host->progress)
    progress_add_group (L, lua_gettop (L));
  host_push (host, L, SLOT_SELF);
  lua_setmetatable (L, -2);
  if (group->size)
    anchor (L, group);
  lua_replace (L, 1);
  lua_settop (L, 1);
  if (group->size) {
    all_begin (group, owner);
    if (with_options)
      options_listen (L, 1);
  } else {
    group->ended = true;
  }
  return group;
}

int all_join (lua_State *L, struct task *owner, struct group *group) {
  if (!group->pending)
    return outcome_of (L, LUA_OK, (lua_KContext)group);
  group->at = L;
  return sched_join (L, owner, group, (lua_KContext)group, outcome_of);
}

static void check_function (lua_State *L, int index, const char *name) {
  if (lua_isfunction (L, index))
    return;
  if (luaL_getmetafield (L, index, "__call") == LUA_TNIL)
    luaL_error (L, "%s: expected a function (got %s)", name, luaL_typename (L, index));
  lua_pop (L, 1);
}

static int start_group (lua_State *L, enum group_kind kind, int options) {
  allua *host = host_of (L);
  struct task *owner = task_enter (L, host);
  if (!owner)
    return all_run_outside (L, host);
  lua_settop (L, options);
  return all_join (L, owner, begin (L, host, kind, owner, options));
}

static int lua_all (lua_State *L) {
  return start_group (L, GROUP_ALL, 2);
}

static int lua_all_settled (lua_State *L) {
  return start_group (L, GROUP_SETTLED, 2);
}

static int lua_flow (lua_State *L) {
  return start_group (L, GROUP_FLOW, 2);
}

static int lua_race (lua_State *L) {
  return start_group (L, GROUP_RACE, 2);
}

static int lua_any (lua_State *L) {
  return start_group (L, GROUP_ANY, 2);
}

static int lua_map (lua_State *L) {
  check_function (L, 2, "map");
  return start_group (L, GROUP_MAP, 3);
}

/* each (tasks [, options]) → what a generic for wants: the iterator, the group, nothing, and the group
   again, to be closed. */
static int lua_each (lua_State *L) {
  allua *host = host_of (L);
  struct task *owner = task_enter (L, host);
  lua_settop (L, 2);
  begin (L, host, GROUP_EACH, owner, 2);
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushcclosure (L, all_each_next, 1);
  lua_insert (L, 1);
  lua_pushnil (L);
  lua_pushvalue (L, 2);
  return 4;
}

static bool has_next (void *data) {
  const struct group *group = data;
  return group->settled.first || group->ended;
}

static bool has_ended (void *data) {
  return ((const struct group *)data)->ended;
}

/* The waterfall of a loop over a group (at 1), once, when that has ended. */
static void show_trace (lua_State *L, struct group *group) {
  if (!group->ended || !trace_of (group))
    return;
  trace_finish (L, 1);
  group->options->trace = NULL;
}

/* Only the group is on the stack. */
static int each_next (lua_State *L, int status, lua_KContext ctx) {
  struct group *group = lua_touserdata (L, 1);
  allua *host = host_of (L);
  struct task *task;
  (void)ctx;
  if (status == LUA_YIELD)
    task_resumed (L, host);
  if (!has_next (group)) {
    struct task *owner = task_enter (L, host);
    if (owner != group->owner)
      return luaL_error (L, "each: only the task that began this loop can run it");
    if (owner) {
      group->at = L;
      return task_suspend (L, owner, WAIT_NEXT, group, 0, each_next);
    }
    if (!sched_run (host, L, has_next, group))
      deadlock_break (host, L, group, has_next, group);
  }
  task = ring_pop (&group->settled);
  if (group->ended && (!task || task->promise.status == PROMISE_REJECTED))
    show_trace (L, group);
  if (!task)
    return group->failed ? outcome_raise (L, group) : 0;
  if (task->promise.status == PROMISE_REJECTED)
    return outcome_raise (L, group);
  group_push_name_at (L, 1, task);
  outcome_push_first (L, 1, task);
  return 2;
}

int all_each_next (lua_State *L) {
  lua_settop (L, 1);
  return each_next (L, LUA_OK, 0);
}

static int each_closed (lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  show_trace (L, (struct group *)ctx);
  return 0;
}

/* __close of a group, when a loop over it is left: cancel what is unfinished, and join. */
int all_each_close (lua_State *L) {
  struct group *group = lua_touserdata (L, 1);
  allua *host = host_of (L);
  struct task *owner;
  if (group->kind != GROUP_EACH)
    return 0;
  if (group->ended)
    return each_closed (L, LUA_OK, (lua_KContext)group);
  owner = task_enter_join (L, host);
  settle_decide (group);
  if (!owner && !group->owner) {
    if (!sched_run (host, L, has_ended, group))
      deadlock_break (host, L, group, has_ended, group);
  } else if (owner == group->owner && group->pending) {
    return task_suspend (L, owner, WAIT_GROUP, group, (lua_KContext)group, each_closed);
  }
  return each_closed (L, LUA_OK, (lua_KContext)group);
}

/* timeout (seconds, fn, …) */
static int lua_timeout (lua_State *L) {
  allua *host = host_of (L);
  struct task *owner;
  struct group *group;
  double seconds;
  if (lua_type (L, 1) != LUA_TNUMBER || !(lua_tonumber (L, 1) >= 0))
    return luaL_error (L, "timeout: expected a number of seconds, 0 or more (got %s)",
                       luaL_tolstring (L, 1, NULL));
  seconds = lua_tonumber (L, 1);
  check_function (L, 2, "timeout");
  owner = task_enter (L, host);
  if (!owner)
    return all_run_outside (L, host);
  group = all_single (L, host, GROUP_CALL, lua_gettop (L) - 2, seconds);
  lua_replace (L, 1);
  all_begin (group, owner);
  return all_join (L, owner, group);
}

/* run (fn, …) */
static int lua_run (lua_State *L) {
  allua *host = host_of (L);
  struct task *owner;
  struct group *group;
  check_function (L, 1, "run");
  owner = task_enter (L, host);
  if (!owner)
    return all_run (L, host, lua_gettop (L) - 1);
  group = all_single (L, host, GROUP_CALL, lua_gettop (L) - 1, HUGE_VAL);
  group->patient = true;
  all_begin (group, owner);
  return all_join (L, owner, group);
}

/* spawn (fn, …) → promise. Outside a task it is a root. */
static int lua_spawn (lua_State *L) {
  allua *host = host_of (L);
  struct group *group;
  struct task *owner = host->current;
  int arguments = lua_gettop (L) - 1;
  check_function (L, 1, "spawn");
  lua_settop (L, arguments + 1);
  group = all_single (L, host, GROUP_SPAWN, arguments, HUGE_VAL);
  all_begin (group, owner);
  return 1;
}

const luaL_Reg all_functions[] = { { "all", lua_all },   { "all_settled", lua_all_settled },
                                   { "flow", lua_flow }, { "race", lua_race },
                                   { "any", lua_any },   { "each", lua_each },
                                   { "map", lua_map },   { "timeout", lua_timeout },
                                   { "run", lua_run },   { "spawn", lua_spawn },
                                   { NULL, NULL } };
