/* Opening a host: on its own state and loop, on the program's, and every field of the options. */
#include "check.h"
#include <dirent.h>
#include <sys/stat.h>

static void defaults (void) {
  allua *host = check_open (NULL);
  lua_State *L = allua_state (host);
  CHECK ("defaults: a state of its own", L != NULL);
  CHECK ("defaults: a loop of its own",
         allua_loop (host) != NULL && allua_loop (host) != uv_default_loop ());
  CHECK ("defaults: no data", allua_data (host) == NULL);
  CHECK ("defaults: no error yet", allua_error (host) == NULL);
  check_int ("defaults: the stack is empty", lua_gettop (L), 0);
  check_runs ("defaults: the standard libraries are there", host,
              "assert(string and table and math and io and os and utf8)\n"
              "assert(debug and coroutine and package)");
  check_runs ("defaults: no globals of allua's", host,
              "assert(rawget(_G, 'all') == nil and rawget(_G, 'allua') == nil)");
  check_runs ("defaults: require gives allua", host,
              "assert(require('allua').all { function() return 7 end }[1] == 7)");
  check_int ("a run leaves the stack as it was", lua_gettop (L), 0);

  allua *other = check_open (NULL);
  CHECK ("two hosts share nothing",
         allua_state (other) != L && allua_loop (other) != allua_loop (host));
  allua_close (other);
  allua_close (host);
  uv_loop_close (uv_default_loop ());
}

static void on_tick (uv_timer_t *timer) {
  ++*(int *)timer->data;
}

static void borrowed_loop (void) {
  uv_loop_t loop;
  uv_loop_init (&loop);
  allua_options options = { .size = sizeof options, .loop = &loop };
  allua *host = check_open (&options);
  CHECK ("borrowed loop: it is the host's loop", allua_loop (host) == &loop);
  CHECK ("borrowed loop: the state is its own", allua_state (host) != NULL);

  int ticks = 0;
  uv_timer_t timer = { .data = &ticks };
  uv_timer_init (&loop, &timer);
  uv_timer_start (&timer, on_tick, 1, 1);
  check_runs ("borrowed loop: a run ends with its task, whatever else the loop does", host,
              "require('allua').sleep(0.05)");
  CHECK ("borrowed loop: the program's own timers go on during a run", ticks > 0);
  uv_close ((uv_handle_t *)&timer, NULL);

  check_runs ("borrowed loop: luv is on it", host,
              "local uv = require 'luv'\n"
              "timer = uv.new_timer()\n"
              "timer:start(1, 0, function() fired = 1; timer:close() end)");
  uv_run (&loop, UV_RUN_DEFAULT);
  check_int ("borrowed loop: the program's uv_run fires luv's timers",
             check_global (allua_state (host), "fired"), 1);
  CHECK ("borrowed loop: an idle host does not keep it alive", !uv_loop_alive (&loop));
  allua_close (host);
  check_loop_closes ("borrowed loop: it closes after allua_close", &loop);
}

/* Fills the global `before` with every global and every field of a library. */
static const char note_globals[]
    = "before = {}\n"
      "local function note(prefix, t)\n"
      "  for k, v in pairs(t) do\n"
      "    before[prefix .. tostring(k)] = v\n"
      "    if prefix == '' and type(v) == 'table' and v ~= _G and v ~= before then\n"
      "      note(k .. '.', v)\n"
      "    end\n"
      "  end\n"
      "end\n"
      "note('', _G)\n"
      "path, cpath, strings = package.path, package.cpath, getmetatable('').__index\n";

/* package.loaded and package.preload are not looked into: they are what `require` has to touch. */
static const char compare_globals[]
    = "local function same(prefix, t)\n"
      "  for k, v in pairs(t) do\n"
      "    local name = prefix .. tostring(k)\n"
      "    local ours = v == before or (' path cpath strings '):find(' ' .. name .. ' ', 1, true)\n"
      "    if not ours and before[name] ~= v then error(name .. ' was changed', 0) end\n"
      "    before[name] = nil\n"
      "    if prefix == '' and type(v) == 'table' and v ~= _G and not ours then\n"
      "      same(k .. '.', v)\n"
      "    end\n"
      "  end\n"
      "end\n"
      "same('', _G)\n"
      "if next(before) ~= nil then error(next(before) .. ' is gone', 0) end\n"
      "assert(path == package.path and cpath == package.cpath)\n"
      "assert(strings == getmetatable('').__index)\n";

static void check_plain (const char *name, lua_State *L, const char *chunk) {
  int status = luaL_dostring (L, chunk);
  check (name, status == LUA_OK, "%s", status == LUA_OK ? "" : lua_tostring (L, -1));
  lua_settop (L, 0);
}

