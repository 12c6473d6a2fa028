/* What is asked for: from the table that fetch.lua makes of a call to the options of libcurl. */
#ifndef FETCH_REQUEST_H
#define FETCH_REQUEST_H

#include "fetch_transfer.h"

/* Set what the table at `request` says; where there is a body, the transfer's userdata is above it. Raises where
   there is no memory, and where libcurl refuses something. What Lua checked is not checked again. */
void fetch_request_apply (lua_State *L, int request, struct transfer *transfer);

/* Tell libcurl where the environment has no proxy, so that it does not look for one itself, which takes longer.
   Before each exchange: the environment may change. False: no memory. */
bool fetch_request_look_for_proxies (struct transfer *transfer);

#endif
