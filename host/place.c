#include "place.h"

#include "trace.h"

struct task *place_ancestor (struct task *task, const struct group *group) {
  while (task && task->group != group)
    task = task->group->owner;
  return task;
}

struct task *place_next (struct group *group) {
  struct task *task = ring_pop (&group->options->places);
  return task ? task : ring_pop (&group->options->fresh);
}

/* Hand on the place that `giver` does not need any more. */
static struct task *fill (struct group *group, const struct task *giver) {
  struct group_options *options = group->options;
  struct task *task, *member;
  if (options->running >= options->limit)
    return NULL;
  task = place_next (group);
  if (!task)
    return NULL;
  member = place_ancestor (task, group);
  if (!member->place) {
    member->place = true;
    options->running++;
  }
  if (trace_of (task->group))
    trace_hand_over (task, giver);
  return task;
}

struct task *place_give_back (struct task *task, struct group *group) {
  struct task *member = place_ancestor (task, group);
  if (!member || !member->place)
    return NULL;
  member->place = false;
  group->options->running--;
  return fill (group, member);
}

bool place_take (struct task *task, struct group *group) {
  struct task *member = place_ancestor (task, group);
  if (!member || member->place || group->cancelled)
    return true;
  if (group->options->running < group->options->limit) {
    member->place = true;
    group->options->running++;
    return true;
  }
  ring_push (&group->options->places, task);
  return false;
}

bool place_take_fresh (struct task *member) {
  struct group_options *options = member->group->options;
  if (options->running == options->limit) {
    ring_push (&options->fresh, member);
    if (options->trace)
      trace_wait (member, WAIT_PLACE, member->group);
    return false;
  }
  member->place = true;
  options->running++;
  return true;
}

struct task *place_leave (struct task *member) {
  if (!member->place)
    return NULL;
  member->place = false;
  member->group->options->running--;
  return fill (member->group, member);
}
