#include "script.h"

#include <math.h>
#include <string.h>

#include "all.h"
#include "error.h"

/* What there is to say where there is no memory to say more. */
static const char no_memory[] = "not enough memory";

void script_forget_error (allua *host) {
  if (host->error_size)
    mem_resize (&host->mem, (void *)host->error, host->error_size, 0);
  host->error = NULL;
  host->error_size = 0;
}

static int fail_for_memory (allua *host) {
  host->error = no_memory;
  return ALLUA_MEMORY;
}

/* Arguments: the error, the host. */
static int make_report (lua_State *L) {
  allua *host = lua_touserdata (L, 2);
  error_push_record (L, host, 1);
  error_push_report (L, 1);
  return 1;
}

void script_keep_error (lua_State *L, allua *host) {
  const char *report = no_memory;
  char *kept;
  size_t size;
  script_forget_error (host);
  lua_pushcfunction (L, make_report);
  lua_insert (L, -2);
  lua_pushlightuserdata (L, host);
  if (lua_pcall (L, 2, 1, 0) == LUA_OK)
    report = lua_tostring (L, -1);
  size = strlen (report) + 1;
  kept = mem_resize (&host->mem, NULL, 0, size);
  host->error = kept ? memcpy (kept, report, size) : no_memory;
  host->error_size = kept ? size : 0;
  lua_pop (L, 1);
}

static int refuse_nested (lua_State *L) {
  lua_pushliteral (L, "cannot run inside a run, or in a callback of the loop: use allua_start");
  return 1;
}

/* Arguments: the host, then the function and its own. */
static int run (lua_State *L) {
  allua *host = lua_touserdata (L, 1);
  lua_remove (L, 1);
  all_run (L, host, lua_gettop (L) - 1);
  return 0;
}

/* The message handler of a run: an error from outside every task still wants its traceback. */
static int add_traceback (lua_State *L) {
  allua *host = allua_of (L);
  error_push_record (L, host, 1);
  if (lua_isnil (L, -1) && lua_type (L, 1) == LUA_TSTRING) {
    luaL_traceback (L, L, lua_tostring (L, 1), 1);
    return 1;
  }
  lua_settop (L, 1);
  return 1;
}

static int script_run (allua *host, int arguments) {
  lua_State *L = host->main;
  int base = lua_gettop (L) - arguments, status;
  script_forget_error (host);
  if (!lua_checkstack (L, LUA_MINSTACK)) {
    lua_settop (L, base - 1);
    return fail_for_memory (host);
  }
  lua_pushcfunction (L, add_traceback);
  lua_insert (L, base);
  lua_pushcfunction (L, run);
  lua_insert (L, base + 1);
  lua_pushlightuserdata (L, host);
  lua_insert (L, base + 2);
  status = lua_pcall (L, arguments + 2, 0, base);
  if (status != LUA_OK) {
    host_push (host, L, SLOT_MEMORY);
    status = lua_rawequal (L, -1, -2) ? ALLUA_MEMORY : ALLUA_ERROR;
    lua_pop (L, 1);
    script_keep_error (L, host);
  }
  lua_settop (L, base - 1);
  return status;
}

struct source {
  const char *path, *chunk, *name;
  int argc;
  char **argv;
};

static int load (lua_State *L) {
  const struct source *source = lua_touserdata (L, 1);
  int i;
  int status = source->chunk ? luaL_loadbuffer (L, source->chunk, strlen (source->chunk),
                                                source->name ? source->name : source->chunk)
                             : luaL_loadfile (L, source->path);
  if (status != LUA_OK)
    return lua_error (L);
  luaL_checkstack (L, source->argc, "too many arguments to script");
  for (i = 0; i < source->argc; i++)
    lua_pushstring (L, source->argv[i]);
  return source->argc + 1;
}

static int run_source (allua *host, struct source *source) {
  lua_State *L = host->main;
  int status, top = lua_gettop (L);
  script_forget_error (host);
  if (!lua_checkstack (L, LUA_MINSTACK))
    return fail_for_memory (host);
  if (host->turns || host->runs || host->closing) {
    lua_pushcfunction (L, refuse_nested);
    lua_pcall (L, 0, 1, 0);
    script_keep_error (L, host);
    return ALLUA_ERROR;
  }
  lua_pushcfunction (L, load);
  lua_pushlightuserdata (L, source);
  status = lua_pcall (L, 1, LUA_MULTRET, 0);
  if (status != LUA_OK) {
    script_keep_error (L, host);
    return status == LUA_ERRMEM ? ALLUA_MEMORY : ALLUA_ERROR;
  }
  status = script_run (host, lua_gettop (L) - top - 1);
  if (host->close_asked && !host->turns && !host->runs)
    allua_close (host);
  return status;
}

int allua_run_file (allua *host, const char *path, int argc, char **argv) {
  struct source source = { .path = path, .argc = argc, .argv = argv };
  return run_source (host, &source);
}

int allua_run_string (allua *host, const char *chunk, const char *name) {
  struct source source = { .chunk = chunk, .name = name };
  return run_source (host, &source);
}

struct starting {
  allua *host;
  void (*done) (lua_State *L, int status, int results, void *data);
  void *data;
};

static int start (lua_State *L) {
  const struct starting *starting = lua_touserdata (L, 1);
  allua *host = starting->host;
  struct group *group;
  lua_remove (L, 1);
  if (host->closing)
    return luaL_error (L, "the host is closing");
  group = all_single (L, host, GROUP_ROOT, lua_gettop (L) - 1, HUGE_VAL);
  group->options->done = starting->done;
  group->options->done_data = starting->data;
  all_begin (group, NULL);
  return 0;
}

int allua_start (allua *host, int arguments,
                 void (*done) (lua_State *L, int status, int results, void *data), void *data) {
  lua_State *L = host->main;
  struct starting starting = { host, done, data };
  int status;
  script_forget_error (host);
  if (!lua_checkstack (L, 4)) {
    lua_pop (L, arguments + 1);
    return fail_for_memory (host);
  }
  lua_pushcfunction (L, start);
  lua_insert (L, -2 - arguments);
  lua_pushlightuserdata (L, &starting);
  lua_insert (L, -2 - arguments);
  status = lua_pcall (L, arguments + 2, 0, 0);
  if (status == LUA_OK)
    return ALLUA_OK;
  script_keep_error (L, host);
  return status == LUA_ERRMEM ? ALLUA_MEMORY : ALLUA_ERROR;
}
