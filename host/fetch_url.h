/* Addresses and dates, as libcurl reads them. */
#ifndef FETCH_URL_H
#define FETCH_URL_H

#include <lua.h>

/* Once a state, before the others. */
void fetch_url_open (lua_State *L);

/* core.fetch_url (url [, base]) → the URL without credentials and fragment, its origin (scheme, host and
   port), its scheme, user and password (or nil). Or nil, and what is wrong. */
int fetch_url (lua_State *L);

/* core.fetch_date (text) → seconds since 1970, or nil. */
int fetch_date (lua_State *L);

#endif
