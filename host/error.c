#include "error.h"

#include <stdarg.h>
#include <string.h>

const char *error_push (lua_State *L, allua *host, const char *name, const char *format, ...) {
  va_list arguments;
  luaL_checkstack (L, 6, NULL);
  lua_createtable (L, 0, 4);
  lua_pushstring (L, name);
  lua_setfield (L, -2, "name");
  va_start (arguments, format);
  lua_pushvfstring (L, format, arguments);
  va_end (arguments);
  lua_setfield (L, -2, "message");
  host_push (host, L, SLOT_ERROR);
  lua_setmetatable (L, -2);
  lua_getfield (L, -1, "message");
  format = lua_tostring (L, -1);
  lua_pop (L, 1); /* the table holds it */
  return format;
}

void error_push_cancelled (lua_State *L, allua *host) {
  int name = lua_gettop (L) - 1, reason = name + 1;
  luaL_tolstring (L, name, NULL);
  error_push_message (L, reason);
  error_push (L, host, "CancelledError", "task \"%s\" was cancelled: %s",
              lua_tostring (L, reason + 1), lua_tostring (L, reason + 2));
  lua_pushvalue (L, name);
  lua_setfield (L, -2, "task");
  lua_pushvalue (L, reason);
  lua_setfield (L, -2, "reason");
  lua_replace (L, name);
  lua_settop (L, name);
}

bool error_is_cancelled (lua_State *L, allua *host, int index) {
  bool same;
  index = lua_absindex (L, index);
  if (!lua_istable (L, index) || !lua_checkstack (L, 4) || !lua_getmetatable (L, index))
    return false;
  host_push (host, L, SLOT_ERROR);
  same = lua_rawequal (L, -1, -2);
  lua_pop (L, 2);
  if (!same)
    return false;
  host_push (host, L, SLOT_NAME);
  lua_rawget (L, index);
  host_push (host, L, SLOT_CANCEL);
  same = lua_rawequal (L, -1, -2);
  lua_pop (L, 2);
  return same;
}

static int error_tostring (lua_State *L) {
  luaL_checktype (L, 1, LUA_TTABLE);
  lua_getfield (L, 1, "name");
  luaL_tolstring (L, -1, NULL);
  lua_pushliteral (L, ": ");
  lua_getfield (L, 1, "message");
  luaL_tolstring (L, -1, NULL);
  lua_remove (L, -2);
  lua_concat (L, 3);
  return 1;
}

void error_open (lua_State *L) {
  static const luaL_Reg methods[] = { { "__tostring", error_tostring }, { NULL, NULL } };
  luaL_setfuncs (L, methods, 0);
  lua_pushliteral (L, "allua.error");
  lua_setfield (L, -2, "__name");
}

/* Edit distance in which two letters swapped count once; `most + 1` when it is larger than that. */
static int distance (const char *a, size_t n, const char *b, size_t m, int most) {
  int rows[3][64];
  int *before = rows[0], *last = rows[1], *row = rows[2];
  size_t i, j;
  for (j = 0; j <= m; j++)
    last[j] = (int)j;
  memset (rows[0], 0, sizeof rows[0]);
  for (i = 1; i <= n; i++) {
    int *spare = before, smallest;
    row[0] = smallest = (int)i;
    for (j = 1; j <= m; j++) {
      int cost = last[j - 1] + (a[i - 1] != b[j - 1]);
      if (last[j] + 1 < cost)
        cost = last[j] + 1;
      if (row[j - 1] + 1 < cost)
        cost = row[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]
          && before[j - 2] + 1 < cost)
        cost = before[j - 2] + 1;
      row[j] = cost;
      if (cost < smallest)
        smallest = cost;
    }
    if (smallest > most)
      return most + 1;
    before = last;
    last = row;
    row = spare;
  }
  return last[m];
}

void error_near_open (struct near *near, const char *name, size_t length) {
  near->name = name;
  near->length = length;
  near->distance = length <= 2 ? 2 : length <= 5 ? 3 : 4; /* one more than is near */
  near->best[0] = '\0';
}

void error_near_add (struct near *near, const char *candidate, size_t length) {
  int found;
  if (length == 0 || length >= sizeof near->best || near->length >= sizeof near->best)
    return;
  found = distance (near->name, near->length, candidate, length, near->distance - 1);
  if (found < near->distance && (size_t)found < length) {
    near->distance = found;
    memcpy (near->best, candidate, length);
    near->best[length] = '\0';
  }
}

