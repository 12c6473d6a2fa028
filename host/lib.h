/* The one table of everything Lua can see. */
#ifndef LIB_H
#define LIB_H

#include "state.h"

/* Fill the metatables, and push the table of module "allua". Raises when there is no memory. */
void lib_push (lua_State *L, allua *host);

/* Push a loader for one of the Lua half's modules ("allua.retry"); NULL name: the whole list is set in
   the table (package.preload) on top of L instead. */
void lib_preload (lua_State *L, allua *host);

#endif
