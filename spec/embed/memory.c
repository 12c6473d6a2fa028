/* A host's memory: the program's allocator, and a limit that scripts run into and hosts survive. */
#include "check.h"
#include "counting.h"
#include <limits.h>

static const char work[] = "local allua = require 'allua'\n"
                           "local tasks = {}\n"
                           "for i = 1, 100 do\n"
                           "  tasks[i] = function(self)\n"
                           "    allua.sleep(0.0001 * (i % 5))\n"
                           "    return (i > 1 and self[i - 1] or 0) + i\n"
                           "  end\n"
                           "end\n"
                           "assert(allua.all(tasks)[100] == 5050)\n";

static void check_given_back (const char *name, const struct counting *counting) {
  check (name, counting->bytes == 0 && counting->blocks == 0 && counting->wrong == 0,
         "%zu bytes in %ld blocks left, %ld sizes told wrongly", counting->bytes, counting->blocks,
         counting->wrong);
}

static void custom_allocator (void) {
  struct counting counting = { 0 };
  allua *host = check_open (&(allua_options){
      .size = sizeof (allua_options), .alloc = counting_alloc, .alloc_data = &counting });
  CHECK ("the program's allocator is used", counting.bytes > 10000);
  void *data = NULL;
  CHECK ("it is the state's allocator", lua_getallocf (allua_state (host), &data) != NULL);
  check_runs ("tasks run on the program's allocator", host, work);
  check_runs ("an ended group leaves nothing", host,
              "local allua = require 'allua'\n"
              "local function round()\n"
              "  local tasks = {}\n"
              "  for i = 1, 2000 do tasks[i] = function() allua.sleep(0.001) return i end end\n"
              "  allua.all(tasks)\n"
              "end\n"
              "local function used()\n"
              "  require('allua.core').collect()\n" /* the coroutines that are kept for reuse */
              "  collectgarbage() collectgarbage()\n"
              "  return collectgarbage 'count'\n"
              "end\n"
              "round()\n"
              "local before = used()\n"
              "for _ = 1, 5 do round() end\n"
              "local after = used()\n"
              "assert(after < before + 64, ('%.0f KB, then %.0f KB'):format(before, after))");
  allua_close (host);
  check_given_back ("every byte is given back", &counting);
}

static void limit (void) {
  enum { LIMIT = 4 * 1024 * 1024 };
  struct counting counting = { 0 };
  allua *host = check_open (&(allua_options){ .size = sizeof (allua_options),
                                              .alloc = counting_alloc,
                                              .alloc_data = &counting,
                                              .memory_limit = LIMIT });
  check_int ("past the limit: ALLUA_MEMORY",
             allua_run_string (
                 host, "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end", "=greedy"),
             ALLUA_MEMORY);
  check_contains ("past the limit: the error says so", allua_error (host), "not enough memory");
  check_runs ("past the limit: the host goes on", host, work);
  check_int ("one block past the limit: ALLUA_MEMORY",
             allua_run_string (host, "return ('x'):rep(1 << 30)", "=huge"), ALLUA_MEMORY);
  check_runs ("past the limit: pcall catches it", host,
              "local ok, err = pcall(string.rep, 'x', 1 << 30)\n"
              "assert(not ok and tostring(err):find 'not enough memory', err)");
  check_runs ("past the limit in a task: the group raises it", host,
              "local allua = require 'allua'\n"
              "local ok, err = pcall(allua.all, {\n"
              "  greedy = function() allua.sleep(0) return ('x'):rep(1 << 30) end,\n"
              "  other = function() allua.sleep(600) end,\n"
              "})\n"
              "assert(not ok and tostring(err):find 'not enough memory', err)");
  check_int ("tasks past the limit: ALLUA_MEMORY",
             allua_run_string (host,
                               "local allua = require 'allua'\n"
                               "for i = 1, 1e7 do allua.spawn(function() allua.sleep(600) end) end",
                               "=crowd"),
             ALLUA_MEMORY);
  check_runs ("tasks past the limit: the host goes on", host, work);
  check_int ("a group past the limit: ALLUA_MEMORY",
             allua_run_string (host,
                               "local allua = require 'allua'\n"
                               "local function wait() allua.sleep(600) end\n"
                               "local tasks = {}\n"
                               "for i = 1, 30000 do tasks[i] = wait end\n"
                               "allua.all(tasks)",
                               "=group"),
             ALLUA_MEMORY);
  check_runs ("a group past the limit: the host goes on", host, work);
  /* what the host needs for itself is not Lua's, and little */
  check ("the limit holds", counting.peak <= LIMIT + LIMIT / 8, "peak of %zu bytes, limit %d",
         counting.peak, LIMIT);
  allua_close (host);
  check_given_back ("every byte is given back after errors of memory", &counting);
}

static void tight (void) {
  int opened = 0, refused = 0, good = 1;
  for (size_t bytes = 512; bytes < 512 * 1024; bytes += bytes / 16) {
    struct counting counting = { 0 };
    allua *host = allua_open (&(allua_options){ .size = sizeof (allua_options),
                                                .alloc = counting_alloc,
                                                .alloc_data = &counting,
                                                .memory_limit = bytes });
    if (host) {
      opened++;
      int status = allua_run_string (host, work, "=work");
      good &= status == ALLUA_OK || (status != ALLUA_OK && allua_error (host));
      allua_close (host);
    } else {
      refused++;
    }
    good &= counting.bytes == 0 && counting.blocks == 0;
  }
  check ("whatever the limit: allua_open gives a host that closes, or NULL, and leaks nothing",
         good && opened > 0 && refused > 0, "%d opened, %d refused", opened, refused);
}

/* Lua: fail_from (n) – of the calls of the allocator the n-th from now and all after it fail. */
static struct counting *failing;

static int fail_from (lua_State *L) {
  failing->fail = failing->calls + luaL_checkinteger (L, 1);
  failing->fail_end = LONG_MAX;
  return 0;
}

/* A run that cannot end, and no memory to say so. */
static void deadlock (void) {
  struct counting counting = { 0 };
  allua *host = check_open (&(allua_options){
      .size = sizeof (allua_options), .alloc = counting_alloc, .alloc_data = &counting });
  lua_State *L = allua_state (host);
  int runs = 0, refused = 0, failed, ended;
  failing = &counting;
  lua_register (L, "fail_from", fail_from);
  lua_pushinteger (L, 0);
  lua_setglobal (L, "ended");
  do {
    lua_pushinteger (L, ++runs);
    lua_setglobal (L, "n");
    counting.failed = 0;
    refused += allua_run_string (host,
                                 "local never = require 'allua'.promise()\n"
                                 "local closed <close> = setmetatable({}, {\n"
                                 "  __close = function() ended = n end,\n"
                                 "})\n"
                                 "fail_from(n)\n"
                                 "never:await()\n",
                                 "=deadlock")
               == ALLUA_MEMORY;
    counting.fail = 0;
    failed = counting.failed > 0;
    ended = (int)check_global (L, "ended");
  } while (failed && ended == runs);
  check ("a deadlock that there is no memory to tell of ends its task all the same", ended == runs,
         "run %d", runs);
  CHECK ("some of them say so: ALLUA_MEMORY", refused > 0);
  allua_close (host);
  check_given_back ("every byte is given back after deadlocks without memory", &counting);
}

int main (void) {
  check_begin ();
  custom_allocator ();
  limit ();
  tight ();
  deadlock ();
  return check_end ();
}
