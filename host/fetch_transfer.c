#include "fetch_transfer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_HEAD ((size_t)256 << 10)
#define HIGH_WATER ((size_t)256 << 10) /* of a body that nobody takes */

enum { SWITCHING = 101 }; /* to another protocol, which is none of ours */

/* ── what comes ── */

static bool append (struct transfer *transfer, struct buffer *buffer, const char *bytes,
                    size_t length) {
  if (buffer->size - buffer->length < length) {
    size_t size = buffer->size ? buffer->size : 512;
    char *grown;
    while (size - buffer->length < length)
      size *= 2;
    grown = mem_resize (&transfer->mem, buffer->bytes, buffer->size, size);
    if (!grown)
      return false;
    buffer->bytes = grown;
    buffer->size = size;
  }
  memcpy (buffer->bytes + buffer->length, bytes, length);
  buffer->length += length;
  return true;
}

static void forget (struct transfer *transfer, struct buffer *buffer) {
  if (buffer->bytes)
    mem_resize (&transfer->mem, buffer->bytes, buffer->size, 0);
  memset (buffer, 0, sizeof *buffer);
}

static void wake (struct transfer *transfer) {
  if (!transfer->waited_for || !fetch_transfer_has (transfer, transfer->want))
    return;
  transfer->waited_for = false;
  op_settle (transfer->multi->host, &transfer->op);
}

void fetch_transfer_want (struct transfer *transfer, enum transfer_want want, const char *what,
                          void (*cancel) (struct op *op)) {
  transfer->want = want;
  transfer->waited_for = true;
  op_init (&transfer->op, what, cancel);
  op_begin (transfer->multi->host, &transfer->op);
}

static void note_type (struct transfer *transfer, const char *line, size_t length) {
  static const char name[] = "content-type:";
  size_t begin = sizeof name - 1;
  if (length < begin || line[begin - 1] != ':' || strncasecmp (line, name, begin) != 0)
    return;
  while (begin < length && (line[begin] == ' ' || line[begin] == '\t'))
    begin++;
  while (length > begin && (line[length - 1] == '\r' || line[length - 1] == '\n'))
    length--;
  transfer->type = transfer->head.length + begin;
  transfer->type_length = length - begin;
}

static size_t on_header (char *line, size_t one, size_t length, void *data) {
  struct transfer *transfer = data;
  const char *space;
  (void)one;
  if (transfer->head_done) /* a trailer */
    return length;
  if (length > 5 && memcmp (line, "HTTP/", 5) == 0) {
    transfer->head.length = transfer->type_length = 0;
    space = memchr (line, ' ', length);
    /* libcurl has a line end in a terminated string. */
    transfer->status = space ? (int)strtol (space, NULL, 10) : 0;
  }
  if (transfer->head.length + length > MAX_HEAD) {
    transfer->too_large = true;
    return 0;
  }
  note_type (transfer, line, length);
  if (!append (transfer, &transfer->head, line, length))
    return 0;
  if (transfer->status == SWITCHING) /* libcurl would wait for what comes behind it */
    return 0;
  if ((line[0] == '\r' || line[0] == '\n') && transfer->status >= 200) {
    transfer->head_done = true;
    wake (transfer);
  }
  return length;
}

