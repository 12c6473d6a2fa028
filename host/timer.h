/* Deadlines: one heap of them over a single libuv timer. */
#ifndef TIMER_H
#define TIMER_H

#include "state.h"

/* Part of whoever waits. Not started: zeroed. */
struct timer {
  size_t place; /* in the heap, from 1; 0: not started */
  void (*fire) (allua *host, struct timer *timer);
};

struct timer_entry {
  uint64_t due; /* ns, as uv_hrtime */
  uint64_t seq; /* equal deadlines fire in the order of their start */
  struct timer *timer;
};

/* Fire once, `seconds` from now, on the loop's thread, never inside this call. Seconds must be
   checked already (>= 0). Returns false when there is no memory. */
bool timer_start (allua *host, struct timer *timer, double seconds,
                  void (*fire) (allua *host, struct timer *timer));
void timer_stop (allua *host, struct timer *timer);

/* Free the heap; no timer may be started. */
void timer_give_back (allua *host);

/* libuv's callback of the one handle. */
void timer_run (allua *host);

#endif
