#include "shape.h"

#include <lauxlib.h>
#include <string.h>

enum {
  MOST_REMEMBERED = 16384, /* names in all shapes together, … */
  FEWER_REMEMBERED = 512   /* … where Lua's memory is limited */
};

static int slot_of (uint64_t hash) {
  return (int)(hash >> 40) % SHAPES + 1;
}

struct shape *shape_recall (lua_State *L, allua *host, const struct name *names, uint32_t size,
                            uint64_t hash) {
  struct shape *shape;
  uint32_t i;
  if (size > MOST_NAMES)
    return NULL;
  lua_rawgeti (host->L, SLOT_SHAPES, slot_of (hash));
  shape = lua_touserdata (host->L, -1);
  if (shape && shape->hash == hash && shape->size == size) {
    for (i = 0; i < size; i++)
      if (shape->names[i].string != names[i].string || shape->names[i].number != names[i].number)
        break;
    if (i == size) {
      lua_xmove (host->L, L, 1);
      return shape;
    }
  }
  lua_pop (host->L, 1);
  return NULL;
}

bool shape_is_met (lua_State *L, int index, const struct shape *shape, uint32_t i,
                   const struct name *name) {
  const struct meeting *met = shape->met;
  bool same;
  if (name->string || met->strings[i])
    return name->string == met->strings[i];
  lua_rawgeti (L, index, (lua_Integer)met->places[i] + 1);
  same = lua_tointeger (L, -1) == name->number;
  lua_pop (L, 1);
  return same;
}

struct shape *shape_recall_many (lua_State *L, allua *host, const struct name *names,
                                 uint64_t hash) {
  struct shape *shape;
  uint32_t i;
  int table;
  host_push (host, L, SLOT_MANY);
  shape = lua_touserdata (L, -1);
  if (shape && shape->hash == hash) {
    lua_getiuservalue (L, -1, VALUE_FIRST);
    table = lua_gettop (L);
    for (i = 0; i < MOST_NAMES && shape_is_met (L, table, shape, i, &names[i]); i++)
      ;
    lua_pop (L, 1);
    if (i == MOST_NAMES) {
      host->many_used = true;
      return shape;
    }
  }
  lua_pop (L, 1);
  return NULL;
}

void shape_make_meeting (lua_State *L, allua *host, struct shape *shape) {
  size_t strings = shape->size * sizeof (void *), places = shape->size * sizeof (uint32_t);
  struct meeting *met;
  if (host->mem.limit)
    return;
  met = lua_newuserdatauv (L, sizeof *met + strings + places, 0);
  met->places = (uint32_t *)(met->strings + shape->size);
  lua_setiuservalue (L, -2, VALUE_MET);
  shape->met = met;
}

struct shape *shape_new (lua_State *L, const struct name *names, uint32_t size, uint64_t hash) {
  bool tabled = size > MOST_NAMES;
  size_t bytes = offsetof (struct shape, names);
  struct shape *shape;
  if (!tabled)
    bytes += size * (sizeof *names + sizeof (uint32_t));
  shape = lua_newuserdatauv (L, bytes, tabled ? VALUE_MET : VALUE_MAP + (int)size);
  shape->size = size;
  shape->tabled = tabled;
  shape->map = NULL;
  shape->met = NULL;
  shape->hash = hash;
  if (tabled) {
    lua_createtable (L, (int)size, 0);
    lua_setiuservalue (L, -2, VALUE_FIRST);
  } else {
    memcpy (shape->names, names, size * sizeof *names);
  }
  return shape;
}

void shape_number (struct shape *shape, const struct place *order) {
  uint32_t i;
  for (i = 0; i < shape->size; i++)
    shape_places (shape)[order[i].of] = i;
}

void shape_remember (lua_State *L, allua *host, const struct shape *shape) {
  lua_State *own = host->L;
  size_t most = host->mem.limit ? FEWER_REMEMBERED : MOST_REMEMBERED;
  int slot = slot_of (shape->hash);
  const struct shape *other;
  if (shape->tabled) {
    if (!shape->met)
      return;
    lua_pushvalue (L, -1);
    lua_xmove (L, own, 1);
    lua_replace (own, SLOT_MANY);
    host->many = host->many_used = true;
    return;
  }
  if (host->shape_seen[slot - 1] != shape->hash || shape->size > most) {
    host->shape_seen[slot - 1] = shape->hash;
    return;
  }
  if (host->remembered + shape->size > most)
    shape_forget (host);
  lua_rawgeti (own, SLOT_SHAPES, slot);
  other = lua_touserdata (own, -1);
  host->remembered += shape->size - (other ? other->size : 0);
  lua_pop (own, 1);
  lua_pushvalue (L, -1);
  lua_xmove (L, own, 1);
  lua_rawseti (own, SLOT_SHAPES, slot);
}

