/* One coroutine: anchored, resumed, cancelled, unwound, recycled. The only lua_resume of a task. */
#ifndef TASK_H
#define TASK_H

#include "group.h"

/* What a suspended coroutine of a task has on top of its stack, so that a script that knows of it can
   tell: the mark that this yield is a wait, on its way to the scheduler, and not one of the script's own. */
extern const char task_mark;

static inline bool task_is_marked (lua_State *co) {
  return lua_gettop (co) > 0 && lua_touserdata (co, -1) == (void *)&task_mark;
}

/* To be called by whatever is about to wait on L. Returns the running task; NULL where there is none
   (and the loop is not running: the caller may run it). Raises where L cannot suspend, and the
   CancelledError of a task that is cancelled. */
static inline struct task *task_enter (lua_State *L, allua *host);

/* The same without raising for a cancelling: for waits that end soon by themselves, such as the
   joining of a group that is being cancelled already. */
static inline struct task *task_enter_join (lua_State *L, allua *host);

/* What it does where no task runs that could wait on L. */
struct task *task_enter_outside (lua_State *L, allua *host);

/* Suspend the running task; `k` goes on when it is resumed, and calls task_resumed first. */
static inline int task_suspend (lua_State *L, struct task *task, enum task_wait wait, void *on,
                                lua_KContext ctx, lua_KFunction k);

/* The two halves of it: note the wait; suspend, even if the wait is over by then. */
static inline void task_set_waiting (lua_State *L, struct task *task, enum task_wait wait,
                                     void *on);
static inline int task_yield (lua_State *L, struct task *task, lua_KContext ctx, lua_KFunction k);

/* Tell the waterfall of a task that has begun to wait. */
void task_note_wait (struct task *task);

/* Why it was resumed; raises the CancelledError. */
static inline enum task_wake task_resumed (lua_State *L, allua *host);

/* Push and raise the CancelledError of a task. A task that has swallowed too many of them is
   suspended instead, never to come back. */
int task_raise_cancelled (lua_State *L, struct task *task);
void task_push_cancelled (lua_State *L, const struct task *task);

/* Whether a wait of this task ends with its cancelling. */
static inline bool task_is_cancelled (const struct task *task) {
  return task->cancelled && task->shields == 0;
}

/* See to it that the pool has a coroutine. Raises when there is no memory. */
void task_reserve (lua_State *L, allua *host);

/* Take it for a task, with the function and its arguments: the `values` values on top of L's stack
   (popped). Returns false, having done nothing, when they are too many. */
bool task_prepare (allua *host, lua_State *L, struct task *task, int values);

/* Whether that was done: it is so for groups that are made of one task alone. */
static inline bool task_is_prepared (const struct task *task) {
  return task->group->kind >= GROUP_CALL;
}

/* Push a group that is under way. */
void task_push_group (lua_State *L, struct group *group);

/* Resume it until it waits or its function has ended, which is told to host.ended, its results on top of its
   coroutine: by its coroutine, which goes on with tasks from the ready queue that have not started, or from
   here. No task is current before and after it. */
void task_step (allua *host, struct task *task);

/* End its function where it stands, closing what is open: it has one result then, an error. */
int task_unwind (allua *host, struct task *task);

/* Take back the coroutine of an ended task. */
void task_release (allua *host, struct task *task);

/* Give idle coroutines back until `keep` are left. */
void task_trim (allua *host, size_t keep);

/* Raise for what is resumed by somebody else. */
enum task_wake task_raise_resumed (lua_State *L);

static inline struct task *task_enter_join (lua_State *L, allua *host) {
  struct task *task = host->current;
  if (task && host->running == L && !host->barrier && lua_isyieldable (L))
    return task;
  return task_enter_outside (L, host);
}

/* A task's own coroutine needs the mark only where somebody else may know of it. */
static inline bool task_needs_mark (const struct task *task) {
  return task->at != task->co || task->exposed;
}

static inline void task_set_waiting (lua_State *L, struct task *task, enum task_wait wait,
                                     void *on) {
  const struct group *group = task->group;
  allua *host = group->host;
  if (host->stress)
    lua_gc (L, LUA_GCCOLLECT);
  task->state = wait == WAIT_NOTHING ? TASK_READY : TASK_WAITING;
  task->wait = (uint8_t)wait;
  task->wake = WAKE_DONE;
  task->on = on;
  task->at = L;
  task->since = host->turn_time;
  if (group->options)
    task_note_wait (task);
}

static inline int task_yield (lua_State *L, struct task *task, lua_KContext ctx, lua_KFunction k) {
  if (!task_needs_mark (task))
    return lua_yieldk (L, 0, ctx, k);
  lua_pushlightuserdata (L, (void *)&task_mark);
  return lua_yieldk (L, 1, ctx, k);
}

static inline int task_suspend (lua_State *L, struct task *task, enum task_wait wait, void *on,
                                lua_KContext ctx, lua_KFunction k) {
  task_set_waiting (L, task, wait, on);
  return task_yield (L, task, ctx, k);
}

static inline struct task *task_enter (lua_State *L, allua *host) {
  struct task *task = task_enter_join (L, host);
  if (task && task_is_cancelled (task))
    task_raise_cancelled (L, task);
  return task;
}

static inline enum task_wake task_resumed (lua_State *L, allua *host) {
  struct task *task = host->current;
  if (!task || host->running != L)
    return task_raise_resumed (L);
  if (task->wake == WAKE_CANCEL) {
    task->wake = WAKE_DONE;
    if (task_is_cancelled (task))
      task_raise_cancelled (L, task);
  }
  return task->wake;
}

/* The message handler of all that a task runs (upvalue 1: the box). */
int task_failed (lua_State *L);

#endif
