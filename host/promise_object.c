#include "promise_object.h"

#include <string.h>

#include "cycle.h"
#include "deadlock.h"
#include "error.h"
#include "op.h"
#include "outcome.h"
#include "promise_block.h"
#include "promise_c.h"
#include "report.h"
#include "settle.h"

struct view { /* user value 1: the group */
  struct promise *promise;
};

int promise_object_new (lua_State *L) {
  promise_block_push (L, host_of (L));
  return 1;
}

/* core.promise (text): a promise by hand that stands for that, in a dump. */
int promise_object_named (lua_State *L) {
  luaL_checkstring (L, 1);
  lua_settop (L, 1);
  luaL_getsubtable (L, LUA_REGISTRYINDEX, "allua.named"); /* where the few texts stay */
  lua_pushvalue (L, 1);
  lua_pushboolean (L, 1);
  lua_rawset (L, 2);
  promise_block_push (L, host_of (L))->what = lua_tostring (L, 1);
  return 1;
}

void promise_object_stands_for (allua_promise *promise, const char *what) {
  promise->what = what;
}

const char *promise_object_what (struct promise *promise) {
  if (promise->kind == PROMISE_OF_OP)
    return op_of (promise)->what;
  return promise_is_by_hand (promise) ? promise_block_of (promise)->what : NULL;
}

int promise_object_push_view (lua_State *L, allua *host, int index, struct task *task) {
  struct view *view;
  index = lua_absindex (L, index);
  view = lua_newuserdatauv (L, sizeof *view, 1);
  view->promise = &task->promise;
  host->live_promises++;
  host_push (host, L, SLOT_PROMISE);
  lua_setmetatable (L, -2);
  lua_pushvalue (L, index);
  lua_setiuservalue (L, -2, 1);
  return 1;
}

static struct promise **check (lua_State *L, allua *host, int index) {
  if (lua_type (L, index) == LUA_TUSERDATA && lua_getmetatable (L, index)) {
    bool same;
    host_push (host, L, SLOT_PROMISE);
    same = lua_rawequal (L, -1, -2);
    lua_pop (L, 2);
    if (same) {
      struct promise **object = lua_touserdata (L, index);
      if (!*object)
        luaL_error (L, "this promise has been collected"); /* and kept by another's finalizer */
      return object;
    }
  }
  luaL_typeerror (L, index, "promise");
  return NULL;
}

static struct allua_promise *check_by_hand (lua_State *L, const char *verb) {
  struct promise **object = check (L, host_of (L), 1);
  if (!promise_is_by_hand (*object))
    luaL_error (L, "cannot %s the promise of a task: the task settles it", verb);
  if (promise_block_of (*object)->from_c)
    luaL_error (L, "cannot %s this promise: the C function that made it settles it", verb);
  return promise_block_of (*object);
}

/* p:resolve (...), p:reject (e) → whether it was the first. */
static int settle_by_hand (lua_State *L, struct allua_promise *promise,
                           enum promise_status status) {
  int count = lua_gettop (L) - 1, i;
  if (promise->own.status != PROMISE_PENDING) {
    lua_pushboolean (L, 0);
    return 1;
  }
  if (count > 1) {
    lua_createtable (L, count, 0);
    for (i = 1; i <= count; i++) {
      lua_pushvalue (L, i + 1);
      lua_rawseti (L, -2, i);
    }
    lua_setiuservalue (L, 1, 1);
  } else if (count == 1) {
    lua_setiuservalue (L, 1, 1);
  }
  promise->count = count;
  promise->stored = true;
  promise_settle (promise->host, &promise->own, status, sched_wake);
  lua_pushboolean (L, 1);
  return 1;
}

static int promise_resolve (lua_State *L) {
  return settle_by_hand (L, check_by_hand (L, "resolve"), PROMISE_FULFILLED);
}

static int promise_reject (lua_State *L) {
  struct allua_promise *promise = check_by_hand (L, "reject");
  lua_settop (L, 2);
  return settle_by_hand (L, promise, PROMISE_REJECTED);
}

