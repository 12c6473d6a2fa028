/* SQLite for allua.db: each connection has a thread of its own, so that the loop never waits for a disk. */
#ifndef SQLITE_H
#define SQLITE_H

#include <lua.h>

enum { SQLITE_MOST_PARAMETERS = 32766 };

/* Push the metatables of pools and of connections, made when first asked for. Upvalue 1 of the caller is the box. */
void sqlite_push_classes (lua_State *L);

/* Put sqlite_pool into the table on top, module "allua.core". */
void sqlite_open (lua_State *L);

#endif
