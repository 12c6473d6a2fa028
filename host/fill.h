/* Fills a new group from a table of tasks, or of a map's items. */
#ifndef FILL_H
#define FILL_H

#include "group.h"

/* Make the group of the table at 1 of L, and push it, filled but for its options. Raises for what is no
   task, and when there is no memory. */
struct group *fill_group (lua_State *L, allua *host, enum group_kind kind);

/* Free what one that raised has left. */
void fill_give_back (allua *host);

#endif
