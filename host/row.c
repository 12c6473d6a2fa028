#include "row.h"

void row_push_shapes (lua_State *L) {
  lua_createtable (L, 0, 0);
  lua_createtable (L, 0, 1);
  lua_pushliteral (L, "v");
  lua_setfield (L, -2, "__mode");
  lua_setmetatable (L, -2);
}

void row_push_meta (lua_State *L, int columns, const char *(*name) (void *data, int column),
                    void *data) {
  int i;
  lua_createtable (L, columns, 3);
  lua_createtable (L, columns, 0);
  for (i = 0; i < columns; i++) {
    lua_pushstring (L, name (data, i));
    lua_pushvalue (L, -1);
    lua_rawseti (L, -4, i + 1);
    lua_rawseti (L, -2, i + 1);
  }
  lua_setfield (L, -2, "columns");
  lua_pushliteral (L, "allua.row");
  lua_setfield (L, -2, "__name");
}
