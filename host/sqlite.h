/* SQLite for allua.db: each connection has a thread of its own, so that the loop never waits for a disk. */
#ifndef SQLITE_H
#define SQLITE_H

#include <lua.h>

/* Put sqlite_open into the table on top, module "allua.core". */
void sqlite_open (lua_State *L);

#endif
