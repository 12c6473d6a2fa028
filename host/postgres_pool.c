#include "postgres_pool.h"

#include <string.h>

#include "error.h"
#include "op.h"
#include "postgres_connection.h"

#define POOL "allua.postgres_pool"
#define LEASE "allua.postgres_lease"

enum { MOST_SHARING = 16 }; /* who share one connection at most */

/* A userdata. Its user values: a table, a connection's address → what Lua has of it, which keeps it; and the error for
   those who have waited in vain. */
enum pool_value { POOL_CONNECTIONS = 1, POOL_ERROR };

struct pool {
  allua *host;
  unsigned most, count;             /* of connections; also of those on their way */
  struct postgres_connection *open; /* by next_in_pool */
  struct postgres_connection *idle; /* the one that was used last; by below */
  struct postgres_connection
      *turn;                    /* of those that are shared, the one that was lent last; or NULL */
  struct lease *waiting, **end; /* first come, first served */
  uint64_t stamp;               /* counts those who began to wait */
  bool dropped;                 /* POOL_CONNECTIONS has some that are closed */
  bool closed;
};

/* A userdata; its user value is the pool. It waits, or has a connection, or the task that has it is to open one, or
   none of these. */
struct lease {
  struct op op; /* first */
  struct pool *pool;
  struct postgres_connection *connection;
  struct lease *next, **place; /* in `waiting`; place NULL: not there */
  uint64_t since;              /* the pool's stamp when it began to wait, or to open one */
  bool shares;                 /* others may use the connection as well */
  bool opens;
  bool in_vain;
};

/* ── connections ── */

/* Whether it can be used again: it is in no transaction. `alone`: a statement that is still under way, having been
   cancelled, stood alone. */
static bool is_fit (const struct postgres_connection *connection, bool alone) {
  const struct postgres_link *link = &connection->link;
  if (!postgres_connection_is_ready (connection))
    return false;
  return postgres_connection_is_busy (connection)
             ? alone
             : link->pq->transactionStatus (link->connection) == PQTRANS_IDLE;
}

static void drop (struct pool *pool, struct postgres_connection *connection) {
  struct postgres_connection **place = &pool->open;
  while (*place != connection)
    place = &(*place)->next_in_pool;
  *place = connection->next_in_pool;
  if (pool->turn == connection)
    pool->turn = NULL;
  pool->count--;
  pool->dropped = true;
  postgres_connection_close (connection);
}

/* One that nobody uses, or NULL; on which a statement is still under way only where there can be no other. */
static struct postgres_connection *take_idle (struct pool *pool) {
  struct postgres_connection **place = &pool->idle, **busy = NULL, *connection;
  while ((connection = *place)) {
    if (!is_fit (connection, true)) {
      *place = connection->below;
      drop (pool, connection);
    } else if (postgres_connection_is_busy (connection)) {
      busy = place;
      place = &connection->below;
    } else {
      *place = connection->below;
      return connection;
    }
  }
  if (!busy || pool->count < pool->most)
    return NULL;
  connection = *busy;
  *busy = connection->below;
  return connection;
}

/* One that may be shared by one more, of these in turn; or NULL. */
static struct postgres_connection *find_shared (struct pool *pool) {
  struct postgres_connection *connection = pool->turn;
  unsigned left;
  for (left = pool->count; left > 0 && pool->open; left--) {
    connection = connection && connection->next_in_pool ? connection->next_in_pool : pool->open;
    if (connection->lent && !connection->alone && connection->lent < MOST_SHARING)
      return pool->turn = connection;
  }
  return NULL;
}

/* ── leases ── */

static void lend (struct lease *lease, struct postgres_connection *connection) {
  connection->lent++;
  connection->alone = !lease->shares;
  lease->connection = connection;
}

/* Whether the lease has a connection now, or opens one. */
static bool provide (struct pool *pool, struct lease *lease) {
  struct postgres_connection *connection = take_idle (pool);
  if (!connection && pool->count < pool->most) {
    pool->count++;
    lease->opens = true;
    lease->since = pool->stamp;
    return true;
  }
  if (!connection && lease->shares)
    connection = find_shared (pool);
  if (connection)
    lend (lease, connection);
  return connection != NULL;
}

