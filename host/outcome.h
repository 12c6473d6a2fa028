/* What a group gives its owner, and a settled task its readers. */
#ifndef OUTCOME_H
#define OUTCOME_H

#include "group.h"

/* The owner's continuation when all of the group (at 1 of L) has ended: pushes what the group's kind
   says, or raises. */
int outcome_of (lua_State *L, int status, lua_KContext group);

/* Raise the error that ended a group. */
int outcome_raise (lua_State *L, struct group *group);

/* The values of a settled task, whose group is at `index`: the first (nil, if none), or all of them.
   A rejected one raises its error. */
int outcome_push_first (lua_State *L, int index, struct task *task);
int outcome_push_all (lua_State *L, int index, struct task *task);

/* Push the error of a rejected task. */
void outcome_push_error (lua_State *L, int index, struct task *task);

#endif
