#include "group.h"

#include <math.h>
#include <string.h>

const char group_no_item = 'n';

const char *group_kind_name (enum group_kind kind) {
  static const char *const names[]
      = { "all", "map", "all_settled", "flow", "race", "any", "each", "call", "spawn", "run" };
  return names[kind];
}

struct group *group_new (lua_State *L, allua *host, enum group_kind kind, uint32_t size,
                         bool named) {
  size_t bytes = offsetof (struct group, tasks) + size * sizeof (struct task);
  int keys = (int)(named ? 2 * size : size);
  struct group *group;
  uint32_t i;
  luaL_checkstack (L, 8, "too many values for a group");
  group = lua_newuserdatauv (L, bytes, 2);
  memset (group, 0, offsetof (struct group, tasks));
  group->host = host;
  group->kind = (uint8_t)kind;
  group->size = group->pending = size;
  group->named = named;
  group->anchor = LUA_NOREF;
  group->promise = size ? &group->tasks[0].promise : NULL;
  for (i = 0; i < size; i++)
    group->tasks[i] = (struct task){ .group = group, .index = i, .promise.place = i + 1 };
  lua_createtable (L, keys + AUX, 0);
  /* Something is there from the start, so that setting them later finds a place, without memory. */
  lua_pushboolean (L, 0);
  lua_rawseti (L, -2, keys + REASON);
  lua_pushboolean (L, 0);
  lua_rawseti (L, -2, keys + AUX);
  if (named)
    lua_createtable (L, 0, (int)size);
  else
    lua_createtable (L, (int)size, 0);
  lua_pushvalue (L, -2);
  lua_setiuservalue (L, -4, 1);
  lua_pushvalue (L, -1);
  lua_setiuservalue (L, -4, 2);
  return group;
}

lua_Integer group_key (const struct group *group, enum group_slot slot) {
  return (lua_Integer)group->size * (group->named ? 2 : 1) + slot;
}

void group_load (struct group *group) {
  allua *host = group->host;
  lua_State *L = host->L;
  if (host->loaded == group)
    return;
  lua_rawgeti (L, SLOT_LIVE, group->anchor);
  lua_getiuservalue (L, -1, 2);
  lua_replace (L, SLOT_RESULTS);
  lua_getiuservalue (L, -1, 1);
  lua_replace (L, SLOT_SLOTS);
  lua_replace (L, SLOT_GROUP);
  host->loaded = group;
}

int group_get (lua_State *L, int index, enum group_slot slot) {
  struct group *group = lua_touserdata (L, index);
  int type;
  lua_getiuservalue (L, index, 1);
  type = lua_rawgeti (L, -1, group_key (group, slot));
  lua_remove (L, -2);
  return type;
}

int group_peek (lua_State *L, struct group *group, enum group_slot slot) {
  lua_State *own = group->host->L;
  int type;
  group_load (group);
  type = lua_rawgeti (own, SLOT_SLOTS, group_key (group, slot));
  if (L != own)
    lua_xmove (own, L, 1);
  return type;
}

void group_set (lua_State *L, int index, enum group_slot slot) {
  struct group *group = lua_touserdata (L, index);
  lua_getiuservalue (L, index, 1);
  lua_insert (L, -2);
  lua_rawseti (L, -2, group_key (group, slot));
  lua_pop (L, 1);
}

void group_put (struct group *group, enum group_slot slot) {
  group_load (group);
  lua_rawseti (group->host->L, SLOT_SLOTS, group_key (group, slot));
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
  lua_getiuservalue (L, index, 1);
  lua_rawgeti (L, -1, group_place (task) + 1);
  lua_remove (L, -2);
}

void group_push_name (lua_State *L, const struct task *task) {
  struct group *group = task->group;
  lua_State *own = group->host->L;
  if (!group->named) {
    push_number (L, task);
    return;
  }
  group_load (group);
  lua_rawgeti (own, SLOT_SLOTS, group_place (task) + 1);
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
    lua_rawgeti (own, SLOT_SLOTS, -(lua_Integer)task->index - 1);
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
