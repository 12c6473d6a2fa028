/* allua_close, in any state, on any mix of the host's and the program's state and loop. */
#include "counting.h"
#include "sensor.h"

/* What a host is doing when it is closed; each chunk runs as a root task until it waits. */
static const struct {
  const char *name, *chunk;
} states[] = {
  { "idle", "return" },
  { "a group ended", "all { function() return 1 end }" },
  { "a task sleeps", "allua.sleep(600)" },
  { "a task is ready", "while true do allua.yield() end" },
  { "a nested group waits",
    "all { a = function() all { b = function(self) allua.sleep(600) end } end,\n"
    "      c = function(self) return self.a end }" },
  { "spawned tasks wait", "for i = 1, 50 do allua.spawn(allua.sleep, 600) end" },
  { "a task waits for a promise of Lua's", "kept = allua.promise() kept:await()" },
  { "a task swallows its cancelling", "while true do pcall(allua.sleep, 600) end" },
  { "a shielded task waits", "allua.shield(function() allua.sleep(0.02) shielded = 1 end)" },
  { "a task waits again in its clean-up",
    "local guard <close> = setmetatable({}, {__close = function()\n"
    "  allua.shield(function() allua.sleep(0.01) cleaned = 1 end)\n"
    "end})\n"
    "allua.sleep(600)" },
  { "a clean-up raises",
    "local guard <close> = setmetatable({}, {__close = function() error 'no' end})\n"
    "allua.sleep(600)" },
  { "a generator is half way",
    "kept = coroutine.wrap(function() for i = 1, 9 do coroutine.yield(i) end end)\n"
    "kept() allua.sleep(600)" },
  { "a generator waits", "kept = coroutine.wrap(function() allua.sleep(600) end) kept()" },
  { "every relative of all waits",
    "local function wait() allua.sleep(600) end\n"
    "all { function() allua.all_settled { wait, wait } end,\n"
    "      function() allua.flow { wait, wait } end,\n"
    "      function() allua.race { wait, wait } end, function() allua.any { wait, wait } end,\n"
    "      function() for _ in allua.each { wait, wait } do end end,\n"
    "      function() allua.map({1, 2, 3}, wait, {concurrency = 2}) end,\n"
    "      function() allua.timeout(500, wait) end, function() allua.retry(wait) end,\n"
    "      function() allua.with({user = 1}, wait) end }" },
  { "luv handles are open",
    "uv = require 'luv'\n"
    "timer = uv.new_timer() timer:start(600000, 0, function() end)\n"
    "server = uv.new_tcp() server:bind('127.0.0.1', 0) server:listen(1, function() end)\n"
    "idle = uv.new_idle() idle:start(function() end)\n"
    "async = uv.new_async(function() end)\n"
    "watch = uv.new_fs_event() watch:start('.', {}, function() end)\n"
    "pipe = uv.new_pipe(false)" },
  { "luv handles are closing",
    "local timer = require('luv').new_timer() timer:start(600000, 0, print) timer:close()" },
  { "luv requests are under way", "local uv = require 'luv'\n"
                                  "for _ = 1, 8 do uv.fs_stat('.', function() end) end\n"
                                  "uv.getaddrinfo('localhost', nil, nil, function() end)" },
  { "a finished request of luv's is kept", "kept = require('luv').fs_scandir('.')" },
  { "a task waits for luv", "allua.promisify(require('luv').fs_stat)('.') allua.sleep(600)" },
  { "tasks wait in C functions",
    "all { function() read(600000, 1) end, function() read(600000, 2) end }" },
  { "promises of C's that nobody awaits", "kept = promise(600000, 1) promise(600000, 2)" },
  { "a rejected promise that nobody awaited", "allua.spawn(error, 'lost')" },
  { "errors with every finalizer",
    "kept = setmetatable({}, {__gc = function() error 'no' end}) allua.sleep(600)" },
  { "a finalizer that uses allua",
    "kept = setmetatable({}, {__gc = function() pcall(allua.sleep, 1) allua.spawn(print) end})" },
};

enum { OWN = 0, LOOP = 1, STATE = 2, CALLBACK = 4 };

