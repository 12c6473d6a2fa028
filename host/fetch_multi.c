#include "fetch_multi.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error.h"
#include "fetch_prepared.h"
#include "fetch_transfer.h"

/* The multi handle's place in the registry. */
static const char multi_key = 'm';

/* Connections that wait to be used again. */
#define MAX_IDLE_CONNECTIONS 128L

/* A descriptor that libcurl waits for. libcurl says that it needs a connection's no more at the end of each
   transfer, and that it needs it again at the start of the next: polling only stops when nothing has come
   of that by the time the loop is about to sleep. */
struct fetch_socket {
  uv_poll_t poll;
  struct fetch_multi *multi;
  struct fetch_socket *next_idle;
  curl_socket_t fd;
  CURL *easy;         /* of the transfer that wants it */
  int wanted, active; /* UV_READABLE, UV_WRITABLE */
  bool idle;          /* in the list */
  bool kept;          /* see is_kept */
};

/* ── life of the handles ── */

static void release (struct fetch_multi *multi) {
  struct mem mem = multi->mem;
  if (--multi->open > 0 || !multi->closed)
    return;
  if (multi->sockets)
    mem_resize (&mem, multi->sockets, multi->socket_size * sizeof (struct fetch_socket *), 0);
  mem_resize (&mem, multi, sizeof *multi, 0);
}

static void on_closed (uv_handle_t *handle) {
  release (handle->data);
}

static void on_socket_closed (uv_handle_t *handle) {
  struct fetch_socket *socket = handle->data;
  struct fetch_multi *multi = socket->multi;
  mem_resize (&multi->mem, socket, sizeof *socket, 0);
  release (multi);
}

/* ── sockets ── */

static struct fetch_socket *find_socket (const struct fetch_multi *multi, curl_socket_t fd) {
  return fd >= 0 && (size_t)fd < multi->socket_size ? multi->sockets[fd] : NULL;
}

/* NULL when there is no memory, or the descriptor cannot be polled. */
static struct fetch_socket *add_socket (struct fetch_multi *multi, curl_socket_t fd) {
  struct fetch_socket *made;
  if ((size_t)fd >= multi->socket_size) {
    size_t size = multi->socket_size ? multi->socket_size : 64;
    struct fetch_socket **sockets;
    while (size <= (size_t)fd)
      size *= 2;
    sockets = mem_resize (&multi->mem, multi->sockets, multi->socket_size * sizeof *sockets,
                          size * sizeof *sockets);
    if (!sockets)
      return NULL;
    memset (sockets + multi->socket_size, 0, (size - multi->socket_size) * sizeof *sockets);
    multi->sockets = sockets;
    multi->socket_size = size;
  }
  made = mem_resize (&multi->mem, NULL, 0, sizeof *made);
  if (!made)
    return NULL;
  memset (made, 0, sizeof *made);
  if (uv_poll_init_socket (multi->loop, &made->poll, fd) != 0) {
    mem_resize (&multi->mem, made, sizeof *made, 0);
    return NULL;
  }
  uv_unref ((uv_handle_t *)&made->poll); /* who waits for a transfer keeps the loop alive */
  made->poll.data = made;
  made->multi = multi;
  made->fd = fd;
  multi->sockets[fd] = made;
  multi->open++;
  return made;
}

static void forget_idle (struct fetch_socket *socket) {
  struct fetch_socket **place = &socket->multi->idle;
  if (!socket->idle)
    return;
  while (*place != socket)
    place = &(*place)->next_idle;
  *place = socket->next_idle;
  socket->idle = false;
}

static void close_socket (struct fetch_socket *socket) {
  forget_idle (socket);
  socket->multi->sockets[socket->fd] = NULL;
  uv_close ((uv_handle_t *)&socket->poll, on_socket_closed);
}

static void on_prepare (uv_prepare_t *prepare) {
  struct fetch_multi *multi = prepare->data;
  while (multi->idle) {
    struct fetch_socket *socket = multi->idle;
    multi->idle = socket->next_idle;
    socket->idle = false;
    if (!socket->wanted && socket->active) {
      uv_poll_stop (&socket->poll);
      socket->active = 0;
    }
  }
  uv_prepare_stop (prepare);
}

