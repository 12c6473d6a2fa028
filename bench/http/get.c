/* get: the limit of the fetch benchmark: 20,000 GETs, 64 at a time, by libcurl on libuv. No Lua; the easy handles are
   made once and used as they are. What is set is what makes libcurl fastest: a URL that is parsed already, no search for
   a proxy; and the head is that of allua.fetch, its lines given as a list, which libcurl writes once instead of twice. */
#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

enum { HANDLES = 64, COUNT = 20000, DESCRIPTORS = 1024 };

static const char expected[] = "{\"message\":\"Hello, World!\"}";

struct polled {
  uv_poll_t poll;
  bool wanted, active;
};

struct transfer {
  CURL *easy;
  char body[256];
  size_t length;
};

static CURLM *multi;
static uv_timer_t timer;
static uv_prepare_t prepare;
static struct polled *polled[DESCRIPTORS];
static int idle[DESCRIPTORS], idles, left = COUNT;

static void fail (const char *words) {
  fprintf (stderr, "get: %s\n", words);
  exit (EXIT_FAILURE);
}

static size_t on_body (char *bytes, size_t one, size_t length, void *data) {
  struct transfer *transfer = data;
  (void)one;
  if (transfer->length + length > sizeof transfer->body)
    return 0;
  memcpy (transfer->body + transfer->length, bytes, length);
  transfer->length += length;
  return length;
}

static void start (struct transfer *transfer) {
  if (left == 0)
    return;
  left--;
  transfer->length = 0;
  curl_multi_add_handle (multi, transfer->easy);
}

static void take_ended (void) {
  CURLMsg *message;
  int rest;
  while ((message = curl_multi_info_read (multi, &rest))) {
    struct transfer *transfer;
    CURL *easy = message->easy_handle;
    if (message->data.result != CURLE_OK)
      fail (curl_easy_strerror (message->data.result));
    curl_easy_getinfo (easy, CURLINFO_PRIVATE, &transfer);
    if (transfer->length != sizeof expected - 1
        || memcmp (transfer->body, expected, sizeof expected - 1) != 0)
      fail ("not the reply that was expected");
    curl_multi_remove_handle (multi, easy);
    start (transfer);
  }
}

static void on_poll (uv_poll_t *poll, int status, int events) {
  int flags = status < 0 ? CURL_CSELECT_ERR : 0, running, fd = (int)(intptr_t)poll->data;
  if (!polled[fd]->wanted) {
    uv_poll_stop (poll);
    polled[fd]->active = false;
    return;
  }
  if (events & UV_READABLE)
    flags |= CURL_CSELECT_IN;
  if (events & UV_WRITABLE)
    flags |= CURL_CSELECT_OUT;
  curl_multi_socket_action (multi, fd, flags, &running);
  take_ended ();
}

static void on_prepare (uv_prepare_t *handle) {
  while (idles) {
    struct polled *p = polled[idle[--idles]];
    if (p && !p->wanted && p->active) {
      uv_poll_stop (&p->poll);
      p->active = false;
    }
  }
  uv_prepare_stop (handle);
}

static int on_socket (CURL *easy, curl_socket_t fd, int what, void *data, void *unused) {
  static int events[DESCRIPTORS];
  struct polled *p = fd < DESCRIPTORS ? polled[fd] : NULL;
  int wanted = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
  (void)easy, (void)data, (void)unused;
  if (!p)
    return -1;
  p->wanted = what != CURL_POLL_REMOVE;
  if (!p->wanted) {
    if (idles == DESCRIPTORS)
      on_prepare (&prepare);
    idle[idles++] = fd;
    uv_prepare_start (&prepare, on_prepare);
  } else if (!p->active || events[fd] != wanted) {
    uv_poll_start (&p->poll, wanted, on_poll);
    p->active = true;
    events[fd] = wanted;
  }
  return 0;
}

static void on_closed (uv_handle_t *handle) {
  free (handle);
}

static curl_socket_t on_open (void *data, curlsocktype purpose, struct curl_sockaddr *address) {
  int fd = socket (address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  (void)data, (void)purpose;
  if (fd < 0 || fd >= DESCRIPTORS)
    fail ("no descriptor");
  polled[fd] = calloc (1, sizeof *polled[fd]);
  if (!polled[fd] || uv_poll_init_socket (uv_default_loop (), &polled[fd]->poll, fd) != 0)
    fail ("a descriptor that cannot be polled");
  polled[fd]->poll.data = (void *)(intptr_t)fd;
  return fd;
}

static int on_close (void *data, curl_socket_t fd) {
  (void)data;
  uv_close ((uv_handle_t *)&polled[fd]->poll, on_closed);
  polled[fd] = NULL;
  return close (fd);
}

static void on_timer (uv_timer_t *handle) {
  int running;
  (void)handle;
  curl_multi_socket_action (multi, CURL_SOCKET_TIMEOUT, 0, &running);
  take_ended ();
}

static int on_deadline (CURLM *handle, long milliseconds, void *data) {
  (void)handle, (void)data;
  if (milliseconds < 0)
    uv_timer_stop (&timer);
  else
    uv_timer_start (&timer, on_timer, (uint64_t)milliseconds, 0);
  return 0;
}

int main (int argc, char **argv) {
  static struct transfer transfers[HANDLES];
  struct curl_slist *lines;
  CURLU *url;
  int i;
  if (argc != 2)
    fail ("expected a URL");
  curl_global_init (CURL_GLOBAL_DEFAULT);
  multi = curl_multi_init ();
  uv_timer_init (uv_default_loop (), &timer);
  uv_prepare_init (uv_default_loop (), &prepare);
  curl_multi_setopt (multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt (multi, CURLMOPT_TIMERFUNCTION, on_deadline);
  curl_multi_setopt (multi, CURLMOPT_MAXCONNECTS, (long)HANDLES * 2);
  lines = curl_slist_append (NULL, "User-Agent: allua/0.1.0");
  lines = curl_slist_append (lines, "Accept-Encoding: deflate, gzip, br, zstd");
  url = curl_url ();
  if (!lines || curl_url_set (url, CURLUPART_URL, argv[1], 0) != CURLUE_OK)
    fail ("expected a URL");
  for (i = 0; i < HANDLES; i++) {
    CURL *easy = transfers[i].easy = curl_easy_init ();
    curl_easy_setopt (easy, CURLOPT_CURLU, url);
    curl_easy_setopt (easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt (easy, CURLOPT_HTTPHEADER, lines);
    curl_easy_setopt (easy, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt (easy, CURLOPT_PRIVATE, &transfers[i]);
    curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt (easy, CURLOPT_WRITEDATA, &transfers[i]);
    curl_easy_setopt (easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt (easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
    start (&transfers[i]);
  }
  uv_run (uv_default_loop (), UV_RUN_DEFAULT);
  for (i = 0; i < HANDLES; i++)
    curl_easy_cleanup (transfers[i].easy);
  curl_multi_cleanup (multi);
  curl_slist_free_all (lines);
  curl_url_cleanup (url);
  uv_run (uv_default_loop (), UV_RUN_DEFAULT);
  return left == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
