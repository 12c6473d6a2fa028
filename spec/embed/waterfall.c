/* A waterfall's memory is the host's, though the state that holds it may outlive the host. */
#include "counting.h"

int main (void) {
  struct counting counting = { 0 };
  lua_State *L;
  check_begin ();
  (void)!freopen ("/dev/null", "w", stderr); /* where waterfalls go */
  L = lua_newstate (counting_alloc, &counting);
  luaL_openlibs (L);
  allua *host = check_open (&(allua_options){ .size = sizeof (allua_options), .state = L });
  lua_gc (L, LUA_GCSTOP);
  check_runs ("a group prints its waterfall", host,
              "local allua = require 'allua'\n"
              "allua.all({ a = function () allua.sleep (0) end }, { debug = true })");
  allua_close (host);
  lua_close (L);
  check_int ("a state that is closed after its host gives back all blocks", counting.blocks, 0);
  check_int ("with the right sizes", counting.wrong, 0);
  return check_end ();
}
