/* What every live task does, as text. */
#ifndef DUMP_H
#define DUMP_H

#include "state.h"

/* Push the tasks that have not ended as a tree, each on a line of its own ("\n", then its indent) with
   what it waits for, where and, with `times`, for how long: to the turn of the loop in which that began.
   `waiting`: only those that wait. May raise. */
void dump_push (lua_State *L, allua *host, bool waiting, bool times);

#endif
