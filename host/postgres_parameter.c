#include "postgres_parameter.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "blob.h"

enum { DIGITS = 64, BYTEA = 17 };

/* The text of the number at `index`, in DIGITS bytes; its length. */
static size_t put_number (lua_State *L, int index, char *at) {
  lua_Number value;
  if (lua_isinteger (L, index)) {
    char digits[24], *first = digits + sizeof digits;
    lua_Integer integer = lua_tointeger (L, index);
    lua_Unsigned rest = integer < 0 ? 0 - (lua_Unsigned)integer : (lua_Unsigned)integer;
    size_t length;
    do
      *--first = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (integer < 0)
      *--first = '-';
    length = (size_t)(digits + sizeof digits - first);
    memcpy (at, first, length);
    at[length] = '\0';
    return length;
  }
  value = lua_tonumber (L, index);
  if (value != value)
    strcpy (at, "NaN");
  else if (value - value != 0)
    strcpy (at, value > 0 ? "Infinity" : "-Infinity");
  else
    snprintf (at, DIGITS, "%.17g", value);
  return strlen (at);
}

/* The text of the parameter at `index`, no number, or NULL: none. It stays on the stack. */
static const char *parameter (lua_State *L, int index, int number, bool *bytes, size_t *length) {
  const char *text;
  *bytes = false;
  switch (lua_type (L, index)) {
  case LUA_TNIL:
    return NULL;
  case LUA_TBOOLEAN:
    lua_pushstring (L, lua_toboolean (L, index) ? "t" : "f");
    break;
  case LUA_TSTRING:
    lua_pushvalue (L, index);
    break;
  case LUA_TLIGHTUSERDATA:
    if (!lua_touserdata (L, index))
      return NULL;
    /* fall through */
  default:
    *bytes = blob_push (L, index);
    if (!*bytes)
      luaL_error (L, "parameter %d: a %s cannot be one", number, luaL_typename (L, index));
  }
  text = lua_tolstring (L, -1, length);
  if (!*bytes && strlen (text) != *length)
    luaL_error (L, "parameter %d holds a NUL, which PostgreSQL's texts cannot: db.blob (bytes)",
                number);
  if (*length > 1000000000)
    luaL_error (L, "parameter %d is longer than PostgreSQL takes", number);
  return text;
}

size_t postgres_parameter_measure (lua_State *L, int index, int count) {
  size_t bytes = 0, length;
  int i, top = lua_gettop (L);
  bool is_bytes;
  for (i = 1; i <= count; i++) {
    if (lua_rawgeti (L, index, i) == LUA_TNUMBER)
      bytes += DIGITS;
    else if (parameter (L, top + 1, i, &is_bytes, &length))
      bytes += length + 1;
    lua_settop (L, top);
  }
  return bytes;
}

void postgres_parameter_copy (lua_State *L, int index, struct postgres_request *request, char *at) {
  int i, top = lua_gettop (L);
  for (i = 0; i < request->count; i++) {
    size_t length = 0;
    bool is_bytes = false, is_null = false;
    if (lua_rawgeti (L, index, i + 1) == LUA_TNUMBER) {
      length = put_number (L, top + 1, at);
    } else {
      const char *text = parameter (L, top + 1, i + 1, &is_bytes, &length);
      is_null = !text;
      if (text)
        memcpy (at, text, length + 1);
    }
    if (!is_null) {
      request->values[i] = at;
      request->lengths[i] = (int)length;
      request->formats[i] = is_bytes;
      request->types[i] = is_bytes ? BYTEA : 0;
      at += length + 1;
    }
    lua_settop (L, top);
  }
}
