#include "json_write.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "json.h"

struct writer {
  lua_State *L;
  char *bytes; /* the caller's, or a userdata at `text` */
  size_t length, size;
  int depth, text; /* text: where on the stack */
};

static void write_value (struct writer *writer);

static void grow (struct writer *writer, size_t length) {
  size_t size = writer->size;
  char *grown;
  while (size - writer->length < length)
    size *= 2;
  grown = lua_newuserdatauv (writer->L, size, 0);
  memcpy (grown, writer->bytes, writer->length);
  lua_replace (writer->L, writer->text);
  writer->bytes = grown;
  writer->size = size;
}

static inline void write_bytes (struct writer *writer, const char *bytes, size_t length) {
  if (writer->size - writer->length < length)
    grow (writer, length);
  memcpy (writer->bytes + writer->length, bytes, length);
  writer->length += length;
}

static inline void write_text (struct writer *writer, const char *text) {
  write_bytes (writer, text, strlen (text));
}

/* What a string may not hold as it is. */
static const bool special[256]
    = { [0 ... 0x1F] = true, ['"'] = true, ['\\'] = true, [0x7F] = true };

/* The string at `index`. */
static void write_string (struct writer *writer, int index) {
  size_t length, i, plain = 0;
  const char *text = lua_tolstring (writer->L, index, &length);
  char *to = writer->bytes + writer->length;
  if (writer->size - writer->length > length + 1) { /* most have room, and nothing special */
    *to++ = '"';
    for (i = 0; i < length && !special[(unsigned char)text[i]]; i++)
      to[i] = text[i];
    if (i == length) {
      to[i] = '"';
      writer->length += length + 2;
      return;
    }
  }
  write_bytes (writer, "\"", 1);
  for (i = 0; i < length; i++) {
    unsigned char c = (unsigned char)text[i];
    char escape[8];
    if (!special[c])
      continue;
    write_bytes (writer, text + plain, i - plain);
    plain = i + 1;
    if (c == '"' || c == '\\')
      snprintf (escape, sizeof escape, "\\%c", c);
    else if (c == '\n')
      snprintf (escape, sizeof escape, "\\n");
    else
      snprintf (escape, sizeof escape, "\\u%04x", c);
    write_text (writer, escape);
  }
  write_bytes (writer, text + plain, length - plain);
  write_bytes (writer, "\"", 1);
}

static void write_integer (struct writer *writer, lua_Integer integer) {
  char text[24], *at = text + sizeof text;
  lua_Unsigned rest = integer < 0 ? 0U - (lua_Unsigned)integer : (lua_Unsigned)integer;
  do
    *--at = (char)('0' + rest % 10);
  while (rest /= 10);
  if (integer < 0)
    *--at = '-';
  write_bytes (writer, at, (size_t)(text + sizeof text - at));
}

static void write_number (struct writer *writer) {
  lua_State *L = writer->L;
  char text[64];
  lua_Number number = lua_tonumber (L, -1);
  int digits;
  if (lua_isinteger (L, -1)) {
    write_integer (writer, lua_tointeger (L, -1));
    return;
  }
  if (!isfinite (number))
    luaL_error (L, "JSON has no way to say %f", number);
  /* As few digits as give the same number again. */
  for (digits = 15; digits <= 17; digits++) {
    snprintf (text, sizeof text, "%.*g", digits, number);
    if (strtod (text, NULL) == number)
      break;
  }
  if (strchr (text, ','))
    *strchr (text, ',') = '.'; /* what some locales write */
  write_text (writer, text);
}

static void write_list (struct writer *writer, lua_Integer count) {
  lua_Integer i;
  write_text (writer, "[");
  for (i = 1; i <= count; i++) {
    if (i > 1)
      write_text (writer, ",");
    lua_rawgeti (writer->L, -1, i);
    write_value (writer);
    lua_pop (writer->L, 1);
  }
  write_text (writer, "]");
}

static void write_object (struct writer *writer) {
  lua_State *L = writer->L;
  bool first = true;
  write_text (writer, "{");
  lua_pushnil (L);
  while (lua_next (L, -2)) {
    if (lua_type (L, -2) != LUA_TSTRING)
      luaL_error (L, "the names of a JSON object are strings (got %s)",
                  luaL_tolstring (L, -2, NULL));
    if (!first)
      write_text (writer, ",");
    first = false;
    write_string (writer, -2);
    write_text (writer, ":");
    write_value (writer);
    lua_pop (L, 1);
  }
  write_text (writer, "}");
}

static lua_Integer count_items (lua_State *L) {
  lua_Integer count = 0;
  lua_pushnil (L);
  while (lua_next (L, -2)) {
    lua_pop (L, 1);
    count++;
  }
  return count;
}

static void write_table (struct writer *writer) {
  lua_State *L = writer->L;
  bool list = false;
  lua_Integer length = (lua_Integer)lua_rawlen (L, -1);
  if (++writer->depth > JSON_DEPTH)
    luaL_error (L, "more than 500 tables inside each other (or one inside itself) are no JSON");
  luaL_checkstack (L, 8, NULL);
  if (lua_getmetatable (L, -1)) {
    luaL_getmetatable (L, JSON_LIST);
    list = lua_rawequal (L, -1, -2);
    lua_pop (L, 2);
  }
  if (length > 0 || list) {
    if (count_items (L) != length)
      luaL_error (L, "a table with holes, or with both items and names, is no JSON");
    write_list (writer, length);
  } else {
    write_object (writer);
  }
  writer->depth--;
}

/* The value on top. */
static void write_value (struct writer *writer) {
  lua_State *L = writer->L;
  switch (lua_type (L, -1)) {
  case LUA_TTABLE:
    write_table (writer);
    break;
  case LUA_TSTRING:
    write_string (writer, -1);
    break;
  case LUA_TNUMBER:
    write_number (writer);
    break;
  case LUA_TBOOLEAN:
    write_text (writer, lua_toboolean (L, -1) ? "true" : "false");
    break;
  case LUA_TLIGHTUSERDATA:
    if (!lua_touserdata (L, -1)) {
      write_text (writer, "null");
      break;
    }
    /* FALLTHROUGH */
  default:
    luaL_error (L, "a %s is no JSON", luaL_typename (L, -1));
  }
}

const char *json_write (lua_State *L, int index, char *space, size_t size, size_t *length) {
  struct writer writer = { .L = L, .bytes = space, .size = size, .text = lua_gettop (L) + 1 };
  index = lua_absindex (L, index);
  luaL_checkstack (L, 8, NULL);
  lua_pushnil (L);
  lua_pushvalue (L, index);
  write_value (&writer);
  lua_pop (L, 1);
  *length = writer.length;
  return writer.bytes;
}

int json_encode (lua_State *L) {
  char space[1024];
  size_t length;
  const char *text;
  luaL_checkany (L, 1);
  text = json_write (L, 1, space, sizeof space, &length);
  lua_pushlstring (L, text, length);
  return 1;
}
