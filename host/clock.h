/* The time that a host goes by: the machine's, or a virtual one that jumps to the next deadline when nothing
   else can happen. */
#ifndef CLOCK_H
#define CLOCK_H

#include "state.h"

/* A virtual clock, in a userdata of Lua's that is anchored while it is open. */
struct clock {
  struct clock *next; /* the one that it was opened inside of */
  uint64_t epoch;     /* when allua.now () was 0 */
  int anchor;         /* in SLOT_LIVE; LUA_NOREF: closed */
};

/* Now, in ns: as uv_hrtime, but for what virtual clocks have added or left out. Never goes back. */
static inline uint64_t clock_now (const allua *host) {
  return host->clocks ? host->clock_at : uv_hrtime () + host->clock_ahead;
}

/* The same in seconds, as a script sees it: a virtual clock begins at 0. */
double clock_seconds (const allua *host);

/* Whether the loop must not sleep, because a virtual clock may jump after the next poll. */
static inline bool clock_is_eager (const allua *host) {
  return host->clocks && host->timer_count && !host->clock_blocked;
}

/* Something may have changed for a virtual clock that stood still. */
void clock_stir (allua *host);

/* After a poll, what came of it not having run yet: jump, if nothing came, nothing is ready and nothing is
   under way, and fire what is due. */
void clock_look (allua *host);

/* Before a poll: what it stood still for may be over, without the loop having told anybody. */
void clock_reconsider (allua *host);

/* It has stood still for long: say for what, by warn. */
void clock_complain (allua *host);

/* How many virtual clocks are open; close the innermost until so many are. */
size_t clock_count (const allua *host);
void clock_keep (allua *host, size_t count);

/* Lua: the table allua.clock, set in the table on top of the stack. */
void clock_open (lua_State *L, allua *host);

#endif
