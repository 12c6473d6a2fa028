/* Several hosts in one process: on one thread, on one loop, and each on a thread of its own. */
#include "check.h"

static void on_done (lua_State *L, int status, int results, void *data) {
  if (status == ALLUA_OK && results == 1)
    *(lua_Integer *)data = lua_tointeger (L, -1);
}

static void start (allua *host, const char *chunk, lua_Integer *result) {
  *result = -1;
  luaL_loadstring (allua_state (host), chunk);
  allua_start (host, 0, on_done, result);
}

static void one_thread (void) {
  allua *hosts[3];
  for (int i = 0; i < 3; i++)
    hosts[i] = check_open (NULL);
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 3; i++) {
      lua_pushinteger (allua_state (hosts[i]), i);
      lua_setglobal (allua_state (hosts[i]), "number");
      check_runs ("one thread: hosts run in turn", hosts[i],
                  "local allua = require 'allua'\n"
                  "local r = allua.all { a = function() allua.sleep(0.001) return number end }\n"
                  "total = (total or 0) + r.a");
    }
  }
  for (int i = 0; i < 3; i++)
    check_int ("one thread: each has its own globals",
               check_global (allua_state (hosts[i]), "total"), 2 * i);
  allua_close (hosts[1]);
  check_runs ("one thread: closing one leaves the others", hosts[0],
              "require('allua').sleep(0.001)");
  check_runs ("one thread: closing one leaves the others", hosts[2],
              "require('allua').sleep(0.001)");
  allua_close (hosts[2]);
  allua_close (hosts[0]);
}

static void one_loop (void) {
  uv_loop_t loop;
  uv_loop_init (&loop);
  allua_options options = { .size = sizeof options, .loop = &loop };
  allua *a = check_open (&options);
  allua *b = check_open (&options);
  static const char chunk[] = "local allua, uv = require 'allua', require 'luv'\n"
                              "local stat = allua.promisify(uv.fs_stat)\n"
                              "local count = 0\n"
                              "for i = 1, 5 do\n"
                              "  allua.sleep(0.001)\n"
                              "  if stat('.').type == 'directory' then count = count + 1 end\n"
                              "end\n"
                              "return count";
  lua_Integer from_a, from_b;
  start (a, chunk, &from_a);
  start (b, chunk, &from_b);
  uv_run (&loop, UV_RUN_DEFAULT);
  check_int ("one loop: the first host's task ends", from_a, 5);
  check_int ("one loop: the second host's task ends", from_b, 5);

  start (a, "require('allua').sleep(0.001) return 1", &from_a);
  check_runs ("one loop: a run of one host", b, "require('allua').sleep(0.05)");
  check_int ("one loop: moves the tasks of the other", from_a, 1);

  start (a, chunk, &from_a);
  start (b, chunk, &from_b);
  allua_close (a);
  uv_run (&loop, UV_RUN_DEFAULT);
  CHECK ("one loop: closing one ends its tasks", from_a == -1);
  check_int ("one loop: and no task of the other", from_b, 5);
  allua_close (b);
  check_loop_closes ("one loop: it closes after both", &loop);
}

enum { THREADS = 8, ROUNDS = 5 };

static void on_thread (void *data) {
  int *good = data;
  for (int round = 0; round < ROUNDS; round++) {
    allua *host = allua_open (NULL);
    if (!host)
      return;
    int status = allua_run_string (host,
                                   "local allua, uv = require 'allua', require 'luv'\n"
                                   "local tasks = {}\n"
                                   "for i = 1, 100 do\n"
                                   "  tasks[i] = function(self)\n"
                                   "    allua.sleep(0.001 * (i % 3))\n"
                                   "    return i + (i > 1 and self[i - 1] or 0)\n"
                                   "  end\n"
                                   "end\n"
                                   "assert(allua.all(tasks)[100] == 5050)\n"
                                   "assert(allua.promisify(uv.fs_stat)('.').type == 'directory')\n",
                                   "=thread");
    *good += status == ALLUA_OK;
    allua_close (host);
  }
}

static void many_threads (void) {
  uv_thread_t threads[THREADS];
  int good[THREADS] = { 0 };
  int total = 0;
  for (int i = 0; i < THREADS; i++)
    uv_thread_create (&threads[i], on_thread, &good[i]);
  for (int i = 0; i < THREADS; i++)
    uv_thread_join (&threads[i]);
  for (int i = 0; i < THREADS; i++)
    total += good[i];
  check_int ("many threads: each runs hosts of its own", total, THREADS * ROUNDS);
}

int main (void) {
  check_begin ();
  one_thread ();
  one_loop ();
  many_threads ();
  return check_end ();
}
