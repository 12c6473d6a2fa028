#include "json.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#define LIST "allua.list"
#define MAX_DEPTH 500
#define USUAL_NAMES                                                                                \
  4 /* of an object: room for them from the start, so that its table does not grow for each */

/* ── reading ── */

struct reader {
  lua_State *L;
  const char *start, *at, *end; /* *end is a NUL */
  int depth, list;              /* where on the stack the metatable of lists is */
};

static void read_value (struct reader *reader);

static int fail (const struct reader *reader, const char *expected) {
  lua_State *L = reader->L;
  size_t byte = (size_t)(reader->at - reader->start) + 1;
  const char *found = "the end";
  if (reader->at < reader->end)
    found = (unsigned char)*reader->at < ' ' ? "a control character"
                                             : lua_pushfstring (L, "'%c'", *reader->at);
  /* No place: it is the text that is wrong. */
  lua_pushfstring (L, "invalid JSON at byte %I: expected %s, found %s", (LUAI_UACINT)byte, expected,
                   found);
  return lua_error (L);
}

static void skip_space (struct reader *reader) {
  while (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\n' || *reader->at == '\r')
    reader->at++;
}

static unsigned read_hex (struct reader *reader) {
  unsigned value = 0;
  int i;
  for (i = 0; i < 4; i++, reader->at++) {
    unsigned char c = (unsigned char)*reader->at;
    value *= 16;
    if (c >= '0' && c <= '9')
      value += c - '0';
    else if (c >= 'a' && c <= 'f')
      value += c - 'a' + 10U;
    else if (c >= 'A' && c <= 'F')
      value += c - 'A' + 10U;
    else
      fail (reader, "a hexadecimal digit");
  }
  return value;
}

static void add_utf8 (luaL_Buffer *buffer, unsigned code) {
  if (code < 0x80) {
    luaL_addchar (buffer, (char)code);
    return;
  }
  if (code < 0x800) {
    luaL_addchar (buffer, (char)(0xC0 | code >> 6));
  } else {
    if (code < 0x10000) {
      luaL_addchar (buffer, (char)(0xE0 | code >> 12));
    } else {
      luaL_addchar (buffer, (char)(0xF0 | code >> 18));
      luaL_addchar (buffer, (char)(0x80 | (code >> 12 & 0x3F)));
    }
    luaL_addchar (buffer, (char)(0x80 | (code >> 6 & 0x3F)));
  }
  luaL_addchar (buffer, (char)(0x80 | (code & 0x3F)));
}

/* After \u. Half of a pair alone is no character: U+FFFD takes its place. */
static void read_unicode (struct reader *reader, luaL_Buffer *buffer) {
  unsigned code = read_hex (reader);
  if (code >= 0xD800 && code < 0xDC00 && reader->at[0] == '\\' && reader->at[1] == 'u') {
    const char *before = reader->at;
    unsigned low;
    reader->at += 2;
    low = read_hex (reader);
    if (low >= 0xDC00 && low < 0xE000)
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    else
      reader->at = before;
  }
  add_utf8 (buffer, code >= 0xD800 && code < 0xE000 ? 0xFFFD : code);
}

static void read_escape (struct reader *reader, luaL_Buffer *buffer) {
  static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  const char *found;
  if (*reader->at == 'u') {
    reader->at++;
    read_unicode (reader, buffer);
    return;
  }
  found = *reader->at ? strchr (letters, *reader->at) : NULL;
  if (!found) {
    fail (reader, "an escape sequence");
    return;
  }
  luaL_addchar (buffer, meanings[found - letters]);
  reader->at++;
}

static const char *skip_plain (const char *at) {
  while ((unsigned char)*at >= ' ' && *at != '"' && *at != '\\')
    at++;
  return at;
}

static void read_string (struct reader *reader) {
  const char *plain = ++reader->at;
  luaL_Buffer buffer;
  reader->at = skip_plain (plain);
  if (*reader->at == '"') {
    lua_pushlstring (reader->L, plain, (size_t)(reader->at++ - plain));
    return;
  }
  luaL_buffinit (reader->L, &buffer);
  for (;;) {
    luaL_addlstring (&buffer, plain, (size_t)(reader->at - plain));
    if (*reader->at == '"')
      break;
    if (*reader->at != '\\')
      fail (reader, "the end of the string");
    reader->at++;
    read_escape (reader, &buffer);
    plain = reader->at;
    reader->at = skip_plain (plain);
  }
  reader->at++;
  luaL_pushresult (&buffer);
}

static bool is_digit (char c) {
  return c >= '0' && c <= '9';
}

static void read_digits (struct reader *reader) {
  if (!is_digit (*reader->at))
    fail (reader, "a digit");
  while (is_digit (*reader->at))
    reader->at++;
}

static void read_number (struct reader *reader) {
  lua_State *L = reader->L;
  const char *begin = reader->at;
  char few[48];
  size_t length;
  if (*reader->at == '-')
    reader->at++;
  if (*reader->at == '0')
    reader->at++;
  else
    read_digits (reader);
  if (*reader->at == '.') {
    reader->at++;
    read_digits (reader);
  }
  if (*reader->at == 'e' || *reader->at == 'E') {
    reader->at++;
    if (*reader->at == '+' || *reader->at == '-')
      reader->at++;
    read_digits (reader);
  }
  length = (size_t)(reader->at - begin);
  if (length < sizeof few) {
    memcpy (few, begin, length);
    few[length] = '\0';
    lua_stringtonumber (L, few);
  } else {
    lua_pushlstring (L, begin, length);
    if (!lua_stringtonumber (L, lua_tostring (L, -1)))
      lua_pushnumber (L, strtod (begin, NULL)); /* longer than Lua reads */
    lua_remove (L, -2);
  }
}

static void read_word (struct reader *reader, const char *word) {
  size_t length = strlen (word);
  if (strncmp (reader->at, word, length) != 0)
    fail (reader, "a value");
  reader->at += length;
}

static void enter (struct reader *reader, int names) {
  reader->at++;
  if (++reader->depth > MAX_DEPTH)
    fail (reader, "fewer than 500 levels");
  luaL_checkstack (reader->L, 8, NULL);
  lua_createtable (reader->L, 0, names);
  skip_space (reader);
}

/* After an item: whether there is another. */
static bool goes_on (struct reader *reader, char end, const char *expected) {
  skip_space (reader);
  if (*reader->at == ',') {
    reader->at++;
    skip_space (reader);
    return true;
  }
  if (*reader->at != end)
    fail (reader, expected);
  return false;
}

static void read_list (struct reader *reader) {
  lua_Integer i = 0;
  enter (reader, 0);
  if (*reader->at != ']')
    do {
      read_value (reader);
      lua_rawseti (reader->L, -2, ++i);
    } while (goes_on (reader, ']', "',' or ']'"));
  reader->at++;
  reader->depth--;
  lua_pushvalue (reader->L, reader->list);
  lua_setmetatable (reader->L, -2);
}

static void read_object (struct reader *reader) {
  enter (reader, USUAL_NAMES);
  if (*reader->at != '}')
    do {
      if (*reader->at != '"')
        fail (reader, "a name in quotes");
      read_string (reader);
      skip_space (reader);
      if (*reader->at != ':')
        fail (reader, "':'");
      reader->at++;
      skip_space (reader);
      read_value (reader);
      lua_rawset (reader->L, -3);
    } while (goes_on (reader, '}', "',' or '}'"));
  reader->at++;
  reader->depth--;
}

/* Space before it has been skipped. */
static void read_value (struct reader *reader) {
  switch (*reader->at) {
  case '{':
    read_object (reader);
    break;
  case '[':
    read_list (reader);
    break;
  case '"':
    read_string (reader);
    break;
  case 't':
    read_word (reader, "true");
    lua_pushboolean (reader->L, 1);
    break;
  case 'f':
    read_word (reader, "false");
    lua_pushboolean (reader->L, 0);
    break;
  case 'n':
    read_word (reader, "null");
    lua_pushlightuserdata (reader->L, NULL);
    break;
  default:
    if (*reader->at != '-' && !is_digit (*reader->at))
      fail (reader, "a value");
    read_number (reader);
  }
}

void json_read (lua_State *L, const char *text, size_t length) {
  struct reader reader = { .L = L, .start = text, .at = text, .end = text + length };
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  luaL_getmetatable (L, LIST);
  reader.list = lua_gettop (L);
  if (length >= 3 && memcmp (reader.at, "\xEF\xBB\xBF", 3) == 0)
    reader.at += 3; /* a byte order mark, which some servers send */
  skip_space (&reader);
  read_value (&reader);
  skip_space (&reader);
  if (reader.at != reader.end)
    fail (&reader, "the end");
  lua_remove (L, reader.list);
}

int json_decode (lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring (L, 1, &length);
  lua_settop (L, 1);
  json_read (L, text, length);
  return 1;
}

/* ── writing ── */

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
  if (++writer->depth > MAX_DEPTH)
    luaL_error (L, "more than 500 tables inside each other (or one inside itself) are no JSON");
  luaL_checkstack (L, 8, NULL);
  if (lua_getmetatable (L, -1)) {
    luaL_getmetatable (L, LIST);
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

static int json_encode (lua_State *L) {
  char space[1024];
  size_t length;
  const char *text;
  luaL_checkany (L, 1);
  text = json_write (L, 1, space, sizeof space, &length);
  lua_pushlstring (L, text, length);
  return 1;
}

void json_open (lua_State *L) {
  static const luaL_Reg functions[]
      = { { "json_encode", json_encode }, { "json_decode", json_decode }, { NULL, NULL } };
  luaL_newmetatable (L, LIST);
  lua_pop (L, 1);
  luaL_setfuncs (L, functions, 0);
  lua_pushlightuserdata (L, NULL);
  lua_setfield (L, -2, "null");
}
