#include "postgres.h"

#include <stdio.h>
#include <string.h>

#include "error.h"
#include "postgres_connection.h"
#include "postgres_parameter.h"
#include "postgres_pool.h"
#include "postgres_value.h"
#include "resolver.h"

enum { MOST_PARAMETERS = 65535, MOST_KEYWORDS = 64 };

/* ── results ── */

/* Set the field of the error on top to a text without line ends around it, where there is one. */
static void set_text (lua_State *L, const char *field, const char *text) {
  size_t length = text ? strlen (text) : 0;
  while (length && text[length - 1] == '\n')
    length--;
  if (!length)
    return;
  lua_pushlstring (L, text, length);
  lua_setfield (L, -2, field);
}

static void push_failure (lua_State *L, const struct postgres_request *request) {
  static const struct {
    const char *name;
    int code;
  } fields[] = { { "detail", PG_DIAG_MESSAGE_DETAIL },      { "hint", PG_DIAG_MESSAGE_HINT },
                 { "table", PG_DIAG_TABLE_NAME },           { "column", PG_DIAG_COLUMN_NAME },
                 { "constraint", PG_DIAG_CONSTRAINT_NAME }, { "code", PG_DIAG_SQLSTATE } };
  const struct postgres *pq = request->pq;
  const PGresult *result = request->code ? NULL : request->result;
  const char *position = NULL;
  size_t i;
  error_push (L, allua_of (L), "DbError", "%s", "unknown error");
  if (!result) {
    set_text (L, "message", request->message ? request->message : "not enough memory");
    set_text (L, "code", request->code);
    return;
  }
  set_text (L, "message",
            pq->resultErrorField (result, PG_DIAG_MESSAGE_PRIMARY)
                ? pq->resultErrorField (result, PG_DIAG_MESSAGE_PRIMARY)
                : pq->resultErrorMessage (result));
  for (i = 0; i < sizeof fields / sizeof *fields; i++)
    set_text (L, fields[i].name, pq->resultErrorField (result, fields[i].code));
  if (!pq->resultErrorField (result, PG_DIAG_SQLSTATE)) /* libpq's own: the connection was lost */
    set_text (L, "code", "08006");
  position = pq->resultErrorField (result, PG_DIAG_STATEMENT_POSITION);
  if (position && lua_stringtonumber (L, position))
    lua_setfield (L, -2, "position");
}

static int push_types (lua_State *L, const struct postgres_request *request) {
  const struct postgres *pq = request->pq;
  int i, count = pq->nparams (request->result);
  lua_createtable (L, count, 0);
  for (i = 0; i < count; i++) {
    postgres_push_form (L, pq->paramtype (request->result, i));
    lua_rawseti (L, -2, i + 1);
  }
  return 1;
}

/* rows, changes; of a description the forms of the parameters; of a script the last one's tag */
static int push_answer (lua_State *L, const struct postgres_request *request) {
  const struct postgres *pq = request->pq;
  const char *changes;
  if (!request->result) /* connected, or a script without statements */
    return 0;
  if (request->work == POSTGRES_DESCRIBE)
    return push_types (L, request);
  if (request->work == POSTGRES_SCRIPT) {
    lua_pushstring (L, pq->cmdStatus (request->result));
    return 1;
  }
  postgres_push_rows (L, pq, request->result);
  changes = pq->cmdTuples (request->result);
  if (!lua_stringtonumber (L, *changes ? changes : "0"))
    lua_pushinteger (L, 0);
  return 2;
}

/* What its task gets. */
static int take (lua_State *L, struct postgres_request *request) {
  struct postgres_connection *connection = (struct postgres_connection *)request->link;
  bool failed = request->failed;
  int results = 0;
  /* Where what follows raises, the next request of the connection frees this one, or its end does. */
  request->pushed = true;
  if (connection)
    connection->half_pushed++;
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  if (failed)
    push_failure (L, request);
  else
    results = push_answer (L, request);
  if (connection && request->link)
    connection->half_pushed--;
  postgres_request_free (request);
  return failed ? lua_error (L) : results;
}

static int done (lua_State *L, int status, lua_KContext request) {
  op_waited (L, host_of (L), status);
  return take (L, (struct postgres_request *)request);
}

static void on_done (struct postgres_request *request) {
  bool waited_for = request->waited_for;
  request->waited_for = false;
  if (waited_for)
    op_settle (((struct postgres_connection *)request->link)->host, &request->op);
  else
    postgres_request_free (request);
}

