/* The usual statement: from database:query (…) to its rows without a step in Lua, where its text is known. */
#ifndef SQLITE_QUERY_H
#define SQLITE_QUERY_H

#include <lua.h>

/* Put sqlite_text and sqlite_methods into the table on top, module "allua.core". Upvalue 1 of the caller is the box. */
void sqlite_query_open (lua_State *L);

#endif
