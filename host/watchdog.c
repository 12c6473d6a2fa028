#include "watchdog.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "display.h"
#include "dump.h"
#include "task.h"
#include "watch.h"

enum { EVENTS = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT };

/* All that the signal handlers look at. They run on the loop's thread and only set hooks, which is what
   Lua allows there; the hook does the work where the task next runs a line or calls a function. */
static struct {
  allua *volatile host;
  timer_t timer;
  bool timed;
  volatile sig_atomic_t dump; /* asked for */
  volatile sig_atomic_t last; /* the status to exit with after it */
  uv_async_t wake;
} watch;

static int write_dump (lua_State *L) {
  allua *host = lua_touserdata (L, 1);
  dump_push (L, host, false, true);
  fflush (stdout);
  fprintf (stderr, "allua: %s:%s\n", watch.last ? "interrupted; the tasks were" : "tasks",
           lua_rawlen (L, -1) ? lua_tostring (L, -1) : "\n  none");
  return 0;
}

static void dump (lua_State *L) {
  watch.dump = 0;
  if (lua_checkstack (L, LUA_MINSTACK)) {
    lua_pushcfunction (L, write_dump);
    lua_pushlightuserdata (L, watch.host);
    if (lua_pcall (L, 1, 0, 0) != LUA_OK)
      lua_pop (L, 1);
  }
  if (watch.last)
    display_exit (watch.last);
}

static void look (lua_State *L, lua_Debug *info) {
  allua *host = watch.host;
  (void)info;
  lua_sethook (L, NULL, 0, 0);
  if (!host || !host->current || host->running != L)
    return;
  watch_arm (L, host);
  if (watch.dump)
    dump (L);
  watch_look (L, host);
}

static void set_hook (lua_State *L) {
  if (L && !lua_gethook (L)) /* a debugger's, or that of Ctrl-C, stays */
    lua_sethook (L, look, EVENTS, 1);
}

static void on_tick (int number) {
  int before = errno;
  allua *host = watch.host;
  (void)number;
  if (host && watch_note (host))
    set_hook (host->running);
  errno = before;
}

static void handle_signal (int number, void (*handler) (int number)) {
  struct sigaction action;
  memset (&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction (number, &action, NULL);
}

/* A second one, before the first is answered, does what it does in any program. */
static void on_quit (int number) {
  int before = errno;
  if (!watch.host || watch.dump) {
    signal (number, SIG_DFL);
    raise (number);
    return;
  }
  watch.dump = 1;
  set_hook (watch.host->running);
  uv_async_send (&watch.wake);
  errno = before;
}

/* No task came to a place where Lua can be asked: what C knows by heart is all there is to tell. */
static void on_alarm (int number) {
  static const char text[] = "allua: interrupted, inside a function of C's that does not return: "
                             "what the tasks were doing cannot be shown\n";
  ssize_t written = write (STDERR_FILENO, text, sizeof text - 1);
  (void)number;
  (void)written;
  display_exit (watch.last);
}

void watchdog_last_words (int status) {
  int before = errno;
  if (!watch.host || watch.last)
    display_exit (status);
  watch.last = status;
  watch.dump = 1;
  handle_signal (SIGALRM, on_alarm);
  alarm (1);
  if (watch.host->running)
    lua_sethook (watch.host->running, look, EVENTS, 1);
  uv_async_send (&watch.wake);
  errno = before;
}

static void on_wake (uv_async_t *async) {
  (void)async;
  if (watch.dump && watch.host)
    dump (watch.host->main);
}

bool watchdog_listen (allua *host) {
  if (uv_async_init (host->loop, &watch.wake, on_wake) != 0)
    return false;
  uv_unref ((uv_handle_t *)&watch.wake);
  watch.host = host;
  handle_signal (SIGQUIT, on_quit);
  return true;
}

bool watchdog_start (double slow, double stuck) {
  double least = slow > 0 && (stuck <= 0 || slow < stuck) ? slow : stuck;
  double period = least / 4 < 0.001 ? 0.001 : least / 4;
  struct sigevent event;
  struct itimerspec every;
  if (least <= 0)
    return true;
  watch.host->watch.slow = slow;
  watch.host->watch.stuck = stuck;
  handle_signal (SIGRTMIN, on_tick);
  memset (&event, 0, sizeof event);
  event.sigev_notify = SIGEV_THREAD_ID; /* this thread, and no other */
  event.sigev_signo = SIGRTMIN;
  event._sigev_un._tid = (pid_t)syscall (SYS_gettid);
  every.it_value.tv_sec = (time_t)period;
  every.it_value.tv_nsec = (long)((period - (double)(time_t)period) * 1e9);
  every.it_interval = every.it_value;
  watch.timed = timer_create (CLOCK_MONOTONIC, &event, &watch.timer) == 0;
  return watch.timed && timer_settime (watch.timer, 0, &every, NULL) == 0;
}

void watchdog_close (void) {
  if (!watch.host)
    return;
  watch.host = NULL;
  if (watch.timed) {
    timer_delete (watch.timer);
    watch.timed = false;
  }
  uv_close ((uv_handle_t *)&watch.wake, NULL);
}
