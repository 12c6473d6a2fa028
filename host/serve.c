#include "serve.h"

#include <stdlib.h>
#include <string.h>

#include "connection.h"
#include "error.h"

#define SERVER "allua.listener"
#define REQUEST "allua.request"

struct request {
  struct connection *connection;
  uint64_t id;
};

static struct server *check_server (lua_State *L) {
  struct server *server = *(struct server **)luaL_checkudata (L, 1, SERVER);
  if (!server)
    luaL_error (L, "this server is closed");
  return server;
}

static void on_server_closed (uv_handle_t *handle) {
  struct server *server = handle->data;
  server->handles--;
  server_release (server);
}

static void stop_listening (struct server *server) {
  if (!server->listening)
    return;
  server->listening = false;
  uv_close ((uv_handle_t *)&server->tcp, on_server_closed);
  server_close_idle (server);
}

/* listener:stop (): no new connections, no next requests. */
static int listener_stop (lua_State *L) {
  struct server **place = luaL_checkudata (L, 1, SERVER);
  if (*place)
    stop_listening (*place);
  return 0;
}

/* listener:close (): no connection at all. */
static int listener_close (lua_State *L) {
  struct server **place = luaL_checkudata (L, 1, SERVER), *server = *place;
  struct connection *connection, *next;
  if (!server)
    return 0;
  *place = NULL;
  stop_listening (server);
  for (connection = server->connections; connection; connection = next) {
    next = connection->next;
    connection_drop (connection);
  }
  for (connection = server->events; connection; connection = next) {
    next = connection->next_event;
    connection_release (connection);
  }
  server->events = NULL;
  server->events_end = &server->events;
  uv_close ((uv_handle_t *)&server->sweep, on_server_closed);
  server->references--;
  server_release (server);
  return 0;
}

static void on_connection (uv_stream_t *stream, int status) {
  if (status == 0)
    connection_accept (stream->data);
}

static void forget_promise (void *place) {
  *(allua_promise **)place = NULL;
}

static int await_at (lua_State *L, allua_promise **place) {
  allua_promise *promise = allua_promise_new (L);
  *place = promise;
  allua_promise_on_cancel (promise, forget_promise, place);
  return allua_await (L, promise);
}

/* listener:wait (): until there is an event. */
static int listener_wait (lua_State *L) {
  struct server *server = check_server (L);
  return server->events ? 0 : await_at (L, &server->acceptor);
}

/* listener:drain (): until no request is under way. */
static int listener_drain (lua_State *L) {
  struct server *server = check_server (L);
  return server->active ? await_at (L, &server->drained) : 0;
}

static int listener_active (lua_State *L) {
  lua_pushinteger (L, (lua_Integer)check_server (L)->active);
  return 1;
}

static void push_span (lua_State *L, const struct http_parser *parser, struct http_span span) {
  lua_pushlstring (L, parser->head + span.at, span.length);
}

static void push_remote (lua_State *L, const struct connection *connection) {
  struct sockaddr_storage address;
  int size = sizeof address;
  char text[64] = "";
  if (uv_tcp_getpeername (&connection->tcp, (struct sockaddr *)&address, &size) == 0)
    uv_ip_name ((struct sockaddr *)&address, text, sizeof text);
  lua_pushstring (L, text);
}

/* listener:next () → nil; or id (its client has left); or
   id, request, method, target, fields, minor, remote, keep_alive, has_body. `fields` is a list of
   names and values by turns. */
