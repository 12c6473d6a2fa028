/* JSON (RFC 8259): integers stay integers, lists stay lists. */
#ifndef JSON_H
#define JSON_H

#include <lua.h>

/* Put json_encode (value) and json_decode (text) into the table on top, module "allua.core", and null.
   A decoded list has the metatable "allua.list", by which an empty one is known when it is encoded. */
void json_open (lua_State *L);

/* A lua_CFunction: (text) → value. Raises where it is not JSON. */
int json_decode (lua_State *L);

/* Push the value of that text, which has a NUL behind it. Raises where it is not JSON. */
void json_read (lua_State *L, const char *text, size_t length);

/* Write the value at `index` as JSON: into the `size` bytes of `space`, or where they are too few into a
   userdata. Pushes two values, which keep it. Raises where it cannot be JSON. */
const char *json_write (lua_State *L, int index, char *space, size_t size, size_t *length);

#endif
