/* C functions that wait: promises settled from timers, from file system and from work callbacks. */
#include "sensor.h"

/* stat(path) -> size; a uv_fs request that rejects by its own error */
struct file_request {
  uv_fs_t fs;
  allua_promise *promise;
};

static int push_size (lua_State *L, void *data) {
  uint64_t *size = data;
  if (L)
    lua_pushinteger (L, (lua_Integer)*size);
  free (size);
  return L ? 1 : 0;
}

static void on_stat (uv_fs_t *fs) {
  struct file_request *request = fs->data;
  if (fs->result < 0) {
    allua_promise_reject (request->promise, "stat %s: %s", fs->path, uv_strerror ((int)fs->result));
  } else {
    uint64_t *size = malloc (sizeof *size);
    if (!size)
      abort ();
    *size = fs->statbuf.st_size;
    allua_promise_resolve (request->promise, push_size, size);
  }
  uv_fs_req_cleanup (fs);
  free (request);
}

static int file_size (lua_State *L) {
  const char *path = luaL_checkstring (L, 1);
  allua_promise *promise = allua_promise_new (L);
  struct file_request *request = malloc (sizeof *request);
  if (!request)
    abort ();
  request->promise = promise;
  request->fs.data = request;
  uv_fs_stat (allua_loop (allua_of (L)), &request->fs, path, on_stat);
  return allua_await (L, promise);
}

/* sum(n) -> 1 + ... + n, on libuv's thread pool */
struct work_request {
  uv_work_t work;
  allua_promise *promise;
  lua_Integer n, total;
};

static void do_sum (uv_work_t *work) {
  struct work_request *request = work->data;
  for (lua_Integer i = 1; i <= request->n; i++)
    request->total += i;
}

static int push_sum (lua_State *L, void *data) {
  struct work_request *request = data;
  if (L) {
    lua_pushinteger (L, request->n);
    lua_pushinteger (L, request->total);
  }
  free (request);
  return L ? 2 : 0;
}

static void on_sum (uv_work_t *work, int status) {
  struct work_request *request = work->data;
  (void)status;
  allua_promise_resolve (request->promise, push_sum, request);
}

static int sum (lua_State *L) {
  lua_Integer n = luaL_checkinteger (L, 1);
  allua_promise *promise = allua_promise_new (L);
  struct work_request *request = calloc (1, sizeof *request);
  if (!request)
    abort ();
  request->promise = promise;
  request->work.data = request;
  request->n = n;
  uv_queue_work (allua_loop (allua_of (L)), &request->work, do_sum, on_sum);
  return allua_await (L, promise);
}

/* now(value) -> value: settled before it is awaited */
static int read_now (lua_State *L) {
  allua_promise *promise = allua_promise_new (L);
  sensor_resolve (promise, luaL_checkinteger (L, 1));
  return allua_await (L, promise);
}

static int reject_now (lua_State *L) {
  allua_promise *promise = allua_promise_new (L);
  allua_promise_reject (promise, "sensor %d is %s", 7, "gone");
  return allua_await (L, promise);
}

/* pending() -> a promise that is kept here too, for settle(value) and its like */
static allua_promise *kept;

static int pending (lua_State *L) {
  kept = allua_promise_new (L);
  return 1;
}

static int settle (lua_State *L) {
  sensor_resolve (kept, luaL_checkinteger (L, 1));
  return 0;
}

static int settle_bad (lua_State *L) {
  allua_promise_reject (kept, "%s", luaL_checkstring (L, 1));
  return 0;
}

static int raises;

static int push_raises (lua_State *L, void *data) {
  (void)data;
  raises++;
  if (L)
    return luaL_error (L, "value out of range");
  return 0;
}

static int settle_raising (lua_State *L) {
  (void)L;
  allua_promise_resolve (kept, push_raises, NULL);
  return 0;
}

static int push_nothing (lua_State *L, void *data) {
  (void)L;
  ++*(int *)data;
  return 0;
}

static int nothings;

