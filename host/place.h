/* The places of a group with `concurrency`: at most so many of its tasks run at once. */
#ifndef PLACE_H
#define PLACE_H

#include "group.h"

/* The task's ancestor (or itself) in a group, or NULL. */
struct task *place_ancestor (struct task *task, const struct group *group);

/* `task` begins to wait for a member of `group`: the place that it holds there, by itself or through
   the ancestor that works for the group, is given back. Returns the task that gets it, to be made
   ready, or NULL. */
struct task *place_give_back (struct task *task, struct group *group);

/* The wait is over. Returns true when the task may go on, else it is queued for a place. */
bool place_take (struct task *task, struct group *group);

/* A member begins. Returns false when it is queued for its place. */
bool place_take_fresh (struct task *member);

/* A member has ended. Returns the task that gets its place, or NULL. */
struct task *place_leave (struct task *member);

/* The next task that waits for a place, though none is free: for a group that is cancelled. */
struct task *place_next (struct group *group);

static inline bool place_counts (const struct group *group) {
  return group->options && group->options->limit;
}

#endif
