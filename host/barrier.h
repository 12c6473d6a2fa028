/* Where Lua cannot suspend: says what stands in the way, and the way out. */
#ifndef BARRIER_H
#define BARRIER_H

#include "state.h"

/* Raise the error of a wait on L that cannot suspend. */
int barrier_raise (lua_State *L, allua *host);

#endif
