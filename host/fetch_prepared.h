/* A request that is made again and again: easy handles of libcurl's that are set for it already. */
#ifndef FETCH_PREPARED_H
#define FETCH_PREPARED_H

#include <lua.h>

#include "fetch_multi.h"

/* A lua_CFunction: core.fetch_prepare (request, without a body) → a prepared request, with one method:
   exchange ([timeout [, target, lines [, body]]]) sends it and waits; with a target that is asked for instead of the
   URL's path and query, with these lines in the head too, and with this body: all three in each call, or in none; and gives
   the body, decoded where it is JSON, for a status below 300;
   nil, status, head, content type, body for any other reply, and for JSON that cannot be decoded;
   nil, false, a word, words where it failed;
   nil, true and sends nothing where a target is given, but there is a proxy. */
int fetch_prepare (lua_State *L);

/* Its class. */
void fetch_prepared_open (lua_State *L);

/* Let go of all easy handles: the multi handle closes, no transfer is under way. */
void fetch_prepared_close (struct fetch_multi *multi);

#endif
