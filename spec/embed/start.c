/* Starting a task and leaving the loop to the program: done is called once. */
#include "sensor.h"

struct outcome {
  int calls;
  int status;
  int results;
  lua_Integer first;
  int is_table;
  char text[256];
};

static void on_done (lua_State *L, int status, int results, void *data) {
  struct outcome *outcome = data;
  outcome->calls++;
  outcome->status = status;
  outcome->results = results;
  if (results == 0)
    return;
  outcome->first = lua_tointeger (L, -results);
  outcome->is_table = lua_istable (L, -results);
  const char *text = lua_tostring (L, -1);
  snprintf (outcome->text, sizeof outcome->text, "%s", text ? text : "");
}

/* Pushes the function that the chunk returns. */
static void push_function (allua *host, const char *chunk) {
  lua_State *L = allua_state (host);
  if (luaL_loadstring (L, chunk) != LUA_OK || lua_pcall (L, 0, 1, 0) != LUA_OK) {
    check ("a chunk loads", 0, "%s", lua_tostring (L, -1));
    exit (EXIT_FAILURE);
  }
}

/* Starts the chunk's function with no arguments; the program's own uv_run does the rest. */
static void start (allua *host, const char *chunk, struct outcome *outcome) {
  memset (outcome, 0, sizeof *outcome);
  push_function (host, chunk);
  check_int ("allua_start takes a task", allua_start (host, 0, on_done, outcome), ALLUA_OK);
}

static void results (allua *host) {
  lua_State *L = allua_state (host);
  struct outcome outcome = { 0 };
  push_function (
      host, "return function(a, b) require('allua').sleep(0.001) return a + b, nil, 'last' end");
  lua_pushinteger (L, 40);
  lua_pushinteger (L, 2);
  check_int ("start: a function and its arguments", allua_start (host, 2, on_done, &outcome),
             ALLUA_OK);
  check_int ("start: they are taken off the stack", lua_gettop (L), 0);
  check_int ("start: done is not called before it returns", outcome.calls, 0);
  check_int ("start: the program's uv_run ends with the task",
             uv_run (allua_loop (host), UV_RUN_DEFAULT), 0);
  check_int ("done: called once", outcome.calls, 1);
  check_int ("done: ALLUA_OK", outcome.status, ALLUA_OK);
  check_int ("done: every result, nil too", outcome.results, 3);
  check_int ("done: the first result", outcome.first, 42);
  CHECK ("done: the last result", strcmp (outcome.text, "last") == 0);
  check_int ("done: the state's stack is as it was", lua_gettop (L), 0);

  start (host, "return function() end", &outcome);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  CHECK ("done: no results",
         outcome.calls == 1 && outcome.status == ALLUA_OK && outcome.results == 0);
}

static void errors (allua *host) {
  struct outcome outcome;
  start (host, "return function() require('allua').sleep(0.001) error('broken', 0) end", &outcome);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  check_int ("done with an error: called once", outcome.calls, 1);
  check_int ("done with an error: ALLUA_ERROR", outcome.status, ALLUA_ERROR);
  check_int ("done with an error: it is the one value", outcome.results, 1);
  check_contains ("done with an error: it is the error", outcome.text, "broken");

  start (host, "return function() error {code = 7} end", &outcome);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  CHECK ("done with an error: it keeps its identity",
         outcome.status == ALLUA_ERROR && outcome.is_table);

  lua_State *L = allua_state (host);
  memset (&outcome, 0, sizeof outcome);
  lua_pushinteger (L, 3);
  int status = allua_start (host, 0, on_done, &outcome);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  check ("start of what cannot be called fails, once",
         (status != ALLUA_OK) + (outcome.status == ALLUA_ERROR) == 1,
         "allua_start gave %d, done was called %d times", status, outcome.calls);
  check_int ("start of what cannot be called leaves the stack as it was", lua_gettop (L), 0);
}

