/* Tells of a task that holds the loop for long, and ends it for longer: looked at where the task runs Lua. */
#ifndef WATCH_H
#define WATCH_H

#include "state.h"

/* Note what runs. Returns whether it is time to call watch_look. Async-signal-safe, on the loop's thread. */
bool watch_note (allua *host);

/* On the coroutine that runs, in a hook: warn, or raise a StuckError, if it is time to. */
void watch_look (lua_State *L, allua *host);

/* Give a coroutine of a task the hook that the host wants there: one that counts, or none. */
void watch_arm (lua_State *co, const allua *host);

/* From now on by hooks that count: no signals, but what Lua computes takes about twice as long. */
void watch_count (allua *host, double slow, double stuck);

/* Lua: allua.watchdog { slow_turn = seconds, stuck_turn = seconds }, or nothing. */
int watch_set (lua_State *L);

#endif
