/* JSON into values of Lua's. */
#ifndef JSON_READ_H
#define JSON_READ_H

#include <lua.h>

/* A lua_CFunction: (text) → value. Raises where it is not JSON. */
int json_decode (lua_State *L);

/* Push the value of that text, which has a NUL behind it. Raises where it is not JSON. */
void json_read (lua_State *L, const char *text, size_t length);

#endif