static int listener_next (lua_State *L) {
  struct server *server = check_server (L);
  struct connection *connection = server->events;
  const struct http_parser *parser;
  struct request *request;
  bool has_gone;
  size_t i;
  if (!connection)
    return 0;
  luaL_checkstack (L, 12, NULL);
  parser = &connection->parser;
  request = lua_newuserdatauv (L, sizeof *request, 0);
  request->connection = NULL;
  luaL_setmetatable (L, REQUEST);
  has_gone = connection->has_gone;
  lua_pushinteger (L, (lua_Integer)connection->id);
  if (!has_gone) {
    lua_insert (L, -2);
    push_span (L, parser, parser->method);
    push_span (L, parser, parser->target);
    lua_createtable (L, (int)parser->field_count * 2, 0);
    for (i = 0; i < parser->field_count; i++) {
      push_span (L, parser, parser->fields[i].name);
      lua_rawseti (L, -2, (lua_Integer)(2 * i + 1));
      push_span (L, parser, parser->fields[i].value);
      lua_rawseti (L, -2, (lua_Integer)(2 * i + 2));
    }
    lua_pushinteger (L, parser->minor);
    push_remote (L, connection);
    lua_pushboolean (L, parser->keep_alive);
    lua_pushboolean (L, parser->chunked || parser->length);
    request->connection = connection;
    request->id = connection->id;
    connection->references++;
  }
  server->events = connection->next_event;
  if (!server->events)
    server->events_end = &server->events;
  connection->queued = connection->has_gone = false;
  connection_release (connection);
  return has_gone ? 1 : 9;
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

/* request:wait (): until there is some of the body, or its end. Asks for it where the client waits. */
static int request_wait (lua_State *L) {
  static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
  struct connection *connection = need_request (L);
  if (connection->body_length || connection->received)
    return 0;
  if (connection->reader)
    return luaL_error (L, "the body is being read by another task");
  if (connection->parser.expects_continue && !connection->started && !connection->parser.total) {
    connection->parser.expects_continue = false;
    if (!connection_write (connection, go_on, sizeof go_on - 1))
      return raise_left (L);
    connection->started = false;
  }
  connection_read_on (connection);
  return await_at (L, &connection->reader);
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
  return await_at (L, &connection->writer);
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
  if (connection) {
    connection_finish (connection, false);
    connection_drop (connection);
  }
  return 0;
}

static int request_collect (lua_State *L) {
  struct request *request = luaL_checkudata (L, 1, REQUEST);
  if (request->connection)
    connection_release (request->connection);
  request->connection = NULL;
  return 0;
}

static lua_Integer field (lua_State *L, const char *name) {
  lua_Integer value;
  lua_getfield (L, 3, name);
  value = luaL_checkinteger (L, -1);
  lua_pop (L, 1);
  return value;
}

static int push_port (lua_State *L, struct server *server) {
  struct sockaddr_storage address;
  int size = sizeof address;
  unsigned char port[2];
  uv_tcp_getsockname (&server->tcp, (struct sockaddr *)&address, &size);
  /* The port stands at the same place for both families. */
  memcpy (port, (char *)&address + 2, 2);
  lua_pushinteger (L, port[0] << 8 | port[1]);
  return 1;
}

/* serve_listen (address, port, limits) → listener, port; or nil, message */
static int serve_listen (lua_State *L) {
  allua *host = allua_of (L);
  const char *text = luaL_checkstring (L, 1);
  int port = (int)luaL_checkinteger (L, 2);
  struct sockaddr_storage address;
  struct limits limits = { .head = { .head = (size_t)field (L, "head"),
                                     .uri = (size_t)field (L, "uri"),
                                     .fields = (size_t)field (L, "headers") },
                           .body = (uint64_t)field (L, "body"),
                           .head_time = (uint64_t)field (L, "head_time"),
                           .body_time = (uint64_t)field (L, "body_time"),
                           .idle_time = (uint64_t)field (L, "idle_time"),
                           .write_time = (uint64_t)field (L, "write_time"),
                           .connections = (size_t)field (L, "connections") };
  struct server **place, *server;
  int status;
  if (uv_ip4_addr (text, port, (struct sockaddr_in *)&address) < 0
      && uv_ip6_addr (text, port, (struct sockaddr_in6 *)&address) < 0) {
    lua_pushnil (L);
    lua_pushstring (L, "not an address");
    return 2;
  }
  place = lua_newuserdatauv (L, sizeof (struct server *), 0);
  *place = NULL;
  luaL_setmetatable (L, SERVER);
  server = calloc (1, sizeof *server);
  if (!server)
    return luaL_error (L, "not enough memory");
  server->limits = limits;
  server->events_end = &server->events;
  server->references = 1;
  if (uv_tcp_init (allua_loop (host), &server->tcp) < 0) {
    free (server);
    return luaL_error (L, "not enough memory");
  }
  uv_timer_init (allua_loop (host), &server->sweep);
  server->handles = 2;
  server->tcp.data = server->sweep.data = server;
  server->listening = true;
  *place = server;
  status = uv_tcp_bind (&server->tcp, (struct sockaddr *)&address, 0);
  if (status == 0)
    status = uv_listen ((uv_stream_t *)&server->tcp, 511, on_connection);
  if (status < 0) {
    lua_pushcfunction (L, listener_close);
    lua_pushvalue (L, -2);
    lua_call (L, 1, 0);
    lua_pushnil (L);
    lua_pushstring (L, uv_strerror (status));
    return 2;
  }
  uv_timer_start (&server->sweep, on_sweep, 500, 500);
  uv_unref ((uv_handle_t *)&server->sweep);
  push_port (L, server);
  return 2;
}

static const luaL_Reg listener_methods[]
    = { { "active", listener_active }, { "close", listener_close },
        { "drain", listener_drain },   { "next", listener_next },
        { "stop", listener_stop },     { "wait", listener_wait },
        { "__gc", listener_close },    { NULL, NULL } };

static const luaL_Reg request_methods[]
    = { { "drain", request_drain },   { "drop", request_drop },
        { "finish", request_finish }, { "take", request_take },
        { "wait", request_wait },     { "write", request_write },
        { "__gc", request_collect },  { NULL, NULL } };

static void open_class (lua_State *L, const char *name, const luaL_Reg *methods) {
  luaL_newmetatable (L, name);
  luaL_setfuncs (L, methods, 0);
  lua_pushvalue (L, -1);
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
}

void serve_open (lua_State *L) {
  open_class (L, SERVER, listener_methods);
  open_class (L, REQUEST, request_methods);
  lua_pushcfunction (L, serve_listen);
  lua_setfield (L, -2, "serve_listen");
}
