#include "serve_request.h"

#include <string.h>

#include "connection_read.h"
#include "connection_write.h"
#include "error.h"
#include "json_write.h"
#include "promise_c.h"
#include "promise_object.h"
#include "task.h"

#define REQUEST "allua.request"

struct listener {
  const char *tag;
  struct server *server; /* NULL: closed */
};

struct request {
  struct connection *connection;
  lua_Integer id;
};

/* Tells a listener from other userdata faster than its metatable does. */
static const char tag = 'l';

struct server **serve_new_listener (lua_State *L) {
  struct listener *listener = lua_newuserdatauv (L, sizeof *listener, 0);
  *listener = (struct listener){ &tag, NULL };
  luaL_setmetatable (L, LISTENER);
  return &listener->server;
}

struct server **serve_check_listener (lua_State *L) {
  struct listener *listener = lua_touserdata (L, 1);
  if (!listener || lua_rawlen (L, 1) != sizeof *listener || listener->tag != &tag)
    luaL_checkudata (L, 1, LISTENER); /* which says what is wrong */
  return &listener->server;
}

struct server *serve_check_server (lua_State *L) {
  struct server *server = *serve_check_listener (L);
  if (!server)
    luaL_error (L, "this server is closed");
  return server;
}

static void forget_promise (void *place) {
  *(allua_promise **)place = NULL;
}

int serve_await (lua_State *L, allua_promise **place, const char *what) {
  allua_promise *promise = allua_promise_new (L);
  promise_object_stands_for (promise, what);
  promise_c_wait_for_others (promise); /* for a client */
  *place = promise;
  allua_promise_on_cancel (promise, forget_promise, place);
  return allua_await (L, promise);
}

void serve_open_class (lua_State *L, const char *name, const luaL_Reg *methods) {
  if (luaL_newmetatable (L, name)) {
    luaL_setfuncs (L, methods, 0);
    lua_pushvalue (L, -1);
    lua_setfield (L, -2, "__index");
  }
  lua_pop (L, 1);
}

/* listener:request (id) → what reads the request's body and writes its reply piece by piece. */
int serve_request (lua_State *L) {
  struct server *server = *serve_check_listener (L); /* NULL: closed */
  lua_Integer id = luaL_checkinteger (L, 2);
  struct request *request = lua_newuserdatauv (L, sizeof *request, 0);
  request->connection = NULL;
  request->id = id;
  luaL_setmetatable (L, REQUEST);
  request->connection = server ? connection_of (server, id) : NULL;
  if (request->connection)
    request->connection->references++;
  return 1;
}

/* The connection, where the request is still under way there. */
static struct connection *check_request (lua_State *L) {
  struct request *request = luaL_checkudata (L, 1, REQUEST);
  struct connection *connection = request->connection;
  if (!connection || connection->id != request->id || !connection->active || connection->gone)
    return NULL;
  return connection;
}

static int raise_left (lua_State *L) {
  error_push (L, allua_of (L), "ClientLeftError", "the request is over, or its client has left");
  return lua_error (L);
}

static struct connection *need_request (lua_State *L) {
  struct connection *connection = check_request (L);
  if (!connection)
    raise_left (L);
  return connection;
}

void serve_send (lua_State *L, struct server *server, lua_Integer id, const struct reply *reply) {
  struct connection *connection = server ? connection_of (server, id) : NULL;
  size_t size = reply_size (reply);
  if (!connection
      || !reply_send (connection, reply,
                      size > sizeof server->buffer ? lua_newuserdatauv (L, size, 0)
                                                   : server->buffer))
    raise_left (L);
}

/* listener:answer (id, start, body [, fields [, dated [, bare]]]): the whole reply, and the request is done.
   start: status line and type; body: a string, or a table, which is sent as JSON; fields: more lines of the
   head; dated: the date is among them; bare: such a reply has no body. */
int serve_answer (lua_State *L) {
  struct server *server = *serve_check_listener (L);
  struct reply reply = { .dated = lua_toboolean (L, 6), .bare = lua_toboolean (L, 7) };
  char space[4096];
  reply.start.bytes = luaL_checklstring (L, 3, &reply.start.length);
  reply.fields.bytes = luaL_optlstring (L, 5, "", &reply.fields.length);
  if (lua_istable (L, 4))
    reply.body.bytes = json_write (L, 4, space, sizeof space, &reply.body.length);
  else
    reply.body.bytes = luaL_checklstring (L, 4, &reply.body.length);
  serve_send (L, server, luaL_checkinteger (L, 2), &reply);
  return 0;
}

/* listener:drop (id): there is no reply, or it broke off. */
int serve_drop (lua_State *L) {
  struct server *server = *serve_check_listener (L);
  struct connection *connection = server ? connection_of (server, luaL_checkinteger (L, 2)) : NULL;
  if (connection)
    connection_drop (connection);
  return 0;
}

/* request:wait (): until there is some of the body, or its end. Asks for it where the client waits. */
static int request_wait (lua_State *L) {
  struct connection *connection = need_request (L);
  if (connection->body_length || connection->received)
    return 0;
  if (connection->reader)
    return luaL_error (L, "the body is being read by another task");
  if (connection->parser.expects_continue && !connection->started && !connection->parser.total) {
    connection->parser.expects_continue = false;
    if (!connection_continue (connection))
      return raise_left (L);
  }
  connection_read_on (connection);
  return serve_await (L, &connection->reader, "the body of a request");
}

/* request:take () → bytes of the body, or nil at its end */
static int request_take (lua_State *L) {
  struct connection *connection = need_request (L);
  if (!connection->body_length)
    return 0;
  lua_pushlstring (L, connection->body, connection->body_length);
  connection->body_length = 0;
  connection_read_on (connection);
  return 1;
}

/* request:write (bytes) → whether to drain before the next */
static int request_write (lua_State *L) {
  struct connection *connection = need_request (L);
  size_t length;
  const char *data = luaL_checklstring (L, 2, &length);
  if (length && !connection_write (connection, data, length))
    return raise_left (L);
  lua_pushboolean (L, uv_stream_get_write_queue_size ((uv_stream_t *)&connection->tcp)
                          > CONNECTION_HIGH);
  return 1;
}

/* request:drain (): until the client has taken most of what was written. */
static int request_drain (lua_State *L) {
  struct connection *connection = need_request (L);
  if (uv_stream_get_write_queue_size ((uv_stream_t *)&connection->tcp) <= CONNECTION_LOW)
    return 0;
  if (connection->writer)
    return luaL_error (L, "the reply is being written by another task");
  return serve_await (L, &connection->writer, "a client to read");
}

/* request:finish (keep_alive) */
static int request_finish (lua_State *L) {
  struct connection *connection = check_request (L);
  if (connection)
    connection_finish (connection, lua_toboolean (L, 2));
  return 0;
}

/* request:drop (): the reply broke off. */
static int request_drop (lua_State *L) {
  struct connection *connection = check_request (L);
  if (connection)
    connection_drop (connection);
  return 0;
}

static int request_collect (lua_State *L) {
  struct request *request = luaL_checkudata (L, 1, REQUEST);
  if (request->connection)
    connection_release (request->connection);
  request->connection = NULL;
  return 0;
}

static const luaL_Reg request_methods[]
    = { { "drain", request_drain },   { "drop", request_drop },
        { "finish", request_finish }, { "take", request_take },
        { "wait", request_wait },     { "write", request_write },
        { "__gc", request_collect },  { NULL, NULL } };

void serve_request_open (lua_State *L) {
  serve_open_class (L, REQUEST, request_methods);
}
