#include "serve_work.h"

#include <string.h>

#include "json_write.h"
#include "serve_request.h"
#include "task.h"

/* The arguments of listener:work. Behind them: the number of the request, what its event says of it, the event, what
   the handler gave. */
enum { SELF = 1, CLASS, WORKER, RUNNING, ROUTES, OTHERWISE, START, ARGUMENTS = START };
enum { ID = ARGUMENTS + 1, ITS_PATH, ITS_METHOD, EVENT, VALUE };

/* Items of an event, as serve_event.lua says, and of a worker, as serve.lua does. */
enum { EVENT_LISTENER = 1, EVENT_ID, EVENT_HEAD, EVENT_ALTERED };
enum { WORKER_EVENT = 1, WORKER_ID };

/* Strings that each event needs are upvalues: to make them anew would take a hash and a look-up. */
#define GET lua_upvalueindex (1)
#define METHOD lua_upvalueindex (2)
#define PATH lua_upvalueindex (3)

static void push_span (lua_State *L, const struct http_parser *parser, struct http_span span) {
  lua_pushlstring (L, parser->head + span.at, span.length);
}

/* What an event has of its head is a block: the client's address, a NUL, then "name\0value\0" for each field. */
static const char *check_head (lua_State *L, const char **end) {
  const char *head = lua_touserdata (L, 1);
  luaL_argexpected (L, head, 1, "head of an event");
  *end = head + lua_rawlen (L, 1);
  return head;
}

/* serve_remote (head) → the client's address */
int serve_remote (lua_State *L) {
  const char *end;
  lua_pushstring (L, check_head (L, &end));
  return 1;
}

