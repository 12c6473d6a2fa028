/* PostgreSQL for allua.db: connections as Lua sees them. libpq is loaded when first used. */
#ifndef POSTGRES_H
#define POSTGRES_H

#include "state.h"

/* Put postgres_connection and postgres_parse into the table on top, module "allua.core". */
void postgres_open (lua_State *L);

/* Close every connection of a host that closes. */
void postgres_close (allua *host);

#endif
