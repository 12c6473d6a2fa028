/* JSON (RFC 8259): integers stay integers, lists stay lists. */
#ifndef JSON_H
#define JSON_H

#include <lua.h>

/* Put json_encode (value) and json_decode (text) into the table on top, module "allua.core", and null.
   A decoded list has the metatable "allua.list", by which an empty one is known when it is encoded. */
void json_open (lua_State *L);

#endif
