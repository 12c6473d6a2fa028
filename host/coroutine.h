/* Lua's `coroutine` library, through which waits pass: a coroutine of the script's that waits suspends
   its task, and not whoever resumed it. */
#ifndef COROUTINE_H
#define COROUTINE_H

#include "state.h"

/* Push the library's table. */
void coroutine_push (lua_State *L, allua *host);

#endif