/* serve_headers (head) → name → value, with commas where a name is repeated; cookies with semicolons */
int serve_headers (lua_State *L) {
  const char *end, *at = check_head (L, &end);
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

/* What most handlers do not ask for. */
static void push_head (lua_State *L, const struct connection *connection) {
  const struct http_parser *parser = &connection->parser;
  struct http_span fields = http_parser_fields (parser);
  size_t address = strlen (connection->remote) + 1;
  char *place = lua_newuserdatauv (L, address + fields.length, 0);
  memcpy (place, connection->remote, address);
  memcpy (place + address, parser->head + fields.at, fields.length);
}

/* Most of them are of one method. */
static void push_method (lua_State *L, const struct http_parser *parser) {
  if (parser->method.length == 3 && memcmp (parser->head + parser->method.at, "GET", 3) == 0)
    lua_pushvalue (L, GET);
  else
    push_span (L, parser, parser->method);
}

/* Push its path, its method and the event, whose items are what serve_event.lua says; its fields the method, the
   path, and what is not as usual. */
static void push_event (lua_State *L, const struct connection *connection) {
  const struct http_parser *parser = &connection->parser;
  bool more = push_path (L, parser->head + parser->target.at, parser->target.length);
  push_method (L, parser);
  lua_createtable (L, EVENT_HEAD, 2);
  lua_pushvalue (L, SELF);
  lua_rawseti (L, EVENT, EVENT_LISTENER);
  lua_pushvalue (L, ID);
  lua_rawseti (L, EVENT, EVENT_ID);
  push_head (L, connection);
  lua_rawseti (L, EVENT, EVENT_HEAD);
  lua_pushvalue (L, METHOD);
  lua_pushvalue (L, ITS_METHOD);
  lua_rawset (L, EVENT);
  lua_pushvalue (L, PATH);
  lua_pushvalue (L, ITS_PATH);
  lua_rawset (L, EVENT);
  if (more) {
    push_span (L, parser, parser->target);
    lua_setfield (L, EVENT, "target");
  }
  if (parser->minor == 0) {
    lua_pushinteger (L, 0);
    lua_setfield (L, EVENT, "minor");
  }
  if (!parser->keep_alive) {
    lua_pushboolean (L, 0);
    lua_setfield (L, EVENT, "keep");
  }
  if (parser->chunked || parser->length) {
    lua_pushboolean (L, 1);
    lua_setfield (L, EVENT, "has_body");
  }
  lua_pushvalue (L, CLASS);
  lua_setmetatable (L, EVENT);
}

/* Whether a task is as it was when it began, so that nothing of one request is left for the next. */
static bool is_fresh (const struct task *task) {
  return !task->children && !task->cancelled && !task->exposed && !task->shields;
}

/* Push the number of the next request, and its event where its client has not left. */
static void push_next (lua_State *L, struct server *server) {
  struct connection *connection = server->events;
  lua_pushinteger (L, connection->id);
  if (!connection->has_gone)
    push_event (L, connection);
  server->host->steps--; /* a request is a step of the scheduler's */
  server->events = connection->next_event;
  if (!server->events)
    server->events_end = &server->events;
  connection->queued = connection->has_gone = false;
  connection_release (connection);
}

/* Note whom the worker answers: then who has left can be told to it. */
static void begin (lua_State *L) {
  lua_pushvalue (L, EVENT);
  lua_rawseti (L, WORKER, WORKER_EVENT);
  lua_pushvalue (L, ID);
  lua_rawseti (L, WORKER, WORKER_ID);
  lua_pushvalue (L, WORKER);
  lua_rawseti (L, RUNNING, lua_tointeger (L, ID) % MOST_CONNECTIONS);
}

/* Push the handler for the event: that of its method at its path, or the one for all others. */
static void push_handler (lua_State *L, const allua *host) {
  if (!host->tracer && lua_istable (L, ROUTES)) {
    lua_pushvalue (L, ITS_PATH);
    if (lua_rawget (L, ROUTES) == LUA_TTABLE) {
      lua_pushvalue (L, ITS_METHOD);
      if (lua_rawget (L, -2) != LUA_TNIL) {
        lua_replace (L, VALUE);
        return;
      }
    }
    lua_settop (L, EVENT);
  }
  lua_pushvalue (L, OTHERWISE);
}

/* False: the reply is not the handler's value, a table, and nothing else. */
static bool reply_json (lua_State *L, struct server **place) {
  struct reply reply = { .bare = false };
  char space[4096];
  if (!lua_istable (L, VALUE))
    return false;
  lua_rawgeti (L, EVENT, EVENT_ALTERED);
  if (lua_toboolean (L, -1))
    return false;
  reply.start.bytes = lua_tolstring (L, START, &reply.start.length);
  reply.body.bytes = json_write (L, VALUE, space, sizeof space, &reply.body.length);
  reply.fields.bytes = "";
  serve_send (L, *place, lua_tointeger (L, ID), &reply);
  lua_pushboolean (L, 0);
  lua_rawseti (L, WORKER, WORKER_EVENT);
  return true;
}

static int answered (lua_State *L, int status, lua_KContext ctx);

/* `value`: there is what a handler gave. */
static int answer_all (lua_State *L, bool value) {
  struct server **place = serve_check_listener (L);
  for (;; value = true) {
    struct server *server;
    allua *host;
    if (value && !reply_json (L, place)) {
      lua_settop (L, VALUE);
      return 2;
    }
    lua_settop (L, ARGUMENTS);
    server = *place; /* NULL: closed */
    host = server ? server->host : allua_of (L);
    /* What is traced shows each request as a task. */
    if (!host->current || !is_fresh (host->current) || (value && host->tracer)) {
      lua_pushboolean (L, 0);
      return 1;
    }
    if (!server)
      server = serve_check_server (L); /* which raises */
    if (!server->events)
      return 0;
    if (host->steps <= 0) {
      lua_pushboolean (L, 1);
      return 1;
    }
    push_next (L, server);
    if (lua_gettop (L) == ID)
      return 1;
    begin (L);
    push_handler (L, host);
    lua_pushvalue (L, EVENT);
    lua_callk (L, 1, 1, 0, answered);
  }
}

/* A handler that has waited is done. */
static int answered (lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return answer_all (L, true);
}

/* listener:work (class, worker, running, routes, otherwise, start): answer requests as long as there are any, and the
   task is as good as new after each. → nil: there is none;
   false: the task has something left of its last request, another is to take the next;
   true: it has had its turn, and is to let the loop look at its I/O first;
   id: the client of that request has left;
   event, value: what its handler gave, and is still to be sent.
   What a handler raises is raised. class: the events' metatable; worker: its items are the event and the number of
   the request that is being answered; running: place of a connection → the worker that answered there last; routes:
   path → method → handler, or nil; otherwise: the handler of all other requests; start: what the reply begins with
   where it is a table. */
static int serve_work (lua_State *L) {
  luaL_checktype (L, CLASS, LUA_TTABLE);
  luaL_checktype (L, WORKER, LUA_TTABLE);
  luaL_checktype (L, RUNNING, LUA_TTABLE);
  luaL_checktype (L, START, LUA_TSTRING);
  lua_settop (L, ARGUMENTS);
  return answer_all (L, false);
}

void serve_work_open (lua_State *L) {
  luaL_getmetatable (L, LISTENER);
  if (lua_getfield (L, -1, "work") == LUA_TNIL) {
    lua_pushliteral (L, "GET");
    lua_pushliteral (L, "method");
    lua_pushliteral (L, "path");
    lua_pushcclosure (L, serve_work, 3);
    lua_setfield (L, -3, "work");
  }
  lua_pop (L, 2);
}
