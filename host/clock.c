#include "clock.h"

#include <math.h>

#include "flight.h"
#include "loop.h"
#include "timer.h"

#define CLOCK "allua.clock"

double clock_seconds (const allua *host) {
  return (double)(clock_now (host) - (host->clocks ? host->clocks->epoch : 0)) / 1e9;
}

void clock_stir (allua *host) {
  host->clock_blocked = false;
  if (!host->timer_count)
    loop_watch_still (host, false);
  else if (!host->turns)
    loop_set_busy (host, true);
}

void clock_look (allua *host) {
  uint64_t due;
  host->clock_blocked = false;
  if (!host->timer_count)
    loop_watch_still (host, false);
  if (!host->timer_count || host->ready.first)
    return;
  due = deadlines_first (host)->due;
  if (due > host->clock_at && flight_any (host)) {
    host->clock_blocked = true; /* until the loop has something to tell */
    loop_watch_still (host, true);
    return;
  }
  loop_watch_still (host, false);
  if (due > host->clock_at)
    host->clock_at = due;
  timer_run (host);
}

void clock_reconsider (allua *host) {
  if (!flight_any (host))
    host->clock_blocked = false;
}

static int complain (lua_State *L) {
  allua *host = lua_touserdata (L, 1);
  flight_push (L, host);
  if (lua_rawlen (L, -1) == 0)
    return 0; /* it has just ended */
  lua_warning (L, "allua: the virtual clock has stood still for 3 s: ", 1);
  lua_warning (L, lua_tostring (L, -1), 1);
  lua_warning (L, " under way", 0);
  return 0;
}

void clock_complain (allua *host) {
  lua_State *L = host->worker;
  if (!host->clocks || !host->clock_blocked || host->ready.first)
    return;
  lua_pushcfunction (L, complain);
  lua_pushlightuserdata (L, host);
  if (lua_pcall (L, 1, 0, 0) != LUA_OK)
    lua_pop (L, 1);
}

static void leave (allua *host) {
  host->clock_ahead = host->clock_at - uv_hrtime ();
  host->clock_blocked = false;
  loop_watch_still (host, false);
  timer_rearm (host);
}

size_t clock_count (const allua *host) {
  const struct clock *clock;
  size_t count = 0;
  for (clock = host->clocks; clock; clock = clock->next)
    count++;
  return count;
}

static void shut (allua *host, struct clock *clock) {
  struct clock **place = &host->clocks;
  while (*place != clock)
    place = &(*place)->next;
  *place = clock->next;
  luaL_unref (host->L, SLOT_PENDING, clock->anchor);
  clock->anchor = LUA_NOREF;
  if (!host->clocks)
    leave (host);
}

void clock_keep (allua *host, size_t count) {
  size_t open = clock_count (host);
  for (; open > count; open--)
    shut (host, host->clocks);
}

/* clock:close (), and the same for a <close> variable */
static int clock_shut (lua_State *L) {
  allua *host = host_of (L);
  struct clock *clock = luaL_checkudata (L, 1, CLOCK);
  if (clock->anchor != LUA_NOREF)
    shut (host, clock);
  return 0;
}

static int advance (lua_State *L, allua *host, int index) {
  lua_Number seconds = lua_tonumber (L, index);
  if (lua_type (L, index) != LUA_TNUMBER || !(seconds >= 0) || seconds > 1e9)
    return luaL_error (L, "clock.advance: expected a number of seconds, 0 or more (got %s)",
                       luaL_tolstring (L, index, NULL));
  host->clock_at += (uint64_t)(seconds * 1e9 + 0.5);
  clock_stir (host);
  return 0;
}

/* clock:advance (seconds): time passes as if the task had computed for so long. */
static int clock_advance (lua_State *L) {
  const struct clock *clock = luaL_checkudata (L, 1, CLOCK);
  if (clock->anchor == LUA_NOREF)
    return luaL_error (L, "clock.advance: this virtual clock is closed");
  return advance (L, host_of (L), 2);
}

/* allua.clock.advance (seconds): the same for the clock that is open. */
static int clock_advance_any (lua_State *L) {
  allua *host = host_of (L);
  if (!host->clocks)
    return luaL_error (L, "clock.advance: no virtual clock is open: open one with "
                          "allua.clock.virtual(), or run specs by allua test --virtual-time");
  return advance (L, host, 1);
}

/* allua.clock.virtual () → a clock; time is virtual until it is closed. */
static int clock_virtual (lua_State *L) {
  static const luaL_Reg methods[] = {
    { "advance", clock_advance }, { "close", clock_shut }, { "__close", clock_shut }, { NULL, NULL }
  };
  allua *host = host_of (L);
  struct clock *clock = lua_newuserdatauv (L, sizeof *clock, 0);
  clock->anchor = LUA_NOREF;
  luaL_newmetatable (L, CLOCK); /* or that of a host which this state had before */
  host_push (host, L, SLOT_BOX);
  luaL_setfuncs (L, methods, 1);
  lua_pushvalue (L, -1);
  lua_setfield (L, -2, "__index");
  lua_setmetatable (L, -2);
  host_push (host, L, SLOT_PENDING);
  lua_pushvalue (L, -2);
  clock->anchor = luaL_ref (L, -2);
  lua_pop (L, 1);
  clock->epoch = host->clock_at = clock_now (host);
  clock->next = host->clocks;
  host->clocks = clock;
  if (!clock->next)
    timer_rearm (host);
  clock_stir (host);
  return 1;
}

/* allua.clock.is_virtual () */
static int clock_is_virtual (lua_State *L) {
  lua_pushboolean (L, host_of (L)->clocks != NULL);
  return 1;
}

void clock_open (lua_State *L, allua *host) {
  static const luaL_Reg functions[] = { { "advance", clock_advance_any },
                                        { "is_virtual", clock_is_virtual },
                                        { "virtual", clock_virtual },
                                        { NULL, NULL } };
  luaL_newlibtable (L, functions);
  host_push (host, L, SLOT_BOX);
  luaL_setfuncs (L, functions, 1);
  lua_setfield (L, -2, "clock");
}
