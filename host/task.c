#include "task.h"

#include <string.h>

#include "barrier.h"
#include "error.h"
#include "trace.h"
#include "tracer.h"
#include "watch.h"

enum { MOST_SWALLOWED = 100 }; /* cancellings that a task may survive before it is stopped */

const char task_mark = 'w';

struct task *task_enter_outside (lua_State *L, allua *host) {
  if (host->current || host->runs || host->turns || (host->loop_runs && host->loop_runs (host)))
    barrier_raise (L, host);
  return NULL;
}

void task_note_wait (struct task *task) {
  if (trace_of (task->group))
    trace_wait (task, (enum task_wait)task->wait, task->on);
}

enum task_wake task_raise_resumed (lua_State *L) {
  luaL_error (L, "a task that waits can only be resumed by allua");
  return WAKE_DONE;
}

void task_push_cancelled (lua_State *L, const struct task *task) {
  luaL_checkstack (L, 12, NULL);
  group_push_name (L, task);
  group_push_reason (L, task);
  error_push_cancelled (L, task->group->host);
}

static int never (lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return luaL_error (L, "a stopped task was resumed");
}

int task_raise_cancelled (lua_State *L, struct task *task) {
  if (task->swallowed < MOST_SWALLOWED) {
    task->swallowed++;
  } else if (lua_isyieldable (L)) {
    group_push_name (L, task);
    lua_pushfstring (L, "allua: task \"%s\" went on after %d cancellings and is stopped",
                     luaL_tolstring (L, -1, NULL), MOST_SWALLOWED);
    luaL_traceback (L, L, lua_tostring (L, -1), 0);
    lua_warning (L, lua_tostring (L, -1), 0);
    lua_settop (L, 0);
    task->stop = true;
    return task_suspend (L, task, WAIT_TIMER, NULL, 0, never);
  }
  task_push_cancelled (L, task);
  return lua_error (L);
}

/* Arguments: SLOT_COROUTINES' table, the host. Puts a coroutine into the pool. */
static int make_coroutine (lua_State *L) {
  allua *host = lua_touserdata (L, 2);
  struct pooled *made;
  if (host->live_coroutines
      == host->pool_size) { /* room for all of them, so that release cannot fail */
    size_t item = sizeof *host->pool, size = host->pool_size < 32 ? 64 : host->pool_size * 2;
    void *block = mem_resize (&host->mem, host->pool, host->pool_size * item, size * item);
    if (!block) {
      return error_raise_memory (L, host);
    }
    host->pool = block;
    host->pool_size = size;
  }
  made = &host->pool[host->pooled];
  made->co = lua_newthread (L);
  watch_arm (made->co, host);
  made->anchor = luaL_ref (L, 1);
  host->pooled++;
  host->live_coroutines++;
  return 0;
}

void task_reserve (lua_State *L, allua *host) {
  if (host->pooled)
    return;
  luaL_checkstack (L, 4, NULL);
  lua_pushcfunction (L, make_coroutine);
  host_push (host, L, SLOT_COROUTINES);
  lua_pushlightuserdata (L, host);
  lua_call (L, 2, 0);
}

/* The pool must not be empty. */
static void take_coroutine (allua *host, struct task *task) {
  const struct pooled *taken = &host->pool[--host->pooled];
  if (host->pooled < host->pool_least)
    host->pool_least = host->pooled;
  task->co = taken->co;
  task->anchor = taken->anchor;
  host->live_tasks++;
}

static void put_coroutine (allua *host, lua_State *co, int anchor) {
  struct pooled *place = &host->pool[host->pooled++];
  place->co = co;
  place->anchor = anchor;
}

/* What a coroutine from the pool needs before it is given a task: the runner, unless it is suspended in
   one. Returns how many arguments that has then. */
static int push_runner (allua *host, lua_State *co) {
  if (lua_status (co) == LUA_YIELD)
    return 0;
  lua_pushvalue (host->L, SLOT_RUNNER);
  lua_pushvalue (host->L, SLOT_TASK_FAILED);
  lua_xmove (host->L, co, 2);
  return 1;
}

bool task_prepare (allua *host, lua_State *L, struct task *task, int values) {
  if (!lua_checkstack (host->pool[host->pooled - 1].co, values + 2))
    return false;
  take_coroutine (host, task);
  push_runner (host, task->co);
  lua_xmove (L, task->co, values);
  return true;
}

void task_push_group (lua_State *L, struct group *group) {
  if (group->host->loaded != group)
    group_load (group);
  host_push (group->host, L, SLOT_GROUP);
}

