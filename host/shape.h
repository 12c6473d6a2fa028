/* The names of a group in the order of their start, found once for all groups that have the same. */
#ifndef SHAPE_H
#define SHAPE_H

#include <lua.h>

#include "names.h"
#include "state.h"

enum {
  MOST_NAMES = 4096 /* of a shape that has them in user values, and may be remembered */
};

/* A userdata, owned by the collector: by its groups, and by the host for as long as it is remembered. */
struct shape {
  uint32_t size;
  bool tabled;          /* more than MOST_NAMES: they are in a table */
  struct name_map *map; /* from names to numbers; made when first asked, in VALUE_MAP */
  struct meeting *met;  /* how a tabled one's names were met, in VALUE_MET; or NULL */
  uint64_t hash;        /* of the names as they were met; if tabled, of the first MOST_NAMES */
  struct name names
      []; /* in that order, if not tabled: integers, or what strings are known by (lua_topointer);
                          behind them their numbers in the order of start */
};

/* The user values of a shape. */
enum shape_value {
  VALUE_MAP = 1,
  VALUE_FIRST, /* the names in the order of start, or a table of them */
  VALUE_MET    /* only if they are in a table */
};

/* The names of a tabled shape in the order in which they were met. */
struct meeting {
  uint32_t *places;      /* their numbers in the order of start */
  const void *strings[]; /* what they are known by, NULL for integers; behind them the places */
};

/* What is hashed of names that are met one after the other. */
static inline uint64_t shape_hash (uint64_t hash, const struct name *name) {
  hash ^= name->string ? (uint64_t)(uintptr_t)name->string : ~(uint64_t)name->number;
  return (hash ^ hash >> 29) * 0x9e3779b97f4a7c15u;
}

/* Push the remembered shape of these names, met in this order, or nothing. Strings are known by lua_topointer. */
struct shape *shape_recall (lua_State *L, allua *host, const struct name *names, uint32_t size,
                            uint64_t hash);

/* Push a new one for these names, which its caller sets as its values, and, if it is not tabled, numbers by
   their order of start. May raise. */
struct shape *shape_new (lua_State *L, const struct name *names, uint32_t size, uint64_t hash);
void shape_number (struct shape *shape, const struct place *order);

/* The same for more than MOST_NAMES: push the one that was remembered last if its first names are these. */
struct shape *shape_recall_many (lua_State *L, allua *host, const struct name *names,
                                 uint64_t hash);

/* Whether that name is the shape's `i`th in the order in which they are met. The shape's table is at `index`. */
bool shape_is_met (lua_State *L, int index, const struct shape *shape, uint32_t i,
                   const struct name *name);

/* Have room for how the names were met in a new tabled shape on top of L, so that it can be remembered; unless Lua's
   memory is limited. May raise. */
void shape_make_meeting (lua_State *L, allua *host, struct shape *shape);

/* Remember the one on top of L, which is whole, if its names have been met before; a tabled one at once, in the
   place of the last. */
void shape_remember (lua_State *L, allua *host, const struct shape *shape);

/* Forget all of them; only a tabled one that was not needed since the last time: whether there was one. */
void shape_forget (allua *host);
bool shape_rest (allua *host);

/* The number in the order of start, from 0, of each name in the order in which they were met. */
static inline uint32_t *shape_places (struct shape *shape) {
  return (uint32_t *)(shape->names + shape->size);
}

/* Push what has the names: the shape at `index` of L, or, if it is tabled, its table. */
void shape_push_names (lua_State *L, int index, const struct shape *shape);

/* Push a name by its number. What has the names is at `index` of L. */
static inline void shape_push_name (lua_State *L, int index, const struct shape *shape,
                                    uint32_t number) {
  if (shape->tabled)
    lua_rawgeti (L, index, (lua_Integer)number + 1);
  else
    lua_getiuservalue (L, index, VALUE_FIRST + (int)number);
}

/* Strings are found by their address (lua_topointer): Lua has each short one only once. A place is free
   without one. */
struct name_map {
  uint32_t bits; /* the places are 2 to the power of it */
  struct mapped {
    const void *string;
    uint32_t number;
  } places[];
};

/* Where a string is, or the free place where it would be. */
static inline struct mapped *shape_probe (struct name_map *map, const void *string) {
  uint64_t hash = (uintptr_t)string * (uint64_t)0x9e3779b97f4a7c15u;
  uint32_t last = ((uint32_t)1 << map->bits) - 1, i = (uint32_t)(hash >> (64 - map->bits));
  while (map->places[i].string != string && map->places[i].string)
    i = (i + 1) & last;
  return &map->places[i];
}

/* The number of the name that is the very string of Lua's at `key`; shape->size if that cannot be told so
   quickly. */
static inline uint32_t shape_find_string (lua_State *L, const struct shape *shape, int key) {
  const struct mapped *mapped
      = shape->map ? shape_probe (shape->map, lua_topointer (L, key)) : NULL;
  return mapped && mapped->string ? mapped->number : shape->size;
}

/* The number of the name at `key`; shape->size if there is none. The shape is at `index`. May raise. */
uint32_t shape_find (lua_State *L, int index, struct shape *shape, int key);

#endif
