/* Finds waits that can never end. */
#ifndef CYCLE_H
#define CYCLE_H

#include "group.h"

/* Siblings whose owner waits for all of them: as long as nobody waits for the reader, all that its
   waiting blocks is the owner, which the target blocks as well. So the wait closes no cycle that was not
   there before. */
static inline bool cycle_cannot_close (const struct task *reader, const struct task *target) {
  const struct group *group = reader->group;
  return !reader->promise.waiters && target != reader && target->group == group
         && group_needs_all (group) && group_is_waited (group);
}

/* Whether `reader` must wait for ever if it now waits for `target` to end. Costs the smaller of what
   waits for the reader and what the target waits for, so that a graph of n waits stays near linear
   however it is built. Returns 1 (then the message is pushed on L: "circular dependency: a -> b -> a"), 0, or raises when
   there is no memory. */
int cycle_search (lua_State *L, struct task *reader, struct task *target);

static inline int cycle_find (lua_State *L, struct task *reader, struct task *target) {
  if ((target != reader && target->state != TASK_WAITING) || cycle_cannot_close (reader, target))
    return 0;
  return cycle_search (L, reader, target);
}

/* Give the work lists back. */
void cycle_close (allua *host);

#endif
