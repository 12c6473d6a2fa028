/* PostgreSQL for allua.db: what is asked on a connection. libpq is loaded when first used. */
#ifndef POSTGRES_H
#define POSTGRES_H

#include "state.h"

/* Put postgres_connection, postgres_pool and postgres_parse into the table on top, module "allua.core". */
void postgres_open (lua_State *L);

#endif
