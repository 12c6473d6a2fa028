/* Promises of C's, as allua.h has them: made, settled, awaited. */
#ifndef PROMISE_C_H
#define PROMISE_C_H

#include "state.h"

/* host.abandoned: the last task that waited for a promise was cancelled. One of C's, that knows how
   to stop its work, is settled by that. */
void promise_c_abandoned (allua *host, struct promise *own);

/* A promise of C that nothing of ours is under way for: it waits for what others may do. */
void promise_c_wait_for_others (allua_promise *promise);

#endif
