#include "settle.h"

#include "cycle.h"
#include "error.h"
#include "place.h"
#include "report.h"
#include "signal.h"
#include "trace.h"

/* Cancel one task; a group that it waits for is put on the work list. */
static void cancel_task (allua *host, struct task *task, struct group **work) {
  struct group *group = NULL;
  if (task->promise.status != PROMISE_PENDING)
    return;
  task->cancelled = true;
  if (task->shields || task->state != TASK_WAITING)
    return;
  switch (task->wait) {
  case WAIT_PROMISE:
  case WAIT_TIMER:
  case WAIT_NEXT:
    sched_interrupt (host, task, WAKE_CANCEL);
    break;
  case WAIT_GROUP:
    group = task->on;
    break;
  case WAIT_CHILDREN:
    for (group = task->children; group; group = group->next)
      if (!group->cancelled) {
        group->cancelled = true;
        group->cancel_next = *work;
        *work = group;
      }
    break;
  default:
    break;
  }
  if (group && !group->cancelled) {
    group->cancelled = true;
    group->cancel_next = *work;
    *work = group;
  }
}

static void cancel_work (struct group *work) {
  while (work) {
    struct group *group = work;
    allua *host = group->host;
    uint32_t i;
    work = group->cancel_next;
    if (group->has_signal)
      signal_abort_group (group);
    for (i = 0; i < group->size; i++)
      cancel_task (host, &group->tasks[i], &work);
    if (place_counts (group)) {
      struct task *task;
      while ((task = place_next (group)) != NULL)
        sched_ready (host, task);
    }
  }
}

void settle_cancel (struct group *group) {
  if (group->cancelled || group->ended)
    return;
  group->cancelled = true;
  group->cancel_next = NULL;
  cancel_work (group);
}

void settle_abort (struct group *group, bool failed) {
  if (group->ended || group->failed || group->decided || group->own_reason) {
    lua_pop (group->host->L, 1);
    return;
  }
  group_put (group, REASON);
  group->own_reason = true;
  group->failed = failed;
  settle_cancel (group);
}

void settle_decide (struct group *group) {
  group->decided = true;
  if (!group->own_reason) {
    lua_pushvalue (group->host->L, SLOT_DECIDED);
    group_put (group, REASON);
    group->own_reason = true;
  }
  if (group->pending)
    settle_cancel (group);
}

void settle_cancel_task (lua_State *L, struct task *task) {
  struct group *work = NULL;
  if (task->promise.status != PROMISE_PENDING || task->cancelled) {
    lua_pop (L, 1);
    return;
  }
  group_load (task->group);
  host_push (task->group->host, L, SLOT_GROUP);
  lua_insert (L, -2);
  group_push_extra (L, -2);
  lua_insert (L, -2);
  lua_rawseti (L, -2, -(lua_Integer)task->index - 1);
  lua_pop (L, 2);
  task->own_reason = true;
  cancel_task (task->group->host, task, &work);
  cancel_work (work);
}

void settle_detach (struct group *group) {
  struct group_options *options = group->options;
  if (!options)
    return;
  timer_stop (group->host, &options->timeout);
  if (options->signal_back) {
    *options->signal_back = options->signal_next;
    if (options->signal_next)
      options->signal_next->signal_back = options->signal_back;
    options->signal_back = NULL;
  }
}

/* Arguments: the error, the host. A root task that nobody waits for has failed. */
static int report_root (lua_State *L) {
  allua *host = lua_touserdata (L, 2);
  lua_settop (L, 1);
  error_push_record (L, host, 1);
  report_unhandled (L, host, 1, "error in a task");
  return 0;
}

