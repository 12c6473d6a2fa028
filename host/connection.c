#include "connection.h"

#include "connection_accept.h"
#include "connection_read.h"
#include "connection_write.h"

enum { LINGER = 2000 };

void server_release (struct server *server) {
  if (!server->handles && !server->references) {
    struct mem mem = server->mem;
    tls_context_release (server->tls);
    mem_resize (&mem, server->places, server->place_size * sizeof *server->places, 0);
    mem_resize (&mem, server, sizeof *server, 0);
  }
}

void connection_release (struct connection *connection) {
  struct server *server = connection->server;
  if (--connection->references)
    return;
  http_parser_free (&connection->parser);
  tls_free (connection->tls);
  mem_resize (&server->mem, connection->in, connection->in_length, 0);
  mem_resize (&server->mem, connection->body, connection->body_size, 0);
  mem_resize (&server->mem, connection, sizeof *connection, 0);
  server->references--;
  server_release (server);
}

static int push_nothing (lua_State *L, void *data) {
  (void)L;
  (void)data;
  return 0;
}

void connection_tell (struct connection *connection) {
  struct server *server = connection->server;
  allua_promise *promise = server->acceptor;
  if (!connection->queued) {
    connection->queued = true;
    connection->references++;
    connection->next_event = NULL;
    *server->events_end = connection;
    server->events_end = &connection->next_event;
  }
  server->acceptor = NULL;
  if (promise)
    allua_promise_resolve (promise, push_nothing, NULL);
}

void connection_wake (allua_promise **place) {
  allua_promise *promise = *place;
  *place = NULL;
  if (promise)
    allua_promise_resolve (promise, push_nothing, NULL);
}

void connection_leave_server (struct connection *connection) {
  struct server *server = connection->server;
  if (!connection->counted
      || (!connection->closed && (connection->active || connection_unsent (connection))))
    return;
  connection->counted = false;
  if (--server->active == 0)
    connection_wake (&server->drained);
}

void connection_end_request (struct connection *connection) {
  connection->active = false;
  connection_leave_server (connection);
}

static void on_closed (uv_handle_t *handle) {
  struct connection *connection = handle->data;
  struct server *server = connection->server;
  connection_leave_place (connection);
  *connection->previous = connection->next;
  if (connection->next)
    connection->next->previous = connection->previous;
  server->count--;
  connection_accept_postponed (server);
  connection_release (connection);
}

void connection_close (struct connection *connection) {
  if (connection->closed)
    return;
  connection->closed = connection->gone = true;
  connection->deadline = 0;
  connection_wake (&connection->reader);
  connection_wake (&connection->writer);
  if (connection->active) {
    connection->has_gone = true;
    connection_tell (connection);
  }
  connection_end_request (connection);
  uv_close ((uv_handle_t *)&connection->tcp, on_closed);
}

void connection_drop (struct connection *connection) {
  connection_end_request (connection);
  connection_close (connection);
}

static void on_shutdown (uv_shutdown_t *request, int status) {
  struct connection *connection = request->data;
  if (status < 0 || connection->ended)
    connection_close (connection);
  else if (!connection->closed)
    connection->deadline = connection_now (connection) + LINGER;
  connection_release (connection);
}

void connection_linger (struct connection *connection) {
  if (connection->closed || connection->lingering)
    return;
  if (connection->tls) {
    tls_end (connection->tls);
    if (!connection_send_sealed (connection))
      return;
  }
  connection->gone = connection->lingering = true;
  connection->deadline = 0;
  connection->shutdown.data = connection;
  connection->references++;
  if (uv_shutdown (&connection->shutdown, (uv_stream_t *)&connection->tcp, on_shutdown) < 0) {
    connection->references--;
    connection_close (connection);
    return;
  }
  connection_read_start (connection);
}

void connection_finish (struct connection *connection, bool keep_alive) {
  if (!connection->active)
    return;
  connection_end_request (connection);
  if (connection->closed)
    return;
  if (!keep_alive || !connection->received || !connection->server->listening)
    connection_linger (connection);
  else if (connection_unsent (connection) > CONNECTION_HIGH)
    connection->waiting = true;
  else
    connection_next_request (connection);
}

void connection_close_idle (struct connection *connection) {
  if (connection->tls || connection_unsent (connection))
    connection_linger (connection);
  else
    connection_close (connection);
}

void server_close_idle (struct server *server) {
  struct connection *connection, *next;
  for (connection = server->connections; connection; connection = next) {
    next = connection->next;
    if (connection_is_idle (connection))
      connection_close_idle (connection);
  }
}