static int settle_nothing (lua_State *L) {
  (void)L;
  allua_promise_resolve (kept, push_nothing, &nothings);
  return 0;
}

static int push_many (lua_State *L, void *data) {
  int count = *(int *)data;
  if (!L)
    return 0;
  luaL_checkstack (L, count, "too many values");
  for (int i = 1; i <= count; i++)
    lua_pushinteger (L, i);
  return count;
}

static int settle_many (lua_State *L) {
  static int count = 200; /* more than LUA_MINSTACK */
  (void)L;
  allua_promise_resolve (kept, push_many, &count);
  return 0;
}

static allua *open_host (void) {
  allua *host = check_open (&(allua_options){ .size = sizeof (allua_options), .globals = 1 });
  static const luaL_Reg functions[] = { { "file_size", file_size },
                                        { "sum", sum },
                                        { "read_now", read_now },
                                        { "reject_now", reject_now },
                                        { "pending", pending },
                                        { "settle", settle },
                                        { "settle_bad", settle_bad },
                                        { "settle_raising", settle_raising },
                                        { "settle_nothing", settle_nothing },
                                        { "settle_many", settle_many },
                                        { NULL, NULL } };
  sensor_register (host);
  for (const luaL_Reg *function = functions; function->name; function++)
    lua_register (allua_state (host), function->name, function->func);
  return host;
}

static void callbacks (allua *host) {
  check_runs ("a timer callback resolves", host, "assert(read(1, 42) == 42)");
  CHECK ("push was called once, with the state", sensors.pushed == 1 && sensors.dropped == 0);
  check_runs ("a file system callback resolves", host, "assert(file_size '.' >= 0)");
  check_runs ("a file system callback rejects", host,
              "local ok, err = pcall(file_size, '/no/such/file')\n"
              "local expected = 'stat /no/such/file: no such file or directory'\n"
              "assert(not ok and tostring(err):find(expected, 1, true), err)");
  check_runs ("a work callback resolves, with several values", host,
              "local n, total = sum(1000)\nassert(n == 1000 and total == 500500)");
  check_runs ("tasks wait in C functions side by side", host,
              "local before = allua.now()\n"
              "local r = all {\n"
              "  a = function() return read(100, 1) end,\n"
              "  b = function() return read(100, 2) end,\n"
              "  c = function() return file_size '.' end,\n"
              "  d = function() return (select(2, sum(10))) end,\n"
              "  total = function(self) return self.a + self.b + self.d end,\n"
              "}\n"
              "assert(r.total == 58)\n"
              "assert(allua.now() - before < 0.19, 'one after the other')");
  check_runs ("a C function waits under pcall, in coroutines and in metamethods", host,
              "assert(select(2, pcall(read, 1, 1)) == 1)\n"
              "local gen = coroutine.wrap(function() coroutine.yield(read(1, 2)) end)\n"
              "assert(gen() == 2)\n"
              "local t = setmetatable({}, {__index = function(_, k) return read(1, k) end})\n"
              "assert(t[3] == 3)");
}

