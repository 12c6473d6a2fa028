/* The library keeps to itself: it prints nothing, never exits, installs no signal handler. */
#include "check.h"
#include <errno.h>
#include <fcntl.h>

static char reports[16][4096];
static int report_count;
static allua *report_host;
static void *report_data;

static void on_error (allua *host, const char *report, void *data) {
  report_host = host;
  report_data = data;
  if (report_count < 16)
    snprintf (reports[report_count], sizeof reports[0], "%s", report);
  report_count++;
}

/* From silence_begin on what is written goes to a file; silence_end gives its size and its text. */
static int saved_out, saved_err, silent_file;

static void silence_begin (void) {
  char name[] = "/tmp/allua-quiet-XXXXXX";
  fflush (NULL);
  silent_file = mkstemp (name);
  unlink (name);
  saved_out = dup (STDOUT_FILENO);
  saved_err = dup (STDERR_FILENO);
  dup2 (silent_file, STDOUT_FILENO);
  dup2 (silent_file, STDERR_FILENO);
}

static long silence_end (char *text, size_t size) {
  fflush (NULL);
  dup2 (saved_out, STDOUT_FILENO);
  dup2 (saved_err, STDERR_FILENO);
  long written = (long)lseek (silent_file, 0, SEEK_END);
  lseek (silent_file, 0, SEEK_SET);
  ssize_t got = read (silent_file, text, size - 1);
  text[got > 0 ? got : 0] = '\0';
  close (silent_file);
  close (saved_out);
  close (saved_err);
  return written;
}

static void note_handlers (struct sigaction *handlers) {
  for (int number = 1; number < 32; number++)
    sigaction (number, NULL, &handlers[number]);
}

static int same_handlers (const struct sigaction *before) {
  struct sigaction now[32] = { 0 };
  note_handlers (now);
  for (int number = 1; number < 32; number++)
    if (now[number].sa_handler != before[number].sa_handler)
      return 0;
  return 1;
}

/* everything that might tempt a library to speak */
static const char *loud[] = {
  "error 'an error'",
  "error()",
  "x = = 1",
  "require('allua').promise():await()",
  "require('allua').all { a = function() error 'a task' end }",
  "require('allua').all { a = function(self) return self.a end }",
  ("local allua = require 'allua'\n"
   "allua.all {\n"
   "  a = function() pcall(allua.sleep, 60) error('a second error') end,\n"
   "  b = function() allua.sleep(0) error('the first error') end,\n"
   "}"),
  ("local allua = require 'allua'\n"
   "pcall(allua.timeout, 0.001, function() for _ = 1, 1e6 do pcall(allua.sleep, 1) end end)"),
  "setmetatable({}, {__gc = function() error 'in gc' end}) collectgarbage()",
  "warn 'a warning'",
  "require('allua').spawn(error, 'lost') require('allua').sleep(0.001)",
  "require('allua').promise():reject('lost too') collectgarbage() collectgarbage()",
  ("require('luv').new_timer():start(0, 0, function() error 'in a callback of luv' end)\n"
   "require('allua').sleep(0.01)"),
};

static void run_loud (const char *name, const allua_options *options) {
  struct sigaction handlers[32] = { 0 };
  char text[1000];
  note_handlers (handlers);
  silence_begin ();
  allua *host = allua_open (options);
  int kept = host != NULL;
  for (size_t i = 0; host && i < sizeof loud / sizeof loud[0]; i++) {
    allua_run_string (host, loud[i], "=loud");
    kept &= same_handlers (handlers);
  }
  if (host)
    allua_close (host);
  long written = silence_end (text, sizeof text);
  check (name, written == 0, "%ld bytes written: %s", written, text);
  CHECK ("no signal handler is changed", kept && same_handlers (handlers));
}

