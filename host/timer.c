#include "timer.h"

#include "clock.h"
#include "loop.h"

/* Keep libuv's timer at the first deadline. */
static void arm (allua *host) {
  const struct timer_entry *first = host->clocks ? NULL : deadlines_first (host);
  uint64_t due = first ? first->due : 0;
  if (host->clocks)
    clock_stir (host);
  if (due == host->timer_armed)
    return;
  host->timer_armed = due;
  loop_arm_timer (host, due);
}

void timer_rearm (allua *host) {
  arm (host);
}

bool timer_start (allua *host, struct timer *timer, double seconds,
                  void (*fire) (allua *host, struct timer *timer)) {
  const double longest = 1e9; /* seconds; some thirty years, far from overflow */
  struct timer_entry entry;
  entry.due = clock_now (host) + (uint64_t)((seconds < longest ? seconds : longest) * 1e9 + 0.5);
  entry.seq = host->timer_seq + 1;
  entry.timer = timer;
  if (!deadlines_add (host, entry))
    return false;
  timer->fire = fire;
  host->timer_seq++;
  if (!host->timer_armed || entry.due < host->timer_armed)
    arm (host);
  return true;
}

void timer_stop (allua *host, struct timer *timer) {
  if (!timer->place)
    return;
  deadlines_remove (host, timer);
  /* A timer armed too early only looks and sleeps again; with none left it must not hold the loop. */
  if (host->timer_count == 0)
    arm (host);
}

void timer_run (allua *host) {
  uint64_t now = clock_now (host);
  uint64_t last = host->timer_seq; /* what is started by a firing waits for the next turn */
  host->timer_armed = 0;
  for (;;) {
    const struct timer_entry *first = deadlines_first (host);
    struct timer *timer;
    if (!first || first->due > now || first->seq > last)
      break;
    timer = first->timer;
    deadlines_remove (host, timer);
    timer->fire (host, timer);
  }
  if (host->timer_count)
    arm (host);
}
