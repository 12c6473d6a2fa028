/* A connection to PostgreSQL as an object of Lua's: made, and closed with its host at the latest. */
#ifndef POSTGRES_CONNECTION_H
#define POSTGRES_CONNECTION_H

#include "postgres_link.h"
#include "state.h"

struct postgres_module;

struct postgres_connection {
  struct postgres_link link; /* first */
  allua *host;
  struct postgres_module *module;               /* what the host's connections share */
  struct postgres_connection *next, **previous; /* all of the host's */
  bool open;                                    /* in that list */
  size_t half_pushed;                           /* results that are being pushed, or could not be */

  /* Its pool's, see postgres_pool.c. */
  struct postgres_connection *next_in_pool, *below;
  unsigned lent; /* how many use it */
  bool alone;    /* one has it for itself */
};

/* libpq, of the host's, loaded when first asked for. Raises where it is not there. */
const struct postgres *postgres_library (lua_State *L);

/* Push one that is not connected yet; all have the methods that the first was given, with upvalue 1 of the caller, the
   host's box. Raises. */
struct postgres_connection *postgres_connection_push (lua_State *L, const luaL_Reg *methods);

/* The one at `index` of L; raises where that is something else. */
struct postgres_connection *postgres_connection_check (lua_State *L, int index);

/* What is under way fails. Its object stays. Any number of times. */
void postgres_connection_close (struct postgres_connection *connection);

/* Whether it takes requests; then: whether one, or a cancel, is under way. */
static inline bool postgres_connection_is_ready (const struct postgres_connection *connection) {
  return connection->open && connection->link.state == POSTGRES_READY;
}

static inline bool postgres_connection_is_busy (const struct postgres_connection *connection) {
  return connection->link.first || connection->link.canceller;
}

/* Close all of a host that closes; no task takes anything any more. */
void postgres_close (allua *host);

#endif
