#include "names.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void names_set_integer (struct name *name, int64_t integer) {
  name->string = NULL;
  name->length = 0;
  name->prefix = (uint64_t)integer ^ (uint64_t)1 << 63;
}

void names_set_string (struct name *name, const char *string, size_t length) {
  name->string = string;
  name->length = length;
}

static int compare (const void *a, const void *b) {
  const struct name *x = a, *y = b;
  size_t length = x->length < y->length ? x->length : y->length;
  int order;
  if (x->prefix != y->prefix)
    return x->prefix < y->prefix ? -1 : 1;
  order = length ? memcmp (x->string, y->string, length) : 0;
  return order ? order : (x->length > y->length) - (x->length < y->length);
}

/* Eight bytes of a string from `skip` on as a number, with zeros after its end. */
static uint64_t read_prefix (const char *string, size_t length, size_t skip) {
  enum { WIDTH = sizeof (uint64_t) };
  size_t rest = length - skip, i;
  uint64_t prefix = 0;
  if (length >= WIDTH) { /* never beyond the end: its last eight bytes, shifted */
    const char *from = rest >= WIDTH ? string + skip : string + length - WIDTH;
    unsigned char bytes[WIDTH];
    memcpy (bytes, from, WIDTH);
    for (i = 0; i < WIDTH; i++)
      prefix = prefix << 8 | bytes[i];
    if (rest < WIDTH)
      prefix = rest ? prefix << 8 * (WIDTH - rest) : 0;
    return prefix;
  }
  for (i = 0; i < WIDTH; i++)
    prefix = prefix << 8 | (i < rest ? (unsigned char)string[skip + i] : 0);
  return prefix;
}

static void set_prefixes (struct name *names, uint32_t count) {
  const char *first = names[0].string;
  size_t skip = names[0].length;
  uint32_t i;
  for (i = 1; i < count && skip; i++) {
    const struct name *name = &names[i];
    if (name->length < skip || memcmp (name->string, first, skip) != 0) {
      size_t same = 0;
      while (same < skip && same < name->length && name->string[same] == first[same])
        same++;
      skip = same;
    }
  }
  for (i = 0; i < count; i++)
    names[i].prefix = read_prefix (names[i].string, names[i].length, skip);
}

static void insert (struct name *names, uint32_t count) {
  uint32_t i, to;
  for (i = 1; i < count; i++) {
    struct name name = names[i];
    for (to = i; to > 0 && compare (&names[to - 1], &name) > 0; to--)
      names[to] = names[to - 1];
    names[to] = name;
  }
}

/* By the bytes of the prefix in which they differ, from the last to the first; each pass keeps the
   order of the one before. */
static struct name *distribute (struct name *names, struct name *spare, uint32_t count) {
  uint64_t differing = 0;
  uint32_t i, shift;
  for (i = 1; i < count; i++)
    differing |= names[i].prefix ^ names[0].prefix;
  for (shift = 0; shift < 64; shift += 8) {
    uint32_t start[256] = { 0 }, sum = 0;
    struct name *sorted = spare;
    if (!(differing >> shift & 0xff))
      continue;
    for (i = 0; i < count; i++)
      start[names[i].prefix >> shift & 0xff]++;
    for (i = 0; i < 256; i++) {
      uint32_t here = start[i];
      start[i] = sum;
      sum += here;
    }
    for (i = 0; i < count; i++)
      spare[start[names[i].prefix >> shift & 0xff]++] = names[i];
    spare = names;
    names = sorted;
  }
  return names;
}

/* What the prefix does not tell apart. */
static void sort_equals (struct name *names, uint32_t count) {
  uint32_t i, end;
  for (i = 0; i < count; i = end) {
    for (end = i + 1; end < count && names[end].prefix == names[i].prefix; end++)
      ;
    if (end - i > 1)
      qsort (names + i, end - i, sizeof *names, compare);
  }
}

static bool is_sorted (const struct name *names, uint32_t count) {
  uint32_t i;
  for (i = 1; i < count; i++)
    if (names[i - 1].prefix >= names[i].prefix)
      return false;
  return true;
}

/* All integers, or all strings. */
static struct name *sort_alike (struct name *names, struct name *spare, uint32_t count) {
  if (is_sorted (names, count))
    return names;
  if (count <= NAMES_FEW) {
    insert (names, count);
    return names;
  }
  names = distribute (names, spare, count);
  if (names->string)
    sort_equals (names, count);
  return names;
}

/* Bring the integers to the front; returns how many they are. */
static uint32_t part (struct name *names, uint32_t count) {
  uint32_t i, integers = 0;
  for (i = 0; i < count; i++)
    if (!names[i].string) {
      struct name name = names[i];
      names[i] = names[integers];
      names[integers++] = name;
    }
  return integers;
}

struct name *names_sort (struct name *names, struct name *spare, uint32_t count) {
  uint32_t integers = part (names, count), strings = count - integers;
  struct name *sorted = sort_alike (names, spare, integers);
  if (!strings)
    return sorted;
  if (sorted != names)
    memcpy (names, sorted, integers * sizeof *names);
  set_prefixes (names + integers, strings);
  sorted = sort_alike (names + integers, spare + integers, strings);
  if (sorted == names + integers)
    return names;
  memcpy (spare, names, integers * sizeof *names);
  return spare;
}
