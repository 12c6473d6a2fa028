#include "sqlite_host.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "library.h"
#include "sqlite_lane.h"
#include "sqlite_value.h"

static const char module_key;

static struct sqlite_host *module_of_job (const struct sqlite_job *job) {
  return ((struct sqlite_host_pool *)job->pool)->module;
}

/* ── what the threads call ── */

void sqlite_host_done (struct sqlite_job *jobs) {
  struct sqlite_host *module = module_of_job (jobs);
  struct sqlite_job *first = jobs, *before = atomic_load (&module->done);
  while (first->next)
    first = first->next;
  do
    first->next = before;
  while (!atomic_compare_exchange_weak (&module->done, &before, jobs));
  uv_async_send (&module->async);
}

void sqlite_host_ended (struct sqlite_connection *connection) {
  struct sqlite_host *module = ((struct sqlite_host_pool *)connection->pool)->module;
  uv_mutex_lock (&module->mutex);
  ((struct sqlite_host_connection *)connection)->next_ended = module->ended;
  module->ended = (struct sqlite_host_connection *)connection;
  uv_mutex_unlock (&module->mutex);
  uv_async_send (&module->async);
}

/* ── results into Lua ── */

static void push_failure (lua_State *L, const struct sqlite_job *job) {
  if (job->code == SQLITE_NOMEM && !job->message) {
    host_push (allua_of (L), L, SLOT_MEMORY);
    return;
  }
  error_push (L, allua_of (L), "DbError", "%s", job->message ? job->message : "unknown error");
  lua_pushinteger (L, job->code);
  lua_setfield (L, -2, "code");
}

int sqlite_host_take (lua_State *L, struct sqlite_host_job *own) {
  const struct sqlite_job *job = &own->thread;
  struct sqlite_host_pool *pool = (struct sqlite_host_pool *)job->pool;
  int count = -1;
  /* Where what follows raises, the next job of the pool frees this one. */
  own->pushed = true;
  pool->half_pushed++;
  luaL_checkstack (L, 12, NULL);
  if (own->refused) {
    lua_pushliteral (L, "db: this database is closed");
  } else if (job->code != SQLITE_OK) {
    push_failure (L, job);
  } else if (own->want == SQLITE_WANT_CHANGES) {
    lua_pushinteger (L, job->changes);
    lua_pushinteger (L, job->last_id);
    count = 2;
  } else if (own->want == SQLITE_WANT_ALL) {
    sqlite_value_push_rows (L, job);
    lua_pushboolean (L, job->ended);
    lua_pushinteger (L, job->changes);
    lua_pushinteger (L, job->last_id);
    lua_pushboolean (L, job->autocommit);
    count = 5;
  } else {
    if (own->want == SQLITE_WANT_FIRST)
      sqlite_value_push_first (L, job);
    else
      sqlite_value_push_rows (L, job);
    count = 1;
  }
  sqlite_job_free (&own->thread);
  pool->half_pushed--;
  return count;
}

/* ── jobs ── */

static void on_cancel (struct op *op) {
  struct sqlite_host_job *job
      = (struct sqlite_host_job *)((char *)op - offsetof (struct sqlite_host_job, op));
  if (job->under_way) {
    job->forgotten = true;
    sqlite_thread_cancel (&job->thread);
  } else {
    sqlite_lane_forget (job);
    sqlite_job_free (&job->thread);
  }
}

/* Those whose values could not be pushed, for lack of memory. */
static void sweep (struct sqlite_host_pool *pool) {
  struct sqlite_job *job, *next;
  if (!pool->half_pushed)
    return;
  pool->half_pushed = 0;
  for (job = pool->shared.jobs; job; job = next) {
    next = job->newer;
    if (((struct sqlite_host_job *)job)->pushed)
      sqlite_job_free (job);
  }
}

struct sqlite_host_job *sqlite_host_job_new (lua_State *L, struct sqlite_host_pool *pool,
                                             struct sqlite_host_connection *connection,
                                             enum sqlite_work work, const char *sql, size_t length,
                                             int parameters, size_t bytes) {
  struct sqlite_host_job *job;
  sweep (pool);
  job = (struct sqlite_host_job *)sqlite_job_new (&pool->shared, sizeof *job, work, sql, length,
                                                  parameters, bytes);
  if (!job)
    error_raise_memory (L, pool->module->host);
  memset ((char *)job + sizeof job->thread, 0, sizeof *job - sizeof job->thread);
  job->thread.connection = connection ? &connection->thread : NULL;
  op_init (&job->op, "a connection of the pool", on_cancel);
  return job;
}

