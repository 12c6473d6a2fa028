/* Bytes in: what a client sends, through the parser, in bounds. */
#ifndef CONNECTION_READ_H
#define CONNECTION_READ_H

#include "connection.h"

void connection_read_start (struct connection *connection);

/* Bytes of the body were taken: go on reading. */
void connection_read_on (struct connection *connection);

/* The reply is with the client, or will be soon: what it sent behind that request is the next one. */
void connection_next_request (struct connection *connection);

/* Whether a handle is a connection's. */
bool connection_owns (const uv_handle_t *handle);

#endif
