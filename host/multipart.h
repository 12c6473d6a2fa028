/* Takes a body of multipart/form-data (RFC 7578) apart as its bytes come, and refuses what is not to the
   letter. Allocates nothing, knows no Lua. */
#ifndef MULTIPART_H
#define MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

enum { MULTIPART_BOUNDARY = 70, MULTIPART_HEAD_SIZE = 8192 };

enum multipart_event {
  MULTIPART_MORE,   /* all bytes are used, and more are needed */
  MULTIPART_HEAD,   /* a part begins: its lines are in `head`, each with its CR LF */
  MULTIPART_DATA,   /* `data` and `length`: some bytes of the part, valid until the next call */
  MULTIPART_END,    /* the last part has ended, and so must the body, but for white space */
  MULTIPART_REFUSED /* `status` and `reason`; nothing more can be parsed */
};

struct multipart {
  int state;
  char delimiter[MULTIPART_BOUNDARY + 4]; /* CR LF -- and the boundary */
  size_t delimiter_length;
  size_t matched; /* bytes of the delimiter that have come … */
  size_t given;   /* … of which these were no bytes of the part */
  size_t parts, most_parts;

  char head[MULTIPART_HEAD_SIZE];
  size_t head_length;

  const char *data;
  size_t length;

  int status; /* that a refusal is answered with */
  const char *reason;
};

/* boundary: 1 to MULTIPART_BOUNDARY bytes, none of them a CR; copied. More parts than most_parts are refused. */
void multipart_init (struct multipart *multipart, const char *boundary, size_t length,
                     size_t most_parts);

/* Parse up to the next event. Returns how many of the bytes were used; those of MULTIPART_DATA may have come
   before. */
size_t multipart_run (struct multipart *multipart, const char *data, size_t length,
                      enum multipart_event *event);

/* No more bytes come. False: the last part has not ended. */
bool multipart_is_whole (const struct multipart *multipart);

#endif
