#include "library.h"

#include <dlfcn.h>

#include <lauxlib.h>

void library_load (lua_State *L, const char *file, const char *package, const char *const *names,
                   void **functions, size_t count) {
  /* Local: its names do not meet those of the program that allua is embedded in. */
  void *library = dlopen (file, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
  size_t i;
  if (!library)
    luaL_error (L, "%s cannot be loaded: install Debian's package %s (%s)", file, package,
                dlerror ());
  for (i = 0; i < count; i++) {
    functions[i] = dlsym (library, names[i]);
    if (!functions[i])
      luaL_error (L, "%s has no function %s: install a newer version of Debian's package %s", file,
                  names[i], package);
  }
}
