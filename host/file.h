/* Reads files in libuv's threads. luv would make the string in libuv's callback, where a lack of memory is
   caught by nobody. */
#ifndef FILE_H
#define FILE_H

#include <lua.h>

/* Add `file_reader` to the table on top of L. */
void file_open (lua_State *L);

#endif
