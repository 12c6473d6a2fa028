#include "postgres_value.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "json_read.h"
#include "row.h"

enum { MAX_DIMENSIONS = 6 }; /* of its arrays: its MAXDIM */

enum kind { TEXT, INTEGER, FLOAT, BOOLEAN, BYTES, JSON };

/* The types of PostgreSQL's that are not texts in Lua, with those of their arrays; and the arrays of texts.
   These numbers never change: they stand in its pg_type.dat. */
static const struct type {
  Oid oid, array;
  enum kind kind;
} types[] = {
  { 16, 1000, BOOLEAN }, { 17, 1001, BYTES },   { 20, 1016, INTEGER }, { 21, 1005, INTEGER },
  { 23, 1007, INTEGER }, { 26, 1028, INTEGER }, { 114, 199, JSON },    { 3802, 3807, JSON },
  { 700, 1021, FLOAT },  { 701, 1022, FLOAT },  { 18, 1002, TEXT },    { 19, 1003, TEXT },
  { 25, 1009, TEXT },    { 1042, 1014, TEXT },  { 1043, 1015, TEXT },  { 1700, 1231, TEXT },
  { 1082, 1182, TEXT },  { 1083, 1183, TEXT },  { 1114, 1115, TEXT },  { 1184, 1185, TEXT },
  { 1186, 1187, TEXT },  { 1266, 1270, TEXT },  { 2950, 2951, TEXT },  { 869, 1041, TEXT },
  { 650, 651, TEXT },    { 790, 791, TEXT },
};

static const struct type *find_type (Oid oid, bool *array) {
  size_t i;
  for (i = 0; i < sizeof types / sizeof *types; i++)
    if (types[i].oid == oid || types[i].array == oid) {
      *array = types[i].array == oid;
      return &types[i];
    }
  return NULL;
}

static int digit_of (char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c - 'A' + 10;
}

/* \x68690a, or, where the server writes the older form, hi\012 with \\ for a backslash. */
static void push_bytes (lua_State *L, const char *text, size_t length) {
  luaL_Buffer buffer;
  size_t i;
  luaL_buffinit (L, &buffer);
  if (length >= 2 && text[0] == '\\' && text[1] == 'x') {
    for (i = 2; i + 1 < length; i += 2)
      luaL_addchar (&buffer, (char)(digit_of (text[i]) * 16 + digit_of (text[i + 1])));
  } else {
    for (i = 0; i < length; i++)
      if (text[i] != '\\') {
        luaL_addchar (&buffer, text[i]);
      } else if (i + 1 < length && text[i + 1] == '\\') {
        luaL_addchar (&buffer, text[++i]);
      } else if (i + 3 < length) {
        luaL_addchar (&buffer, (char)(digit_of (text[i + 1]) * 64 + digit_of (text[i + 2]) * 8
                                      + digit_of (text[i + 3])));
        i += 3;
      }
  }
  luaL_pushresult (&buffer);
}

static void push_float (lua_State *L, const char *text, size_t length) {
  if (strcmp (text, "NaN") == 0) {
    lua_pushnumber (L, (lua_Number)NAN);
  } else if (strcmp (text, "Infinity") == 0 || strcmp (text, "-Infinity") == 0) {
    lua_pushnumber (L, *text == '-' ? -HUGE_VAL : HUGE_VAL);
  } else if (lua_stringtonumber (L, text) != length + 1) {
    luaL_error (L, "PostgreSQL sent \"%s\" as a number", text);
  } else {
    lua_pushnumber (L, lua_tonumber (L, -1));
    lua_remove (L, -2);
  }
}

/* `text` ends with a NUL. */
static void push_scalar (lua_State *L, enum kind kind, const char *text, size_t length) {
  switch (kind) {
  case INTEGER:
    lua_pushinteger (L, strtoll (text, NULL, 10));
    break;
  case FLOAT:
    push_float (L, text, length);
    break;
  case BOOLEAN:
    lua_pushboolean (L, *text == 't');
    break;
  case BYTES:
    push_bytes (L, text, length);
    break;
  case JSON:
    lua_pushcfunction (L, json_decode);
    lua_pushlstring (L, text, length);
    lua_call (L, 1, 1);
    break;
  case TEXT:
    lua_pushlstring (L, text, length);
  }
}

