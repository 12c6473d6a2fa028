/* PostgreSQL's values in Lua: integers, floats, booleans, bytes, JSON and lists as such; all else as text. */
#ifndef POSTGRES_VALUE_H
#define POSTGRES_VALUE_H

#include <lua.h>

#include "postgres_link.h"

/* Push a list of rows, { column → value }, NULL being absent. Their metatable tells their columns.
   Raises where there is no memory, or a value cannot be read. */
void postgres_push_rows (lua_State *L, const struct postgres *pq, const PGresult *result);

/* Push how a table is to be written for a parameter of that type: "json", "array", "json array", "bytes array",
   or "" where none can be. */
void postgres_push_form (lua_State *L, Oid type);

#endif
