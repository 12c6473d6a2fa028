/* Finds waits that can never end. */
#ifndef CYCLE_H
#define CYCLE_H

#include "group.h"

/* Whether `reader` must wait for ever if it now waits for `target` to end. Costs the smaller of what
   waits for the reader and what the target waits for, so that a graph of n waits stays near linear
   however it is built. Returns 1 (then the message is pushed on L: "circular dependency: a -> b -> a"), 0, or raises when
   there is no memory. */
int cycle_find (lua_State *L, struct task *reader, struct task *target);

/* Give the work lists back. */
void cycle_close (allua *host);

#endif
