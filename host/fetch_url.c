#include "fetch_url.h"

#include <string.h>

#include "error.h"
#include "fetch_multi.h"

#define ADDRESS "allua.address"

enum part { USER, PASSWORD, SCHEME, HOST, PORT, WHOLE, PARTS };

/* Owns what libcurl allocates, so that nothing is lost where Lua raises. */
struct address {
  __typeof__ (curl_url_cleanup) *cleanup;
  __typeof__ (curl_free) *free;
  CURLU *url;
  char *parts[PARTS];
};

static int address_gc (lua_State *L) {
  struct address *address = luaL_checkudata (L, 1, ADDRESS);
  int i;
  for (i = 0; i < PARTS; i++)
    if (address->parts[i])
      address->free (address->parts[i]);
  if (address->url)
    address->cleanup (address->url);
  memset (address->parts, 0, sizeof address->parts);
  address->url = NULL;
  return 0;
}

static CURLUcode take_apart (const struct curl *curl, struct address *address) {
  CURLU *url = address->url;
  CURLUcode failed;
  /* These may be missing. */
  curl->url_get (url, CURLUPART_USER, &address->parts[USER], CURLU_URLDECODE);
  curl->url_get (url, CURLUPART_PASSWORD, &address->parts[PASSWORD], CURLU_URLDECODE);
  curl->url_set (url, CURLUPART_USER, NULL, 0);
  curl->url_set (url, CURLUPART_PASSWORD, NULL, 0);
  curl->url_set (url, CURLUPART_FRAGMENT, NULL, 0);
  failed = curl->url_get (url, CURLUPART_SCHEME, &address->parts[SCHEME], 0);
  if (!failed)
    failed = curl->url_get (url, CURLUPART_HOST, &address->parts[HOST], 0);
  if (!failed)
    failed = curl->url_get (url, CURLUPART_PORT, &address->parts[PORT], CURLU_DEFAULT_PORT);
  if (!failed)
    failed = curl->url_get (url, CURLUPART_URL, &address->parts[WHOLE], 0);
  return failed;
}

int fetch_url (lua_State *L) {
  const struct curl *curl = &fetch_multi_of (L, host_of (L))->curl;
  const char *text = luaL_checkstring (L, 1), *base = luaL_optstring (L, 2, NULL);
  struct address *address;
  CURLUcode failed = CURLUE_OK;
  lua_settop (L, 2);
  address = lua_newuserdatauv (L, sizeof *address, 0);
  memset (address, 0, sizeof *address);
  address->cleanup = curl->url_cleanup;
  address->free = curl->free;
  luaL_setmetatable (L, ADDRESS);
  address->url = curl->url ();
  if (!address->url)
    return error_raise_memory (L, host_of (L));
  if (base)
    failed = curl->url_set (address->url, CURLUPART_URL, base, CURLU_URLENCODE);
  if (!failed)
    failed = curl->url_set (address->url, CURLUPART_URL, text, CURLU_URLENCODE);
  if (!failed)
    failed = take_apart (curl, address);
  if (failed) {
    lua_pushnil (L);
    lua_pushstring (L, curl->url_strerror (failed));
    return 2;
  }
  lua_pushstring (L, address->parts[WHOLE]);
  lua_pushfstring (L, "%s://%s:%s", address->parts[SCHEME], address->parts[HOST],
                   address->parts[PORT]);
  lua_pushstring (L, address->parts[SCHEME]);
  lua_pushstring (L, address->parts[USER]);
  lua_pushstring (L, address->parts[PASSWORD]);
  lua_pushcfunction (L, address_gc);
  lua_pushvalue (L, 3);
  lua_call (L, 1, 0);
  return 5;
}

int fetch_date (lua_State *L) {
  time_t time = fetch_multi_of (L, host_of (L))->curl.getdate (luaL_checkstring (L, 1), NULL);
  if (time == -1)
    return 0;
  lua_pushinteger (L, (lua_Integer)time);
  return 1;
}

void fetch_url_open (lua_State *L) {
  luaL_newmetatable (L, ADDRESS);
  lua_pushcfunction (L, address_gc);
  lua_setfield (L, -2, "__gc");
  lua_pop (L, 1);
}