static size_t on_body (char *bytes, size_t one, size_t length, void *data) {
  struct transfer *transfer = data;
  (void)one;
  if (transfer->streaming && transfer->body.length >= HIGH_WATER) {
    transfer->paused = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  if (transfer->received + length > transfer->limit) {
    transfer->too_large = true;
    return 0;
  }
  if (!append (transfer, &transfer->body, bytes, length))
    return 0;
  transfer->received += length;
  wake (transfer);
  return length;
}

void fetch_transfer_resume (struct transfer *transfer) {
  if (transfer->paused && transfer->easy) {
    transfer->paused = false;
    transfer->multi->curl.easy_pause (transfer->easy, CURLPAUSE_CONT);
  }
}

void fetch_transfer_collect (struct transfer *transfer, uint64_t limit) {
  transfer->streaming = false;
  transfer->limit = limit;
  if (transfer->received > limit && transfer->result == CURLE_OK) {
    transfer->too_large = true;
    fetch_transfer_drop (transfer);
  }
  fetch_transfer_resume (transfer);
}

bool fetch_transfer_end_text (struct transfer *transfer) {
  if (!append (transfer, &transfer->body, "", 1))
    return false;
  transfer->body.length--;
  return true;
}

bool fetch_transfer_has (const struct transfer *transfer, enum transfer_want want) {
  return !transfer->easy || (want == WANT_HEAD && transfer->head_done)
         || (want == WANT_CHUNK && transfer->body.length > 0);
}

/* ── its life ── */

bool fetch_transfer_prepare (struct transfer *transfer, struct fetch_multi *multi) {
  const struct curl *curl = &multi->curl;
  CURL *easy = fetch_multi_take (multi);
  bool failed;
  if (!easy)
    return false;
  transfer->multi = multi;
  transfer->mem = multi->mem;
  transfer->easy = easy;
  failed = curl->easy_setopt (easy, CURLOPT_PRIVATE, transfer)
           || curl->easy_setopt (easy, CURLOPT_ERRORBUFFER, transfer->problem)
           || curl->easy_setopt (easy, CURLOPT_HEADERFUNCTION, on_header)
           || curl->easy_setopt (easy, CURLOPT_HEADERDATA, transfer)
           || curl->easy_setopt (easy, CURLOPT_WRITEFUNCTION, on_body)
           || curl->easy_setopt (easy, CURLOPT_WRITEDATA, transfer)
           || curl->easy_setopt (easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L)
           || curl->easy_setopt (easy, CURLOPT_PROTOCOLS_STR, "http,https");
  /* Refused by a libcurl that has no HTTP/2, which does without. */
  curl->easy_setopt (easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS);
  return !failed;
}

static void unlink_transfer (struct transfer *transfer) {
  if (!transfer->place)
    return;
  *transfer->place = transfer->next;
  if (transfer->next)
    transfer->next->place = transfer->place;
  transfer->place = NULL;
}

bool fetch_transfer_start (struct transfer *transfer) {
  struct fetch_multi *multi = transfer->multi;
  if (multi->curl.multi_add_handle (multi->multi, transfer->easy) != CURLM_OK)
    return false;
  transfer->next = multi->transfers;
  transfer->place = &multi->transfers;
  if (transfer->next)
    transfer->next->place = &transfer->next;
  multi->transfers = transfer;
  return true;
}

/* Let go of all that libcurl has of it. */
static void let_go (struct transfer *transfer) {
  struct fetch_multi *multi = transfer->multi;
  const struct curl *curl;
  if (!transfer->easy)
    return;
  if (transfer->timer.place)
    timer_stop (multi->host, &transfer->timer);
  curl = &multi->curl;
  if (transfer->place)
    curl->multi_remove_handle (multi->multi, transfer->easy);
  unlink_transfer (transfer);
  if (transfer->kept) {
    transfer->easy = NULL;
    return;
  }
  fetch_multi_give_back (multi, transfer->easy);
  transfer->easy = NULL;
  curl->slist_free_all (transfer->headers);
  transfer->headers = NULL;
  curl->mime_free (transfer->form);
  transfer->form = NULL;
}

/* A proxy that makes no tunnel has no code of its own. */
static bool is_refused_tunnel (const struct transfer *transfer, CURLcode result) {
  long status = 0;
  if (result != CURLE_RECV_ERROR)
    return false;
  transfer->multi->curl.easy_getinfo (transfer->easy, CURLINFO_HTTP_CONNECTCODE, &status);
  return status >= 300;
}

/* The name of the server, which we look up for a SOCKS proxy that is given addresses. */
static bool is_unknown_host (const struct transfer *transfer, CURLcode result) {
  long why = CURLPX_OK;
  if (result != CURLE_PROXY)
    return false;
  transfer->multi->curl.easy_getinfo (transfer->easy, CURLINFO_PROXY_ERROR, &why);
  return why == CURLPX_RESOLVE_HOST;
}

void fetch_transfer_ended (struct transfer *transfer, CURLcode result) {
  const char *words = transfer->multi->curl.easy_strerror (result);
  if (result == CURLE_OK && !transfer->head_done) { /* which libcurl does not mind */
    result = CURLE_PARTIAL_FILE;
    words = "the reply was cut off in its head";
  }
  if (result == CURLE_OUT_OF_MEMORY
      && !transfer->head_done) /* libcurl's limit, and its code for it */
    words = "out of memory, or a line of the head is longer than 100 KiB";
  if (result == CURLE_WRITE_ERROR && transfer->status == SWITCHING) {
    result = CURLE_WEIRD_SERVER_REPLY;
    words = "the server switches to another protocol (status 101), which fetch does not speak";
    transfer->problem[0] = '\0';
  }
  if (is_refused_tunnel (transfer, result))
    result = CURLE_PROXY;
  else if (is_unknown_host (transfer, result))
    result = CURLE_COULDNT_RESOLVE_HOST;
  else if (result == CURLE_COULDNT_RESOLVE_HOST && transfer->own_proxy && !transfer->direct)
    result = CURLE_COULDNT_RESOLVE_PROXY; /* of a SOCKS proxy it says that it was the server */
  transfer->result = result;
  if (result != CURLE_OK && !transfer->problem[0])
    strncat (transfer->problem, words, sizeof transfer->problem - 1);
  let_go (transfer);
  wake (transfer);
}

static void on_limit (allua *host, struct timer *timer) {
  struct transfer *transfer
      = (struct transfer *)((char *)timer - offsetof (struct transfer, timer));
  (void)host;
  fetch_transfer_ended (transfer, CURLE_OPERATION_TIMEDOUT);
}

bool fetch_transfer_limit (struct transfer *transfer, double seconds) {
  return timer_start (transfer->multi->host, &transfer->timer, seconds, on_limit);
}

void fetch_transfer_drop (struct transfer *transfer) {
  if (!transfer->easy)
    return;
  transfer->dropped = true;
  transfer->result = CURLE_ABORTED_BY_CALLBACK;
  let_go (transfer);
  forget (transfer, &transfer->body);
  wake (transfer);
}

void fetch_transfer_free (struct transfer *transfer) {
  fetch_transfer_drop (transfer);
  forget (transfer, &transfer->head);
  forget (transfer, &transfer->body);
}

/* ── how it went ── */

static const char *word_for (CURLcode result) {
  switch (result) {
  case CURLE_COULDNT_RESOLVE_HOST:
    return "resolve";
  case CURLE_COULDNT_CONNECT:
    return "connect";
  case CURLE_OPERATION_TIMEDOUT:
    return "timeout";
  case CURLE_COULDNT_RESOLVE_PROXY:
  case CURLE_PROXY:
    return "proxy";
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CIPHER:
  case CURLE_SSL_ISSUER_ERROR:
    return "tls";
  case CURLE_GOT_NOTHING:
  case CURLE_PARTIAL_FILE:
  case CURLE_RECV_ERROR:
  case CURLE_SEND_ERROR:
  case CURLE_HTTP2:
  case CURLE_HTTP2_STREAM:
    return "closed";
  case CURLE_WEIRD_SERVER_REPLY:
  case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 */
  case CURLE_BAD_CONTENT_ENCODING:
    return "protocol";
  case CURLE_READ_ERROR:
    return "file";
  case CURLE_OUT_OF_MEMORY:
  case CURLE_WRITE_ERROR:
    return "memory";
  default:
    return "failed";
  }
}

const char *fetch_transfer_problem (const struct transfer *transfer, const char **words) {
  if (transfer->easy || (transfer->result == CURLE_OK && !transfer->too_large))
    return NULL;
  *words = transfer->problem;
  if (transfer->too_large) {
    *words = transfer->head_done ? "the body is longer than max_body allows"
                                 : "the head is longer than 256 KiB";
    return "too_large";
  }
  if (transfer->dropped) {
    *words = "the transfer was dropped";
    return "dropped";
  }
  return word_for (transfer->result);
}
