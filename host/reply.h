/* A whole reply, put together in one place and sent. */
#ifndef REPLY_H
#define REPLY_H

#include "connection.h"

struct bytes {
  const char *bytes;
  size_t length;
};

struct reply {
  struct bytes start;  /* the status line and the type */
  struct bytes fields; /* more lines of the head */
  struct bytes body;
  bool dated; /* the date is among the fields */
  bool bare;  /* its status allows no body */
};

/* How many bytes it may take. */
size_t reply_size (const struct reply *reply);

/* Put it together at `place`, send it, and end the request. False: no memory, or the client has left. */
bool reply_send (struct connection *connection, const struct reply *reply, char *place);

/* A lua_CFunction: (seconds since 1970) → "Sun, 06 Nov 1994 08:49:37 GMT". */
int reply_date (lua_State *L);

#endif
