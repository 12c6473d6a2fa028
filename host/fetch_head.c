#include "fetch_head.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

static bool is_space (char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

struct line {
  const char *at, *end;
};

/* The next one that is not empty. False: there is none. */
static bool next_line (struct line *line, const char *end) {
  while (line->end < end && *line->end == '\n')
    line->end++;
  line->at = line->end;
  if (line->at == end)
    return false;
  line->end = memchr (line->at, '\n', (size_t)(end - line->at));
  if (!line->end)
    line->end = end;
  return true;
}

static void trim (const char **at, const char **end) {
  while (*at < *end && is_space (**at))
    ++*at;
  while (*end > *at && is_space ((*end)[-1]))
    --*end;
}

/* Where a header's name ends, and its value begins: behind the colon, or NULL. */
static const char *find_value (const struct line *line, const char **name_end) {
  const char *at = line->at;
  while (at < line->end && *at != ':' && !is_space (*at))
    at++;
  *name_end = at;
  if (at == line->at)
    return NULL;
  while (at < line->end && is_space (*at))
    at++;
  return at < line->end && *at == ':' ? at + 1 : NULL;
}

static void push_lower (lua_State *L, const char *at, const char *end) {
  luaL_Buffer buffer;
  size_t length = (size_t)(end - at), i;
  char *lower = luaL_buffinitsize (L, &buffer, length);
  for (i = 0; i < length; i++)
    lower[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] | 0x20 : at[i]);
  luaL_pushresultsize (&buffer, length);
}

static bool goes_on (const struct line *line) {
  return *line->at == ' ' || *line->at == '\t';
}

/* The value, and what of it stands in further lines: `line` becomes the first that is none of them. False: there is
   none. */
static bool push_value (lua_State *L, const char *at, struct line *line, const char *all_end) {
  const char *end = line->end;
  bool more, any;
  luaL_Buffer buffer;
  trim (&at, &end);
  more = next_line (line, all_end);
  if (!more || !goes_on (line)) {
    lua_pushlstring (L, at, (size_t)(end - at));
    return more;
  }
  luaL_buffinit (L, &buffer);
  luaL_addlstring (&buffer, at, (size_t)(end - at));
  any = end > at;
  for (; more && goes_on (line); more = next_line (line, all_end)) {
    at = line->at, end = line->end;
    trim (&at, &end);
    if (at < end && any)
      luaL_addchar (&buffer, ' ');
    luaL_addlstring (&buffer, at, (size_t)(end - at));
    any = any || end > at;
  }
  luaL_pushresult (&buffer);
  return more;
}

/* Of "HTTP/1.1 200 OK": the version and the reason. */
static void push_status_line (lua_State *L, const struct line *line) {
  const char *at = line->at + sizeof "HTTP/" - 1, *end = line->end, *version = at, *digits;
  if (end - line->at > 5 && memcmp (line->at, "HTTP/", 5) == 0) {
    while (at < end && !is_space (*at))
      at++;
    digits = at < end && *at == ' ' ? at + 1 : at;
    end = memchr (line->at, '\r', (size_t)(end - line->at));
    if (!end)
      end = line->end;
    if (at > version && digits < end && *digits >= '0' && *digits <= '9') {
      lua_pushlstring (L, version, (size_t)(at - version));
      while (digits < end && *digits >= '0' && *digits <= '9')
        digits++;
      if (digits < end && *digits == ' ')
        digits++;
      lua_pushlstring (L, digits, (size_t)(end - digits));
      return;
    }
  }
  lua_pushnil (L);
  lua_pushnil (L);
}

int fetch_head (lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring (L, 1, &length), *end = text + length;
  struct line line = { text, memchr (text, '\n', length) };
  lua_Integer count = 0;
  bool more;
  lua_settop (L, 1);
  lua_createtable (L, 8, 0);
  if (!line.end)
    line.end = end;
  push_status_line (L, &line);
  more = next_line (&line, end);
  while (more) {
    const char *name_end, *value = find_value (&line, &name_end);
    if (!value) {
      more = next_line (&line, end);
      continue;
    }
    lua_createtable (L, 2, 0);
    push_lower (L, line.at, name_end);
    lua_rawseti (L, -2, 1);
    more = push_value (L, value, &line, end);
    lua_rawseti (L, -2, 2);
    lua_rawseti (L, 2, ++count);
  }
  return 3;
}
