/* NOLINTNEXTLINE(bugprone-reserved-identifier): the C library's; for accept4. */
#define _GNU_SOURCE

#include "connection_accept.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connection_read.h"

/* Descriptors that are left to handlers, for files and connections of their own. */
enum { SPARE_DESCRIPTORS = 16 };

enum { BACKLOG = 511, AT_ONCE = 64 /* clients in a turn */ };

/* How many descriptors are free, up to `enough`. */
static size_t count_free (size_t enough) {
  struct rlimit most;
  struct pollfd some[256];
  size_t found = 0;
  rlim_t at = 0;
  if (getrlimit (RLIMIT_NOFILE, &most) != 0)
    return enough;
  while (at < most.rlim_cur && found < enough) {
    nfds_t i, count = 0;
    while (count < sizeof some / sizeof *some && at < most.rlim_cur)
      some[count++] = (struct pollfd){ .fd = (int)at++ };
    poll (some, count, 0);
    for (i = 0; i < count; i++)
      found += (some[i].revents & POLLNVAL) != 0;
  }
  return found;
}

/* Whether the connection that waits may come in. Others take descriptors too: half of what is free goes to
   connections before it is looked at again. */
static bool has_place (struct server *server) {
  if (server->count >= server->limits.connections || server->count >= MOST_CONNECTIONS)
    return false;
  if (!server->room) {
    size_t found = count_free (1024);
    server->room = found > SPARE_DESCRIPTORS ? (found - SPARE_DESCRIPTORS + 1) / 2 : 0;
  }
  return server->room > 0;
}

/* False: no memory. */
static bool take_place (struct server *server, struct connection *connection) {
  if (server->free_place == server->place_size) {
    uint32_t size = server->place_size ? server->place_size * 2 : 64;
    struct place_of_connection *places = mem_resize (
        &server->mem, server->places, server->place_size * sizeof *places, size * sizeof *places);
    if (!places)
      return false;
    server->places = places;
    for (; server->place_size < size; server->place_size++)
      places[server->place_size]
          = (struct place_of_connection){ .next_free = server->place_size + 1 };
  }
  connection->place = server->free_place;
  server->free_place = server->places[connection->place].next_free;
  server->places[connection->place].connection = connection;
  return true;
}

void connection_leave_place (struct connection *connection) {
  struct server *server = connection->server;
  server->places[connection->place]
      = (struct place_of_connection){ .next_free = server->free_place };
  server->free_place = connection->place;
}

/* One for the client at `fd`, or NULL: no memory. */
static struct connection *make (struct server *server, int fd, const struct sockaddr *address) {
  struct connection *connection = mem_resize (&server->mem, NULL, 0, sizeof *connection);
  if (!connection)
    return NULL;
  memset (connection, 0, sizeof *connection);
  connection->server = server;
  if ((server->tls && !(connection->tls = tls_new (server->tls)))
      || !take_place (server, connection)) {
    tls_free (connection->tls);
    mem_resize (&server->mem, connection, sizeof *connection, 0);
    return NULL;
  }
  uv_tcp_init (server->listener.loop, &connection->tcp); /* which cannot fail without a socket */
  connection->tcp.data = connection;
  connection->references = 1;
  server->references++;
  http_parser_init (&connection->parser, &server->limits.head, &server->mem);
  connection->next = server->connections;
  connection->previous = &server->connections;
  if (connection->next)
    connection->next->previous = &connection->next;
  server->connections = connection;
  server->count++;
  if (uv_tcp_open (&connection->tcp, fd) < 0) {
    close (fd);
    connection_close (connection);
    return connection;
  }
  uv_tcp_nodelay (&connection->tcp, 1);
  uv_ip_name (address, connection->remote, sizeof connection->remote);
  connection->deadline = connection_now (connection) + server->limits.head_time;
  connection_read_start (connection);
  return connection;
}

/* The next client, or -1: there is none, or, with errno EMFILE and the like, no descriptor for it. */
static int next_client (struct server *server) {
  int fd = server->waiting;
  server->waiting = -1;
  while (fd < 0) {
    fd = accept4 (server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
      break;
  }
  return fd;
}

static bool is_no_client (int error) {
  return error == EAGAIN || error == EWOULDBLOCK;
}

/* False: there is no room, or no memory, for the clients that wait. */
static bool accept_some (struct server *server) {
  int i;
  for (i = 0; i < AT_ONCE && server->listening; i++) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    int fd;
    if (!has_place (server))
      return false;
    fd = next_client (server);
    if (fd < 0) {
      server->room = 0; /* others may have taken the descriptors that it counts on */
      return is_no_client (errno);
    }
    if (getpeername (fd, (struct sockaddr *)&address, &size) != 0) {
      close (fd); /* it has left already */
      continue;
    }
    if (!make (server, fd, (struct sockaddr *)&address)) {
      server->waiting = fd;
      return false;
    }
    server->room--;
  }
  return true;
}

static void on_client (uv_poll_t *poll, int status, int events) {
  (void)status;
  (void)events;
  connection_accept (poll->data);
}

/* A listening socket is never disconnected: then nothing is looked for, and the loop is kept all the same. */
static void look_for_clients (struct server *server, bool look) {
  server->postponed = !look;
  uv_poll_start (&server->listener, look ? UV_READABLE : UV_DISCONNECT, on_client);
}

void connection_accept (struct server *server) {
  if (!accept_some (server) && server->listening)
    look_for_clients (server, false); /* until one has closed, or a sweep finds room */
}

void connection_accept_postponed (struct server *server) {
  if (server->postponed && server->listening && has_place (server)) {
    look_for_clients (server, true);
    connection_accept (server);
  }
}

static int listen_at (const struct sockaddr *address) {
  bool six = address->sa_family == AF_INET6;
  socklen_t size = six ? sizeof (struct sockaddr_in6) : sizeof (struct sockaddr_in);
  int fd = socket (address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int on = 1, off = 0, error;
  if (fd < 0)
    return -errno;
  if (setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0
      && (!six || setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0)
      && bind (fd, address, size) == 0 && listen (fd, BACKLOG) == 0)
    return fd;
  error = -errno;
  close (fd);
  return error;
}

int connection_listen (struct server *server, uv_loop_t *loop, const struct sockaddr *address) {
  int status, fd = listen_at (address);
  if (fd < 0)
    return fd;
  status = uv_poll_init_socket (loop, &server->listener, fd);
  if (status < 0) {
    close (fd);
    return status;
  }
  server->listener.data = server;
  server->fd = fd;
  server->waiting = -1;
  server->listening = true;
  server->handles++;
  look_for_clients (server, true);
  return 0;
}

static void on_listener_closed (uv_handle_t *handle) {
  struct server *server = handle->data;
  server->handles--;
  server_release (server);
}

void connection_stop_listening (struct server *server) {
  server->listening = false;
  uv_close ((uv_handle_t *)&server->listener, on_listener_closed);
  close (server->fd);
  if (server->waiting >= 0)
    close (server->waiting);
}
