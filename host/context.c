#include "context.h"

#include "all.h"

static void push_table (lua_State *L, allua *host, const void *context) {
  host_push (host, L, SLOT_CONTEXTS);
  lua_rawgetp (L, -1, context);
  lua_remove (L, -2);
}

void context_inherit (lua_State *L, int index) {
  struct group *group = lua_touserdata (L, index);
  const struct task *task = group->host->current;
  uint32_t i;
  if (!task || !task->context)
    return;
  index = lua_absindex (L, index);
  push_table (L, group->host, task->context);
  group_set (L, index, CONTEXT);
  for (i = 0; i < group->size; i++)
    group->tasks[i].context = task->context;
}

/* The stack: message handler, table, results. */
static int restore (lua_State *L, int status, lua_KContext before) {
  host_of (L)->current->context = (const void *)before;
  if (status != LUA_OK && status != LUA_YIELD)
    return lua_error (L);
  return lua_gettop (L) - 2;
}

/* Copy the pairs of the table at `from` into the one on top. */
static void add_values (lua_State *L, int from) {
  int to = lua_gettop (L);
  for (lua_pushnil (L); lua_next (L, from);) {
    lua_pushvalue (L, -2);
    lua_insert (L, -2);
    lua_rawset (L, to);
  }
}

int context_with (lua_State *L) {
  allua *host = host_of (L);
  struct task *task = host->current;
  lua_KContext before;
  if (!lua_istable (L, 1))
    return luaL_error (L, "with: expected a table of values (got %s)", luaL_typename (L, 1));
  if (!lua_isfunction (L, 2)) {
    if (luaL_getmetafield (L, 2, "__call") == LUA_TNIL)
      return luaL_error (L, "with: expected a function (got %s)", luaL_typename (L, 2));
    lua_pop (L, 1);
  }
  if (!task)
    return all_run_outside (L, host);
  if (host->running != L)
    return luaL_error (L, "cannot set task-local values inside a coroutine made by Lua's own "
                          "coroutine library: make it with allua.coroutine.wrap");
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  lua_newtable (L);
  if (task->context) {
    push_table (L, host, task->context);
    lua_insert (L, -2);
    add_values (L, lua_gettop (L) - 1);
    lua_remove (L, -2);
  }
  add_values (L, 1);
  host_push (host, L, SLOT_CONTEXTS);
  lua_pushvalue (L, -2);
  lua_rawsetp (L, -2, lua_topointer (L, -1));
  lua_pop (L, 1);
  lua_replace (L, 1);
  host_push (host, L, SLOT_TASK_FAILED);
  lua_insert (L, 1);
  before = (lua_KContext)task->context;
  task->context = lua_topointer (L, 2);
  return restore (L, lua_pcallk (L, lua_gettop (L) - 3, LUA_MULTRET, 1, before, restore), before);
}

int context_index (lua_State *L) {
  allua *host = host_of (L);
  if (!host->current || !host->current->context)
    return 0;
  push_table (L, host, host->current->context);
  lua_pushvalue (L, 2);
  lua_rawget (L, -2);
  return 1;
}
