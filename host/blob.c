#include "blob.h"

#include <lauxlib.h>

#define BLOB "allua.blob"

static int new_blob (lua_State *L) {
  luaL_checktype (L, 1, LUA_TSTRING);
  lua_newuserdatauv (L, 0, 1);
  lua_pushvalue (L, 1);
  lua_setiuservalue (L, -2, 1);
  luaL_newmetatable (L, BLOB);
  lua_setmetatable (L, -2);
  return 1;
}

bool blob_push (lua_State *L, int index) {
  if (!luaL_testudata (L, index, BLOB))
    return false;
  lua_getiuservalue (L, index, 1);
  return true;
}

void blob_open (lua_State *L) {
  lua_pushcfunction (L, new_blob);
  lua_setfield (L, -2, "db_blob");
}
