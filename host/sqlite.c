#include "sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "sqlite_lane.h"
#include "sqlite_value.h"

#define CONNECTION "allua.sqlite"
#define POOL "allua.sqlite_pool"
#define LEASE "allua.sqlite_lease"

/* ── jobs ── */

static struct sqlite_host_connection *check (lua_State *L) {
  struct sqlite_host_connection *connection
      = *(struct sqlite_host_connection **)luaL_checkudata (L, 1, CONNECTION);
  if (!connection)
    luaL_error (L, "this connection is closed");
  return connection;
}

static struct sqlite_host_pool *pool_of (struct sqlite_host_connection *connection) {
  return (struct sqlite_host_pool *)connection->thread.pool;
}

static int done (lua_State *L, int status, lua_KContext job) {
  int count;
  op_waited (L, host_of (L), status);
  count = sqlite_host_take (L, (struct sqlite_host_job *)job);
  return count < 0 ? lua_error (L) : count;
}

/* Wait for it; with what it is for at the bottom of the stack, which keeps that. */
static int await (lua_State *L, struct task *task, struct sqlite_host_job *job) {
  return op_await (L, host_of (L), task, &job->op, (lua_KContext)job, done);
}

/* self:run / start (sql, parameters, count [, limit]), self:script (sql); connection NULL: any of the pool's */
static int run_sql (lua_State *L, struct sqlite_host_pool *pool,
                    struct sqlite_host_connection *connection, enum sqlite_work work) {
  size_t length, bytes = 0;
  const char *sql = luaL_checklstring (L, 2, &length);
  int i, wrong, count = work == SQLITE_SCRIPT ? 0 : (int)luaL_checkinteger (L, 4);
  lua_Integer limit = luaL_optinteger (L, 5, 1);
  struct sqlite_host_job *job;
  struct task *task;
  if (memchr (sql, '\0', length))
    return luaL_error (L, "the SQL holds a NUL");
  luaL_argcheck (L, length <= INT32_MAX - 1, 2, "too long");
  luaL_argcheck (L, count >= 0 && count <= SQLITE_MOST_PARAMETERS, 4, "too many parameters");
  lua_settop (L, 3);
  if (count)
    luaL_checktype (L, 3, LUA_TTABLE);
  luaL_checkstack (L, count + LUA_MINSTACK, "too many parameters");
  for (i = 1; i <= count; i++)
    lua_rawgeti (L, 3, i);
  wrong = sqlite_value_measure (L, 4, count, &bytes);
  if (wrong)
    return sqlite_value_refuse (L, 4, wrong);
  task = task_enter (L, host_of (L));
  job = sqlite_host_job_new (L, pool, connection, work, sql, length, count, bytes);
  job->thread.limit = (size_t)limit;
  sqlite_value_copy (L, 4, &job->thread);
  if (connection)
    sqlite_host_submit (job);
  else
    sqlite_lane_enter (job);
  return await (L, task, job);
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

/* A job without parameters and rows to begin with. */
static int run_plain (lua_State *L, enum sqlite_work work, const char *sql, size_t length,
                      int flags, lua_Integer limit) {
  struct sqlite_host_connection *connection = check (L);
  struct task *task = task_enter (L, host_of (L));
  struct sqlite_host_job *job
      = sqlite_host_job_new (L, pool_of (connection), connection, work, sql, length, 0, 0);
  job->thread.flags = flags;
  job->thread.limit = (size_t)limit;
  sqlite_host_submit (job);
  return await (L, task, job);
}

/* connection:fetch (limit) */
static int connection_fetch (lua_State *L) {
  return run_plain (L, SQLITE_FETCH, "", 0, 0, luaL_checkinteger (L, 2));
}

static int connection_stop (lua_State *L) {
  return run_plain (L, SQLITE_STOP, "", 0, 0, 0);
}

/* connection:shut (): the database is closed; then connection:close () gives the thread back. */
static int connection_shut (lua_State *L) {
  return run_plain (L, SQLITE_SHUT, "", 0, 0, 0);
}

/* connection:open (path, "r" or "rw"): a path may be a URI of SQLite's */
static int connection_open (lua_State *L) {
  size_t length;
  const char *path = luaL_checklstring (L, 2, &length);
  bool writes = strcmp (luaL_checkstring (L, 3), "rw") == 0;
  return run_plain (L, SQLITE_OPEN, path, length,
                    writes ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY, 0);
}

/* connection:serve (clean): from now on it may take the pool's jobs, until the pool lends it; once what is open still
   has been ended, where it is not `clean`. */
static int connection_serve (lua_State *L) {
  struct sqlite_host_connection *connection = check (L);
  sqlite_lane_serve (pool_of (connection), connection, lua_toboolean (L, 2));
  return 0;
}

/* connection:key () → what lease:take () looks for */
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

/* ── pools ── */

static struct sqlite_host_pool *check_pool (lua_State *L) {
  struct sqlite_host_pool *pool = *(struct sqlite_host_pool **)luaL_checkudata (L, 1, POOL);
  if (!pool)
    luaL_error (L, "this database is closed");
  return pool;
}

/* pool:run (sql, parameters, count): on any of its connections that serves, when its turn comes */
static int pool_run (lua_State *L) {
  return run_sql (L, check_pool (L), NULL, SQLITE_RUN);
}

/* pool:spare (count): so many connections may be opened still */
static int pool_spare (lua_State *L) {
  check_pool (L)->lane.spare = (unsigned)luaL_checkinteger (L, 2);
  return 0;
}

/* pool:is_short () → whether one more is wanted, and may be opened */
static int pool_is_short (lua_State *L) {
  lua_pushboolean (L, sqlite_lane_is_short (&check_pool (L)->lane));
  return 1;
}

static int drained (lua_State *L, int status, lua_KContext job) {
  op_waited (L, host_of (L), status);
  sqlite_job_free (&((struct sqlite_host_job *)job)->thread);
  return 0;
}

/* pool:drain (): refuses what is asked from now on, and what waits for its turn; gives when the rest is done */
static int pool_drain (lua_State *L) {
  struct task *task = task_enter (L, host_of (L));
  struct sqlite_host_job *job
      = sqlite_host_job_new (L, check_pool (L), NULL, SQLITE_RUN, "", 0, 0, 0);
  sqlite_lane_close (job);
  return op_await (L, host_of (L), task, &job->op, (lua_KContext)job, drained);
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

/* ── leases ── */

/* A userdata: of a connection that is lent, and goes back whatever fails. Its user values: the pool, and while there is
   one the connection. */
enum lease_value { LEASE_POOL = 1, LEASE_CONNECTION };

/* pool:lease () → a lease, to be closed */
static int pool_lease (lua_State *L) {
  check_pool (L);
  lua_newuserdatauv (L, 0, LEASE_CONNECTION);
  lua_pushvalue (L, 1);
  lua_setiuservalue (L, -2, LEASE_POOL);
  luaL_setmetatable (L, LEASE);
  return 1;
}

static void give_back (lua_State *L, bool clean) {
  struct sqlite_host_connection **box, *connection;
  luaL_checkudata (L, 1, LEASE);
  lua_getiuservalue (L, 1, LEASE_CONNECTION);
  box = lua_touserdata (L, -1); /* or NULL */
  connection = box ? *box : NULL;
  lua_pushnil (L);
  lua_setiuservalue (L, 1, LEASE_CONNECTION);
  if (connection)
    sqlite_lane_serve (pool_of (connection), connection, clean);
}

/* lease:close (clean): see connection:serve */
static int lease_close (lua_State *L) {
  give_back (L, lua_toboolean (L, 2));
  return 0;
}

static int lease_end (lua_State *L) {
  give_back (L, false);
  return 0;
}

/* At 1 the lease, at 2 the table. */
static int lent (lua_State *L, int status, lua_KContext context) {
  struct sqlite_host_job *job = (struct sqlite_host_job *)context;
  struct sqlite_connection *connection;
  op_waited (L, host_of (L), status);
  if (job->refused)
    return done (L, LUA_OK, context);
  connection = job->lent;
  sqlite_job_free (&job->thread);
  lua_rawgetp (L, 2, connection);
  lua_pushvalue (L, -1);
  lua_setiuservalue (L, 1, LEASE_CONNECTION);
  return 1;
}

/* lease:take (connections) → one that served, and does so no more, when its turn comes; `connections`: all there are,
   by their keys */
static int lease_take (lua_State *L) {
  struct task *task = task_enter (L, host_of (L));
  struct sqlite_host_pool *pool;
  struct sqlite_host_job *job;
  luaL_checkudata (L, 1, LEASE);
  luaL_checktype (L, 2, LUA_TTABLE);
  lua_settop (L, 2);
  lua_getiuservalue (L, 1, LEASE_POOL);
  pool = *(struct sqlite_host_pool **)lua_touserdata (L, -1);
  if (!pool)
    return luaL_error (L, "this database is closed");
  job = sqlite_host_job_new (L, pool, NULL, SQLITE_RUN, "", 0, 0, 0);
  job->lends = true;
  sqlite_lane_enter (job);
  return op_await (L, host_of (L), task, &job->op, (lua_KContext)job, lent);
}

static const luaL_Reg lease_methods[] = { { "close", lease_close },
                                          { "take", lease_take },
                                          { "__close", lease_end },
                                          { "__gc", lease_end },
                                          { NULL, NULL } };

static const luaL_Reg connection_methods[] = {
  { "close", connection_close }, { "fetch", connection_fetch }, { "key", connection_key },
  { "open", connection_open },   { "run", connection_run },     { "script", connection_script },
  { "serve", connection_serve }, { "shut", connection_shut },   { "start", connection_start },
  { "stop", connection_stop },   { "__gc", connection_close },  { NULL, NULL }
};

static const luaL_Reg pool_methods[] = { { "connection", pool_connection },
                                         { "drain", pool_drain },
                                         { "is_short", pool_is_short },
                                         { "lease", pool_lease },
                                         { "run", pool_run },
                                         { "spare", pool_spare },
                                         { "__gc", pool_close },
                                         { NULL, NULL } };

static void push_class (lua_State *L, const char *name, const luaL_Reg *methods) {
  if (!luaL_newmetatable (L, name))
    return;
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, methods, 1);
  lua_pushvalue (L, -1);
  lua_setfield (L, -2, "__index");
}

void sqlite_push_classes (lua_State *L) {
  push_class (L, POOL, pool_methods);
  push_class (L, CONNECTION, connection_methods);
  push_class (L, LEASE, lease_methods);
}

/* sqlite_pool (busy seconds, snapshots) → pool, without connections; `snapshots`: its jobs only read, and those
   that wait together may see the same */
static int new_pool (lua_State *L) {
  lua_Number busy = luaL_checknumber (L, 1);
  bool snapshots = lua_toboolean (L, 2);
  struct sqlite_host *module;
  struct sqlite_host_pool **box, *pool;
  sqlite_push_classes (L);
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
  sqlite_lane_init (pool);
  sqlite_value_open (L, &pool->shared);
  return 1;
}

void sqlite_open (lua_State *L) {
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushcclosure (L, new_pool, 1);
  lua_setfield (L, -2, "sqlite_pool");
}
