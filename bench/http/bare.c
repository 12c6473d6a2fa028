/* bare: the limit of the HTTP benchmark: libuv, the parser, one reply. No Lua, no routes, no deadlines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "http_parser.h"

static const char reply[]
    = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n"
      "{\"message\":\"Hello, World!\"}";

struct client {
  uv_tcp_t tcp;
  struct http_parser parser;
};

static struct mem mem;
static char buffer[65536];

static void on_closed (uv_handle_t *handle) {
  struct client *client = handle->data;
  http_parser_free (&client->parser);
  free (client);
}

static void on_allocate (uv_handle_t *handle, size_t suggested, uv_buf_t *place) {
  (void)handle;
  (void)suggested;
  *place = uv_buf_init (buffer, sizeof buffer);
}

static void on_read (uv_stream_t *stream, ssize_t count, const uv_buf_t *read) {
  struct client *client = stream->data;
  size_t at = 0;
  if (count < 0) {
    uv_close ((uv_handle_t *)stream, on_closed);
    return;
  }
  while (true) {
    enum http_event event;
    at += http_parser_run (&client->parser, read->base + at, (size_t)count - at, &event);
    if (event == HTTP_END) {
      uv_buf_t out = uv_buf_init ((char *)reply, sizeof reply - 1);
      http_parser_reset (&client->parser);
      if (uv_try_write (stream, &out, 1) == (int)out.len)
        continue;
    } else if (event != HTTP_REFUSED && event != HTTP_MORE) {
      continue;
    }
    if (event != HTTP_MORE)
      uv_close ((uv_handle_t *)stream, on_closed);
    return;
  }
}

static void on_connection (uv_stream_t *server, int status) {
  static const struct http_limits limits = { .head = 16384, .uri = 8192, .fields = 100 };
  struct client *client = status == 0 ? malloc (sizeof *client) : NULL;
  if (!client)
    return;
  uv_tcp_init (server->loop, &client->tcp);
  client->tcp.data = client;
  http_parser_init (&client->parser, &limits, &mem);
  if (uv_accept (server, (uv_stream_t *)&client->tcp) != 0) {
    uv_close ((uv_handle_t *)&client->tcp, on_closed);
    return;
  }
  uv_tcp_nodelay (&client->tcp, 1);
  uv_read_start ((uv_stream_t *)&client->tcp, on_allocate, on_read);
}

int main (void) {
  struct sockaddr_in address;
  int size = sizeof address;
  uv_tcp_t server;
  mem_init (&mem, NULL, NULL, 0);
  uv_ip4_addr ("127.0.0.1", 0, &address);
  if (uv_tcp_init (uv_default_loop (), &server) != 0
      || uv_tcp_bind (&server, (struct sockaddr *)&address, 0) != 0
      || uv_listen ((uv_stream_t *)&server, 511, on_connection) != 0)
    return EXIT_FAILURE;
  uv_tcp_getsockname (&server, (struct sockaddr *)&address, &size);
  printf ("%d\n", ntohs (address.sin_port));
  fflush (stdout);
  return uv_run (uv_default_loop (), UV_RUN_DEFAULT);
}
