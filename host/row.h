/* Rows of a database in Lua: what the metatables of their tables tell. */
#ifndef ROW_H
#define ROW_H

#include <lua.h>

/* Push a table for such metatables, by a number of one's own: each is kept as long as there are rows that have it. */
void row_push_shapes (lua_State *L);

/* Push the metatable of rows, { "id", …, columns = { "id", … } }; `name` gives the names, asked in their order.
   Raises where there is no memory. */
void row_push_meta (lua_State *L, int columns, const char *(*name) (void *data, int column),
                    void *data);

#endif
