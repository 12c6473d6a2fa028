/* The order in which a group's tasks start: integers first, then strings in byte order. */
#ifndef NAMES_H
#define NAMES_H

#include <stddef.h>
#include <stdint.h>

struct name {
  uint64_t prefix;    /* sorts most: an integer, or a string's first bytes after what all have in common */
  const char *string; /* NULL: an integer */
  size_t length;
  uint32_t place; /* where it comes from */
};

enum { NAMES_FEW = 48 }; /* up to so many names are sorted without a spare array */

void names_set_integer (struct name *name, int64_t integer);
void names_set_string (struct name *name, const char *string, size_t length);

/* Sort different names; `spare` has room for as many. Returns whichever of the two arrays they are in
   then. Takes time in proportion to their number where eight bytes after the common ones tell them apart. */
struct name *names_sort (struct name *names, struct name *spare, uint32_t count);

#endif
