/* Deadlines in their order: lanes for those that come in it already, and a heap for the rest. */
#ifndef DEADLINES_H
#define DEADLINES_H

#include "state.h"

/* Part of whoever waits. Not started: zeroed. */
struct timer {
  uint64_t place; /* see deadlines.c; 0: not started */
  void (*fire) (allua *host, struct timer *timer);
};

struct timer_entry {
  uint64_t due; /* ns, as clock_now */
  uint64_t seq; /* equal deadlines fire in the order of their start */
  struct timer *timer;
};

/* Add one; its timer's place tells from then on where it is. Returns false when there is no memory. */
bool deadlines_add (allua *host, struct timer_entry entry);

/* Take a started one out. */
void deadlines_remove (allua *host, struct timer *timer);

/* That of a timer, or NULL where none of it is started; whatever its place says. */
const struct timer_entry *deadlines_find (const allua *host, const struct timer *timer);

/* The earliest, or NULL. */
const struct timer_entry *deadlines_first (const allua *host);

/* Free all memory; none may be started. */
void deadlines_give_back (allua *host);

#endif