/* Those whose descriptors could not be polled end, outside of libcurl's callbacks. */
static void end_starved (struct fetch_multi *multi) {
  struct transfer *transfer = multi->transfers, *next;
  multi->starved = false;
  for (; transfer; transfer = next) {
    next = transfer->next;
    if (transfer->starved)
      fetch_transfer_ended (transfer, CURLE_OUT_OF_MEMORY);
  }
}

/* What ended is told to its transfer, outside of libcurl's callbacks. */
static void take_ended (struct fetch_multi *multi) {
  CURLMsg *message;
  int left;
  while ((message = multi->curl.multi_info_read (multi->multi, &left))) {
    CURLcode result = message->data.result;
    CURL *easy = message->easy_handle;
    struct transfer *transfer = NULL;
    if (message->msg != CURLMSG_DONE)
      continue;
    multi->curl.easy_getinfo (easy, CURLINFO_PRIVATE, &transfer);
    fetch_transfer_ended (transfer, result);
  }
  if (multi->starved)
    end_starved (multi);
}

static void on_poll (uv_poll_t *poll, int status, int events);

static bool poll_wanted (struct fetch_socket *socket) {
  if (socket->active != socket->wanted) {
    if (uv_poll_start (&socket->poll, socket->wanted, on_poll) != 0)
      return false;
    socket->active = socket->wanted;
  }
  return true;
}

static void on_poll (uv_poll_t *poll, int status, int events) {
  struct fetch_socket *socket = poll->data;
  struct fetch_multi *multi = socket->multi;
  curl_socket_t fd = socket->fd;
  int flags = 0, running;
  if (!socket->wanted) {
    /* An idle connection's peer has closed it; libcurl sees that when it would use it again. */
    uv_poll_stop (poll);
    socket->active = 0;
    return;
  }
  if (status < 0) { /* libuv has stopped; what came before the reset is still there to be read */
    socket->active = 0;
    events = socket->wanted;
  }
  if (events & UV_READABLE)
    flags |= CURL_CSELECT_IN;
  if (events & UV_WRITABLE)
    flags |= CURL_CSELECT_OUT;
  multi->curl.multi_socket_action (multi->multi, fd, flags, &running);
  if (status < 0 && (socket = find_socket (multi, fd)) && socket->wanted && !poll_wanted (socket))
    multi->curl.multi_socket_action (multi->multi, fd, CURL_CSELECT_ERR, &running);
  take_ended (multi);
}

/* Whether it is the connection that the transfer leaves to others: on_close_socket is told of its end. Not so of
   one that is given up while it still connects: libcurl has closed that descriptor by itself, and then says that it
   need not be polled. What was kept once is a connection, and need not be looked for among all again. */
static bool is_kept (struct fetch_socket *socket, CURL *easy) {
  curl_socket_t kept = CURL_SOCKET_BAD;
  if (!socket->kept)
    socket->kept = socket->multi->curl.easy_getinfo (easy, CURLINFO_ACTIVESOCKET, &kept) == CURLE_OK
                   && kept == socket->fd;
  return socket->kept;
}

/* Not an error of the callback's: after that libcurl would do nothing more, for any transfer. */
static int starve (struct fetch_multi *multi, CURL *easy) {
  struct transfer *transfer = NULL;
  multi->curl.easy_getinfo (easy, CURLINFO_PRIVATE, &transfer);
  if (!transfer)
    return -1;
  transfer->starved = multi->starved = true;
  return 0;
}

