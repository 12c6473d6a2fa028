#include "promise_object.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "all.h"
#include "cycle.h"
#include "deadlock.h"
#include "error.h"
#include "loop.h"
#include "outcome.h"
#include "report.h"
#include "settle.h"

/* Every promise object begins with a pointer to its promise: a struct group (a spawned task), a struct
   view, or a struct by_hand. The last's promise is in a block of its own, shared by the userdata and, until
   it has settled it, C: the one that lets go last frees it, if need be after the host. */
struct allua_promise {
  struct promise own;
  allua *host; /* NULL: closed */
  struct mem mem;
  int count;   /* of values, in user value 1 of the object: one, or a table of them; or an error */
  bool stored; /* they are there */
  bool collected; /* the object is gone */
  bool from_c;    /* C has still to settle it */
  int anchor;     /* of the object, in SLOT_LIVE, while C has it */
  allua_push push;
  void *data;
  char *message; /* of a rejection, until it is stored; NULL: there was no memory for it */
  void (*cancel) (void *data);
  void *cancel_data;
};

struct by_hand {
  struct promise *promise; /* NULL: there was no memory for the block */
};

struct view { /* user value 1: the group */
  struct promise *promise;
};

static bool is_by_hand (const struct promise *promise) {
  return promise->kind == PROMISE_BY_HAND;
}

static struct allua_promise *block_of (struct promise *promise) {
  return (struct allua_promise *)((char *)promise - offsetof (struct allua_promise, own));
}

void promise_register (lua_State *L, allua *host) {
  host_push (host, L, SLOT_PROMISES);
  lua_pushvalue (L, -2);
  lua_pushboolean (L, 1);
  lua_rawset (L, -3);
  lua_pop (L, 1);
  host_push (host, L, SLOT_PROMISE);
  lua_setmetatable (L, -2);
  host->live_promises++;
}

static struct allua_promise *push_new (lua_State *L, allua *host) {
  struct by_hand *object = lua_newuserdatauv (L, sizeof *object, 1);
  struct allua_promise *promise;
  object->promise = NULL;
  promise_register (L, host);
  promise = mem_resize (&host->mem, NULL, 0, sizeof *promise);
  if (!promise) {
    host_push (host, L, SLOT_MEMORY);
    lua_error (L);
  }
  memset (promise, 0, sizeof *promise);
  promise->own.kind = PROMISE_BY_HAND;
  promise->host = host;
  promise->mem = host->mem;
  promise->anchor = LUA_NOREF;
  object->promise = &promise->own;
  return promise;
}

int promise_object_new (lua_State *L) {
  push_new (L, host_of (L));
  return 1;
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
  if (!is_by_hand (*object))
    luaL_error (L, "cannot %s the promise of a task: the task settles it", verb);
  if (block_of (*object)->from_c)
    luaL_error (L, "cannot %s this promise: the C function that made it settles it", verb);
  return block_of (*object);
}

/* Take it out of the host's pending work. */
static void unanchor (struct allua_promise *promise) {
  allua *host = promise->host;
  if (promise->anchor == LUA_NOREF)
    return;
  luaL_unref (host->L, SLOT_LIVE, promise->anchor);
  promise->anchor = LUA_NOREF;
  if (--host->pending_work == 0 && host->handles)
    loop_set_pending (host, false);
}

static void forget_data (struct allua_promise *promise) {
  allua_push push = promise->push;
  promise->push = NULL;
  if (push)
    push (NULL, promise->data);
  if (promise->message)
    mem_resize (&promise->mem, promise->message, strlen (promise->message) + 1, 0);
  promise->message = NULL;
}

static void free_unused (struct allua_promise *promise) {
  struct mem mem = promise->mem;
  if (promise->from_c || !promise->collected)
    return;
  forget_data (promise);
  mem_resize (&mem, promise, sizeof *promise, 0);
}

