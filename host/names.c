#include "names.h"

#include <stdbool.h>
#include <string.h>

enum { FEW = 48 }; /* up to so many are quicker to insert than to distribute */

/* What the prefixes do not tell apart. */
static int compare_strings (const struct name *x, const struct name *y) {
  size_t length = (size_t)(x->number < y->number ? x->number : y->number);
  int order = memcmp (x->string, y->string, length);
  return order ? order : (x->number > y->number) - (x->number < y->number);
}

static bool is_before (const struct name *names, const struct place *a, const struct place *b) {
  if (a->prefix != b->prefix)
    return a->prefix < b->prefix;
  return names[a->of].string && names[b->of].string
         && compare_strings (&names[a->of], &names[b->of]) < 0;
}

static uint64_t read_bytes (const char *string) {
  uint64_t bytes;
  memcpy (&bytes, string, sizeof bytes);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  bytes = __builtin_bswap64 (bytes);
#endif
  return bytes;
}

/* Eight bytes of a string from `skip` on as a number, with zeros after its end. */
static uint64_t read_prefix (const struct name *name, size_t skip) {
  const size_t width = sizeof (uint64_t);
  size_t length = (size_t)name->number, rest = length - skip, i;
  uint64_t prefix = 0;
  if (rest >= width)
    return read_bytes (name->string + skip);
  if (!rest)
    return 0;
  if (length >= width) /* never beyond the end: its last eight bytes, shifted */
    return read_bytes (name->string + length - width) << 8 * (width - rest);
  for (i = 0; i < width; i++)
    prefix = prefix << 8 | (i < rest ? (unsigned char)name->string[skip + i] : 0);
  return prefix;
}

/* How many bytes all the strings have in common. */
static size_t count_common (const struct name *names, const struct place *places, uint32_t count) {
  const struct name *first = &names[places[0].of];
  size_t common = (size_t)first->number;
  uint32_t i;
  for (i = 1; i < count && common; i++) {
    const struct name *name = &names[places[i].of];
    if ((size_t)name->number < common || memcmp (name->string, first->string, common) != 0) {
      size_t same = 0;
      while (same < common && same < (size_t)name->number
             && name->string[same] == first->string[same])
        same++;
      common = same;
    }
  }
  return common;
}

static void insert (const struct name *names, struct place *places, uint32_t count) {
  uint32_t i, to;
  for (i = 1; i < count; i++) {
    struct place place = places[i];
    for (to = i; to > 0 && is_before (names, &place, &places[to - 1]); to--)
      places[to] = places[to - 1];
    places[to] = place;
  }
}

/* By the bytes of the prefix in which they differ, from the last to the first; each pass keeps the
   order of the one before. */
static struct place *distribute (struct place *places, struct place *spare, uint32_t count) {
  uint64_t differing = 0;
  uint32_t i, shift;
  for (i = 1; i < count; i++)
    differing |= places[i].prefix ^ places[0].prefix;
  for (shift = 0; shift < 64; shift += 8) {
    uint32_t start[256] = { 0 }, sum = 0;
    struct place *sorted = spare;
    if (!(differing >> shift & 0xff))
      continue;
    for (i = 0; i < count; i++)
      start[places[i].prefix >> shift & 0xff]++;
    for (i = 0; i < 256; i++) {
      uint32_t here = start[i];
      start[i] = sum;
      sum += here;
    }
    for (i = 0; i < count; i++)
      sorted[start[places[i].prefix >> shift & 0xff]++] = places[i];
    spare = places;
    places = sorted;
  }
  return places;
}

/* Merge the strings with one prefix; the order of the two halves is there already. */
static void merge (const struct name *names, struct place *places, struct place *spare,
                   uint32_t half, uint32_t count) {
  uint32_t a = 0, b = half, i;
  for (i = 0; i < count; i++) {
    bool second = a == half || (b < count && is_before (names, &places[b], &places[a]));
    spare[i] = places[second ? b++ : a++];
  }
  memcpy (places, spare, count * sizeof *places);
}

static void sort_equals (const struct name *names, struct place *places, struct place *spare,
                         uint32_t count) {
  uint32_t half = count / 2;
  if (count <= FEW) {
    insert (names, places, count);
    return;
  }
  sort_equals (names, places, spare, half);
  sort_equals (names, places + half, spare, count - half);
  merge (names, places, spare, half, count);
}

static bool is_ordered (const struct name *names, const struct place *places, uint32_t count) {
  uint32_t i;
  for (i = 1; i < count; i++)
    if (!is_before (names, &places[i - 1], &places[i]))
      return false;
  return true;
}

/* All integers, or all strings. */
static struct place *order_alike (const struct name *names, struct place *places,
                                  struct place *spare, uint32_t count) {
  struct place *other;
  uint32_t i, end;
  if (is_ordered (names, places, count))
    return places;
  if (count <= FEW) {
    insert (names, places, count);
    return places;
  }
  other = places;
  places = distribute (places, spare, count);
  if (other == places)
    other = spare;
  for (i = 0; i < count; i = end) {
    for (end = i + 1; end < count && places[end].prefix == places[i].prefix; end++)
      ;
    if (end - i > 1)
      sort_equals (names, places + i, other, end - i);
  }
  return places;
}

struct place *names_order (const struct name *names, struct place *places, struct place *spare,
                           uint32_t count) {
  uint32_t i, integers = 0, strings = 0;
  struct place *order, *rest;
  size_t common;
  for (i = 0; i < count; i++)
    if (!names[i].string)
      places[integers++]
          = (struct place){ .prefix = (uint64_t)names[i].number ^ (uint64_t)1 << 63, .of = i };
  for (i = 0; integers + strings < count; i++)
    if (names[i].string)
      places[integers + strings++].of = i;
  order = order_alike (names, places, spare, integers);
  if (!strings)
    return order;
  if (order != places)
    memcpy (places, order, integers * sizeof *places);
  rest = places + integers;
  common = count_common (names, rest, strings);
  for (i = 0; i < strings; i++)
    rest[i].prefix = read_prefix (&names[rest[i].of], common);
  order = order_alike (names, rest, spare + integers, strings);
  if (order == rest)
    return places;
  memcpy (spare, places, integers * sizeof *places);
  return spare;
}
