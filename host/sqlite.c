#include "sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "promise_object.h"
#include "sqlite_host.h"
#include "sqlite_value.h"

#define CONNECTION "allua.sqlite"
#define POOL "allua.sqlite_pool"

enum { MOST_PARAMETERS = 32766 };

/* ── jobs ── */

static struct sqlite_host_connection *check (lua_State *L) {
  struct sqlite_host_connection *connection
      = *(struct sqlite_host_connection **)luaL_checkudata (L, 1, CONNECTION);
  if (!connection)
    luaL_error (L, "this connection is closed");
  return connection;
}

static struct sqlite_job *new_job (struct sqlite_host_pool *pool,
                                   struct sqlite_host_connection *connection, enum sqlite_work work,
                                   const char *sql, size_t length, int parameters, size_t bytes) {
  struct sqlite_job *job;
  sqlite_host_sweep (pool);
  job = sqlite_job_new (&pool->shared, work, sql, length, parameters, bytes);
  if (job && connection)
    job->connection = &connection->thread;
  return job;
}

/* Have it done, and wait for it. The promise is on top of the stack. */
static int submit (lua_State *L, struct sqlite_job *job, allua_promise *promise) {
  sqlite_host_submit (job, promise);
  return allua_await (L, promise);
}

/* self:run / start (sql, parameters, count [, limit]), self:script (sql); connection NULL: any of the pool's */
static int run_sql (lua_State *L, struct sqlite_host_pool *pool,
                    struct sqlite_host_connection *connection, enum sqlite_work work) {
  size_t length, bytes = 0;
  const char *sql = luaL_checklstring (L, 2, &length);
  lua_Integer count = work == SQLITE_SCRIPT ? 0 : luaL_checkinteger (L, 4);
  lua_Integer limit = luaL_optinteger (L, 5, 1);
  struct sqlite_job *job;
  allua_promise *promise;
  if (memchr (sql, '\0', length))
    return luaL_error (L, "the SQL holds a NUL");
  luaL_argcheck (L, length <= INT32_MAX - 1, 2, "too long");
  lua_settop (L, 4);
  if (count) {
    luaL_checktype (L, 3, LUA_TTABLE);
    luaL_argcheck (L, count > 0 && count <= MOST_PARAMETERS, 4, "too many parameters");
    bytes = sqlite_value_measure (L, 3, count);
  }
  luaL_checkstack (L, 4, NULL);
  promise = allua_promise_new (L);
  job = new_job (pool, connection, work, sql, length, (int)count, bytes);
  if (!job)
    return error_raise_memory (L, allua_of (L));
  job->limit = (size_t)limit;
  if (count)
    sqlite_value_copy (L, 3, job);
  return submit (L, job, promise);
}

static struct sqlite_host_pool *pool_of (struct sqlite_host_connection *connection) {
  return (struct sqlite_host_pool *)connection->thread.pool;
}

static int connection_run (lua_State *L) {
  struct sqlite_host_connection *connection = check (L);
  return run_sql (L, pool_of (connection), connection, SQLITE_RUN);
}

static int connection_script (lua_State *L) {
  struct sqlite_host_connection *connection = check (L);
  return run_sql (L, pool_of (connection), connection, SQLITE_SCRIPT);
}

static int connection_start (lua_State *L) {
  struct sqlite_host_connection *connection = check (L);
  return run_sql (L, pool_of (connection), connection, SQLITE_START);
}

/* A job without SQL. */
static int run_plain (lua_State *L, enum sqlite_work work) {
  struct sqlite_host_connection *connection = check (L);
  lua_Integer limit = luaL_optinteger (L, 2, 1);
  allua_promise *promise;
  struct sqlite_job *job;
  lua_settop (L, 1);
  promise = allua_promise_new (L);
  job = new_job (pool_of (connection), connection, work, "", 0, 0, 0);
  if (!job)
    return error_raise_memory (L, allua_of (L));
  job->limit = (size_t)limit;
  return submit (L, job, promise);
}

/* connection:fetch (limit) */
static int connection_fetch (lua_State *L) {
  return run_plain (L, SQLITE_FETCH);
}

static int connection_stop (lua_State *L) {
  return run_plain (L, SQLITE_STOP);
}

/* connection:shut (): the database is closed; then connection:close () gives the thread back. */
static int connection_shut (lua_State *L) {
  return run_plain (L, SQLITE_SHUT);
}

/* connection:serve (): from now on it may take the pool's jobs, until the pool lends it. */
static int connection_serve (lua_State *L) {
  sqlite_thread_lend (&check (L)->thread, false);
  return 0;
}

/* connection:key () → what pool:lend () gives for it */
static int connection_key (lua_State *L) {
  lua_pushlightuserdata (L, check (L));
  return 1;
}

/* Where its database is shut the thread has nothing to do, so that it ends at once. */
static int connection_close (lua_State *L) {
  struct sqlite_host_connection **box = luaL_checkudata (L, 1, CONNECTION), *connection = *box;
  *box = NULL;
  if (!connection)
    return 0;
  connection->box = NULL;
  sqlite_thread_end (&connection->thread);
  if (connection->thread.is_shut)
    sqlite_host_finish (connection);
  return 0;
}

