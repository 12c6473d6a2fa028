#include "host.h"

#include <lua-cjson.h>
#include <lualib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "all.h"
#include "arity.h"
#include "clock.h"
#include "cycle.h"
#include "deadlock.h"
#include "error.h"
#include "fetch_multi.h"
#include "fill.h"
#include "lib.h"
#include "loop.h"
#include "luvs.h"
#include "postgres_connection.h"
#include "progress.h"
#include "promise_object.h"
#include "runner.h"
#include "script.h"
#include "settle.h"
#include "shape.h"
#include "sqlite_host.h"
#include "trace.h"
#include "tracer.h"
#include "warn.h"
#include "watch.h"

/* Keys of the registry. */
static const char host_key = 'h';    /* the box */
static const char lua_require = 'r'; /* Lua's own require, while ours is in its place */

/* ── what the loop calls ── */

int luaopen_cjson_safe (lua_State *L); /* which Debian's header leaves out */

static void tear_down (allua *host);

static void turn (allua *host) {
  if (host->tearing) {
    tear_down (host);
    return;
  }
  sched_turn (host);
  if (host->close_asked && !host->turns && !host->runs)
    allua_close (host);
}

static void on_turn (allua *host) {
  if (host->clock_blocked)
    clock_reconsider (host);
  turn (host);
}

static void on_polled (allua *host) {
  if (host->clocks && !host->tearing && !host->turns)
    clock_look (host);
  turn (host);
}

static void on_posts (allua *host) {
  struct post *posts;
  uv_mutex_lock (&host->post_mutex);
  posts = host->posts;
  host->posts = NULL;
  host->posts_end = &host->posts;
  uv_mutex_unlock (&host->post_mutex);
  while (posts) {
    struct post *post = posts;
    posts = post->next;
    post->fn (host, post->data);
    free (post);
  }
}

int allua_post (allua *host, void (*fn) (allua *host, void *data), void *data) {
  /* Not from the host's allocator: that one belongs to the loop's thread. */
  struct post *post = malloc (sizeof *post);
  int failed = 0;
  if (!post)
    return UV_ENOMEM;
  post->next = NULL;
  post->fn = fn;
  post->data = data;
  uv_mutex_lock (&host->post_mutex);
  if (host->closing) {
    failed = UV_ECANCELED;
  } else {
    *host->posts_end = post;
    host->posts_end = &post->next;
    loop_notify (host);
  }
  uv_mutex_unlock (&host->post_mutex);
  if (failed)
    free (post);
  return failed;
}

/* ── opening ── */

static int close_box (lua_State *L) {
  allua **box = lua_touserdata (L, 1), *host = *box;
  if (!host || host->own_state)
    return 0;
  /* A borrowed state is closed before its host. */
  if (host->turns || host->runs) {
    /* From inside a task, so the process is about to exit: the host is left as it is, but the loop
       must not call it any more. */
    tracer_close (host);
    progress_close (host);
    fetch_multi_close (host);
    sqlite_host_close (host);
    postgres_close (host);
    loop_close (host, NULL);
    *box = NULL;
  } else {
    allua_close (host);
  }
  return 0;
}

static void set_string (lua_State *L, enum slot slot, const char *text) {
  lua_pushstring (L, text);
  lua_replace (L, slot);
}

static void set_table (lua_State *L, enum slot slot) {
  lua_newtable (L);
  lua_replace (L, slot);
}

static void set_weak_table (lua_State *L, enum slot slot, const char *mode) {
  lua_newtable (L);
  lua_createtable (L, 0, 1);
  lua_pushstring (L, mode);
  lua_setfield (L, -2, "__mode");
  lua_setmetatable (L, -2);
  lua_replace (L, slot);
}

static void set_function (lua_State *L, enum slot slot, lua_CFunction function) {
  lua_pushvalue (L, SLOT_BOX);
  lua_pushcclosure (L, function, 1);
  lua_replace (L, slot);
}