const char *error_near_hint (lua_State *L, const struct near *near) {
  if (near->best[0])
    return lua_pushfstring (L, " (did you mean \"%s\"?)", near->best);
  return lua_pushliteral (L, "");
}

void error_raised (lua_State *L, allua *host, int index) {
  lua_pushvalue (L, index);
  lua_xmove (L, host->L, 1);
  host->raised_in = host->current;
  lua_replace (host->L, SLOT_RAISED);
  lua_xmove (L, host->L, 1);
  lua_replace (host->L, SLOT_RAISED_INFO);
}

void error_push_record (lua_State *L, allua *host, int index) {
  index = lua_absindex (L, index);
  host_push (host, L, SLOT_RAISED);
  if ((!host->current || host->current == host->raised_in) && lua_rawequal (L, index, -1)) {
    lua_pop (L, 1);
    host_push (host, L, SLOT_RAISED_INFO);
  } else {
    lua_pop (L, 1);
    lua_pushnil (L);
  }
}

int error_raise (lua_State *L) {
  luaL_where (L, 1);
  lua_insert (L, -2);
  lua_concat (L, 2);
  return lua_error (L);
}

static int protected_tostring (lua_State *L) {
  luaL_tolstring (L, 1, NULL);
  return 1;
}

void error_push_message (lua_State *L, int index) {
  index = lua_absindex (L, index);
  if (lua_type (L, index) == LUA_TSTRING || lua_type (L, index) == LUA_TNUMBER) {
    lua_pushvalue (L, index);
    lua_tostring (L, -1);
  } else if (luaL_getmetafield (L, index, "__tostring") != LUA_TNIL) {
    lua_pop (L, 1);
    lua_pushcfunction (L, protected_tostring);
    lua_pushvalue (L, index);
    if (lua_pcall (L, 1, 1, 0) != LUA_OK) {
      lua_pop (L, 1);
      lua_pushfstring (L, "(error object is a %s value whose __tostring failed)",
                       luaL_typename (L, index));
    }
  } else {
    lua_pushfstring (L, "(error object is a %s value)", luaL_typename (L, index));
  }
}

static void add_field (lua_State *L, luaL_Buffer *text, int record, const char *format,
                       const char *field) {
  if (!lua_istable (L, record))
    return;
  if (lua_getfield (L, record, field) == LUA_TNIL) {
    lua_pop (L, 1);
    return;
  }
  lua_pushfstring (L, format, lua_tostring (L, -1));
  lua_remove (L, -2);
  luaL_addvalue (text);
}

const char *error_push_report (lua_State *L, int index) {
  luaL_Buffer text;
  int record, count = 0;
  index = lua_absindex (L, index);
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  /* From the outermost task down to the one that raised first: a list of records. */
  lua_newtable (L);
  lua_insert (L, -2);
  while (lua_istable (L, -1)) {
    lua_getfield (L, -1, "from");
    lua_insert (L, -2);
    lua_rawseti (L, -3, ++count);
  }
  lua_pop (L, 1);
  error_push_message (L, index);
  lua_pushnil (L); /* places for a record and the one inside it */
  lua_pushnil (L);
  record = lua_gettop (L);
  luaL_buffinit (L, &text);
  lua_pushvalue (L, record - 2);
  luaL_addvalue (&text);
  for (; count > 0; count--) {
    bool awaited;
    lua_copy (L, record, record - 1);
    lua_rawgeti (L, record - 3, count);
    lua_replace (L, record);
    lua_getfield (L, record, "awaited");
    awaited = lua_toboolean (L, -1);
    lua_pop (L, 1);
    if (!awaited) /* another group: where the one inside it was started */
      add_field (L, &text, record - 1, "\nstarted at %s", "started");
    add_field (L, &text, record, "\n%s", "traceback");
    add_field (L, &text, record, awaited ? "\nawaited by task \"%s\"" : "\ntask \"%s\"", "task");
  }
  add_field (L, &text, record, "\nstarted at %s", "started");
  luaL_pushresult (&text);
  lua_replace (L, record - 3);
  lua_settop (L, record - 3);
  return lua_tostring (L, -1);
}

void error_push_place (lua_State *L, lua_State *at, int level) {
  lua_Debug info;
  for (; lua_getstack (at, level, &info); level++) {
    lua_getinfo (at, "Sl", &info);
    if (info.currentline > 0) {
      lua_pushfstring (L, "%s:%d", info.short_src, info.currentline);
      return;
    }
  }
  lua_pushnil (L);
}
