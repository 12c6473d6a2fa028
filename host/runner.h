/* What is at the bottom of a task's coroutine: the functions of tasks, one after the other. */
#ifndef RUNNER_H
#define RUNNER_H

#include "task.h"

/* The function at the bottom (upvalue 1: the box). Its arguments are the message handler, then the function
   and its arguments of a task that was prepared, or the group of all others. When it has no more to do it
   yields, with the handler on its stack, and goes on when it is resumed with the rest. */
int runner_main (lua_State *L);

#endif
