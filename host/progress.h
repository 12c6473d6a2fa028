/* Which tasks are under way, since when, and how far they say they are: what a display of progress shows. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "group.h"

/* Lua: core.progress_start (tell): from now on tell (event, path, seconds, message) is called as tasks start and
   end; progress_rows (most) → the tasks under way as a tree, a table each, and how things stand. In the table on
   top of the stack. */
void progress_functions (lua_State *L);

/* Lua: allua.progress (done [, total]) */
int progress_set (lua_State *L);

/* Have the group at `index`, which is about to begin, seen. May raise. */
void progress_add_group (lua_State *L, int index);

/* A task of a group that is seen starts, or ends, its error still on its coroutine. Never raise. */
void progress_start (struct task *task);
void progress_end (struct task *task);

/* Nothing is seen any more. */
void progress_close (allua *host);

#endif
