/* The options of a group: checked, then applied. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "group.h"

/* Check the options table at `index` (nil: none) of the function called `name`; raises for what is
   wrong with it. Nothing is done yet. */
void options_check (lua_State *L, allua *host, int index, const char *name);

/* Apply them to the group at `group_index`. May raise. */
void options_apply (lua_State *L, int index, int group_index);

/* Start the group's timer, where it has one; it fires in a later turn. False: no memory. */
bool options_start_timer (struct group *group);

/* The group has begun: listen to the signal from outside, where it has one. Never raises. */
void options_listen (lua_State *L, int group_index);

#endif
