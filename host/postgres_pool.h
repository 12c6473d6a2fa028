/* Whose the connections of a pool to PostgreSQL are, and who waits for one. Giving one back takes no memory. */
#ifndef POSTGRES_POOL_H
#define POSTGRES_POOL_H

#include <lua.h>

/* Put postgres_pool into the table on top, module "allua.core". */
void postgres_pool_open (lua_State *L);

#endif
