#include "fetch.h"

#include <string.h>

#include "error.h"
#include "fetch_fields.h"
#include "fetch_head.h"
#include "fetch_prepared.h"
#include "fetch_request.h"
#include "fetch_transfer.h"
#include "fetch_url.h"

#define TRANSFER "allua.transfer"

static struct transfer *check (lua_State *L) {
  return luaL_checkudata (L, 1, TRANSFER);
}

/* core.fetch (request) → a transfer under way. What Lua checked is not checked again. */
static int fetch_start (lua_State *L) {
  struct fetch_multi *multi = fetch_multi_of (L, host_of (L));
  struct transfer *transfer;
  luaL_checktype (L, 1, LUA_TTABLE);
  lua_settop (L, 1);
  transfer = lua_newuserdatauv (L, sizeof *transfer, 1);
  memset (transfer, 0, sizeof *transfer);
  luaL_setmetatable (L, TRANSFER);
  if (!fetch_transfer_prepare (transfer, multi))
    return error_raise_memory (L, host_of (L));
  lua_getfield (L, 1, "stream");
  transfer->streaming = lua_toboolean (L, -1);
  lua_pop (L, 1);
  fetch_request_apply (L, 1, transfer);
  if (!fetch_transfer_start (transfer))
    return error_raise_memory (L, host_of (L));
  return 1;
}

/* ── waiting ── */

static void push_content_type (lua_State *L, const struct transfer *transfer) {
  if (transfer->type_length)
    lua_pushlstring (L, transfer->head.bytes + transfer->type, transfer->type_length);
  else
    lua_pushnil (L);
}

/* For the head: status, head, content type. For the end: these and the body. For a chunk: a string, which is
   empty where another task took the chunk first, or nil at the end. Where it failed: nil, a word, words. */
static int push_wanted (lua_State *L, struct transfer *transfer, enum transfer_want want) {
  const char *words, *word = NULL;
  struct buffer *body = &transfer->body;
  luaL_checkstack (L, 6, NULL);
  if (want == WANT_CHUNK && (body->length || transfer->easy)) {
    lua_pushlstring (L, body->bytes ? body->bytes : "", body->length);
    body->length = 0;
    fetch_transfer_resume (transfer);
    return 1;
  }
  if (want != WANT_HEAD || !transfer->head_done)
    word = fetch_transfer_problem (transfer, &words);
  if (word) {
    lua_pushnil (L);
    lua_pushstring (L, word);
    lua_pushstring (L, words);
    return 3;
  }
  if (want == WANT_CHUNK)
    return 0;
  lua_pushinteger (L, transfer->status);
  lua_pushlstring (L, transfer->head.bytes ? transfer->head.bytes : "", transfer->head.length);
  push_content_type (L, transfer);
  if (want == WANT_HEAD)
    return 3;
  lua_pushlstring (L, body->bytes ? body->bytes : "", body->length);
  return 4;
}

static void on_cancel (struct op *op) {
  struct transfer *transfer = (struct transfer *)op;
  transfer->waited_for = false;
  fetch_transfer_drop (transfer);
}

/* The transfer is at the bottom of the stack, which keeps it. */
static int waited (lua_State *L, int status, lua_KContext context) {
  struct transfer *transfer = (struct transfer *)context;
  enum transfer_want want = transfer->want;
  op_waited (L, host_of (L), status);
  transfer->want = WANT_NOTHING;
  return push_wanted (L, transfer, want);
}

static int wait_for (lua_State *L, struct transfer *transfer, enum transfer_want want) {
  struct task *task;
  if (transfer->waited_for)
    return luaL_error (L, "another task waits for this response already");
  if (fetch_transfer_has (transfer, want))
    return push_wanted (L, transfer, want);
  task = task_enter (L, host_of (L));
  fetch_transfer_want (transfer, want,
                       want == WANT_CHUNK ? "the body of a fetch" : "the response of a fetch",
                       on_cancel);
  return op_await (L, host_of (L), task, &transfer->op, (lua_KContext)transfer, waited);
}

static int transfer_head (lua_State *L) {
  return wait_for (L, check (L), WANT_HEAD);
}

static int transfer_read (lua_State *L) {
  return wait_for (L, check (L), WANT_CHUNK);
}

/* transfer:finish ([limit]): collect the rest of a streamed body. */
static int transfer_finish (lua_State *L) {
  struct transfer *transfer = check (L);
  if (transfer->streaming)
    fetch_transfer_collect (transfer, (uint64_t)luaL_optinteger (L, 2, LUA_MAXINTEGER));
  return wait_for (L, transfer, WANT_END);
}

static int transfer_close (lua_State *L) {
  fetch_transfer_drop (check (L));
  return 0;
}

static int transfer_gc (lua_State *L) {
  fetch_transfer_free (check (L));
  return 0;
}

void fetch_open (lua_State *L) {
  static const luaL_Reg functions[] = { { "fetch", fetch_start },
                                        { "fetch_prepare", fetch_prepare },
                                        { "fetch_url", fetch_url },
                                        { "fetch_date", fetch_date },
                                        { "fetch_fields", fetch_fields },
                                        { "fetch_head", fetch_head },
                                        { NULL, NULL } };
  static const luaL_Reg methods[] = { { "head", transfer_head },
                                      { "read", transfer_read },
                                      { "finish", transfer_finish },
                                      { "close", transfer_close },
                                      { NULL, NULL } };
  static const luaL_Reg meta[]
      = { { "__gc", transfer_gc }, { "__close", transfer_close }, { NULL, NULL } };
  luaL_newmetatable (L, TRANSFER);
  luaL_setfuncs (L, meta, 0);
  luaL_newlibtable (L, methods);
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, methods, 1);
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
  fetch_url_open (L);
  fetch_prepared_open (L);
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, functions, 1);
}
