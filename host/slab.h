/* Small blocks, in slabs of blocks of one size: without a header each, and given back a slab at a time. */
#ifndef SLAB_H
#define SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
  SLAB_STEP = 16,      /* sizes are multiples of it */
  SLAB_LARGEST = 272,  /* of a block, in bytes: a coroutine of Lua's needs no more */
  SLAB_SIZE = 1 << 14, /* where a slab begins is a multiple of it */
  SLAB_CLASSES = SLAB_LARGEST / SLAB_STEP + 1
};

struct slab_block {
  struct slab_block *next;
};

struct slab {
  struct slab_block *free;      /* blocks that have been used before */
  char *fresh;                  /* the first that has not, … */
  char *end;                    /* … and where there is no further one */
  struct slab *next, *previous; /* among those of its class that have room */
  uint32_t used;                /* blocks */
  uint16_t class;
  bool has_room;
};

/* All of a state's. Zero: none yet. */
struct slabs {
  struct slab *open[SLAB_CLASSES]; /* with room, what was freed last first */
  struct slab *empty;              /* of no class, kept for any; by `next` */
  unsigned empties;
};

/* What the two below leave to do. */
void *slab_take_slowly (struct slabs *slabs, size_t class);
void slab_put_slowly (struct slabs *slabs, struct slab *slab);

/* Give the memory of slabs without a block in use to the system, as far as malloc does. */
void slab_trim (struct slabs *slabs);

static inline size_t slab_class (size_t size) {
  return (size + SLAB_STEP - 1) / SLAB_STEP;
}

/* A block of a class below SLAB_CLASSES and above 0, aligned as malloc's are, or NULL. */
static inline void *slab_take (struct slabs *slabs, size_t class) {
  struct slab *slab = slabs->open[class];
  struct slab_block *block;
  if (!slab || !slab->free)
    return slab_take_slowly (slabs, class);
  block = slab->free;
  slab->free = block->next;
  slab->used++;
  return block;
}

/* Free a block that slab_take gave. */
static inline void slab_put (struct slabs *slabs, void *place) {
  struct slab *slab = (struct slab *)((uintptr_t)place & ~(uintptr_t)(SLAB_SIZE - 1));
  struct slab_block *block = place;
  block->next = slab->free;
  slab->free = block;
  if (--slab->used == 0 || !slab->has_room)
    slab_put_slowly (slabs, slab);
}

#endif