static int on_socket (CURL *easy, curl_socket_t fd, int what, void *data, void *unused) {
  struct fetch_multi *multi = data;
  struct fetch_socket *socket = find_socket (multi, fd);
  (void)unused;
  if (what == CURL_POLL_REMOVE) {
    if (!socket)
      return 0;
    socket->wanted = 0;
    if (!is_kept (socket, easy)) {
      close_socket (socket);
    } else if (!socket->idle) {
      socket->idle = true;
      socket->next_idle = multi->idle;
      multi->idle = socket;
      uv_prepare_start (&multi->prepare, on_prepare);
    }
    return 0;
  }
  if (!socket && !(socket = add_socket (multi, fd)))
    return starve (multi, easy);
  socket->easy = easy;
  socket->wanted
      = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
  return poll_wanted (socket) ? 0 : starve (multi, easy);
}

static curl_socket_t on_open_socket (void *data, curlsocktype purpose,
                                     struct curl_sockaddr *address) {
  int fd = socket (address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  struct fetch_socket *stale = find_socket (data, fd);
  (void)purpose;
  /* One that was given up, of which libcurl has not told yet, had the same number: it takes them for the same. */
  if (stale && stale->active) {
    uv_poll_stop (&stale->poll);
    stale->active = 0;
    if (!poll_wanted (stale)) {
      close (fd);
      return CURL_SOCKET_BAD;
    }
  }
  return fd;
}

static int on_close_socket (void *data, curl_socket_t fd) {
  struct fetch_socket *socket = find_socket (data, fd);
  if (socket)
    close_socket (socket); /* before the descriptor, which libuv still knows of */
  return close (fd);
}

/* ── time ── */

static void on_timer (uv_timer_t *timer) {
  struct fetch_multi *multi = timer->data;
  int running;
  multi->curl.multi_socket_action (multi->multi, CURL_SOCKET_TIMEOUT, 0, &running);
  take_ended (multi);
}

static int on_deadline (CURLM *handle, long milliseconds, void *data) {
  struct fetch_multi *multi = data;
  (void)handle;
  if (milliseconds < 0) {
    uv_timer_stop (&multi->timer);
    return 0;
  }
  if (milliseconds > 0)
    uv_update_time (multi->loop);
  return uv_timer_start (&multi->timer, on_timer, (uint64_t)milliseconds, 0) == 0 ? 0 : -1;
}

/* ── opening and closing ── */

CURL *fetch_multi_take (struct fetch_multi *multi) {
  const struct curl *curl = &multi->curl;
  CURL *easy = multi->spares ? multi->spare[--multi->spares] : curl->easy_init ();
  if (!easy)
    return NULL;
  curl->easy_setopt (easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
  curl->easy_setopt (easy, CURLOPT_OPENSOCKETDATA, multi);
  curl->easy_setopt (easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
  curl->easy_setopt (easy, CURLOPT_CLOSESOCKETDATA, multi);
  curl->easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
  /* A name that is still being looked up does not hold up the loop when nobody wants it any more. */
  curl->easy_setopt (easy, CURLOPT_QUICK_EXIT, 1L);
  return easy;
}

void fetch_multi_give_back (struct fetch_multi *multi, CURL *easy) {
  if (multi->closed || multi->spares == sizeof multi->spare / sizeof *multi->spare) {
    multi->curl.easy_cleanup (easy);
    return;
  }
  multi->curl.easy_reset (easy);
  multi->spare[multi->spares++] = easy;
}

static struct fetch_multi *make (lua_State *L, allua *host) {
  struct fetch_multi *multi;
  struct curl curl;
  fetch_curl_load (L, &curl);
  multi = mem_resize (&host->mem, NULL, 0, sizeof *multi);
  if (!multi)
    return NULL;
  memset (multi, 0, sizeof *multi);
  multi->host = host;
  multi->curl = curl;
  multi->mem = host->mem;
  multi->loop = host->loop;
  multi->multi = curl.multi_init ();
  if (!multi->multi) {
    mem_resize (&host->mem, multi, sizeof *multi, 0);
    return NULL;
  }
  uv_timer_init (host->loop, &multi->timer);
  uv_prepare_init (host->loop, &multi->prepare);
  uv_unref ((uv_handle_t *)&multi->timer);
  uv_unref ((uv_handle_t *)&multi->prepare);
  multi->timer.data = multi->prepare.data = multi;
  multi->open = 2;
  curl.multi_setopt (multi->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl.multi_setopt (multi->multi, CURLMOPT_SOCKETDATA, multi);
  curl.multi_setopt (multi->multi, CURLMOPT_TIMERFUNCTION, on_deadline);
  curl.multi_setopt (multi->multi, CURLMOPT_TIMERDATA, multi);
  curl.multi_setopt (multi->multi, CURLMOPT_MAXCONNECTS, MAX_IDLE_CONNECTIONS);
  return multi;
}

struct fetch_multi *fetch_multi_of (lua_State *L, allua *host) {
  struct fetch_multi *multi;
  luaL_checkstack (L, 4, NULL);
  if (lua_rawgetp (L, LUA_REGISTRYINDEX, &multi_key) == LUA_TLIGHTUSERDATA) {
    multi = lua_touserdata (L, -1);
    lua_pop (L, 1);
    return multi;
  }
  lua_pop (L, 1);
  if (host->tearing)
    luaL_error (L, "this allua host is closed");
  /* The place first: storing in it then needs no memory. */
  lua_pushboolean (L, 0);
  lua_rawsetp (L, LUA_REGISTRYINDEX, &multi_key);
  multi = make (L, host);
  if (!multi) {
    error_raise_memory (L, host);
  }
  lua_pushlightuserdata (L, multi);
  lua_rawsetp (L, LUA_REGISTRYINDEX, &multi_key);
  return multi;
}

/* The host's, or NULL. */
static struct fetch_multi *find (allua *host) {
  lua_State *L = host->main;
  struct fetch_multi *multi;
  lua_rawgetp (L, LUA_REGISTRYINDEX, &multi_key);
  multi = lua_touserdata (L, -1); /* or NULL */
  lua_pop (L, 1);
  return multi;
}

size_t fetch_multi_count_idle (allua *host) {
  const struct fetch_multi *multi = find (host);
  const struct fetch_socket *socket;
  size_t count = 0;
  if (!multi)
    return 0;
  for (socket = multi->idle; socket; socket = socket->next_idle)
    count += !socket->wanted && socket->active;
  return count + (uv_is_active ((const uv_handle_t *)&multi->prepare) != 0);
}

size_t fetch_multi_count_inside (allua *host, bool (*inside) (int fd, void *data), void *data) {
  const uint64_t soon = 20; /* ms */
  const struct fetch_multi *multi = find (host);
  size_t count = 0, fd;
  /* libcurl does its own work when its timer fires. */
  if (!multi
      || (uv_is_active ((const uv_handle_t *)&multi->timer)
          && uv_timer_get_due_in (&multi->timer) < soon))
    return 0;
  for (fd = 0; fd < multi->socket_size; fd++) {
    const struct fetch_socket *socket = multi->sockets[fd];
    struct transfer *transfer = NULL;
    if (!socket || !socket->wanted || !inside ((int)fd, data))
      continue;
    multi->curl.easy_getinfo (socket->easy, CURLINFO_PRIVATE, &transfer);
    count += transfer && transfer->waited_for;
  }
  return count;
}

void fetch_multi_close (allua *host) {
  lua_State *L = host->main;
  struct fetch_multi *multi = find (host);
  size_t fd;
  if (!multi)
    return;
  lua_pushboolean (L, 0);
  lua_rawsetp (L, LUA_REGISTRYINDEX, &multi_key);
  multi->closed = true;
  while (multi->transfers)
    fetch_transfer_drop (multi->transfers);
  fetch_prepared_close (multi);
  while (multi->spares)
    multi->curl.easy_cleanup (multi->spare[--multi->spares]);
  multi->curl.multi_cleanup (multi->multi);
  for (fd = 0; fd < multi->socket_size; fd++)
    if (multi->sockets[fd])
      close_socket (multi->sockets[fd]);
  uv_close ((uv_handle_t *)&multi->timer, on_closed);
  uv_close ((uv_handle_t *)&multi->prepare, on_closed);
}
