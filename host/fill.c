#include "fill.h"

#include <string.h>

#include "error.h"
#include "shape.h"

/* For what is no function. Returns whether it is a promise. */
static bool check_other (lua_State *L, allua *host, int key, int value) {
  if (luaL_getmetafield (L, value, "__call") != LUA_TNIL) {
    lua_pop (L, 1);
    return false;
  }
  if (lua_type (L, value) == LUA_TUSERDATA && lua_getmetatable (L, value)) {
    bool promise;
    host_push (host, L, SLOT_PROMISE);
    promise = lua_rawequal (L, -1, -2);
    lua_pop (L, 2);
    if (promise)
      return true;
  }
  lua_pushliteral (L, "task \"");
  luaL_tolstring (L, key, NULL);
  lua_pushfstring (L, "\" is not a function (got %s)", luaL_typename (L, value));
  lua_concat (L, 3);
  return error_raise (L);
}

/* Whether the table has no keys but 1 … its length, as far as looking at one of them tells. */
static bool looks_like_list (lua_State *L, lua_Unsigned length) {
  if (!length)
    return false;
  lua_pushinteger (L, (lua_Integer)length);
  if (!lua_next (L, 1))
    return true;
  lua_pop (L, 2);
  return false;
}

static void check_count (lua_State *L, enum group_kind kind, lua_Unsigned count) {
  if (count > INT32_MAX / 2)
    luaL_error (L, "%s: too many tasks", group_kind_name (kind));
}

/* What is found in a table of tasks that is not plainly a list. Its names and functions are on the stack, or, of
   more than MOST_NAMES tasks, in a table there. */
struct found {
  uint32_t count;
  bool list;     /* its keys are 1 … count after all */
  bool known;    /* there are more than MOST_NAMES of a shape that is remembered */
  bool adopts;   /* there are promises */
  uint64_t hash; /* of its names, up to MOST_NAMES */
  struct name *
      names; /* in the order in which they were met: `few`, or the host's; strings up to MOST_NAMES by
                         their identity until read_names */
  struct name few[32];
};

/* Check and read the name at `index`; returns whether it is one of a list of this length. */
static bool read_name (lua_State *L, int index, lua_Unsigned length, struct name *name) {
  if (lua_type (L, index) == LUA_TSTRING) {
    size_t bytes;
    name->string = lua_tolstring (L, index, &bytes);
    name->number = (int64_t)bytes;
    return false;
  }
  if (!lua_isinteger (L, index))
    luaL_error (L, "task names are strings or integers (got %s)", luaL_typename (L, index));
  name->string = NULL;
  name->number = lua_tointeger (L, index);
  return (lua_Unsigned)name->number - 1u < length;
}

/* Note the identity of the name under the top, which tells whether it is known already; to be read and checked if
   it is not. */
static inline bool note_name (lua_State *L, lua_Unsigned length, struct name *name) {
  name->string = lua_topointer (L, -2);
  name->number = 0;
  return !name->string && read_name (L, -2, length, name);
}

/* Read those names above `base` of which the identity was noted. */
static void read_names (lua_State *L, int base, struct name *names, uint32_t count) {
  uint32_t i;
  for (i = 0; i < count; i++)
    read_name (L, base + 1 + 2 * (int)i, 0, &names[i]);
}

/* Room for so many names; the host has it, so that it is not lost when something raises. */
static void make_room (lua_State *L, allua *host, size_t size) {
  size_t item = sizeof *host->names;
  void *block;
  if (size <= host->names_size)
    return;
  block = mem_resize (&host->mem, host->names, host->names_size * item, size * item);
  if (!block) {
    error_raise_memory (L, host);
  }
  host->names = block;
  host->names_size = size;
}

void fill_give_back (allua *host) {
  mem_resize (&host->mem, host->names, host->names_size * sizeof *host->names, 0);
  host->names = NULL;
  host->names_size = 0;
}

/* Put a task, the name and the function on top of L, into the table of pairs. The name stays. */
static void keep_pair (lua_State *L, int pairs, lua_Integer i) {
  lua_rawseti (L, pairs, 2 * i + 1);
  lua_pushvalue (L, -1);
  lua_rawseti (L, pairs, 2 * i + 2);
}

/* They become too many for the stack, where they stand from `base` on, under another name and function:
   put them into a table in their place. */
