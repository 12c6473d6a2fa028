/* The allocator: Lua's memory and the host's own; Lua's is counted where it is limited. */
#ifndef MEM_H
#define MEM_H

#include <stddef.h>

#include <lua.h>

struct mem {
  lua_Alloc alloc;
  void *data;
  struct slabs *slabs; /* of Lua's small blocks, where alloc is malloc; or NULL */
  size_t limit;        /* of Lua memory, bytes; 0: none */
  size_t used;         /* by Lua, bytes, where there is a limit; never over that */
};

/* Set up; alloc NULL: malloc. */
void mem_init (struct mem *mem, lua_Alloc alloc, void *data, size_t limit);

/* What a state of Lua's is to allocate with, and its `ud`: `mem` must stay where it is until mem_close. */
lua_Alloc mem_for_lua (struct mem *mem, void **data);

/* When the state has been closed: free what it leaves. */
void mem_close (struct mem *mem);

/* The host's own memory, outside the limit. NULL when there is none; size 0 frees. */
void *mem_resize (struct mem *mem, void *block, size_t old_size, size_t new_size);

/* Much has been freed: let the system have it, where malloc would keep it. */
void mem_give_back (struct mem *mem);

/* For a process that is all ours: let malloc keep some of what is freed, so that large groups, one after the
   other, do not each time have the system clear the same memory. It comes to that by itself, but late. */
void mem_keep_some (void);

#endif
