/* libFuzzer's target: small blocks, taken and freed in any order. Each is aligned, and keeps what is written to it
   until it is freed; when all have been, nothing is in use. */
#include "slab.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST = 1 << 16 };

static struct {
  unsigned char *bytes;
  uint16_t class;
  unsigned char mark;
} held[MOST];
static size_t count;

static void fail (const char *what) {
  fprintf (stderr, "%s\n", what);
  abort ();
}

static void take (struct slabs *slabs, size_t class) {
  unsigned char *bytes;
  if (count == MOST)
    return;
  bytes = slab_take (slabs, class);
  if (!bytes || (uintptr_t)bytes % SLAB_STEP)
    fail ("not a block");
  held[count].bytes = bytes;
  held[count].class = (uint16_t) class;
  held[count].mark = (unsigned char)(count * 31 + class);
  memset (bytes, held[count].mark, class * SLAB_STEP);
  count++;
}

static void put (struct slabs *slabs, size_t i) {
  size_t k;
  for (k = 0; k < held[i].class * (size_t)SLAB_STEP; k++)
    if (held[i].bytes[k] != held[i].mark)
      fail ("another block lies over this one");
  slab_put (slabs, held[i].bytes);
  held[i] = held[--count];
}

static size_t in_use (const struct slabs *slabs) {
  size_t class, used = 0;
  for (class = 0; class < SLAB_CLASSES; class ++) {
    const struct slab *slab;
    for (slab = slabs->open[class]; slab; slab = slab->next)
      used += slab->used;
  }
  return used;
}

/* Three bytes each: what to do, with which class or block, how often. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size) {
  struct slabs slabs = { 0 };
  size_t i, k;
  for (i = 0; i + 2 < size; i += 3) {
    size_t often = (size_t)data[i + 2] * (data[i] & 8 ? 8 : 1);
    for (k = 0; k < often; k++)
      switch (data[i] % 8) {
      case 0:
      case 1:
      case 2:
        take (&slabs, 1 + data[i + 1] % (SLAB_CLASSES - 1));
        break;
      case 3:
        take (&slabs, 1 + (data[i + 1] + k) % (SLAB_CLASSES - 1));
        break;
      case 4: /* the last first */
        if (count)
          put (&slabs, count - 1);
        break;
      case 5: /* here and there */
        if (count)
          put (&slabs, (data[i + 1] * (size_t)257 + k * 7919) % count);
        break;
      case 6: /* the first, nearly in order */
        if (count)
          put (&slabs, k % count);
        break;
      default:
        slab_trim (&slabs);
        k = often;
      }
  }
  while (count)
    put (&slabs, 0);
  if (in_use (&slabs))
    fail ("blocks in use that nobody has");
  slab_trim (&slabs);
  for (k = 0; k < SLAB_CLASSES; k++)
    if (slabs.open[k] || slabs.empty)
      fail ("slabs are left");
  return 0;
}