static void move_kept (lua_State *L, int base) {
  int i;
  lua_createtable (L, 4 * MOST_NAMES, 0);
  lua_insert (L, base + 1);
  for (i = 0; i < MOST_NAMES; i++) {
    lua_pushvalue (L, base + 2 + 2 * i);
    lua_pushvalue (L, base + 3 + 2 * i);
    keep_pair (L, base + 1, i);
    lua_pop (L, 1);
  }
  lua_copy (L, -2, base + 2);
  lua_copy (L, -1, base + 3);
  lua_settop (L, base + 3);
}

/* There are more names than there was room for. */
static void grow_names (lua_State *L, allua *host, struct found *found, size_t count) {
  const size_t few = sizeof found->few / sizeof *found->few;
  make_room (L, host, 4 * count);
  if (count == few)
    memcpy (host->names, found->few, sizeof found->few);
  found->names = host->names;
}

/* Check the function on top, its name under it; returns whether it is a promise. */
static inline bool check_task (lua_State *L, allua *host) {
  return !lua_isfunction (L, -1) && check_other (L, host, lua_gettop (L) - 1, lua_gettop (L));
}

/* The first names are those of the shape on top, over the next name and its function: go on with the walk for as long
   as the others are. Leaves above `base` the functions that were met, in the order of start, the shape and what is to
   be walked next, if there is `more`; returns how many were met. */
static uint32_t follow (lua_State *L, allua *host, int base, struct found *found, bool *more) {
  const struct shape *shape = lua_touserdata (L, -1);
  const uint32_t *places = shape->met->places;
  int functions = base + 1, names = base + 3;
  uint32_t i;
  lua_createtable (L, (int)shape->size, 0);
  for (i = 0; i < MOST_NAMES; i++) {
    lua_pushvalue (L, base + 2 + 2 * (int)i);
    lua_rawseti (L, -2, (lua_Integer)places[i] + 1);
  }
  lua_replace (L, functions);
  lua_replace (L, base + 2);
  lua_getiuservalue (L, base + 2, VALUE_FIRST);
  lua_replace (L, names);
  lua_copy (L, -2, names + 1);
  lua_copy (L, -1, names + 2);
  lua_settop (L, names + 2);
  do {
    struct name name = { .string = lua_topointer (L, -2) };
    *more = true;
    if (i == shape->size || (!name.string && !lua_isinteger (L, -2)))
      break;
    name.number = name.string ? 0 : lua_tointeger (L, -2);
    if (!shape_is_met (L, names, shape, i, &name))
      break;
    if (check_task (L, host))
      found->adopts = true;
    lua_rawseti (L, functions, (lua_Integer)places[i++] + 1);
    *more = lua_next (L, 1);
  } while (*more);
  lua_remove (L, names);
  return i;
}

/* They are not the shape's after all: make what `follow` left above `base`, of `count` tasks, into pairs. */
static void unfollow (lua_State *L, allua *host, int base, lua_Unsigned length, struct found *found,
                      uint32_t count) {
  int functions = base + 1, shape = base + 2, names = lua_gettop (L) + 1, pairs = names + 1;
  const uint32_t *places = ((const struct shape *)lua_touserdata (L, shape))->met->places;
  uint32_t i;
  make_room (L, host, count);
  found->names = host->names;
  lua_getiuservalue (L, shape, VALUE_FIRST);
  lua_createtable (L, 4 * (int)count, 0);
  for (i = 0; i < count; i++) {
    lua_rawgeti (L, functions, (lua_Integer)places[i] + 1);
    lua_rawgeti (L, names, (lua_Integer)places[i] + 1);
    if (!read_name (L, -1, length, &found->names[i]))
      found->list = false;
    lua_insert (L, -2);
    keep_pair (L, pairs, i);
    lua_pop (L, 1);
  }
  lua_replace (L, functions);
  lua_pop (L, 1);
  lua_remove (L, shape);
}

