/* libcurl's multi interface on a host's loop: one for a host, made when it is first used. */
#ifndef FETCH_MULTI_H
#define FETCH_MULTI_H

#include "fetch_curl.h"
#include "state.h"

struct fetch_socket;
struct handle;
struct transfer;

struct fetch_multi {
  allua *host; /* until it is closed */
  struct curl curl;
  struct mem mem; /* a copy: the host may be gone when the last handle is closed */
  uv_loop_t *loop;
  CURLM *multi;
  uv_timer_t timer;              /* libcurl's one deadline */
  uv_prepare_t prepare;          /* active while there are sockets to let go of */
  struct fetch_socket **sockets; /* by descriptor */
  size_t socket_size;
  struct fetch_socket
      *idle; /* whose polling stops before the loop sleeps, if they are still idle */
  struct transfer *transfers; /* under way */
  bool starved;               /* some of them are */
  CURL *spare[32];
  size_t spares;
  struct handle *handles, *newest, *oldest; /* of prepared requests; idle ones */
  size_t idle_handles;
  int open;    /* handles that libuv knows of */
  bool closed; /* freed with the last of them */
};

/* The host's, made if it has none yet. Raises when the host is closing, and where libcurl is missing. */
struct fetch_multi *fetch_multi_of (lua_State *L, allua *host);

/* Drop what is under way, and begin to close the handles. Allocates nothing; needs a free place on the main
   thread's stack. */
void fetch_multi_close (allua *host);

/* How many of the active handles serve no transfer, but are about to stop. Allocates nothing. */
size_t fetch_multi_count_idle (allua *host);

/* How many tasks wait for a transfer whose connection is `inside`. Allocates nothing. */
size_t fetch_multi_count_inside (allua *host, bool (*inside) (int fd, void *data), void *data);

/* A clean easy handle with all that has to do with sockets set, or NULL when there is no memory. Give it
   back outside of libcurl's callbacks, when it is out of the multi handle. */
CURL *fetch_multi_take (struct fetch_multi *multi);
void fetch_multi_give_back (struct fetch_multi *multi, CURL *easy);

#endif
