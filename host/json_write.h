/* Values of Lua's as JSON. */
#ifndef JSON_WRITE_H
#define JSON_WRITE_H

#include <lua.h>

/* A lua_CFunction: (value) → text. Raises where it cannot be JSON. */
int json_encode (lua_State *L);

/* Write the value at `index` as JSON: into the `size` bytes of `space`, or where they are too few into a
   userdata. Pushes two values, which keep it. Raises where it cannot be JSON. */
const char *json_write (lua_State *L, int index, char *space, size_t size, size_t *length);

#endif