static const struct {
  const char *name;
  int borrowed;
} ways[] = { { "on its own", OWN },
             { "on a borrowed loop", LOOP },
             { "on a borrowed state", STATE },
             { "on a borrowed loop and state", LOOP | STATE },
             { "inside a callback of a borrowed loop", LOOP | CALLBACK },
             { "inside a callback, on a borrowed state", LOOP | STATE | CALLBACK } };

static int ends;

static void on_end (lua_State *L, int status, int results, void *data) {
  (void)L, (void)status, (void)results, (void)data;
  ends++;
}

static void on_report (allua *host, const char *report, void *data) {
  (void)host, (void)report, (void)data;
}

static void on_close_timer (uv_timer_t *timer) {
  allua_close (timer->data);
  uv_close ((uv_handle_t *)timer, NULL);
}

static void close_in_callback (allua *host, uv_loop_t *loop) {
  uv_timer_t timer = { .data = host };
  uv_timer_init (loop, &timer);
  uv_timer_start (&timer, on_close_timer, 0, 0);
  uv_run (loop, UV_RUN_DEFAULT);
}

static void close_in (const char *state_name, const char *chunk, const char *way, int borrowed) {
  char name[200];
  snprintf (name, sizeof name, "closed %s: %s", way, state_name);
  check_last = name;
  struct counting counting = { 0 };
  uv_loop_t loop;
  allua_options options = { .size = sizeof options, .globals = 1, .on_error = on_report };
  if (borrowed & LOOP) {
    uv_loop_init (&loop);
    options.loop = &loop;
  }
  if (borrowed & STATE) {
    options.state = lua_newstate (counting_alloc, &counting);
    luaL_openlibs (options.state);
  } else {
    options.alloc = counting_alloc;
    options.alloc_data = &counting;
  }
  allua *host = check_open (&options);
  sensor_register (host);
  lua_State *L = allua_state (host);
  ends = 0;
  if (luaL_loadstring (L, chunk) != LUA_OK) {
    check (name, 0, "%s", lua_tostring (L, -1));
    return;
  }
  allua_start (host, 0, on_end, NULL);
  for (int turn = 0; turn < 3; turn++)
    uv_run (allua_loop (host), UV_RUN_NOWAIT);
  if (borrowed & CALLBACK)
    close_in_callback (host, &loop);
  else
    allua_close (host);
  if (borrowed & LOOP)
    uv_run (&loop, UV_RUN_DEFAULT); /* for the handles that were closing */
  if (borrowed & STATE)
    lua_close (options.state);
  int loop_status = borrowed & LOOP ? uv_loop_close (&loop) : 0;
  check (name,
         ends == 1 && loop_status == 0 && counting.bytes == 0 && sensors.closed == sensors.started
             && sensors.cancelled == sensors.started,
         "%d calls of done; uv_loop_close %d; %zu bytes left; %d timers, %d cancelled, %d closed",
         ends, loop_status, counting.bytes, sensors.started, sensors.cancelled, sensors.closed);
  check_last = "a check whose name is gone";
}

static void any_state (void) {
  for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++)
    for (size_t state = 0; state < sizeof states / sizeof states[0]; state++)
      close_in (states[state].name, states[state].chunk, ways[way].name, ways[way].borrowed);
}

static int cleaned;

static int clean (lua_State *L) {
  (void)L;
  cleaned++;
  return 0;
}

/* What a script does on its way out is seen from C: the state is gone afterwards. */
static void clean_up (void) {
  allua *host = check_open (&(allua_options){ .size = sizeof (allua_options), .globals = 1 });
  lua_register (allua_state (host), "clean", clean);
  luaL_loadstring (
      allua_state (host),
      "local guard <close> = setmetatable({}, {__close = clean})\n"
      "all {\n"
      "  function()\n"
      "    local inner <close> = setmetatable({}, {__close = clean})\n"
      "    allua.sleep(600)\n"
      "  end,\n"
      "  function() allua.shield(function() allua.sleep(0.02) clean() end) end,\n"
      "  function() local ok = pcall(allua.sleep, 600) if not ok then clean() end end,\n"
      "}");
  allua_start (host, 0, on_end, NULL);
  uv_run (allua_loop (host), UV_RUN_NOWAIT);
  allua_close (host);
  check_int ("closing lets every task clean up: <close>, shield and pcall", cleaned, 4);
}

