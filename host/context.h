/* Task-local values: which table of them a task sees.

   A task has the address of its table; SLOT_CONTEXTS finds the table by it. What keeps the table alive
   is where it was set: the stack of `with` while its function runs, and the slots of each group that
   was made meanwhile. */
#ifndef CONTEXT_H
#define CONTEXT_H

#include "group.h"

/* The tasks of the group at `index` see what the running task sees. May raise. */
void context_inherit (lua_State *L, int index);

/* Lua: allua.with (values, fn, ...); __index of allua.context. */
int context_with (lua_State *L);
int context_index (lua_State *L);

#endif
