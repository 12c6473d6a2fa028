#include "json.h"

#include <lauxlib.h>

#include "json_read.h"
#include "json_write.h"

void json_open (lua_State *L) {
  static const luaL_Reg functions[]
      = { { "json_encode", json_encode }, { "json_decode", json_decode }, { NULL, NULL } };
  luaL_newmetatable (L, JSON_LIST);
  lua_pop (L, 1);
  luaL_setfuncs (L, functions, 0);
  lua_pushlightuserdata (L, NULL);
  lua_setfield (L, -2, "null");
}
