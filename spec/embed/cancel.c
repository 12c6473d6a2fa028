/* Cancelling a task that waits in a C function: its work is stopped once, no value is lost. */
#include "sensor.h"

static allua *open_host (uv_loop_t *loop) {
  allua *host
      = check_open (&(allua_options){ .size = sizeof (allua_options), .loop = loop, .globals = 1 });
  sensor_register (host);
  return host;
}

static void by_lua (void) {
  uv_loop_t loop;
  uv_loop_init (&loop);
  allua *host = open_host (&loop);
  check_runs ("a timeout ends the wait", host,
              "local ok, err = pcall(allua.timeout, 0.005, read, 600000, 1)\n"
              "assert(not ok and allua.is_error(err, 'TimeoutError'), err)");
  check_int ("on_cancel is called once", sensors.cancelled, 1);
  check_runs ("an abort ends the wait", host,
              "local controller = allua.abort_controller()\n"
              "allua.spawn(function() allua.sleep(0.001) controller:abort 'enough' end)\n"
              "local tasks = { a = function() return read(600000, 1) end }\n"
              "local ok, err = pcall(all, tasks, {signal = controller.signal})\n"
              "assert(not ok and err == 'enough', err)");
  check_int ("on_cancel is called once for it", sensors.cancelled, 2);
  check_runs ("a failing sibling ends the wait", host,
              "local ok, err = pcall(all, {\n"
              "  a = function() return read(600000, 1) end,\n"
              "  b = function() allua.sleep(0.001) error('b failed', 0) end,\n"
              "})\n"
              "assert(not ok and err == 'b failed', err)");
  check_int ("on_cancel is called once for that", sensors.cancelled, 3);
  check_runs ("the wait raises a CancelledError, and the next wait again", host,
              "pcall(allua.timeout, 0.005, function()\n"
              "  local ok, err = pcall(read, 600000, 1)\n"
              "  assert(not ok and allua.is_error(err, 'CancelledError'), err)\n"
              "  ok, err = pcall(read, 1, 1)\n"
              "  assert(not ok and allua.is_error(err, 'CancelledError'), err)\n"
              "  reached = 1\n"
              "end)");
  check_int ("both raised", check_global (allua_state (host), "reached"), 1);
  CHECK ("no value was pushed or made", sensors.pushed == 0 && sensors.dropped == 0);
  check_runs ("shield holds the cancelling back", host,
              "local got\n"
              "pcall(allua.timeout, 0.005, function() got = allua.shield(read, 30, 5) end)\n"
              "assert(got == 5)");
  check_int ("a shielded wait takes its value", sensors.pushed, 1);
  uv_run (&loop, UV_RUN_NOWAIT);
  check_int ("every timer is closed", sensors.closed, sensors.started);
  allua_close (host);
  check_loop_closes ("the loop closes", &loop);
}

static void settled_first (void) {
  uv_loop_t loop;
  uv_loop_init (&loop);
  allua *host = open_host (&loop);
  check_runs ("a timeout that does not come", host, "assert(allua.timeout(60, read, 1, 3) == 3)");
  check_runs (
      "an abort after the value", host,
      "local controller = allua.abort_controller()\n"
      "assert(all({ a = function() return read(1, 4) end }, {signal = controller.signal}).a == 4)\n"
      "controller:abort()");
  check_int ("on_cancel is not called for a settled promise", sensors.cancelled, 0);

  /* both settle in one turn of the loop; the first to be resumed cancels the second */
  sensors.pushed = sensors.dropped = 0;
  check_runs ("cancelled between its settling and its waking", host,
              "local controller = allua.abort_controller()\n"
              "pcall(all, {\n"
              "  function() read(5, 1) controller:abort() end,\n"
              "  function() return read(5, 2) end,\n"
              "}, {signal = controller.signal})");
  CHECK ("each value is pushed or given back, once",
         sensors.pushed + sensors.dropped + sensors.cancelled == 2);
  uv_run (&loop, UV_RUN_NOWAIT);
  check_int ("every timer of these is closed", sensors.closed, sensors.started);
  allua_close (host);
  check_loop_closes ("the loop closes after settled ones", &loop);
}

static void stubborn (void) {
  uv_loop_t loop;
  uv_loop_init (&loop);
  allua *host = open_host (&loop);
  check_runs ("work without on_cancel: the wait ends all the same", host,
              "local before = allua.now()\n"
              "local ok, err = pcall(allua.timeout, 0.005, read_stubborn, 300, 1)\n"
              "assert(not ok and allua.is_error(err, 'TimeoutError'), err)\n"
              "assert(allua.now() - before < 0.25)");
  CHECK ("work without on_cancel: it goes on", sensors.closed == 0 && sensors.dropped == 0);
  uv_run (&loop, UV_RUN_DEFAULT);
  check_runs ("work without on_cancel: its promise is collected", host,
              "collectgarbage() collectgarbage()");
  CHECK ("work without on_cancel: its late value is given back once",
         sensors.dropped == 1 && sensors.pushed == 0);
  allua_close (host);
  check_loop_closes ("the loop closes after late work", &loop);
}

static void shared (void) {
  uv_loop_t loop;
  uv_loop_init (&loop);
  allua *host = open_host (&loop);
  check_runs ("one of two waiters is cancelled: the other gets the value", host,
              "local p = promise(50, 9)\n"
              "local r = all {\n"
              "  hasty = function() return (pcall(allua.timeout, 0.002, p.await, p)) end,\n"
              "  patient = function() return p:await() end,\n"
              "}\n"
              "assert(r.hasty == false and r.patient == 9)");
  CHECK ("and the work is not stopped", sensors.cancelled == 0 && sensors.pushed == 1);
  allua_close (host);
  check_loop_closes ("the loop closes after shared promises", &loop);
}

static int replaced, replacing_one;

static void count_cancel (void *data) {
  ++*(int *)data;
}

static int read_replaced (lua_State *L) {
  allua_promise *promise = allua_promise_new (L);
  allua_promise_on_cancel (promise, count_cancel, &replaced);
  allua_promise_on_cancel (promise, count_cancel, &replacing_one);
  return allua_await (L, promise);
}

static void replacing (void) {
  allua *host = open_host (NULL);
  lua_register (allua_state (host), "read_replaced", read_replaced);
  check_runs ("on_cancel set twice", host, "pcall(allua.timeout, 0.005, read_replaced)");
  CHECK ("the last on_cancel is the one that is called", replaced == 0 && replacing_one == 1);
  allua_close (host);
}

int main (void) {
  check_begin ();
  by_lua ();
  settled_first ();
  stubborn ();
  shared ();
  replacing ();
  return check_end ();
}