void sqlite_host_submit (struct sqlite_host_job *job) {
  struct sqlite_host *module = module_of_job (&job->thread);
  job->under_way = true;
  job->op.what = "an SQL statement";
  if (module->under_way++ == 0)
    uv_ref ((uv_handle_t *)&module->async);
  op_begin (module->host, &job->op);
  sqlite_thread_submit (&job->thread, module->host->ready.first != NULL);
}

/* ── how all ends ── */

/* What the threads have handed over is the loop's. */
static void take_results (struct sqlite_host *module) {
  struct sqlite_job *job = atomic_exchange (&module->done, NULL), *list = NULL;
  while (job) {
    struct sqlite_job *next = job->next;
    job->next = list;
    list = job;
    job = next;
  }
  *module->results.end = list;
  while (*module->results.end)
    module->results.end = &(*module->results.end)->next;
}

/* Results of that connection's that have come and are not taken: of jobs that are freed with it. */
static void drop_results (struct sqlite_host *module, const struct sqlite_connection *connection) {
  struct sqlite_job **place = &module->results.first;
  take_results (module);
  while (*place)
    if ((*place)->connection == connection)
      *place = (*place)->next;
    else
      place = &(*place)->next;
  module->results.end = place;
}

static void on_module_closed (uv_handle_t *handle) {
  struct sqlite_host *module = handle->data;
  struct mem mem = module->mem;
  uv_mutex_destroy (&module->mutex);
  mem_resize (&mem, module, sizeof *module, 0);
}

static void close_module (struct sqlite_host *module) {
  lua_State *L = module->host->main;
  /* The place is there, so this needs no memory. */
  lua_pushboolean (L, 0);
  lua_rawsetp (L, LUA_REGISTRYINDEX, &module_key);
  uv_close ((uv_handle_t *)&module->async, on_module_closed);
}

/* It is done: its task, if it waits still, goes on, and so does who waited for its place. */
static void deliver (struct sqlite_host *module, struct sqlite_host_job *job) {
  struct sqlite_host_pool *pool = (struct sqlite_host_pool *)job->thread.pool;
  bool alone = job->alone;
  job->under_way = false;
  if (--module->under_way == 0)
    uv_unref ((uv_handle_t *)&module->async);
  if (job->forgotten)
    sqlite_job_free (&job->thread);
  else
    op_settle (module->host, &job->op);
  if (alone)
    sqlite_lane_leave (pool);
}

void sqlite_host_release (struct sqlite_host_pool *pool) {
  struct sqlite_host *module = pool->module;
  struct mem *mem = &module->mem;
  lua_State *L = module->host->main;
  struct sqlite_job *job;
  if (pool->box || pool->shared.connections)
    return;
  while ((job = pool->shared.jobs)) {
    op_forget (module->host, &((struct sqlite_host_job *)job)->op);
    sqlite_job_free (job);
  }
  sqlite_value_close (L, &pool->shared);
  *pool->previous = pool->next;
  if (pool->next)
    pool->next->previous = pool->previous;
  sqlite_pool_destroy (&pool->shared);
  mem_resize (mem, pool, sizeof *pool, 0);
  if (!module->pools)
    close_module (module);
}

void sqlite_host_finish (struct sqlite_host_connection *connection) {
  struct sqlite_host_pool *pool = (struct sqlite_host_pool *)connection->thread.pool;
  struct sqlite_host *module = pool->module;
  struct sqlite_host_connection **place;
  struct sqlite_job *job, *next;
  sqlite_thread_join (&connection->thread);
  for (place = &module->ended; *place; place = &(*place)->next_ended)
    if (*place == connection) {
      *place = connection->next_ended;
      break;
    }
  drop_results (module, &connection->thread);
  for (job = pool->shared.jobs; job; job = next) {
    next = job->newer;
    if (job->connection == &connection->thread && ((struct sqlite_host_job *)job)->under_way) {
      /* The thread did not come to it. */
      job->code = SQLITE_MISUSE;
      free (job->message);
      job->message = strdup ("the connection is closed");
      deliver (module, (struct sqlite_host_job *)job);
    }
  }
  if (connection->box)
    *connection->box = NULL;
  mem_resize (&module->mem, connection, sizeof *connection, 0);
  sqlite_host_release (pool);
}

