/* The head of a reply, taken apart. */
#ifndef FETCH_HEAD_H
#define FETCH_HEAD_H

#include <lua.h>

/* core.fetch_head (head) → a list of { name in lower case, value }, the version of HTTP and the reason, or nil, nil
   where its first line is none. A value that goes on in further lines is one, with spaces between. */
int fetch_head (lua_State *L);

#endif
