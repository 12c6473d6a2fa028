#include "mem.h"

#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
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

void mem_init (struct mem *mem, lua_Alloc alloc, void *data, size_t limit) {
  mem->alloc = alloc ? alloc : use_malloc;
  mem->data = alloc ? data : NULL;
  mem->limit = limit;
  mem->used = 0;
}

static void *use_limited (void *ud, void *block, size_t old_size, size_t new_size) {
  struct mem *mem = ud;
  /* For a new block Lua passes the kind of object as its old size. */
  size_t held = block ? old_size : 0;
  void *result;
  if (new_size > held && new_size - held > mem->limit - mem->used)
    return NULL;
  result = allocate (mem, block, old_size, new_size);
  if (result || new_size == 0)
    mem->used += new_size - held;
  return result;
}

lua_Alloc mem_for_lua (struct mem *mem, void **data) {
  *data = mem->limit ? mem : mem->data;
  return mem->limit ? use_limited : mem->alloc;
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

void mem_give_back (const struct mem *mem) {
#ifdef __GLIBC__
  if (mem->alloc == use_malloc)
    malloc_trim (0);
#else
  (void)mem;
#endif
}
