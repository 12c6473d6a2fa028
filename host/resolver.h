/* Finds the addresses of a host by its name, in libuv's threads. luv would make the list in libuv's callback, where
   a lack of memory is caught by nobody. */
#ifndef RESOLVER_H
#define RESOLVER_H

#include <lua.h>

/* Add `resolver` to the table on top of L. */
void resolver_open (lua_State *L);

#endif