static void modes (allua *host) {
  struct outcome outcome;
  static const char chunk[] = "return function()\n"
                              "  local allua = require 'allua'\n"
                              "  return allua.all {\n"
                              "    a = function(self) return self.b + 1 end,\n"
                              "    b = function() allua.sleep(0.005) return 1 end,\n"
                              "  }.a\n"
                              "end";
  start (host, chunk, &outcome);
  while (!outcome.calls)
    uv_run (allua_loop (host), UV_RUN_NOWAIT);
  check_int ("UV_RUN_NOWAIT over and over moves tasks", outcome.first, 2);
  start (host, chunk, &outcome);
  while (!outcome.calls)
    uv_run (allua_loop (host), UV_RUN_ONCE);
  check_int ("UV_RUN_ONCE over and over moves tasks", outcome.first, 2);
  start (host, "return function() for i = 1, 1000 do require('allua').yield() end return 1 end",
         &outcome);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  check_int ("tasks that only yield keep the loop running", outcome.first, 1);
}

static int order[1000];
static int ended;

static void on_ended (lua_State *L, int status, int count, void *data) {
  (void)L, (void)count;
  if (status == ALLUA_OK)
    order[ended++] = *(int *)data;
}

static void many (allua *host) {
  static int numbers[1000];
  for (int i = 0; i < 1000; i++) {
    numbers[i] = i;
    push_function (host, "return function() end");
    allua_start (host, 0, on_ended, &numbers[i]);
  }
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  check_int ("a thousand tasks end", ended, 1000);
  int in_order = 1;
  for (int i = 0; i < 1000; i++)
    in_order &= order[i] == i;
  CHECK ("tasks that do not wait end in the order of their start", in_order);
}

static void on_first_done (lua_State *L, int status, int count, void *data) {
  (void)count;
  if (status != ALLUA_OK)
    return;
  allua *host = allua_of (L);
  push_function (host, "return function() require('allua').sleep(0.001) return 5 end");
  allua_start (host, 0, on_done, data);
}

static allua *timer_host;

static void on_start_timer (uv_timer_t *timer) {
  start (timer_host, "return function() require('allua').sleep(0.001) return 6 end", timer->data);
  uv_close ((uv_handle_t *)timer, NULL);
}

static void from_callbacks (allua *host) {
  struct outcome outcome = { 0 };
  push_function (host, "return function() end");
  allua_start (host, 0, on_first_done, &outcome);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  check_int ("done may start the next task", outcome.first, 5);

  timer_host = host;
  uv_timer_t timer = { .data = &outcome };
  uv_timer_init (allua_loop (host), &timer);
  uv_timer_start (&timer, on_start_timer, 1, 0);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  check_int ("a libuv callback may start a task", outcome.first, 6);
}

static void together (allua *host) {
  struct outcome outcome;
  start (host, "return function() require('allua').sleep(0.002) return 8 end", &outcome);
  check_runs ("a run moves started tasks too", host, "require('allua').sleep(0.05)");
  check_int ("done is called during the run", outcome.first, 8);

  start (host, "return function() signal = require('allua').promise() return signal:await() end",
         &outcome);
  check_int ("a task that waits for Lua alone does not keep the loop",
             uv_run (allua_loop (host), UV_RUN_DEFAULT), 0);
  check_int ("it has not ended", outcome.calls, 0);
  check_runs ("a later run settles what it waits for", host, "signal:resolve(9)");
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  CHECK ("it ends then", outcome.calls == 1 && outcome.first == 9);

  sensor_register (host);
  start (host, "return function() return read(2, 11) end", &outcome);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  CHECK ("a started task waits in C functions", outcome.calls == 1 && outcome.first == 11);
}

static void closing (void) {
  struct outcome waiting, ready;
  allua *host = check_open (NULL);
  start (host, "return function() require('allua').sleep(600) end", &waiting);
  uv_run (allua_loop (host), UV_RUN_NOWAIT);
  start (host, "return function() return 1 end", &ready);
  allua_close (host);
  CHECK ("closing: done of a waiting task is called once, with an error",
         waiting.calls == 1 && waiting.status == ALLUA_ERROR);
  check_int ("closing: done of a task that has not run is called once", ready.calls, 1);
}

int main (void) {
  check_begin ();
  allua *host = check_open (NULL);
  results (host);
  errors (host);
  modes (host);
  many (host);
  from_callbacks (host);
  together (host);
  allua_close (host);
  closing ();
  return check_end ();
}