/* ── arrays: {1,2,NULL}, {{"a b","c\"d"},{…}}, [0:1]={…} ── */

struct array {
  lua_State *L;
  const char *at;
  enum kind kind;
  int depth;
};

static void push_item (struct array *array) {
  lua_State *L = array->L;
  bool quoted = *array->at == '"';
  luaL_Buffer buffer;
  size_t length;
  const char *text;
  luaL_buffinit (L, &buffer);
  if (quoted)
    array->at++;
  while (*array->at && (quoted ? *array->at != '"' : *array->at != ',' && *array->at != '}')) {
    if (*array->at == '\\' && array->at[1])
      array->at++;
    luaL_addchar (&buffer, *array->at++);
  }
  if (quoted && *array->at)
    array->at++;
  luaL_pushresult (&buffer);
  text = lua_tolstring (L, -1, &length);
  if (!quoted && strcmp (text, "NULL") == 0)
    lua_pushlightuserdata (L, NULL);
  else
    push_scalar (L, array->kind, text, length);
  lua_remove (L, -2);
}

static void push_list (struct array *array) {
  lua_State *L = array->L;
  lua_Integer i = 0;
  int top = lua_gettop (L) + 1;
  if (++array->depth > MAX_DIMENSIONS)
    luaL_error (L, "PostgreSQL sent an array of more than %d dimensions", MAX_DIMENSIONS);
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  lua_createtable (L, 0, 0);
  luaL_setmetatable (L, "allua.list");
  array->at++; /* { */
  while (*array->at && *array->at != '}') {
    if (*array->at == '{')
      push_list (array);
    else
      push_item (array);
    lua_rawseti (L, top, ++i);
    if (*array->at == ',')
      array->at++;
  }
  if (*array->at)
    array->at++;
  array->depth--;
}

static void push_array (lua_State *L, enum kind kind, const char *text) {
  struct array array = { .L = L, .at = text, .kind = kind };
  if (*text == '[')
    array.at = strchr (text, '=') ? strchr (text, '=') + 1 : text;
  if (*array.at != '{')
    luaL_error (L, "PostgreSQL sent \"%s\" as an array", text);
  push_list (&array);
}

/* ── rows ── */

struct column {
  Oid type;
  enum kind kind;
  bool array;
};

static const char shapes_key;

/* Of the names and types of the columns. */
static lua_Integer hash_shape (const struct postgres *pq, const PGresult *result, int columns) {
  uint64_t hash = 14695981039346656037u;
  int i;
  for (i = 0; i < columns; i++) {
    const char *name = pq->fname (result, i);
    for (; *name; name++)
      hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    hash = (hash ^ pq->ftype (result, i)) * 1099511628211u;
  }
  return (lua_Integer)hash;
}

struct result {
  const struct postgres *pq;
  const PGresult *result;
};

static const char *name_of (void *data, int column) {
  const struct result *of = data;
  return of->pq->fname (of->result, column);
}

/* The metatable of rows, in which the struct columns stand at 0. */
static void make_meta (lua_State *L, const struct postgres *pq, const PGresult *result,
                       int columns) {
  struct result of = { pq, result };
  struct column *types_of;
  int i;
  row_push_meta (L, columns, name_of, &of);
  types_of = lua_newuserdatauv (L, ((size_t)columns + 1) * sizeof *types_of, 0);
  for (i = 0; i < columns; i++) {
    const struct type *type = find_type (pq->ftype (result, i), &types_of[i].array);
    types_of[i].type = pq->ftype (result, i);
    types_of[i].kind = type ? type->kind : TEXT;
    types_of[i].array = type && types_of[i].array;
  }
  lua_rawseti (L, -2, 0);
}

