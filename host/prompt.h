/* A line of input, edited by libedit while the loop goes on. Belongs to the program alone. */
#ifndef PROMPT_H
#define PROMPT_H

#include <lua.h>

/* Push the module "allua.line", a table; to be called as a lua_CFunction.
     read_line (prompt)   waits; gives the line, or nil at the end of the input
     add_history (line)   for the arrow keys and ^R to find; the last 1000 are kept
     lua                  which Lua this is, "Lua 5.4.4"
   libedit has one terminal and one history a process: so has this. Where to keep the history is for
   Lua to say. */
int prompt_open (lua_State *L);

#endif
