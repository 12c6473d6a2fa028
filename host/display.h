/* The program's display of progress: lines that stay at the bottom of the terminal, below all that is printed. */
#ifndef DISPLAY_H
#define DISPLAY_H

#include "state.h"

/* Begin. May raise: the host is upvalue or argument 1, a light userdata. */
int display_open (lua_State *L);

/* Take the lines away; what there is to say at the end is printed. */
void display_close (allua *host);

/* Give the terminal back as it was, and exit: for signal handlers too. */
_Noreturn void display_exit (int status);

#endif
