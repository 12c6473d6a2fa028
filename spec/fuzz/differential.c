/* libFuzzer's target: our parser against llhttp, strict, which Debian's node-llhttp has in C. Both get the
   same bytes, in other fragments. Where llhttp refuses, ours must: it must complete no head and no request
   over a byte that llhttp did not take. Where only ours refuses, the reason must be in the list below. What
   both take must be the same requests. The first byte of an input is the seed of the cuts. */
/* A name that both have. */
#define HTTP_HEAD LLHTTP_METHOD_HEAD
#include <llhttp.h>
#undef HTTP_HEAD

#include "http_parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Why ours alone refuses. All are refusals that RFC 9110 or RFC 9112 (the sections are RFC 9112's where no
   other is named) asks for or lets a server choose. */
static const struct {
  const char *reason, *because;
} only_ours[] = {
  { "CONNECT is not supported", "RFC 9110, 9.3.6: for proxies" },
  { "a percent sign without two hexadecimal digits", "RFC 3986, 2.1" },
  { "not a target of a request",
    "3.2: a path, an absolute URI of http or https, or * for OPTIONS" },
  { "a byte that no target may hold", "3.2: 400 rather than a guess" },
  { "the target is too long", "3: 414" },
  { "not a method", "9110, 9.1: llhttp knows a list of methods; some of it we do not take" },
  { "not a version of HTTP", "2.3" },
  { "only HTTP/1.1 and HTTP/1.0 are spoken here", "2.3: 505; llhttp takes HTTP/0.9 and HTTP/2.0" },
  { "several Content-Lengths", "6.3: also where they are equal" },
  { "not a Content-Length", "6.3" },
  { "several Hosts", "3.2: 400" },
  { "no Host", "3.2: 400" },
  { "not a Host", "3.2: 400" },
  { "not a Connection", "RFC 9110, 7.6.1" },
  { "several Transfer-Encodings", "6.1: chunked is to be applied once" },
  { "a transfer coding other than chunked", "6.1: 501" },
  { "an expectation other than 100-continue", "RFC 9110, 10.1.1: 417" },
  { "both Content-Length and Transfer-Encoding", "6.1: what smuggles" },
  { "HTTP/1.0 has no chunked bodies", "6.1: a faulty framing" },
  { "too many header fields", "5.4: a limit" },
  { "the head is too long", "3: a limit" },
  { "a carriage return without a line feed", "2.2" },
  { "a header field over several lines", "5.2: obs-fold" },
  { "not a name of a header field", "5.1; 5.6.2 of RFC 9110" },
  { "a byte that no header field may hold", "RFC 9110, 5.5" },
  { "not a size of a chunk", "7.1; llhttp takes white space behind it" },
  { "not an extension of a chunk", "7.1.1" },
  { "a line of a chunk, or a trailer, that is too long", "7.1.1: a limit" },
  { "a framing in a trailer", "RFC 9110, 6.5.1" },
  { "a chunk that is longer than its size", "7.1" },
};

/* Where llhttp refuses what ours takes, and should. */
static const struct {
  llhttp_errno_t error;
  bool in_extension; /* of a chunk, and nowhere else */
  const char *because;
} only_llhttp[] = {
  { HPE_INVALID_METHOD, false,
    "RFC 9110, 9.1: a method is any token; the routes say which are known" },
  { HPE_INVALID_CHUNK_SIZE, true,
    "7.1.1: llhttp 8.1 knows no second extension behind one with a value" },
};

struct outcome {
  llhttp_errno_t error;
  size_t refused;   /* at which byte, or SIZE_MAX */
  size_t committed; /* up to which byte heads and requests are complete */
  size_t requests, bodies;
  uint64_t digest; /* of methods, targets and bodies of complete requests */
  const char *reason;
  bool over; /* a request that ends the connection, or leaves HTTP: the rest means nothing */
};

static void mix (uint64_t *digest, const char *data, size_t length) {
  size_t i;
  for (i = 0; i < length; i++)
    *digest = (*digest ^ (unsigned char)data[i]) * 1099511628211u;
}

