#include "http_parser.h"

#include <string.h>
#include <strings.h>

#include "http_bytes.h"
#include "http_field.h"

enum state {
  START,
  START_LF, /* one empty line before a request is passed over */
  METHOD_FIRST,
  METHOD,
  TARGET,
  VERSION,
  VERSION_LF,
  FIELD,
  NAME,
  VALUE_FIRST,
  VALUE,
  VALUE_LF,
  HEAD_LF,
  COUNTED,
  CHUNK_FIRST,
  CHUNK_SIZE,
  EXTENSION_FIRST, /* ;name=token or ;name="quoted", without the white space that 7.1.1 calls bad */
  EXTENSION_NAME,
  EXTENSION_VALUE_FIRST,
  EXTENSION_VALUE,
  EXTENSION_QUOTED,
  EXTENSION_ESCAPED,
  EXTENSION_END,
  CHUNK_LF,
  CHUNK_DATA,
  CHUNK_DATA_CR,
  CHUNK_DATA_LF,
  TRAILER,
  TRAILER_NAME,
  TRAILER_VALUE,
  TRAILER_LF,
  LAST_LF,
  DONE,
  BROKEN
};

enum { CHUNK_LINE = 256 };

void http_parser_init (struct http_parser *parser, const struct http_limits *limits,
                       struct mem *mem) {
  memset (parser, 0, sizeof *parser);
  parser->limits = *limits;
  parser->mem = mem;
  parser->state = START;
}

void http_parser_free (struct http_parser *parser) {
  mem_resize (parser->mem, parser->head, parser->head_size, 0);
  mem_resize (parser->mem, parser->fields, parser->field_size * sizeof *parser->fields, 0);
  parser->head = NULL;
  parser->fields = NULL;
}

void http_parser_reset (struct http_parser *parser) {
  struct http_parser fresh;
  http_parser_init (&fresh, &parser->limits, parser->mem);
  fresh.head = parser->head;
  fresh.head_size = parser->head_size;
  fresh.fields = parser->fields;
  fresh.field_size = parser->field_size;
  *parser = fresh;
}

bool http_parser_has_begun (const struct http_parser *parser) {
  return parser->state != START;
}

struct http_span http_parser_fields (const struct http_parser *parser) {
  const struct http_field *first = parser->fields, *last;
  if (!parser->field_count)
    return (struct http_span){ 0, 0 };
  last = first + parser->field_count - 1;
  return (struct http_span){ first->name.at,
                             last->value.at + last->value.length + 1 - first->name.at };
}

static bool is_token (unsigned char c) {
  return http_bytes[c] & BYTE_TOKEN;
}

static bool is_text (unsigned char c) {
  return http_bytes[c] & BYTE_TEXT;
}

static bool is_uri (unsigned char c) {
  return http_bytes[c] & BYTE_URI;
}

static char lower (unsigned char c) {
  return (char)(http_bytes[c] & BYTE_UPPER ? c | 0x20 : c);
}

