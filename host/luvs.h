/* luv on the host's own loop. */
#ifndef LUVS_H
#define LUVS_H

#include "state.h"

/* The loader of module "luv": luv's own table, made to live with a host. */
int luvs_open (lua_State *L);

/* Begin to close every luv handle of the state; its requests end by themselves. Allocates nothing;
   needs some free places on the main thread's stack. */
void luvs_close_all (allua *host);

/* How many luv handles and requests libuv still knows of. The same holds. */
size_t luvs_count (allua *host);

/* The host of a borrowed state is gone: its luv goes on without. May raise. */
void luvs_forget (lua_State *L);

/* Whether uv.run is under way in the state. */
bool luvs_is_running (lua_State *L);

/* The loop that the state's luv uses, loading that module when it has to; NULL when it cannot be had
   (then an error message is pushed). */
uv_loop_t *luvs_loop (lua_State *L);

#endif
