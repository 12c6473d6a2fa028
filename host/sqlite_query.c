#include "sqlite_query.h"

#include <string.h>

#include "error.h"
#include "sqlite.h"
#include "sqlite_lane.h"
#include "sqlite_value.h"

#define TEXT "allua.sqlite_text"

/* Of a text that is known; the user values are what is sent, and the list of the names of its parameters. */
struct text {
  bool reads;
  bool named;
  int count; /* of parameters */
};

enum { TEXT_SENT = 1, TEXT_NAMES };

/* The upvalues of the methods. */
enum {
  BOX = 1,
  TEXTS,     /* SQL → its text */
  EXPLAIN,   /* function (error, SQL): raises it, told */
  SLOWLY,    /* the same method in Lua: for all that is not usual, and for what is wrong */
  POOL_META, /* metatables */
  CONNECTION_META
};

/* Places in a database, or a transaction: what reads and what writes run on. */
enum { READS_ON = 1, WRITES_ON };

/* The method's arguments. */
enum { SELF = 1, SQL, VALUES };

/* sqlite_text (sent, reads, count or names) → its text; nil: it cannot be sent so */
static int new_text (lua_State *L) {
  size_t length;
  const char *sent = luaL_checklstring (L, 1, &length);
  bool named = lua_istable (L, 3);
  lua_Integer count = named ? (lua_Integer)lua_rawlen (L, 3) : luaL_checkinteger (L, 3);
  struct text *text;
  if (memchr (sent, '\0', length) || length >= INT32_MAX || count < 0
      || count > SQLITE_MOST_PARAMETERS)
    return 0;
  text = lua_newuserdatauv (L, sizeof *text, 2);
  *text = (struct text){ .reads = lua_toboolean (L, 2), .named = named, .count = (int)count };
  lua_pushvalue (L, 1);
  lua_setiuservalue (L, -2, TEXT_SENT);
  if (named) {
    lua_pushvalue (L, 3);
    lua_setiuservalue (L, -2, TEXT_NAMES);
  }
  luaL_newmetatable (L, TEXT);
  lua_setmetatable (L, -2);
  return 1;
}

/* ── the usual way ── */

/* Push the pool or the connection that a statement runs on, and set which it is. False: there is none. */
static bool push_place (lua_State *L, bool reads, struct sqlite_host_pool **pool,
                        struct sqlite_host_connection **connection) {
  void *box;
  bool is_pool, is_connection;
  *pool = NULL;
  *connection = NULL;
  lua_rawgeti (L, SELF, reads ? READS_ON : WRITES_ON);
  box = lua_touserdata (L, -1);
  if (!box || !lua_getmetatable (L, -1))
    return false;
  is_pool = lua_rawequal (L, -1, lua_upvalueindex (POOL_META));
  is_connection = !is_pool && lua_rawequal (L, -1, lua_upvalueindex (CONNECTION_META));
  lua_pop (L, 1);
  if (is_pool)
    *pool = *(struct sqlite_host_pool **)box;
  else if (is_connection)
    *connection = *(struct sqlite_host_connection **)box;
  if (*connection)
    *pool = (struct sqlite_host_pool *)(*connection)->thread.pool;
  return *pool && (*connection || !sqlite_lane_is_short (&(*pool)->lane));
}

/* Push the values of the parameters, in their order, out of the table at VALUES; the text is at `text`. False: that
   does not have just them. */
static bool push_named (lua_State *L, int text, int count) {
  int i, found = 0, names;
  if (lua_getmetatable (L, VALUES))
    return false;
  luaL_checkstack (L, count + LUA_MINSTACK, "too many parameters");
  lua_getiuservalue (L, text, TEXT_NAMES);
  names = lua_gettop (L);
  for (i = 1; i <= count; i++) {
    lua_rawgeti (L, names, i);
    found += lua_rawget (L, VALUES) != LUA_TNIL;
  }
  for (lua_pushnil (L); lua_next (L, VALUES); lua_pop (L, 1))
    found--;
  return found == 0;
}

static int done (lua_State *L, int status, lua_KContext job) {
  int count;
  op_waited (L, host_of (L), status);
  count = sqlite_host_take (L, (struct sqlite_host_job *)job);
  if (count >= 0)
    return count;
  lua_pushvalue (L, lua_upvalueindex (EXPLAIN));
  lua_insert (L, -2);
  lua_pushvalue (L, SQL);
  lua_call (L, 2, 0);
  return 0;
}

