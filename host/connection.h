/* A client's connection, from its first request to its end. No Lua. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include "http_parser.h"
#include "state.h"
#include "tls.h"

struct limits {
  struct http_limits head;
  uint64_t body;                                        /* bytes */
  uint64_t head_time, body_time, idle_time, write_time; /* milliseconds */
  size_t connections;
};

/* A connection's place, by which a request's number leads to it. */
struct place_of_connection {
  struct connection *connection; /* NULL: free */
  uint32_t next_free;
};

struct server {
  struct mem mem; /* a copy: the server may close after its host */
  allua *host;    /* while the listener is open */
  uv_poll_t
      listener; /* of `fd`: what comes is accepted here, since libuv drops it where there is no descriptor */
  int fd;
  int waiting; /* a client that has been accepted, and waits for memory; -1: none */
  uv_timer_t sweep;
  struct limits limits;
  struct tls_context *tls; /* of new connections; NULL: plain */
  struct connection *connections;
  struct place_of_connection *places;
  uint32_t place_size, free_place;         /* place_size: none */
  struct connection *events, **events_end; /* of which the listener has something to tell */
  allua_promise *acceptor, *drained;
  size_t room; /* connections that may come before the free descriptors are counted again */
  size_t count, active; /* connections; those with a request under way or a reply being sent */
  uint64_t serial;
  unsigned handles, references; /* the struct is freed when both are 0 */
  bool listening, postponed;
  time_t dated_at;
  char date[40];      /* the line of a reply's head, made once a second */
  char buffer[65536]; /* what is read; outside of that, a reply that is put together */
  char opened[16384]; /* what of it TLS has opened */
};

struct connection {
  uv_tcp_t tcp;
  uv_shutdown_t shutdown;
  struct server *server;
  struct connection *next, **previous; /* all of the server's */
  struct connection *next_event;
  struct tls *tls; /* NULL: plain */
  struct http_parser parser;
  char remote[46]; /* the client's address */
  lua_Integer id;  /* of the request: its number, times MOST_CONNECTIONS, and the place */
  uint32_t place;
  char *in; /* what came behind the request */
  size_t in_length;
  char *body; /* what the handler has not read yet */
  size_t body_length, body_size;
  allua_promise *reader, *writer;
  uint64_t deadline;                     /* milliseconds of the loop's clock; 0: none */
  uint64_t body_began, written, pending; /* pending: bytes not written at the last look */
  unsigned references;
  bool queued, has_gone; /* an event: a request, or that its client has left */
  bool active, received, started, gone, reading, lingering, closed;
  bool counted; /* among the server's active */
  bool waiting; /* the next request waits until the client has taken most of the replies */
  bool ended;   /* the client has said that it sends no more */
  bool probed;  /* it was sent something since, so that a reset comes back where nobody is there */
};

enum { CONNECTION_HIGH = 262144, CONNECTION_LOW = 65536, MOST_CONNECTIONS = 1 << 20 };

/* The connection of a request that is still under way, or NULL. */
static inline struct connection *connection_of (const struct server *server, lua_Integer id) {
  size_t place = (size_t)id % MOST_CONNECTIONS;
  struct connection *connection
      = place < server->place_size ? server->places[place].connection : NULL;
  return connection && connection->id == id && connection->active && !connection->gone ? connection
                                                                                       : NULL;
}

static inline uint64_t connection_now (const struct connection *connection) {
  return uv_now (connection->tcp.loop);
}

/* How many bytes the client has not taken yet. */
static inline size_t connection_unsent (const struct connection *connection) {
  return uv_stream_get_write_queue_size ((const uv_stream_t *)&connection->tcp);
}

/* Whether it is between two requests. */
static inline bool connection_is_idle (const struct connection *connection) {
  return !connection->active && !connection->lingering;
}

/* The listener has something to tell. */
void connection_tell (struct connection *connection);

/* Resolve the promise at that place, if there is one. */
void connection_wake (allua_promise **place);

void connection_end_request (struct connection *connection);

/* Count it no longer among the server's active, unless it is: a server that closes waits for requests, and for
   replies that are still being sent. */
void connection_leave_server (struct connection *connection);

/* The reply is complete: on to the next request, or the end. */
void connection_finish (struct connection *connection, bool keep_alive);

/* Say that no more comes, and close when the client has read it, or has had time to, once all is sent. */
void connection_linger (struct connection *connection);

/* Close it at once. */
void connection_close (struct connection *connection);

/* Close one between two requests: the client learns that no more comes; what it has not got yet comes first. */
void connection_close_idle (struct connection *connection);

/* No reply any more. */
void connection_drop (struct connection *connection);

/* Let go of a reference. */
void connection_release (struct connection *connection);
void server_release (struct server *server);

/* Close those between two requests. */
void server_close_idle (struct server *server);

#endif
