/* JSON (RFC 8259) for Lua: integers stay integers, lists stay lists. */
#ifndef JSON_H
#define JSON_H

#include <lua.h>

/* The metatable of a decoded list, by which an empty one is known when it is encoded. */
#define JSON_LIST "allua.list"

enum { JSON_DEPTH = 500 }; /* tables inside each other at most */

/* Put json_encode (value) and json_decode (text) into the table on top, module "allua.core", and null. */
void json_open (lua_State *L);

#endif
