/* What is under way outside of tasks and will come to an end by itself: a virtual clock stands still for it. */
#ifndef FLIGHT_H
#define FLIGHT_H

#include "state.h"

/* Whether there is any: promises of C, requests of libuv's, active handles that keep the loop alive. Not
   servers and what else only waits for others; nor a connection with both ends in this loop, once what was
   sent has been read. Where there is no memory to tell: true. */
bool flight_any (allua *host);

/* Push what it is, in words. May raise. */
void flight_push (lua_State *L, allua *host);

#endif
