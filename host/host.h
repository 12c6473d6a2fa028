/* A host's life: opens and borrows state and loop, runs, closes in order. Here is what the program
   needs beyond the public interface. */
#ifndef HOST_H
#define HOST_H

#include "state.h"

/* Run the loop until nothing keeps it alive: what the root tasks left active. Returns ALLUA_OK, or
   ALLUA_ERROR when tasks are left that can never go on (allua_error tells which). */
int host_finish (allua *host);

/* Cancel every root task; the reason is a slot's. From the loop's thread. */
void host_cancel_all (allua *host, enum slot reason);

#endif
