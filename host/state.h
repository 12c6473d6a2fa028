/* What a host is made of; every room keeps its part of it here. No globals: all state is in one of these. */
#ifndef STATE_H
#define STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>
#include <uv.h>

#include "allua.h"
#include "mem.h"

struct task;
struct group;
struct promise;
struct timer;
struct handles;

/* Fixed slots on the stack of the scheduler's own thread: values that C needs at hand without a
   search. Reading and writing them never allocates, so never raises. */
enum slot {
  SLOT_LIVE = 1,    /* anchors: groups under way, promises of C still pending (luaL_ref) */
  SLOT_COROUTINES,  /* anchors: every coroutine of a task, pooled ones too (luaL_ref) */
  SLOT_RUNNER,      /* the function at the bottom of each task's coroutine */
  SLOT_TASK_FAILED, /* its message handler */
  SLOT_GROUP,       /* the group that the three slots hold at the moment (host.loaded) */
  SLOT_SLOTS,
  SLOT_RESULTS,
  SLOT_RAISED,      /* the last error raised because another task failed … */
  SLOT_RAISED_INFO, /* … and the record of that failure */
  SLOT_PROMISES,    /* every promise object that could be rejected unseen: weak keys */
  SLOT_CONTEXTS,    /* address of a table of task-local values → the table: weak values */
  SLOT_SELF,        /* metatables */
  SLOT_TASK,
  SLOT_PROMISE,
  SLOT_SIGNAL,
  SLOT_CONTROLLER,
  SLOT_ERROR,
  SLOT_MEMORY,      /* strings: "not enough memory" */
  SLOT_YIELDED,     /* "attempt to yield from outside a coroutine" */
  SLOT_NAME,        /* "name" */
  SLOT_CANCEL,      /* "CancelledError" */
  SLOT_DECIDED,     /* why tasks are cancelled: another task decided the group, … */
  SLOT_CLOSING,     /* … the host closes, … */
  SLOT_INTERRUPTED, /* … the user wants it */
  SLOT_AWAIT,       /* the function that a promise among the tasks runs as */
  SLOT_BOX,         /* the host's box: upvalue of every function of ours */
  SLOT_LAST = SLOT_BOX
};

struct ring {
  struct task *first, *last;
};

struct pooled {
  lua_State *co;
  int anchor;
};

struct post {
  struct post *next;
  void (*fn) (allua *host, void *data);
  void *data;
};

struct allua {
  lua_State *main;   /* the state's main thread */
  lua_State *L;      /* the scheduler's own thread, with the slots above: nothing is called on it */
  lua_State *worker; /* where the scheduler calls what may raise, protected */
  lua_State *from;   /* whose C stack the scheduler stands on, or NULL */
  uv_loop_t *loop;
  struct mem mem;
  bool own_state, own_loop, own_luv;

  /* sched */
  struct ring ready;
  struct task *current;      /* the task that runs, or NULL */
  lua_State *running;        /* the innermost coroutine that runs for it */
  lua_State *barrier;        /* what cannot suspend, though a coroutine that it resumed could … */
  const char *barrier_name;  /* … in words, where its stack does not tell */
  const void *outer_context; /* that of whoever resumed the running coroutine */
  struct handles *handles;
  bool (*loop_runs) (allua *host); /* whether somebody else runs the loop; NULL: not known */
  size_t pending_work;             /* promises of C that are not settled */
  int turns;                       /* depth of turns: > 0 inside one */
  int steps;                       /* tasks that may still be resumed in this turn */
  int inside;                      /* owners that run the ready queue on their own stack */
  int runs;                        /* depth of sched_run: > 0 inside one */
  const struct task *raised_in;    /* whose error SLOT_RAISED is */
  bool stress;                     /* a full collection at every wait */

  /* task */
  struct pooled *pool;
  size_t pooled, pool_size;
  size_t pool_least; /* fewest in the pool since sched_rest */
  size_t live_tasks, live_coroutines;

  /* timer */
  struct timer_entry *timers;
  size_t timer_count, timer_size;
  uint64_t timer_seq, timer_armed;

  /* group */
  struct group *loaded; /* what SLOT_GROUP … SLOT_RESULTS hold */
  struct group *roots;  /* groups without an owner */
  size_t live_groups;
  void (*ended) (allua *host, struct task *task, int results); /* settle's … */
  void (*fulfilled) (allua *host, struct task *task);          /* … and its quick way */

  /* cycle */
  struct walk *walk[3]; /* work lists */
  size_t walk_size[3];
  uint32_t epoch;

  size_t luv_closed; /* luv handles that the closing host has closed */

  /* promise */
  size_t live_promises;
  void (*abandoned) (allua *host, struct promise *promise); /* op's: its last waiter is cancelled */

  /* posts from other threads */
  uv_mutex_t post_mutex;
  struct post *posts, **posts_end;

  /* the program's side */
  void (*on_error) (allua *host, const char *report, void *data);
  void *data;
  char *path;
  char *error; /* the last run's report */
  size_t error_size;
  size_t reported;  /* unhandled errors so far */
  bool stopping;    /* what runs is unwound where it stands, and not resumed */
  bool close_asked; /* from inside: to be done when the outermost call ends */
  bool closing;     /* no new work; tasks are being joined */
  bool tearing;     /* all tasks have ended; handles are being closed */
  bool warns;       /* warn is on */
  bool warn_continues;
  allua **box; /* what our functions' upvalue points to; emptied by close */
  int box_ref;
};

/* The host of one of our own C functions (upvalue 1 is the box). Raises when it is closed. */
static inline allua *host_of (lua_State *L) {
  allua *host = *(allua **)lua_touserdata (L, lua_upvalueindex (1));
  if (!host)
    luaL_error (L, "this allua host is closed");
  return host;
}

/* Push a slot's value on any coroutine of the state. Needs one free place on both stacks. */
static inline void host_push (allua *host, lua_State *L, enum slot slot) {
  lua_pushvalue (host->L, slot);
  lua_xmove (host->L, L, 1);
}

#endif