/* A root's results are on its coroutine. */
static void end_root (allua *host, struct group *group) {
  struct task *task = &group->tasks[0];
  const struct group_options *options = group->options;
  if (options->done) {
    int results = lua_gettop (task->co);
    int status = ALLUA_OK;
    if (task->failed) {
      /* Memory errors are told apart, as lua_pcall does: by the one message they have. */
      lua_checkstack (task->co, 1);
      host_push (host, task->co, SLOT_MEMORY);
      status = lua_rawequal (task->co, -1, -2) ? ALLUA_MEMORY : ALLUA_ERROR;
      lua_pop (task->co, 1);
    }
    options->done (task->co, status, results, options->done_data);
  } else if (task->failed && !task->promise.cancelled) {
    lua_State *L = host->worker;
    lua_pushcfunction (L, report_root);
    lua_xmove (task->co, L, 1);
    lua_pushlightuserdata (L, host);
    if (lua_pcall (L, 2, 0, 0) != LUA_OK)
      lua_pop (L, 1);
  }
  task_release (host, task);
}

/* All its tasks have ended. */
static void end_group (struct group *group) {
  allua *host = group->host;
  struct task *owner = group->owner;
  group->ended = true;
  settle_detach (group);
  group_unlink (group);
  if (group_is_waited (group)) {
    sched_wake (host, owner);
  } else if (owner && owner->state == TASK_WAITING && owner->wait == WAIT_CHILDREN
             && !owner->children) {
    owner->joined = true;
    sched_ready (host, owner);
  }
  if (group->kind == GROUP_ROOT)
    end_root (host, group);
  group_release (group);
}

/* Take the task's first value, or its error, off its coroutine and keep it with the group. */
static void store (struct task *task, enum promise_status status, int results) {
  struct group *group = task->group;
  lua_State *L = group->host->L, *co = task->co;
  group_load (group);
  if (status == PROMISE_REJECTED) {
    if (co && results && group->kind != GROUP_ROOT) { /* a root's are handed over from there */
      lua_pushvalue (co, -results);
      lua_xmove (co, L, 1);
    } else if (co || !task->failed) {
      lua_pushnil (L);
    } /* else it could not start: the error is there already */
    group_set_own (L, SLOT_GROUP, task);
    return;
  }
  if (!results || group->kind == GROUP_ROOT || lua_isnil (co, -results)) {
    task->has_nil = true;
    if (!group->named) {
      lua_pushnil (L);
      group_set_own (L, SLOT_GROUP, task);
    }
    return;
  }
  if (results > 1)
    lua_pushvalue (co, -results);
  if (group->named) {
    lua_getiuservalue (L, SLOT_GROUP, VALUE_RESULTS);
    group_push_name_at (L, SLOT_GROUP, task);
    lua_xmove (co, L, 1);
    lua_rawset (L, -3);
    lua_pop (L, 1);
  } else {
    lua_xmove (co, L, 1);
    group_set_own (L, SLOT_GROUP, task);
  }
}

/* A failing task ends the group; its error is the group's. */
static void fail (struct group *group, struct task *task) {
  if (group->failed || group->decided || group->own_reason || group->cancelled)
    return;
  group->winner = task->index + 1;
  group_load (group);
  group_push_own (group->host->L, SLOT_GROUP, task);
  settle_abort (group, true);
}

/* on_settle raised what is on top of host->L: whatever else the outcome was to be, it is that. */
static void fail_by_hook (struct group *group) {
  if (group->hook_failed) {
    lua_pop (group->host->L, 1);
    return;
  }
  group_put (group, REASON);
  group->hook_failed = group->failed = group->own_reason = true;
  group->winner = 0;
  settle_cancel (group);
}

static void apply (struct group *group, struct task *task) {
  bool rejected = task->promise.status == PROMISE_REJECTED;
  bool open = !group->failed && !group->decided && !group->cancelled;
  switch (group->kind) {
  case GROUP_RACE:
    if (open && !rejected) {
      group->winner = task->index + 1;
      settle_decide (group);
    } else if (rejected)
      fail (group, task);
    break;
  case GROUP_ANY:
    if (open && !rejected) {
      group->winner = task->index + 1;
      settle_decide (group);
    }
    break;
  case GROUP_SETTLED:
    break;
  case GROUP_EACH:
    ring_push (&group->settled, task);
    if (rejected)
      fail (group, task);
    if (group_is_waited (group) && group->owner->wait == WAIT_NEXT)
      sched_wake (group->host, group->owner);
    break;
  case GROUP_SPAWN:
  case GROUP_ROOT:
    break;
  default:
    if (rejected)
      fail (group, task);
  }
}

