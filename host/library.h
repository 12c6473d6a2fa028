/* Big shared libraries, loaded when first used: the program starts without them, and runs where they are
   not installed. */
#ifndef LIBRARY_H
#define LIBRARY_H

#include <stddef.h>

#include <lua.h>

/* Fill `functions` with `count` functions of a shared library, loaded when first used and never unloaded.
   Raises where the library or one of them is missing, naming the Debian package to install. */
void library_load (lua_State *L, const char *file, const char *package, const char *const *names,
                   void **functions, size_t count);

#endif
