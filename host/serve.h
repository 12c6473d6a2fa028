/* The primitives of allua.serve: a listener that gives requests, requests that are read and answered. */
#ifndef SERVE_H
#define SERVE_H

#include "state.h"

/* Add `serve_listen` to the table on top of L. */
void serve_open (lua_State *L);

#endif
