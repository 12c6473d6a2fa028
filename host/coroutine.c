#include "coroutine.h"

#include "error.h"
#include "task.h"

/* A coroutine has no task-local values of its own, but while it is inside `with` it keeps them over its
   yields, and its consumer does not see them: what resumes a coroutine keeps the consumer's (`context`)
   at a fixed place of its stack while that runs. */

/* A coroutine that waits has the task's mark on top of its stack. While it does, its resumer yields as
   well, mark and all, down to the scheduler; resumed again, each takes the mark off the next. */

/* The host, or NULL when it is closed: what a script still has of this library goes on working. */
static allua *get_host (lua_State *L) {
  return *(allua **)lua_touserdata (L, lua_upvalueindex (1));
}

static lua_State *get_co (lua_State *L) {
  lua_State *co = lua_tothread (L, 1);
  luaL_argexpected (L, co, 1, "coroutine");
  return co;
}

enum status { RUNNING, DEAD, SUSPENDED, NORMAL };
static const char *const status_names[] = { "running", "dead", "suspended", "normal" };

static enum status status_of (lua_State *L, lua_State *co) {
  lua_Debug info;
  if (L == co)
    return RUNNING;
  switch (lua_status (co)) {
  case LUA_YIELD:
    return task_is_marked (co) ? NORMAL : SUSPENDED;
  case LUA_OK:
    if (lua_getstack (co, 0, &info))
      return NORMAL;
    return lua_gettop (co) == 0 ? DEAD : SUSPENDED;
  default:
    return DEAD;
  }
}

/* Push an error on L for a coroutine that cannot take these arguments. */
static bool refuse (lua_State *L, lua_State *co, int arguments) {
  enum status status = status_of (L, co);
  if (arguments && !lua_checkstack (co, arguments)) {
    lua_pushliteral (L, "too many arguments to resume");
  } else if (status == DEAD) {
    lua_pushliteral (L, "cannot resume dead coroutine");
  } else if (status != SUSPENDED) {
    lua_pushliteral (L, "cannot resume non-suspended coroutine");
  } else {
    return false;
  }
  return true;
}

enum { FEW = LUA_MINSTACK / 2 }; /* results that there is room for in any case */

/* Resume co with what was moved there; the consumer's context is in `place` of L. Returns the number of
   values moved to L (from its yield or return), -1 with an error on L, or -2 when the task must wait. */
static int resume (lua_State *L, allua *host, lua_State *co, int place, int arguments) {
  struct task *task = host && host->running == L ? host->current : NULL;
  int status, results;
  if (task) {
    lua_State *barrier = host->barrier;
    const void *outer = host->outer_context;
    host->running = co;
    host->outer_context = lua_touserdata (L, place);
    if (!barrier && !lua_isyieldable (L))
      host->barrier = L;
    status = lua_resume (co, L, arguments, &results);
    host->running = L;
    host->barrier = barrier;
    host->outer_context = outer;
  } else {
    status = lua_resume (co, L, arguments, &results);
  }
  if (status == LUA_YIELD && task && task_is_marked (co)) {
    if (task->stop)
      lua_resetthread (co); /* its task ends here: what it has open is closed first */
    return -2;
  }
  if (task)
    task->context = lua_touserdata (L, place);
  if (status == LUA_OK || status == LUA_YIELD) {
    if (results >= FEW && !lua_checkstack (L, results + 1)) {
      lua_pop (co, results);
      lua_pushliteral (L, "too many results to resume");
      return -1;
    }
    lua_xmove (co, L, results);
    return results;
  }
  lua_xmove (co, L, 1);
  return -1;
}

/* Close what a coroutine has open. None of that can wait: Lua closes it where it cannot suspend. */
static int reset (lua_State *L, allua *host, lua_State *co, const char *where) {
  int status;
  if (host && host->running) {
    lua_State *running = host->running, *barrier = host->barrier;
    const char *name = host->barrier_name;
    host->running = co;
    host->barrier = L;
    host->barrier_name = where;
    status = lua_resetthread (co);
    host->running = running;
    host->barrier = barrier;
    host->barrier_name = name;
  } else {
    status = lua_resetthread (co);
  }
  return status;
}

