#include "serve_request.h"

#include <string.h>

#include "connection_read.h"
#include "connection_write.h"
#include "error.h"
#include "json.h"
#include "promise_c.h"
#include "promise_object.h"
#include "reply.h"
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

/* Strings that each event needs are upvalues of the methods: to make them anew would take a hash and a look-up. */
#define GET lua_upvalueindex (1)
#define METHOD lua_upvalueindex (2)
#define PATH lua_upvalueindex (3)

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
    lua_pushliteral (L, "GET");
    lua_pushliteral (L, "method");
    lua_pushliteral (L, "path");
    luaL_setfuncs (L, methods, 3);
    lua_pushvalue (L, -1);
    lua_setfield (L, -2, "__index");
  }
  lua_pop (L, 1);
}

static void push_span (lua_State *L, const struct http_parser *parser, struct http_span span) {
  lua_pushlstring (L, parser->head + span.at, span.length);
}

/* serve_headers (head) → name → value, with commas where a name is repeated; cookies with semicolons. `head` is
   the client's address, a NUL, then "name\0value\0" for each field. */
int serve_headers (lua_State *L) {
  size_t length;
  const char *at = luaL_checklstring (L, 1, &length), *end = at + length;
  lua_settop (L, 1);
  lua_newtable (L);
  at += strlen (at) + 1;
  while (at < end) {
    const char *name = at, *value = name + strlen (name) + 1;
    at = value + strlen (value) + 1;
    lua_pushstring (L, name);
    lua_pushvalue (L, -1);
    if (lua_rawget (L, 2) == LUA_TNIL) {
      lua_pop (L, 1);
      lua_pushstring (L, value);
    } else {
      lua_pushstring (L, strcmp (name, "cookie") == 0 ? "; " : ", ");
      lua_pushstring (L, value);
      lua_concat (L, 3);
    }
    lua_rawset (L, 2);
  }
  return 1;
}

/* The path of a target, which is "/path?query", "*" or "http://host/path?query". Gives whether it is not all of it. */
static bool push_path (lua_State *L, const char *target, size_t length) {
  const char *end = target + length, *path = target, *query;
  if (*path != '/' && *path != '*') {
    path = (const char *)memchr (path, ':', length) + 3;
    while (path < end && *path != '/' && *path != '?')
      path++;
  }
  query = memchr (path, '?', (size_t)(end - path));
  if (query)
    end = query;
  if (path == end)
    lua_pushliteral (L, "/");
  else
    lua_pushlstring (L, path, (size_t)(end - path));
  return (size_t)(end - path) != length;
}

/* What most handlers do not ask for, in one string: the client's address, then the fields. */
static void push_head (lua_State *L, const struct connection *connection) {
  const struct http_parser *parser = &connection->parser;
  struct http_span fields = http_parser_fields (parser);
  size_t address = strlen (connection->remote) + 1;
  luaL_Buffer buffer;
  char *place = luaL_buffinitsize (L, &buffer, address + fields.length);
  memcpy (place, connection->remote, address);
  memcpy (place + address, parser->head + fields.at, fields.length);
  luaL_pushresultsize (&buffer, address + fields.length);
}

/* Most of them are of one method. */
static void push_method (lua_State *L, const struct http_parser *parser) {
  if (parser->method.length == 3 && memcmp (parser->head + parser->method.at, "GET", 3) == 0)
    lua_pushvalue (L, GET);
  else
    push_span (L, parser, parser->method);
}

