/* check.h: named checks, one line of output each, and a clock that ends a program that hangs. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* libuv's header and these programs want POSIX beside C11 */
#endif

#include <allua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Generous: the suite also runs under valgrind on slow machines. */
enum { CHECK_SECONDS = 300 };

static int checks_failed;
static const char *check_last = "the start";

/* async-signal-safe: the program may be stuck anywhere */
static inline void check_hung (int signal) {
  static const char before[] = "not ok: hung after ";
  (void)signal;
  (void)!write (STDOUT_FILENO, before, sizeof before - 1);
  (void)!write (STDOUT_FILENO, check_last, strlen (check_last));
  (void)!write (STDOUT_FILENO, "\n", 1);
  _exit (1);
}

static inline void check_begin (void) {
  setvbuf (stdout, NULL, _IOLBF, 0); /* a crash must not take earlier lines with it */
  signal (SIGALRM, check_hung);
  alarm (CHECK_SECONDS);
}

/* returns the program's exit status */
static inline int check_end (void) {
  return checks_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Prints the check's line; format says why it failed. Returns truth. */
static inline int check (const char *name, int truth, const char *format, ...) {
  check_last = name;
  if (truth) {
    printf ("ok %s\n", name);
    return 1;
  }
  checks_failed++;
  printf ("not ok %s: ", name);
  va_list arguments;
  va_start (arguments, format);
  vprintf (format, arguments);
  va_end (arguments);
  printf ("\n");
  return 0;
}

#define CHECK(name, truth) check ((name), (truth) ? 1 : 0, "%s:%d: %s", __FILE__, __LINE__, #truth)

static inline int check_int (const char *name, long long got, long long expected) {
  return check (name, got == expected, "expected %lld, got %lld", expected, got);
}

static inline int check_contains (const char *name, const char *text, const char *part) {
  return check (name, text && strstr (text, part), "no \"%s\" in: %s", part,
                text ? text : "(null)");
}

/* The chunk, which asserts what it wants, must run to its end. */
static inline int check_runs (const char *name, allua *host, const char *chunk) {
  int status = allua_run_string (host, chunk, "=check");
  return check (name, status == ALLUA_OK, "status %d: %s", status, allua_error (host));
}

/* Opens a host or ends the program: nothing can be checked without one. */
static inline allua *check_open (const allua_options *options) {
  allua *host = allua_open (options);
  if (!host) {
    check ("a host opens", 0, "allua_open gave NULL");
    exit (EXIT_FAILURE);
  }
  return host;
}

/* A borrowed loop closes, once it has run for handles that are closing. What is still open hangs. */
static inline int check_loop_closes (const char *name, uv_loop_t *loop) {
  check_last = name;
  uv_run (loop, UV_RUN_DEFAULT);
  int status = uv_loop_close (loop);
  if (status != 0)
    uv_print_all_handles (loop, stderr);
  return check (name, status == 0, "uv_loop_close: %s", status ? uv_strerror (status) : "");
}

/* the integer in a global variable, -1 where there is none */
static inline lua_Integer check_global (lua_State *L, const char *name) {
  lua_getglobal (L, name);
  lua_Integer value = lua_isinteger (L, -1) ? lua_tointeger (L, -1) : -1;
  lua_pop (L, 1);
  return value;
}

#endif