/* False: there is no memory; the error is on host->L. */
static bool fill_pool (allua *host) {
  lua_State *L = host->worker;
  lua_pushcfunction (L, make_coroutine);
  host_push (host, L, SLOT_COROUTINES);
  lua_pushlightuserdata (L, host);
  if (lua_pcall (L, 2, 0, 0) == LUA_OK)
    return true;
  lua_xmove (L, host->L, 1);
  return false;
}

/* Take a coroutine for a task that has none, with what is at the bottom of each. Returns how many arguments
   it gets, or -1 where there is no memory, the error on host->L. */
static int start (allua *host, struct task *task) {
  int arguments;
  if (!host->pooled && !fill_pool (host))
    return -1;
  take_coroutine (host, task);
  arguments = push_runner (host, task->co) + 1;
  task_push_group (task->co, task->group);
  return arguments;
}

/* Whether the record at `record` is that of a task of this group, and of which. */
static bool is_record_of (lua_State *L, struct group *group, int record, lua_Integer *index) {
  int top = lua_gettop (L);
  bool is = false;
  lua_getfield (L, record, "index");
  *index = lua_tointeger (L, -1);
  if (group_peek (L, group, RECORDS) == LUA_TTABLE) {
    lua_rawgeti (L, -1, *index + 1);
    is = lua_rawequal (L, -1, record);
  }
  lua_settop (L, top);
  return is;
}

/* The message handler: keep how the task failed, while its stack still stands. */
int task_failed (lua_State *L) {
  allua *host = *(allua **)lua_touserdata (L, lua_upvalueindex (1));
  struct task *task = host->current;
  lua_settop (L, 1);
  if (!task || error_is_cancelled (L, host, 1) || !lua_checkstack (L, 16))
    return 1;
  lua_createtable (L, 0, 8);
  group_push_name (L, task);
  luaL_tolstring (L, -1, NULL);
  lua_setfield (L, 2, "task");
  lua_settop (L, 2);
  error_push_record (L, host, 1);
  if (lua_istable (L, 3)) {
    lua_Integer index;
    bool sibling = is_record_of (L, task->group, 3, &index);
    if (sibling && index == task->index)
      return lua_settop (L, 1), 1; /* raised again on its way up: told already */
    /* Nothing new: it met the failure of another. */
    if (sibling) {
      lua_pushboolean (L, 1);
      lua_setfield (L, 2, "awaited");
      lua_getfield (L, 3, "depth");
      lua_pushinteger (L, lua_tointeger (L, -1) + 1);
      lua_setfield (L, 2, "depth");
      if (lua_getfield (L, 3, "origin") == LUA_TNIL)
        lua_pushvalue (L, 3);
      lua_setfield (L, 2, "origin");
    }
    lua_settop (L, 3);
    lua_setfield (L, 2, "from");
  } else {
    lua_settop (L, 2);
    error_push_traceback (L, host, 1);
    lua_setfield (L, 2, "traceback");
  }
  lua_pushinteger (L, task->index);
  lua_setfield (L, 2, "index");
  if (task->group->at)
    error_push_place (L, task->group->at, 0);
  else
    group_peek (L, task->group, STARTED);
  lua_setfield (L, 2, "started");
  if (group_peek (L, task->group, RECORDS) == LUA_TNIL) {
    lua_settop (L, 2);
    lua_newtable (L);
    host_push (host, L, SLOT_GROUP);
    lua_pushvalue (L, 3);
    group_set (L, 4, RECORDS);
    lua_settop (L, 3);
  }
  lua_pushvalue (L, 2);
  lua_rawseti (L, 3, (lua_Integer)task->index + 1);
  lua_settop (L, 2);
  if (host->tracer)
    tracer_failed (L, task);
  if (lua_type (L, 1) == LUA_TTABLE || lua_type (L, 1) == LUA_TUSERDATA) {
    host_push (host, L, SLOT_FAILED);
    lua_pushvalue (L, 1);
    lua_pushvalue (L, 2);
    lua_rawset (L, -3);
    lua_settop (L, 2);
  }
  error_raised (L, host, 1);
  return 1;
}

/* What there is to do before a task is resumed where that is not merely to go on. Returns how many arguments
   its coroutine gets, or -1 where there is no memory for one, the error on the scheduler's own stack. */
static int open_step (allua *host, struct task *task) {
  if (!task->co)
    return start (host, task);
  if (!task->at) {
    if (trace_of (task->group))
      trace_start (task);
    return lua_gettop (task->co) - 1;
  }
  if (task_needs_mark (task))
    lua_pop (task->co, 1);
  if (trace_of (task->group))
    trace_resume (task);
  return 0;
}

