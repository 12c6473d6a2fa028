/* What the fields of a head say of how its request is to be read. */
#ifndef HTTP_FIELD_H
#define HTTP_FIELD_H

#include <string.h>
#include <strings.h>

#include "http_parser.h"

/* Heed a field that is complete. False: it is refused, with the parser's `status` and `reason`. */
bool http_field_read (struct http_parser *parser, const struct http_field *field);

/* Whether it is that text, in upper or lower case. */
static inline bool http_span_is (const struct http_parser *parser, struct http_span span,
                                 const char *text) {
  return span.length == strlen (text)
         && strncasecmp (parser->head + span.at, text, span.length) == 0;
}

#endif
