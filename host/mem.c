#include "mem.h"

#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* A collector frees many blocks, one after the other, and what follows needs as many of the same few sizes: malloc
   keeps seven of each at hand. Their sizes are those that malloc has, so that they waste nothing. */
enum { STEP = 16, CLASSES = 17, MOST_KEPT = 4096 /* of a class */ };

struct block {
  struct block *next;
};

struct kept {
  struct block *first[CLASSES];
  unsigned count[CLASSES];
};

/* Where a tool looks for uses of freed memory, it is to see each block freed. */
#if defined __SANITIZE_ADDRESS__
enum { KEEPS = 0 };
#elif defined __has_feature
#if __has_feature(address_sanitizer)
enum { KEEPS = 0 };
#else
enum { KEEPS = 1 };
#endif
#else
enum { KEEPS = 1 };
#endif

static void *use_malloc (void *ud, void *block, size_t old_size, size_t new_size) {
  (void)ud;
  (void)old_size;
  if (new_size == 0) {
    free (block);
    return NULL;
  }
  return block ? realloc (block, new_size) : malloc (new_size);
}

/* Without a call through a pointer where it is malloc, as it nearly always is. */
static inline void *allocate (const struct mem *mem, void *block, size_t old_size,
                              size_t new_size) {
  if (mem->alloc == use_malloc)
    return use_malloc (NULL, block, old_size, new_size);
  return mem->alloc (mem->data, block, old_size, new_size);
}

static inline size_t class_of (size_t size) {
  return (size + STEP / 2 - 1) / STEP;
}

static void free_kept (struct kept *kept) {
  size_t class;
  for (class = 0; class < CLASSES; class ++) {
    struct block *block = kept->first[class], *next;
    for (; block; block = next) {
      next = block->next;
      free (block);
    }
    kept->first[class] = NULL;
    kept->count[class] = 0;
  }
}

static void *take_anew (struct kept *kept, size_t size) {
  void *block = malloc (size);
  if (block)
    return block;
  free_kept (kept);
  return malloc (size);
}

static inline void *take (struct kept *kept, size_t size) {
  size_t class = class_of (size);
  struct block *block;
  if (class >= CLASSES)
    return take_anew (kept, size);
  block = kept->first[class];
  if (!block)
    return take_anew (kept, class * STEP + STEP / 2);
  kept->first[class] = block->next;
  kept->count[class]--;
  return block;
}

static inline void put (struct kept *kept, void *place, size_t size) {
  size_t class = class_of (size);
  struct block *block = place;
  if (class >= CLASSES || !size || kept->count[class] == MOST_KEPT) {
    free (block);
    return;
  }
  block->next = kept->first[class];
  kept->first[class] = block;
  kept->count[class]++;
}

static void *move (struct kept *kept, void *block, size_t old_size, size_t new_size) {
  void *moved;
  if (class_of (old_size) >= CLASSES && class_of (new_size) >= CLASSES)
    return realloc (block, new_size);
  moved = take (kept, new_size);
  if (moved) {
    memcpy (moved, block, old_size < new_size ? old_size : new_size);
    put (kept, block, old_size);
  }
  return moved;
}

static void *use_kept (void *ud, void *block, size_t old_size, size_t new_size) {
  struct kept *kept = ud;
  if (new_size == 0) {
    if (block)
      put (kept, block, old_size);
    return NULL;
  }
  if (!block)
    return take (kept, new_size);
  if (class_of (old_size) == class_of (new_size) && class_of (new_size) < CLASSES)
    return block;
  return move (kept, block, old_size, new_size);
}

void mem_init (struct mem *mem, lua_Alloc alloc, void *data, size_t limit) {
  mem->alloc = alloc ? alloc : use_malloc;
  mem->data = alloc ? data : NULL;
  mem->limit = limit;
  mem->used = 0;
  mem->kept = NULL;
}

static void *use_limited (void *ud, void *block, size_t old_size, size_t new_size) {
  struct mem *mem = ud;
  /* For a new block Lua passes the kind of object as its old size. */
  size_t held = block ? old_size : 0;
  void *result;
  if (new_size > held && new_size - held > mem->limit - mem->used)
    return NULL;
  result = mem->kept ? use_kept (mem->kept, block, held, new_size)
                     : allocate (mem, block, old_size, new_size);
  if (result || new_size == 0)
    mem->used += new_size - held;
  return result;
}

lua_Alloc mem_for_lua (struct mem *mem, void **data) {
  if (KEEPS && mem->alloc == use_malloc)
    mem->kept = calloc (1, sizeof *mem->kept);
  *data = mem->limit ? (void *)mem : mem->kept ? mem->kept : mem->data;
  return mem->limit ? use_limited : mem->kept ? use_kept : mem->alloc;
}

void mem_close (struct mem *mem) {
  if (mem->kept)
    free_kept (mem->kept);
  free (mem->kept);
  mem->kept = NULL;
}

void *mem_resize (struct mem *mem, void *block, size_t old_size, size_t new_size) {
  if (!block && new_size == 0)
    return NULL;
  return allocate (mem, block, block ? old_size : 0, new_size);
}

void mem_keep_some (void) {
#ifdef __GLIBC__
  const int most = 32 << 20;
  mallopt (M_MMAP_THRESHOLD, most);
  mallopt (M_TRIM_THRESHOLD, most);
#endif
}

void mem_give_back (struct mem *mem) {
  if (mem->kept)
    free_kept (mem->kept);
#ifdef __GLIBC__
  if (mem->alloc == use_malloc)
    malloc_trim (0);
#endif
}
