/* libFuzzer's target: what is parsed in fragments is what is parsed in one piece, and a head is as those who read
   it rely on. The first byte is the seed of the cuts. */
#include "http_parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct outcome {
  size_t used, fields, body_length, requests;
  int status;
  uint64_t digest;
};

static void mix (uint64_t *digest, const char *data, size_t length) {
  size_t i;
  for (i = 0; i < length; i++)
    *digest = (*digest ^ (unsigned char)data[i]) * 1099511628211u;
}

static void expect (bool holds) {
  if (!holds)
    abort ();
}

/* serve_headers goes from a NUL to the next, and push_path over a scheme. */
static void check_head (const struct http_parser *parser) {
  struct http_span span = http_parser_fields (parser), target = parser->target;
  const char *at = parser->head + span.at, *end = at + span.length;
  const char *path = parser->head + target.at, *colon = memchr (path, ':', target.length);
  size_t count = 0, i;
  expect (span.at + span.length <= parser->head_length && (!span.length || !end[-1]));
  for (; at < end; count++) {
    size_t name = strlen (at), value = strlen (at + name + 1);
    expect (name > 0 && at + name + 1 + value + 1 <= end);
    for (i = 0; i < name; i++)
      expect (at[i] > ' ' && at[i] != ':' && !(at[i] >= 'A' && at[i] <= 'Z'));
    expect (!value || !strchr (" \t", at[name + 1]));
    expect (!value || !strchr (" \t", at[name + value]));
    expect (!strpbrk (at + name + 1, "\r\n"));
    at += name + 1 + value + 1;
  }
  expect (count == parser->field_count && target.length > 0);
  expect (*path == '/' || (*path == '*' && target.length == 1)
          || (colon && colon + 3 < path + target.length && memcmp (colon, "://", 3) == 0));
}

static struct outcome parse (const char *data, size_t length, unsigned seed) {
  struct http_limits limits = { .head = 512, .uri = 128, .fields = 8 };
  struct http_parser parser;
  struct mem mem;
  struct outcome outcome = { .digest = 14695981039346656037u };
  size_t end = seed ? 0 : length;
  mem_init (&mem, NULL, NULL, 0);
  http_parser_init (&parser, &limits, &mem);
  while (!outcome.status) {
    enum http_event event;
    /* A copy of its own size lets the address sanitizer see a read past the end. */
    size_t given = end - outcome.used;
    char *piece = malloc (given ? given : 1);
    if (!piece)
      abort ();
    memcpy (piece, data + outcome.used, given);
    outcome.used += http_parser_run (&parser, piece, given, &event);
    if (event == HTTP_HEAD) {
      check_head (&parser);
      outcome.fields += parser.field_count;
      mix (&outcome.digest, parser.head, parser.head_length);
    } else if (event == HTTP_BODY) {
      outcome.body_length += parser.body_length;
      mix (&outcome.digest, parser.body, parser.body_length);
    } else if (event == HTTP_END) {
      outcome.requests++;
      http_parser_reset (&parser);
    } else if (event == HTTP_REFUSED) {
      outcome.status = parser.status;
    }
    free (piece);
    if (event == HTTP_MORE) {
      if (end == length)
        break;
      seed = seed * 1103515245u + 12345u;
      end += 1 + (seed >> 16) % 7;
      if (end > length)
        end = length;
    }
  }
  http_parser_free (&parser);
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
    fprintf (stderr, "status %d and %d, used %zu and %zu\n", whole.status, cut.status, whole.used,
             cut.used);
    abort ();
  }
  return 0;
}
