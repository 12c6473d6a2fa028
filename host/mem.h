/* The allocator: Lua's memory and the host's own, counted and limited. */
#ifndef MEM_H
#define MEM_H

#include <stddef.h>

#include <lua.h>

struct mem {
  lua_Alloc alloc;
  void *data;
  size_t limit; /* of Lua memory, bytes; 0: none */
  size_t used;  /* by Lua, bytes; never over limit */
};

/* Set up; alloc NULL: malloc. */
void mem_init (struct mem *mem, lua_Alloc alloc, void *data, size_t limit);

/* The lua_Alloc of a host's own state; ud is the struct mem. */
void *mem_lua (void *ud, void *block, size_t old_size, size_t new_size);

/* The host's own memory, outside the limit. NULL when there is none; size 0 frees. */
void *mem_resize (struct mem *mem, void *block, size_t old_size, size_t new_size);

/* Much has been freed: let the system have it, where malloc would keep it. */
void mem_give_back (const struct mem *mem);

#endif
