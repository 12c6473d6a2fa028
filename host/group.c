#include "group.h"

#include <math.h>
#include <string.h>

/* So many tasks that they are still in the cache when they get their numbers; memset is slow to begin. */
enum { CLEARED_AT_ONCE = 8 };

const char group_no_item = 'n';

const char *group_kind_name (enum group_kind kind) {
  static const char *const names[]
      = { "all", "map", "all_settled", "flow", "race", "any", "each", "call", "spawn", "run" };
  return names[kind];
}

struct group *group_new (lua_State *L, allua *host, enum group_kind kind, uint32_t size,
                         bool named) {
  size_t bytes = offsetof (struct group, tasks) + size * sizeof (struct task);
  bool tabled = named && size > MOST_NAMES;
  int values = tabled ? VALUE_FUNCTIONS : named ? VALUE_SHAPE + (int)size : VALUE_AUX;
  struct group *group;
  uint32_t i, cleared = size < CLEARED_AT_ONCE ? size : CLEARED_AT_ONCE;
  group = lua_newuserdatauv (L, bytes, values);
  memset (group, 0, offsetof (struct group, tasks) + cleared * sizeof (struct task));
  group->host = host;
  group->kind = (uint8_t)kind;
  group->size = group->pending = size;
  group->base = named && !tabled ? VALUE_FUNCTIONS : 1;
  group->named = named;
  group->tabled = tabled;
  group->promise = size ? &group->tasks[0].promise : NULL;
  for (i = 0; i < size; i++) {
    if (i == cleared) {
      uint32_t more = size - i < CLEARED_AT_ONCE ? size - i : CLEARED_AT_ONCE;
      memset (&group->tasks[i], 0, more * sizeof (struct task));
      cleared += more;
    }
    group->tasks[i].group = group;
    group->tasks[i].index = i;
  }
  lua_createtable (L, named ? 0 : (int)size, named ? (int)size : 0);
  lua_setiuservalue (L, -2, VALUE_RESULTS);
  return group;
}

/* The free places of SLOT_LIVE are a list: each has the number of the next, but for the one that was left last. */
void group_anchor (lua_State *L, struct group *group) {
  allua *host = group->host;
  lua_State *own = host->L;
  if (host->live_left) {
    group->anchor = host->live_left;
    host->live_left = 0;
  } else if (host->live_free) {
    group->anchor = host->live_free;
    lua_rawgeti (own, SLOT_LIVE, group->anchor);
    host->live_free = (int)lua_tointeger (own, -1);
    lua_pop (own, 1);
  }
  if (group->anchor) {
    lua_pushvalue (L, -1);
    lua_xmove (L, own, 1);
    lua_pushvalue (own, -1);
    lua_replace (own, SLOT_GROUP);
    host->loaded = group;
    lua_rawseti (own, SLOT_LIVE, group->anchor);
  } else {
    host_push (host, L, SLOT_LIVE);
    lua_pushvalue (L, -2);
    lua_rawseti (L, -2, host->live_places + 1);
    lua_pop (L, 1);
    group->anchor = ++host->live_places;
  }
}

/* Lua has read the results by itself, which are the script's from now on. */
static void leave_results (struct group *group) {
  lua_State *own = group->host->L;
  group_load (group);
  lua_pushvalue (own, SLOT_SELF);
  lua_setmetatable (own, SLOT_GROUP);
  lua_getiuservalue (own, SLOT_GROUP, VALUE_RESULTS);
  lua_pushnil (own);
  lua_setmetatable (own, -2);
  lua_pop (own, 1);
  group->direct = false;
}

void group_release (struct group *group) {
  allua *host = group->host;
  if (group->direct)
    leave_results (group);
  if (host->loaded == group) {
    lua_pushnil (host->L);
    lua_replace (host->L, SLOT_GROUP);
    host->loaded = NULL;
  }
  if (host->live_left) {
    lua_pushinteger (host->L, host->live_free);
    lua_rawseti (host->L, SLOT_LIVE, host->live_left);
    host->live_free = host->live_left;
  }
  lua_pushboolean (host->L, false);
  lua_rawseti (host->L, SLOT_LIVE, group->anchor);
  host->live_left = group->anchor;
  group->anchor = 0;
}

void group_load (struct group *group) {
  allua *host = group->host;
  if (host->loaded == group)
    return;
  lua_rawgeti (host->L, SLOT_LIVE, group->anchor);
  lua_replace (host->L, SLOT_GROUP);
  host->loaded = group;
}

int group_get (lua_State *L, int index, lua_Integer slot) {
  int type;
  if (slot <= AUX)
    return lua_getiuservalue (L, index, (int)slot);
  if (lua_getiuservalue (L, index, VALUE_EXTRA) == LUA_TNIL)
    return LUA_TNIL;
  type = lua_rawgeti (L, -1, slot);
  lua_remove (L, -2);
  return type;
}

int group_peek (lua_State *L, struct group *group, enum group_slot slot) {
  lua_State *own = group->host->L;
  int type;
  group_load (group);
  type = group_get (own, SLOT_GROUP, slot);
  if (L != own)
    lua_xmove (own, L, 1);
  return type;
}

void group_push_extra (lua_State *L, int index) {
  index = lua_absindex (L, index);
  if (lua_getiuservalue (L, index, VALUE_EXTRA) != LUA_TNIL)
    return;
  lua_pop (L, 1);
  lua_newtable (L);
  lua_pushvalue (L, -1);
  lua_setiuservalue (L, index, VALUE_EXTRA);
}

