/* A host that watches its tasks: options.slow_turn, stuck_turn and on_slow. */
#include "check.h"

#include <stddef.h>

static char report[4096];
static int reports;
static void *report_data;

static void on_slow (allua *host, const char *text, void *data) {
  (void)host;
  reports++;
  report_data = data;
  snprintf (report, sizeof report, "%s", text);
}

static const char endless[] = "local allua = require 'allua'\n"
                              "allua.all { busy = function() while true do end end }\n";

static void check_says (const char *name, const char *text, const char *words) {
  check (name, text && strstr (text, words), "no \"%s\" in: %s", words, text ? text : "(nothing)");
}

static void check_ends (void) {
  int data;
  allua *host = allua_open (&(allua_options){ .size = sizeof (allua_options),
                                              .slow_turn = 0.02,
                                              .stuck_turn = 0.1,
                                              .on_slow = on_slow,
                                              .data = &data });
  check ("a task that computes for ever is ended",
         allua_run_string (host, endless, "=endless") == ALLUA_ERROR, "it was not");
  check_says ("by a StuckError", allua_error (host),
              "StuckError: task \"busy\" held the loop for longer than 0.1 s");
  check ("it was told of once, before", reports == 1 && report_data == &data, "%d times", reports);
  check_says ("with the time", report, "a task has held the loop for longer than 0.02 s\n");
  check_says ("with its traceback", report, "\tendless:2: in function");
  check_says ("with the tasks that own it", report, "\ntask \"busy\"\ntask \"main\"");
  check ("the host goes on",
         allua_run_string (host, "require('allua').sleep(0.001)", "=later") == ALLUA_OK, "%s",
         allua_error (host));
  reports = 0;
  check (
      "one that catches it is ended again, and a coroutine's coroutine too",
      allua_run_string (host,
                        "for i = 1, 3 do\n"
                        "  local ok, e = pcall(coroutine.wrap(function() while true do end end))\n"
                        "  assert(not ok and e.name == 'StuckError')\n"
                        "end",
                        "=stubborn")
          == ALLUA_OK,
      "%s", allua_error (host));
  check ("many short turns are no long one",
         allua_run_string (host,
                           "local allua = require 'allua'\n"
                           "local till = allua.now() + 0.3\n"
                           "while allua.now() < till do allua.yield() end",
                           "=short")
             == ALLUA_OK,
         "%s", allua_error (host));
  allua_close (host);
}

/* Fields that an older program does not have are not looked at. */
static void check_older (void) {
  allua_options options = { .size = offsetof (allua_options, slow_turn), .stuck_turn = 0.001 };
  allua *host = allua_open (&options);
  check ("a program of before the option has no watchdog",
         allua_run_string (host,
                           "local allua = require 'allua'\n"
                           "local till = allua.now() + 0.05\n"
                           "while allua.now() < till do end",
                           "=older")
             == ALLUA_OK,
         "%s", allua_error (host));
  allua_close (host);
}

int main (void) {
  check_begin ();
  check_ends ();
  check_older ();
  return check_end ();
}
