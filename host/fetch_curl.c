#include "fetch_curl.h"

#include <string.h>

#include <lauxlib.h>

#include "library.h"

void fetch_curl_load (lua_State *L, struct curl *curl) {
#define CURL_NAME(name) "curl_" #name,
  static const char *const names[] = { CURL_FUNCTIONS (CURL_NAME) };
#undef CURL_NAME
  void *functions[sizeof names / sizeof *names];
  _Static_assert(sizeof functions == sizeof *curl, "one pointer a name");
  library_load (L, "libcurl.so.4", "libcurl4", names, functions, sizeof names / sizeof *names);
  memcpy (curl, functions, sizeof *curl);
  if (curl->global_init (CURL_GLOBAL_DEFAULT) != CURLE_OK)
    luaL_error (L, "libcurl cannot start");
}
