#include "cycle.h"

#include "error.h"

/* Two searches go on in turns, a step each.

   Forward from the target, over what it waits for: when it runs dry without having met the reader,
   there is no cycle. Backward from the reader, over all that its waiting blocks: who waits for it,
   and the owner of its group when the owner needs it. When that meets the target there is a cycle,
   when it runs dry there is none. A group whose first result decides blocks its owner only when all
   that is left of it is blocked: so forward alone cannot prove a cycle through one. Backward leaves it
   aside at first; when it has run dry, it takes those left aside for blocked, goes on, and asks at the
   end whether all of each was met.

   A step costs the same whatever it finds: of many waiters, or many tasks, it takes one and leaves
   the rest on the work list. */

enum { FORWARD, BACKWARD, ASSUMED /* groups taken for blocked */ };

struct walk {
  struct task *task;
  struct task *first;  /* task is one of a ring of waiters that began with this one */
  struct group *group; /* or: the group's tasks, from index on */
  uint32_t index;
};

struct search {
  allua *host;
  lua_State *L;
  struct task *reader, *target;
  size_t count[3];
  bool assuming; /* second phase of backward */
  bool met_target;
};

static void push (struct search *search, int way, struct walk walk) {
  allua *host = search->host;
  if (search->count[way] == host->walk_size[way]) {
    size_t size = host->walk_size[way] ? host->walk_size[way] * 2 : 64;
    void *block = mem_resize (&host->mem, host->walk[way], host->walk_size[way] * sizeof walk,
                              size * sizeof walk);
    if (!block) {
      error_raise_memory (search->L, host);
    }
    host->walk[way] = block;
    host->walk_size[way] = size;
  }
  host->walk[way][search->count[way]++] = walk;
}

/* Once a search: through groups that one result decides the waits may well go round. */
static void push_group (struct search *search, struct group *group) {
  if (group->passed == search->host->epoch)
    return;
  group->passed = search->host->epoch;
  push (search, FORWARD, (struct walk){ .group = group });
}

/* One step over what must end before a task can go on. Returns true when that is the reader. */
static bool step_forward (struct search *search) {
  struct walk walk = search->host->walk[FORWARD][--search->count[FORWARD]];
  struct task *task = walk.task;
  if (walk.group) {
    if (walk.index + 1 < walk.group->size)
      push (search, FORWARD, (struct walk){ .group = walk.group, .index = walk.index + 1 });
    task = &walk.group->tasks[walk.index];
    if (task->promise.status != PROMISE_PENDING)
      return false;
  }
  if (task == search->reader)
    return true;
  if (task->state != TASK_WAITING)
    return false;
  if (task->wait == WAIT_PROMISE) {
    struct promise *promise = task->on;
    if (promise->kind == PROMISE_OF_TASK)
      push (search, FORWARD, (struct walk){ .task = (struct task *)promise });
  } else if (task->wait == WAIT_GROUP || task->wait == WAIT_NEXT) {
    push_group (search, task->on);
  } else if (task->wait == WAIT_CHILDREN) {
    struct group *group;
    for (group = task->children; group; group = group->next)
      push_group (search, group);
  }
  return false;
}

/* Whether the group's owner cannot go on, now that one more of its tasks is seen blocked. */
static bool blocks_owner (struct search *search, struct group *group, const struct task *task) {
  if (!group->owner)
    return false;
  if (group->epoch != search->host->epoch) {
    group->epoch = search->host->epoch;
    group->seen = 0;
    group->via = task->index;
  }
  group->seen++;
  if (!group_is_waited (group))
    return group->owner->state == TASK_WAITING && group->owner->wait == WAIT_CHILDREN
           && group->seen == 1;
  if (group_needs_all (group))
    return group->seen == 1;
  if (group->seen == 1)
    push (search, ASSUMED, (struct walk){ .group = group });
  return search->assuming ? group->seen == 1 : group->seen == group->pending;
}

/* Backward has run dry: go on as if the groups left aside were blocked. False: there are none. */
static bool assume (struct search *search) {
  size_t i;
  bool more = false;
  if (search->assuming)
    return false;
  search->assuming = true;
  for (i = 0; i < search->count[ASSUMED]; i++) {
    struct group *group = search->host->walk[ASSUMED][i].group;
    if (group->seen == group->pending)
      continue; /* that was true already */
    push (search, BACKWARD, (struct walk){ .task = group->owner });
    more = true;
  }
  return more;
}

/* Backward has run dry for good: is it a cycle? */
static bool verdict (struct search *search) {
  bool all = search->met_target;
  while (search->count[ASSUMED] > 0) {
    struct group *group = search->host->walk[ASSUMED][--search->count[ASSUMED]].group;
    if (group->seen < group->pending) {
      group->suspect = true; /* to be looked at again as its other tasks end */
      all = false;
    }
  }
  return all;
}

