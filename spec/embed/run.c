/* Running a chunk as a root task, from a string or a file, to its end or its error. */
#include "check.h"

static void strings (allua *host) {
  check_int ("a chunk runs", allua_run_string (host, "x = 6 * 7", "=x"), ALLUA_OK);
  check_int ("its globals stay", check_global (allua_state (host), "x"), 42);
  CHECK ("no error after a run that went well", allua_error (host) == NULL);
  check_runs ("a chunk may wait", host,
              "local allua = require 'allua'\n"
              "local before = allua.now()\n"
              "allua.sleep(0.02)\n"
              "assert(allua.now() - before >= 0.015)");
  check_runs ("a chunk is a task", host,
              "local _, main = coroutine.running()\nassert(main and not coroutine.isyieldable())");
  check_runs ("a chunk may start groups", host,
              "local r = require('allua').all {\n"
              "  a = function(self) return self.b + 1 end,\n"
              "  b = function() require('allua').sleep(0.001) return 1 end,\n"
              "}\n"
              "assert(r.a == 2)");
  check_runs ("what a chunk spawned is waited for", host,
              "local allua = require 'allua'\n"
              "allua.spawn(function() allua.sleep(0.02) spawned = 1 end)");
  check_int ("spawned tasks have ended with the run", check_global (allua_state (host), "spawned"),
             1);
  check_int ("a chunk without a name runs", allua_run_string (host, "return 1", NULL), ALLUA_OK);
  check_int ("the stack is as it was", lua_gettop (allua_state (host)), 0);
}

static void errors (allua *host) {
  check_int (
      "an error is ALLUA_ERROR",
      allua_run_string (host, "local function deep() error 'broken pipe' end deep()", "=config"),
      ALLUA_ERROR);
  check_contains ("allua_error has the place and the message", allua_error (host),
                  "config:1: broken pipe");
  check_contains ("allua_error has the traceback", allua_error (host), "stack traceback:");
  check_contains ("the traceback names the function", allua_error (host), "deep");
  check_int ("the host goes on after an error", allua_run_string (host, "y = 1", "=y"), ALLUA_OK);
  CHECK ("a run that goes well clears the error", allua_error (host) == NULL);

  check_int ("a syntax error is ALLUA_ERROR", allua_run_string (host, "x = = 1", "=broken"),
             ALLUA_ERROR);
  check_contains ("a syntax error names its line", allua_error (host), "broken:1:");
  check_int ("an error after a wait is ALLUA_ERROR",
             allua_run_string (host, "require('allua').sleep(0.001) error 'late'", "=late"),
             ALLUA_ERROR);
  check_contains ("an error after a wait is reported", allua_error (host), "late:1: late");

  check_int ("an error of a task is ALLUA_ERROR",
             allua_run_string (host,
                               "require('allua').all {\n"
                               "  dashboard = function(self) return self.profile end,\n"
                               "  profile = function() error 'no profile' end,\n"
                               "}",
                               "=app"),
             ALLUA_ERROR);
  check_contains ("the report has the task's message", allua_error (host), "app:3: no profile");
  check_contains ("the report names the task that failed", allua_error (host), "task \"profile\"");

  const char *odd[] = { "error(nil)",
                        "error(false)",
                        "error {}",
                        "error(12)",
                        "error(print)",
                        "error(setmetatable({}, {__tostring = function() error 'no' end}))",
                        "error(setmetatable({}, {__tostring = function() return {} end}))" };
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
    int status = allua_run_string (host, odd[i], "=odd");
    check (odd[i], status == ALLUA_ERROR && allua_error (host), "status %d, error %s", status,
           allua_error (host) ? allua_error (host) : "(null)");
  }
  allua_run_string (host, "error(setmetatable({}, {__tostring = function() return 'as text' end}))",
                    "=odd");
  check_contains ("an error's __tostring is its report", allua_error (host), "as text");
  check_int ("a stack overflow is an error",
             allua_run_string (host, "local function f() return 1 + f() end f()", "=deep"),
             ALLUA_ERROR);
  check_contains ("a stack overflow is reported", allua_error (host), "stack overflow");

  check_int ("a script that can make no progress is an error",
             allua_run_string (host, "require('allua').promise():await()", "=stuck"), ALLUA_ERROR);
  check_contains ("it is reported as a deadlock", allua_error (host), "deadlock");
  check_int ("the host goes on after a deadlock",
             allua_run_string (host, "require('allua').sleep(0)", "=y"), ALLUA_OK);
  check_int ("the stack is as it was after errors", lua_gettop (allua_state (host)), 0);
}