static void take_out (struct lease *lease) {
  struct pool *pool = lease->pool;
  *lease->place = lease->next;
  if (lease->next)
    lease->next->place = lease->place;
  else
    pool->end = lease->place;
  lease->next = NULL;
  lease->place = NULL;
}

static void enter (struct pool *pool, struct lease *lease) {
  lease->since = ++pool->stamp;
  lease->place = pool->end;
  *pool->end = lease;
  pool->end = &lease->next;
}

static void settle (struct lease *lease) {
  take_out (lease);
  op_settle (lease->pool->host, &lease->op);
}

/* Those whose turn has come. */
static void serve (struct pool *pool) {
  while (pool->waiting && provide (pool, pool->waiting))
    settle (pool->waiting);
}

static void on_cancel (struct op *op) {
  struct lease *lease = (struct lease *)op;
  if (!lease->place)
    return;
  take_out (lease);
  serve (lease->pool); /* it may have stood in the way of others */
}

/* Give back what it has. A connection that is not fit is closed at once: it may hold locks. */
static void end (struct lease *lease, bool clean) {
  struct pool *pool = lease->pool;
  struct postgres_connection *connection = lease->connection;
  lease->connection = NULL;
  if (lease->place)
    take_out (lease);
  if (lease->opens)
    pool->count--;
  lease->opens = false;
  if (connection && --connection->lent == 0) {
    if (is_fit (connection, clean || !connection->alone)) {
      connection->below = pool->idle;
      pool->idle = connection;
    } else {
      drop (pool, connection);
    }
    connection->alone = false;
  }
  if (!pool->closed)
    serve (pool);
}

static struct lease *check (lua_State *L) {
  return luaL_checkudata (L, 1, LEASE);
}

static int raise_closed (lua_State *L) {
  lua_pushliteral (L, "db: this database is closed");
  return error_raise (L);
}

/* Forget what Lua has of those that are closed. The table is on top. */
static void sweep (lua_State *L, struct pool *pool) {
  if (!pool->dropped)
    return;
  for (lua_pushnil (L); lua_next (L, -2); lua_pop (L, 1)) {
    const struct postgres_connection *connection = lua_touserdata (L, -2);
    if (connection->open)
      continue;
    lua_pushvalue (L, -2);
    lua_pushnil (L);
    lua_rawset (L, -5);
  }
  pool->dropped = false;
}

/* What take gives, of a lease alone on the stack. */
static int push_taken (lua_State *L, struct lease *lease) {
  lua_getiuservalue (L, 1, 1);
  if (lease->in_vain) {
    lua_getiuservalue (L, 2, POOL_ERROR);
    return error_raise (L);
  }
  if (!lease->connection)
    return lease->opens ? 0 : raise_closed (L);
  lua_getiuservalue (L, 2, POOL_CONNECTIONS);
  sweep (L, lease->pool);
  lua_rawgetp (L, -1, lease->connection);
  return 1;
}

static int taken (lua_State *L, int status, lua_KContext context) {
  struct lease *lease = (struct lease *)context;
  op_waited (L, lease->pool->host, status);
  return push_taken (L, lease);
}

/* lease:take () → its connection; or nothing: it is to open one, and to call bring or give_up */
static int lease_take (lua_State *L) {
  struct lease *lease = check (L);
  struct pool *pool = lease->pool;
  struct task *task = task_enter (L, pool->host);
  lua_settop (L, 1);
  end (lease, false); /* for whoever takes twice */
  lease->in_vain = false;
  if (pool->closed)
    return raise_closed (L);
  if (!pool->waiting && provide (pool, lease))
    return push_taken (L, lease);
  op_init (&lease->op, "a connection of the pool", on_cancel);
  enter (pool, lease);
  return op_await (L, pool->host, task, &lease->op, (lua_KContext)lease, taken);
}

/* lease:bring (connection, object): the one that it was to open; the object is what take gives for it */
static int lease_bring (lua_State *L) {
  struct lease *lease = check (L);
  struct pool *pool = lease->pool;
  struct postgres_connection *connection = postgres_connection_check (L, 2);
  luaL_argcheck (L, lease->opens, 1, "is not to open one");
  lua_settop (L, 3);
  lua_getiuservalue (L, 1, 1);
  lua_getiuservalue (L, -1, POOL_CONNECTIONS);
  sweep (L, pool);
  lua_pushvalue (L, 3);
  lua_rawsetp (L, -2, connection);
  lease->opens = false;
  connection->next_in_pool = pool->open;
  pool->open = connection;
  lend (lease, connection);
  if (pool->closed) {
    postgres_connection_close (connection);
    return raise_closed (L);
  }
  serve (pool);
  return 0;
}