/* Check what there is beyond MOST_NAMES tasks, the next name and its function on top. */
static lua_Unsigned find_many (lua_State *L, allua *host, int base, lua_Unsigned length,
                               struct found *found) {
  const struct shape *shape = shape_recall_many (L, host, found->names, found->hash);
  lua_Unsigned count = MOST_NAMES;
  bool more = true;
  if (shape) {
    count = follow (L, host, base, found, &more);
    found->known = !more && count == shape->size;
    if (found->known) {
      found->list = false;
      return count;
    }
    unfollow (L, host, base, length, found, (uint32_t)count);
  } else {
    read_names (L, base, found->names, MOST_NAMES);
    move_kept (L, base);
  }
  for (; more; count++) {
    if (count >= host->names_size)
      make_room (L, host, 4 * (size_t)count);
    found->names = host->names;
    if (!read_name (L, -2, length, &found->names[count]))
      found->list = false;
    if (check_task (L, host))
      found->adopts = true;
    keep_pair (L, base + 1, (lua_Integer)count);
    more = lua_next (L, 1);
  }
  return count;
}

/* Check all tasks of the table at 1. */
static void find_tasks (lua_State *L, allua *host, enum group_kind kind, lua_Unsigned length,
                        struct found *found) {
  enum { CHUNK = 32 };
  size_t room = sizeof found->few / sizeof *found->few;
  lua_Unsigned count = 0;
  int base = lua_gettop (L);
  uint64_t hash = 0;
  found->list = true;
  found->known = found->adopts = false;
  found->names = found->few;
  for (lua_pushnil (L); lua_next (L, 1); count++) {
    if (count == MOST_NAMES) {
      found->hash = hash;
      count = find_many (L, host, base, length, found);
      break;
    }
    if (count == room) {
      grow_names (L, host, found, count);
      room = host->names_size;
    }
    if (!note_name (L, length, &found->names[count]))
      found->list = false;
    hash = shape_hash (hash, &found->names[count]);
    if (check_task (L, host))
      found->adopts = true;
    if (count % CHUNK == 0)
      luaL_checkstack (L, 2 * CHUNK + LUA_MINSTACK, NULL);
    lua_pushvalue (L, -2);
  }
  check_count (L, kind, count);
  found->count = (uint32_t)count;
  found->hash = hash;
}

/* Take the functions that stand above `base`, each on its name, into the group above them. */
static void take_functions (lua_State *L, int base, struct shape *shape) {
  const uint32_t *places = shape_places (shape);
  int index = lua_gettop (L), from = base + 2;
  uint32_t i;
  for (i = 0; i < shape->size; i++, from += 2) {
    lua_pushvalue (L, from);
    lua_setiuservalue (L, index, VALUE_FUNCTIONS + (int)places[i]);
  }
}

/* Take the names that they stand on into the shape on top. */
static void take_names (lua_State *L, int base, struct shape *shape) {
  const uint32_t *places = shape_places (shape);
  int index = lua_gettop (L), from = base + 1;
  uint32_t i;
  for (i = 0; i < shape->size; i++, from += 2) {
    lua_pushvalue (L, from);
    lua_setiuservalue (L, index, VALUE_FIRST + (int)places[i]);
  }
}

/* Take both from the table above `base`, in the order in which the tasks start: of so many all would be
   read from somewhere else in memory each time. The group is above it, the shape on top. */
static void take_many (lua_State *L, int base, const struct shape *shape,
                       const struct place *order) {
  struct meeting *met = shape->met;
  int pairs = base + 1, names = base + 4, functions = base + 5;
  lua_Integer i;
  lua_getiuservalue (L, base + 3, VALUE_FIRST);
  lua_getiuservalue (L, base + 2, VALUE_FUNCTIONS);
  for (i = 1; i <= (lua_Integer)shape->size; i++) {
    uint32_t of = order[i - 1].of;
    lua_Integer pair = 2 * (lua_Integer)of + 1;
    lua_rawgeti (L, pairs, pair);
    lua_rawseti (L, functions, i);
    lua_rawgeti (L, pairs, pair + 1);
    if (met) {
      met->places[of] = (uint32_t)i - 1;
      met->strings[of] = lua_topointer (L, -1);
    }
    lua_rawseti (L, names, i);
  }
  lua_pop (L, 2);
}

/* Fill a new shape, on top of L, and the group under it, or, if the shape is not tabled, leave that to
   take_functions. */
