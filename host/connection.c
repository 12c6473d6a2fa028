#include "connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_BOUND = 262144, IN_BOUND = 65536, LINGER = 2000 };

struct write {
  uv_write_t request;
  char data[];
};

static uint64_t now (const struct connection *connection) {
  return uv_now (connection->tcp.loop);
}

void server_release (struct server *server) {
  if (!server->handles && !server->references)
    free (server);
}

void connection_release (struct connection *connection) {
  struct server *server = connection->server;
  if (--connection->references)
    return;
  http_parser_free (&connection->parser);
  free (connection->in);
  free (connection->body);
  free (connection);
  server->references--;
  server_release (server);
}

static int push_nothing (lua_State *L, void *data) {
  (void)L;
  (void)data;
  return 0;
}

/* The listener has something to tell. */
static void tell (struct connection *connection) {
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

static void wake (allua_promise **place) {
  allua_promise *promise = *place;
  *place = NULL;
  if (promise)
    allua_promise_resolve (promise, push_nothing, NULL);
}

static void end_request (struct connection *connection) {
  struct server *server = connection->server;
  if (!connection->active)
    return;
  connection->active = false;
  if (--server->active == 0)
    wake (&server->drained);
}

static void on_closed (uv_handle_t *handle) {
  struct connection *connection = handle->data;
  struct server *server = connection->server;
  *connection->previous = connection->next;
  if (connection->next)
    connection->next->previous = connection->previous;
  server->count--;
  if (server->postponed && server->listening) {
    server->postponed = false;
    connection_accept (server);
  }
  connection_release (connection);
}

static void close_now (struct connection *connection) {
  if (connection->closed)
    return;
  connection->closed = connection->gone = true;
  connection->deadline = 0;
  wake (&connection->reader);
  wake (&connection->writer);
  if (connection->active) {
    connection->has_gone = true;
    tell (connection);
  }
  end_request (connection);
  uv_close ((uv_handle_t *)&connection->tcp, on_closed);
}

void connection_drop (struct connection *connection) {
  close_now (connection);
}

static void on_shutdown (uv_shutdown_t *request, int status) {
  struct connection *connection = request->data;
  if (status < 0)
    close_now (connection);
  connection_release (connection);
}

static void read_start (struct connection *connection);

/* Say that no more comes, and close when the client has read it, or has had time to. */
static void linger (struct connection *connection) {
  if (connection->closed || connection->lingering)
    return;
  connection->lingering = true;
  connection->deadline = now (connection) + LINGER;
  connection->shutdown.data = connection;
  connection->references++;
  if (uv_shutdown (&connection->shutdown, (uv_stream_t *)&connection->tcp, on_shutdown) < 0) {
    connection->references--;
    close_now (connection);
    return;
  }
  read_start (connection);
}

static void on_written (uv_write_t *request, int status) {
  struct connection *connection = request->data;
  connection->written = now (connection);
  if (status < 0)
    close_now (connection);
  else if (uv_stream_get_write_queue_size ((uv_stream_t *)&connection->tcp) <= CONNECTION_LOW)
    wake (&connection->writer);
  connection_release (connection);
  free (request);
}

bool connection_write (struct connection *connection, const char *data, size_t length) {
  uv_stream_t *stream = (uv_stream_t *)&connection->tcp;
  struct write *write;
  uv_buf_t buffer;
  if (connection->closed || connection->lingering)
    return false;
  connection->started = true;
  if (!uv_stream_get_write_queue_size (stream)) {
    int sent;
    buffer = uv_buf_init ((char *)data, (unsigned)length);
    sent = uv_try_write (stream, &buffer, 1);
    connection->written = now (connection);
    if (sent > 0) {
      data += sent;
      length -= (size_t)sent;
    } else if (sent != UV_EAGAIN) {
      close_now (connection);
      return false;
    }
  }
  if (!length)
    return true;
  write = malloc (sizeof *write + length);
  if (!write) {
    close_now (connection);
    return false;
  }
  memcpy (write->data, data, length);
  write->request.data = connection;
  connection->references++;
  buffer = uv_buf_init (write->data, (unsigned)length);
  if (uv_write (&write->request, stream, &buffer, 1, on_written) < 0) {
    connection->references--;
    free (write);
    close_now (connection);
    return false;
  }
  return true;
}

static const char *words (int status) {
  switch (status) {
  case 408:
    return "Request Timeout";
  case 413:
    return "Content Too Large";
  case 414:
    return "URI Too Long";
  case 417:
    return "Expectation Failed";
  case 431:
    return "Request Header Fields Too Large";
  case 501:
    return "Not Implemented";
  case 503:
    return "Service Unavailable";
  case 505:
    return "HTTP Version Not Supported";
  default:
    return "Bad Request";
  }
}

/* An answer without a handler, which is the last. */
static void refuse (struct connection *connection, int status, const char *reason) {
  char text[512];
  int length;
  if (connection->active) {
    connection->has_gone = true;
    tell (connection);
    end_request (connection);
    wake (&connection->reader);
    wake (&connection->writer);
  }
  if (connection->started) {
    close_now (connection);
    return;
  }
  length = snprintf (text, sizeof text,
                     "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                     status, words (status), strlen (reason) + 1, reason);
  if (connection_write (connection, text, (size_t)length)) {
    connection->gone = true;
    linger (connection);
  }
}

static bool append (struct connection *connection, const char *data, size_t length) {
  if (connection->body_length + length > connection->body_size) {
    size_t size = connection->body_length + length;
    char *body = realloc (connection->body, size + size / 2);
    if (!body)
      return false;
    connection->body = body;
    connection->body_size = size + size / 2;
  }
  memcpy (connection->body + connection->body_length, data, length);
  connection->body_length += length;
  return true;
}

static void begin_request (struct connection *connection) {
  struct server *server = connection->server;
  if (connection->parser.length > server->limits.body) {
    refuse (connection, 413, "the body is too long");
    return;
  }
  connection->active = true;
  connection->received = connection->started = false;
  connection->id = ++server->serial;
  connection->deadline = 0;
  connection->body_began = now (connection);
  server->active++;
  tell (connection);
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
      in = realloc (connection->in, connection->in_length + length - at);
      if (!in) {
        close_now (connection);
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
        connection->deadline = now (connection) + limits->head_time;
      }
      return;
    case HTTP_HEAD:
      begin_request (connection);
      break;
    case HTTP_BODY:
      if (parser->total > limits->body)
        refuse (connection, 413, "the body is too long");
      else if (!append (connection, parser->body, parser->body_length))
        close_now (connection);
      else
        wake (&connection->reader);
      break;
    case HTTP_END:
      connection->received = true;
      connection->deadline = 0;
      wake (&connection->reader);
      break;
    default:
      refuse (connection, parser->status, parser->reason);
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

static void on_read (uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
  struct connection *connection = stream->data;
  if (count < 0) {
    close_now (connection);
    return;
  }
  if (connection->lingering || count == 0)
    return;
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

static void read_start (struct connection *connection) {
  if (connection->closed || connection->reading || !wants_more (connection))
    return;
  connection->reading = true;
  if (uv_read_start ((uv_stream_t *)&connection->tcp, on_allocate, on_read) < 0)
    close_now (connection);
}

void connection_read_on (struct connection *connection) {
  if (connection->closed || connection->reading || !wants_more (connection))
    return;
  read_start (connection);
  connection->body_began = now (connection);
  set_body_deadline (connection);
}

void connection_finish (struct connection *connection, bool keep_alive) {
  struct server *server = connection->server;
  char *in = connection->in;
  size_t length = connection->in_length;
  if (!connection->active)
    return;
  end_request (connection);
  if (connection->closed)
    return;
  if (!keep_alive || !connection->received || !server->listening) {
    connection->gone = true;
    linger (connection);
    return;
  }
  http_parser_reset (&connection->parser);
  free (connection->body);
  connection->body = NULL;
  connection->body_length = connection->body_size = 0;
  connection->received = connection->started = false;
  connection->body_began = 0;
  connection->deadline = now (connection) + server->limits.idle_time;
  connection->in = NULL;
  connection->in_length = 0;
  if (length)
    parse (connection, in, length);
  free (in);
  read_start (connection);
}

void connection_accept (struct server *server) {
  struct connection *connection;
  if (server->count >= server->limits.connections) {
    server->postponed = true; /* accepting goes on when one has closed */
    return;
  }
  connection = calloc (1, sizeof *connection);
  if (!connection) {
    server->postponed = true;
    return;
  }
  if (uv_tcp_init (server->tcp.loop, &connection->tcp) < 0) {
    free (connection);
    server->postponed = true;
    return;
  }
  connection->tcp.data = connection;
  connection->server = server;
  connection->references = 1;
  server->references++;
  http_parser_init (&connection->parser, &server->limits.head);
  connection->next = server->connections;
  connection->previous = &server->connections;
  if (connection->next)
    connection->next->previous = &connection->next;
  server->connections = connection;
  server->count++;
  if (uv_accept ((uv_stream_t *)&server->tcp, (uv_stream_t *)&connection->tcp) < 0) {
    close_now (connection);
    return;
  }
  uv_tcp_nodelay (&connection->tcp, 1);
  connection->deadline = now (connection) + server->limits.head_time;
  read_start (connection);
}

static bool is_idle (const struct connection *connection) {
  return !connection->active && !connection->lingering;
}

void server_close_idle (struct server *server) {
  struct connection *connection, *next;
  for (connection = server->connections; connection; connection = next) {
    next = connection->next;
    if (is_idle (connection))
      close_now (connection);
  }
}

static void enforce (struct connection *connection) {
  size_t pending = uv_stream_get_write_queue_size ((uv_stream_t *)&connection->tcp);
  uint64_t time = now (connection);
  if (connection->closed)
    return;
  if (pending != connection->pending)
    connection->written = time;
  connection->pending = pending;
  if (pending && time >= connection->written + connection->server->limits.write_time) {
    close_now (connection);
  } else if (connection->deadline && time >= connection->deadline) {
    if (connection->active || (is_idle (connection) && http_parser_has_begun (&connection->parser)))
      refuse (connection, 408, "the request did not come in time");
    else
      close_now (connection);
  }
}

void on_sweep (uv_timer_t *timer) {
  struct server *server = timer->data;
  struct connection *connection, *next;
  for (connection = server->connections; connection; connection = next) {
    next = connection->next;
    enforce (connection);
  }
}
