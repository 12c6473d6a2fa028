/* Lets clients in, as long as there is room for them. */
#ifndef CONNECTION_ACCEPT_H
#define CONNECTION_ACCEPT_H

#include "connection.h"

/* Listen at an address of IPv4 or IPv6. 0, or libuv's error. */
int connection_listen (struct server *server, uv_loop_t *loop, const struct sockaddr *address);
void connection_stop_listening (struct server *server);

/* Accept the clients that wait, now or when there is room. */
void connection_accept (struct server *server);

/* One that has been left waiting: there may be room by now. */
void connection_accept_postponed (struct server *server);

/* Its place among the server's is free. */
void connection_leave_place (struct connection *connection);

#endif
