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

/* Push what each unfinished task waits for, a line each, beginning with a newline. May raise. */
void deadlock_push_waits (lua_State *L, allua *host);

#endif
