#include "serve.h"

#include <signal.h>
#include <string.h>

#include "connection_accept.h"
#include "connection_sweep.h"
#include "error.h"
#include "file.h"
#include "form.h"
#include "reply.h"
#include "serve_request.h"
#include "serve_work.h"
#include "task.h"

static void on_server_closed (uv_handle_t *handle) {
  struct server *server = handle->data;
  server->handles--;
  server_release (server);
}

static void stop_listening (struct server *server) {
  if (!server->listening)
    return;
  connection_stop_listening (server);
  server_close_idle (server);
}

/* listener:stop (): no new connections, no next requests. */
static int listener_stop (lua_State *L) {
  struct server **place = serve_check_listener (L);
  if (*place)
    stop_listening (*place);
  return 0;
}

/* listener:close (): no connection at all. */
static int listener_close (lua_State *L) {
  struct server **place = serve_check_listener (L), *server = *place;
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

/* listener:wait (): until there is an event. */
static int listener_wait (lua_State *L) {
  struct server *server = serve_check_server (L);
  return server->events ? 0 : serve_await (L, &server->acceptor, "a client");
}

/* A task that runs on the stack of another, which waits for a group, is not what that one waits for. */
static int turned (lua_State *L, int status, lua_KContext ctx) {
  allua *host = (allua *)ctx;
  (void)status;
  task_resumed (L, host);
  if (task_is_cancelled (host->current))
    return task_raise_cancelled (L, host->current);
  if (!host->inside || !host->ready.first)
    return 0;
  ring_push (&host->ready, host->current);
  return task_suspend (L, host->current, WAIT_NOTHING, NULL, ctx, turned);
}

/* listener:turn (): until every task that was ready has run as far as it can. */
static int listener_turn (lua_State *L) {
  allua *host = allua_of (L);
  struct task *task = task_enter (L, host);
  if (!task)
    return 0;
  serve_check_listener (L);
  ring_push (&host->ready, task);
  return task_suspend (L, task, WAIT_NOTHING, NULL, (lua_KContext)host, turned);
}

/* listener:drain (): until no request is under way. */
static int listener_drain (lua_State *L) {
  struct server *server = serve_check_server (L);
  return server->active ? serve_await (L, &server->drained, "requests under way") : 0;
}

/* listener:secure (certificate, key): TLS for the connections that come from now on, by two files in PEM. */
static int listener_secure (lua_State *L) {
  struct server *server = serve_check_server (L);
  struct tls_context *context
      = tls_context_new (L, luaL_checkstring (L, 2), luaL_checkstring (L, 3));
  tls_context_release (server->tls);
  server->tls = context;
  return 0;
}

static int listener_active (lua_State *L) {
  lua_pushinteger (L, (lua_Integer)serve_check_server (L)->active);
  return 1;
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
  socklen_t size = sizeof address;
  unsigned char port[2];
  getsockname (server->fd, (struct sockaddr *)&address, &size);
  /* The port stands at the same place for both families. */
  memcpy (port, (char *)&address + 2, 2);
  lua_pushinteger (L, port[0] << 8 | port[1]);
  return 1;
}

static const luaL_Reg listener_methods[]
    = { { "active", listener_active }, { "answer", serve_answer }, { "close", listener_close },
        { "drain", listener_drain },   { "drop", serve_drop },     { "request", serve_request },
        { "secure", listener_secure }, { "stop", listener_stop },  { "turn", listener_turn },
        { "wait", listener_wait },     { "__gc", listener_close }, { NULL, NULL } };

/* A write to a client that has gone is an error like others, not the end of the program: but what the program
   has set for itself stays. */
static void ignore_broken_pipes (void) {
  struct sigaction action;
  if (sigaction (SIGPIPE, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO)
      && action.sa_handler == SIG_DFL)
    signal (SIGPIPE, SIG_IGN);
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
  ignore_broken_pipes ();
  serve_open_class (L, LISTENER, listener_methods);
  serve_request_open (L);
  serve_work_open (L);
  place = serve_new_listener (L);
  server = mem_resize (&host->mem, NULL, 0, sizeof *server);
  if (!server)
    return error_raise_memory (L, host);
  memset (server, 0, sizeof *server);
  server->mem = host->mem;
  server->host = host;
  server->limits = limits;
  server->events_end = &server->events;
  server->references = 1;
  uv_timer_init (allua_loop (host), &server->sweep);
  server->handles = 1;
  server->sweep.data = server;
  *place = server;
  status = connection_listen (server, allua_loop (host), (struct sockaddr *)&address);
  if (status < 0) {
    luaL_getmetafield (L, -1, "__gc");
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

void serve_open (lua_State *L) {
  static const luaL_Reg functions[] = { { "serve_listen", serve_listen },
                                        { "serve_headers", serve_headers },
                                        { "serve_remote", serve_remote },
                                        { "http_date", reply_date },
                                        { NULL, NULL } };
  luaL_setfuncs (L, functions, 0);
  file_open (L);
  form_open (L);
}
