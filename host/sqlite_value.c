#include "sqlite_value.h"

#include <string.h>

#include <lauxlib.h>

#include "blob.h"
#include "row.h"

/* ── parameters ── */

size_t sqlite_value_measure (lua_State *L, int index, lua_Integer count) {
  size_t bytes = 0, length;
  int top = lua_gettop (L);
  lua_Integer i;
  for (i = 1; i <= count; i++) {
    int type = lua_rawgeti (L, index, i);
    if (type == LUA_TUSERDATA)
      blob_push (L, -1);
    if (lua_type (L, -1) == LUA_TSTRING) {
      lua_tolstring (L, -1, &length);
      if (length > 1000000000)
        luaL_error (L, "parameter %d is longer than SQLite takes", (int)i);
      bytes += length;
    } else if (type != LUA_TNIL && type != LUA_TNUMBER && type != LUA_TBOOLEAN
               && type != LUA_TLIGHTUSERDATA) {
      luaL_error (L, "parameter %d is a %s, which SQLite cannot store", (int)i,
                  luaL_typename (L, -1));
    }
    lua_settop (L, top);
  }
  return bytes;
}

void sqlite_value_copy (lua_State *L, int index, struct sqlite_job *job) {
  char *bytes = (char *)(job->parameters + job->parameter_count);
  int i, top = lua_gettop (L);
  for (i = 0; i < job->parameter_count; i++) {
    struct sqlite_value *value = &job->parameters[i];
    int type = lua_rawgeti (L, index, i + 1);
    value->kind = SQLITE_KIND_NULL;
    if (type == LUA_TBOOLEAN) {
      value->kind = SQLITE_KIND_INTEGER;
      value->as.integer = lua_toboolean (L, -1);
    } else if (type == LUA_TNUMBER && lua_isinteger (L, -1)) {
      value->kind = SQLITE_KIND_INTEGER;
      value->as.integer = lua_tointeger (L, -1);
    } else if (type == LUA_TNUMBER) {
      value->kind = SQLITE_KIND_FLOAT;
      value->as.number = lua_tonumber (L, -1);
    } else if (type == LUA_TSTRING || type == LUA_TUSERDATA) {
      const char *text;
      value->kind = type == LUA_TSTRING ? SQLITE_KIND_TEXT : SQLITE_KIND_BLOB;
      if (type == LUA_TUSERDATA)
        blob_push (L, -1);
      text = lua_tolstring (L, -1, &value->as.length);
      memcpy (bytes, text, value->as.length);
      bytes += value->as.length;
    }
    lua_settop (L, top);
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

/* The names of the columns from stack index `first` on. */
static void push_row (lua_State *L, int columns, const char **at, int first) {
  int i;
  lua_createtable (L, 0, columns);
  for (i = 0; i < columns; i++) {
    struct sqlite_value value;
    memcpy (&value, *at, sizeof value);
    *at += sizeof value;
    if (value.kind == SQLITE_KIND_NULL)
      continue;
    lua_pushvalue (L, first + i);
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

void sqlite_value_push (lua_State *L, const struct sqlite_job *job) {
  const char *at = job->bytes;
  int i, meta = lua_gettop (L) + 1, columns = job->shape->columns;
  size_t row;
  luaL_checkstack (L, columns + LUA_MINSTACK, "too many columns");
  push_meta (L, job);
  for (i = 0; i < columns; i++)
    lua_rawgeti (L, meta, i + 1);
  lua_createtable (L, (int)(job->rows < 1000000 ? job->rows : 1000000), 0);
  for (row = 1; row <= job->rows; row++) {
    push_row (L, columns, &at, meta + 1);
    lua_pushvalue (L, meta);
    lua_setmetatable (L, -2);
    lua_rawseti (L, -2, (lua_Integer)row);
  }
  lua_replace (L, meta);
  lua_settop (L, meta);
}
