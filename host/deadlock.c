#include "deadlock.h"

#include "error.h"
#include "settle.h"

enum { MOST_TOLD = 50 };

static void add_task (lua_State *L, luaL_Buffer *text, struct task *task) {
  const char *what = "";
  group_push_name (L, task);
  lua_pushfstring (L, "\n  task \"%s\" waits for ", luaL_tolstring (L, -1, NULL));
  lua_insert (L, -3);
  lua_pop (L, 2);
  luaL_addvalue (text);
  switch (task->wait) {
  case WAIT_PROMISE: {
    struct promise *promise = task->on;
    if (promise->kind == PROMISE_OF_TASK) {
      luaL_addstring (text, "task \"");
      group_push_name (L, (struct task *)promise);
      luaL_tolstring (L, -1, NULL);
      lua_remove (L, -2);
      luaL_addvalue (text);
      what = "\"";
    } else {
      what = "a promise";
    }
    break;
  }
  case WAIT_GROUP:
  case WAIT_NEXT:
    what = "the tasks that it started";
    break;
  case WAIT_CHILDREN:
    what = "the tasks that it spawned";
    break;
  case WAIT_PLACE:
    what = "a place among its siblings";
    break;
  default:
    what = "a timer";
    break;
  }
  luaL_addstring (text, what);
  if (task->at) {
    error_push_place (L, task->at, 0);
    if (lua_isnil (L, -1)) {
      lua_pop (L, 1);
    } else {
      lua_pushliteral (L, ", at ");
      lua_insert (L, -2);
      lua_concat (L, 2);
      luaL_addvalue (text);
    }
  }
}

void deadlock_push_waits (lua_State *L, allua *host) {
  luaL_Buffer text;
  struct group *group;
  size_t told = 0;
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  luaL_buffinit (L, &text);
  for (group = host->roots; group; group = group_walk (group)) {
    uint32_t i;
    for (i = 0; i < group->size; i++)
      if (group->tasks[i].state == TASK_WAITING && ++told <= MOST_TOLD)
        add_task (L, &text, &group->tasks[i]);
  }
  if (told > MOST_TOLD) {
    lua_pushfstring (L, "\n  ... and %I tasks more", (LUAI_UACINT)(told - MOST_TOLD));
    luaL_addvalue (&text);
  }
  luaL_pushresult (&text);
}

static void push_error (lua_State *L, allua *host) {
  deadlock_push_waits (L, host);
  error_push (L, host, "DeadlockError", "deadlock: every task waits, and nothing is pending%s",
              lua_tostring (L, -1));
}

int deadlock_raise (lua_State *L, allua *host) {
  if (host->close_asked)
    return luaL_error (L, "the host was closed while this ran");
  push_error (L, host);
  return lua_error (L);
}

int deadlock_break (allua *host, lua_State *L, struct group *group, bool (*done) (void *data),
                    void *data) {
  int error;
  if (host->close_asked)
    return luaL_error (L, "the host was closed while this ran");
  push_error (L, host);
  error = lua_gettop (L);
  lua_pushvalue (L, error);
  lua_xmove (L, host->L, 1);
  settle_abort (group, true);
  if (!sched_run (host, L, done, data))
    settle_stop_all (host);
  lua_pushvalue (L, error);
  lua_pushnil (L);
  error_raised (L, host, -2);
  return lua_error (L);
}
