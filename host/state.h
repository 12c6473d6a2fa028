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
struct name;
struct tracer;
struct progress;
struct clock;
struct events;
struct arities;

/* Fixed slots on the stack of the scheduler's own thread: values that C needs at hand without a
   search. Reading and writing them never allocates, so never raises. */
enum slot {
  SLOT_LIVE = 1,    /* anchors: groups under way, see group_anchor */
  SLOT_PENDING,     /* anchors: promises of C still pending, virtual clocks (luaL_ref) */
  SLOT_COROUTINES,  /* anchors: every coroutine of a task, pooled ones too (luaL_ref) */
  SLOT_RUNNER,      /* the function at the bottom of each task's coroutine */
  SLOT_TASK_FAILED, /* its message handler */
  SLOT_SHAPES,      /* shapes that are remembered, or false (see shape.h) */
  SLOT_MANY,        /* the last of more names, or false */
  SLOT_GROUP,       /* the group that is at hand at the moment (host.loaded) */
  SLOT_RAISED,      /* the last error raised because another task failed … */
  SLOT_RAISED_INFO, /* … and the record of that failure */
  SLOT_SEEN,        /* the last few such errors, weak, … */
  SLOT_SEEN_INFO,   /* … and their records */
  SLOT_THROWN,      /* the last error that left a coroutine of a script's … */
  SLOT_THROWN_INFO, /* … and the traceback of that */
  SLOT_FAILED,      /* error → record of the last task that failed by it: weak keys */
  SLOT_PROMISES,    /* every promise object that could be rejected unseen: weak keys */
  SLOT_CANARY,      /* something that is nobody's: weak values, see arity.c */
  SLOT_CONTEXTS,    /* address of a table of task-local values → the table: weak values */
  SLOT_SELF,        /* metatables */
  SLOT_TASK,
  SLOT_PROMISE,
  SLOT_SIGNAL,
  SLOT_CONTROLLER,
  SLOT_ERROR,
  SLOT_CANCELLED,   /* of a CancelledError (host.cancelled_meta) */
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

enum { MOST_SEEN = 32 }; /* errors of other tasks that are known again when they are raised again */

struct pooled {
  lua_State *co;
  int anchor;
};

/* Deadlines that came in their order: a ring, from `first` up to `end`, of which some were taken out. */
struct lane {
  struct timer_entry *entries;
  size_t size, first, end, live;
};
enum { LANES = 8 };

enum { SHAPES = 64 }; /* remembered at most, each in a place that its hash tells */

struct post {
  struct post *next;
  void (*fn) (allua *host, void *data);
  void *data;
};

/* watch: one step of a task: as long as all of this stays the same, it is that step that holds the loop. */
struct watch {
  double slow, stuck; /* seconds, 0: never */
  bool counts;        /* every coroutine of a task looks, each so many instructions */
  bool warned;        /* of this step */
  double since;       /* when it was first seen */
  const struct task *task;
  int steps;
  size_t turn;
};

struct allua {
  lua_State *main;   /* the state's main thread */
  lua_State *L;      /* the scheduler's own thread, with the slots above: nothing is called on it */
  lua_State *worker; /* where the scheduler calls what may raise, protected */
  lua_State *from;   /* whose C stack the scheduler stands on; its own where that is not known */
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
  bool (*stalled) (allua *host);   /* nothing can go on; returns whether something can then */
  bool (*loop_runs) (allua *host); /* whether somebody else runs the loop; NULL: not known */
  size_t pending_work;             /* promises of C that are not settled … */
  size_t passive_work;             /* … of those, that wait for others: a server's */
  size_t turn;                     /* how many there were */
  uint32_t turn_time;              /* when the last began: ms of the loop's time, modulo 2^32 */
  int turns;                       /* depth of turns: > 0 inside one */
  int steps;                       /* tasks that may still be resumed in this turn */
  int inside;                      /* owners that run the ready queue on their own stack */
  int runs;                        /* depth of sched_run: > 0 inside one */
  const struct task *raised_in;    /* whose error SLOT_RAISED is */
  bool stress;                     /* a full collection at every wait */

  /* error */
  const struct task *thrown_in;          /* whose error SLOT_THROWN is */
  const struct task *seen_by[MOST_SEEN]; /* who got those in SLOT_SEEN */
  int seen;                              /* how many there were, modulo MOST_SEEN */

  /* task */
  struct pooled *pool;
  size_t pooled, pool_size;
  size_t pool_least; /* fewest in the pool since sched_rest */
  size_t live_tasks, live_coroutines;

  /* arity */
  struct arities *arities; /* made for the second group */

  /* timer */
  size_t timer_count;
  uint64_t timer_seq, timer_armed;

  /* deadlines */
  struct lane lanes[LANES];
  size_t lanes_used;        /* up to the last that has any */
  struct timer_entry *heap; /* the earliest first, each before the two at twice its place */
  size_t heap_count, heap_size;

  /* clock */
  struct clock *clocks; /* virtual ones that are open, the innermost first; NULL: time is real */
  uint64_t clock_at;    /* the virtual present, ns */
  uint64_t clock_ahead; /* of uv_hrtime, where time is real; modulo 2^64 */
  bool clock_blocked;   /* the virtual clock stands still for what is under way */

  /* error */
  const void *cancelled_meta; /* address of the metatable in SLOT_CANCELLED */

  /* fill */
  struct name *names; /* of a group that is being made */
  size_t names_size;

  /* shape */
  size_t remembered;           /* names of the shapes in SLOT_SHAPES */
  uint64_t shape_seen[SHAPES]; /* hashes: of the last shape for each of the places there */
  bool many, many_used;        /* SLOT_MANY has one, which was needed since sched_rest */

  /* group */
  struct group *loaded;       /* what SLOT_GROUP holds */
  int live_places, live_free; /* of SLOT_LIVE; the first free one, 0: none */
  int live_left;              /* before that, the one that was left last, 0: none */
  struct group *roots;        /* groups without an owner */
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

  struct watch watch;

  /* the program's side */
  void (*on_slow) (allua *host, const char *report, void *data);
  void (*on_error) (allua *host, const char *report, void *data);
  void *data;
  void (*joined) (allua *host); /* the program's: closing, and all tasks have ended */
  char *path;
  const char *error;     /* the last run's report */
  size_t error_size;     /* 0: there was no memory for it, and it says so */
  size_t reported;       /* unhandled errors so far */
  bool stopping;         /* what runs is unwound where it stands, and not resumed */
  bool close_asked;      /* from inside: to be done when the outermost call ends */
  bool closing;          /* no new work; tasks are being joined */
  bool tearing;          /* all tasks have ended; handles are being closed */
  bool waterfall;        /* of every outermost group */
  struct events *events; /* of waterfalls, see trace.c */
  bool traces;           /* there has been a waterfall: groups look whether they are part of one */
  struct progress *progress;
  struct tracer *tracer;
  uint32_t next_track; /* of the next tracer */
  bool warns;          /* warn is on */
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