/* Its function has ended, in one way or another. */
static void close_step (allua *host, struct task *task, int status, int results) {
  if (status != LUA_OK) {
    bool beyond = status == LUA_YIELD && !task->stop;
    if (beyond) /* some C function yielded past us: nobody is there to take it */
      lua_settop (task->co, 0);
    results = task_unwind (host, task);
    if (beyond) {
      lua_pushvalue (host->L, SLOT_YIELDED);
      lua_xmove (host->L, task->co, 1);
    }
  }
  host->ended (host, task, results);
}

void task_step (allua *host, struct task *task) {
  lua_State *co = task->co;
  int status, results, arguments = 0, anchor;
  if (!co || task_needs_mark (task) || task->group->options) {
    arguments = open_step (host, task);
    if (arguments < 0) {
      task->failed = true;
      host->ended (host, task, 1);
      return;
    }
    co = task->co;
  }
  anchor = task->anchor;
  host->current = task;
  host->running = co;
  task->state = TASK_RUNNING;
  task->wait = WAIT_NOTHING;
  status = lua_resume (co, host->from, arguments, &results);
  task = host->current; /* it may be another by now: see go_on */
  host->current = NULL;
  host->running = NULL;
  if (!task)
    put_coroutine (host, co, anchor);
  else if (status != LUA_YIELD || task->state == TASK_RUNNING || task->stop)
    close_step (host, task, status, results);
}

int task_unwind (allua *host, struct task *task) {
  struct task *current = host->current;
  lua_State *running = host->running, *co = task->co;
  host->current = task;
  host->running = co;
  task->failed = true;
  lua_resetthread (co);
  host->current = current;
  host->running = running;
  if (lua_gettop (co) == 0)
    lua_pushnil (co);
  return 1;
}

static void drop (allua *host, int anchor) {
  luaL_unref (host->L, SLOT_COROUTINES, anchor);
  host->live_coroutines--;
}

void task_release (allua *host, struct task *task) {
  lua_State *co = task->co;
  task->co = task->at = NULL;
  host->live_tasks--;
  if (host->running == co)
    return; /* which goes on with another task */
  lua_settop (co, 0);
  if (task->exposed)
    drop (host, task->anchor);
  else
    put_coroutine (host, co, task->anchor);
}

/* The live tasks that have a coroutine, one after the other; `group` and `index` are where it stands. */
static struct task *next_with_coroutine (struct group **group, uint32_t *index) {
  for (; *group; *group = group_walk (*group), *index = 0)
    while (*index < (*group)->size) {
      struct task *task = &(*group)->tasks[(*index)++];
      if (task->co)
        return task;
    }
  return NULL;
}

static int anchor_again (lua_State *L, lua_State *co) {
  lua_pushthread (co);
  if (co != L)
    lua_xmove (co, L, 1);
  return luaL_ref (L, 3);
}

/* Argument: the host. Anchor all coroutines anew, in a table of the right size. */
static int renumber (lua_State *L) {
  allua *host = lua_touserdata (L, 1);
  int *anchors = lua_newuserdatauv (L, (host->live_coroutines + 1) * sizeof *anchors, 0);
  struct group *group = host->roots;
  struct task *task;
  uint32_t index = 0;
  size_t count = 0, i;
  lua_createtable (L, (int)host->live_coroutines, 0);
  while ((task = next_with_coroutine (&group, &index)) != NULL)
    anchors[count++] = anchor_again (L, task->co);
  for (i = 0; i < host->pooled; i++)
    anchors[count++] = anchor_again (L, host->pool[i].co);
  if (count != host->live_coroutines)
    return 0; /* a task is being put together: another time */
  lua_xmove (L, host->L, 1);
  lua_replace (host->L, SLOT_COROUTINES);
  for (count = 0, index = 0, group = host->roots;
       (task = next_with_coroutine (&group, &index)) != NULL;)
    task->anchor = anchors[count++];
  for (i = 0; i < host->pooled; i++)
    host->pool[i].anchor = anchors[count++];
  return 0;
}

void task_trim (allua *host, size_t keep) {
  const size_t few = 256; /* empty places that are not worth the work */
  size_t item = sizeof *host->pool;
  void *block;
  if (host->pooled <= keep)
    return;
  while (host->pooled > keep)
    drop (host, host->pool[--host->pooled].anchor);
  if (host->live_coroutines * 2 + few > host->pool_size)
    return;
  lua_pushcfunction (host->worker, renumber);
  lua_pushlightuserdata (host->worker, host);
  if (lua_pcall (host->worker, 1, 0, 0) != LUA_OK)
    lua_pop (host->worker, 1);
  block = mem_resize (&host->mem, host->pool, host->pool_size * item, host->live_coroutines * item);
  if (block || !host->live_coroutines) {
    host->pool = block;
    host->pool_size = host->live_coroutines;
  }
}