static void settling (allua *host) {
  check_runs ("resolved before it is awaited", host, "assert(read_now(5) == 5)");
  check_runs ("rejected before it is awaited, with a formatted message", host,
              "local ok, err = pcall(reject_now)\n"
              "assert(not ok and tostring(err):find('sensor 7 is gone', 1, true), err)");
  check_runs ("the promise is a promise of Lua's", host,
              "local p = promise(1, 6)\n"
              "assert(p.status == 'pending')\n"
              "assert(p:await() == 6 and p.status == 'fulfilled' and p:await() == 6)");
  check_runs ("the promise may be a task of a group", host,
              "assert(all { a = promise(1, 7) }.a == 7)");

  sensors.pushed = sensors.dropped = 0;
  check_runs ("several waiters get the value", host,
              "local p = promise(1, 8)\n"
              "local function wait() return p:await() end\n"
              "local r = all { wait, wait, wait }\n"
              "assert(r[1] == 8 and r[2] == 8 and r[3] == 8)");
  CHECK ("push was called once for all of them", sensors.pushed == 1 && sensors.dropped == 0);

  sensors.pushed = sensors.dropped = 0;
  check_runs ("settled twice: the first counts", host,
              "local p = pending()\n"
              "settle(1) settle(2) settle_bad 'no'\n"
              "assert(p:await() == 1 and p:await() == 1 and p.status == 'fulfilled')");
  CHECK ("settled twice: the second value is given back",
         sensors.pushed == 1 && sensors.dropped == 1);
  check_runs ("rejected, then resolved: the first counts", host,
              "local p = pending()\n"
              "settle_bad 'no' settle(2)\n"
              "local ok, err = pcall(p.await, p)\n"
              "assert(not ok and tostring(err):find 'no' and p.status == 'rejected')");
  CHECK ("rejected, then resolved: the value is given back",
         sensors.pushed == 1 && sensors.dropped == 2);

  sensors.pushed = sensors.dropped = 0;
  check_runs ("nobody waits: the value is kept for whoever comes", host,
              "local p = pending()\nsettle(3)\nallua.sleep(0.001)\nassert(p:await() == 3)");
  CHECK ("nobody waits: push is called once", sensors.pushed == 1 && sensors.dropped == 0);
  check_runs ("nobody will ever wait", host,
              "pending() settle(4)\nallua.sleep(0.001)\ncollectgarbage() collectgarbage()");
  CHECK ("nobody will ever wait: the value is given back",
         sensors.pushed == 1 && sensors.dropped == 1);

  check_runs ("a push that raises is an error at the wait", host,
              "local p = pending()\n"
              "settle_raising()\n"
              "local ok, err = pcall(p.await, p)\n"
              "assert(not ok and tostring(err):find('value out of range', 1, true), err)");
  check_int ("a push that raises is called once", raises, 1);
  check_runs ("a push that raises reaches every waiter", host,
              "local p = pending()\n"
              "local function wait() return tostring(select(2, pcall(p.await, p))) end\n"
              "local r = all { wait, wait, function() allua.sleep(0.001) settle_raising() end }\n"
              "assert(r[1]:find 'out of range' and r[2]:find 'out of range')");
  check_int ("and is called once for all of them", raises, 2);

  check_runs ("no values", host,
              "local p = pending()\nsettle_nothing()\nassert(select('#', p:await()) == 0)");
  check_int ("no values: push is called once", nothings, 1);
  check_runs ("more values than a C function's stack", host,
              "local p = pending()\n"
              "settle_many()\n"
              "local values = table.pack(p:await())\n"
              "assert(values.n == 200 and values[200] == 200)");
}

static void kept_alive (allua *host) {
  check_runs (
      "a pending promise is kept through collections", host,
      "local function wait(n) return read(20, n) end\n"
      "local tasks = {}\n"
      "for i = 1, 20 do tasks[i] = function() return wait(i) end end\n"
      "tasks[21] = function() for _ = 1, 10 do allua.sleep(0.001) collectgarbage() end end\n"
      "assert(all(tasks)[20] == 20)");
  sensors.dropped = sensors.pushed = 0;
  check_runs ("a pending promise that Lua forgot may still be settled", host,
              "promise(10, 1)\n"
              "collectgarbage() collectgarbage()\n"
              "allua.sleep(0.05)\n"
              "collectgarbage() collectgarbage()");
  CHECK ("and its value is given back", sensors.dropped == 1 && sensors.pushed == 0);
  check_runs ("a pending promise counts as pending work", host,
              "assert(pcall(read, 50, 1), 'taken for a deadlock')");
}

int main (void) {
  check_begin ();
  allua *host = open_host ();
  callbacks (host);
  settling (host);
  kept_alive (host);
  uv_run (allua_loop (host), UV_RUN_NOWAIT);
  check_int ("every timer is closed", sensors.closed, sensors.started);
  check_int ("the stack is as it was", lua_gettop (allua_state (host)), 0);
  allua_close (host);
  return check_end ();
}
