/* Making groups: from a table of functions to tasks on the ready queue. */
#ifndef ALL_H
#define ALL_H

#include "sched.h"

/* A group of one task: the function and its `arguments` on top of L (popped). Pushes the group. `timeout`
   in seconds, or HUGE_VAL. It is ready to begin, and does nothing yet. Raises when there is no memory. */
struct group *all_single (lua_State *L, allua *host, enum group_kind kind, int arguments,
                          double timeout);

/* Link it to its owner (NULL: a root) and put its tasks on the ready queue. Never raises. */
void all_begin (struct group *group, struct task *owner);

/* Run the function and arguments on top of L (popped) as a root task, and the loop with it, until it
   ends; pushes its results and returns how many. Raises its error, or a DeadlockError. */
int all_run (lua_State *L, allua *host, int arguments);

/* The same for the C function that L is in, with all that is on its stack as arguments: what every
   waiting function does outside a task. */
int all_run_outside (lua_State *L, allua *host);

/* The owner's wait for a group at stack index 1 of L: suspends it, then gives what the group's kind
   says, or raises. */
int all_join (lua_State *L, struct task *owner, struct group *group);

/* Lua: all, all_settled, flow, race, any, each, map, timeout, run, spawn; each's iterator and close. */
extern const luaL_Reg all_functions[];
int all_each_next (lua_State *L);
int all_each_close (lua_State *L);

#endif
