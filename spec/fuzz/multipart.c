/* libFuzzer's target: what is parsed in fragments is what is parsed in one piece, and no part holds the
   delimiter. The first byte is the seed of the cuts. */
#define _GNU_SOURCE /* memmem */
#include "multipart.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char delimiter[] = "\r\n--b-1";

struct outcome {
  size_t parts, body_length;
  int status, whole;
  uint64_t digest;
};

static void mix (struct outcome *outcome, const char *data, size_t length) {
  size_t i;
  for (i = 0; i < length; i++)
    outcome->digest = (outcome->digest ^ (unsigned char)data[i]) * 1099511628211u;
}

static void check_part (const char *part, size_t length) {
  if (length && memmem (part, length, delimiter, sizeof delimiter - 1))
    abort ();
}

static struct outcome parse (const char *data, size_t length, unsigned seed) {
  struct multipart *multipart = malloc (sizeof *multipart);
  struct outcome outcome;
  char *part = malloc (length + 1);
  size_t used = 0, end = seed ? 0 : length, part_length = 0;
  if (!multipart || !part)
    abort ();
  memset (&outcome, 0, sizeof outcome);
  outcome.digest = 14695981039346656037u;
  multipart_init (multipart, delimiter + 4, sizeof delimiter - 5, 5);
  while (!outcome.status) {
    enum multipart_event event;
    /* A copy of its own size lets the address sanitizer see a read past the end. */
    size_t given = end - used;
    char *piece = malloc (given ? given : 1);
    if (!piece)
      abort ();
    memcpy (piece, data + used, given);
    used += multipart_run (multipart, piece, given, &event);
    if (event == MULTIPART_DATA) {
      if (part_length + multipart->length > length)
        abort ();
      memcpy (part + part_length, multipart->data, multipart->length);
      part_length += multipart->length;
      outcome.body_length += multipart->length;
      mix (&outcome, multipart->data, multipart->length);
    } else if (event == MULTIPART_HEAD || event == MULTIPART_END) {
      check_part (part, part_length);
      part_length = 0;
      outcome.parts++;
      mix (&outcome, "|", 1);
      mix (&outcome, multipart->head, multipart->head_length);
    } else if (event == MULTIPART_REFUSED) {
      outcome.status = multipart->status;
    }
    free (piece);
    if (event == MULTIPART_MORE) {
      if (end == length)
        break;
      seed = seed * 1103515245u + 12345u;
      end += 1 + (seed >> 16) % 7;
      if (end > length)
        end = length;
    }
  }
  outcome.whole = multipart_is_whole (multipart);
  free (part);
  free (multipart);
  return outcome;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t length) {
  struct outcome whole, cut;
  if (!length)
    return 0;
  whole = parse ((const char *)data + 1, length - 1, 0);
  cut = parse ((const char *)data + 1, length - 1, data[0] + 1u);
  if (memcmp (&whole, &cut, sizeof whole) != 0) {
    fprintf (stderr, "status %d and %d, parts %zu and %zu, bytes %zu and %zu\n", whole.status,
             cut.status, whole.parts, cut.parts, whole.body_length, cut.body_length);
    abort ();
  }
  return 0;
}
