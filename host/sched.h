/* The ready queue and the turn of the loop. */
#ifndef SCHED_H
#define SCHED_H

#include "loop.h"
#include "place.h"
#include "task.h"

/* Put a task at the end of the ready queue. */
static inline void sched_ready (allua *host, struct task *task) {
  task->state = TASK_READY;
  ring_push (&host->ready, task);
  if (!host->turns)
    loop_set_busy (host, true);
}

/* The same with all tasks of a group, of which there is at least one. */
void sched_begin (struct group *group);

/* What a task waited for is there: unlinked already, it will be resumed (or wait for its place). */
void sched_wake (allua *host, struct task *task);

/* End a task's wait otherwise: unlink it, and resume it with `wake`. */
void sched_interrupt (allua *host, struct task *task, enum task_wake wake);

/* `task` begins to wait for a member of `group`: a place that it holds there goes to the next. */
void sched_give_place_back (struct task *task, struct group *group);

/* Suspend the running task until `promise` is settled; then k. */
static inline int sched_wait_promise (lua_State *L, struct task *task, struct promise *promise,
                                      lua_KContext ctx, lua_KFunction k) {
  if (promise->kind == PROMISE_OF_TASK) {
    struct group *group = ((struct task *)promise)->group;
    if (place_counts (group))
      sched_give_place_back (task, group);
  }
  promise_add_waiter (promise, task);
  return task_suspend (L, task, WAIT_PROMISE, promise, ctx, k);
}

/* Suspend the running task for a time (checked, >= 0), or, with yield, until the others have run. */
int sched_sleep (lua_State *L, struct task *task, double seconds);
int sched_give_way (lua_State *L, struct task *task);

/* The owner's wait, on L, for all of a group to end; then k. While there are tasks that can go on they
   are run from here, in the order of the ready queue, so that an owner whose group never truly waits
   is not suspended either. */
int sched_join (lua_State *L, struct task *owner, struct group *group, lua_KContext ctx,
                lua_KFunction k);

/* Resume what is ready, in bounded turns; called before and after each poll. */
void sched_turn (allua *host);

/* Give back the coroutines, and forget the very many names, that nobody has needed since it was last called. Returns
   whether there is more to give back another time. */
bool sched_rest (allua *host);

/* Run the loop, on L's C stack, until done (data), or until nothing is left that could make progress.
   Not inside itself or a turn. Returns whether it is done. */
bool sched_run (allua *host, lua_State *L, bool (*done) (void *data), void *data);

#endif