static size_t cut (unsigned *seed, size_t at, size_t length) {
  *seed = *seed * 1103515245u + 12345u;
  at += 1 + (*seed >> 16) % 11;
  return at < length ? at : length;
}

static struct outcome run_ours (const char *data, size_t length, unsigned seed) {
  struct http_limits limits = { .head = 65536, .uri = 8192, .fields = 100 };
  struct outcome outcome = { .refused = SIZE_MAX };
  struct http_parser parser;
  struct mem mem;
  size_t at = 0, end = 0;
  mem_init (&mem, NULL, NULL, 0);
  http_parser_init (&parser, &limits, &mem);
  while (!outcome.over) {
    enum http_event event;
    at += http_parser_run (&parser, data + at, end - at, &event);
    if (event == HTTP_MORE) {
      if (end == length)
        break;
      end = cut (&seed, end, length);
    } else if (event == HTTP_HEAD) {
      outcome.committed = at;
      mix (&outcome.digest, parser.head + parser.method.at, parser.method.length);
      mix (&outcome.digest, parser.head + parser.target.at, parser.target.length);
    } else if (event == HTTP_BODY) {
      mix (&outcome.digest, parser.body, parser.body_length);
      outcome.bodies += parser.body_length;
    } else if (event == HTTP_END) {
      outcome.committed = at;
      outcome.requests++;
      outcome.over = !parser.keep_alive;
      http_parser_reset (&parser);
    } else {
      outcome.refused = at;
      outcome.reason = parser.reason;
      break;
    }
  }
  http_parser_free (&parser);
  return outcome;
}

static int on_bytes (llhttp_t *parser, const char *data, size_t length) {
  struct outcome *outcome = parser->data;
  mix (&outcome->digest, data, length);
  return 0;
}

static int on_body (llhttp_t *parser, const char *data, size_t length) {
  struct outcome *outcome = parser->data;
  outcome->bodies += length;
  return on_bytes (parser, data, length);
}

static int on_headers_complete (llhttp_t *parser) {
  struct outcome *outcome = parser->data;
  if (parser->upgrade) {
    outcome->over = true;
    return HPE_PAUSED;
  }
  return 0;
}

static int on_message_complete (llhttp_t *parser) {
  struct outcome *outcome = parser->data;
  outcome->requests++;
  if (!llhttp_should_keep_alive (parser)) {
    outcome->over = true;
    return HPE_PAUSED;
  }
  return 0;
}

static struct outcome run_llhttp (const char *data, size_t length, unsigned seed) {
  struct outcome outcome = { .refused = SIZE_MAX };
  llhttp_settings_t settings;
  llhttp_t parser;
  size_t at = 0;
  llhttp_settings_init (&settings);
  settings.on_method = on_bytes;
  settings.on_url = on_bytes;
  settings.on_body = on_body;
  settings.on_headers_complete = on_headers_complete;
  settings.on_message_complete = on_message_complete;
  llhttp_init (&parser, HTTP_REQUEST, &settings);
  parser.data = &outcome;
  while (at < length && !outcome.over) {
    size_t end = cut (&seed, at, length);
    llhttp_errno_t error = llhttp_execute (&parser, data + at, end - at);
    if (outcome.over)
      break;
    if (error != HPE_OK) {
      const char *place = llhttp_get_error_pos (&parser);
      outcome.refused = place ? (size_t)(place - data) : at;
      outcome.reason = llhttp_get_error_reason (&parser);
      outcome.error = error;
      break;
    }
    at = end;
  }
  return outcome;
}

static void complain (const char *what, const struct outcome *ours, const struct outcome *llhttp) {
  fprintf (stderr, "%s\nours: refused at %zd (%s), committed %zu, %zu requests, %zu of bodies\n",
           what, (ssize_t)ours->refused, ours->reason ? ours->reason : "-", ours->committed,
           ours->requests, ours->bodies);
  fprintf (stderr, "llhttp: refused at %zd (%s), %zu requests, %zu of bodies\n",
           (ssize_t)llhttp->refused, llhttp->reason ? llhttp->reason : "-", llhttp->requests,
           llhttp->bodies);
  abort ();
}