static void borrowed_state (void) {
  lua_State *L = luaL_newstate ();
  luaL_openlibs (L);
  check_plain ("borrowed state: it is noted before", L, note_globals);
  lua_pushliteral (L, "the program's own");
  allua_options options = { .size = sizeof options, .state = L };
  allua *host = check_open (&options);
  CHECK ("borrowed state: it is the host's state", allua_state (host) == L);
  CHECK ("borrowed state: the loop is its own", allua_loop (host) != NULL);
  CHECK ("borrowed state: its stack is left alone",
         lua_gettop (L) == 1 && strcmp (lua_tostring (L, 1), "the program's own") == 0);
  check_plain ("borrowed state: nothing in it is changed", L, compare_globals);
  check_runs ("borrowed state: require gives allua", host,
              "local allua = require 'allua'\n"
              "assert(allua.all { a = function() allua.sleep(0) return 1 end }.a == 1)");
  check_plain ("borrowed state: the program may call into allua by itself", L,
               "local allua = require 'allua'\n"
               "assert(allua.all { a = function() allua.sleep(0.001) return 'x' end }.a == 'x')");
  allua_close (host);
  check_plain ("borrowed state: it works after allua_close", L, "assert(('x'):rep(3) == 'xxx')");
  check_plain ("borrowed state: its coroutines work after allua_close", L,
               "local f = coroutine.wrap(function() coroutine.yield(1) return 2 end)\n"
               "assert(f() == 1 and f() == 2)");

  host = check_open (&options);
  check_runs ("borrowed state: a second host may follow the first", host,
              "local allua = require 'allua'\n"
              "assert(allua.all { a = function() allua.sleep(0) return 2 end }.a == 2)");
  allua_close (host);
  lua_close (L);
}

static void borrowed_both (void) {
  uv_loop_t loop;
  uv_loop_init (&loop);
  lua_State *L = luaL_newstate ();
  luaL_openlibs (L);
  allua_options options = { .size = sizeof options, .loop = &loop, .state = L };
  for (int round = 1; round <= 2; round++) {
    allua *host = check_open (&options);
    CHECK ("borrowed both: they are the host's",
           allua_state (host) == L && allua_loop (host) == &loop);
    check_runs ("borrowed both: tasks run", host,
                "local allua = require 'allua'\n"
                "assert(allua.all { a = function() allua.sleep(0.001) return 3 end }.a == 3)");
    allua_close (host);
    uv_run (&loop, UV_RUN_DEFAULT);
  }
  check_loop_closes ("borrowed both: the loop closes", &loop);
  lua_close (L);
}

static void never_called (allua *host, const char *report, void *data) {
  (void)host, (void)report, (void)data;
  abort ();
}

static void sizes (void) {
  int mine = 0;
  allua_options options = { .data = &mine, .globals = 1 };
  allua *host = check_open (&options);
  CHECK ("size 0 stands for the whole struct", allua_data (host) == &mine);
  check_runs ("size 0: every field counts", host, "assert(all and allua)");
  allua_close (host);

  /* a program built against an older header: what lies past its size is not there to be read */
  struct {
    const char *name;
    size_t size;
  } older[] = {
    { "an older size without state", offsetof (allua_options, state) },
    { "an older size without alloc", offsetof (allua_options, alloc) },
    { "an older size without memory_limit", offsetof (allua_options, memory_limit) },
    { "an older size without path", offsetof (allua_options, path) },
    { "an older size without globals", offsetof (allua_options, globals) },
    { "an older size without on_error", offsetof (allua_options, on_error) },
    { "an older size without data", offsetof (allua_options, data) },
  };
  for (size_t i = 0; i < sizeof older / sizeof older[0]; i++) {
    uv_loop_t loop;
    uv_loop_init (&loop);
    allua_options poisoned;
    memset (&poisoned, 0xA5, sizeof poisoned);
    memset (&poisoned, 0, older[i].size);
    poisoned.size = older[i].size;
    poisoned.loop = &loop;
    host = check_open (&poisoned);
    CHECK (older[i].name, allua_loop (host) == &loop && allua_data (host) == NULL);
    check_runs (older[i].name, host,
                "assert(require('allua').all { function() return 1 end }[1] == 1)");
    allua_close (host);
    check_loop_closes (older[i].name, &loop);
  }

  struct {
    allua_options known;
    void *later[4];
  } newer = { .known = { .size = sizeof newer, .data = &mine } };
  host = check_open (&newer.known);
  CHECK ("a newer size with its new fields unset opens", allua_data (host) == &mine);
  allua_close (host);
}

