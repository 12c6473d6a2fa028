/* counting.h: an allocator that counts, checks the sizes it is told, and fails on demand. */
#ifndef COUNTING_H
#define COUNTING_H

#include "check.h"
#include <stddef.h>

struct counting {
  size_t bytes;  /* held now                                         */
  size_t peak;   /* the most that was held                           */
  long blocks;   /* held now                                         */
  long calls;    /* allocations and enlargements asked for           */
  long fail;     /* the number of the first call to fail; 0: none    */
  long fail_end; /* the number of the first call to succeed again    */
  long failed;   /* calls that failed                                */
  long wrong;    /* sizes of blocks told wrongly                     */
};

/* each block knows its size, in front of it */
union counting_block {
  size_t size;
  max_align_t align;
};

static inline void *counting_alloc (void *data, void *pointer, size_t old_size, size_t new_size) {
  struct counting *counting = data;
  union counting_block *block = pointer ? (union counting_block *)pointer - 1 : NULL;
  size_t held = block ? block->size : 0;
  if (block && held != old_size)
    counting->wrong++;
  if (new_size == 0) {
    if (block) {
      counting->bytes -= held;
      counting->blocks--;
      memset (pointer, 0xDD, held); /* what is read after this shows */
      free (block);
    }
    return NULL;
  }
  if (new_size > held) { /* Lua relies on shrinking never to fail */
    counting->calls++;
    if (counting->fail && counting->calls >= counting->fail
        && counting->calls < counting->fail_end) {
      counting->failed++;
      return NULL;
    }
  }
  union counting_block *moved = realloc (block, sizeof *block + new_size);
  if (!moved)
    return NULL;
  moved->size = new_size;
  counting->bytes += new_size - held;
  if (!block)
    counting->blocks++;
  if (counting->bytes > counting->peak)
    counting->peak = counting->bytes;
  return moved + 1;
}

#endif