/* Work without on_cancel cannot be stopped: its value comes when the host is gone. */
static void late_values (void) {
  uv_loop_t loop;
  uv_loop_init (&loop);
  allua *host = check_open (&(allua_options){ .size = sizeof (allua_options), .loop = &loop });
  sensor_register (host);
  luaL_loadstring (allua_state (host), "read_stubborn(50, 1)");
  allua_start (host, 0, on_end, NULL);
  luaL_loadstring (allua_state (host), "kept = promise(1, 1)");
  allua_start (host, 0, on_end, NULL);
  uv_run (&loop, UV_RUN_NOWAIT);
  allua_close (host);
  uv_run (&loop, UV_RUN_DEFAULT);
  CHECK ("a promise settled after its host was closed gives its value back, once",
         sensors.dropped == 1 && sensors.pushed == 0 && sensors.closed == 2);
  check_loop_closes ("the loop closes after late values", &loop);
}

/* a work request on the host's own loop: the loop cannot close before libuv is through with it */
struct slow_work {
  uv_work_t work;
  allua_promise *promise;
};

static int slow_given_back;

static void do_slow (uv_work_t *work) {
  (void)work;
  struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
  nanosleep (&pause, NULL);
}

static int push_slow (lua_State *L, void *data) {
  if (!L)
    slow_given_back++;
  free (data);
  return 0;
}

static void on_slow (uv_work_t *work, int status) {
  struct slow_work *slow = work->data;
  (void)status;
  allua_promise_resolve (slow->promise, push_slow, slow);
}

static int run_slow (lua_State *L) {
  allua_promise *promise = allua_promise_new (L);
  struct slow_work *slow = calloc (1, sizeof *slow);
  if (!slow)
    abort ();
  slow->promise = promise;
  slow->work.data = slow;
  uv_queue_work (allua_loop (allua_of (L)), &slow->work, do_slow, on_slow);
  return allua_await (L, promise);
}

static void work_under_way (void) {
  allua *host = check_open (NULL);
  lua_register (allua_state (host), "run_slow", run_slow);
  luaL_loadstring (allua_state (host), "run_slow()");
  allua_start (host, 0, on_end, NULL);
  uv_run (allua_loop (host), UV_RUN_NOWAIT);
  allua_close (host);
  check_int ("closing a loop of its own waits for libuv's work, and gives its value back",
             slow_given_back, 1);
}

static void close_posted (allua *host, void *data) {
  allua_close (host);
  ++*(int *)data;
}

static void close_when_done (lua_State *L, int status, int results, void *data) {
  (void)status, (void)results;
  allua_close (allua_of (L));
  ++*(int *)data;
}

static void from_own_callbacks (void) {
  uv_loop_t loop;
  int closed = 0;
  uv_loop_init (&loop);
  allua_options options = { .size = sizeof options, .loop = &loop };
  allua *host = check_open (&options);
  luaL_loadstring (allua_state (host), "require('allua').sleep(600)");
  allua_start (host, 0, on_end, NULL);
  allua_post (host, close_posted, &closed);
  uv_run (&loop, UV_RUN_DEFAULT);
  check_int ("a posted function may close its host", closed, 1);

  host = check_open (&options);
  luaL_loadstring (allua_state (host), "require('allua').sleep(0.001)");
  allua_start (host, 0, close_when_done, &closed);
  uv_run (&loop, UV_RUN_DEFAULT);
  check_int ("done may close its host", closed, 2);
  check_loop_closes ("the loop closes after both", &loop);

  /* the run has to end first: its task, and then the shielded rest of it */
  host = check_open (NULL);
  allua_post (host, close_posted, &closed);
  int status = allua_run_string (host,
                                 "local allua = require 'allua'\n"
                                 "pcall(allua.sleep, 600)\n"
                                 "allua.shield(allua.sleep, 0.01)\n",
                                 "=run");
  CHECK ("a posted function may close its host in the middle of a run",
         closed == 3 && status == ALLUA_ERROR);
}

int main (void) {
  check_begin ();
  any_state ();
  clean_up ();
  late_values ();
  work_under_way ();
  allua_close (NULL);
  check ("closing NULL does nothing", 1, "");
  from_own_callbacks ();
  return check_end ();
}