/* connection:open (path, "r" or "rw"): a path may be a URI of SQLite's */
static int connection_open (lua_State *L) {
  struct sqlite_host_connection *connection = check (L);
  size_t length;
  const char *path = luaL_checklstring (L, 2, &length);
  bool writes = strcmp (luaL_checkstring (L, 3), "rw") == 0;
  allua_promise *promise = allua_promise_new (L);
  struct sqlite_job *job
      = new_job (pool_of (connection), connection, SQLITE_OPEN, path, length, 0, 0);
  if (!job)
    return error_raise_memory (L, allua_of (L));
  job->flags = writes ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  return submit (L, job, promise);
}

/* ── pools ── */

static struct sqlite_host_pool *check_pool (lua_State *L) {
  struct sqlite_host_pool *pool = *(struct sqlite_host_pool **)luaL_checkudata (L, 1, POOL);
  if (!pool)
    luaL_error (L, "this database is closed");
  return pool;
}

/* pool:run (sql, parameters, count): on any of its connections that serves */
static int pool_run (lua_State *L) {
  return run_sql (L, check_pool (L), NULL, SQLITE_RUN);
}

/* pool:lend () → the key of a connection that served, and does so no more; nil: there is none */
static int pool_lend (lua_State *L) {
  struct sqlite_connection *connection = sqlite_pool_lend (&check_pool (L)->shared);
  if (!connection)
    return 0;
  lua_pushlightuserdata (L, connection);
  return 1;
}

/* pool:connection () → a connection without a database yet, which does not serve */
static int pool_connection (lua_State *L) {
  struct sqlite_host_pool *pool = check_pool (L);
  struct sqlite_host *module = pool->module;
  struct sqlite_host_connection **box = lua_newuserdatauv (L, sizeof *box, 1), *connection;
  *box = NULL;
  lua_pushvalue (L, 1); /* the pool stays for as long as it has connections */
  lua_setiuservalue (L, -2, 1);
  luaL_setmetatable (L, CONNECTION);
  connection = mem_resize (&module->mem, NULL, 0, sizeof *connection);
  if (!connection)
    return error_raise_memory (L, allua_of (L));
  memset (connection, 0, sizeof *connection);
  connection->thread.sqlite = module->sqlite;
  connection->thread.pool = &pool->shared;
  connection->thread.busy_time = pool->busy_time;
  connection->thread.done = sqlite_host_done;
  connection->thread.ended = sqlite_host_ended;
  if (sqlite_thread_start (&connection->thread) != 0) {
    mem_resize (&module->mem, connection, sizeof *connection, 0);
    return luaL_error (L, "no thread could be started");
  }
  connection->box = box;
  *box = connection;
  return 1;
}

static int pool_close (lua_State *L) {
  struct sqlite_host_pool **box = luaL_checkudata (L, 1, POOL), *pool = *box;
  *box = NULL;
  if (pool) {
    pool->box = NULL;
    sqlite_host_release (pool);
  }
  return 0;
}

static const luaL_Reg connection_methods[] = {
  { "close", connection_close }, { "fetch", connection_fetch }, { "key", connection_key },
  { "open", connection_open },   { "run", connection_run },     { "script", connection_script },
  { "serve", connection_serve }, { "shut", connection_shut },   { "start", connection_start },
  { "stop", connection_stop },   { "__gc", connection_close },  { NULL, NULL }
};

static const luaL_Reg pool_methods[] = { { "connection", pool_connection },
                                         { "lend", pool_lend },
                                         { "run", pool_run },
                                         { "__gc", pool_close },
                                         { NULL, NULL } };

/* Made when it is first used: a program that has no database starts without it. */
static void open_class (lua_State *L, const char *name, const luaL_Reg *methods) {
  if (luaL_newmetatable (L, name)) {
    luaL_setfuncs (L, methods, 0);
    lua_pushvalue (L, -1);
    lua_setfield (L, -2, "__index");
  }
  lua_pop (L, 1);
}

/* sqlite_pool (busy seconds, snapshots) → pool, without connections; `snapshots`: its jobs only read, and those
   that wait together may see the same */
static int new_pool (lua_State *L) {
  lua_Number busy = luaL_checknumber (L, 1);
  bool snapshots = lua_toboolean (L, 2);
  struct sqlite_host *module;
  struct sqlite_host_pool **box, *pool;
  open_class (L, CONNECTION, connection_methods);
  open_class (L, POOL, pool_methods);
  box = lua_newuserdatauv (L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable (L, POOL);
  module = sqlite_host_of (L);
  pool = mem_resize (&module->mem, NULL, 0, sizeof *pool);
  if (!pool)
    return error_raise_memory (L, allua_of (L));
  memset (pool, 0, sizeof *pool);
  if (sqlite_pool_init (&pool->shared) != 0) {
    mem_resize (&module->mem, pool, sizeof *pool, 0);
    return error_raise_memory (L, allua_of (L));
  }
  pool->module = module;
  pool->busy_time = (uint64_t)(busy * 1e9);
  pool->shared.snapshots = snapshots;
  pool->next = module->pools;
  pool->previous = &module->pools;
  if (pool->next)
    pool->next->previous = &pool->next;
  module->pools = pool;
  pool->box = box;
  *box = pool;
  sqlite_value_open (L, &pool->shared);
  return 1;
}

void sqlite_open (lua_State *L) {
  lua_pushcfunction (L, new_pool);
  lua_setfield (L, -2, "sqlite_pool");
}
