/* Which bytes may stand where in a head of HTTP (RFC 9110, 5.6.2 and 5.5; RFC 3986, 2). */
#ifndef HTTP_BYTES_H
#define HTTP_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
  BYTE_TOKEN = 1, /* in a name */
  BYTE_TEXT = 2,  /* in a field's value */
  BYTE_URI = 4,   /* in a target */
  BYTE_HOST = 8,  /* in a Host */
  BYTE_UPPER = 16
};

#define BYTE_IS_UPPER(c) ((c) >= 'A' && (c) <= 'Z')
#define BYTE_IS_ALNUM(c)                                                                           \
  (((c) >= 'a' && (c) <= 'z') || BYTE_IS_UPPER (c) || ((c) >= '0' && (c) <= '9'))
#define BYTE_IS_BOTH(c)                                                                            \
  ((c) == '!' || (c) == '$' || (c) == '%' || (c) == '&' || (c) == '\'' || (c) == '*' || (c) == '+' \
   || (c) == '-' || (c) == '.' || (c) == '_' || (c) == '~')
#define BYTE_IS_TOKEN(c)                                                                           \
  (BYTE_IS_ALNUM (c) || BYTE_IS_BOTH (c) || (c) == '#' || (c) == '^' || (c) == '`' || (c) == '|')
#define BYTE_IS_TEXT(c) ((c) == '\t' || ((c) >= 0x20 && (c) != 0x7F))
#define BYTE_IS_HOST(c)                                                                            \
  (BYTE_IS_ALNUM (c) || BYTE_IS_BOTH (c) || (c) == ':' || (c) == '[' || (c) == ']' || (c) == '('   \
   || (c) == ')' || (c) == ',' || (c) == ';' || (c) == '=')
#define BYTE_IS_URI(c) (BYTE_IS_HOST (c) || (c) == '/' || (c) == '?' || (c) == '@')
#define BYTE(c)                                                                                    \
  ((BYTE_IS_TOKEN (c) ? BYTE_TOKEN : 0) | (BYTE_IS_TEXT (c) ? BYTE_TEXT : 0)                       \
   | (BYTE_IS_URI (c) ? BYTE_URI : 0) | (BYTE_IS_HOST (c) ? BYTE_HOST : 0)                         \
   | (BYTE_IS_UPPER (c) ? BYTE_UPPER : 0))
#define BYTES_4(c) BYTE (c), BYTE ((c) + 1), BYTE ((c) + 2), BYTE ((c) + 3)
#define BYTES_16(c) BYTES_4 (c), BYTES_4 ((c) + 4), BYTES_4 ((c) + 8), BYTES_4 ((c) + 12)
#define BYTES_64(c) BYTES_16 (c), BYTES_16 ((c) + 16), BYTES_16 ((c) + 32), BYTES_16 ((c) + 48)

static const unsigned char http_bytes[256]
    = { BYTES_64 (0), BYTES_64 (64), BYTES_64 (128), BYTES_64 (192) };

/* Whether all eight bytes are text; false may mean that it has to be looked at more closely. */
static inline bool http_bytes_are_text (const char *data) {
  const uint64_t ones = 0x0101010101010101, high = ones << 7;
  uint64_t bytes, deletes;
  memcpy (&bytes, data, sizeof bytes);
  deletes = bytes ^ ones * 0x7F;
  return !((((bytes - ones * 0x20) & ~bytes) | ((deletes - ones) & ~deletes)) & high);
}

/* How many bytes from the first on are of one class. */
static inline size_t http_bytes_count (const char *data, size_t length, unsigned char class) {
  size_t i = 0;
  if (class == BYTE_TEXT)
    while (length - i >= 8 && http_bytes_are_text (data + i))
      i += 8;
  while (i < length && http_bytes[(unsigned char)data[i]] & class)
    i++;
  return i;
}

#endif