/* p:cancel (reason) */
static int promise_cancel (lua_State *L) {
  allua *host = host_of (L);
  struct promise **object = check (L, host, 1);
  if (promise_is_by_hand (*object))
    return luaL_error (L, "only the promise of a task can be cancelled: reject this one");
  lua_settop (L, 2);
  if (lua_isnil (L, 2)) {
    lua_pushliteral (L, "cancelled");
    lua_replace (L, 2);
  }
  settle_cancel_task (L, (struct task *)*object);
  return 0;
}

static bool is_settled (void *promise) {
  return ((struct promise *)promise)->status != PROMISE_PENDING;
}

/* The promise object is alone on the stack. */
static int await (lua_State *L, int status, lua_KContext ctx) {
  struct promise **object = lua_touserdata (L, 1), *promise = *object;
  allua *host = (allua *)ctx;
  struct task *task;
  lua_settop (L, 1);
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  if (status == LUA_YIELD)
    task_resumed (L, host);
  promise->handled = true;
  if (promise->status == PROMISE_PENDING) {
    task = task_enter (L, host);
    if (task) {
      if (!promise_is_by_hand (promise) && cycle_find (L, task, (struct task *)promise))
        return error_raise (L);
      return sched_wait_promise (L, task, promise, ctx, await);
    }
    if (!sched_run (host, L, is_settled, promise))
      deadlock_raise (L, host);
  }
  if (promise_is_by_hand (promise))
    return promise_block_push_values (L, promise_block_of (promise));
  if (lua_touserdata (L, 1) != ((struct task *)promise)->group) {
    lua_getiuservalue (L, 1, 1);
    lua_replace (L, 1);
  }
  return outcome_push_all (L, 1, (struct task *)promise);
}

/* Until the task that the group's task stands for has ended, cancelled as it is. */
static int adopted_ended (lua_State *L, int status, lua_KContext ctx) {
  struct task *task = ((allua *)ctx)->current;
  (void)status;
  task_resumed (L, (allua *)ctx);
  task->shields--;
  return task_raise_cancelled (L, task);
}

/* A promise among the tasks of a group: await it. If it is a task's, that one belongs to the group now:
   cancelled with it, and joined. */
static int adopt (lua_State *L, int status, lua_KContext ctx) {
  struct promise *promise = *(struct promise **)lua_touserdata (L, 1);
  allua *host = (allua *)ctx;
  struct task *task = host->current;
  if (!promise_is_by_hand (promise) && promise->status == PROMISE_PENDING
      && task_is_cancelled (task)) {
    task->wake = WAKE_DONE;
    task->shields++;
    group_push_reason (L, task);
    settle_cancel_task (L, (struct task *)promise);
    if (promise->status == PROMISE_PENDING && !cycle_find (L, task, (struct task *)promise))
      return sched_wait_promise (L, task, promise, ctx, adopted_ended);
    return adopted_ended (L, status, ctx);
  }
  if (promise->status == PROMISE_PENDING) {
    task_enter (L, host);
    promise->handled = true;
    if (!promise_is_by_hand (promise) && cycle_find (L, task, (struct task *)promise))
      return error_raise (L);
    return sched_wait_promise (L, task, promise, ctx, adopt);
  }
  return await (L, LUA_OK, ctx);
}

int promise_object_await (lua_State *L, allua *host) {
  return await (L, LUA_OK, (lua_KContext)host);
}

static int promise_adopt (lua_State *L) {
  lua_settop (L, 1);
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  return adopt (L, LUA_OK, (lua_KContext)host_of (L));
}

static int promise_await (lua_State *L) {
  allua *host = host_of (L);
  check (L, host, 1);
  lua_settop (L, 1);
  return await (L, LUA_OK, (lua_KContext)host);
}

static int promise_index (lua_State *L) {
  struct promise **object = check (L, host_of (L), 1);
  const char *key = luaL_checkstring (L, 2);
  if (strcmp (key, "status") == 0)
    lua_pushstring (L, promise_status_name (*object));
  else
    lua_getfield (L, lua_upvalueindex (2), key);
  return 1;
}

static int promise_eq (lua_State *L) {
  allua *host = host_of (L);
  struct promise **a = check (L, host, 1), **b = check (L, host, 2);
  lua_pushboolean (L, *a == *b);
  return 1;
}

static int promise_tostring (lua_State *L) {
  struct promise *promise = *check (L, host_of (L), 1);
  lua_pushfstring (L, "allua.promise: %p (%s)", (void *)promise, promise_status_name (promise));
  return 1;
}