void group_set (lua_State *L, int index, lua_Integer slot) {
  if (slot <= AUX) {
    lua_setiuservalue (L, index, (int)slot);
    return;
  }
  group_push_extra (L, index);
  lua_insert (L, -2);
  lua_rawseti (L, -2, slot);
  lua_pop (L, 1);
}

void group_put (struct group *group, enum group_slot slot) {
  group_load (group);
  lua_setiuservalue (group->host->L, SLOT_GROUP, (int)slot);
}

/* Push the table in which a task's function is, unless that is a user value. */
static bool push_own_table (lua_State *L, int index, const struct group *group) {
  if (group->named && !group->tabled)
    return false;
  lua_getiuservalue (L, index, group->named ? VALUE_FUNCTIONS : VALUE_RESULTS);
  return true;
}

int group_push_own (lua_State *L, int index, const struct task *task) {
  int type;
  if (!push_own_table (L, index, task->group))
    return lua_getiuservalue (L, index, (int)group_place (task));
  type = lua_rawgeti (L, -1, group_place (task));
  lua_remove (L, -2);
  return type;
}

void group_set_own (lua_State *L, int index, const struct task *task) {
  if (!push_own_table (L, index, task->group)) {
    lua_setiuservalue (L, index, (int)group_place (task));
    return;
  }
  lua_insert (L, -2);
  lua_rawseti (L, -2, group_place (task));
  lua_pop (L, 1);
}

struct group_options *group_extend (lua_State *L, int index) {
  struct group *group = lua_touserdata (L, index);
  if (!group->options) {
    struct group_options *options;
    index = lua_absindex (L, index);
    options = lua_newuserdatauv (L, sizeof *options, 0);
    memset (options, 0, sizeof *options);
    options->timeout_seconds = HUGE_VAL;
    options->group = group;
    group_set (L, index, OPTIONS);
    group->options = options;
  }
  return group->options;
}

/* The name of a task in a group without names: its number, or, where it is alone, what it is. */
static void push_number (lua_State *L, const struct task *task) {
  switch (task->group->kind) {
  case GROUP_ROOT:
    lua_pushliteral (L, "main");
    break;
  case GROUP_SPAWN:
    lua_pushliteral (L, "spawned");
    break;
  case GROUP_CALL:
    lua_pushliteral (L, "call");
    break;
  default:
    lua_pushinteger (L, (lua_Integer)task->index + 1);
  }
}

void group_push_name_at (lua_State *L, int index, const struct task *task) {
  if (!task->group->named) {
    push_number (L, task);
    return;
  }
  lua_getiuservalue (L, index, VALUE_SHAPE);
  shape_push_names (L, -1, task->group->shape);
  shape_push_name (L, -1, task->group->shape, task->index);
  lua_replace (L, -3);
  lua_pop (L, 1);
}

void group_push_name (lua_State *L, const struct task *task) {
  struct group *group = task->group;
  lua_State *own = group->host->L;
  if (!group->named) {
    push_number (L, task);
    return;
  }
  group_load (group);
  group_push_name_at (own, SLOT_GROUP, task);
  if (L != own)
    lua_xmove (own, L, 1);
}

const char *group_push_title (lua_State *L, const struct task *task, bool label) {
  if (label && group_peek (L, task->group, LABEL) != LUA_TNIL) {
    lua_pushliteral (L, ".");
    group_push_name (L, task);
    lua_concat (L, 3);
  } else {
    if (label)
      lua_pop (L, 1);
    group_push_name (L, task);
  }
  return lua_tostring (L, -1);
}

void group_link (struct group *group, struct task *owner) {
  struct group **list = owner ? &owner->children : &group->host->roots;
  group->owner = owner;
  group->previous = NULL;
  group->next = *list;
  if (*list)
    (*list)->previous = group;
  *list = group;
  group->host->live_groups++;
}

void group_unlink (struct group *group) {
  struct group **list = group->owner ? &group->owner->children : &group->host->roots;
  if (group->next)
    group->next->previous = group->previous;
  if (group->previous)
    group->previous->next = group->next;
  else
    *list = group->next;
  group->next = group->previous = NULL;
  group->host->live_groups--;
}

/* The first group owned by a task of this one, from a task on. */
static struct group *first_child (const struct group *group, uint32_t from) {
  uint32_t i;
  for (i = from; i < group->size; i++)
    if (group->tasks[i].children)
      return group->tasks[i].children;
  return NULL;
}

struct group *group_walk (struct group *group) {
  struct group *child = first_child (group, 0);
  if (child)
    return child;
  while (!group->next) {
    const struct task *owner = group->owner;
    if (!owner)
      return NULL;
    group = owner->group;
    child = first_child (group, owner->index + 1);
    if (child)
      return child;
  }
  return group->next;
}

void group_push_reason (lua_State *L, const struct task *task) {
  struct group *group = task->group;
  if (task->own_reason) {
    lua_State *own = group->host->L;
    group_load (group);
    lua_getiuservalue (own, SLOT_GROUP, VALUE_EXTRA);
    lua_rawgeti (own, -1, -(lua_Integer)task->index - 1);
    lua_remove (own, -2);
    if (L != own)
      lua_xmove (own, L, 1);
    return;
  }
  while (!group->own_reason && group->owner && !group->owner->own_reason)
    group = group->owner->group;
  if (group->own_reason)
    group_peek (L, group, REASON);
  else if (group->owner)
    group_push_reason (L, group->owner); /* it has a reason of its own: no deeper */
  else
    lua_pushnil (L);
}