static void forget_many (allua *host) {
  lua_pushboolean (host->L, false);
  lua_replace (host->L, SLOT_MANY);
  host->many = false;
}

void shape_forget (allua *host) {
  int i;
  for (i = 1; i <= SHAPES; i++) {
    lua_pushboolean (host->L, false);
    lua_rawseti (host->L, SLOT_SHAPES, i);
  }
  host->remembered = 0;
  forget_many (host);
}

bool shape_rest (allua *host) {
  bool forget = host->many && !host->many_used;
  if (forget)
    forget_many (host);
  host->many_used = false;
  return forget;
}

void shape_push_names (lua_State *L, int index, const struct shape *shape) {
  if (shape->tabled)
    lua_getiuservalue (L, index, VALUE_FIRST);
  else
    lua_pushvalue (L, index);
}

static void make_map (lua_State *L, int index, struct shape *shape) {
  struct name_map *map;
  uint32_t bits = 2, i;
  size_t bytes;
  int names;
  while ((uint64_t)1 << bits < shape->size + (uint64_t)shape->size / 4)
    bits++;
  luaL_checkstack (L, 3, NULL);
  bytes = sizeof *map + ((size_t)1 << bits) * sizeof *map->places;
  map = lua_newuserdatauv (L, bytes, 0);
  memset (map, 0, bytes);
  map->bits = bits;
  lua_setiuservalue (L, index, VALUE_MAP);
  shape_push_names (L, index, shape);
  names = lua_gettop (L);
  for (i = 0; i < shape->size; i++) {
    shape_push_name (L, names, shape, i);
    if (lua_type (L, -1) == LUA_TSTRING) {
      const void *string = lua_topointer (L, -1);
      *shape_probe (map, string) = (struct mapped){ .string = string, .number = i };
    }
    lua_pop (L, 1);
  }
  lua_pop (L, 1);
  shape->map = map;
}

/* How the string or integer at `key` stands to the name on top of L. */
static int compare_names (lua_State *L, int key) {
  if (lua_isinteger (L, key)) {
    lua_Integer x = lua_tointeger (L, key), y = lua_tointeger (L, -1);
    return lua_isinteger (L, -1) ? (x > y) - (x < y) : -1;
  }
  if (lua_isinteger (L, -1))
    return 1;
  size_t length, size;
  const char *name = lua_tolstring (L, key, &length), *other = lua_tolstring (L, -1, &size);
  int order = memcmp (name, other, length < size ? length : size);
  return order ? order : (length > size) - (length < size);
}

/* Those that their address does not find: integers, and long strings. */
static uint32_t search (lua_State *L, int index, const struct shape *shape, int key) {
  uint32_t low = 0, high = shape->size, middle, found = shape->size;
  lua_Integer number = lua_isinteger (L, key) ? lua_tointeger (L, key) : 0;
  int names;
  luaL_checkstack (L, 3, NULL);
  shape_push_names (L, index, shape);
  names = lua_gettop (L);
  /* A list's numbers come first, each in its place. */
  middle = (lua_Unsigned)number - 1u < shape->size ? (uint32_t)number - 1 : shape->size / 2;
  while (low < high) {
    int order;
    shape_push_name (L, names, shape, middle);
    order = compare_names (L, key);
    lua_pop (L, 1);
    if (order == 0) {
      found = middle;
      break;
    }
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
    middle = low + (high - low) / 2;
  }
  lua_pop (L, 1);
  return found;
}

uint32_t shape_find (lua_State *L, int index, struct shape *shape, int key) {
  int type = lua_type (L, key);
  if (type == LUA_TSTRING) {
    uint32_t number;
    if (!shape->map)
      make_map (L, index, shape);
    number = shape_find_string (L, shape, key);
    if (number < shape->size)
      return number;
  } else if (!lua_isinteger (L, key)) {
    return shape->size;
  }
  return search (L, index, shape, key);
}
