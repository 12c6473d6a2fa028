/* Finds, loads and runs chunks and functions as root tasks; reports their errors. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include "state.h"

/* Keep the value on top of L (popped) as the last run's error: its report. */
void script_keep_error (lua_State *L, allua *host);
void script_forget_error (allua *host);

#endif
