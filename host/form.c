#include "form.h"

#include <lauxlib.h>

#include "multipart.h"

#define FORM "allua.multipart"

/* parser:run (bytes, at) → where to go on, and what there was: nothing (more is needed), "head" or "data" with
   its bytes, "end", or "refused" with a status and why */
static int form_run (lua_State *L) {
  struct multipart *multipart = luaL_checkudata (L, 1, FORM);
  size_t length;
  const char *data = luaL_checklstring (L, 2, &length);
  lua_Integer at = luaL_checkinteger (L, 3);
  enum multipart_event event;
  luaL_argcheck (L, at >= 1 && (lua_Unsigned)at <= length + 1, 3, "outside of the bytes");
  at += (lua_Integer)multipart_run (multipart, data + at - 1, length - (size_t)(at - 1), &event);
  lua_pushinteger (L, at);
  switch (event) {
  case MULTIPART_HEAD:
    lua_pushliteral (L, "head");
    lua_pushlstring (L, multipart->head, multipart->head_length);
    return 3;
  case MULTIPART_DATA:
    lua_pushliteral (L, "data");
    lua_pushlstring (L, multipart->data, multipart->length);
    return 3;
  case MULTIPART_END:
    lua_pushliteral (L, "end");
    return 2;
  case MULTIPART_REFUSED:
    lua_pushliteral (L, "refused");
    lua_pushinteger (L, multipart->status);
    lua_pushstring (L, multipart->reason);
    return 4;
  default:
    return 1;
  }
}

/* parser:is_whole () → whether the last part has ended */
static int form_is_whole (lua_State *L) {
  lua_pushboolean (L, multipart_is_whole (luaL_checkudata (L, 1, FORM)));
  return 1;
}

/* multipart (boundary, most_parts) → a parser */
static int form_new (lua_State *L) {
  size_t length;
  const char *boundary = luaL_checklstring (L, 1, &length);
  lua_Integer most = luaL_checkinteger (L, 2);
  struct multipart *multipart;
  luaL_argcheck (L, length >= 1 && length <= MULTIPART_BOUNDARY, 1, "no boundary");
  multipart = lua_newuserdatauv (L, sizeof *multipart, 0);
  multipart_init (multipart, boundary, length, (size_t)most);
  luaL_setmetatable (L, FORM);
  return 1;
}

void form_open (lua_State *L) {
  static const luaL_Reg methods[]
      = { { "run", form_run }, { "is_whole", form_is_whole }, { NULL, NULL } };
  luaL_newmetatable (L, FORM);
  luaL_newlib (L, methods);
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
  lua_pushcfunction (L, form_new);
  lua_setfield (L, -2, "multipart");
}