/* On the scheduler's thread, its box on top. Protected by the caller. */
static void fill_slots (lua_State *L, allua *host) {
  int i;
  lua_replace (L, SLOT_BOX);
  set_table (L, SLOT_LIVE);
  set_table (L, SLOT_PENDING);
  set_table (L, SLOT_COROUTINES);
  lua_createtable (L, SHAPES, 0);
  lua_replace (L, SLOT_SHAPES);
  shape_forget (host);
  set_table (L, SLOT_SELF);
  set_table (L, SLOT_PROMISE);
  set_table (L, SLOT_SIGNAL);
  set_weak_table (L, SLOT_PROMISES, "k");
  set_weak_table (L, SLOT_FAILED, "k");
  set_weak_table (L, SLOT_CANARY, "v");
  set_weak_table (L, SLOT_SEEN, "v");
  set_table (L, SLOT_SEEN_INFO);
  for (i = 1; i <= MOST_SEEN; i++) {
    lua_pushboolean (L, 0);
    lua_rawseti (L, SLOT_SEEN, i);
    lua_pushboolean (L, 0);
    lua_rawseti (L, SLOT_SEEN_INFO, i);
  }
  set_weak_table (L, SLOT_CONTEXTS, "v");
  luaL_newmetatable (L, "allua.task");
  lua_replace (L, SLOT_TASK);
  luaL_newmetatable (L, "allua.controller");
  lua_replace (L, SLOT_CONTROLLER);
  error_open (L, host);
  set_string (L, SLOT_MEMORY, "not enough memory");
  set_string (L, SLOT_YIELDED, "attempt to yield from outside a coroutine");
  set_string (L, SLOT_NAME, "name");
  set_string (L, SLOT_CANCEL, "CancelledError");
  set_string (L, SLOT_DECIDED, "another task decided");
  set_string (L, SLOT_CLOSING, "the host is closing");
  set_string (L, SLOT_INTERRUPTED, "interrupted");
  set_function (L, SLOT_RUNNER, runner_main);
  set_function (L, SLOT_TASK_FAILED, task_failed);
}

/* The functions of the standard libraries that waits must pass through, and the modules that live on
   the host's loop. The table of module "allua" is on top. */
static void replace_libraries (lua_State *L) {
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield (L, -2, "coroutine");
  lua_pushvalue (L, -1);
  lua_setfield (L, -3, "coroutine");
  lua_setglobal (L, "coroutine");
  lua_pop (L, 1);
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction (L, luvs_open);
  lua_setfield (L, -2, "luv");
  lua_pushcfunction (L, luaopen_cjson);
  lua_setfield (L, -2, "cjson");
  lua_pushcfunction (L, luaopen_cjson_safe);
  lua_setfield (L, -2, "cjson.safe");
  lua_pop (L, 1);
  lua_getglobal (L, "require");
  lua_rawsetp (L, LUA_REGISTRYINDEX, &lua_require);
  lua_getfield (L, -1, "require");
  lua_setglobal (L, "require");
}

struct opening {
  allua *host;
  bool globals;
};

static int open_lua (lua_State *L) {
  const struct opening *opening = lua_touserdata (L, 1);
  allua *host = opening->host;
  allua **box;
  int i;
  if (host->own_state)
    luaL_openlibs (L);
  if (lua_rawgetp (L, LUA_REGISTRYINDEX, &host_key) != LUA_TNIL)
    return luaL_error (L, "this state has an allua host already");
  box = lua_newuserdatauv (L, sizeof *box, 2);
  *box = NULL;
  lua_createtable (L, 0, 1);
  lua_pushcfunction (L, close_box);
  lua_setfield (L, -2, "__gc");
  lua_setmetatable (L, -2);
  host->box = box;
  host->L = host->from = lua_newthread (L);
  lua_setiuservalue (L, -2, 1);
  host->worker = lua_newthread (L);
  lua_setiuservalue (L, -2, 2);
  luaL_checkstack (host->L, SLOT_LAST + 2 * LUA_MINSTACK, NULL);
  for (i = 1; i <= SLOT_LAST; i++)
    lua_pushnil (host->L);
  lua_pushvalue (L, -1);
  lua_xmove (L, host->L, 1);
  fill_slots (host->L, host);
  lua_pushvalue (L, -1);
  lua_rawsetp (L, LUA_REGISTRYINDEX, &host_key);
  *box = host;
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lib_preload (L, host);
  lua_pop (L, 1);
  lib_push (L, host);
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue (L, -2);
  lua_setfield (L, -2, "allua");
  lua_pop (L, 1);
  if (opening->globals || host->own_state)
    replace_libraries (L);
  if (opening->globals) {
    lua_pushvalue (L, -1);
    lua_setglobal (L, "allua");
    lua_getfield (L, -1, "all");
    lua_setglobal (L, "all");
  }
  return 0;
}

/* Copy what the caller's version of the struct has. */
static void read_options (struct allua_options *mine, const allua_options *given) {
  memset (mine, 0, sizeof *mine);
  if (given) {
    size_t size = given->size && given->size < sizeof *mine ? given->size : sizeof *mine;
    memcpy (mine, given, size);
  }
}

