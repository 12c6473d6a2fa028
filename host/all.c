#include "all.h"

#include <math.h>

#include "context.h"
#include "deadlock.h"
#include "error.h"
#include "names.h"
#include "options.h"
#include "outcome.h"
#include "place.h"
#include "promise_object.h"
#include "settle.h"
#include "trace.h"

/* Anchor a group that is ready to begin, the userdata on top of L. May raise; after it nothing may. */
static void anchor (lua_State *L, struct group *group) {
  allua *host = group->host;
  context_inherit (L, -1);
  host_push (host, L, SLOT_LIVE);
  lua_pushvalue (L, -2);
  group->anchor = luaL_ref (L, -2);
  lua_pop (L, 1);
  if (!options_start_timer (group)) {
    luaL_unref (host->L, SLOT_LIVE, group->anchor);
    host_push (host, L, SLOT_MEMORY);
    lua_error (L);
  }
}

struct group *all_single (lua_State *L, allua *host, enum group_kind kind, int arguments,
                          double timeout) {
  struct group *group;
  luaL_checkstack (L, 12, NULL);
  task_reserve (L, host);
  group = group_new (L, host, kind, 1, false);
  lua_pushboolean (L, 0); /* the place of its error, or of several values: see group_new */
  lua_rawseti (L, -3, 1);
  lua_pop (L, 2);
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
  anchor (L, group);
  lua_insert (L, -2 - arguments);
  if (!task_prepare (host, L, &group->tasks[0], arguments + 1)) {
    settle_detach (group);
    luaL_unref (host->L, SLOT_LIVE, group->anchor);
    luaL_error (L, "too many arguments for a task");
  }
  return group;
}

