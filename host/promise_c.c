#include "promise_c.h"

#include <stdarg.h>
#include <stdio.h>

#include "loop.h"
#include "op.h"
#include "promise_block.h"
#include "promise_object.h"
#include "sched.h"

void promise_c_abandoned (allua *host, struct promise *own) {
  struct allua_promise *promise = promise_block_of (own);
  void (*cancel) (void *);
  void *data;
  if (own->kind == PROMISE_OF_OP) {
    op_abandoned (host, own);
    return;
  }
  cancel = promise->cancel;
  data = promise->cancel_data;
  if (!cancel || own->status != PROMISE_PENDING)
    return;
  promise->stored = true;
  own->cancelled = true;
  promise_settle (host, own, PROMISE_REJECTED, sched_wake);
  promise_block_forget_work (promise);
  cancel (data);
}

allua_promise *allua_promise_new (lua_State *L) {
  allua *host = allua_of (L);
  struct allua_promise *promise;
  if (!host)
    luaL_error (L, "allua_promise_new: this state has no allua host");
  luaL_checkstack (L, 6, NULL);
  promise = promise_block_push_shared (L, host);
  host_push (host, L, SLOT_PENDING);
  lua_pushvalue (L, -2);
  promise->anchor = luaL_ref (L, -2);
  lua_pop (L, 1);
  promise->from_c = true;
  if (host->pending_work++ == 0)
    loop_set_pending (host, true);
  return promise;
}

void promise_c_wait_for_others (allua_promise *promise) {
  if (promise->anchor == LUA_NOREF || promise->passive)
    return;
  promise->passive = true;
  promise->host->passive_work++;
}

int allua_await (lua_State *L, allua_promise *promise) {
  int i;
  if (promise->anchor != LUA_NOREF) {
    host_push (promise->host, L, SLOT_PENDING);
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
  return promise_object_await (L, promise->host);
}

/* Whether a settling by C counts; if not, C has let go of the promise all the same. */
static bool may_settle (struct allua_promise *promise) {
  if (promise->from_c && promise->host && promise->own.status == PROMISE_PENDING)
    return true;
  if (promise->from_c) {
    promise->from_c = false;
    promise_block_free_unused (promise);
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
  promise_block_forget_work (promise);
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
  promise_block_forget_work (promise);
}

void allua_promise_on_cancel (allua_promise *promise, void (*cancel) (void *data), void *data) {
  if (promise->own.status != PROMISE_PENDING)
    return;
  promise->cancel = cancel;
  promise->cancel_data = data;
}