/* lease:give_up (error): none could be opened. Where there is no connection at all, who has waited as long need not
   try again. */
static int lease_give_up (lua_State *L) {
  struct lease *lease = check (L), *waiting, *next;
  struct pool *pool = lease->pool;
  uint64_t since = lease->since;
  luaL_argcheck (L, lease->opens, 1, "is not to open one");
  lua_settop (L, 2);
  lua_getiuservalue (L, 1, 1);
  lua_insert (L, 2);
  lua_setiuservalue (L, 2, POOL_ERROR);
  for (waiting = pool->waiting; waiting && pool->count == 1; waiting = next) {
    next = waiting->next;
    if (waiting->since > since)
      continue;
    waiting->in_vain = true;
    settle (waiting);
  }
  end (lease, true);
  return 0;
}

/* lease:close (clean) → how many used the connection; `clean`: a statement that is still under way stood alone */
static int lease_close (lua_State *L) {
  struct lease *lease = check (L);
  unsigned users = lease->connection ? lease->connection->lent : 0;
  end (lease, lua_toboolean (L, 2));
  lua_pushinteger (L, users);
  return 1;
}

static int lease_end (lua_State *L) {
  end (check (L), false);
  return 0;
}

/* ── pools ── */

static struct pool *check_pool (lua_State *L) {
  return luaL_checkudata (L, 1, POOL);
}

/* pool:lease (shares) → a lease, to be closed */
static int pool_lease (lua_State *L) {
  struct pool *pool = check_pool (L);
  bool shares = lua_toboolean (L, 2);
  struct lease *lease = lua_newuserdatauv (L, sizeof *lease, 1);
  memset (lease, 0, sizeof *lease);
  lease->pool = pool;
  lease->shares = shares;
  lua_pushvalue (L, 1);
  lua_setiuservalue (L, -2, 1);
  luaL_setmetatable (L, LEASE);
  return 1;
}

/* pool:close (): every connection at once, and whoever waits */
static int pool_close (lua_State *L) {
  struct pool *pool = check_pool (L);
  struct postgres_connection *connection;
  pool->closed = true;
  while (pool->waiting)
    settle (pool->waiting);
  for (connection = pool->open; connection; connection = connection->next_in_pool)
    postgres_connection_close (connection);
  return 0;
}

static int pool_is_closed (lua_State *L) {
  lua_pushboolean (L, check_pool (L)->closed);
  return 1;
}

/* postgres_pool (most) → a pool of so many connections, without any */
static int new_pool (lua_State *L) {
  lua_Integer most = luaL_checkinteger (L, 1);
  struct pool *pool = lua_newuserdatauv (L, sizeof *pool, POOL_ERROR);
  memset (pool, 0, sizeof *pool);
  pool->host = host_of (L);
  pool->most = most < INT32_MAX ? (unsigned)most : INT32_MAX;
  pool->end = &pool->waiting;
  lua_newtable (L);
  lua_setiuservalue (L, -2, POOL_CONNECTIONS);
  luaL_setmetatable (L, POOL);
  return 1;
}

static void make_class (lua_State *L, const char *name, const luaL_Reg *methods) {
  luaL_newmetatable (L, name);
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, methods, 1);
  lua_pushvalue (L, -1);
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
}

void postgres_pool_open (lua_State *L) {
  static const luaL_Reg pool_methods[] = { { "close", pool_close },
                                           { "is_closed", pool_is_closed },
                                           { "lease", pool_lease },
                                           { NULL, NULL } };
  static const luaL_Reg lease_methods[] = { { "bring", lease_bring },
                                            { "close", lease_close },
                                            { "take", lease_take },
                                            { "give_up", lease_give_up },
                                            { "__close", lease_end },
                                            { "__gc", lease_end },
                                            { NULL, NULL } };
  make_class (L, POOL, pool_methods);
  make_class (L, LEASE, lease_methods);
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushcclosure (L, new_pool, 1);
  lua_setfield (L, -2, "postgres_pool");
}
