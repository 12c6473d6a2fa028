#include "deadlines.h"

/* Most deadlines of a program are one of few times away from now, so of each of these times a later one
   is due later: they come in order, and a lane is a queue of them. Adding to it, taking its first and
   taking any out costs the same however many there are, and touches no other timer. What fits no lane goes
   to the heap. A timer's place is its number in the heap, from 1, or a lane and the position in it. */

enum { LANE_SHIFT = 48, LEAST = 16, FEW = 256 /* entries worth keeping when none is left */ };

static bool before (const struct timer_entry *a, const struct timer_entry *b) {
  return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}

/* ── the heap ── */

static void put (allua *host, size_t place, struct timer_entry entry) {
  host->heap[place - 1] = entry;
  entry.timer->place = place;
}

/* Let `entry` find its place from `place` on, upwards or downwards. */
static void sift (allua *host, size_t place, struct timer_entry entry) {
  struct timer_entry *heap = host->heap - 1;
  while (place > 1 && before (&entry, &heap[place / 2])) {
    put (host, place, heap[place / 2]);
    place /= 2;
  }
  for (;;) {
    size_t child = place * 2;
    if (child > host->heap_count)
      break;
    if (child < host->heap_count && before (&heap[child + 1], &heap[child]))
      child++;
    if (!before (&heap[child], &entry))
      break;
    put (host, place, heap[child]);
    place = child;
  }
  put (host, place, entry);
}

static bool add_to_heap (allua *host, struct timer_entry entry) {
  if (host->heap_count == host->heap_size) {
    size_t item = sizeof entry, size = host->heap_size ? host->heap_size * 2 : LEAST;
    void *block = mem_resize (&host->mem, host->heap, host->heap_size * item, size * item);
    if (!block)
      return false;
    host->heap = block;
    host->heap_size = size;
  }
  sift (host, ++host->heap_count, entry);
  return true;
}

static void free_heap (allua *host) {
  mem_resize (&host->mem, host->heap, host->heap_size * sizeof *host->heap, 0);
  host->heap = NULL;
  host->heap_size = 0;
}

static void remove_from_heap (allua *host, const struct timer *timer) {
  struct timer_entry last = host->heap[--host->heap_count];
  if (last.timer != timer)
    sift (host, (size_t)timer->place, last);
  else if (host->heap_count == 0 && host->heap_size > FEW)
    free_heap (host);
}

/* ── the lanes ── */

/* A ring; what was taken out of its middle has no timer. The first and the last have one. */
static struct timer_entry *at (const struct lane *lane, size_t position) {
  return &lane->entries[position & (lane->size - 1)];
}

static uint64_t lane_place (const allua *host, const struct lane *lane, size_t position) {
  return (uint64_t)(lane - host->lanes + 1) << LANE_SHIFT | position;
}

static size_t position_of (const struct timer *timer) {
  return (size_t)(timer->place & (((uint64_t)1 << LANE_SHIFT) - 1));
}

static void free_lane (allua *host, struct lane *lane) {
  mem_resize (&host->mem, lane->entries, lane->size * sizeof *lane->entries, 0);
  *lane = (struct lane){ 0 };
}

/* Move what is left into a ring with room for more. */
static bool make_room (allua *host, struct lane *lane) {
  size_t size = LEAST, item = sizeof *lane->entries, count = 0, position;
  struct timer_entry *entries;
  while (size < 2 * lane->live)
    size *= 2;
  entries = mem_resize (&host->mem, NULL, 0, size * item);
  if (!entries)
    return false;
  for (position = lane->first; position != lane->end; position++) {
    const struct timer_entry *entry = at (lane, position);
    if (entry->timer) {
      entry->timer->place = lane_place (host, lane, count);
      entries[count++] = *entry;
    }
  }
  mem_resize (&host->mem, lane->entries, lane->size * item, 0);
  *lane = (struct lane){ .entries = entries, .size = size, .end = count, .live = count };
  return true;
}

/* The lane whose last is the latest of those not after this one, or an empty one, or NULL. */
static struct lane *find_lane (allua *host, uint64_t due) {
  struct lane *best = host->lanes_used < LANES ? &host->lanes[host->lanes_used] : NULL, *lane;
  uint64_t latest = 0;
  for (lane = host->lanes; lane < host->lanes + host->lanes_used; lane++) {
    if (lane->live) {
      uint64_t last = at (lane, lane->end - 1)->due;
      if (last <= due && last >= latest) {
        latest = last;
        best = lane;
      }
    } else if (!latest) {
      best = lane;
    }
  }
  return best;
}

static bool add_to_lane (allua *host, struct lane *lane, struct timer_entry entry) {
  if (lane->end - lane->first == lane->size && !make_room (host, lane))
    return false;
  entry.timer->place = lane_place (host, lane, lane->end);
  *at (lane, lane->end++) = entry;
  if (lane->live++ == 0 && lane == &host->lanes[host->lanes_used])
    host->lanes_used++;
  return true;
}

static void remove_from_lane (allua *host, struct lane *lane, struct timer *timer) {
  at (lane, position_of (timer))->timer = NULL;
  if (--lane->live == 0) {
    lane->first = lane->end = 0;
    if (lane->size > FEW)
      free_lane (host, lane);
    while (host->lanes_used > 0 && !host->lanes[host->lanes_used - 1].live)
      host->lanes_used--;
    return;
  }
  while (!at (lane, lane->first)->timer)
    lane->first++;
  while (!at (lane, lane->end - 1)->timer)
    lane->end--;
}

/* ── both ── */

bool deadlines_add (allua *host, struct timer_entry entry) {
  struct lane *lane = find_lane (host, entry.due);
  if (!(lane ? add_to_lane (host, lane, entry) : add_to_heap (host, entry)))
    return false;
  host->timer_count++;
  return true;
}

void deadlines_remove (allua *host, struct timer *timer) {
  uint64_t lane = timer->place >> LANE_SHIFT;
  host->timer_count--;
  if (lane)
    remove_from_lane (host, &host->lanes[lane - 1], timer);
  else
    remove_from_heap (host, timer);
  timer->place = 0;
}

const struct timer_entry *deadlines_find (const allua *host, const struct timer *timer) {
  uint64_t number = timer->place >> LANE_SHIFT;
  size_t position = position_of (timer);
  const struct timer_entry *entry = NULL;
  if (number > 0 && number <= host->lanes_used) {
    const struct lane *lane = &host->lanes[number - 1];
    if (position >= lane->first && position < lane->end)
      entry = at (lane, position);
  } else if (number == 0 && position > 0 && position <= host->heap_count) {
    entry = &host->heap[position - 1];
  }
  return entry && entry->timer == timer ? entry : NULL;
}

const struct timer_entry *deadlines_first (const allua *host) {
  const struct timer_entry *first = host->heap_count ? host->heap : NULL;
  const struct lane *lane;
  for (lane = host->lanes; lane < host->lanes + host->lanes_used; lane++)
    if (lane->live && (!first || before (at (lane, lane->first), first)))
      first = at (lane, lane->first);
  return first;
}

void deadlines_give_back (allua *host) {
  struct lane *lane;
  free_heap (host);
  for (lane = host->lanes; lane < host->lanes + LANES; lane++)
    free_lane (host, lane);
}
