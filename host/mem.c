#include "mem.h"

#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "slab.h"

/* Where a tool looks for uses of freed memory, it is to see each block freed. */
#if defined __SANITIZE_ADDRESS__
enum { HAS_SLABS = 0 };
#elif defined __has_feature
#if __has_feature(address_sanitizer)
enum { HAS_SLABS = 0 };
#else
enum { HAS_SLABS = 1 };
#endif
#else
enum { HAS_SLABS = 1 };
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

static void *take_large (struct slabs *slabs, size_t size) {
  void *block = malloc (size);
  if (block)
    return block;
  slab_trim (slabs);
  return malloc (size);
}

static inline void *take (struct slabs *slabs, size_t size) {
  size_t class = slab_class (size);
  return class < SLAB_CLASSES ? slab_take (slabs, class) : take_large (slabs, size);
}

static inline void put (struct slabs *slabs, void *block, size_t size) {
  if (slab_class (size) < SLAB_CLASSES)
    slab_put (slabs, block);
  else
    free (block);
}

static void *move (struct slabs *slabs, void *block, size_t old_size, size_t new_size) {
  void *moved;
  if (slab_class (old_size) >= SLAB_CLASSES && slab_class (new_size) >= SLAB_CLASSES)
    return realloc (block, new_size);
  moved = take (slabs, new_size);
  if (moved) {
    memcpy (moved, block, old_size < new_size ? old_size : new_size);
    put (slabs, block, old_size);
  }
  return moved;
}

static void *use_slabs (void *ud, void *block, size_t old_size, size_t new_size) {
  struct slabs *slabs = ud;
  if (new_size == 0) {
    if (block)
      put (slabs, block, old_size);
    return NULL;
  }
  if (!block)
    return take (slabs, new_size);
  if (slab_class (old_size) == slab_class (new_size) && slab_class (new_size) < SLAB_CLASSES)
    return block;
  return move (slabs, block, old_size, new_size);
}

void mem_init (struct mem *mem, lua_Alloc alloc, void *data, size_t limit) {
  mem->alloc = alloc ? alloc : use_malloc;
  mem->data = alloc ? data : NULL;
  mem->limit = limit;
  mem->used = 0;
  mem->slabs = NULL;
}

static void *use_limited (void *ud, void *block, size_t old_size, size_t new_size) {
  struct mem *mem = ud;
  /* For a new block Lua passes the kind of object as its old size. */
  size_t held = block ? old_size : 0;
  void *result;
  if (new_size > held && new_size - held > mem->limit - mem->used)
    return NULL;
  result = mem->slabs ? use_slabs (mem->slabs, block, held, new_size)
                      : allocate (mem, block, old_size, new_size);
  if (result || new_size == 0)
    mem->used += new_size - held;
  return result;
}

lua_Alloc mem_for_lua (struct mem *mem, void **data) {
  if (HAS_SLABS && mem->alloc == use_malloc)
    mem->slabs = calloc (1, sizeof *mem->slabs);
  *data = mem->limit ? (void *)mem : mem->slabs ? mem->slabs : mem->data;
  return mem->limit ? use_limited : mem->slabs ? use_slabs : mem->alloc;
}

void mem_close (struct mem *mem) {
  if (mem->slabs)
    slab_trim (mem->slabs);
  free (mem->slabs);
  mem->slabs = NULL;
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
  if (mem->slabs)
    slab_trim (mem->slabs);
#ifdef __GLIBC__
  if (mem->alloc == use_malloc)
    malloc_trim (0);
#endif
}