static struct sqlite_host_connection *next_ended (struct sqlite_host *module) {
  struct sqlite_host_connection *connection;
  uv_mutex_lock (&module->mutex);
  connection = module->ended;
  uv_mutex_unlock (&module->mutex);
  return connection;
}

static void on_async (uv_async_t *async) {
  struct sqlite_host *module = async->data;
  struct sqlite_host_connection *connection;
  struct sqlite_host_job *job;
  take_results (module);
  while ((job = (struct sqlite_host_job *)module->results.first)) {
    module->results.first = job->thread.next;
    if (!job->thread.next)
      module->results.end = &module->results.first;
    if (job->thread.work == SQLITE_SHUT && job->thread.code == SQLITE_OK)
      job->thread.connection->is_shut = true;
    deliver (module, job);
  }
  while ((connection = next_ended (module)))
    sqlite_host_finish (connection);
}

/* ── the module ── */

static void load (lua_State *L, struct sqlite *sqlite) {
#define SQLITE_NAME(name) "sqlite3_" #name,
  static const char *const names[] = { SQLITE_FUNCTIONS (SQLITE_NAME) };
#undef SQLITE_NAME
  void *functions[sizeof names / sizeof *names];
  _Static_assert(sizeof functions == sizeof *sqlite, "one pointer a name");
  library_load (L, "libsqlite3.so.0", "libsqlite3-0", names, functions,
                sizeof names / sizeof *names);
  memcpy (sqlite, functions, sizeof *sqlite);
}

static struct sqlite_host *find (lua_State *L) {
  struct sqlite_host *module;
  lua_rawgetp (L, LUA_REGISTRYINDEX, &module_key);
  module = lua_touserdata (L, -1); /* or NULL */
  lua_pop (L, 1);
  return module;
}

struct sqlite_host *sqlite_host_of (lua_State *L) {
  allua *host = allua_of (L);
  struct sqlite_host *module = find (L);
  struct sqlite sqlite;
  if (module)
    return module;
  if (host->tearing)
    luaL_error (L, "this allua host is closed");
  load (L, &sqlite);
  /* The place first: storing in it then needs no memory. */
  lua_pushboolean (L, 0);
  lua_rawsetp (L, LUA_REGISTRYINDEX, &module_key);
  module = mem_resize (&host->mem, NULL, 0, sizeof *module);
  if (!module)
    error_raise_memory (L, host);
  memset (module, 0, sizeof *module);
  if (uv_mutex_init (&module->mutex) != 0
      || uv_async_init (host->loop, &module->async, on_async) != 0) {
    mem_resize (&host->mem, module, sizeof *module, 0);
    error_raise_memory (L, host);
  }
  uv_unref ((uv_handle_t *)&module->async);
  module->async.data = module;
  module->host = host;
  module->mem = host->mem;
  module->sqlite = sqlite;
  atomic_init (&module->done, NULL);
  module->results.end = &module->results.first;
  lua_pushlightuserdata (L, module);
  lua_rawsetp (L, LUA_REGISTRYINDEX, &module_key);
  return module;
}

void sqlite_host_close (allua *host) {
  struct sqlite_host *module = find (host->main);
  struct sqlite_connection *connection;
  struct sqlite_host_pool *pool, *next;
  if (!module)
    return;
  for (pool = module->pools; pool; pool = pool->next)
    for (connection = pool->shared.connections; connection; connection = connection->next_in_pool)
      sqlite_thread_end (connection);
  if (!module->pools) { /* none could be made */
    close_module (module);
    return;
  }
  for (pool = module->pools; pool; pool = next) {
    next = pool->next;
    if (pool->box)
      *pool->box = NULL;
    pool->box = NULL;
    while ((connection = pool->shared.connections)) {
      bool last = !connection->next_in_pool;
      /* The last one frees the pool, the last pool closes the module. */
      sqlite_host_finish ((struct sqlite_host_connection *)connection);
      if (last)
        break;
    }
    if (!connection)
      sqlite_host_release (pool); /* no thread could be started */
  }
}
