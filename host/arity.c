#include "arity.h"

#include <string.h>

enum { REST = 16 * LUCK }; /* functions after which it is tried again */

/* The collector has taken something away if the canary is gone, which only a table of weak values knows: that is
   emptied before the memory of anything is given back. */
static void put_canary (lua_State *L, allua *host) {
  luaL_checkstack (L, 2, NULL);
  host_push (host, L, SLOT_CANARY);
  lua_newuserdatauv (L, 0, 0);
  lua_rawseti (L, -2, 1);
  lua_pop (L, 1);
}

static void forget (struct arities *arities) {
  if (++arities->epoch == 0) {
    memset (arities->epochs, 0, sizeof arities->epochs);
    arities->epoch = 1;
  }
}

/* For the second group; without memory it is not there. */
static void begin (allua *host) {
  struct arities *arities = mem_resize (&host->mem, NULL, 0, sizeof *arities);
  if (arities) {
    memset (arities, 0, sizeof *arities);
    arities->luck = LUCK;
    arities->epoch = 1;
    host->arities = arities;
  }
}

void arity_recall (lua_State *L, allua *host, uint32_t functions) {
  struct arities *arities = host->arities;
  if (arities && arities->luck <= 0) {
    arities->luck -= functions;
    if (arities->luck > -REST)
      return;
    arities->luck = LUCK;
    forget (arities); /* the canary was not looked at */
  }
  if (lua_rawlen (host->L, SLOT_CANARY) == 0) {
    put_canary (L, host);
    if (arities)
      forget (arities);
  } else if (!arities) {
    begin (host);
  }
}

void arity_close (allua *host) {
  mem_resize (&host->mem, host->arities, sizeof *host->arities, 0);
  host->arities = NULL;
}

bool arity_look (lua_State *L) {
  lua_Debug info;
  lua_pushvalue (L, -1);
  lua_getinfo (L, ">u", &info);
  return info.nparams <= 1 && !info.isvararg;
}

bool arity_note (lua_State *L, struct arities *arities, const void *function, size_t place) {
  bool plain = arity_look (L);
  arities->luck--;
  if (plain) {
    arities->functions[place] = function;
    arities->epochs[place] = arities->epoch;
  }
  return plain;
}