/* The event's items are what serve_event.lua says; its fields the method, the path, and what is not as usual. */
static void push_event (lua_State *L, const struct connection *connection) {
  const struct http_parser *parser = &connection->parser;
  lua_createtable (L, 4, 2);
  lua_pushvalue (L, 1);
  lua_rawseti (L, -2, 1);
  lua_pushinteger (L, connection->id);
  lua_rawseti (L, -2, 2);
  push_head (L, connection);
  lua_rawseti (L, -2, 3);
  lua_pushboolean (L, 0);
  lua_rawseti (L, -2, 4);
  lua_pushvalue (L, METHOD);
  push_method (L, parser);
  lua_rawset (L, -3);
  lua_pushvalue (L, PATH);
  if (push_path (L, parser->head + parser->target.at, parser->target.length)) {
    push_span (L, parser, parser->target);
    lua_setfield (L, -4, "target");
  }
  lua_rawset (L, -3);
  if (parser->minor == 0) {
    lua_pushinteger (L, 0);
    lua_setfield (L, -2, "minor");
  }
  if (!parser->keep_alive) {
    lua_pushboolean (L, 0);
    lua_setfield (L, -2, "keep");
  }
  if (parser->chunked || parser->length) {
    lua_pushboolean (L, 1);
    lua_setfield (L, -2, "has_body");
  }
  lua_pushvalue (L, 2);
  lua_setmetatable (L, -2);
}

/* Whether a task is as it was when it began, so that nothing of one request is left for the next. */
static bool is_fresh (const struct task *task) {
  return !task->children && !task->cancelled && !task->exposed && !task->shields;
}

/* listener:next (metatable) → nil: there is none;
   false: the task that asks has something left of its last request, another is to take the next;
   true: it has had its turn, and is to let the loop look at its I/O first;
   id: the client of that request has left;
   id, event (with that metatable). */
int serve_next (lua_State *L) {
  struct server *server = *serve_check_listener (L); /* NULL: closed */
  allua *host = server ? server->host : allua_of (L);
  struct connection *connection;
  bool has_gone;
  if (!host->current || !is_fresh (host->current)) {
    lua_pushboolean (L, 0);
    return 1;
  }
  server = serve_check_server (L);
  connection = server->events;
  if (!connection)
    return 0;
  if (host->steps <= 0) {
    lua_pushboolean (L, 1);
    return 1;
  }
  luaL_checktype (L, 2, LUA_TTABLE);
  has_gone = connection->has_gone;
  lua_pushinteger (L, connection->id);
  if (!has_gone)
    push_event (L, connection);
  host->steps--; /* a request is a step of the scheduler's */
  server->events = connection->next_event;
  if (!server->events)
    server->events_end = &server->events;
  connection->queued = connection->has_gone = false;
  connection_release (connection);
  return has_gone ? 1 : 2;
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

/* The whole reply to the request whose number is the second argument. */
static void send_reply (lua_State *L, struct server *server, const struct reply *reply) {
  size_t size = reply_size (reply);
  char *place = size > sizeof server->buffer ? lua_newuserdatauv (L, size, 0) : server->buffer;
  struct connection *connection = connection_of (server, luaL_checkinteger (L, 2));
  if (!connection || !reply_send (connection, reply, place))
    raise_left (L);
}

/* listener:answer (id, start, body [, fields [, dated [, bare]]]): the whole reply, and the request is done.
   start: status line and type; body: a string, or a table, which is sent as JSON; fields: more lines of the
   head; dated: the date is among them; bare: such a reply has no body. */
int serve_answer (lua_State *L) {
  struct server *server = serve_check_server (L);
  struct reply reply = { .dated = lua_toboolean (L, 6), .bare = lua_toboolean (L, 7) };
  char space[4096];
  reply.start.bytes = luaL_checklstring (L, 3, &reply.start.length);
  reply.fields.bytes = luaL_optlstring (L, 5, "", &reply.fields.length);
  if (lua_istable (L, 4))
    reply.body.bytes = json_write (L, 4, space, sizeof space, &reply.body.length);
  else
    reply.body.bytes = luaL_checklstring (L, 4, &reply.body.length);
  send_reply (L, server, &reply);
  return 0;
}

/* listener:json (id, start, value) → whether that is a table: then it is the body, and the request is done. */
int serve_json (lua_State *L) {
  struct server *server = serve_check_server (L);
  struct reply reply = { .bare = false };
  char space[4096];
  if (!lua_istable (L, 4))
    return 0;
  reply.start.bytes = luaL_checklstring (L, 3, &reply.start.length);
  reply.body.bytes = json_write (L, 4, space, sizeof space, &reply.body.length);
  reply.fields.bytes = "";
  send_reply (L, server, &reply);
  lua_pushboolean (L, 1);
  return 1;
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
