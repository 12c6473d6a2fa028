#include "connection_sweep.h"

#include <sys/socket.h>

#include "connection_accept.h"
#include "connection_write.h"

enum { QUIET = 500 };

/* Whether the client's system has said that nobody is there any more. */
static bool is_reset (const struct connection *connection) {
  int error = 0, fd;
  socklen_t size = sizeof error;
  return uv_fileno ((const uv_handle_t *)&connection->tcp, &fd) == 0
         && getsockopt (fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error;
}

/* One that sends no more gets what goes on being written. Where that stops, an interim reply asks whether
   anybody is there; where none can be sent, nobody is. */
static void look_after_end (struct connection *connection, bool quiet) {
  if (is_reset (connection)) {
    connection_close (connection);
  } else if (quiet && !connection->probed) {
    connection->probed = true;
    if (connection->started || connection->parser.minor == 0)
      connection_close (connection);
    else
      connection_continue (connection);
  }
}

static void enforce (struct connection *connection) {
  size_t pending = connection_unsent (connection);
  uint64_t time = connection_now (connection);
  if (connection->closed)
    return;
  if (pending != connection->pending)
    connection->written = time;
  connection->pending = pending;
  if (connection->ended && connection->active)
    look_after_end (connection, !pending && time >= connection->written + QUIET);
  if (pending && time >= connection->written + connection->server->limits.write_time) {
    connection_close (connection);
  } else if (connection->deadline && time >= connection->deadline) {
    if (connection->active
        || (connection_is_idle (connection) && http_parser_has_begun (&connection->parser)))
      connection_refuse (connection, 408, "the request did not come in time");
    else if (connection_is_idle (connection))
      connection_close_idle (connection);
    else
      connection_close (connection);
  }
}

void on_sweep (uv_timer_t *timer) {
  struct server *server = timer->data;
  struct connection *connection, *next;
  for (connection = server->connections; connection; connection = next) {
    next = connection->next;
    enforce (connection);
  }
  /* One for which there was no memory, or no descriptor, waits still. */
  connection_accept_postponed (server);
}
