#include "sched.h"

#include "error.h"
#include "loop.h"
#include "place.h"
#include "trace.h"

enum {
  MOST_STEPS = 1024, /* tasks resumed before the loop looks at its I/O again */
  MOST_IDLE = 1024   /* coroutines kept for reuse when there is nothing to do */
};

void sched_ready (allua *host, struct task *task) {
  task->state = TASK_READY;
  ring_push (&host->ready, task);
  if (!host->turns)
    loop_set_busy (host, true);
}

void sched_wake (allua *host, struct task *task) {
  if (task->wait == WAIT_PROMISE) {
    struct promise *promise = task->on;
    if (promise->kind == PROMISE_OF_TASK) {
      struct group *group = ((struct task *)promise)->group;
      if (place_counts (group) && !place_take (task, group)) {
        task->wait = WAIT_PLACE;
        task->on = group;
        return;
      }
    }
  }
  sched_ready (host, task);
}

void sched_interrupt (allua *host, struct task *task, enum task_wake wake) {
  if (task->wait == WAIT_PROMISE) {
    struct promise *promise = task->on;
    promise_remove_waiter (promise, task);
    if (promise->kind == PROMISE_BY_HAND && !promise->waiters && wake == WAKE_CANCEL)
      host->abandoned (host, promise);
  } else if (task->wait == WAIT_TIMER)
    timer_stop (host, &task->timer);
  task->wake = (uint8_t)wake;
  sched_wake (host, task);
}

int sched_wait_promise (lua_State *L, struct task *task, struct promise *promise, lua_KContext ctx,
                        lua_KFunction k) {
  if (promise->kind == PROMISE_OF_TASK) {
    struct group *group = ((struct task *)promise)->group;
    if (place_counts (group)) {
      struct task *next = place_give_back (task, group);
      if (next)
        sched_ready (task->group->host, next);
    }
  }
  promise_add_waiter (promise, task);
  return task_suspend (L, task, WAIT_PROMISE, promise, ctx, k);
}

static void on_sleep (allua *host, struct timer *timer) {
  sched_wake (host, (struct task *)((char *)timer - offsetof (struct task, timer)));
}

static int awake (lua_State *L, int status, lua_KContext ctx) {
  allua *host = host_of (L);
  (void)status;
  (void)ctx;
  task_resumed (L, host);
  if (task_is_cancelled (host->current))
    task_raise_cancelled (L, host->current);
  return 0;
}

int sched_sleep (lua_State *L, struct task *task, double seconds) {
  allua *host = task->group->host;
  task->timer.place = 0;
  if (!timer_start (host, &task->timer, seconds, on_sleep)) {
    host_push (host, L, SLOT_MEMORY);
    return lua_error (L);
  }
  return task_suspend (L, task, WAIT_TIMER, NULL, 0, awake);
}

int sched_give_way (lua_State *L, struct task *task) {
  ring_push (&task->group->host->ready, task);
  return task_suspend (L, task, WAIT_NOTHING, NULL, 0, awake);
}

static void step (allua *host, struct task *task) {
  int results;
  if (task->joined) {
    host->ended (host, task, lua_gettop (task->co));
    return;
  }
  if (host->stopping) {
    task->cancelled = true;
    host->ended (host, task, task->co ? task_unwind (host, task) : 0);
    return;
  }
  if (task_is_cancelled (task) && !task->co && !task->group->adopts
      && !(task->group->options && task->group->options->on_settle)) {
    host->ended (host, task, 0); /* it has not started and never does */
    return;
  }
  if (!task->co && trace_of (task->group))
    trace_start (task);
  results = task_step (host, task);
  if (results >= 0)
    host->ended (host, task, results);
}

void sched_turn (allua *host) {
  int steps = MOST_STEPS;
  if (host->turns)
    return;
  host->turns++;
  while (steps-- > 0) {
    struct task *task = ring_pop (&host->ready);
    if (!task)
      break;
    step (host, task);
  }
  host->turns--;
  loop_set_busy (host, host->ready.first != NULL);
  if (!host->ready.first && host->pooled > MOST_IDLE)
    task_trim (host, MOST_IDLE);
}

bool sched_run (allua *host, lua_State *L, bool (*done) (void *data), void *data) {
  lua_State *from = host->from;
  bool alive = true;
  host->runs++;
  host->from = L;
  while (!done (data) && !host->close_asked && (alive || host->ready.first)) {
    sched_turn (host);
    if (!done (data))
      alive = uv_run (host->loop, host->ready.first ? UV_RUN_NOWAIT : UV_RUN_ONCE) != 0;
  }
  host->from = from;
  host->runs--;
  return done (data);
}