static void on_cancel (struct op *op) {
  struct postgres_request *request = (struct postgres_request *)op;
  request->waited_for = false;
  postgres_link_cancel (request);
}

/* ── requests ── */

static struct postgres_connection *check (lua_State *L) {
  struct postgres_connection *connection = postgres_connection_check (L, 1);
  struct postgres_request *request, *next;
  if (!connection->open)
    luaL_error (L, "this connection is closed");
  if (!connection->half_pushed)
    return connection;
  connection->half_pushed = 0;
  for (request = connection->link.requests; request; request = next) {
    next = request->newer;
    if (request->pushed)
      postgres_request_free (request);
  }
  return connection;
}

static const char *check_sql (lua_State *L, int index) {
  size_t length;
  const char *sql = luaL_checklstring (L, index, &length);
  if (strlen (sql) != length)
    luaL_error (L, "the SQL holds a NUL");
  return sql;
}

/* What a task is about to wait for. */
static struct postgres_request *expect (lua_State *L, struct postgres_request *request,
                                        const char *what) {
  if (!request)
    error_raise_memory (L, host_of (L));
  op_init (&request->op, what, on_cancel);
  op_begin (host_of (L), &request->op);
  request->waited_for = true;
  return request;
}

static int await (lua_State *L, struct task *task, struct postgres_request *request) {
  return op_await (L, host_of (L), task, &request->op, (lua_KContext)request, done);
}

static int submit (lua_State *L, struct task *task, struct postgres_request *request) {
  expect (L, request, "an SQL statement");
  postgres_link_submit (request->link, request);
  return await (L, task, request);
}

/* connection:run (sql, name or nil, prepare, values, count, shared) → rows, changes. A name is that of a prepared
   statement; `prepare`: which is yet to be prepared; `shared`: others may be sent behind it, and where it keeps
   them waiting it fails with the code "gave way", having done nothing. */
static int connection_run (lua_State *L) {
  struct postgres_connection *connection = check (L);
  const char *sql = check_sql (L, 2), *name = luaL_optstring (L, 3, "");
  lua_Integer count = luaL_checkinteger (L, 6);
  struct postgres_request *request;
  struct task *task;
  size_t bytes;
  bool shared = lua_toboolean (L, 7);
  char *at;
  lua_settop (L, 6);
  luaL_checktype (L, 5, LUA_TTABLE);
  luaL_argcheck (L, count >= 0 && count <= MOST_PARAMETERS, 6, "too many parameters");
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  bytes = postgres_parameter_measure (L, 5, (int)count);
  task = task_enter (L, connection->host);
  request = postgres_request_new (&connection->link, POSTGRES_RUN, sql, (int)count, bytes, &at);
  if (!request)
    return error_raise_memory (L, allua_of (L));
  snprintf (request->name, sizeof request->name, "%s", name);
  request->prepare = *name && lua_toboolean (L, 4);
  request->shared = shared;
  postgres_parameter_copy (L, 5, request, at);
  return submit (L, task, request);
}

/* connection:describe (sql, name) → the forms of the parameters; the statement is prepared under that name */
static int connection_describe (lua_State *L) {
  struct postgres_connection *connection = check (L);
  const char *sql = check_sql (L, 2), *name = luaL_checkstring (L, 3);
  struct task *task = task_enter (L, connection->host);
  struct postgres_request *request
      = postgres_request_new (&connection->link, POSTGRES_DESCRIBE, sql, 0, 0, NULL);
  if (!request)
    return error_raise_memory (L, allua_of (L));
  snprintf (request->name, sizeof request->name, "%s", name);
  request->prepare = true;
  return submit (L, task, request);
}

/* connection:script (sql) → the tag of the last statement, "COMMIT" */
static int connection_script (lua_State *L) {
  struct postgres_connection *connection = check (L);
  const char *sql = check_sql (L, 2);
  struct task *task = task_enter (L, connection->host);
  return submit (L, task,
                 postgres_request_new (&connection->link, POSTGRES_SCRIPT, sql, 0, 0, NULL));
}

/* connection:post (sql): not waited for; a failure is nobody's */
static int connection_post (lua_State *L) {
  struct postgres_connection *connection = check (L);
  const char *sql = check_sql (L, 2);
  struct postgres_request *request
      = postgres_request_new (&connection->link, POSTGRES_RUN, sql, 0, 0, NULL);
  if (!request)
    return error_raise_memory (L, allua_of (L));
  postgres_link_submit (&connection->link, request);
  return 0;
}

