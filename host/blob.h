/* Bytes that a database stores as such, and not as a text. */
#ifndef BLOB_H
#define BLOB_H

#include <stdbool.h>

#include <lua.h>

/* Put `db_blob (string) → blob` into the table on top of L. */
void blob_open (lua_State *L);

/* Push the string of the blob at `index` and return true; or push nothing. */
bool blob_push (lua_State *L, int index);

#endif