/* Push the names that stand in the metatable at `meta`. Whether they and the types are those of the result. */
static bool push_names (lua_State *L, const struct postgres *pq, const PGresult *result,
                        int columns, int meta) {
  const struct column *types_of;
  int i;
  lua_rawgeti (L, meta, 0);
  types_of = lua_touserdata (L, -1);
  lua_pop (L, 1);
  for (i = 0; i < columns; i++) {
    lua_rawgeti (L, meta, i + 1);
    if (!types_of || lua_type (L, -1) != LUA_TSTRING || types_of[i].type != pq->ftype (result, i)
        || strcmp (lua_tostring (L, -1), pq->fname (result, i)) != 0)
      return false;
  }
  return (int)lua_rawlen (L, meta) == columns;
}

/* Push the metatable of its rows, one for all results with the same columns while there are such rows, then the
   names of the columns; give the columns. */
static const struct column *push_shape (lua_State *L, const struct postgres *pq,
                                        const PGresult *result, int columns) {
  lua_Integer hash = hash_shape (pq, result, columns);
  int meta = lua_gettop (L) + 1;
  const struct column *types_of;
  if (lua_rawgetp (L, LUA_REGISTRYINDEX, &shapes_key) == LUA_TNIL) {
    lua_pop (L, 1);
    row_push_shapes (L);
    lua_pushvalue (L, -1);
    lua_rawsetp (L, LUA_REGISTRYINDEX, &shapes_key);
  }
  if (lua_rawgeti (L, meta, hash) != LUA_TNIL) {
    lua_replace (L, meta);
    if (push_names (L, pq, result, columns, meta)) {
      lua_rawgeti (L, meta, 0);
      types_of = lua_touserdata (L, -1);
      lua_pop (L, 1);
      return types_of;
    }
    lua_settop (L, meta - 1); /* another with the same hash */
    lua_rawgetp (L, LUA_REGISTRYINDEX, &shapes_key);
  } else {
    lua_pop (L, 1);
  }
  make_meta (L, pq, result, columns);
  lua_pushvalue (L, -1);
  lua_rawseti (L, meta, hash);
  lua_replace (L, meta);
  push_names (L, pq, result, columns, meta);
  lua_rawgeti (L, meta, 0);
  types_of = lua_touserdata (L, -1);
  lua_pop (L, 1);
  return types_of;
}

void postgres_push_rows (lua_State *L, const struct postgres *pq, const PGresult *result) {
  int columns = pq->nfields (result), rows = pq->ntuples (result);
  int meta = lua_gettop (L) + 1, list, row, i;
  const struct column *types_of;
  if (!rows) {
    lua_createtable (L, 0, 0);
    return;
  }
  luaL_checkstack (L, columns + LUA_MINSTACK, "too many columns");
  types_of = push_shape (L, pq, result, columns);
  lua_createtable (L, rows, 0);
  list = lua_gettop (L);
  for (row = 0; row < rows; row++) {
    lua_createtable (L, 0, columns);
    for (i = 0; i < columns; i++) {
      const char *text = pq->getvalue (result, row, i);
      if (pq->getisnull (result, row, i))
        continue;
      lua_pushvalue (L, meta + 1 + i);
      if (types_of[i].array)
        push_array (L, types_of[i].kind, text);
      else
        push_scalar (L, types_of[i].kind, text, (size_t)pq->getlength (result, row, i));
      lua_rawset (L, list + 1);
    }
    lua_pushvalue (L, meta);
    lua_setmetatable (L, -2);
    lua_rawseti (L, list, row + 1);
  }
  lua_copy (L, list, meta);
  lua_settop (L, meta);
}

void postgres_push_form (lua_State *L, Oid oid) {
  bool array = false;
  const struct type *type = find_type (oid, &array);
  if (!type || (!array && type->kind != JSON))
    lua_pushliteral (L, "");
  else if (!array)
    lua_pushliteral (L, "json");
  else if (type->kind == JSON)
    lua_pushliteral (L, "json array");
  else
    lua_pushstring (L, type->kind == BYTES ? "bytes array" : "array");
}