/* connection:connect { keyword = value } */
static int connection_connect (lua_State *L) {
  struct postgres_connection *connection = check (L);
  const char *keywords[MOST_KEYWORDS + 1], *values[MOST_KEYWORDS + 1];
  struct postgres_request *request;
  struct task *task = task_enter (L, connection->host);
  int count = 0;
  luaL_checktype (L, 2, LUA_TTABLE);
  if (connection->link.state != POSTGRES_NEW)
    return luaL_error (L, "this connection has been connected");
  lua_settop (L, 2);
  for (lua_pushnil (L); lua_next (L, 2); lua_pop (L, 1))
    if (count < MOST_KEYWORDS && lua_type (L, -2) == LUA_TSTRING
        && lua_type (L, -1) == LUA_TSTRING) {
      keywords[count] = lua_tostring (L, -2); /* kept by the table */
      values[count++] = lua_tostring (L, -1);
    }
  keywords[count] = values[count] = NULL;
  request = expect (L, postgres_request_new (&connection->link, POSTGRES_CONNECT, "", 0, 0, NULL),
                    "a connection to PostgreSQL");
  postgres_link_connect (&connection->link, keywords, values, request);
  return await (L, task, request);
}

/* connection:state () → "ready" or "broken" (or not connected yet); whether requests are under way; the
   state of its transaction: "none", "open", "failed" or "unknown" */
static int connection_state (lua_State *L) {
  struct postgres_connection *connection = postgres_connection_check (L, 1);
  const struct postgres_link *link = &connection->link;
  bool ready = postgres_connection_is_ready (connection);
  PGTransactionStatusType status
      = ready ? link->pq->transactionStatus (link->connection) : PQTRANS_UNKNOWN;
  lua_pushstring (L, ready ? "ready" : "broken");
  lua_pushboolean (L, ready && postgres_connection_is_busy (connection));
  if (status == PQTRANS_IDLE)
    lua_pushliteral (L, "none");
  else if (status == PQTRANS_INTRANS)
    lua_pushliteral (L, "open");
  else
    lua_pushstring (L, status == PQTRANS_INERROR ? "failed" : "unknown");
  return 3;
}

static int connection_close (lua_State *L) {
  postgres_connection_close (postgres_connection_check (L, 1));
  return 0;
}

static const luaL_Reg methods[] = { { "close", connection_close },
                                    { "connect", connection_connect },
                                    { "describe", connection_describe },
                                    { "post", connection_post },
                                    { "run", connection_run },
                                    { "script", connection_script },
                                    { "state", connection_state },
                                    { "__gc", connection_close },
                                    { NULL, NULL } };

/* postgres_connection () → a connection that is not connected yet */
static int new_connection (lua_State *L) {
  postgres_connection_push (L, methods)->link.done = on_done;
  return 1;
}

/* What libpq made of a URL, which it wants back. */
struct parsed {
  PQconninfoOption *options; /* NULL: the message says why */
  char *message;
};

static int push_parsed (lua_State *L) {
  const struct parsed *parsed = lua_touserdata (L, 1);
  const PQconninfoOption *option = parsed->options;
  if (!option) {
    lua_pushnil (L);
    lua_pushstring (L, parsed->message ? parsed->message : "not enough memory");
    return 2;
  }
  lua_newtable (L);
  for (; option->keyword; option++)
    if (option->val) {
      lua_pushstring (L, option->val);
      lua_setfield (L, -2, option->keyword);
    }
  return 1;
}

/* postgres_parse (url) → { keyword = value }, of what the URL says; or nil, message */
static int parse (lua_State *L) {
  const char *url = luaL_checkstring (L, 1);
  const struct postgres *pq = postgres_library (L);
  struct parsed parsed = { 0 };
  int status;
  parsed.options = pq->conninfoParse (url, &parsed.message);
  lua_settop (L, 1);
  lua_pushcfunction (L, push_parsed);
  lua_pushlightuserdata (L, &parsed);
  status = lua_pcall (L, 1, LUA_MULTRET, 0);
  pq->conninfoFree (parsed.options);
  pq->freemem (parsed.message);
  return status == LUA_OK ? lua_gettop (L) - 1 : lua_error (L);
}

void postgres_open (lua_State *L) {
  resolver_open (L);
  postgres_pool_open (L);
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushcclosure (L, new_connection, 1);
  lua_setfield (L, -2, "postgres_connection");
  lua_pushcfunction (L, parse);
  lua_setfield (L, -2, "postgres_parse");
}