/* C has settled it, or has been told to stop. */
static void forget_work (struct allua_promise *promise) {
  promise->from_c = false;
  promise->cancel = NULL;
  unanchor (promise);
  free_unused (promise);
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
  if (is_by_hand (*object))
    return luaL_error (L, "only the promise of a task can be cancelled: reject this one");
  lua_settop (L, 2);
  if (lua_isnil (L, 2)) {
    lua_pushliteral (L, "cancelled");
    lua_replace (L, 2);
  }
  settle_cancel_task (L, (struct task *)*object);
  return 0;
}

/* Put what C gave into the user value of the object at 1. */
static int store (lua_State *L) {
  struct allua_promise *promise = block_of (*(struct promise **)lua_touserdata (L, 1));
  lua_settop (L, 1);
  if (promise->own.status == PROMISE_REJECTED) {
    lua_pushstring (L, promise->message ? promise->message : "not enough memory");
    lua_setiuservalue (L, 1, 1);
    promise->count = 1;
  } else if (promise->push) {
    allua_push push = promise->push;
    int count, i;
    promise->push = NULL;
    count = push (L, promise->data);
    if (count > 1) {
      lua_createtable (L, count, 0);
      for (i = count; i >= 1; i--) {
        lua_pushvalue (L, -i - 1);
        lua_rawseti (L, -2, count - i + 1);
      }
    }
    if (count)
      lua_setiuservalue (L, 1, 1);
    promise->count = count;
  }
  return 0;
}

static int push_values (lua_State *L, struct allua_promise *promise) {
  int i;
  if (!promise->stored) {
    promise->stored = true;
    lua_pushcfunction (L, store);
    lua_pushvalue (L, 1);
    if (lua_pcall (L, 1, 0, 0) != LUA_OK) {
      lua_setiuservalue (L, 1, 1);
      promise->own.status = PROMISE_REJECTED;
      promise->count = 1;
    }
    forget_data (promise);
  }
  if (promise->own.status == PROMISE_REJECTED) {
    if (promise->own.cancelled) {
      error_push (L, promise->host, "CancelledError", "what this promise stands for was cancelled");
    } else {
      lua_getiuservalue (L, 1, 1);
    }
    return lua_error (L);
  }
  if (promise->count <= 1) {
    lua_getiuservalue (L, 1, 1);
    return promise->count;
  }
  luaL_checkstack (L, promise->count + 1, "too many values");
  lua_getiuservalue (L, 1, 1);
  for (i = 1; i <= promise->count; i++)
    lua_rawgeti (L, 2, i);
  return promise->count;
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
      if (!is_by_hand (promise) && cycle_find (L, task, (struct task *)promise))
        return error_raise (L);
      return sched_wait_promise (L, task, promise, ctx, await);
    }
    if (!sched_run (host, L, is_settled, promise))
      deadlock_raise (L, host);
  }
  if (is_by_hand (promise))
    return push_values (L, block_of (promise));
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
  if (!is_by_hand (promise) && promise->status == PROMISE_PENDING && task_is_cancelled (task)) {
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
    if (!is_by_hand (promise) && cycle_find (L, task, (struct task *)promise))
      return error_raise (L);
    return sched_wait_promise (L, task, promise, ctx, adopt);
  }
  return await (L, LUA_OK, ctx);
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
  if (is_by_hand (promise)) {
    struct allua_promise *by_hand = block_of (promise);
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
  if (is_by_hand (promise)) {
    struct allua_promise *block = block_of (promise);
    if (host && is_unhandled (promise))
      report (L, host, 1);
    *object = NULL;
    block->collected = true;
    block->stored = true; /* no value can be taken any more */
    free_unused (block);
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
    if (*object && is_by_hand (*object)) {
      struct allua_promise *promise = block_of (*object);
      if (promise->cancel)
        host->abandoned (host, *object);
      unanchor (promise); /* who cannot be told to stop will settle it some time */
      forget_data (promise);
      promise->host = NULL;
    }
  }
  lua_pop (L, 1);
}

/* host.abandoned: the last task that waited for a promise was cancelled. One of C's, that knows how
   to stop its work, is settled by that. */
