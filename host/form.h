/* Multipart forms, as Lua sees them. */
#ifndef FORM_H
#define FORM_H

#include <lua.h>

/* Add `multipart` to the table on top of L. */
void form_open (lua_State *L);

#endif
