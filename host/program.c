#include "program.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "display.h"
#include "error.h"
#include "task.h"
#include "watchdog.h"

static const struct {
  const char *name;
  int number;
} listened[LISTENED] = { { "SIGHUP", SIGHUP }, { "SIGTERM", SIGTERM } };

/* What a signal handler may look at. */
static struct program *volatile signalled;
static volatile sig_atomic_t signals, asked;

static void call (lua_State *L, int handler) {
  lua_rawgeti (L, LUA_REGISTRYINDEX, handler);
  if (lua_pcall (L, 0, 0, 0) != LUA_OK)
    lua_pop (L, 1);
}

/* Call the prompt's handler, once for each Ctrl-C. */
static void call_handler (struct program *program, lua_State *L) {
  if (!asked)
    return;
  asked = 0;
  call (L, program->on_interrupt);
}

static void stop_computing (lua_State *L, lua_Debug *info) {
  allua *host = allua_of (L);
  (void)info;
  lua_sethook (L, NULL, 0, 0);
  if (!host || !host->current || host->running != L)
    return;
  if (((struct program *)allua_data (host))->on_interrupt == LUA_NOREF) {
    ((struct program *)allua_data (host))->interrupted = true;
    host_cancel_all (host, SLOT_INTERRUPTED);
  } else
    call_handler (allua_data (host), L);
  host->current->cancelled = true;
  if (task_is_cancelled (host->current)) {
    task_push_cancelled (L, host->current);
    lua_error (L);
  }
}

/* The first Ctrl-C asks; the second shows what every task does, and exits; the third only exits. */
static void on_sigint (int number) {
  struct program *program = signalled;
  (void)number;
  if (!program) {
    display_exit (STATUS_INTERRUPTED);
    return;
  }
  if (program->on_interrupt == LUA_NOREF && (program->left || signals)) {
    watchdog_last_words (STATUS_INTERRUPTED);
    return;
  }
  signals++;
  asked = 1;
  uv_async_send (&program->interrupt);
  if (program->host->running)
    lua_sethook (program->host->running, stop_computing,
                 LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

void program_leave (struct program *program) {
  int i;
  program->left = true;
  for (i = 0; i < LISTENED; i++)
    if (program->listeners[i].open) {
      program->listeners[i].open = false;
      uv_close ((uv_handle_t *)&program->listeners[i].handle, NULL);
    }
  allua_close (program->host);
}

/* host.joined */
static void on_joined (allua *host) {
  struct program *program = allua_data (host);
  signalled = NULL; /* from now on a Ctrl-C exits at once */
  watchdog_close ();
  display_close (host);
  uv_close ((uv_handle_t *)&program->interrupt, NULL);
}

static void on_interrupt (uv_async_t *async) {
  struct program *program = async->data;
  lua_State *L = program->host->main;
  if (program->on_interrupt == LUA_NOREF) {
    program->interrupted = true;
    host_cancel_all (program->host, SLOT_INTERRUPTED);
    program_leave (program);
    return;
  }
  call_handler (program, L);
}

/* core.on_interrupt (fn): call fn at Ctrl-C, instead of cancelling the root task; nil: no more. */
static int set_on_interrupt (lua_State *L) {
  struct program *program = allua_data (allua_of (L));
  int before = program->on_interrupt;
  lua_settop (L, 1);
  program->on_interrupt = lua_isnil (L, 1) ? LUA_NOREF : luaL_ref (L, LUA_REGISTRYINDEX);
  luaL_unref (L, LUA_REGISTRYINDEX, before);
  return 0;
}

static void on_listened (uv_signal_t *handle, int number) {
  struct program *program = handle->data;
  const struct listener *listener = (const struct listener *)handle;
  (void)number;
  if (listener->handler != LUA_NOREF)
    call (program->host->main, listener->handler);
}

/* core.on_signal (name, fn): call fn, which must not wait, at that signal; nil: the signal does again what
   it does in any program. */
static int set_on_signal (lua_State *L) {
  struct program *program = allua_data (allua_of (L));
  const char *name = luaL_checkstring (L, 1);
  struct listener *listener;
  int i = 0, before;
  while (i < LISTENED && strcmp (listened[i].name, name) != 0)
    i++;
  if (i == LISTENED)
    return luaL_error (L, "no signal that can be listened to: %s", name);
  lua_settop (L, 2);
  listener = &program->listeners[i];
  if (program->left)
    return 0;
  if (!listener->open) {
    if (uv_signal_init (allua_loop (program->host), &listener->handle) < 0)
      return error_raise_memory (L, allua_of (L));
    uv_unref ((uv_handle_t *)&listener->handle);
    listener->open = true;
    listener->handler = LUA_NOREF;
    listener->handle.data = program;
  }
  before = listener->handler;
  listener->handler = lua_isnil (L, 2) ? LUA_NOREF : luaL_ref (L, LUA_REGISTRYINDEX);
  luaL_unref (L, LUA_REGISTRYINDEX, before);
  if (listener->handler == LUA_NOREF)
    uv_signal_stop (&listener->handle);
  else if (uv_signal_start (&listener->handle, on_listened, listened[i].number) < 0)
    return luaL_error (L, "cannot listen to %s", name);
  return 0;
}

static int never_back (lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return luaL_error (L, "os.exit came back");
}

/* os.exit ([code]): every task is unwound first, its <close> handlers run. */
static int os_exit (lua_State *L) {
  allua *host = allua_of (L);
  struct program *program = allua_data (host);
  if (lua_isboolean (L, 1))
    program->status = lua_toboolean (L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
  else
    program->status = (int)luaL_optinteger (L, 1, EXIT_SUCCESS);
  program->exiting = true;
  if (!host->current || !lua_isyieldable (L) || host->running != L)
    exit (program->status);
  host->stopping = true; /* nothing of the script goes on after this */
  program_leave (program);
  host->current->stop = true;
  return task_suspend (L, host->current, WAIT_TIMER, NULL, 0, never_back);
}

bool program_open (struct program *program, allua_options *options) {
  options->data = program;
  program->on_interrupt = LUA_NOREF;
  program->host = allua_open (options);
  if (!program->host
      || uv_async_init (allua_loop (program->host), &program->interrupt, on_interrupt) != 0)
    return false;
  uv_unref ((uv_handle_t *)&program->interrupt);
  program->interrupt.data = program;
  program->host->joined = on_joined;
  return true;
}

void program_listen (struct program *program) {
  struct sigaction action;
  signalled = program;
  memset (&action, 0, sizeof action);
  action.sa_handler = on_sigint;
  sigaction (SIGINT, &action, NULL);
}

void program_register (lua_State *L) {
  lua_pushcfunction (L, set_on_interrupt);
  lua_setfield (L, -2, "on_interrupt");
  lua_pushcfunction (L, set_on_signal);
  lua_setfield (L, -2, "on_signal");
  lua_getglobal (L, "os");
  lua_pushcfunction (L, os_exit);
  lua_setfield (L, -2, "exit");
  lua_pop (L, 1);
}
