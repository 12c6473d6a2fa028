/* What is to happen at a time: all deadlines over a single libuv timer. */
#ifndef TIMER_H
#define TIMER_H

#include "deadlines.h"

/* Fire once, `seconds` from now, on the loop's thread, never inside this call. Seconds must be
   checked already (>= 0). Returns false when there is no memory. */
bool timer_start (allua *host, struct timer *timer, double seconds,
                  void (*fire) (allua *host, struct timer *timer));
void timer_stop (allua *host, struct timer *timer);

/* Fire what is due: libuv's callback of the one handle, and the virtual clock's. */
void timer_run (allua *host);

/* Time has become virtual, or real: libuv's timer is not needed, or is. */
void timer_rearm (allua *host);

#endif