/* One step over what cannot go on while the reader waits. Returns true when that proves a cycle. */
static bool step_backward (struct search *search) {
  struct walk walk = search->host->walk[BACKWARD][--search->count[BACKWARD]];
  struct task *task = walk.task;
  if (task == search->target) {
    search->met_target = true;
    if (!search->assuming)
      return true;
  }
  if (walk.first && task->link.next != walk.first)
    push (search, BACKWARD, (struct walk){ .task = task->link.next, .first = walk.first });
  if (blocks_owner (search, task->group, task))
    push (search, BACKWARD, (struct walk){ .task = task->group->owner });
  if (task->promise.waiters)
    push (search, BACKWARD,
          (struct walk){ .task = task->promise.waiters, .first = task->promise.waiters });
  return false;
}

/* From a task that was found blocked to the one that blocks it. */
static struct task *next_in_path (struct search *search, struct task *task) {
  struct group *group = task->on;
  if (task->wait == WAIT_PROMISE)
    return (struct task *)(struct promise *)task->on;
  if (task->wait == WAIT_CHILDREN)
    for (group = task->children; group->epoch != search->host->epoch;)
      group = group->next;
  return &group->tasks[group->via];
}

static void push_path (struct search *search) {
  const size_t most = 50; /* names told of a long cycle */
  lua_State *L = search->L;
  struct task *task;
  bool label = false; /* the groups' labels belong to it only when it goes through several */
  size_t steps = 0;
  luaL_Buffer text;
  for (task = search->target; task != search->reader && !label; task = next_in_path (search, task))
    label = task->group != search->reader->group;
  luaL_buffinit (L, &text);
  luaL_addstring (&text, "circular dependency: ");
  group_push_title (L, search->reader, label);
  luaL_addvalue (&text);
  for (task = search->target; task != search->reader; task = next_in_path (search, task)) {
    if (++steps < most) {
      luaL_addstring (&text, " -> ");
      group_push_title (L, task, label);
      luaL_addvalue (&text);
    }
  }
  if (steps >= most) {
    lua_pushfstring (L, " -> ... (%I more)", (LUAI_UACINT)(steps - most + 1));
    luaL_addvalue (&text);
  }
  luaL_addstring (&text, " -> ");
  group_push_title (L, search->reader, label);
  luaL_addvalue (&text);
  luaL_pushresult (&text);
}

/* Whether siblings whose owner waits for all of them, and of which each is waited for by one other at most,
   close no cycle for certain: two walks along the chain that they are, a step of each in turns. It ends ahead of
   the target where a task can go on, or behind the reader, where all that is left to block is the owner, which
   the target blocks already. */
static bool is_open_chain (const struct task *reader, const struct task *target) {
  const struct group *group = reader->group;
  const struct task *ahead = target, *behind = reader;
  if (!group_needs_all (group) || !group_is_waited (group))
    return false;
  while (ahead != reader && ahead->group == group && behind->group == group) {
    const struct promise *promise = ahead->on;
    if (ahead->state != TASK_WAITING)
      return true;
    if (ahead->wait != WAIT_PROMISE || promise->kind != PROMISE_OF_TASK)
      return false;
    ahead = (const struct task *)promise;
    behind = behind->promise.waiters;
    if (!behind)
      return true;
    if (behind->link.next != behind)
      return false;
  }
  return false;
}

int cycle_search (lua_State *L, struct task *reader, struct task *target) {
  allua *host = reader->group->host;
  struct search search = { .host = host, .L = L, .reader = reader, .target = target };
  bool met = false;
  if (is_open_chain (reader, target))
    return 0;
  host->epoch++;
  if (target != reader) {
    push (&search, FORWARD, (struct walk){ .task = target });
    push (&search, BACKWARD, (struct walk){ .task = reader });
    for (;;) {
      if (!met) {
        if (search.count[FORWARD] == 0)
          return 0;
        met = step_forward (&search); /* they may hang together: the other search decides */
      }
      if (search.count[BACKWARD] == 0) {
        if (search.count[ASSUMED] == 0)
          return 0;
        if (!met)
          continue;
        if (!assume (&search)) {
          if (!verdict (&search))
            return 0;
          break;
        }
      }
      if (step_backward (&search))
        break;
    }
  }
  luaL_checkstack (L, 10, NULL);
  push_path (&search);
  return 1;
}

void cycle_close (allua *host) {
  int way;
  for (way = 0; way < 3; way++) {
    mem_resize (&host->mem, host->walk[way], host->walk_size[way] * sizeof (struct walk), 0);
    host->walk[way] = NULL;
    host->walk_size[way] = 0;
  }
}
