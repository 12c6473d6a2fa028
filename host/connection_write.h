/* Bytes out: at once, or as the client takes them. */
#ifndef CONNECTION_WRITE_H
#define CONNECTION_WRITE_H

#include "connection.h"

/* The first bytes go at once, the others when the client takes them. False: no memory or no client. */
bool connection_write (struct connection *connection, const char *data, size_t length);

/* "100 Continue". False: no memory or no client. */
bool connection_continue (struct connection *connection);

/* An answer without a handler, which is the last. */
void connection_refuse (struct connection *connection, int status, const char *reason);

/* What TLS has sealed, or has to say itself. */
bool connection_send_sealed (struct connection *connection);

#endif
