/* libFuzzer's target: what is JSON comes back as it was, and what is none says at which byte. What PostgreSQL
   sends is read by the same room, and arrays and bytes by another: the first byte says which. */
#include "json.h"
#include "json_read.h"
#include "postgres_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

static lua_State *L;

/* ── a result of one row: the input, as one of these types ── */

static const Oid oids[] = { 25, 20, 701, 16, 17, 114, 1009, 1016, 1022, 1000, 1001, 199 };
static const char *text;
static size_t text_length;

static int one (const PGresult *result) {
  (void)result;
  return 1;
}

static int columns (const PGresult *result) {
  (void)result;
  return 1;
}

static char *name_of (const PGresult *result, int column) {
  static char name[] = "value";
  (void)result, (void)column;
  return name;
}

static int current;

static Oid type_of (const PGresult *result, int column) {
  (void)result, (void)column;
  return oids[current];
}

static char *value_of (const PGresult *result, int row, int column) {
  (void)result, (void)row, (void)column;
  return (char *)text;
}

static int length_of (const PGresult *result, int row, int column) {
  (void)result, (void)row, (void)column;
  return (int)text_length;
}

static int is_null (const PGresult *result, int row, int column) {
  (void)result, (void)row, (void)column;
  return 0;
}

static int push_rows (lua_State *state) {
  struct postgres pq;
  memset (&pq, 0, sizeof pq);
  pq.ntuples = one;
  pq.nfields = columns;
  pq.fname = name_of;
  pq.ftype = type_of;
  pq.getvalue = value_of;
  pq.getlength = length_of;
  pq.getisnull = is_null;
  postgres_push_rows (state, &pq, NULL);
  return 1;
}

/* One type an input: raising is slow under the address sanitizer. */
static void read_row (unsigned which) {
  int status;
  current = (int)(which % (sizeof oids / sizeof *oids));
  lua_pushcfunction (L, push_rows);
  status = lua_pcall (L, 0, 1, 0);
  if (status != LUA_OK && status != LUA_ERRRUN)
    abort ();
  if (status == LUA_OK && (!lua_istable (L, -1) || lua_rawlen (L, -1) != 1))
    abort ();
}

/* ── JSON ── */

static int same (int a, int b) {
  int equal = 1, count = 0;
  if (lua_type (L, a) != lua_type (L, b))
    return 0;
  if (!lua_istable (L, a))
    return lua_rawequal (L, a, b);
  luaL_checkstack (L, 8, NULL);
  if (lua_getmetatable (L, a) != lua_getmetatable (L, b))
    return 0;
  lua_settop (L, b);
  for (lua_pushnil (L); equal && lua_next (L, a); count++) {
    lua_pushvalue (L, -2);
    lua_rawget (L, b);
    equal = same (lua_gettop (L) - 1, lua_gettop (L));
    lua_settop (L, b + 1);
  }
  lua_settop (L, b);
  for (lua_pushnil (L); lua_next (L, b); count--)
    lua_pop (L, 1);
  return equal && count == 0;
}

static int decode (const char *data, size_t length) {
  lua_pushcfunction (L, json_decode);
  lua_pushlstring (L, data, length);
  return lua_pcall (L, 1, 1, 0);
}

static void complain (const char *what) {
  fprintf (stderr, "%s: %s\n", what, luaL_tolstring (L, -1, NULL));
  abort ();
}

static void there_and_back (const char *data, size_t length) {
  int status = decode (data, length);
  if (status == LUA_ERRRUN && strncmp (lua_tostring (L, -1), "invalid JSON at byte ", 21) == 0)
    return;
  if (status != LUA_OK)
    complain ("another error than one of the text");
  lua_getfield (L, LUA_REGISTRYINDEX, "encode");
  lua_pushvalue (L, 1);
  if (lua_pcall (L, 1, 1, 0) != LUA_OK) {
    if (strstr (lua_tostring (L, -1), "JSON has no way to say")) /* 1e999 */
      return;
    complain ("what was decoded cannot be encoded");
  }
  data = lua_tolstring (L, 2, &length);
  if (decode (data, length) != LUA_OK)
    complain ("what was encoded cannot be decoded");
  if (!same (1, 3))
    complain ("it came back as another");
}

static void open_state (void) {
  L = luaL_newstate ();
  if (!L)
    abort ();
  lua_newtable (L);
  json_open (L);
  lua_getfield (L, -1, "json_encode");
  lua_setfield (L, LUA_REGISTRYINDEX, "encode");
  lua_settop (L, 0);
}

int LLVMFuzzerTestOneInput (const uint8_t *input, size_t length);
int LLVMFuzzerTestOneInput (const uint8_t *input, size_t length) {
  char *copy;
  if (!length--)
    return 0;
  if (!L)
    open_state ();
  copy = malloc (length + 1); /* its own size, and the NUL that libpq ends its texts with */
  if (!copy)
    abort ();
  memcpy (copy, input + 1, length);
  copy[length] = '\0';
  text = copy;
  text_length = strlen (copy); /* no text of PostgreSQL's holds a NUL */
  if (input[0] % 2)
    read_row (input[0] / 2u);
  else
    there_and_back (copy, length);
  lua_settop (L, 0);
  free (copy);
  return 0;
}
