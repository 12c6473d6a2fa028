/* Finds, loads and runs a chunk as the root task; reports its error. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include "state.h"

/* Run the function and its arguments on top of the main thread's stack (popped) as a root task.
   Returns ALLUA_OK, ALLUA_ERROR or ALLUA_MEMORY; host.error then has the report. */
int script_run (allua *host, int arguments);

/* Pushes the error of a run inside a run. */
int script_refuse_nested (lua_State *L);

/* Keep the value on top of L (popped) as the last run's error: its report. */
void script_keep_error (lua_State *L, allua *host);
void script_forget_error (allua *host);

#endif
