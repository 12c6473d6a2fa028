#include "display.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FIRST_FRAME = 100, FRAME = 80 /* ms */, MOST_UNDO = 128 };

/* The lines stand outside the terminal's scrolling region, so that whoever prints, this program, a library or
   a child process, prints above them. Whatever ends the program has to take that back: the bytes that do so
   are kept where a signal handler finds them. */
static struct {
  allua *host;
  uv_timer_t timer;
  int frame;                       /* registry reference of the function that makes one */
  char undo[2][MOST_UNDO];         /* the one that counts, and the next */
  volatile sig_atomic_t undo_at;   /* which counts; */
  volatile sig_atomic_t undo_size; /* 0: nothing to take back */
  volatile sig_atomic_t lost;      /* the lines are gone: others had the terminal meanwhile */
} display;

static const int ending[] = { SIGTERM, SIGHUP, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };

static void put (const char *text, size_t size) {
  while (size) {
    ssize_t written = write (STDERR_FILENO, text, size);
    struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };
    if (written < 0 && errno == EAGAIN)
      poll (&room, 1, -1); /* somebody has made it non-blocking, and it is full */
    else if (written < 0 && errno != EINTR)
      return;
    if (written > 0) {
      text += written;
      size -= (size_t)written;
    }
  }
}

/* Async-signal-safe. */
static void undo (void) {
  size_t size = (size_t)display.undo_size;
  display.undo_size = 0;
  put (display.undo[display.undo_at], size);
}

void display_exit (int status) {
  undo ();
  _exit (status);
}

/* What ends a program does so, on a terminal as it was. */
static void on_ending (int number) {
  undo ();
  raise (number);
}

static void on_stop (int number) {
  int before = errno;
  sigset_t set;
  struct sigaction action, own;
  undo ();
  memset (&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  sigaction (number, &action, &own);
  sigemptyset (&set);
  sigaddset (&set, number);
  raise (number);
  sigprocmask (SIG_UNBLOCK, &set, NULL); /* here it stops, and here it goes on */
  sigprocmask (SIG_BLOCK, &set, NULL);
  sigaction (number, &own, NULL);
  display.lost = 1;
  errno = before;
}

static void handle (int number, void (*handler) (int number), int flags) {
  struct sigaction action, before;
  memset (&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (sigaction (number, NULL, &before) == 0 && before.sa_handler == SIG_DFL)
    sigaction (number, &action, NULL);
}

static bool is_terminal (void) {
  const char *term = getenv ("TERM");
  return isatty (STDERR_FILENO) && term && strcmp (term, "dumb") != 0;
}

/* core.display_size () → rows, columns of the terminal, or nil where there is none */
static int size (lua_State *L) {
  struct winsize window;
  if (!is_terminal () || ioctl (STDERR_FILENO, TIOCGWINSZ, &window) != 0)
    return 0;
  lua_pushinteger (L, window.ws_row);
  lua_pushinteger (L, window.ws_col);
  return 2;
}

/* core.display_lost () → whether the lines are gone since it was last asked */
static int lost (lua_State *L) {
  lua_pushboolean (L, display.lost);
  display.lost = 0;
  return 1;
}

/* core.display_put (text [, undo]): to standard error; undo: what takes all of it back, "" for nothing. */
static int put_text (lua_State *L) {
  size_t length, bytes;
  const char *text = luaL_checklstring (L, 1, &length);
  const char *back = luaL_optlstring (L, 2, NULL, &bytes);
  if (back) {
    int next = !display.undo_at;
    luaL_argcheck (L, bytes <= MOST_UNDO, 2, "too long");
    memcpy (display.undo[next], back, bytes);
    display.undo_at = next;
    display.undo_size = (sig_atomic_t)bytes;
  }
  fflush (stdout);
  put (text, length);
  return 0;
}

static void call (allua *host, bool last) {
  lua_State *L = host->worker;
  if (!lua_checkstack (L, 2))
    return;
  lua_rawgeti (L, LUA_REGISTRYINDEX, display.frame);
  lua_pushboolean (L, last);
  if (lua_pcall (L, 1, 0, 0) != LUA_OK)
    lua_pop (L, 1); /* for want of memory: another time */
}

static void on_timer (uv_timer_t *timer) {
  (void)timer;
  call (display.host, false);
}

int display_open (lua_State *L) {
  static const luaL_Reg functions[] = {
    { "display_size", size }, { "display_lost", lost }, { "display_put", put_text }, { NULL, NULL }
  };
  allua *host = lua_touserdata (L, 1);
  size_t i;
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield (L, -1, "allua.core");
  luaL_setfuncs (L, functions, 0);
  lua_getfield (L, -1, "load");
  lua_pushliteral (L, "allua.display");
  lua_call (L, 1, 1);
  lua_call (L, 0, 1); /* gives the function that makes a frame */
  display.frame = luaL_ref (L, LUA_REGISTRYINDEX);
  display.host = host;
  uv_timer_init (host->loop, &display.timer);
  uv_unref ((uv_handle_t *)&display.timer);
  if (!is_terminal ())
    return 0;
  uv_timer_start (&display.timer, on_timer, FIRST_FRAME, FRAME);
  atexit (undo);
  for (i = 0; i < sizeof ending / sizeof *ending; i++)
    handle (ending[i], on_ending, (int)SA_RESETHAND);
  handle (SIGTSTP, on_stop, SA_RESTART);
  return 0;
}

void display_close (allua *host) {
  if (!display.host)
    return;
  display.host = NULL;
  uv_close ((uv_handle_t *)&display.timer, NULL);
  call (host, true);
}
