#include "connection_read.h"

#include <string.h>

#include "connection_write.h"

enum { BODY_BOUND = 262144, IN_BOUND = 65536 };

static bool append (struct connection *connection, const char *data, size_t length) {
  if (connection->body_length + length > connection->body_size) {
    size_t size = (connection->body_length + length) * 3 / 2;
    char *body
        = mem_resize (&connection->server->mem, connection->body, connection->body_size, size);
    if (!body)
      return false;
    connection->body = body;
    connection->body_size = size;
  }
  memcpy (connection->body + connection->body_length, data, length);
  connection->body_length += length;
  return true;
}

static void begin_request (struct connection *connection) {
  struct server *server = connection->server;
  if (connection->parser.length > server->limits.body) {
    connection_refuse (connection, 413, "the body is too long");
    return;
  }
  if (!connection->counted)
    server->active++;
  connection->active = connection->counted = true;
  connection->received = connection->started = false;
  connection->id = (lua_Integer)(++server->serial * MOST_CONNECTIONS + connection->place);
  connection->deadline = 0;
  connection->body_began = connection_now (connection);
  connection_tell (connection);
}

/* Parse what came. What is behind a complete request is kept until that is answered. */
static void parse (struct connection *connection, const char *data, size_t length) {
  struct http_parser *parser = &connection->parser;
  const struct limits *limits = &connection->server->limits;
  size_t at = 0;
  while (!connection->gone) {
    enum http_event event;
    if (connection->received) {
      char *in;
      if (at == length)
        return;
      in = mem_resize (&connection->server->mem, connection->in, connection->in_length,
                       connection->in_length + length - at);
      if (!in) {
        connection_close (connection);
        return;
      }
      memcpy (in + connection->in_length, data + at, length - at);
      connection->in = in;
      connection->in_length += length - at;
      return;
    }
    at += http_parser_run (parser, data + at, length - at, &event);
    switch (event) {
    case HTTP_MORE:
      if (!connection->active && http_parser_has_begun (parser) && !connection->body_began) {
        connection->body_began = 1;
        connection->deadline = connection_now (connection) + limits->head_time;
      }
      return;
    case HTTP_HEAD:
      begin_request (connection);
      break;
    case HTTP_BODY:
      if (parser->total > limits->body)
        connection_refuse (connection, 413, "the body is too long");
      else if (!append (connection, parser->body, parser->body_length))
        connection_close (connection);
      else
        connection_wake (&connection->reader);
      break;
    case HTTP_END:
      connection->received = true;
      connection->deadline = 0;
      connection_wake (&connection->reader);
      break;
    default:
      connection_refuse (connection, parser->status, parser->reason);
      break;
    }
  }
}

static bool wants_more (const struct connection *connection) {
  return connection->lingering
         || (connection->body_length < BODY_BOUND && connection->in_length < IN_BOUND);
}

/* A body must come at a kilobyte a second, after its first seconds. */
static void set_body_deadline (struct connection *connection) {
  if (connection->active && !connection->received && connection->reading)
    connection->deadline = connection->body_began + connection->server->limits.body_time
                           + connection->parser.total * 1000 / 1024;
}

/* The client sends no more. It may wait for its replies all the same (RFC 9112, 9.6), or be gone: that looks
   the same from here, and on_sweep finds it out. Over TLS nobody does the former. */
static void end_reading (struct connection *connection) {
  connection->ended = true;
  connection->reading = false;
  uv_read_stop ((uv_stream_t *)&connection->tcp);
  if (connection->active && connection->received && !connection->tls)
    connection->written = connection_now (connection);
  else if (connection->active || !connection_unsent (connection))
    connection_close (connection);
  else if (!connection->waiting)
    connection_linger (connection);
}

/* Open what came, and parse it. */
static void parse_sealed (struct connection *connection, const char *data, size_t length) {
  struct server *server = connection->server;
  int count = TLS_BROKEN;
  if (tls_feed (connection->tls, data, length))
    while ((count = tls_read (connection->tls, server->opened, sizeof server->opened)) > 0
           && !connection->gone)
      parse (connection, server->opened, (size_t)count);
  if (connection->closed || connection->lingering || !connection_send_sealed (connection))
    return;
  if (count == TLS_ENDED)
    end_reading (connection);
  else if (count == TLS_BROKEN)
    connection_close (connection);
}

static void on_read (uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
  struct connection *connection = stream->data;
  if (count < 0) {
    if (count == UV_EOF)
      end_reading (connection);
    else
      connection_close (connection);
    return;
  }
  if (connection->lingering || count == 0)
    return;
  if (connection->tls)
    parse_sealed (connection, buffer->base, (size_t)count);
  else
    parse (connection, buffer->base, (size_t)count);
  if (!connection->closed && !wants_more (connection)) {
    uv_read_stop (stream);
    connection->reading = false;
    if (connection->active)
      connection->deadline = 0;
  }
  if (!connection->gone)
    set_body_deadline (connection);
}

static void on_allocate (uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
  struct connection *connection = handle->data;
  (void)suggested;
  *buffer = uv_buf_init (connection->server->buffer, sizeof connection->server->buffer);
}

bool connection_owns (const uv_handle_t *handle) {
  return handle->type == UV_TCP && ((const uv_stream_t *)handle)->alloc_cb == on_allocate;
}

void connection_read_start (struct connection *connection) {
  if (connection->closed || connection->reading || connection->ended || !wants_more (connection))
    return;
  connection->reading = true;
  if (uv_read_start ((uv_stream_t *)&connection->tcp, on_allocate, on_read) < 0)
    connection_close (connection);
}

void connection_read_on (struct connection *connection) {
  if (connection->closed || connection->reading || connection->ended || !wants_more (connection))
    return;
  connection_read_start (connection);
  connection->body_began = connection_now (connection);
  set_body_deadline (connection);
}

void connection_next_request (struct connection *connection) {
  struct server *server = connection->server;
  char *in = connection->in;
  size_t length = connection->in_length;
  http_parser_reset (&connection->parser);
  mem_resize (&server->mem, connection->body, connection->body_size, 0);
  connection->body = NULL;
  connection->body_length = connection->body_size = 0;
  connection->received = connection->started = connection->waiting = false;
  connection->body_began = 0;
  connection->deadline = connection_now (connection) + server->limits.idle_time;
  connection->in = NULL;
  connection->in_length = 0;
  if (length)
    parse (connection, in, length);
  mem_resize (&server->mem, in, length, 0);
  connection_read_start (connection);
  if (connection->ended && !connection->active)
    connection_linger (connection);
}
