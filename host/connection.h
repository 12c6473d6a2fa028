/* A client's connection: bytes in through the parser, bytes out with backpressure, deadlines. No Lua. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include "http_parser.h"
#include "state.h"

struct limits {
  struct http_limits head;
  uint64_t body;                                        /* bytes */
  uint64_t head_time, body_time, idle_time, write_time; /* milliseconds */
  size_t connections;
};

struct server {
  uv_tcp_t tcp;
  uv_timer_t sweep;
  struct limits limits;
  struct connection *connections;
  struct connection *events, **events_end; /* of which the listener has something to tell */
  allua_promise *acceptor, *drained;
  size_t count, active; /* connections; those with a request under way */
  uint64_t serial;
  unsigned handles, references; /* the struct is freed when both are 0 */
  bool listening, postponed;
  char buffer[65536];
};

struct connection {
  uv_tcp_t tcp;
  uv_shutdown_t shutdown;
  struct server *server;
  struct connection *next, **previous; /* all of the server's */
  struct connection *next_event;
  struct http_parser parser;
  uint64_t id; /* of the request */
  char *in;    /* what came behind the request */
  size_t in_length;
  char *body; /* what the handler has not read yet */
  size_t body_length, body_size;
  allua_promise *reader, *writer;
  uint64_t deadline;                     /* milliseconds of the loop's clock; 0: none */
  uint64_t body_began, written, pending; /* pending: bytes not written at the last look */
  unsigned references;
  bool queued, has_gone; /* an event: a request, or that its client has left */
  bool active, received, started, gone, reading, lingering, closed;
};

enum { CONNECTION_HIGH = 262144, CONNECTION_LOW = 65536 };

void connection_accept (struct server *server);

/* The first bytes go at once, the others when the client takes them. False: no memory or no client. */
bool connection_write (struct connection *connection, const char *data, size_t length);

/* The reply is complete: on to the next request, or the end. */
void connection_finish (struct connection *connection, bool keep_alive);

/* Bytes of the body were taken: go on reading. */
void connection_read_on (struct connection *connection);

/* No reply any more. */
void connection_drop (struct connection *connection);

/* Let go of a reference. */
void connection_release (struct connection *connection);
void server_release (struct server *server);

/* Close those between two requests. */
void server_close_idle (struct server *server);

/* The timer that enforces every deadline. */
void on_sweep (uv_timer_t *timer);

#endif
