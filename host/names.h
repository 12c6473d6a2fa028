/* The order in which a group's tasks start: integers first, then strings in byte order. */
#ifndef NAMES_H
#define NAMES_H

#include <stddef.h>
#include <stdint.h>

struct name {
  const char *string; /* NULL: an integer */
  int64_t number;     /* that, or the string's length */
};

/* One in the order. */
struct place {
  uint64_t
      prefix;  /* sorts most: an integer, or a string's first bytes after what all have in common */
  uint32_t of; /* which of the names, from 0 */
};

/* Find the order of different names: `places` and `spare` have room for as many. Returns whichever of
   the two it is in. Takes time in proportion to the number of names where eight bytes after the common
   ones tell them apart. Never raises. */
struct place *names_order (const struct name *names, struct place *places, struct place *spare,
                           uint32_t count);

#endif