static void fill_shape (lua_State *L, allua *host, int base, struct shape *shape,
                        const struct found *found) {
  enum { FEW = 32 };
  struct place few[2 * FEW], *places = few, *order;
  size_t bytes = (size_t)2 * shape->size * sizeof *places;
  if (shape->tabled)
    shape_make_meeting (L, host, shape);
  if (shape->size > FEW)
    places = mem_resize (&host->mem, NULL, 0, bytes);
  if (!places) {
    error_raise_memory (L, host);
  }
  /* Nothing from here on can raise: all has its place. */
  order = names_order (found->names, places, places + shape->size, shape->size);
  if (shape->tabled) {
    take_many (L, base, shape, order);
  } else {
    shape_number (shape, order);
    take_names (L, base, shape);
  }
  shape_remember (L, host, shape);
  if (places != few)
    mem_resize (&host->mem, places, bytes, 0);
}

/* Push the shape of the names above `base`: one that is remembered, or a new one, in the group on top as well. */
static struct shape *push_shape (lua_State *L, allua *host, const struct found *found, int base) {
  struct shape *shape;
  if (found->known) {
    lua_pushvalue (L, base + 2);
    return lua_touserdata (L, -1);
  }
  shape = shape_recall (L, host, found->names, found->count, found->hash);
  if (shape)
    return shape;
  shape = shape_new (L, found->names, found->count, found->hash);
  if (!shape->tabled)
    read_names (L, base, found->names, found->count);
  fill_shape (L, host, base, shape, found);
  return shape;
}

/* Make a group with names, from what is above `base`, and push it. */
static struct group *fill_named (lua_State *L, allua *host, enum group_kind kind,
                                 const struct found *found, int base) {
  struct group *group = group_new (L, host, kind, found->count, true);
  if (group->tabled) {
    if (found->known)
      lua_pushvalue (L, base + 1);
    else
      lua_createtable (L, (int)group->size, 0);
    lua_setiuservalue (L, -2, VALUE_FUNCTIONS);
  }
  group->shape = push_shape (L, host, found, base);
  lua_setiuservalue (L, -2, VALUE_SHAPE);
  if (!group->tabled)
    take_functions (L, base, group->shape);
  return group;
}

/* Fill a group without names: its functions are where the values will be. Returns false where it should
   have some. */
static bool fill_list (lua_State *L, struct group *group, int index) {
  int results = index + 1, top = results;
  uint32_t i;
  lua_getiuservalue (L, index, VALUE_RESULTS);
  for (i = 1; i <= group->size; i++) {
    int type = lua_rawgeti (L, 1, i);
    if (type == LUA_TNIL)
      return false;
    if (type != LUA_TFUNCTION) {
      lua_pushinteger (L, i);
      if (check_other (L, group->host, top + 2, top + 1))
        group->adopts = true;
      lua_pop (L, 1);
    }
    lua_rawseti (L, results, i);
  }
  return true;
}

/* Fill a group with the items that its one function gets. */
static void fill_items (lua_State *L, struct group *group, int index) {
  uint32_t i;
  lua_getiuservalue (L, index, VALUE_RESULTS);
  for (i = 1; i <= group->size; i++) {
    if (lua_geti (L, 1, i) == LUA_TNIL) {
      lua_pop (L, 1);
      lua_pushlightuserdata (L, (void *)&group_no_item); /* its place must be there */
    }
    lua_rawseti (L, index + 1, i);
  }
}

struct group *fill_group (lua_State *L, allua *host, enum group_kind kind) {
  int index = lua_gettop (L) + 1;
  lua_Unsigned length;
  struct found found;
  struct group *group;
  if (kind == GROUP_MAP) {
    lua_Integer items = luaL_len (L, 1);
    check_count (L, kind, items < 0 ? 0 : (lua_Unsigned)items);
    group = group_new (L, host, kind, items < 0 ? 0 : (uint32_t)items, false);
    fill_items (L, group, index);
    lua_settop (L, index);
    return group;
  }
  length = lua_rawlen (L, 1);
  if (looks_like_list (L, length)) {
    check_count (L, kind, length);
    group = group_new (L, host, kind, (uint32_t)length, false);
    if (fill_list (L, group, index)) {
      lua_settop (L, index);
      return group;
    }
  }
  lua_settop (L, index - 1);
  find_tasks (L, host, kind, length, &found);
  if (found.list) {
    lua_settop (L, index - 1);
    group = group_new (L, host, kind, found.count, false);
    fill_list (L, group, index);
  } else {
    group = fill_named (L, host, kind, &found, index - 1);
    lua_replace (L, index);
  }
  if (found.names != found.few)
    fill_give_back (host);
  group->adopts |= found.adopts;
  lua_settop (L, index);
  return group;
}
