#include "json_read.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "json.h"

/* Of an object: room for them from the start, so that its table does not grow for each. */
enum { USUAL_NAMES = 4 };

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
  if (++reader->depth > JSON_DEPTH)
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
  luaL_getmetatable (L, JSON_LIST);
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
