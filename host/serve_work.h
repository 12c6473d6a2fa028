/* The requests of a listener, answered one after the other: from what came to an event, from the handler's value to
   the reply. */
#ifndef SERVE_WORK_H
#define SERVE_WORK_H

#include <lua.h>

/* Give the class of listeners its method `work`. */
void serve_work_open (lua_State *L);

/* lua_CFunctions: the address and the fields in what an event has of its head. */
int serve_remote (lua_State *L);
int serve_headers (lua_State *L);

#endif
