/* luv on the host's own loop. */
#ifndef LUVS_H
#define LUVS_H

#include "state.h"

/* The loader of module "luv": luv's own table, made to live with a host. */
int luvs_open (lua_State *L);

/* Begin to close every luv handle of the state, and cancel its requests. May raise. */
void luvs_close_all (lua_State *L, allua *host);

/* How many luv handles and requests libuv still knows of. May raise. */
size_t luvs_count (lua_State *L, allua *host);

/* The loop that the state's luv uses, loading that module when it has to; NULL when it cannot be had
   (then an error message is pushed). */
uv_loop_t *luvs_loop (lua_State *L);

#endif