/* Give back everything but the handles' block, which libuv may still know of. */
static void destroy (allua *host) {
  struct mem mem = host->mem;
  if (host->own_state && host->main)
    lua_close (host->main);
  mem_close (&host->mem);
  trace_close (host);
  cycle_close (host);
  arity_close (host);
  fill_give_back (host);
  deadlines_give_back (host);
  script_forget_error (host);
  if (host->pool)
    mem_resize (&host->mem, host->pool, host->pool_size * sizeof *host->pool, 0);
  if (host->path)
    mem_resize (&host->mem, host->path, strlen (host->path) + 1, 0);
  uv_mutex_destroy (&host->post_mutex);
  if (host->own_loop) {
    uv_loop_close (host->loop);
    mem_resize (&host->mem, host->loop, sizeof *host->loop, 0);
  }
  mem_resize (&mem, host, sizeof *host, 0);
}

static int forget_host (lua_State *L);

allua *allua_open (const allua_options *given) {
  static const struct loop_calls calls
      = { on_turn, on_polled, timer_run, on_posts, sched_rest, clock_complain };
  allua_options options;
  struct opening opening;
  struct mem mem;
  allua *host;
  int status;
  read_options (&options, given);
  if (options.state) {
    void *data;
    lua_Alloc alloc = lua_getallocf (options.state, &data);
    mem_init (&mem, alloc, data, 0);
  } else {
    mem_init (&mem, options.alloc, options.alloc_data, options.memory_limit);
  }
  host = mem_resize (&mem, NULL, 0, sizeof *host);
  if (!host)
    return NULL;
  memset (host, 0, sizeof *host);
  host->mem = mem;
  host->own_state = !options.state;
  host->on_error = options.on_error;
  host->on_slow = options.on_slow;
  watch_count (host, options.slow_turn, options.stuck_turn);
  host->data = options.data;
  host->ended = settle_ended;
  host->fulfilled = settle_fulfilled;
  host->posts_end = &host->posts;
  if (uv_mutex_init (&host->post_mutex) != 0) {
    mem_resize (&mem, host, sizeof *host, 0);
    return NULL;
  }
  host->loop = options.loop;
  if (!host->loop) {
    host->loop = mem_resize (&host->mem, NULL, 0, sizeof *host->loop);
    if (!host->loop || uv_loop_init (host->loop) != 0) {
      mem_resize (&host->mem, host->loop, sizeof *host->loop, 0);
      destroy (host);
      return NULL;
    }
    host->own_loop = true;
  }
  if (options.path) {
    host->path = mem_resize (&host->mem, NULL, 0, strlen (options.path) + 1);
    if (!host->path) {
      destroy (host);
      return NULL;
    }
    strcpy (host->path, options.path);
  }
  if (loop_open (host, &calls) != 0) {
    destroy (host);
    return NULL;
  }
  if (options.state) {
    lua_rawgeti (options.state, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    host->main = lua_tothread (options.state, -1);
    lua_pop (options.state, 1);
  } else {
    void *data;
    lua_Alloc alloc = mem_for_lua (&host->mem, &data);
    host->main = lua_newstate (alloc, data);
  }
  status = LUA_ERRMEM;
  /* The main thread's stack has room from the start, so that closing needs no memory. */
  if (host->main && lua_checkstack (host->main, 2 * LUA_MINSTACK)) {
    lua_State *L = options.state ? options.state : host->main;
    if (host->own_state)
      warn_open (host);
    opening.host = host;
    opening.globals = options.globals != 0;
    lua_pushcfunction (L, open_lua);
    lua_pushlightuserdata (L, &opening);
    status = lua_pcall (L, 1, 0, 0);
    if (status != LUA_OK)
      lua_pop (L, 1);
  }
  if (status != LUA_OK) {
    if (host->box) {
      *host->box = NULL;
      if (!host->own_state) {
        lua_pushcfunction (options.state, forget_host);
        if (lua_pcall (options.state, 0, 0, 0) != LUA_OK)
          lua_pop (options.state, 1);
      }
    }
    loop_close (host, NULL);
    if (host->own_loop)
      uv_run (host->loop, UV_RUN_DEFAULT);
    destroy (host);
    return NULL;
  }
  return host;
}

/* ── looking at it ── */

lua_State *allua_state (allua *host) {
  return host->main;
}

uv_loop_t *allua_loop (allua *host) {
  return host->loop;
}

void *allua_data (allua *host) {
  return host->data;
}

const char *allua_error (const allua *host) {
  return host->error;
}

allua *allua_of (lua_State *L) {
  allua **box;
  if (!lua_checkstack (L, 1))
    return NULL;
  lua_rawgetp (L, LUA_REGISTRYINDEX, &host_key);
  box = lua_touserdata (L, -1);
  lua_pop (L, 1);
  return box ? *box : NULL;
}

/* ── running ── */

static bool never (void *data) {
  (void)data;
  return false;
}

static int raise_deadlock (lua_State *L) {
  return deadlock_raise (L, lua_touserdata (L, 1));
}

int host_finish (allua *host) {
  lua_State *L = host->main;
  sched_run (host, L, never, NULL);
  if (host->close_asked || !host->roots)
    return ALLUA_OK;
  lua_pushcfunction (L, raise_deadlock);
  lua_pushlightuserdata (L, host);
  lua_pcall (L, 1, 0, 0);
  script_keep_error (L, host);
  return ALLUA_ERROR;
}

/* ── closing ── */

void host_cancel_all (allua *host, enum slot reason) {
  struct group *group, *next;
  for (group = host->roots; group; group = next) {
    next = group->next;
    lua_pushvalue (host->L, reason);
    settle_abort (group, true);
  }
}

/* On a borrowed state: as it was, where the program has not changed it since. */
static int forget_host (lua_State *L) {
  luvs_forget (L);
  if (lua_rawgetp (L, LUA_REGISTRYINDEX, &lua_require) != LUA_TNIL)
    lua_setglobal (L, "require");
  lua_pushnil (L);
  lua_rawsetp (L, LUA_REGISTRYINDEX, &host_key);
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushnil (L);
  lua_setfield (L, -2, "allua");
  lua_pushnil (L);
  lua_setfield (L, -2, "allua.core");
  return 0;
}

static int report_unhandled_promises (lua_State *L) {
  promise_report_unhandled (L, lua_touserdata (L, 1));
  return 0;
}

static int close_promises (lua_State *L) {
  promise_object_close (L, lua_touserdata (L, 1));
  return 0;
}

/* Whether libuv still knows of luv's handles or requests, so that the state must wait for them. A loop
   of our own is run until it has nothing left anyway. */
static bool luv_pending (allua *host) {
  return !host->own_loop && host->own_state && host->own_luv && luvs_count (host) > 0;
}

/* The tasks have ended: once luv has let go, the rest follows. On a borrowed loop it is called in each
   of its turns until then. */
static void tear_down (allua *host) {
  if (!host->handles)
    return;
  if (luv_pending (host)) {
    loop_set_busy (host, true);
    return;
  }
  loop_close (host, NULL);
  *host->box = NULL;
  if (!host->own_state) {
    lua_pushcfunction (host->main, forget_host);
    if (lua_pcall (host->main, 0, 0, 0) != LUA_OK)
      lua_pop (host->main, 1);
  }
  if (!host->own_loop)
    destroy (host);
}

static bool has_no_roots (void *host) {
  return !((allua *)host)->roots;
}

static int protect (allua *host, lua_CFunction function) {
  lua_State *L = host->main;
  int status;
  if (!lua_checkstack (L, 4))
    return LUA_ERRMEM;
  lua_pushcfunction (L, function);
  lua_pushlightuserdata (L, host);
  status = lua_pcall (L, 1, 0, 0);
  if (status != LUA_OK)
    lua_pop (L, 1);
  return status;
}

static void run_out (uv_loop_t *loop) {
  while (uv_run (loop, UV_RUN_DEFAULT) != 0) /* somebody may have called uv_stop */
    ;
}

static void note_handle (uv_handle_t *handle, void *left) {
  (void)handle;
  *(bool *)left = true;
}

void allua_close (allua *host) {
  bool left = false;
  if (!host || host->closing)
    return;
  if (host->turns || host->runs) {
    host->close_asked = true;
    uv_stop (host->loop);
    return;
  }
  host->close_asked = false;
  uv_mutex_lock (&host->post_mutex);
  host->closing = true;
  uv_mutex_unlock (&host->post_mutex);
  on_posts (host);
  if (!host->stopping) {
    host_cancel_all (host, SLOT_CLOSING);
    if (host->own_loop)
      sched_run (host, host->main, has_no_roots, host);
    while (host->ready.first)
      sched_turn (host);
  }
  settle_stop_all (host);
  if (host->joined)
    host->joined (host);
  clock_keep (host, 0);
  tracer_close (host);
  progress_close (host);
  protect (host, report_unhandled_promises);
  protect (host, close_promises);
  luvs_close_all (host);
  fetch_multi_close (host);
  sqlite_host_close (host);
  postgres_close (host);
  host->tearing = true;
  if (!host->own_loop) {
    tear_down (host);
    return;
  }
  tear_down (host);
  run_out (host->loop);
  uv_walk (host->loop, note_handle, &left);
  if (left && host->own_state) {
    /* What luv lost on its way for want of memory is closed by the collector. */
    lua_gc (host->main, LUA_GCCOLLECT);
    run_out (host->loop);
  }
  destroy (host);
}
