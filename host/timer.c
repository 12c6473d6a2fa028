#include "timer.h"

#include "loop.h"

static bool before (const struct timer_entry *a, const struct timer_entry *b) {
  return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}

static void put (allua *host, size_t place, struct timer_entry entry) {
  host->timers[place - 1] = entry;
  entry.timer->place = place;
}

/* Let `entry` find its place from `place` on, upwards or downwards. */
static void sift (allua *host, size_t place, struct timer_entry entry) {
  struct timer_entry *heap = host->timers - 1;
  while (place > 1 && before (&entry, &heap[place / 2])) {
    put (host, place, heap[place / 2]);
    place /= 2;
  }
  for (;;) {
    size_t child = place * 2;
    if (child > host->timer_count)
      break;
    if (child < host->timer_count && before (&heap[child + 1], &heap[child]))
      child++;
    if (!before (&heap[child], &entry))
      break;
    put (host, place, heap[child]);
    place = child;
  }
  put (host, place, entry);
}

/* Keep libuv's timer at the first deadline. */
static void arm (allua *host) {
  uint64_t due = host->timer_count ? host->timers[0].due : 0;
  if (due == host->timer_armed)
    return;
  host->timer_armed = due;
  loop_arm_timer (host, due);
}

bool timer_start (allua *host, struct timer *timer, double seconds,
                  void (*fire) (allua *host, struct timer *timer)) {
  const double longest = 1e9; /* seconds; some thirty years, far from overflow */
  struct timer_entry entry;
  if (host->timer_count == host->timer_size) {
    size_t item = sizeof *host->timers, size = host->timer_size ? host->timer_size * 2 : 16;
    void *block = mem_resize (&host->mem, host->timers, host->timer_size * item, size * item);
    if (!block)
      return false;
    host->timers = block;
    host->timer_size = size;
  }
  entry.due = uv_hrtime () + (uint64_t)((seconds < longest ? seconds : longest) * 1e9);
  entry.seq = ++host->timer_seq;
  entry.timer = timer;
  timer->fire = fire;
  host->timer_count++;
  sift (host, host->timer_count, entry);
  if (timer->place == 1)
    arm (host);
  return true;
}

void timer_give_back (allua *host) {
  mem_resize (&host->mem, host->timers, host->timer_size * sizeof *host->timers, 0);
  host->timers = NULL;
  host->timer_size = 0;
}

static void take_out (allua *host, struct timer *timer) {
  const size_t few = 256; /* entries worth keeping for the next timer */
  size_t place = timer->place;
  struct timer_entry last = host->timers[host->timer_count - 1];
  host->timer_count--;
  timer->place = 0;
  if (last.timer != timer)
    sift (host, place, last);
  else if (host->timer_count == 0 && host->timer_size > few)
    timer_give_back (host);
}

void timer_stop (allua *host, struct timer *timer) {
  if (!timer->place)
    return;
  take_out (host, timer);
  /* A timer armed too early only looks and sleeps again; with none left it must not hold the loop. */
  if (host->timer_count == 0)
    arm (host);
}

void timer_run (allua *host) {
  uint64_t now = uv_hrtime ();
  uint64_t last = host->timer_seq; /* what is started by a firing waits for the next turn */
  host->timer_armed = 0;
  while (host->timer_count && host->timers[0].due <= now && host->timers[0].seq <= last) {
    struct timer *timer = host->timers[0].timer;
    take_out (host, timer);
    timer->fire (host, timer);
  }
  if (host->timer_count)
    arm (host);
}
