#include "error.h"

#include <stdarg.h>
#include <stdlib.h>
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
  host_push (host, L, strcmp (name, "CancelledError") == 0 ? SLOT_CANCELLED : SLOT_ERROR);
  lua_setmetatable (L, -2);
  lua_getfield (L, -1, "message");
  format = lua_tostring (L, -1);
  lua_pop (L, 1); /* the table holds it */
  return format;
}

void error_push_cancelled (lua_State *L, allua *host) {
  int name = lua_gettop (L) - 1;
  lua_createtable (L, 0, 4);
  host_push (host, L, SLOT_NAME);
  host_push (host, L, SLOT_CANCEL);
  lua_rawset (L, -3);
  host_push (host, L, SLOT_CANCELLED);
  lua_setmetatable (L, -2);
  lua_insert (L, name);
  lua_setfield (L, name, "reason");
  lua_setfield (L, name, "task");
}

bool error_is_cancelled (lua_State *L, allua *host, int index) {
  const void *meta;
  if (lua_type (L, index) != LUA_TTABLE || !lua_checkstack (L, 1) || !lua_getmetatable (L, index))
    return false;
  meta = lua_topointer (L, -1);
  lua_pop (L, 1);
  return meta == host->cancelled_meta;
}

/* The message of most is never read, so it is made when it is: __index of a CancelledError. */
static int cancelled_index (lua_State *L) {
  lua_settop (L, 2);
  lua_pushliteral (L, "message");
  if (!lua_istable (L, 1) || !lua_rawequal (L, 2, 3))
    return 0;
  lua_pushliteral (L, "task");
  lua_rawget (L, 1);
  luaL_tolstring (L, -1, NULL);
  lua_pushliteral (L, "reason");
  lua_rawget (L, 1);
  error_push_message (L, -1);
  lua_pushfstring (L, "task \"%s\" was cancelled: %s", lua_tostring (L, 5), lua_tostring (L, 7));
  lua_pushvalue (L, 3);
  lua_pushvalue (L, 8);
  lua_rawset (L, 1);
  return 1;
}

static int next_field (lua_State *L) {
  lua_settop (L, 2);
  return lua_next (L, 1) ? 2 : 0;
}

