#include "sched.h"

#include "clock.h"
#include "error.h"
#include "loop.h"
#include "place.h"
#include "trace.h"
#include "tracer.h"

enum {
  MOST_STEPS = 1024, /* tasks resumed before the loop looks at its I/O again */
  MOST_INSIDE = 4,   /* owners that run what is ready on their own stack, one inside the other */
  MOST_IDLE = 1024   /* coroutines kept for reuse when there is nothing to do */
};

void sched_begin (struct group *group) {
  allua *host = group->host;
  struct task *first = group->tasks, *last = first + group->size - 1, *task;
  for (task = first; task <= last; task++) {
    task->state = TASK_READY;
    task->link.next = task + 1;
  }
  last->link.next = NULL;
  ring_append (&host->ready, first, last);
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
        task->since = (uint32_t)uv_now (host->loop);
        if (trace_of (task->group)) {
          trace_resume (task);
          trace_wait (task, WAIT_PLACE, group);
        }
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
    if (promise->kind != PROMISE_OF_TASK) {
      /* First: the promise may go as it is abandoned. */
      task->wake = (uint8_t)wake;
      sched_ready (host, task);
      if (!promise->waiters && wake == WAKE_CANCEL)
        host->abandoned (host, promise);
      return;
    }
  } else if (task->wait == WAIT_TIMER)
    timer_stop (host, &task->timer);
  task->wake = (uint8_t)wake;
  sched_wake (host, task);
}

void sched_give_place_back (struct task *task, struct group *group) {
  struct task *next = place_give_back (task, group);
  if (next)
    sched_ready (group->host, next);
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
    return error_raise_memory (L, host);
  }
  return task_suspend (L, task, WAIT_TIMER, NULL, 0, awake);
}

int sched_give_way (lua_State *L, struct task *task) {
  ring_push (&task->group->host->ready, task);
  return task_suspend (L, task, WAIT_NOTHING, NULL, 0, awake);
}

/* What a task needs that is not merely to go on. Returns whether that is all. */
static bool step_special (allua *host, struct task *task) {
  if (task->joined) {
    host->ended (host, task, lua_gettop (task->co));
    return true;
  }
  if (host->stopping) {
    task->cancelled = true;
    host->ended (host, task, task->co ? task_unwind (host, task) : 0);
    return true;
  }
  if (task->co)
    return false;
  if (task_is_cancelled (task) && !task->group->adopts
      && !(task->group->options && task->group->options->on_settle)) {
    host->ended (host, task, 0); /* it has not started and never does */
    return true;
  }
  if (trace_of (task->group))
    trace_start (task);
  return false;
}

/* Whether it has only to start, or to go on. */
static inline bool is_plain (const allua *host, const struct task *task) {
  return !task->joined && !host->stopping
         && (task->co || (!task->cancelled && !task->group->options));
}

static inline void step (allua *host, struct task *task) {
  host->steps--;
  if (is_plain (host, task) || !step_special (host, task))
    task_step (host, task);
}

void sched_turn (allua *host) {
  struct task *current = host->current, *task;
  lua_State *running = host->running;
  if (host->turns)
    return;
  if (host->tracer)
    tracer_begin_turn (host);
  host->turn++;
  host->turns++;
  host->turn_time = (uint32_t)uv_now (host->loop);
  host->steps = MOST_STEPS;
  host->current = NULL;
  host->running = NULL;
  while (host->steps > 0 && (task = ring_pop (&host->ready)) != NULL)
    step (host, task);
  host->current = current;
  host->running = running;
  host->turns--;
  if (host->tracer)
    tracer_end_turn (host);
  if (host->steps < MOST_STEPS)
    host->clock_blocked = false; /* what they did is not known */
  loop_set_busy (host, host->ready.first || clock_is_eager (host));
  if (host->ready.first)
    return;
  if (host->pooled > MOST_IDLE && host->mem.limit)
    task_trim (host, MOST_IDLE); /* others may need it at once */
  if (host->pooled > MOST_IDLE || host->many)
    loop_rest (host);
}

bool sched_rest (allua *host) {
  size_t needed = host->pooled - host->pool_least;
  bool freed = shape_rest (host);
  if (needed < MOST_IDLE)
    needed = MOST_IDLE;
  if (needed < host->pooled) {
    task_trim (host, needed);
    freed = true;
  }
  if (freed) {
    lua_gc (host->worker, LUA_GCCOLLECT); /* an idle program would not come to it by itself */
    mem_give_back (&host->mem);
  }
  host->pool_least = host->pooled;
  return host->pooled > MOST_IDLE || host->many;
}

int sched_join (lua_State *L, struct task *owner, struct group *group, lua_KContext ctx,
                lua_KFunction k) {
  allua *host = group->host;
  lua_State *from = host->from;
  struct task *task;
  if (L != owner->co || host->inside == MOST_INSIDE)
    return task_suspend (L, owner, WAIT_GROUP, group, ctx, k);
  task_set_waiting (L, owner, WAIT_GROUP, group);
  owner->inside = true;
  host->inside++;
  host->current = NULL;
  host->running = NULL;
  host->from = L;
  /* One that is inside, this or another further down, is for its own loop to go on with. */
  while (host->steps > 0 && !host->stopping && (task = host->ready.first) != NULL
         && !task->inside) {
    ring_pop (&host->ready);
    step (host, task);
  }
  host->from = from;
  host->running = L;
  host->current = owner;
  host->inside--;
  owner->inside = false;
  if (host->ready.first != owner || host->stopping)
    return task_yield (L, owner, ctx, k);
  ring_pop (&host->ready);
  owner->state = TASK_RUNNING;
  owner->wait = WAIT_NOTHING;
  if (trace_of (owner->group))
    trace_resume (owner);
  return k (L, LUA_OK, ctx);
}

bool sched_run (allua *host, lua_State *L, bool (*done) (void *data), void *data) {
  lua_State *from = host->from;
  bool alive = true;
  host->runs++;
  host->from = L;
  while (!done (data) && !host->close_asked
         && (alive || host->ready.first || (host->stalled && host->stalled (host)))) {
    sched_turn (host);
    if (!done (data))
      alive = uv_run (host->loop, host->ready.first ? UV_RUN_NOWAIT : UV_RUN_ONCE) != 0;
  }
  host->from = from;
  host->runs--;
  return done (data);
}