static bool is_listed (const char *reason) {
  size_t i;
  for (i = 0; i < sizeof only_ours / sizeof *only_ours; i++)
    if (strcmp (only_ours[i].reason, reason) == 0)
      return only_ours[i].because != NULL;
  return false;
}

/* Whether there is a semicolon before this byte in its line. */
static bool is_in_extension (const char *data, size_t at) {
  while (at && data[at - 1] != '\n')
    if (data[--at] == ';')
      return true;
  return false;
}

static bool is_excepted (const char *data, const struct outcome *llhttp) {
  size_t i;
  for (i = 0; i < sizeof only_llhttp / sizeof *only_llhttp; i++)
    if (only_llhttp[i].error == llhttp->error
        && (!only_llhttp[i].in_extension || is_in_extension (data, llhttp->refused)))
      return only_llhttp[i].because != NULL;
  return false;
}

static unsigned long long compared;

static void report (void) {
  fprintf (stderr, "%llu inputs compared\n", compared);
}

static void compare (const char *data, size_t length, unsigned seed) {
  struct outcome ours = run_ours (data, length, seed);
  struct outcome llhttp = run_llhttp (data, length, seed * 7u + 1);
  compared++;
  if (llhttp.refused != SIZE_MAX && llhttp.refused < ours.committed && !is_excepted (data, &llhttp))
    complain ("llhttp refuses what ours takes", &ours, &llhttp);
  if (ours.refused != SIZE_MAX && (llhttp.refused == SIZE_MAX || llhttp.refused > ours.refused)
      && !is_listed (ours.reason))
    complain ("ours refuses for a reason that is not listed", &ours, &llhttp);
  if (ours.refused == SIZE_MAX && llhttp.refused == SIZE_MAX && ours.over == llhttp.over
      && (ours.requests != llhttp.requests || ours.bodies != llhttp.bodies))
    complain ("the same bytes are other requests", &ours, &llhttp);
  if (ours.refused == SIZE_MAX && llhttp.refused == SIZE_MAX && ours.over && llhttp.over
      && ours.requests == llhttp.requests && ours.digest != llhttp.digest)
    complain ("the same requests have other contents", &ours, &llhttp);
}

static size_t pick (unsigned *seed, size_t most) {
  *seed = *seed * 1103515245u + 12345u;
  return (*seed >> 8) % most;
}

/* A few bytes changed, doubled or left out, by the seed. */
static size_t mutate (char *to, const char *data, size_t length, unsigned *seed) {
  static const char bytes[] = "\r\n\t :;,=%\"/?0aF\0\177\377";
  size_t edits = 1 + pick (seed, 3);
  memcpy (to, data, length);
  while (edits-- && length > 1) {
    size_t at = pick (seed, length), span = 1 + pick (seed, length - at);
    switch (pick (seed, 4)) {
    case 0:
      to[at] = bytes[pick (seed, sizeof bytes - 1)];
      break;
    case 1:
      to[at] = (char)pick (seed, 256);
      break;
    case 2:
      span = span < 9 ? span : 8;
      memmove (to + at, to + at + span, length - at - span);
      length -= span;
      break;
    default: /* over what stands elsewhere */
      memmove (to + pick (seed, length - span + 1), to + at, span);
    }
  }
  return length;
}

/* libFuzzer finds inputs that are worth it; each is compared with some more around it, for far less. */
enum { AROUND = 31 };

int LLVMFuzzerTestOneInput (const uint8_t *input, size_t length);
int LLVMFuzzerTestOneInput (const uint8_t *input, size_t length) {
  const char *data = (const char *)input + 1;
  unsigned seed = length ? input[0] : 0;
  char *around;
  int i;
  if (!length--)
    return 0;
  if (!compared)
    atexit (report);
  compare (data, length, seed);
  around = malloc (length + 1);
  if (!around)
    abort ();
  for (i = 0; i < AROUND; i++)
    compare (around, mutate (around, data, length, &seed), seed);
  free (around);
  return 0;
}
