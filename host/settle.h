/* How a group settles: what the end of one task means for the others and for the owner. */
#ifndef SETTLE_H
#define SETTLE_H

#include "sched.h"

/* host.ended: a task's function is done, its results on top of its coroutine (with none: it never
   started, or, when it failed to, the error on host->L). */
void settle_ended (allua *host, struct task *task, int results);

/* host.fulfilled: the same for a task of an `all`, `map` or `all_settled` without options whose first
   value, not nil, is in the results already, and whose coroutine goes on with another. */
void settle_fulfilled (allua *host, struct task *task);

/* Cancel all that is unfinished of a group, and of the groups under it. Why: see settle_abort. */
void settle_cancel (struct group *group);

/* Cancel a group for a reason of its own: pops it from host->L. `failed`: it is the error that the
   group raises at its end. Does nothing (but pop) when the group has an outcome already. */
void settle_abort (struct group *group, bool failed);

/* The group has its outcome: cancel the rest. */
void settle_decide (struct group *group);

/* Cancel one task; the reason (on top of L, popped) counts for it alone. May raise before anything
   has happened. */
void settle_cancel_task (lua_State *L, struct task *task);

/* Stop listening to the signal from outside, and the timer. */
void settle_detach (struct group *group);

/* End every task that still waits where it stands: for a host that closes, or is stuck. */
void settle_stop_all (allua *host);

#endif
