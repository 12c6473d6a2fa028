/* A line of input, edited by libedit while the loop goes on.
 *
 * libedit reads whole commands: after an Escape, within a search by ^R, it sits in its read until
 * more is typed, with its callback interface too. So each line is edited on a thread of its own,
 * which ends with the line; the loop never waits for a key. libedit is called by that thread while
 * there is one, and by the loop's while there is none. */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include <editline/readline.h>
#include <lauxlib.h>

#include "allua.h"
#include "library.h"
#include "prompt.h"

#define HISTORY_LINES 1000

/* libedit, with what it needs in turn, is loaded for a prompt: scripts start without it. */
#define EDIT_NAMES(X)                                                                              \
  X (readline)                                                                                     \
  X (rl_initialize)                                                                                \
  X (rl_prep_terminal)                                                                             \
  X (rl_deprep_terminal)                                                                           \
  X (rl_resize_terminal)                                                                           \
  X (rl_forced_update_display)                                                                     \
  X (rl_readline_name)                                                                             \
  X (rl_catch_signals)                                                                             \
  X (rl_inhibit_completion)                                                                        \
  X (rl_getc_function)                                                                             \
  X (using_history)                                                                                \
  X (add_history)                                                                                  \
  X (clear_history)                                                                                \
  X (stifle_history)

/* Its functions, and pointers to its variables. */
static struct {
#define EDIT_FIELD(name) __typeof__ (name) *(name);
  EDIT_NAMES (EDIT_FIELD)
#undef EDIT_FIELD
} edit;

static void load_edit (lua_State *L) {
#define EDIT_NAME(name) #name,
  static const char *const names[] = { EDIT_NAMES (EDIT_NAME) };
#undef EDIT_NAME
  void *found[sizeof names / sizeof *names];
  _Static_assert(sizeof found == sizeof edit, "one pointer a name");
  library_load (L, "libedit.so.2", "libedit2", names, found, sizeof names / sizeof *names);
  memcpy (&edit, found, sizeof edit);
}

/* The upvalue of each function. */
struct prompt {
  locale_t locale; /* for libedit alone: scripts keep the C locale that Lua starts in */
};

/* A line that is being edited. Freed when the loop has closed both handles. */
struct reading {
  uv_async_t over;       /* the thread has ended */
  uv_signal_t continued; /* after a ^Z, the terminal is to be set up anew */
  uv_thread_t thread;
  uv_file orders[2]; /* a pipe to the thread: one byte each */
  allua_promise *promise;
  locale_t locale;
  struct termios before; /* the terminal as it was */
  char *prompt;
  char *line; /* NULL: the end of the input */
};

enum order { GIVE_UP = 'g', CONTINUE = 'c' };

/* libedit asks for a key without saying for whom. */
static struct reading *reading;

/* ---- The editing thread ---------------------------------------------------------------------- */

/* The next byte typed, or -1 when the input has ended or the line is given up. */
static int next_byte (void) {
  struct pollfd ready[2] = {
    { .fd = reading->orders[0], .events = POLLIN },
    { .fd = STDIN_FILENO, .events = POLLIN },
  };
  unsigned char byte;
  while (!ready[1].revents) {
    if (poll (ready, 2, -1) < 0 && errno != EINTR)
      return -1;
    if (!ready[0].revents)
      continue;
    if (read (ready[0].fd, &byte, 1) != 1 || byte == GIVE_UP)
      return -1;
    edit.rl_deprep_terminal ();
    edit.rl_prep_terminal (0);
    edit.rl_forced_update_display ();
  }
  return read (STDIN_FILENO, &byte, 1) == 1 ? byte : -1;
}

/* libedit's hook: the next character, or -1. */
static int next_character (FILE *input) {
  mbstate_t state = { 0 };
  wchar_t character;
  size_t n;
  (void)input;
  /* What libedit writes between two keys is one piece, whatever tasks print meanwhile. */
  funlockfile (stdout);
  do {
    int byte = next_byte ();
    char next = (char)byte;
    if (byte < 0) {
      character = -1;
      break;
    }
    n = mbrtowc (&character, &next, 1, &state);
    if (n == (size_t)-1) /* not a character of this locale: dropped */
      memset (&state, 0, sizeof state);
  } while (n > 1);
  flockfile (stdout);
  edit.rl_resize_terminal ();
  return character;
}

static void restore_terminal (void) {
  if (reading)
    tcsetattr (STDIN_FILENO, TCSADRAIN, &reading->before);
}

static void edit_line (void *data) {
  struct reading *r = data;
  struct termios raw;
  uselocale (r->locale);
  flockfile (stdout);
  /* libedit shows its prompt first and sets the terminal up then: a key in between would be echoed
     twice, and a ^D get lost. */
  tcgetattr (STDIN_FILENO, &r->before);
  raw = r->before;
  raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
  tcsetattr (STDIN_FILENO, TCSADRAIN, &raw);
  r->line = edit.readline (r->prompt);
  restore_terminal ();
  funlockfile (stdout);
  uv_async_send (&r->over);
}

/* ---- Its life, on the loop's thread ---------------------------------------------------------- */

static void order (struct reading *r, enum order order) {
  char byte = (char)order;
  ssize_t written = write (r->orders[1], &byte, 1);
  (void)written; /* a pipe that is all but empty has room */
}

static void discard (struct reading *r) {
  if (r->orders[0] != r->orders[1]) {
    close (r->orders[0]);
    close (r->orders[1]);
  }
  free (r->prompt);
  free (r->line);
  free (r);
}

static void on_continued_closed (uv_handle_t *handle) {
  discard (handle->data);
}