/* Its __pairs: all fields are there to be seen. */
static int cancelled_pairs (lua_State *L) {
  luaL_checktype (L, 1, LUA_TTABLE);
  lua_getfield (L, 1, "message");
  lua_pushcfunction (L, next_field);
  lua_pushvalue (L, 1);
  lua_pushnil (L);
  return 3;
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

static void fill_metatable (lua_State *L, const luaL_Reg *methods) {
  luaL_setfuncs (L, methods, 0);
  lua_pushliteral (L, "allua.error");
  lua_setfield (L, -2, "__name");
}

void error_open (lua_State *L, allua *host) {
  static const luaL_Reg methods[] = { { "__tostring", error_tostring }, { NULL, NULL } };
  static const luaL_Reg cancelled[] = { { "__tostring", error_tostring },
                                        { "__index", cancelled_index },
                                        { "__pairs", cancelled_pairs },
                                        { NULL, NULL } };
  lua_newtable (L);
  fill_metatable (L, methods);
  lua_replace (L, SLOT_ERROR);
  lua_newtable (L);
  fill_metatable (L, cancelled);
  host->cancelled_meta = lua_topointer (L, -1);
  lua_replace (L, SLOT_CANCELLED);
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

/* Put the top of host->L into a table of the last few, in the place of the oldest: it allocates nothing. */
static void keep (allua *host, enum slot slot) {
  lua_rawseti (host->L, slot, host->seen + 1);
}

void error_seen (lua_State *L, allua *host, int index) {
  if (!lua_istable (L, -1)) {
    lua_pop (L, 1);
    return;
  }
  lua_pushvalue (L, index);
  lua_xmove (L, host->L, 1);
  keep (host, SLOT_SEEN);
  lua_xmove (L, host->L, 1);
  keep (host, SLOT_SEEN_INFO);
  host->seen_by[host->seen] = host->current;
  host->seen = (host->seen + 1) % MOST_SEEN;
}

void error_raised (lua_State *L, allua *host, int index) {
  index = lua_absindex (L, index);
  lua_pushvalue (L, index);
  lua_xmove (L, host->L, 1);
  host->raised_in = host->current;
  lua_replace (host->L, SLOT_RAISED);
  lua_pushvalue (L, -1);
  lua_xmove (L, host->L, 1);
  lua_replace (host->L, SLOT_RAISED_INFO);
  error_seen (L, host, index);
}

bool error_is_thrown (lua_State *L, allua *host, int index) {
  bool is;
  index = lua_absindex (L, index);
  host_push (host, L, SLOT_THROWN);
  is = !lua_isnil (L, -1) && lua_rawequal (L, index, -1) && host->thrown_in == host->current;
  lua_pop (L, 1);
  return is;
}

/* Arguments: the error, the host, the coroutine, the level. Leaves the traceback. */
static int make_traceback (lua_State *L) {
  allua *host = lua_touserdata (L, 2);
  luaL_traceback (L, lua_touserdata (L, 3), NULL, (int)lua_tointeger (L, 4));
  if (error_is_thrown (L, host, 1)) {
    host_push (host, L, SLOT_THROWN_INFO);
    lua_pushliteral (L, "\nin a coroutine, resumed by:");
    lua_pushstring (L, strchr (lua_tostring (L, 5), '\n')); /* without its headline */
    lua_concat (L, 3);
    return 1;
  }
  lua_settop (L, 5);
  return 1;
}

static int push_traceback (lua_State *L, allua *host, int index, lua_State *co, int level) {
  index = lua_absindex (L, index);
  lua_pushcfunction (L, make_traceback);
  lua_pushvalue (L, index);
  lua_pushlightuserdata (L, host);
  lua_pushlightuserdata (L, co);
  lua_pushinteger (L, level);
  return lua_pcall (L, 4, 1, 0);
}

void error_thrown (lua_State *L, allua *host, int index, lua_State *co, int level) {
  index = lua_absindex (L, index);
  if (error_is_cancelled (L, host, index) || !lua_checkstack (L, 8)
      || push_traceback (L, host, index, co, level + (co == L)) != LUA_OK)
    return;
  lua_xmove (L, host->L, 1);
  lua_replace (host->L, SLOT_THROWN_INFO);
  lua_pushvalue (L, index);
  error_thrown_as (L, host);
  lua_pop (L, 1);
}

void error_thrown_as (lua_State *L, allua *host) {
  lua_pushvalue (L, -1);
  lua_xmove (L, host->L, 1);
  lua_replace (host->L, SLOT_THROWN);
  host->thrown_in = host->current;
}

void error_push_traceback (lua_State *L, allua *host, int index) {
  if (push_traceback (L, host, index, L, 2) != LUA_OK) {
    lua_pop (L, 1);
    luaL_traceback (L, L, NULL, 1);
  }
}

/* Push the record of the last such error that was seen, by the running task or by `anybody`; else nil. */
static void push_seen (lua_State *L, allua *host, int index, bool anybody) {
  int i;
  for (i = 0; i < MOST_SEEN; i++) {
    int at = (host->seen + MOST_SEEN - 1 - i) % MOST_SEEN;
    bool same;
    if (!anybody && host->current && host->seen_by[at] != host->current)
      continue;
    lua_rawgeti (host->L, SLOT_SEEN, at + 1);
    lua_xmove (host->L, L, 1);
    same = lua_rawequal (L, index, -1);
    lua_pop (L, 1);
    if (!same)
      continue;
    lua_rawgeti (host->L, SLOT_SEEN_INFO, at + 1);
    lua_xmove (host->L, L, 1);
    if (lua_istable (L, -1))
      return;
    lua_pop (L, 1);
  }
  lua_pushnil (L);
}

void error_push_record (lua_State *L, allua *host, int index) {
  index = lua_absindex (L, index);
  host_push (host, L, SLOT_RAISED);
  if ((!host->current || host->current == host->raised_in) && lua_rawequal (L, index, -1)) {
    lua_pop (L, 1);
    host_push (host, L, SLOT_RAISED_INFO);
  } else {
    lua_pop (L, 1);
    push_seen (L, host, index, false);
  }
}

void error_find_record (lua_State *L, allua *host, int index) {
  index = lua_absindex (L, index);
  error_push_record (L, host, index);
  if (!lua_isnil (L, -1))
    return;
  lua_pop (L, 1);
  push_seen (L, host, index, true);
  if (!lua_isnil (L, -1) || lua_isnil (L, index))
    return;
  host_push (host, L, SLOT_FAILED);
  lua_pushvalue (L, index);
  lua_rawget (L, -2);
  lua_replace (L, -3);
  lua_pop (L, 1);
}

int error_raise (lua_State *L) {
  luaL_where (L, 1);
  lua_insert (L, -2);
  lua_concat (L, 2);
  return lua_error (L);
}

int error_raise_memory (lua_State *L, allua *host) {
  host_push (host, L, SLOT_MEMORY);
  lua_error (L);
  abort (); /* never: but lua.h does not say so */
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