static int hex (unsigned char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool refuse (struct http_parser *parser, int status, const char *reason) {
  parser->state = BROKEN;
  parser->status = status;
  parser->reason = reason;
  return false;
}

/* Have room for that many bytes more of the head. */
static bool grow (struct http_parser *parser, size_t length) {
  size_t size = parser->head_size ? parser->head_size : 512;
  char *head;
  while (size - parser->head_length < length)
    size *= 2;
  head = mem_resize (parser->mem, parser->head, parser->head_size, size);
  if (!head)
    return refuse (parser, 503, "not enough memory");
  parser->head = head;
  parser->head_size = size;
  return true;
}

static inline bool keep (struct http_parser *parser, char c) {
  if (parser->head_length == parser->head_size && !grow (parser, 1))
    return false;
  parser->head[parser->head_length++] = c;
  return true;
}

static struct http_span span (const struct http_parser *parser) {
  return (struct http_span){ (uint32_t)parser->mark,
                             (uint32_t)(parser->head_length - parser->mark) };
}

static bool end_target (struct http_parser *parser) {
  const char *target, *at, *end;
  uint32_t length;
  parser->target = span (parser);
  target = parser->head + parser->target.at;
  length = parser->target.length;
  if (http_span_is (parser, parser->method, "CONNECT"))
    return refuse (parser, 501, "CONNECT is not supported");
  if (http_span_is (parser, parser->method, "PRI")) /* what HTTP/2 begins with, and nothing else */
    return refuse (parser, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  end = target + length;
  for (at = target; (at = memchr (at, '%', (size_t)(end - at))); at++)
    if (end - at < 3 || hex ((unsigned char)at[1]) < 0 || hex ((unsigned char)at[2]) < 0)
      return refuse (parser, 400, "a percent sign without two hexadecimal digits");
  if (length && target[0] == '/')
    return true;
  if (length == 1 && target[0] == '*' && parser->method.length == 7
      && memcmp (parser->head + parser->method.at, "OPTIONS", 7) == 0)
    return true;
  if ((length > 7 && strncasecmp (target, "http://", 7) == 0 && target[7] != '/')
      || (length > 8 && strncasecmp (target, "https://", 8) == 0 && target[8] != '/'))
    return true;
  return refuse (parser, 400, "not a target of a request");
}

static bool end_version (struct http_parser *parser) {
  struct http_span version = span (parser);
  const char *text = parser->head + version.at;
  if (version.length != 8 || memcmp (text, "HTTP/", 5) != 0 || text[5] < '0' || text[5] > '9'
      || text[6] != '.' || text[7] < '0' || text[7] > '9')
    return refuse (parser, 400, "not a version of HTTP");
  if (text[5] != '1' || text[7] > '1')
    return refuse (parser, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  parser->minor = text[7] - '0';
  return true;
}

static bool end_field (struct http_parser *parser) {
  struct http_field *field = &parser->fields[parser->field_count - 1];
  struct http_span value = span (parser);
  while (value.length && strchr (" \t", parser->head[value.at + value.length - 1]))
    value.length--;
  field->value = value;
  parser->head_length = value.at + value.length;
  if (!keep (parser, '\0'))
    return false;
  return http_field_read (parser, field) || refuse (parser, parser->status, parser->reason);
}

static bool begin_field (struct http_parser *parser) {
  if (parser->field_count == parser->limits.fields)
    return refuse (parser, 431, "too many header fields");
  if (parser->field_count == parser->field_size) {
    size_t size = parser->field_size ? parser->field_size * 2 : 16;
    struct http_field *fields = mem_resize (
        parser->mem, parser->fields, parser->field_size * sizeof *fields, size * sizeof *fields);
    if (!fields)
      return refuse (parser, 503, "not enough memory");
    parser->fields = fields;
    parser->field_size = size;
  }
  parser->field_count++;
  parser->mark = parser->head_length;
  return true;
}

static bool end_head (struct http_parser *parser) {
  if (parser->minor == 1 && !parser->hosts)
    return refuse (parser, 400, "no Host");
  if (parser->chunked && parser->has_length)
    return refuse (parser, 400, "both Content-Length and Transfer-Encoding");
  if (parser->chunked && parser->minor == 0)
    return refuse (parser, 400, "HTTP/1.0 has no chunked bodies");
  if (parser->minor == 0)
    parser->expects_continue = false;
  parser->keep_alive = !parser->connection_close && (parser->minor == 1 || parser->connection_keep);
  parser->left = parser->length;
  parser->consumed = 0;
  parser->state = parser->chunked ? CHUNK_FIRST : parser->left ? COUNTED : DONE;
  return true;
}

/* One byte of the head. False: refused. */
static bool head_byte (struct http_parser *parser, unsigned char c) {
  if (parser->state > START_LF && ++parser->consumed > parser->limits.head
      && parser->state != TARGET)
    return refuse (parser, 431, "the head is too long");
  switch (parser->state) {
  case START:
    if (c == '\r') {
      parser->state = START_LF;
      return true;
    }
    break;
  case START_LF:
    parser->state = METHOD_FIRST;
    return c == '\n' || refuse (parser, 400, "a carriage return without a line feed");
  case METHOD:
    if (c == ' ') {
      parser->method = span (parser);
      parser->mark = parser->head_length;
      parser->state = TARGET;
      return true;
    }
    if (!is_token (c) || parser->head_length >= 32)
      return refuse (parser, 400, "not a method");
    return keep (parser, (char)c);
  case TARGET:
    if (c == ' ') {
      if (!end_target (parser))
        return false;
      parser->mark = parser->head_length;
      parser->state = VERSION;
      return true;
    }
    if (parser->head_length - parser->mark >= parser->limits.uri)
      return refuse (parser, 414, "the target is too long");
    if (!is_uri (c))
      return refuse (parser, 400, "a byte that no target may hold");
    return keep (parser, (char)c);
  case VERSION:
    if (c == '\r') {
      parser->state = VERSION_LF;
      return end_version (parser);
    }
    if (parser->head_length - parser->mark >= 8)
      return refuse (parser, 400, "not a version of HTTP");
    return keep (parser, (char)c);
  case VERSION_LF:
  case VALUE_LF:
    parser->state = FIELD;
    return c == '\n' || refuse (parser, 400, "a carriage return without a line feed");
  case FIELD:
    if (c == '\r') {
      parser->state = HEAD_LF;
      return true;
    }
    if (c == ' ' || c == '\t')
      return refuse (parser, 400, "a header field over several lines");
    if (!is_token (c))
      return refuse (parser, 400, "not a name of a header field");
    if (!begin_field (parser))
      return false;
    parser->state = NAME;
    return keep (parser, lower (c));
  case NAME:
    if (c == ':') {
      parser->fields[parser->field_count - 1].name = span (parser);
      parser->state = VALUE_FIRST;
      return keep (parser, '\0');
    }
    if (!is_token (c))
      return refuse (parser, 400, "not a name of a header field");
    return keep (parser, lower (c));
  case VALUE_FIRST:
    if (c == ' ' || c == '\t')
      return true;
    parser->mark = parser->head_length;
    parser->state = VALUE;
    /* fall through */
  case VALUE:
    if (c == '\r') {
      parser->state = VALUE_LF;
      return end_field (parser);
    }
    if (!is_text (c))
      return refuse (parser, 400, "a byte that no header field may hold");
    return keep (parser, (char)c);
  case HEAD_LF:
    if (c != '\n')
      return refuse (parser, 400, "a carriage return without a line feed");
    return end_head (parser);
  default:
    break;
  }
  /* START, METHOD_FIRST */
  parser->consumed = 1;
  parser->state = METHOD;
  if (!is_token (c))
    return refuse (parser, 400, "not a method");
  parser->mark = 0;
  return keep (parser, (char)c);
}

/* Keep the bytes that only go on with the element that is being read, and that no limit forbids: what head_byte
   does with each of them, at once. Returns how many; the rest is its. */
static size_t head_run (struct http_parser *parser, const char *data, size_t length) {
  size_t kept = parser->head_length - parser->mark, i;
  size_t most = parser->consumed < parser->limits.head ? parser->limits.head - parser->consumed : 0;
  unsigned char class = BYTE_TOKEN;
  char *to;
  switch (parser->state) {
  case METHOD:
    most = most < 32 - kept ? most : 32 - kept;
    break;
  case TARGET: /* the one element that the head's limit does not end */
    most = parser->limits.uri - kept;
    class = BYTE_URI;
    break;
  case NAME:
    break;
  case VERSION:
    most = most < 8 - kept ? most : 8 - kept;
    class = BYTE_TEXT;
    break;
  case VALUE:
    class = BYTE_TEXT;
    break;
  default:
    return 0;
  }
  length = http_bytes_count (data, length < most ? length : most, class);
  if (parser->head_size - parser->head_length < length && !grow (parser, length))
    return 0;
  to = parser->head + parser->head_length;
  if (parser->state == NAME)
    for (i = 0; i < length; i++)
      to[i] = lower ((unsigned char)data[i]);
  else
    memcpy (to, data, length);
  parser->head_length += length;
  parser->consumed += length;
  return length;
}

static bool extension_byte (struct http_parser *parser, unsigned char c) {
  int next = -1;
  switch (parser->state) {
  case EXTENSION_FIRST:
    next = is_token (c) ? EXTENSION_NAME : -1;
    break;
  case EXTENSION_VALUE_FIRST:
    next = is_token (c) ? EXTENSION_VALUE : c == '"' ? EXTENSION_QUOTED : -1;
    break;
  case EXTENSION_QUOTED:
    next = c == '"'      ? EXTENSION_END
           : c == '\\'   ? EXTENSION_ESCAPED
           : is_text (c) ? EXTENSION_QUOTED
                         : -1;
    break;
  case EXTENSION_ESCAPED:
    next = is_text (c) ? EXTENSION_QUOTED : -1;
    break;
  default: /* EXTENSION_NAME, EXTENSION_VALUE, EXTENSION_END */
    if (c == '\r')
      next = CHUNK_LF;
    else if (c == ';')
      next = EXTENSION_FIRST;
    else if (parser->state == EXTENSION_NAME && c == '=')
      next = EXTENSION_VALUE_FIRST;
    else if (parser->state != EXTENSION_END && is_token (c))
      next = parser->state;
    break;
  }
  if (next < 0)
    return refuse (parser, 400, "not an extension of a chunk");
  parser->state = next;
  return true;
}

/* The name is kept behind the head while it is read. */
static bool trailer_name_byte (struct http_parser *parser, unsigned char c) {
  if (!is_token (c))
    return refuse (parser, 400, "not a name of a header field");
  return keep (parser, lower (c));
}

static bool end_trailer_name (struct http_parser *parser) {
  struct http_span name = span (parser);
  parser->state = TRAILER_VALUE;
  parser->head_length = parser->mark;
  if (http_span_is (parser, name, "content-length")
      || http_span_is (parser, name, "transfer-encoding"))
    return refuse (parser, 400, "a framing in a trailer");
  return true;
}

/* One byte between the chunks' data. False: refused. */
static bool chunk_byte (struct http_parser *parser, unsigned char c) {
  size_t limit = parser->state >= TRAILER ? parser->limits.head : CHUNK_LINE;
  if (++parser->consumed > limit)
    return refuse (parser, 400, "a line of a chunk, or a trailer, that is too long");
  if (parser->state >= EXTENSION_FIRST && parser->state <= EXTENSION_END)
    return extension_byte (parser, c);
  switch (parser->state) {
  case CHUNK_FIRST:
    parser->left = 0;
    parser->state = CHUNK_SIZE;
    if (hex (c) < 0)
      return refuse (parser, 400, "not a size of a chunk");
    /* fall through */
  case CHUNK_SIZE:
    if (hex (c) >= 0) {
      parser->left = parser->left * 16 + (uint64_t)hex (c);
      return parser->consumed <= 15 || refuse (parser, 400, "not a size of a chunk");
    }
    if (c != ';' && c != '\r')
      return refuse (parser, 400, "not a size of a chunk");
    parser->state = c == ';' ? EXTENSION_FIRST : CHUNK_LF;
    return true;
  case CHUNK_LF:
    parser->state = parser->left ? CHUNK_DATA : TRAILER;
    parser->consumed = 0;
    break;
  case CHUNK_DATA_CR:
    parser->state = CHUNK_DATA_LF;
    return c == '\r' || refuse (parser, 400, "a chunk that is longer than its size");
  case CHUNK_DATA_LF:
    parser->state = CHUNK_FIRST;
    parser->consumed = 0;
    break;
  case TRAILER:
    if (c == '\r') {
      parser->state = LAST_LF;
      return true;
    }
    parser->state = TRAILER_NAME;
    parser->mark = parser->head_length;
    return trailer_name_byte (parser, c);
  case TRAILER_NAME:
    return c == ':' ? end_trailer_name (parser) : trailer_name_byte (parser, c);
  case TRAILER_VALUE:
    if (c == '\r')
      parser->state = TRAILER_LF;
    return c == '\r' || is_text (c) || refuse (parser, 400, "a byte that no header field may hold");
  case TRAILER_LF:
    parser->state = TRAILER;
    break;
  default: /* LAST_LF */
    parser->state = DONE;
    break;
  }
  return c == '\n' || refuse (parser, 400, "a carriage return without a line feed");
}

/* Parse up to the end of the head, a refusal, or the end of the data. */
static size_t read_head (struct http_parser *parser, const char *data, size_t length) {
  size_t i = 0;
  const unsigned runs = 1U << METHOD | 1U << TARGET | 1U << VERSION | 1U << NAME | 1U << VALUE;
  while (i < length && parser->state <= HEAD_LF) {
    if (runs >> parser->state & 1)
      i += head_run (parser, data + i, length - i);
    if (i < length && parser->state != BROKEN)
      head_byte (parser, (unsigned char)data[i++]);
  }
  return i;
}

size_t http_parser_run (struct http_parser *parser, const char *data, size_t length,
                        enum http_event *event) {
  size_t i = 0;
  while (true) {
    if (parser->state == BROKEN) {
      *event = HTTP_REFUSED;
      return i;
    }
    if (parser->state == DONE) {
      *event = HTTP_END;
      return i;
    }
    if (i == length) {
      *event = HTTP_MORE;
      return i;
    }
    if (parser->state == COUNTED || parser->state == CHUNK_DATA) {
      size_t rest = length - i;
      parser->body = data + i;
      parser->body_length = rest < parser->left ? rest : (size_t)parser->left;
      parser->left -= parser->body_length;
      parser->total += parser->body_length;
      if (!parser->left)
        parser->state = parser->state == COUNTED ? DONE : CHUNK_DATA_CR;
      *event = HTTP_BODY;
      return i + parser->body_length;
    }
    if (parser->state <= HEAD_LF) {
      i += read_head (parser, data + i, length - i);
      if (parser->state > HEAD_LF && parser->state != BROKEN) {
        *event = HTTP_HEAD;
        return i;
      }
    } else {
      chunk_byte (parser, (unsigned char)data[i++]);
    }
  }
}