static void on_over_closed (uv_handle_t *handle) {
  struct reading *r = handle->data;
  uv_close ((uv_handle_t *)&r->continued, on_continued_closed);
}

/* The thread has ended or is about to. Of the handles `over` goes first: on_over must not follow. */
static void join (struct reading *r) {
  uv_thread_join (&r->thread);
  reading = NULL;
  uv_close ((uv_handle_t *)&r->over, on_over_closed);
}

static void cancel (void *data) {
  order (data, GIVE_UP);
  join (data);
}

static void on_continued (uv_signal_t *handle, int number) {
  (void)number;
  order (handle->data, CONTINUE);
}

static int new_string (lua_State *L) {
  lua_pushstring (L, lua_touserdata (L, 1));
  return 1;
}

static int push_line (lua_State *L, void *line) {
  int status = LUA_OK;
  if (L && line) {
    lua_pushcfunction (L, new_string);
    lua_pushlightuserdata (L, line);
    status = lua_pcall (L, 1, 1, 0);
  } else if (L)
    lua_pushnil (L);
  free (line);
  return status == LUA_OK ? 1 : lua_error (L);
}

static void on_over (uv_async_t *handle) {
  struct reading *r = handle->data;
  char *line;
  join (r);
  line = r->line;
  r->line = NULL;
  allua_promise_resolve (r->promise, push_line, line);
}

/* Start to read for a promise: 0, or a libuv error. */
static int start (uv_loop_t *loop, locale_t locale, const char *prompt, allua_promise *promise) {
  struct reading *r = calloc (1, sizeof *r);
  sigset_t all, before;
  int error;
  if (!r)
    return UV_ENOMEM;
  r->over.data = r->continued.data = r;
  r->promise = promise;
  r->locale = locale;
  r->prompt = strdup (prompt);
  error = r->prompt ? uv_pipe (r->orders, 0, 0) : UV_ENOMEM;
  if (!error)
    error = uv_signal_init (loop, &r->continued);
  if (error) {
    discard (r);
    return error;
  }
  error = uv_async_init (loop, &r->over, on_over);
  if (error) {
    uv_close ((uv_handle_t *)&r->continued, on_continued_closed);
    return error;
  }
  error = uv_signal_start (&r->continued, on_continued, SIGCONT);
  if (!error) {
    reading = r;
    sigfillset (&all); /* signals are for the loop's thread */
    pthread_sigmask (SIG_SETMASK, &all, &before);
    error = uv_thread_create (&r->thread, edit_line, r);
    pthread_sigmask (SIG_SETMASK, &before, NULL);
  }
  if (error) {
    reading = NULL;
    uv_close ((uv_handle_t *)&r->over, on_over_closed);
  } else
    allua_promise_on_cancel (promise, cancel, r);
  return error;
}

static int prompt_read_line (lua_State *L) {
  struct prompt *prompt = lua_touserdata (L, lua_upvalueindex (1));
  const char *text = luaL_checkstring (L, 1);
  allua_promise *promise;
  int error;
  if (reading)
    return luaL_error (L, "read_line: a line is being read already");
  promise = allua_promise_new (L);
  error = start (allua_loop (allua_of (L)), prompt->locale, text, promise);
  if (error)
    allua_promise_reject (promise, "read_line: %s", uv_strerror (error));
  return allua_await (L, promise);
}

static int prompt_add_history (lua_State *L) {
  const char *line = luaL_checkstring (L, 1);
  /* The editing thread may be looking at it. */
  if (reading)
    return luaL_error (L, "add_history: a line is being read");
  edit.add_history (line);
  return 0;
}

/* ---- The module ------------------------------------------------------------------------------ */

/* What LANG and its kin say; where they say nothing, UTF-8, as most terminals speak it. */
static locale_t terminal_locale (void) {
  locale_t locale = newlocale (LC_CTYPE_MASK, "", (locale_t)0);
  if (locale && strcmp (nl_langinfo_l (CODESET, locale), "ANSI_X3.4-1968") != 0)
    return locale;
  if (locale)
    freelocale (locale);
  return newlocale (LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

static int prompt_gc (lua_State *L) {
  struct prompt *prompt = lua_touserdata (L, 1);
  edit.clear_history ();
  if (prompt->locale)
    freelocale (prompt->locale);
  return 0;
}

int prompt_open (lua_State *L) {
  static const luaL_Reg functions[] = {
    { "read_line", prompt_read_line },
    { "add_history", prompt_add_history },
    { NULL, NULL },
  };
  struct prompt *prompt;
  locale_t before;
  load_edit (L);
  luaL_newlibtable (L, functions);
  prompt = lua_newuserdatauv (L, sizeof *prompt, 0);
  *prompt = (struct prompt){ 0 };
  lua_createtable (L, 0, 1);
  lua_pushcfunction (L, prompt_gc);
  lua_setfield (L, -2, "__gc");
  lua_setmetatable (L, -2);
  prompt->locale = terminal_locale ();
  before = uselocale (prompt->locale);
  *edit.rl_readline_name = "allua"; /* in ~/.editrc, lines may begin with allua: */
  *edit.rl_catch_signals = 0;
  *edit.rl_inhibit_completion = 1; /* Tab would complete the names of files */
  *edit.rl_getc_function = next_character;
  edit.rl_initialize ();
  edit.using_history ();
  edit.stifle_history (HISTORY_LINES);
  uselocale (before);
  /* Whoever calls exit while a line is being edited leaves the terminal as it was. */
  atexit (restore_terminal);
  luaL_setfuncs (L, functions, 1);
  lua_pushliteral (L, LUA_RELEASE);
  lua_setfield (L, -2, "lua");
  return 1;
}
