/* The module for a stock Lua: a host on the state that requires it, and on the loop of its luv. */
#include <lauxlib.h>
#include <stdlib.h>

#include "allua.h"
#include "luvs.h"

#include "state.h"

ALLUA_API int luaopen_allua (lua_State *L);

static bool loop_runs (allua *host) {
  return luvs_is_running (host->main);
}

int luaopen_allua (lua_State *L) {
  allua_options options = { .size = sizeof options, .state = L };
  allua *host;
  if (!allua_of (L)) {
    options.loop = luvs_loop (L);
    if (!options.loop)
      return luaL_error (L, "allua needs luv (on Debian: apt install lua-luv): %s",
                         lua_tostring (L, -1));
    options.path = getenv ("ALLUA_PATH");
    host = allua_open (&options);
    if (!host)
      return luaL_error (L, "allua: not enough memory");
    host->loop_runs = loop_runs;
  }
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield (L, -1, "allua");
  return 1;
}