static bool is_unhandled (const struct promise *promise) {
  return promise->status == PROMISE_REJECTED && !promise->handled && !promise->cancelled;
}

/* Report the rejection of the object at `index`. */
static void report (lua_State *L, allua *host, int index) {
  struct promise **object = lua_touserdata (L, index), *promise = *object;
  index = lua_absindex (L, index);
  promise->handled = true;
  if (promise_is_by_hand (promise)) {
    struct allua_promise *by_hand = promise_block_of (promise);
    if (by_hand->stored)
      lua_getiuservalue (L, index, 1);
    else
      lua_pushstring (L, by_hand->message ? by_hand->message : "not enough memory");
    lua_pushnil (L);
  } else {
    struct task *task = (struct task *)promise;
    outcome_push_error (L, index, task);
    if (group_get (L, index, RECORDS) != LUA_TNIL) {
      lua_rawgeti (L, -1, (lua_Integer)task->index + 1);
      lua_remove (L, -2);
    }
  }
  report_unhandled (L, host, -2, "unhandled rejection");
  lua_pop (L, 1);
}

static int promise_gc (lua_State *L) {
  allua *host = *(allua **)lua_touserdata (L, lua_upvalueindex (1));
  struct promise **object = lua_touserdata (L, 1), *promise = *object;
  if (host)
    host->live_promises--;
  if (!promise)
    return 0;
  if (promise_is_by_hand (promise)) {
    struct allua_promise *block = promise_block_of (promise);
    if (host && is_unhandled (promise))
      report (L, host, 1);
    *object = NULL;
    block->collected = true;
    block->stored = true; /* no value can be taken any more */
    promise_block_free_unused (block);
  } else if (host && (struct group *)(void *)object == ((struct task *)promise)->group
             && ((struct task *)promise)->group->kind == GROUP_SPAWN && is_unhandled (promise)) {
    report (L, host, 1);
  }
  return 0;
}

void promise_report_unhandled (lua_State *L, allua *host) {
  host_push (host, L, SLOT_PROMISES);
  for (lua_pushnil (L); lua_next (L, -2); lua_pop (L, 1)) {
    struct promise **object = lua_touserdata (L, -2);
    if (*object && is_unhandled (*object))
      report (L, host, -2);
  }
  lua_pop (L, 1);
}

void promise_object_close (lua_State *L, allua *host) {
  host_push (host, L, SLOT_PROMISES);
  for (lua_pushnil (L); lua_next (L, -2); lua_pop (L, 1)) {
    struct promise **object = lua_touserdata (L, -2);
    if (*object && promise_is_by_hand (*object)) {
      struct allua_promise *promise = promise_block_of (*object);
      if (promise->cancel)
        host->abandoned (host, *object);
      promise_block_unanchor (promise); /* who cannot be told to stop will settle it some time */
      promise_block_forget_data (promise);
      promise->host = NULL;
    }
  }
  lua_pop (L, 1);
}

void promise_object_open (lua_State *L, allua *host) {
  static const luaL_Reg meta[] = { { "__eq", promise_eq },
                                   { "__gc", promise_gc },
                                   { "__tostring", promise_tostring },
                                   { NULL, NULL } };
  static const luaL_Reg methods[] = { { "await", promise_await },
                                      { "resolve", promise_resolve },
                                      { "reject", promise_reject },
                                      { "cancel", promise_cancel },
                                      { NULL, NULL } };
  host_push (host, L, SLOT_PROMISE);
  host_push (host, L, SLOT_BOX);
  luaL_setfuncs (L, meta, 1);
  host_push (host, L, SLOT_BOX);
  luaL_newlibtable (L, methods);
  host_push (host, L, SLOT_BOX);
  luaL_setfuncs (L, methods, 1);
  host_push (host, L, SLOT_BOX);
  lua_pushcclosure (L, promise_adopt, 1);
  lua_xmove (L, host->L, 1);
  lua_replace (host->L, SLOT_AWAIT);
  lua_pushcclosure (L, promise_index, 2);
  lua_setfield (L, -2, "__index");
  lua_pushliteral (L, "allua.promise");
  lua_setfield (L, -2, "__metatable");
  lua_pop (L, 1);
  host->abandoned = promise_c_abandoned;
}