static int write_file (char *name, const char *text) {
  int file = mkstemp (name);
  if (file < 0)
    return 0;
  ssize_t written = write (file, text, strlen (text));
  close (file);
  return written == (ssize_t)strlen (text);
}

static void files (allua *host) {
  char script[] = "/tmp/allua-run-XXXXXX";
  CHECK ("a script is written",
         write_file (script, "#!/usr/bin/env allua\n"
                             "local first, second = ...\n"
                             "count = select('#', ...)\n"
                             "assert(first == nil or first == 'one')\n"
                             "assert(second == nil or second == 'two words')\n"
                             "require('allua').sleep(0.001)\n"
                             "if first == 'fail' then error 'failed' end\n"));
  char one[] = "one", two[] = "two words";
  char *arguments[] = { one, two, NULL };
  check_int ("a file runs, a first line of #! skipped", allua_run_file (host, script, 2, arguments),
             ALLUA_OK);
  check_int ("its arguments are its ...", check_global (allua_state (host), "count"), 2);
  check_int ("a file runs without arguments", allua_run_file (host, script, 0, NULL), ALLUA_OK);
  check_int ("no arguments are an empty ...", check_global (allua_state (host), "count"), 0);
  unlink (script);

  char broken[] = "/tmp/allua-run-XXXXXX";
  CHECK ("a failing script is written", write_file (broken, "\nerror 'failed'\n"));
  check_int ("a failing file is ALLUA_ERROR", allua_run_file (host, broken, 0, NULL), ALLUA_ERROR);
  check_contains ("its error names the file", allua_error (host), broken);
  check_contains ("its error names the line", allua_error (host), ":2: failed");
  unlink (broken);
  check_int ("a missing file is ALLUA_ERROR", allua_run_file (host, broken, 0, NULL), ALLUA_ERROR);
  check_contains ("its error names the missing file", allua_error (host), broken);
}

static int inner_status;

static int run_inside (lua_State *L) {
  inner_status = allua_run_string (allua_of (L), "require('allua').sleep(0.001)", "=inner");
  return 0;
}

static int posted_status = -1;

static void on_posted (allua *host, void *data) {
  (void)data;
  posted_status = allua_run_string (host, "require('allua').sleep(0.001)", "=posted");
}

/* libuv cannot run a loop inside itself: such a run must say so at once, and harm nothing */
static void nested (void) {
  allua *host = check_open (NULL);
  lua_register (allua_state (host), "run_inside", run_inside);
  check_runs ("a run inside a run leaves the outer one whole", host,
              "local allua = require 'allua'\n"
              "local r = allua.all {\n"
              "  a = function() run_inside() allua.sleep(0.001) return 1 end,\n"
              "  b = function() allua.sleep(0.002) return 2 end,\n"
              "}\n"
              "assert(r.a == 1 and r.b == 2)");
  check_int ("a run inside a run that waits is refused", inner_status, ALLUA_ERROR);
  allua_close (host);

  host = check_open (NULL);
  allua_post (host, on_posted, NULL);
  check_runs ("a run that calls what was posted goes on", host, "require('allua').sleep(0.05)");
  check_int ("a run inside a posted function is refused", posted_status, ALLUA_ERROR);
  allua_close (host);
}

int main (void) {
  check_begin ();
  allua *host = check_open (NULL);
  strings (host);
  errors (host);
  files (host);
  allua_close (host);
  nested ();
  return check_end ();
}