/* Begin what was asked, where it is as usual; the `given` values follow the SQL. NULL: it is not. */
static struct sqlite_host_job *begin (lua_State *L, allua *host, enum sqlite_want want, int given,
                                      struct task **task) {
  struct sqlite_host_pool *pool;
  struct sqlite_host_connection *connection;
  struct sqlite_host_job *job;
  const struct text *text;
  const char *sent;
  size_t length, bytes = 0;
  int at = VALUES + given, first = VALUES;
  lua_pushvalue (L, SQL);
  if (lua_rawget (L, lua_upvalueindex (TEXTS)) != LUA_TUSERDATA)
    return NULL;
  text = lua_touserdata (L, at);
  if (!push_place (L, text->reads && want != SQLITE_WANT_CHANGES, &pool, &connection))
    return NULL;
  if (text->named) {
    if (given != 1 || !lua_istable (L, VALUES) || !push_named (L, at, text->count))
      return NULL;
    first = lua_gettop (L) - text->count + 1;
  } else if (given != text->count) {
    return NULL;
  }
  if (sqlite_value_measure (L, first, text->count, &bytes) != 0)
    return NULL;
  *task = task_enter (L, host);
  lua_getiuservalue (L, at, TEXT_SENT);
  sent = lua_tolstring (L, -1, &length);
  job = sqlite_host_job_new (L, pool, connection, SQLITE_RUN, sent, length, text->count, bytes);
  job->want = want;
  sqlite_value_copy (L, first, &job->thread);
  if (connection)
    sqlite_host_submit (job);
  else
    sqlite_lane_enter (job);
  return job;
}

static int all_of_it (lua_State *L, int status, lua_KContext context) {
  (void)status;
  (void)context;
  return lua_gettop (L);
}

static int run (lua_State *L, enum sqlite_want want) {
  allua *host = host_of (L);
  int top = lua_gettop (L);
  if (top >= SQL && lua_istable (L, SELF) && lua_type (L, SQL) == LUA_TSTRING && !host->tracer) {
    struct task *task;
    struct sqlite_host_job *job = begin (L, host, want, top - SQL, &task);
    if (job)
      return op_await (L, host, task, &job->op, (lua_KContext)job, done);
  }
  lua_settop (L, top);
  lua_pushvalue (L, lua_upvalueindex (SLOWLY));
  lua_insert (L, 1);
  lua_callk (L, top, LUA_MULTRET, 0, all_of_it);
  return all_of_it (L, LUA_OK, 0);
}

/* database:query (SQL, …) → rows */
static int query (lua_State *L) {
  return run (L, SQLITE_WANT_ROWS);
}

/* database:one (SQL, …) → the first row, or nil */
static int one (lua_State *L) {
  return run (L, SQLITE_WANT_FIRST);
}

/* database:exec (SQL, …) → how many rows were changed, the id of the last that was inserted */
static int exec (lua_State *L) {
  return run (L, SQLITE_WANT_CHANGES);
}

/* sqlite_methods (texts, explain, { query, one, exec }) → the same methods, done quickly where that can be */
static int methods (lua_State *L) {
  static const luaL_Reg quick[]
      = { { "query", query }, { "one", one }, { "exec", exec }, { NULL, NULL } };
  const luaL_Reg *method;
  lua_settop (L, 3);
  sqlite_push_classes (L);
  lua_createtable (L, 0, 3);
  for (method = quick; method->name; method++) {
    lua_pushvalue (L, lua_upvalueindex (1));
    lua_pushvalue (L, 1);
    lua_pushvalue (L, 2);
    lua_getfield (L, 3, method->name);
    lua_pushvalue (L, 4);
    lua_pushvalue (L, 5);
    lua_pushcclosure (L, method->func, CONNECTION_META);
    lua_setfield (L, -2, method->name);
  }
  return 1;
}

void sqlite_query_open (lua_State *L) {
  static const luaL_Reg functions[]
      = { { "sqlite_text", new_text }, { "sqlite_methods", methods }, { NULL, NULL } };
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, functions, 1);
}