/* A task of a group that one result decides has ended without deciding: a wait that could have been
   cut short may now be a cycle. Each such reader looks again. */
static void look_again (struct group *group) {
  uint32_t i;
  if (group->kind == GROUP_RACE || group->decided || group->failed)
    return;
  for (i = 0; i < group->size; i++) {
    struct task *task = &group->tasks[i];
    if (task->state == TASK_WAITING && task->wait == WAIT_PROMISE
        && ((struct promise *)task->on)->kind == PROMISE_OF_TASK)
      sched_interrupt (group->host, task, WAKE_AGAIN);
  }
}

static void settle (allua *host, struct task *task, int results) {
  struct group *group = task->group;
  bool never_started = !task->co && !task->failed;
  struct task *next = NULL;
  enum promise_status status = task->failed || never_started ? PROMISE_REJECTED : PROMISE_FULFILLED;
  if (status == PROMISE_REJECTED && (task->cancelled || task->stop))
    task->promise.cancelled = never_started || results == 0 || !task->co || lua_isnil (task->co, -1)
                              || error_is_cancelled (task->co, host, -1);
  if (task->hook_failed) {
    lua_xmove (task->co, host->L, 1);
    results--;
    fail_by_hook (group);
  }
  if (trace_of (group))
    trace_end (task);
  store (task, status, results);
  task->state = TASK_ENDED;
  if (place_counts (group))
    next = place_leave (task);
  if (task->co && group->kind != GROUP_ROOT)
    task_release (host, task);
  promise_settle (host, &task->promise, status, sched_wake);
  group->pending--;
  apply (group, task);
  if (next)
    sched_ready (host, next);
  if (group->pending == 0)
    end_group (group);
  else if (group->suspect)
    look_again (group);
}

void settle_fulfilled (allua *host, struct task *task) {
  struct group *group = task->group;
  task->co = task->at = NULL;
  task->state = TASK_ENDED;
  host->live_tasks--;
  promise_settle (host, &task->promise, PROMISE_FULFILLED, sched_ready); /* without `concurrency` */
  if (--group->pending == 0)
    end_group (group);
  else if (group->suspect)
    look_again (group);
}

void settle_ended (allua *host, struct task *task, int results) {
  if (task->co && task->children) {
    /* Nothing outlives it: its children are cancelled and joined; a root waits for its own. */
    task->state = TASK_WAITING;
    task->wait = WAIT_CHILDREN;
    task->since = host->turn_time;
    if (trace_of (task->group))
      trace_join (task);
    if (!task->group->patient || task->cancelled || task->failed) {
      struct group *child, *next;
      for (child = task->children; child; child = next) {
        next = child->next;
        settle_cancel (child);
      }
    }
    return;
  }
  settle (host, task, results);
}

void settle_stop_all (allua *host) {
  struct group *group = host->roots;
  bool stopping = host->stopping;
  host->stopping = true;
  /* The deepest first: a task ends only when its children have. */
  while (group) {
    struct task *task = NULL;
    uint32_t i;
    for (i = 0; i < group->size && !task; i++)
      if (group->tasks[i].promise.status == PROMISE_PENDING)
        task = &group->tasks[i];
    if (task && task->children) {
      group = task->children;
      continue;
    }
    if (task && task->state == TASK_WAITING) {
      if (task->wait == WAIT_PROMISE)
        promise_remove_waiter (task->on, task);
      else if (task->wait == WAIT_TIMER)
        timer_stop (host, &task->timer);
      task->cancelled = true;
      settle_ended (host, task, task_unwind (host, task));
    }
    while (host->ready.first)
      sched_turn (host);
    group = host->roots;
  }
  host->stopping = stopping;
}