static void reported (void) {
  int mine = 0;
  allua_options options = { .size = sizeof options, .on_error = on_error, .data = &mine };
  allua *host = check_open (&options);
  report_count = 0;
  check_runs ("a promise is rejected, forgotten and collected", host,
              "local allua = require 'allua'\n"
              "local function lose() error('the lost error', 0) end\n"
              "allua.spawn(function() lose() return 1 end)\n"
              "allua.sleep(0.001)\n"
              "collectgarbage() collectgarbage()\n"
              "allua.sleep(0.001)");
  check_int ("on_error is called once for it", report_count, 1);
  check_contains ("on_error gets its message", reports[0], "the lost error");
  check_contains ("on_error gets its traceback", reports[0], "lose");
  CHECK ("on_error gets the host and its data", report_host == host && report_data == &mine);

  report_count = 0;
  check_runs ("a rejection that was awaited", host,
              "local allua = require 'allua'\n"
              "local p = allua.spawn(error, 'seen')\n"
              "pcall(p.await, p)\n"
              "p = nil\n"
              "collectgarbage() collectgarbage() allua.sleep(0.001)");
  check_runs ("a task that its owner cancelled", host,
              "local allua = require 'allua'\n"
              "local p = allua.spawn(allua.sleep, 600)\n"
              "allua.sleep(0.001)\n"
              "p:cancel() p = nil\n"
              "allua.sleep(0.001)\n"
              "collectgarbage() collectgarbage() allua.sleep(0.001)");
  check_int ("on_error is called for neither", report_count, 0);

  check_runs ("a rejected promise is kept", host,
              "kept = require('allua').promise() kept:reject 'lost at the end'");
  check_int ("on_error is not called while it is held", report_count, 0);
  allua_close (host);
  check_int ("on_error is called for it when the host closes", report_count, 1);
  check_contains ("with its message", reports[0], "lost at the end");
}

static void of_callbacks (void) {
  allua_options options = { .size = sizeof options, .on_error = on_error };
  allua *host = check_open (&options);
  report_count = 0;
  check_runs ("an error in a callback of luv's does not end the program", host,
              "local uv = require 'luv'\n"
              "local timer = uv.new_timer()\n"
              "timer:start(1, 0, function() timer:close() error 'a broken callback' end)\n"
              "require('allua').sleep(0.03)");
  check_int ("on_error is called once for the callback", report_count, 1);
  check_contains ("on_error gets the callback's message", reports[0], "a broken callback");

  report_count = 0;
  luaL_loadstring (allua_state (host), "error 'nobody listens'");
  allua_start (host, 0, NULL, NULL);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  check_int ("on_error is called for a task started without done", report_count, 1);
  check_contains ("on_error gets that task's message", reports[0], "nobody listens");
  allua_close (host);
}

static char warned[8192];

static void on_warning (void *data, const char *message, int to_be_continued) {
  (void)data, (void)to_be_continued;
  if (message[0] != '@' && strlen (warned) + strlen (message) < sizeof warned)
    strcat (warned, message);
}

static void to_warn (void) {
  lua_State *L = luaL_newstate ();
  luaL_openlibs (L);
  lua_setwarnf (L, on_warning, NULL);
  allua *host = check_open (&(allua_options){ .size = sizeof (allua_options), .state = L });
  check_runs ("a rejection is lost without on_error", host,
              "local allua = require 'allua'\n"
              "allua.spawn(error, 'the warned error')\n"
              "allua.sleep(0.001)\n"
              "collectgarbage() collectgarbage() allua.sleep(0.001)");
  check_contains ("it goes to Lua's warn", warned, "the warned error");
  warned[0] = '\0';
  check_runs ("a second error while cancelled", host,
              "local allua = require 'allua'\n"
              "local ok, err = pcall(allua.all, {\n"
              "  a = function() pcall(allua.sleep, 60) error('a second error', 0) end,\n"
              "  b = function() allua.sleep(0) error('the first error', 0) end,\n"
              "})\n"
              "assert(not ok and err == 'the first error', err)");
  check_contains ("a second error goes to Lua's warn", warned, "a second error");
  allua_close (host);
  lua_close (L);
}

int main (void) {
  check_begin ();
  run_loud ("nothing is printed", NULL);
  run_loud ("nothing is printed with on_error",
            &(allua_options){ .size = sizeof (allua_options), .on_error = on_error });
  reported ();
  of_callbacks ();
  to_warn ();
  return check_end ();
}
