#include "promise_block.h"

#include <string.h>

#include "error.h"
#include "loop.h"

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

static void begin (struct allua_promise *promise, allua *host) {
  memset (promise, 0, sizeof *promise);
  promise->own.kind = PROMISE_BY_HAND;
  promise->host = host;
  promise->mem = host->mem;
  promise->anchor = LUA_NOREF;
}

struct allua_promise *promise_block_push (lua_State *L, allua *host) {
  struct by_hand *object = lua_newuserdatauv (L, sizeof *object + sizeof *object->inside, 1);
  struct allua_promise *promise = object->inside;
  begin (promise, host);
  promise->inside = true;
  object->promise = &promise->own;
  promise_register (L, host);
  return promise;
}

struct allua_promise *promise_block_push_shared (lua_State *L, allua *host) {
  struct by_hand *object = lua_newuserdatauv (L, sizeof *object, 1);
  struct allua_promise *promise;
  object->promise = NULL;
  promise_register (L, host);
  promise = mem_resize (&host->mem, NULL, 0, sizeof *promise);
  if (!promise) {
    error_raise_memory (L, host);
  }
  begin (promise, host);
  object->promise = &promise->own;
  return promise;
}

void promise_block_unanchor (struct allua_promise *promise) {
  allua *host = promise->host;
  if (promise->anchor == LUA_NOREF)
    return;
  luaL_unref (host->L, SLOT_PENDING, promise->anchor);
  promise->anchor = LUA_NOREF;
  host->passive_work -= promise->passive;
  if (--host->pending_work == 0 && host->handles)
    loop_set_pending (host, false);
}

void promise_block_forget_data (struct allua_promise *promise) {
  allua_push push = promise->push;
  promise->push = NULL;
  if (push)
    push (NULL, promise->data);
  if (promise->message)
    mem_resize (&promise->mem, promise->message, strlen (promise->message) + 1, 0);
  promise->message = NULL;
}

void promise_block_free_unused (struct allua_promise *promise) {
  struct mem mem = promise->mem;
  if (promise->from_c || !promise->collected)
    return;
  promise_block_forget_data (promise);
  if (!promise->inside)
    mem_resize (&mem, promise, sizeof *promise, 0);
}

void promise_block_forget_work (struct allua_promise *promise) {
  promise->from_c = false;
  promise->cancel = NULL;
  promise_block_unanchor (promise);
  promise_block_free_unused (promise);
}

/* Put what C gave into the user value of the object at 1. */
static int store (lua_State *L) {
  struct allua_promise *promise = promise_block_of (*(struct promise **)lua_touserdata (L, 1));
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

int promise_block_push_values (lua_State *L, struct allua_promise *promise) {
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
    promise_block_forget_data (promise);
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
