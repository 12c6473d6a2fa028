/* What is at the bottom of a task's coroutine: the functions of tasks, one after the other. */
#ifndef RUNNER_H
#define RUNNER_H

#include "task.h"

/* The function at the bottom (upvalue 1: the box); its argument is the message handler, and for a task
   that was prepared (task_prepare) the function and its arguments above that. */
int runner_main (lua_State *L);

#endif
