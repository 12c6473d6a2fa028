#include "http_field.h"

#include "http_bytes.h"

static bool refuse (struct http_parser *parser, int status, const char *reason) {
  parser->status = status;
  parser->reason = reason;
  return false;
}

static bool read_length (struct http_parser *parser, struct http_span value) {
  uint32_t i;
  if (parser->has_length)
    return refuse (parser, 400, "several Content-Lengths");
  if (value.length == 0 || value.length > 18)
    return refuse (parser, 400, "not a Content-Length");
  for (i = 0; i < value.length; i++) {
    char c = parser->head[value.at + i];
    if (c < '0' || c > '9')
      return refuse (parser, 400, "not a Content-Length");
    parser->length = parser->length * 10 + (uint64_t)(c - '0');
  }
  parser->has_length = true;
  return true;
}

static bool read_host (struct http_parser *parser, struct http_span value) {
  if (parser->hosts++)
    return refuse (parser, 400, "several Hosts");
  if (http_bytes_count (parser->head + value.at, value.length, BYTE_HOST) < value.length)
    return refuse (parser, 400, "not a Host");
  return true;
}

static bool read_connection (struct http_parser *parser, struct http_span value) {
  const char *at = parser->head + value.at, *end = at + value.length;
  while (at < end) {
    const char *from;
    while (at < end && (*at == ' ' || *at == '\t' || *at == ','))
      at++;
    from = at;
    while (at < end && http_bytes[(unsigned char)*at] & BYTE_TOKEN)
      at++;
    if (at - from == 5 && strncasecmp (from, "close", 5) == 0)
      parser->connection_close = 1;
    if (at - from == 10 && strncasecmp (from, "keep-alive", 10) == 0)
      parser->connection_keep = 1;
    while (at < end && (*at == ' ' || *at == '\t'))
      at++;
    if (at < end && *at != ',')
      return refuse (parser, 400, "not a Connection");
  }
  return true;
}

static bool read_coding (struct http_parser *parser, struct http_span value) {
  if (parser->chunked)
    return refuse (parser, 400, "several Transfer-Encodings");
  if (!http_span_is (parser, value, "chunked"))
    return refuse (parser, 501, "a transfer coding other than chunked");
  parser->chunked = true;
  return true;
}

static bool read_expectation (struct http_parser *parser, struct http_span value) {
  if (!http_span_is (parser, value, "100-continue"))
    return refuse (parser, 417, "an expectation other than 100-continue");
  parser->expects_continue = true;
  return true;
}

/* The fields that say how the request is to be read. Names are in lower case here. */
static const struct {
  const char *name;
  uint32_t length;
  bool (*read) (struct http_parser *parser, struct http_span value);
} known[] = { { "host", 4, read_host },
              { "connection", 10, read_connection },
              { "content-length", 14, read_length },
              { "transfer-encoding", 17, read_coding },
              { "expect", 6, read_expectation } };

bool http_field_read (struct http_parser *parser, const struct http_field *field) {
  const char *name = parser->head + field->name.at;
  size_t i;
  for (i = 0; i < sizeof known / sizeof *known; i++)
    if (field->name.length == known[i].length && memcmp (name, known[i].name, known[i].length) == 0)
      return known[i].read (parser, field->value);
  return true;
}
