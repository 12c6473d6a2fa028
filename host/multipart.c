#include "multipart.h"

#include <string.h>

enum state {
  BODY,     /* of a part, or before the first one, where there may be none */
  BOUNDARY, /* a boundary has been read */
  BOUNDARY_LF,
  BOUNDARY_DASH,
  LINE, /* of the head */
  NAME,
  VALUE,
  VALUE_LF,
  HEAD_LF,
  EPILOGUE,
  BROKEN
};

void multipart_init (struct multipart *multipart, const char *boundary, size_t length,
                     size_t most_parts) {
  multipart->state = BODY;
  memcpy (multipart->delimiter, "\r\n--", 4);
  memcpy (multipart->delimiter + 4, boundary, length);
  multipart->delimiter_length = length + 4;
  /* The first one stands at the beginning, where no line ends before it. */
  multipart->matched = multipart->given = 2;
  multipart->parts = 0;
  multipart->most_parts = most_parts;
  multipart->head_length = 0;
  multipart->status = 0;
}

static bool refuse (struct multipart *multipart, int status, const char *reason) {
  multipart->state = BROKEN;
  multipart->status = status;
  multipart->reason = reason;
  return false;
}

static bool is_token (unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
         || (c && strchr ("!#$%&'*+-.^_`|~", c));
}

static bool keep (struct multipart *multipart, char c) {
  if (multipart->head_length == sizeof multipart->head)
    return refuse (multipart, 413, "the head of a part is too long");
  multipart->head[multipart->head_length++] = c;
  return true;
}

static bool begin_part (struct multipart *multipart) {
  if (multipart->parts == multipart->most_parts)
    return refuse (multipart, 413, "too many parts");
  multipart->parts++;
  multipart->head_length = 0;
  multipart->state = LINE;
  return true;
}

/* One byte of what stands between two bodies. False: refused. */
static bool head_byte (struct multipart *multipart, unsigned char c) {
  switch (multipart->state) {
  case BOUNDARY:
    multipart->state = c == '-' ? BOUNDARY_DASH : BOUNDARY_LF;
    return c == '-' || c == '\r' || refuse (multipart, 400, "a boundary with more behind it");
  case BOUNDARY_DASH:
    multipart->state = EPILOGUE;
    return c == '-' || refuse (multipart, 400, "a boundary with more behind it");
  case BOUNDARY_LF:
    if (c != '\n')
      return refuse (multipart, 400, "a carriage return without a line feed");
    return begin_part (multipart);
  case LINE:
    if (c == '\r') {
      multipart->state = HEAD_LF;
      return true;
    }
    multipart->state = NAME;
    if (!is_token (c))
      return refuse (multipart, 400, "not a name of a header field");
    return keep (multipart, (char)c);
  case NAME:
    if (c == ':')
      multipart->state = VALUE;
    else if (!is_token (c))
      return refuse (multipart, 400, "not a name of a header field");
    return keep (multipart, (char)c);
  case VALUE:
    if (c == '\r')
      multipart->state = VALUE_LF;
    else if ((c < ' ' && c != '\t') || c == 0x7F)
      return refuse (multipart, 400, "a byte that no header field may hold");
    return keep (multipart, (char)c);
  case VALUE_LF:
    multipart->state = LINE;
    if (c != '\n')
      return refuse (multipart, 400, "a carriage return without a line feed");
    return keep (multipart, (char)c);
  case HEAD_LF:
    if (c != '\n')
      return refuse (multipart, 400, "a carriage return without a line feed");
    /* That line's end may be the delimiter's own, where the body is empty. */
    multipart->state = BODY;
    multipart->matched = multipart->given = 2;
    return true;
  default: /* EPILOGUE */
    return (c && strchr ("\r\n \t", c)) || refuse (multipart, 400, "more behind the last part");
  }
}

/* A byte of the delimiter comes, or shows that it is none: what had come of it are bytes of the part, `data`,
   and the result is true. The first byte stands nowhere else in the delimiter, so that another one can only
   begin at the byte that was not expected. */
static bool match (struct multipart *multipart, char c, size_t *used) {
  if (c == multipart->delimiter[multipart->matched]) {
    ++*used;
    if (++multipart->matched == multipart->delimiter_length) {
      multipart->matched = 0;
      multipart->state = BOUNDARY;
    }
    return false;
  }
  multipart->data = multipart->delimiter + multipart->given;
  multipart->length = multipart->matched - multipart->given;
  multipart->matched = multipart->given = 0;
  return multipart->parts ? multipart->length > 0
                          : refuse (multipart, 400, "no boundary at the beginning");
}

/* Bytes up to the next delimiter, or what may be one. Whether there are any: then they are `data`. */
static bool take (struct multipart *multipart, const char *data, size_t length, size_t *used) {
  const char *from = data + *used, *end = data + length, *at = from;
  size_t matched = 0;
  while (!matched && (at = memchr (at, '\r', (size_t)(end - at)))) {
    size_t rest = (size_t)(end - at);
    matched = rest < multipart->delimiter_length ? rest : multipart->delimiter_length;
    if (memcmp (at, multipart->delimiter, matched) != 0) {
      matched = 0;
      at++;
    }
  }
  multipart->data = from;
  multipart->length = (size_t)((at ? at : end) - from);
  *used += multipart->length + matched;
  if (matched == multipart->delimiter_length)
    multipart->state = BOUNDARY;
  else
    multipart->matched = matched;
  return multipart->length > 0;
}

size_t multipart_run (struct multipart *multipart, const char *data, size_t length,
                      enum multipart_event *event) {
  size_t used = 0;
  while (used < length && multipart->state != BROKEN) {
    int before = multipart->state;
    if (before == BODY) {
      if (multipart->matched ? match (multipart, data[used], &used)
                             : take (multipart, data, length, &used)) {
        *event = MULTIPART_DATA;
        return used;
      }
    } else if (head_byte (multipart, (unsigned char)data[used++]) && multipart->state != before) {
      *event = multipart->state == BODY ? MULTIPART_HEAD : MULTIPART_END;
      if (multipart->state == BODY || multipart->state == EPILOGUE)
        return used;
    }
  }
  *event = multipart->state == BROKEN ? MULTIPART_REFUSED : MULTIPART_MORE;
  return used;
}

bool multipart_is_whole (const struct multipart *multipart) {
  return multipart->state == EPILOGUE;
}
