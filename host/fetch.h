/* What of libcurl Lua can see: the primitives that lua/allua/fetch.lua calls. */
#ifndef FETCH_H
#define FETCH_H

#include <lua.h>

/* Put the functions into the table on top, module "allua.core". Its functions' upvalue is the host's box,
   which is upvalue 1 of the caller. */
void fetch_open (lua_State *L);

#endif