static void other_fields (void) {
  int mine = 0;
  allua_options options
      = { .size = sizeof options, .data = &mine, .globals = 1, .on_error = never_called };
  allua *host = check_open (&options);
  CHECK ("data comes back", allua_data (host) == &mine);
  check_runs ("globals: all and allua are what require gives", host,
              "assert(allua == require 'allua' and all == allua.all)");
  allua_close (host);

  lua_State *L = luaL_newstate ();
  luaL_openlibs (L);
  allua_options borrowing = { .size = sizeof borrowing, .state = L, .globals = 1 };
  host = check_open (&borrowing);
  check_runs ("globals: set on a borrowed state too", host,
              "assert(allua == require 'allua' and all == allua.all)");
  check_runs ("globals: generators may wait on a borrowed state", host,
              "local gen = coroutine.wrap(function() allua.sleep(0.001) coroutine.yield(1) end)\n"
              "assert(gen() == 1)");
  check_runs ("globals: luv is on the host's loop", host,
              "local fired = allua.promise()\n"
              "require('luv').new_timer():start(1, 0, function() fired:resolve(1) end)\n"
              "assert(fired:await() == 1)");
  allua_close (host);
  check_plain ("globals: coroutines work after allua_close", L,
               "local f = coroutine.wrap(function() coroutine.yield(1) return 2 end)\n"
               "assert(f() == 1 and f() == 2)");
  lua_close (L);
}

/* Copies lua/allua into folder/allua, its init.lua leaving a mark. */
static int copy_lua_half (const char *folder) {
  char name[1024];
  snprintf (name, sizeof name, "%s/allua", folder);
  DIR *from = opendir ("lua/allua");
  if (!from || mkdir (name, 0700) != 0)
    return 0;
  for (struct dirent *entry = readdir (from); entry; entry = readdir (from)) {
    if (!strstr (entry->d_name, ".lua"))
      continue;
    snprintf (name, sizeof name, "lua/allua/%s", entry->d_name);
    FILE *in = fopen (name, "rb");
    snprintf (name, sizeof name, "%s/allua/%s", folder, entry->d_name);
    FILE *out = fopen (name, "wb");
    if (!in || !out)
      return 0;
    if (strcmp (entry->d_name, "init.lua") == 0)
      fputs ("rawset(_G, 'from_path', 1) ", out);
    for (int c = getc (in); c != EOF; c = getc (in))
      putc (c, out);
    fclose (in);
    fclose (out);
  }
  closedir (from);
  return 1;
}

static void remove_lua_half (const char *folder) {
  char name[1024];
  snprintf (name, sizeof name, "%s/allua", folder);
  DIR *copied = opendir (name);
  for (struct dirent *entry = copied ? readdir (copied) : NULL; entry; entry = readdir (copied)) {
    snprintf (name, sizeof name, "%s/allua/%s", folder, entry->d_name);
    unlink (name);
  }
  if (copied)
    closedir (copied);
  snprintf (name, sizeof name, "%s/allua", folder);
  rmdir (name);
  rmdir (folder);
}

static void path (void) {
  char folder[] = "/tmp/allua-path-XXXXXX";
  if (!CHECK ("path: a copy of the Lua half is made", mkdtemp (folder) && copy_lua_half (folder)))
    return;
  allua_options options = { .size = sizeof options, .path = folder };
  allua *host = check_open (&options);
  check_runs (
      "path: the Lua half is read from there", host,
      "assert(require('allua').all { function() return 1 end }[1] == 1)\nassert(from_path == 1)");
  allua_close (host);
  host = check_open (NULL);
  check_runs ("path: without it the built-in half is used", host,
              "require 'allua'\nassert(from_path == nil)");
  allua_close (host);
  remove_lua_half (folder);
}

static int is_host (lua_State *L) {
  lua_pushboolean (L, allua_of (L) == lua_touserdata (L, lua_upvalueindex (1)));
  return 1;
}

static void host_of (void) {
  allua *host = check_open (NULL);
  lua_State *L = allua_state (host);
  CHECK ("allua_of: its state", allua_of (L) == host);
  lua_pushlightuserdata (L, host);
  lua_pushcclosure (L, is_host, 1);
  lua_setglobal (L, "is_host");
  check_runs ("allua_of: the root task", host, "assert(is_host())");
  check_runs ("allua_of: a task", host, "assert(require('allua').all { is_host }[1])");
  check_runs ("allua_of: a coroutine of the user's", host, "assert(coroutine.wrap(is_host)())");
  check_runs (
      "allua_of: a coroutine in a coroutine in a task", host,
      "assert(require('allua').all {\n"
      "  function() return coroutine.wrap(function() return coroutine.wrap(is_host)() end)() end,\n"
      "}[1])");
  lua_State *thread = lua_newthread (L);
  CHECK ("allua_of: a thread that C made", allua_of (thread) == host);
  lua_pop (L, 1);
  allua_close (host);

  lua_State *plain = luaL_newstate ();
  CHECK ("allua_of: NULL for a state without a host", allua_of (plain) == NULL);
  lua_close (plain);
}

int main (void) {
  check_begin ();
  defaults ();
  borrowed_loop ();
  borrowed_state ();
  borrowed_both ();
  sizes ();
  other_fields ();
  path ();
  host_of ();
  return check_end ();
}
