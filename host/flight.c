#include "flight.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "connection_read.h"
#include "fetch_multi.h"
#include "loop.h"

/* One side of a connection of which the other may be in this loop as well. */
struct end {
  int fd;
  bool inside; /* it is */
  bool counts; /* else it is under way */
  struct sockaddr_storage own, peer;
};

struct survey {
  allua *host;
  struct end *ends;
  size_t count, size;
  size_t handles[UV_HANDLE_TYPE_MAX]; /* under way */
  size_t promises, requests;
  bool failed; /* no memory */
};

static bool is_listening (const uv_handle_t *handle) {
  int value = 0, fd;
  socklen_t size = sizeof value;
  return uv_fileno (handle, &fd) == 0
         && getsockopt (fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value;
}

/* Both addresses of the socket, where it is a connection by TCP. */
static bool note_end (struct survey *survey, const uv_handle_t *handle, bool counts) {
  struct end end;
  socklen_t size = sizeof end.own;
  memset (&end, 0, sizeof end);
  end.counts = counts;
  if (uv_fileno (handle, &end.fd) != 0
      || getsockname (end.fd, (struct sockaddr *)&end.own, &size) != 0
      || (end.own.ss_family != AF_INET && end.own.ss_family != AF_INET6))
    return false;
  size = sizeof end.peer;
  if (getpeername (end.fd, (struct sockaddr *)&end.peer, &size) != 0)
    return false;
  if (survey->count == survey->size) {
    size_t more = survey->size ? survey->size * 2 : 16, item = sizeof *survey->ends;
    void *block = mem_resize (&survey->host->mem, survey->ends, survey->size * item, more * item);
    if (!block) {
      survey->failed = true;
      return false;
    }
    survey->ends = block;
    survey->size = more;
  }
  survey->ends[survey->count++] = end;
  return true;
}

static void note_handle (uv_handle_t *handle, void *data) {
  struct survey *survey = data;
  bool counts;
  if (loop_owns (survey->host, handle))
    return;
  if (uv_is_closing (handle)) {
    survey->handles[handle->type]++;
    return;
  }
  if (!uv_is_active (handle))
    return;
  counts = uv_has_ref (handle) && !connection_owns (handle);
  switch (handle->type) {
  case UV_TCP:
    if (!is_listening (handle) && !note_end (survey, handle, counts) && counts)
      survey->handles[UV_TCP]++;
    break;
  case UV_POLL:
    if (!is_listening (handle) && !note_end (survey, handle, counts) && counts)
      survey->handles[UV_POLL]++;
    break;
  case UV_NAMED_PIPE:
    if (counts && !is_listening (handle))
      survey->handles[UV_NAMED_PIPE]++;
    break;
  case UV_IDLE:
  case UV_PREPARE:
  case UV_CHECK:
  case UV_SIGNAL:
  case UV_FS_EVENT:
  case UV_FS_POLL:
    break;
  default:
    survey->handles[handle->type] += counts;
  }
}

/* Its bytes, but for what of the address is padding. */
static bool same_address (const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
  const struct sockaddr_in *a4 = (const struct sockaddr_in *)a, *b4 = (const struct sockaddr_in *)b;
  const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a;
  const struct sockaddr_in6 *b6 = (const struct sockaddr_in6 *)b;
  if (a->ss_family != b->ss_family || a4->sin_port != b4->sin_port)
    return false;
  return a->ss_family == AF_INET
             ? a4->sin_addr.s_addr == b4->sin_addr.s_addr
             : memcmp (&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
}

static bool has_bytes (int fd) {
  struct pollfd look = { .fd = fd, .events = POLLIN };
  return poll (&look, 1, 0) > 0;
}

/* Tell the connections with both ends here; one that has not read all yet is under way. */
static void match_ends (struct survey *survey) {
  size_t i, j;
  for (i = 0; i < survey->count; i++)
    for (j = i + 1; j < survey->count && !survey->ends[i].inside; j++)
      if (same_address (&survey->ends[i].own, &survey->ends[j].peer)
          && same_address (&survey->ends[j].own, &survey->ends[i].peer))
        survey->ends[i].inside = survey->ends[j].inside = true;
  for (i = 0; i < survey->count; i++)
    survey->handles[UV_TCP]
        += survey->ends[i].inside ? has_bytes (survey->ends[i].fd) : survey->ends[i].counts;
}

static bool is_inside (int fd, void *data) {
  const struct survey *survey = data;
  size_t i;
  for (i = 0; i < survey->count; i++)
    if (survey->ends[i].fd == fd)
      return survey->ends[i].inside;
  return false;
}

static void close_survey (struct survey *survey) {
  mem_resize (&survey->host->mem, survey->ends, survey->size * sizeof *survey->ends, 0);
}

static void open_survey (struct survey *survey, allua *host) {
  memset (survey, 0, sizeof *survey);
  survey->host = host;
  survey->requests = host->loop->active_reqs.count;
  survey->promises = host->pending_work - host->passive_work;
  uv_walk (host->loop, note_handle, survey);
  if (survey->promises || survey->count) {
    match_ends (survey);
    survey->promises -= fetch_multi_count_inside (host, is_inside, survey);
  }
}

bool flight_any (allua *host) {
  struct survey survey;
  bool any;
  int type;
  if (host->loop->active_reqs.count || loop_has_posts (host))
    return true;
  open_survey (&survey, host);
  any = survey.failed || survey.promises;
  for (type = 0; type < UV_HANDLE_TYPE_MAX && !any; type++)
    any = survey.handles[type] != 0;
  close_survey (&survey);
  return any;
}

static void add (luaL_Buffer *text, size_t count, const char *one, const char *many) {
  char words[80];
  if (!count)
    return;
  snprintf (words, sizeof words, "%s%zu %s", luaL_bufflen (text) ? ", " : "", count,
            count == 1 ? one : many);
  luaL_addstring (text, words);
}

void flight_push (lua_State *L, allua *host) {
  struct survey survey;
  luaL_Buffer text;
  int type;
  luaL_buffinit (L, &text);
  open_survey (&survey, host);
  close_survey (&survey);
  add (&text, survey.promises, "operation of fetch, a database or C",
       "operations of fetch, a database or C");
  add (&text, survey.requests, "request of libuv's", "requests of libuv's");
  for (type = 0; type < UV_HANDLE_TYPE_MAX; type++) {
    char one[40], many[40];
    const char *name = uv_handle_type_name ((uv_handle_type)type);
    snprintf (one, sizeof one, "%s handle", name ? name : "unknown");
    snprintf (many, sizeof many, "%s handles", name ? name : "unknown");
    add (&text, survey.handles[type], one, many);
  }
  luaL_pushresult (&text);
}
