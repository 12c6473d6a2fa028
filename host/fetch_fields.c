#include "fetch_fields.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

/* Positions of the arguments, and of what is made of them. */
enum { WHAT = 1, FIELDS, NAMES, VALUE, TEXT };

struct name {
  const char *bytes;
  size_t length;
};

static int compare (const void *left, const void *right) {
  const struct name *a = left, *b = right;
  size_t shorter = a->length < b->length ? a->length : b->length;
  int order = memcmp (a->bytes, b->bytes, shorter);
  return order ? order : (a->length > b->length) - (a->length < b->length);
}

static bool is_unreserved (unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'
         || c == '.' || c == '_' || c == '~';
}

static void add_encoded (luaL_Buffer *buffer, const char *bytes, size_t length) {
  static const char digits[] = "0123456789ABCDEF";
  size_t i = 0;
  while (i < length) {
    size_t plain = i;
    while (plain < length && is_unreserved ((unsigned char)bytes[plain]))
      plain++;
    luaL_addlstring (buffer, bytes + i, plain - i);
    if (plain < length) {
      unsigned char c = (unsigned char)bytes[plain++];
      const char escape[] = { '%', digits[c >> 4], digits[c & 15] };
      luaL_addlstring (buffer, escape, sizeof escape);
    }
    i = plain;
  }
}

/* The value on top, as text, goes to TEXT. */
static void make_text (lua_State *L, const char *name) {
  int whole = 0;
  lua_Integer integer = lua_type (L, -1) == LUA_TNUMBER ? lua_tointegerx (L, -1, &whole) : 0;
  if (whole) { /* without a point, if it is a float */
    lua_pushinteger (L, integer);
    lua_replace (L, -2);
  }
  if (lua_isboolean (L, -1)) {
    lua_pushstring (L, lua_toboolean (L, -1) ? "true" : "false");
    lua_replace (L, -2);
  }
  if (!lua_isstring (L, -1)) {
    lua_pushfstring (
        L, "%s: \"%s\" must be a string, a number or a boolean, or a list of such (got %s)",
        lua_tostring (L, WHAT), name, luaL_typename (L, -1));
    lua_error (L);
  }
  lua_replace (L, TEXT);
}

/* One more field, with what is in TEXT. */
static void add_field (lua_State *L, luaL_Buffer *buffer, const struct name *name) {
  size_t length;
  const char *text = lua_tolstring (L, TEXT, &length);
  if (luaL_bufflen (buffer) > 0)
    luaL_addchar (buffer, '&');
  add_encoded (buffer, name->bytes, name->length);
  luaL_addchar (buffer, '=');
  add_encoded (buffer, text, length);
}

/* The value of one name, which may be a list, is in VALUE. */
static void add_value (lua_State *L, luaL_Buffer *buffer, const struct name *name) {
  bool list = lua_istable (L, VALUE);
  lua_Integer i = 1;
  if (list && luaL_len (L, VALUE) > 0) {
    while (lua_geti (L, VALUE, i++) != LUA_TNIL) {
      make_text (L, name->bytes);
      add_field (L, buffer, name);
    }
    lua_pop (L, 1);
    return;
  }
  if (list) {
    lua_pushnil (L);
    if (!lua_next (L, VALUE)) /* an empty one: there is no such field */
      return;
    lua_pop (L, 2);
  }
  lua_pushvalue (L, VALUE);
  make_text (L, name->bytes);
  add_field (L, buffer, name);
}

/* The names in order, in a userdata that takes the place of the list of them; that stays as its user value. */
static struct name *sort_names (lua_State *L, size_t *count) {
  struct name *names;
  size_t i = 0;
  lua_newtable (L);
  for (lua_pushnil (L); lua_next (L, FIELDS); lua_pop (L, 1)) {
    if (lua_type (L, -2) != LUA_TSTRING) {
      const char *text = luaL_tolstring (L, -2, NULL);
      lua_pushfstring (L, "%s: names are strings (got %s)", lua_tostring (L, WHAT), text);
      lua_error (L);
    }
    lua_pushvalue (L, -2);
    lua_rawseti (L, NAMES, (lua_Integer)++i);
  }
  names = lua_newuserdatauv (L, i * sizeof *names + 1, 1);
  lua_pushvalue (L, NAMES);
  lua_setiuservalue (L, -2, 1);
  for (*count = 0; *count < i; ++*count) {
    lua_rawgeti (L, NAMES, (lua_Integer)*count + 1);
    names[*count].bytes = lua_tolstring (L, -1, &names[*count].length);
    lua_pop (L, 1);
  }
  lua_replace (L, NAMES);
  qsort (names, i, sizeof *names, compare);
  return names;
}

int fetch_fields (lua_State *L) {
  luaL_Buffer buffer;
  const struct name *names;
  size_t count, i;
  luaL_checkstring (L, WHAT);
  luaL_checktype (L, FIELDS, LUA_TTABLE);
  lua_settop (L, FIELDS);
  names = sort_names (L, &count);
  lua_settop (L, TEXT);
  luaL_buffinit (L, &buffer);
  for (i = 0; i < count; i++) {
    lua_pushlstring (L, names[i].bytes, names[i].length);
    lua_gettable (L, FIELDS);
    lua_replace (L, VALUE);
    add_value (L, &buffer, &names[i]);
  }
  luaL_pushresult (&buffer);
  return 1;
}