void all_begin (struct group *group, struct task *owner) {
  allua *host = group->host;
  uint32_t i;
  group_link (group, owner);
  for (i = 0; i < group->size; i++) {
    struct task *task = &group->tasks[i];
    if (!place_counts (group) || place_take_fresh (task))
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

/* For what is no function. Returns whether it is a promise. */
static bool check_other (lua_State *L, allua *host, int key, int value) {
  if (luaL_getmetafield (L, value, "__call") != LUA_TNIL) {
    lua_pop (L, 1);
    return false;
  }
  if (lua_type (L, value) == LUA_TUSERDATA && lua_getmetatable (L, value)) {
    bool promise;
    host_push (host, L, SLOT_PROMISE);
    promise = lua_rawequal (L, -1, -2);
    lua_pop (L, 2);
    if (promise)
      return true;
  }
  lua_pushliteral (L, "task \"");
  luaL_tolstring (L, key, NULL);
  lua_pushfstring (L, "\" is not a function (got %s)", luaL_typename (L, value));
  lua_concat (L, 3);
  return error_raise (L);
}

/* Whether the table has no keys but 1 … its length, as far as looking at one of them tells. */
static bool looks_like_list (lua_State *L, lua_Unsigned length) {
  if (!length)
    return false;
  lua_pushinteger (L, (lua_Integer)length);
  if (!lua_next (L, 1))
    return true;
  lua_pop (L, 2);
  return false;
}

static void check_count (lua_State *L, enum group_kind kind, lua_Unsigned count) {
  if (count > INT32_MAX / 2)
    luaL_error (L, "%s: too many tasks", group_kind_name (kind));
}

/* What is found in a table of tasks that is not plainly a list. */
struct found {
  uint32_t count;
  bool list;   /* its keys are 1 … count after all */
  bool adopts; /* there are promises */
  bool kept;   /* its keys and values are on the stack, in pairs */
};

/* Returns whether the name under the top is one of a list of this length. */
static bool check_name (lua_State *L, lua_Unsigned length) {
  if (lua_type (L, -2) == LUA_TSTRING)
    return false;
  if (!lua_isinteger (L, -2))
    luaL_error (L, "task names are strings or integers (got %s)", luaL_typename (L, -2));
  return (lua_Unsigned)lua_tointeger (L, -2) - 1u < length;
}

/* Check all tasks of the table at 1. */
static void find_tasks (lua_State *L, allua *host, enum group_kind kind, struct found *found) {
  enum { MOST_KEPT = 4096, CHUNK = 32 }; /* of more the table is gone through a second time */
  lua_Unsigned count = 0, length = lua_rawlen (L, 1);
  int base = lua_gettop (L);
  *found = (struct found){ .list = true, .kept = true };
  for (lua_pushnil (L); lua_next (L, 1); count++) {
    if (!check_name (L, length))
      found->list = false;
    if (!lua_isfunction (L, -1) && check_other (L, host, lua_gettop (L) - 1, lua_gettop (L)))
      found->adopts = true;
    if (!found->kept) {
      lua_pop (L, 1);
    } else if (count < MOST_KEPT) {
      if (count % CHUNK == 0)
        luaL_checkstack (L, 2 * CHUNK + LUA_MINSTACK, NULL);
      lua_pushvalue (L, -2);
    } else {
      lua_pop (L, 1);
      lua_replace (L, base + 1);
      lua_settop (L, base + 1);
      found->kept = false;
    }
  }
  check_count (L, kind, count);
  found->count = (uint32_t)count;
}

/* Move the name and the function on top of L into the slots. */
static void take_task (lua_State *L, int slots, uint32_t place, struct name *name) {
  lua_rawseti (L, slots, 2 * (lua_Integer)place + 1);
  if (lua_type (L, -1) == LUA_TSTRING) {
    name->string = lua_tolstring (L, -1, &name->length);
  } else {
    name->string = NULL;
    name->integer = lua_tointeger (L, -1);
  }
  lua_rawseti (L, slots, 2 * (lua_Integer)place + 2);
}

/* Fill a group with names; its slots are at `slots`. Nothing in it can raise: all has its place. */
static void take_names (lua_State *L, struct group *group, int slots, bool kept, struct name *names,
                        struct place *places) {
  uint32_t i, size = group->size;
  if (kept) {
    for (i = size; i-- > 0;)
      take_task (L, slots, i, &names[i]);
  } else {
    lua_pushnil (L);
    for (i = 0; lua_next (L, 1); i++) {
      lua_pushvalue (L, -2);
      lua_insert (L, -2);
      take_task (L, slots, i, &names[i]);
    }
  }
  places = names_order (names, places, places + size, size);
  for (i = 0; i < size; i++)
    group->tasks[i].promise.place = 2 * places[i].of + 1;
}

static void fill_named (lua_State *L, struct group *group, int slots, bool kept) {
  enum { FEW = 32 };
  struct mem *mem = &group->host->mem;
  struct name few_names[FEW], *names;
  struct place few_places[2 * FEW], *places;
  size_t bytes = group->size * (sizeof *names + 2 * sizeof *places);
  if (group->size <= FEW) {
    take_names (L, group, slots, kept, few_names, few_places);
    return;
  }
  names = mem_resize (mem, NULL, 0, bytes);
  if (!names) {
    host_push (group->host, L, SLOT_MEMORY);
    lua_error (L);
  }
  places = (struct place *)(names + group->size);
  take_names (L, group, slots, kept, names, places);
  mem_resize (mem, names, bytes, 0);
}

/* Fill a group without names. Returns false where it should have some. */
static bool fill_list (lua_State *L, struct group *group, int slots) {
  int top = lua_gettop (L);
  uint32_t i;
  for (i = 1; i <= group->size; i++) {
    int type = lua_rawgeti (L, 1, i);
    if (type == LUA_TNIL)
      return false;
    if (type != LUA_TFUNCTION) {
      lua_pushinteger (L, i);
      if (check_other (L, group->host, top + 2, top + 1))
        group->adopts = true;
      lua_pop (L, 1);
    }
    lua_rawseti (L, slots, i);
  }
  return true;
}

/* Fill a group with the items that its one function gets. */
static void fill_items (lua_State *L, struct group *group, int slots) {
  uint32_t i;
  for (i = 1; i <= group->size; i++) {
    if (lua_geti (L, 1, i) == LUA_TNIL) {
      lua_pop (L, 1);
      lua_pushlightuserdata (L, (void *)&group_no_item); /* its place must be there */
    }
    lua_rawseti (L, slots, i);
  }
}

/* Make the group of the table at 1 and leave it on top, filled but for its options. */
static struct group *make (lua_State *L, allua *host, enum group_kind kind) {
  int base = lua_gettop (L), slots = base + 2;
  struct found found;
  struct group *group;
  if (kind == GROUP_MAP) {
    lua_Integer items = luaL_len (L, 1);
    check_count (L, kind, items < 0 ? 0 : (lua_Unsigned)items);
    group = group_new (L, host, kind, items < 0 ? 0 : (uint32_t)items, false);
    fill_items (L, group, slots);
    lua_settop (L, base + 1);
    return group;
  }
  if (looks_like_list (L, lua_rawlen (L, 1))) {
    check_count (L, kind, lua_rawlen (L, 1));
    group = group_new (L, host, kind, (uint32_t)lua_rawlen (L, 1), false);
    if (fill_list (L, group, slots)) {
      lua_settop (L, base + 1);
      return group;
    }
  }
  lua_settop (L, base + 3); /* the group's places, under the tasks */
  find_tasks (L, host, kind, &found);
  group = group_new (L, host, kind, found.count, !found.list);
  group->adopts = found.adopts;
  lua_replace (L, base + 3);
  lua_replace (L, base + 2);
  lua_replace (L, base + 1);
  if (found.list)
    fill_list (L, group, slots);
  else
    fill_named (L, group, slots, found.kept);
  lua_settop (L, base + 1);
  return group;
}

/* all (tasks [, options]) and its relatives. Leaves the group alone at stack index 1, begun. */
static struct group *begin (lua_State *L, allua *host, enum group_kind kind, struct task *owner,
                            int options) {
  struct group *group;
  if (!lua_istable (L, 1))
    luaL_error (L, "%s: expected a table of %s (got %s)", group_kind_name (kind),
                kind == GROUP_MAP ? "items" : "tasks", luaL_typename (L, 1));
  options_check (L, host, options, group_kind_name (kind));
  group = make (L, host, kind);
  if (kind == GROUP_MAP) {
    lua_pushvalue (L, 2);
    group_set (L, -2, AUX);
  }
  options_apply (L, options, lua_gettop (L));
  host_push (host, L, SLOT_SELF);
  lua_setmetatable (L, -2);
  if (group->size)
    anchor (L, group);
  lua_replace (L, 1);
  lua_settop (L, 1);
  if (group->size) {
    all_begin (group, owner);
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
  trace_print (L, 1);
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
