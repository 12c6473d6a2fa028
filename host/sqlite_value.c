#include "sqlite_value.h"

#include <string.h>

#include <lauxlib.h>

#include "blob.h"
#include "row.h"

/* ── parameters ── */

enum { LONGEST = 1000000000 }; /* bytes, for SQLite */

int sqlite_value_measure (lua_State *L, int index, int count, size_t *bytes) {
  int i;
  for (i = 0; i < count; i++) {
    int type = lua_type (L, index + i);
    size_t length = 0;
    if (type == LUA_TSTRING)
      length = lua_rawlen (L, index + i);
    else if (type == LUA_TUSERDATA) {
      if (!blob_push (L, index + i))
        return i + 1;
      length = lua_rawlen (L, -1);
      lua_pop (L, 1);
    } else if (type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TTHREAD) {
      return i + 1;
    }
    if (length > LONGEST)
      return i + 1;
    *bytes += length;
  }
  return 0;
}

int sqlite_value_refuse (lua_State *L, int index, int number) {
  index += number - 1;
  if (lua_type (L, index) == LUA_TSTRING || blob_push (L, index))
    return luaL_error (L, "parameter %d is longer than SQLite takes", number);
  return luaL_error (L, "parameter %d is a %s, which SQLite cannot store", number,
                     luaL_typename (L, index));
}

void sqlite_value_copy (lua_State *L, int index, struct sqlite_job *job) {
  char *bytes = (char *)(job->parameters + job->parameter_count);
  int i;
  for (i = 0; i < job->parameter_count; i++) {
    struct sqlite_value *value = &job->parameters[i];
    int type = lua_type (L, index + i);
    value->kind = SQLITE_KIND_NULL;
    if (type == LUA_TBOOLEAN) {
      value->kind = SQLITE_KIND_INTEGER;
      value->as.integer = lua_toboolean (L, index + i);
    } else if (type == LUA_TNUMBER && lua_isinteger (L, index + i)) {
      value->kind = SQLITE_KIND_INTEGER;
      value->as.integer = lua_tointeger (L, index + i);
    } else if (type == LUA_TNUMBER) {
      value->kind = SQLITE_KIND_FLOAT;
      value->as.number = lua_tonumber (L, index + i);
    } else if (type == LUA_TSTRING || type == LUA_TUSERDATA) {
      bool blob = blob_push (L, index + i);
      const char *text = lua_tolstring (L, blob ? -1 : index + i, &value->as.length);
      value->kind = blob ? SQLITE_KIND_BLOB : SQLITE_KIND_TEXT;
      memcpy (bytes, text, value->as.length);
      bytes += value->as.length;
      if (blob)
        lua_pop (L, 1);
    }
  }
}

/* ── rows ── */

/* Under the address of a pool stands a table in the registry, number of a shape → metatable of its rows, while
   there are such rows. */
void sqlite_value_open (lua_State *L, struct sqlite_pool *pool) {
  row_push_shapes (L);
  lua_rawsetp (L, LUA_REGISTRYINDEX, pool);
}

void sqlite_value_close (lua_State *L, struct sqlite_pool *pool) {
  lua_pushnil (L); /* the place is there, or not: this needs no memory */
  lua_rawsetp (L, LUA_REGISTRYINDEX, pool);
}

/* They stand one behind the other. */
static const char *next_name (void *data, int column) {
  const char **at = data, *name = *at;
  (void)column;
  *at += strlen (name) + 1;
  return name;
}

/* The metatable of rows, one for all of a shape. */
static void push_meta (lua_State *L, const struct sqlite_job *job) {
  const char *names = job->shape->names;
  lua_rawgetp (L, LUA_REGISTRYINDEX, job->pool);
  if (lua_rawgeti (L, -1, (lua_Integer)job->shape->number) == LUA_TNIL) {
    lua_pop (L, 1);
    row_push_meta (L, job->shape->columns, next_name, &names);
    lua_pushvalue (L, -1);
    lua_rawseti (L, -3, (lua_Integer)job->shape->number);
  }
  lua_remove (L, -2);
}

/* A row; its metatable, with the names of the columns, is at `meta`, and perhaps those also from `names` on. */
static void push_row (lua_State *L, int columns, const char **at, int meta, int names) {
  int i;
  lua_createtable (L, 0, columns);
  for (i = 0; i < columns; i++) {
    struct sqlite_value value;
    memcpy (&value, *at, sizeof value);
    *at += sizeof value;
    if (value.kind == SQLITE_KIND_NULL)
      continue;
    if (names)
      lua_pushvalue (L, names + i);
    else
      lua_rawgeti (L, meta, i + 1);
    if (value.kind == SQLITE_KIND_INTEGER) {
      lua_pushinteger (L, value.as.integer);
    } else if (value.kind == SQLITE_KIND_FLOAT) {
      lua_pushnumber (L, value.as.number);
    } else {
      lua_pushlstring (L, *at, value.as.length);
      *at += value.as.length;
    }
    lua_rawset (L, -3);
  }
  lua_pushvalue (L, meta);
  lua_setmetatable (L, -2);
}

void sqlite_value_push_first (lua_State *L, const struct sqlite_job *job) {
  const char *at = job->bytes;
  if (!job->shape) {
    lua_pushnil (L);
    return;
  }
  push_meta (L, job);
  push_row (L, job->shape->columns, &at, lua_gettop (L), 0);
  lua_remove (L, -2);
}

void sqlite_value_push_rows (lua_State *L, const struct sqlite_job *job) {
  const char *at = job->bytes;
  int i, meta = lua_gettop (L) + 1, columns;
  size_t row;
  if (!job->shape) {
    lua_createtable (L, 0, 0);
    return;
  }
  columns = job->shape->columns;
  luaL_checkstack (L, columns + LUA_MINSTACK, "too many columns");
  push_meta (L, job);
  for (i = 0; i < columns; i++)
    lua_rawgeti (L, meta, i + 1);
  lua_createtable (L, (int)(job->rows < 1000000 ? job->rows : 1000000), 0);
  for (row = 1; row <= job->rows; row++) {
    push_row (L, columns, &at, meta, meta + 1);
    lua_rawseti (L, -2, (lua_Integer)row);
  }
  lua_replace (L, meta);
  lua_settop (L, meta);
}
