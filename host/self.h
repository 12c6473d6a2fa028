/* What a task is given: `self`, that reads its siblings, and `task`, that is about itself. */
#ifndef SELF_H
#define SELF_H

#include "state.h"

/* Fill the metatables in SLOT_SELF and SLOT_TASK. */
void self_open (lua_State *L, allua *host);

#endif
