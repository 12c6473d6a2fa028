/* Which functions look at one argument at most, so that no `task` is made for them. */
#ifndef ARITY_H
#define ARITY_H

#include "state.h"

enum {
  ARITIES = 4096,
  LUCK
  = 4096 /* functions in a row that are met for the first time, until they are not noted either */
};

/* Functions that were looked at since the collector last took any away, each in a place that its address
   tells: as long as none was, an address means the same function. Programs that make their functions anew
   for each group have nothing from that: where none was met again for a while, it rests for longer. */
struct arities {
  int64_t luck; /* > 0: it is on */
  uint16_t epoch;
  uint16_t epochs[ARITIES]; /* in which each was noted; 0: never */
  const void *functions[ARITIES];
};

/* To be called for each group of so many functions before its tasks start, and after they have been made: forget
   what was noted if something may have been collected since. May raise. */
void arity_recall (lua_State *L, allua *host, uint32_t functions);

void arity_close (allua *host);

/* Look whether the function on top of L has no use for a second argument; arity_note keeps that. */
bool arity_look (lua_State *L);
bool arity_note (lua_State *L, struct arities *arities, const void *function, size_t place);

/* The same, from memory where it is there. */
static inline bool arity_is_plain (lua_State *L, allua *host) {
  struct arities *arities = host->arities;
  const void *function;
  size_t place;
  if (!arities || arities->luck <= 0)
    return arity_look (L);
  function = lua_topointer (L, -1);
  place = (uintptr_t)function / 32 % ARITIES;
  if (arities->functions[place] != function || arities->epochs[place] != arities->epoch)
    return arity_note (L, arities, function, place);
  arities->luck = LUCK;
  return true;
}

#endif