static void push_context (lua_State *L, const allua *host) {
  lua_pushlightuserdata (L, host && host->current ? (void *)host->current->context : NULL);
}

static int wait_through (lua_State *L, lua_KContext ctx, lua_KFunction k) {
  lua_pushlightuserdata (L, (void *)&task_mark);
  return lua_yieldk (L, 1, ctx, k);
}

static int resume_again (lua_State *L, allua *host, lua_State *co, int place) {
  if (!host || host->running != L || !task_is_marked (co))
    luaL_error (L, "a task that waits can only be resumed by allua");
  lua_pop (co, 1);
  return resume (L, host, co, place, 0);
}

/* coroutine.resume */
static int after_resume (lua_State *L, int results) {
  if (results < 0) {
    lua_pushboolean (L, 0);
    lua_insert (L, -2);
    return 2;
  }
  lua_pushboolean (L, 1);
  lua_insert (L, -(results + 1));
  return results + 1;
}

static int resume_k (lua_State *L, int status, lua_KContext ctx) {
  int results;
  (void)status;
  results = resume_again (L, get_host (L), (lua_State *)ctx, 2);
  return results == -2 ? wait_through (L, ctx, resume_k) : after_resume (L, results);
}

static int co_resume (lua_State *L) {
  allua *host = get_host (L);
  lua_State *co = get_co (L);
  int arguments = lua_gettop (L) - 1, results;
  if (refuse (L, co, arguments))
    return after_resume (L, -1);
  lua_xmove (L, co, arguments);
  push_context (L, host);
  results = resume (L, host, co, 2, arguments);
  return results == -2 ? wait_through (L, (lua_KContext)co, resume_k) : after_resume (L, results);
}

/* The bottom of a coroutine that a task makes with wrap: its function runs as if under pcall, so that
   when it fails its <close> handlers still run inside it, where they can wait. A root task's have the
   function itself there, as in Lua: its stack, debug.traceback's too, is the same to the letter. */
static int wrapped_done (lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (status != LUA_OK && status != LUA_YIELD)
    return lua_error (L);
  return lua_gettop (L) - 1;
}

/* The message handler of it: here the stack of the throw still stands. */
static int wrapped_failed (lua_State *L) {
  allua *host = allua_of (L);
  lua_settop (L, 1);
  if (host)
    error_thrown (L, host, 1, L, 1);
  lua_settop (L, 1);
  return 1;
}

static int wrapped (lua_State *L) {
  int status;
  lua_pushcfunction (L, wrapped_failed);
  lua_insert (L, 1);
  status = lua_pcallk (L, lua_gettop (L) - 2, LUA_MULTRET, 1, 0, wrapped_done);
  return wrapped_done (L, status, 0);
}

static int after_wrap (lua_State *L, allua *host, lua_State *co, int results) {
  if (results < 0) {
    int status = lua_status (co);
    lua_Debug info;
    if (status != LUA_OK && status != LUA_YIELD) {
      if (host && lua_getstack (co, 1, &info)) /* else wrapped_failed has told it */
        error_thrown (L, host, -1, co, 0);
      lua_pushvalue (L, -1);
      lua_xmove (L, co, 1); /* where resetting expects it */
      status = reset (L, host, co,
                      "the <close> handler of a generator that failed at the top level of a "
                      "script: run the generator in a task, for example with allua.run");
      lua_xmove (co, L, 1);
    }
    if (status != LUA_ERRMEM && lua_type (L, -1) == LUA_TSTRING) {
      bool told = host && error_is_thrown (L, host, -1);
      luaL_where (L, 1);
      lua_insert (L, -2);
      lua_concat (L, 2);
      if (told)
        error_thrown_as (L, host);
    }
    return lua_error (L);
  }
  return results;
}

static int wrap_k (lua_State *L, int status, lua_KContext ctx) {
  allua *host = get_host (L);
  lua_State *co = (lua_State *)ctx;
  int results;
  (void)status;
  results = resume_again (L, host, co, 1);
  return results == -2 ? wait_through (L, ctx, wrap_k) : after_wrap (L, host, co, results);
}

