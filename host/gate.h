/* What many tasks wait for until one opens it. That one keeps it in a variable that is closed, so that it opens
   whatever is raised; and opens it before it returns, for where there is no memory to close a variable, a return fails
   without having closed it. */
#ifndef GATE_H
#define GATE_H

#include <lua.h>

/* Put gate into the table on top, module "allua.core". */
void gate_open (lua_State *L);

#endif