static void abandoned (allua *host, struct promise *own) {
  struct allua_promise *promise = block_of (own);
  void (*cancel) (void *) = promise->cancel;
  void *data = promise->cancel_data;
  if (!cancel || own->status != PROMISE_PENDING)
    return;
  promise->stored = true;
  own->cancelled = true;
  promise_settle (host, own, PROMISE_REJECTED, sched_wake);
  forget_work (promise);
  cancel (data);
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
  host->abandoned = abandoned;
}

allua_promise *allua_promise_new (lua_State *L) {
  allua *host = allua_of (L);
  struct allua_promise *promise;
  if (!host)
    luaL_error (L, "allua_promise_new: this state has no allua host");
  luaL_checkstack (L, 6, NULL);
  promise = push_new (L, host);
  host_push (host, L, SLOT_LIVE);
  lua_pushvalue (L, -2);
  promise->anchor = luaL_ref (L, -2);
  lua_pop (L, 1);
  promise->from_c = true;
  if (host->pending_work++ == 0)
    loop_set_pending (host, true);
  return promise;
}

int allua_await (lua_State *L, allua_promise *promise) {
  int i;
  if (promise->anchor != LUA_NOREF) {
    host_push (promise->host, L, SLOT_LIVE);
    lua_rawgeti (L, -1, promise->anchor);
    lua_replace (L, 1);
  } else {
    /* Settled already, so only the caller's stack keeps it. */
    host_push (promise->host, L, SLOT_PROMISE);
    for (i = lua_gettop (L) - 1; i > 0; i--)
      if (lua_type (L, i) == LUA_TUSERDATA && lua_getmetatable (L, i)) {
        bool same = lua_rawequal (L, -1, -2);
        lua_pop (L, 1);
        if (same && *(struct promise **)lua_touserdata (L, i) == &promise->own)
          break;
      }
    luaL_argcheck (L, i > 0, 1, "allua_await: the promise is not on the stack");
    lua_pushvalue (L, i);
    lua_replace (L, 1);
  }
  lua_settop (L, 1);
  if (promise->host->current && task_is_cancelled (promise->host->current) && !promise->own.waiters
      && promise->own.status == PROMISE_PENDING) {
    /* It never waits, so its work is stopped at once. */
    promise->host->abandoned (promise->host, &promise->own);
    task_enter (L, promise->host);
  }
  return await (L, LUA_OK, (lua_KContext)promise->host);
}

/* Whether a settling by C counts; if not, C has let go of the promise all the same. */
static bool may_settle (struct allua_promise *promise) {
  if (promise->from_c && promise->host && promise->own.status == PROMISE_PENDING)
    return true;
  if (promise->from_c) {
    promise->from_c = false;
    free_unused (promise);
  }
  return false;
}

void allua_promise_resolve (allua_promise *promise, allua_push push, void *data) {
  if (!may_settle (promise)) {
    if (push)
      push (NULL, data);
    return;
  }
  promise->push = push;
  promise->data = data;
  promise_settle (promise->host, &promise->own, PROMISE_FULFILLED, sched_wake);
  forget_work (promise);
}

void allua_promise_reject (allua_promise *promise, const char *format, ...) {
  va_list arguments;
  int length;
  if (!may_settle (promise))
    return;
  va_start (arguments, format);
  length = vsnprintf (NULL, 0, format, arguments);
  va_end (arguments);
  if (length >= 0)
    promise->message = mem_resize (&promise->mem, NULL, 0, (size_t)length + 1);
  if (promise->message) {
    va_start (arguments, format);
    vsnprintf (promise->message, (size_t)length + 1, format, arguments);
    va_end (arguments);
  }
  promise_settle (promise->host, &promise->own, PROMISE_REJECTED, sched_wake);
  forget_work (promise);
}

void allua_promise_on_cancel (allua_promise *promise, void (*cancel) (void *data), void *data) {
  if (promise->own.status != PROMISE_PENDING)
    return;
  promise->cancel = cancel;
  promise->cancel_data = data;
}
