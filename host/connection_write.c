#include "connection_write.h"

#include <stdio.h>
#include <string.h>

#include "connection_read.h"

enum { TLS_PIECE = 32768 };

struct write {
  uv_write_t request;
  size_t size; /* of this block */
  char data[];
};

static bool send_bytes (struct connection *connection, const char *data, size_t length);

bool connection_send_sealed (struct connection *connection) {
  char *data;
  size_t length = tls_pending (connection->tls, &data);
  bool sent = !length || send_bytes (connection, data, length);
  tls_sent (connection->tls);
  return sent;
}

static void on_written (uv_write_t *request, int status) {
  struct write *write = (struct write *)request;
  struct connection *connection = request->data;
  struct mem mem = connection->server->mem;
  connection->written = connection_now (connection);
  connection_leave_server (connection);
  if (status < 0) {
    connection_close (connection);
  } else if (connection_unsent (connection) <= CONNECTION_LOW) {
    connection_wake (&connection->writer);
    if (connection->waiting && !connection->gone)
      connection_next_request (connection);
  }
  connection_release (connection);
  mem_resize (&mem, write, write->size, 0);
}

static bool send_bytes (struct connection *connection, const char *data, size_t length) {
  struct mem *mem = &connection->server->mem;
  uv_stream_t *stream = (uv_stream_t *)&connection->tcp;
  struct write *write;
  uv_buf_t buffer;
  if (!connection_unsent (connection)) {
    int sent;
    buffer = uv_buf_init ((char *)data, (unsigned)length);
    sent = uv_try_write (stream, &buffer, 1);
    connection->written = connection_now (connection);
    if (sent > 0) {
      data += sent;
      length -= (size_t)sent;
    } else if (sent != UV_EAGAIN) {
      connection_close (connection);
      return false;
    }
  }
  if (!length)
    return true;
  write = mem_resize (mem, NULL, 0, sizeof *write + length);
  if (!write) {
    connection_close (connection);
    return false;
  }
  write->size = sizeof *write + length;
  memcpy (write->data, data, length);
  write->request.data = connection;
  connection->references++;
  buffer = uv_buf_init (write->data, (unsigned)length);
  if (uv_write (&write->request, stream, &buffer, 1, on_written) < 0) {
    connection->references--;
    mem_resize (mem, write, write->size, 0);
    connection_close (connection);
    return false;
  }
  return true;
}

bool connection_write (struct connection *connection, const char *data, size_t length) {
  if (connection->closed || connection->lingering)
    return false;
  connection->started = true;
  if (!connection->tls)
    return send_bytes (connection, data, length);
  /* A piece at a time: OpenSSL keeps for good the memory that it once needed. */
  while (length) {
    size_t piece = length < TLS_PIECE ? length : TLS_PIECE;
    if (!tls_write (connection->tls, data, piece)) {
      connection_close (connection);
      return false;
    }
    if (!connection_send_sealed (connection))
      return false;
    data += piece;
    length -= piece;
  }
  return true;
}

bool connection_continue (struct connection *connection) {
  static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
  bool sent = connection_write (connection, go_on, sizeof go_on - 1);
  connection->started = false;
  return sent;
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

void connection_refuse (struct connection *connection, int status, const char *reason) {
  char text[512];
  int length;
  if (connection->active) {
    connection->has_gone = true;
    connection_tell (connection);
    connection_end_request (connection);
    connection_wake (&connection->reader);
    connection_wake (&connection->writer);
  }
  if (connection->started) {
    connection_close (connection);
    return;
  }
  length = snprintf (text, sizeof text,
                     "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                     status, words (status), strlen (reason) + 1, reason);
  if (connection_write (connection, text, (size_t)length))
    connection_linger (connection);
}
