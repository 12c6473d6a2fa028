/* The functions of libcurl that fetch calls, loaded when it is first used. */
#ifndef FETCH_CURL_H
#define FETCH_CURL_H

#define CURL_DISABLE_TYPECHECK /* whose macros know only the names of a linked libcurl */

#include <curl/curl.h>
#include <lua.h>

#define CURL_FUNCTIONS(X)                                                                          \
  X (global_init)                                                                                  \
  X (easy_init)                                                                                    \
  X (easy_setopt)                                                                                  \
  X (easy_getinfo)                                                                                 \
  X (easy_pause)                                                                                   \
  X (easy_reset)                                                                                   \
  X (easy_strerror)                                                                                \
  X (easy_cleanup)                                                                                 \
  X (multi_init)                                                                                   \
  X (multi_setopt)                                                                                 \
  X (multi_add_handle)                                                                             \
  X (multi_remove_handle)                                                                          \
  X (multi_socket_action)                                                                          \
  X (multi_info_read)                                                                              \
  X (multi_cleanup)                                                                                \
  X (slist_append)                                                                                 \
  X (slist_free_all)                                                                               \
  X (mime_init)                                                                                    \
  X (mime_addpart)                                                                                 \
  X (mime_name)                                                                                    \
  X (mime_data)                                                                                    \
  X (mime_filedata)                                                                                \
  X (mime_filename)                                                                                \
  X (mime_type)                                                                                    \
  X (mime_free)                                                                                    \
  X (url)                                                                                          \
  X (url_set)                                                                                      \
  X (url_get)                                                                                      \
  X (url_strerror)                                                                                 \
  X (url_cleanup)                                                                                  \
  X (getdate)                                                                                      \
  X (version_info)                                                                                 \
  X (free)

/* curl.easy_init is curl_easy_init, and so on. */
struct curl {
#define CURL_FIELD(name) __typeof__ (curl_##name) *name;
  CURL_FUNCTIONS (CURL_FIELD)
#undef CURL_FIELD
};

/* Load libcurl and fill `curl`. Raises where it is missing or cannot start. */
void fetch_curl_load (lua_State *L, struct curl *curl);

#endif
