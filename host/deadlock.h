/* When every task waits and nothing is pending: says so, and ends it. */
#ifndef DEADLOCK_H
#define DEADLOCK_H

#include "group.h"

/* A run that did not finish: unless the host was closed, cancel the group with a DeadlockError, stop
   what does not end of that, and raise the error. */
int deadlock_break (allua *host, lua_State *L, struct group *group, bool (*done) (void *data),
                    void *data);

/* The same for a wait that belongs to no group. */
int deadlock_raise (lua_State *L, allua *host);

/* Lua: core.on_stall (fn) → the handler before. fn (DeadlockError) is called, where the program runs the loop,
   when every task waits and nothing is pending; it may end what is stuck. nil: nobody is told. */
int deadlock_on_stall (lua_State *L);

#endif
