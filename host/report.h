/* Errors that nobody caught, brought to the host's owner. */
#ifndef REPORT_H
#define REPORT_H

#include "state.h"

/* Report the error at `index`; its record (or nil) is on top (popped). `what` it is, in words. */
void report_unhandled (lua_State *L, allua *host, int index, const char *what);

/* Hand a finished report on. */
void report_text (lua_State *L, allua *host, const char *report);

#endif
