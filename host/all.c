#include "all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "deadlock.h"
#include "error.h"
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

/* The keys of a table of tasks, to be sorted: integers first, then strings in byte order. */
struct key {
  uint64_t prefix;    /* a string's first bytes, the first one highest: settles most comparisons */
  const char *string; /* NULL: an integer */
  size_t length;
  lua_Integer integer;
  uint32_t from; /* its place in the slots before the sorting */
};

static void set_string (struct key *key, const char *string) {
  size_t i;
  key->string = string;
  key->prefix = 0;
  for (i = 0; i < sizeof key->prefix; i++)
    key->prefix = key->prefix << 8 | (i < key->length ? (unsigned char)string[i] : 0);
}

static int compare (const void *a, const void *b) {
  const struct key *x = a, *y = b;
  if (!x->string || !y->string) {
    if (x->string || y->string)
      return x->string ? 1 : -1;
    return (x->integer > y->integer) - (x->integer < y->integer);
  } else if (x->prefix != y->prefix) {
    return x->prefix < y->prefix ? -1 : 1;
  } else {
    size_t length = x->length < y->length ? x->length : y->length;
    int order = memcmp (x->string, y->string, length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
  }
}

/* Returns whether it is a promise. */
static bool check_task (lua_State *L, allua *host, int key, int value) {
  if (lua_isfunction (L, value))
    return false;
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

/* How many tasks; checks them all. *list: they are 1 … n. *adopts: there are promises among them. */
static uint32_t count_tasks (lua_State *L, allua *host, enum group_kind kind, bool *list,
                             bool *adopts) {
  lua_Unsigned count = 0, length = lua_rawlen (L, 1);
  *list = true;
  for (lua_pushnil (L); lua_next (L, 1); lua_pop (L, 1)) {
    if (lua_isinteger (L, -2)) {
      if ((lua_Unsigned)lua_tointeger (L, -2) - 1u >= length)
        *list = false;
    } else if (lua_type (L, -2) == LUA_TSTRING) {
      *list = false;
    } else {
      luaL_error (L, "task names are strings or integers (got %s)", luaL_typename (L, -2));
    }
    if (check_task (L, host, lua_gettop (L) - 1, lua_gettop (L)))
      *adopts = true;
    count++;
  }
  if (count > INT32_MAX / 2)
    luaL_error (L, "%s: too many tasks", group_kind_name (kind));
  return (uint32_t)count;
}

/* Move the slots' names and functions to their sorted places, each once, cycle by cycle. The slots are
   on top of L. */
static void permute (lua_State *L, struct key *keys, uint32_t size) {
  uint32_t i;
  for (i = 0; i < size; i++) {
    uint32_t to = i;
    if (keys[i].from == i)
      continue;
    lua_rawgeti (L, -1, (lua_Integer)i + 1);
    lua_rawgeti (L, -2, (lua_Integer)size + i + 1);
    while (keys[to].from != i) {
      uint32_t from = keys[to].from;
      lua_rawgeti (L, -3, (lua_Integer)from + 1);
      lua_rawseti (L, -4, (lua_Integer)to + 1);
      lua_rawgeti (L, -3, (lua_Integer)size + from + 1);
      lua_rawseti (L, -4, (lua_Integer)size + to + 1);
      keys[to].from = to;
      to = from;
    }
    lua_rawseti (L, -3, (lua_Integer)size + to + 1);
    lua_rawseti (L, -2, (lua_Integer)to + 1);
    keys[to].from = to;
  }
}

/* Fill a group with names: stack: …, group, slots, results; the tasks at 1. */
static void fill_named (lua_State *L, struct group *group) {
  uint32_t i = 0, size = group->size;
  int slots = lua_gettop (L) - 1, results = slots + 1;
  bool sorted = true;
  struct key *keys = lua_newuserdatauv (L, size * sizeof *keys, 0);
  lua_pushnil (L);
  for (; lua_next (L, 1); i++) {
    struct key *key = &keys[i];
    key->from = i;
    key->string = NULL;
    if (lua_type (L, -2) == LUA_TSTRING)
      set_string (key, lua_tolstring (L, -2, &key->length));
    else
      key->integer = lua_tointeger (L, -2);
    if (i && sorted && compare (key - 1, key) > 0)
      sorted = false;
    lua_rawseti (L, slots, (lua_Integer)i + 1);
    lua_pushvalue (L, -1);
    lua_rawseti (L, slots, (lua_Integer)size + i + 1);
  }
  if (!sorted) {
    qsort (keys, size, sizeof *keys, compare);
    lua_pushvalue (L, slots);
    permute (L, keys, size);
    lua_pop (L, 1);
  }
  lua_pop (L, 1);
  for (i = 0; i < size; i++) {
    lua_rawgeti (L, slots, (lua_Integer)size + i + 1);
    lua_pushlightuserdata (L, &group->tasks[i]);
    lua_rawset (L, results);
  }
}

/* all (tasks [, options]) and its relatives. Leaves the group alone at stack index 1, begun. */
static struct group *begin (lua_State *L, allua *host, enum group_kind kind, struct task *owner,
                            int options) {
  struct group *group;
  uint32_t size;
  bool list, adopts = false;
  if (!lua_istable (L, 1))
    luaL_error (L, "%s: expected a table of %s (got %s)", group_kind_name (kind),
                kind == GROUP_MAP ? "items" : "tasks", luaL_typename (L, 1));
  options_check (L, host, options, group_kind_name (kind));
  if (kind == GROUP_MAP) {
    lua_Integer length = luaL_len (L, 1);
    if (length > INT32_MAX / 2)
      luaL_error (L, "%s: too many tasks", group_kind_name (kind));
    size = (uint32_t)length;
    list = true;
  } else {
    size = count_tasks (L, host, kind, &list, &adopts);
  }
  group = group_new (L, host, kind, size, !list);
  group->adopts = adopts;
  if (list) {
    uint32_t i;
    for (i = 1; i <= size; i++) {
      if (kind != GROUP_MAP) {
        lua_rawgeti (L, 1, i);
      } else if (lua_geti (L, 1, i) == LUA_TNIL) {
        lua_pop (L, 1);
        lua_pushlightuserdata (L, (void *)&group_no_item); /* its place must be there */
      }
      lua_rawseti (L, -3, i);
    }
  } else {
    fill_named (L, group);
  }
  lua_pop (L, 2);
  if (kind == GROUP_MAP) {
    lua_pushvalue (L, 2);
    group_set (L, -2, AUX);
  }
  options_apply (L, options, lua_gettop (L));
  host_push (host, L, SLOT_SELF);
  lua_setmetatable (L, -2);
  if (size)
    anchor (L, group);
  lua_replace (L, 1);
  lua_settop (L, 1);
  if (size) {
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
