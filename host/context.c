#include "context.h"

#include "task.h"

struct context *context_keep (struct context *context) {
  if (context)
    context->uses++;
  return context;
}

void context_release (allua *host, struct context *context) {
  if (!context || --context->uses)
    return;
  luaL_unref (host->L, SLOT_LIVE, context->anchor);
  mem_resize (&host->mem, context, sizeof *context, 0);
}

static int restore (lua_State *L, int status, lua_KContext before) {
  allua *host = host_of (L);
  struct task *task = host->current;
  context_release (host, task->context);
  task->context = (struct context *)before;
  if (status != LUA_OK && status != LUA_YIELD)
    return lua_error (L);
  return lua_gettop (L) - 1;
}

int context_with (lua_State *L) {
  allua *host = host_of (L);
  struct task *task = host->current;
  struct context *context, *before;
  int anchor;
  luaL_checktype (L, 1, LUA_TTABLE);
  luaL_checkany (L, 2);
  if (!task || host->running != L)
    return luaL_error (L, "allua.with needs a running task: call it inside allua.run");
  /* A new table: what holds already, then the values. */
  lua_newtable (L);
  if (task->context) {
    host_push (host, L, SLOT_LIVE);
    lua_rawgeti (L, -1, task->context->anchor);
    lua_replace (L, -2);
    for (lua_pushnil (L); lua_next (L, -2);) {
      lua_pushvalue (L, -2);
      lua_insert (L, -2);
      lua_rawset (L, -5);
    }
    lua_pop (L, 1);
  }
  for (lua_pushnil (L); lua_next (L, 1);) {
    lua_pushvalue (L, -2);
    lua_insert (L, -2);
    lua_rawset (L, -4);
  }
  host_push (host, L, SLOT_LIVE);
  lua_insert (L, -2);
  anchor = luaL_ref (L, -2);
  context = mem_resize (&host->mem, NULL, 0, sizeof *context);
  if (!context) {
    luaL_unref (L, -1, anchor);
    host_push (host, L, SLOT_MEMORY);
    return lua_error (L);
  }
  context->uses = 1;
  context->anchor = anchor;
  before = task->context;
  task->context = context;
  lua_pop (L, 1);
  host_push (host, L, SLOT_TASK_FAILED);
  lua_replace (L, 1);
  return restore (L, lua_pcallk (L, lua_gettop (L) - 2, LUA_MULTRET, 1, (lua_KContext)before, restore),
                  (lua_KContext)before);
}

int context_index (lua_State *L) {
  allua *host = host_of (L);
  if (!host->current || !host->current->context)
    return 0;
  host_push (host, L, SLOT_LIVE);
  lua_rawgeti (L, -1, host->current->context->anchor);
  lua_pushvalue (L, 2);
  lua_rawget (L, -2);
  return 1;
}