static int call_wrapped (lua_State *L) {
  allua *host = get_host (L);
  lua_State *co = lua_tothread (L, lua_upvalueindex (2));
  int arguments = lua_gettop (L), results;
  if (refuse (L, co, arguments))
    return after_wrap (L, host, co, -1);
  lua_xmove (L, co, arguments);
  if (lua_status (co) == LUA_OK)
    arguments = lua_gettop (co) - 1; /* its bottom may take the function as its first */
  push_context (L, host);
  results = resume (L, host, co, 1, arguments);
  return results == -2 ? wait_through (L, (lua_KContext)co, wrap_k)
                       : after_wrap (L, host, co, results);
}

static int co_create (lua_State *L) {
  lua_State *co;
  luaL_checktype (L, 1, LUA_TFUNCTION);
  co = lua_newthread (L);
  lua_pushvalue (L, 1);
  lua_xmove (L, co, 1);
  return 1;
}

static int co_wrap (lua_State *L) {
  const allua *host = get_host (L);
  const struct task *task = host ? host->current : NULL;
  bool guarded = task && task->group->kind != GROUP_ROOT;
  lua_State *co;
  luaL_checktype (L, 1, LUA_TFUNCTION);
  lua_pushvalue (L, lua_upvalueindex (1));
  co = lua_newthread (L);
  if (guarded)
    lua_pushcfunction (co, wrapped);
  lua_pushvalue (L, 1);
  lua_xmove (L, co, 1);
  lua_pushcclosure (L, call_wrapped, 2);
  return 1;
}

/* Whether L is the bottom of a task: to its code that is the main chunk. */
static bool is_main (allua *host, lua_State *L) {
  return host && host->current && host->current->co == L;
}

/* Resumed: inside `with` it has the context that it had. */
static int yielded (lua_State *L, int status, lua_KContext context) {
  allua *host = get_host (L);
  (void)status;
  if (host && host->current)
    host->current->context = (const void *)context;
  return lua_gettop (L);
}

static int co_yield (lua_State *L) {
  allua *host = get_host (L);
  const struct task *task = host ? host->current : NULL;
  if (is_main (host, L))
    return luaL_error (L, "attempt to yield from outside a coroutine");
  if (task && host->running == L && task->context != host->outer_context)
    return lua_yieldk (L, lua_gettop (L), (lua_KContext)task->context, yielded);
  return lua_yield (L, lua_gettop (L));
}

static int co_status (lua_State *L) {
  lua_pushstring (L, status_names[status_of (L, get_co (L))]);
  return 1;
}

static int co_running (lua_State *L) {
  allua *host = get_host (L);
  bool main = lua_pushthread (L);
  if (is_main (host, L)) {
    host->current->exposed = true;
    main = true;
  }
  lua_pushboolean (L, main);
  return 2;
}

static int co_isyieldable (lua_State *L) {
  lua_State *co = lua_isnone (L, 1) ? L : get_co (L);
  lua_pushboolean (L, lua_isyieldable (co) && !is_main (get_host (L), co));
  return 1;
}

static int co_close (lua_State *L) {
  lua_State *co = get_co (L);
  enum status status = status_of (L, co);
  if (status != DEAD && status != SUSPENDED)
    return luaL_error (L, "cannot close a %s coroutine", status_names[status]);
  if (reset (L, get_host (L), co,
             "coroutine.close: Lua cannot suspend it; wait before the call, or let the "
             "coroutine end by itself")
      == LUA_OK) {
    lua_pushboolean (L, 1);
    return 1;
  }
  lua_pushboolean (L, 0);
  lua_xmove (co, L, 1);
  return 2;
}

void coroutine_push (lua_State *L, allua *host) {
  static const luaL_Reg functions[] = { { "create", co_create },
                                        { "resume", co_resume },
                                        { "running", co_running },
                                        { "status", co_status },
                                        { "wrap", co_wrap },
                                        { "yield", co_yield },
                                        { "close", co_close },
                                        { "isyieldable", co_isyieldable },
                                        { NULL, NULL } };
  luaL_newlibtable (L, functions);
  host_push (host, L, SLOT_BOX);
  luaL_setfuncs (L, functions, 1);
}
