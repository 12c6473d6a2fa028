/* Parses requests of HTTP/1.1 (RFC 9112) as their bytes come, and refuses what is not to the letter. */
#ifndef HTTP_PARSER_H
#define HTTP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mem.h"

enum http_event {
  HTTP_MORE,   /* all bytes are used, and more are needed */
  HTTP_HEAD,   /* the head is complete; `head`, `fields` and what follows them are valid */
  HTTP_BODY,   /* `body` and `body_length`: some bytes of the body, within the data given */
  HTTP_END,    /* the request is complete; the bytes after it are another's */
  HTTP_REFUSED /* `status` and `reason`; nothing more can be parsed */
};

struct http_span {
  uint32_t at, length; /* within `head` */
};

struct http_field {
  struct http_span name,
      value; /* the name in lower case, the value without white space around it */
};

struct http_limits {
  size_t head, uri, fields; /* bytes, bytes, number */
};

struct http_parser {
  struct http_limits limits;
  struct mem *mem;
  int state;

  char *head; /* what the spans point into */
  size_t head_length, head_size;
  struct http_span method, target;
  struct http_field
      *fields; /* each name and each value with a NUL behind it, one after the other */
  size_t field_count, field_size;
  int minor; /* of HTTP/1.minor */
  bool keep_alive, chunked, has_length, expects_continue;
  uint64_t length; /* of the body, where has_length */

  const char *body;
  size_t body_length;

  int status; /* that a refusal is answered with */
  const char *reason;

  uint64_t left;   /* of the body or the chunk */
  size_t mark;     /* where the element that is being read begins */
  size_t consumed; /* bytes of the head, or of a chunk's line, or of the trailer */
  size_t hosts, connection_close, connection_keep;
  uint64_t total; /* bytes of the body so far */
};

/* mem: where its memory comes from; it must stay. */
void http_parser_init (struct http_parser *parser, const struct http_limits *limits,
                       struct mem *mem);
void http_parser_free (struct http_parser *parser);

/* Make ready for the next request; the memory is kept. */
void http_parser_reset (struct http_parser *parser);

/* Parse up to the next event. Returns how many of the bytes were used; with none, ask again with
   more after HTTP_MORE, or with the same after any other event. */
size_t http_parser_run (struct http_parser *parser, const char *data, size_t length,
                        enum http_event *event);

/* Whether a byte of the next request has come. */
bool http_parser_has_begun (const struct http_parser *parser);

/* After HTTP_HEAD: all fields as they stand in the head, "name\0value\0" each. */
struct http_span http_parser_fields (const struct http_parser *parser);

#endif
