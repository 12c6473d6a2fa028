#include "slab.h"

#include <stdlib.h>

/* A head is a line of the cache; the length leaves room for malloc's own words, so that slabs lie next to each other. */
enum { HEAD = 64, LENGTH = SLAB_SIZE - 2 * (int)sizeof (void *), MOST_EMPTY = 64 /* kept */ };

static void list (struct slabs *slabs, struct slab *slab) {
  struct slab **first = &slabs->open[slab->class];
  slab->previous = NULL;
  slab->next = *first;
  if (*first)
    (*first)->previous = slab;
  *first = slab;
  slab->has_room = true;
}

static void unlist (struct slabs *slabs, struct slab *slab) {
  if (slab->next)
    slab->next->previous = slab->previous;
  if (slab->previous)
    slab->previous->next = slab->next;
  else
    slabs->open[slab->class] = slab->next;
  slab->has_room = false;
}

static struct slab *allocate (void) {
  void *memory;
  return posix_memalign (&memory, SLAB_SIZE, LENGTH) == 0 ? memory : NULL;
}

static struct slab *take_empty (struct slabs *slabs) {
  struct slab *slab = slabs->empty;
  if (!slab)
    return allocate ();
  slabs->empty = slab->next;
  slabs->empties--;
  return slab;
}

/* A slab for blocks of that class, listed, or NULL. */
static struct slab *open_slab (struct slabs *slabs, size_t class) {
  struct slab *slab = take_empty (slabs);
  size_t size = class * SLAB_STEP;
  if (!slab)
    return NULL;
  slab->free = NULL;
  slab->fresh = (char *)slab + HEAD;
  slab->end = slab->fresh + (LENGTH - HEAD) / size * size;
  slab->used = 0;
  slab->class = (uint16_t) class;
  list (slabs, slab);
  return slab;
}

void *slab_take_slowly (struct slabs *slabs, size_t class) {
  struct slab *slab = slabs->open[class];
  void *block;
  while (slab && !slab->free && slab->fresh == slab->end) {
    unlist (slabs, slab);
    slab = slabs->open[class];
  }
  if (!slab)
    slab = open_slab (slabs, class);
  if (!slab)
    return NULL;
  if (slab->free)
    return slab_take (slabs, class);
  block = slab->fresh;
  slab->fresh += class * SLAB_STEP;
  slab->used++;
  return block;
}

void slab_put_slowly (struct slabs *slabs, struct slab *slab) {
  if (!slab->has_room)
    list (slabs, slab);
  if (slab->used > 0 || (!slab->next && !slab->previous))
    return; /* or the only one of its class: to be used again soon */
  unlist (slabs, slab);
  if (slabs->empties == MOST_EMPTY) {
    free (slab);
    return;
  }
  slab->next = slabs->empty;
  slabs->empty = slab;
  slabs->empties++;
}

void slab_trim (struct slabs *slabs) {
  size_t class;
  for (class = 1; class < SLAB_CLASSES; class ++) {
    struct slab *slab = slabs->open[class], *next;
    for (; slab; slab = next) {
      next = slab->next;
      if (slab->used == 0) {
        unlist (slabs, slab);
        free (slab);
      }
    }
  }
  while (slabs->empty)
    free (take_empty (slabs));
}
