/* A group's storage: its tasks in one block, with their names, functions, values and errors. */
#ifndef GROUP_H
#define GROUP_H

#include <assert.h>

#include "promise.h"
#include "shape.h"
#include "timer.h"

/* A task is on the ready queue, or waits for exactly one thing, or runs, or has ended. Whoever takes
   it away from its wait unlinks it first, so no wake-up can come too late. */
enum task_state { TASK_HELD, TASK_READY, TASK_RUNNING, TASK_WAITING, TASK_ENDED };

enum task_wait {
  WAIT_NOTHING,
  WAIT_PROMISE,  /* on: the struct promise */
  WAIT_TIMER,    /* asleep */
  WAIT_GROUP,    /* on: the struct group, until all of it has ended */
  WAIT_NEXT,     /* on: the struct group, for the next of its tasks to settle */
  WAIT_CHILDREN, /* its function is done; until what it spawned has ended */
  WAIT_PLACE     /* on: the struct group whose `concurrency` is used up */
};

enum task_wake { WAKE_DONE, WAKE_CANCEL, WAKE_AGAIN /* look at the wait once more: a cycle? */ };

struct task {
  struct promise promise; /* settles when the task ends */
  union {
    struct {
      struct task *next, *previous; /* ready queue, place queue, or a promise's waiters */
    } link;
    struct timer timer; /* asleep */
  };
  void *on;
  lua_State *co; /* NULL until it first runs, and when it has ended */
  lua_State *at; /* the coroutine that waits: co, or one of the user's inside it */
  struct group *group;
  struct group *children; /* groups that it owns and that have not ended */
  const void *context;    /* its task-local values: the address of a table, see context.h */
  uint32_t since;         /* when its wait began: ms of the loop's time, modulo 2^32 */
  uint32_t row;           /* where progress shows it, see progress.h; 0: nowhere */
  uint32_t index;         /* in the group, from 0 */
  int anchor;             /* of co in SLOT_COROUTINES */
  uint8_t state, wait, wake;
  uint8_t shields;   /* > 0: cancelling is held back */
  uint8_t swallowed; /* times that it was cancelled and went on */
  uint8_t spans;     /* open on its track, see tracer.h */
  bool cancelled : 1;
  bool own_reason : 1;  /* cancelled alone: the reason is in the group's slots, at -(index + 1) */
  bool failed : 1;      /* its function raised; the error is its one result */
  bool joined : 1;      /* its children have ended: settle it */
  bool stop : 1;        /* it would not end: never resume it again */
  bool exposed : 1;     /* its script has seen its coroutine: do not use that again */
  bool has_nil : 1;     /* fulfilled with nil */
  bool nothing : 1;     /* fulfilled with no value at all */
  bool several : 1;     /* fulfilled with more than one value: a table of them in the slots */
  bool hook_failed : 1; /* on_settle raised: its error is on top of the results */
  bool inside : 1;      /* waits for a group, and runs the ready queue on its own stack meanwhile */
  bool traced : 1;      /* its track has begun */
  bool place : 1;       /* counts in the group's `running` */
};

enum group_kind {
  GROUP_ALL,
  GROUP_MAP,
  GROUP_SETTLED,
  GROUP_FLOW,
  GROUP_RACE,
  GROUP_ANY,
  GROUP_EACH,
  GROUP_CALL,  /* one task, its owner waits: timeout, run */
  GROUP_SPAWN, /* one task; the group is its promise object */
  GROUP_ROOT   /* one task without an owner */
};

/* What only some groups have. */
struct group_options {
  struct timer timeout;
  double timeout_seconds;
  struct signal *signal;                            /* from outside */
  struct group_options *signal_next, **signal_back; /* its other listeners */
  struct group *group;
  uint32_t limit, running; /* concurrency */
  struct ring places;      /* tasks that wait for a place: resumed ones before new ones */
  struct ring fresh;
  bool on_settle;
  bool unseen; /* debug = false: not part of another group's waterfall either */
  struct trace *trace;
  uint32_t track; /* of its first task on the stream, see tracer.h */
  void (*done) (lua_State *L, int status, int results, void *data); /* GROUP_ROOT */
  void *done_data;
};

/* A group's tasks have all ended before its `all` returns or raises. Owned by the collector; while it
   is under way SLOT_LIVE anchors it. What it has of Lua's is in its user values, see group_value. */
struct group {
  struct promise *promise; /* the first member of every promise object: see GROUP_SPAWN */
  allua *host;
  struct task *owner;
  struct group *next, *previous; /* the owner's other children, or the host's other roots */
  struct group *cancel_next;     /* work list of a cancelling */
  struct group_options *options; /* NULL, or in a userdata in the slots */
  struct shape *shape;           /* its names; NULL: it has none */
  lua_State *at;                 /* where the owner waits */
  uint32_t size, pending;
  uint32_t base;             /* of the tasks' places, see group_place */
  uint32_t winner;           /* race, any, flow; each: the failing one. Index + 1, 0: none */
  uint32_t epoch, seen, via; /* cycle: tasks seen blocked in this search, the first of them */
  uint32_t passed;           /* cycle: the search that has gone through it forward */
  int anchor;                /* in SLOT_LIVE */
  uint8_t kind;
  uint8_t reads; /* of results, as long as it is not read directly */
  bool named : 1;
  bool failed : 1;  /* an error ended it: group_slot REASON has it; raised at the end */
  bool decided : 1; /* race, any, flow: there is an outcome; the rest are being cancelled */
  bool cancelled : 1;
  bool own_reason : 1; /* REASON has why; else the owner's reason counts */
  bool ended : 1;
  bool suspect : 1; /* a cycle but for a task that may still decide it */
  bool closed : 1;  /* each: the loop was left */
  bool has_signal : 1;
  bool hook_failed : 1; /* failed by on_settle: even all_settled raises that */
  bool adopts : 1;      /* there are promises among its tasks: they run, cancelled or not */
  bool tabled : 1;      /* its functions are in a table, as its names are */
  bool direct : 1;      /* Lua reads its results by itself, see self.c */
  bool patient : 1;     /* what its one task spawned is waited for, not cancelled, when that ends */
  struct ring settled;  /* each: ended, not handed out yet */
  struct task tasks[];
};

/* The user values of a group. Each is there from the start, so that setting one needs no memory. */
enum group_value {
  /* A table of what only some groups have, or nil: the group_slot from RECORDS on. */
  VALUE_EXTRA = 1,
  /* A table: name → value. Without names it has each task's function, or a map's item, until there is the
     value or the error. */
  VALUE_RESULTS,
  VALUE_REASON,
  VALUE_AUX,
  /* Only with names: the shape, … */
  VALUE_SHAPE,
  /* … and for each task its function, then its error, from here on, or in a table. */
  VALUE_FUNCTIONS
};

enum group_slot {
  REASON = VALUE_REASON, /* the error that ended the group, or why it is cancelled */
  AUX = VALUE_AUX, /* map: the function; flow: the values of finish; spawn: see core.answers */
  RECORDS,         /* index → record of a failure, see error.h */
  SIGNAL,
  ON_SETTLE,
  LABEL,
  STARTED, /* "file:line" of a spawn */
  OPTIONS, /* anchor of group.options */
  OUTSIDE, /* anchor of the signal from outside */
  TRACE,   /* anchor of options.trace */
  CONTEXT, /* anchor of the tasks' context */
  SEVERAL /* and from it on one a task, see group_several; why it is cancelled alone at -(index + 1) */
};

/* Stands in a map's results for an item that is nil. */
extern const char group_no_item;

/* What Lua calls it. */
const char *group_kind_name (enum group_kind kind);

/* Make a group of `size` tasks and push it; needs two places on the stack. Raises when there is no memory.
   `named`: they will have names. */
struct group *group_new (lua_State *L, allua *host, enum group_kind kind, uint32_t size,
                         bool named);

/* Anchor a group, on top of L, and let go of it. The first may raise. */
void group_anchor (lua_State *L, struct group *group);
void group_release (struct group *group);

/* Bring the group into SLOT_GROUP. Only while it is under way. */
void group_load (struct group *group);

/* Push one of the special slots of the group at `index` of L / of a group under way. */
int group_get (lua_State *L, int index, lua_Integer slot);
int group_peek (lua_State *L, struct group *group, enum group_slot slot);

/* Set one, popping the value from L; may allocate, so may raise, but for REASON and AUX. */
void group_set (lua_State *L, int index, lua_Integer slot);

/* The same for a group under way; REASON and AUX only: never raises. Pops from host->L. */
void group_put (struct group *group, enum group_slot slot);

/* The group's extra part, made when first needed. The group is at `index` of L. May raise. */
struct group_options *group_extend (lua_State *L, int index);

/* Push a task's function, later its error; set it, popping the value: never raises. The group is at
   `index` of L. */
int group_push_own (lua_State *L, int index, const struct task *task);
void group_set_own (lua_State *L, int index, const struct task *task);

/* The slot of what a task gave, where that was several values. */
static inline lua_Integer group_several (const struct task *task) {
  return SEVERAL + (lua_Integer)task->index;
}

/* Push the table of what only some groups have, made when first needed: may raise. */
void group_push_extra (lua_State *L, int index);

/* Push a task's name. The group must be under way, or be at `index`. */
void group_push_name (lua_State *L, const struct task *task);
void group_push_name_at (lua_State *L, int index, const struct task *task);

/* Push "name" or, where `label` and the group has one, "label.name", for messages. */
const char *group_push_title (lua_State *L, const struct task *task, bool label);

/* Link into, and out of, the owner's children or the host's roots. */
void group_link (struct group *group, struct task *owner);
void group_unlink (struct group *group);

/* The group after this one in a walk over all that are under way, owners before what they own; the
   first is host.roots. */
struct group *group_walk (struct group *group);

/* Push why a task is cancelled (any value). */
void group_push_reason (lua_State *L, const struct task *task);

/* An owner waits for all of the group: a cycle through it is one. */
static inline bool group_needs_all (const struct group *group) {
  return group->kind == GROUP_ALL || group->kind == GROUP_MAP || group->kind == GROUP_SETTLED
         || group->kind == GROUP_CALL;
}

/* Whether the owner waits for it. */
static inline bool group_is_waited (const struct group *group) {
  const struct task *owner = group->owner;
  return owner && owner->state == TASK_WAITING && owner->on == group
         && (owner->wait == WAIT_GROUP || owner->wait == WAIT_NEXT);
}

/* The key of a task's function, then of its error: its number in the results, or, with names, that of a
   user value, or of a place in the table of functions. */
static inline lua_Integer group_place (const struct task *task) {
  return (lua_Integer)task->group->base + task->index;
}

/* Append to the waiters; the task must not be in another ring or list. */
static inline void promise_add_waiter (struct promise *promise, struct task *task) {
  struct task *first = promise->waiters;
  if (!first) {
    promise->waiters = task->link.next = task->link.previous = task;
  } else {
    struct task *last = first->link.previous;
    task->link.next = first;
    task->link.previous = last;
    last->link.next = first->link.previous = task;
  }
}

/* Settle a pending promise; `wake` gets each waiter, in order. The values are stored before. */
static inline void promise_settle (allua *host, struct promise *promise, enum promise_status status,
                                   void (*wake) (allua *host, struct task *task)) {
  struct task *first = promise->waiters, *task = first;
  assert (promise->status == PROMISE_PENDING);
  promise->status = (uint8_t)status;
  if (!first)
    return;
  promise->waiters = NULL;
  do { /* each is in another ring after that */
    struct task *next = task->link.next;
    wake (host, task);
    task = next;
  } while (task != first);
}

/* Put tasks at the end that are linked already, from the first to the last. */
static inline void ring_append (struct ring *ring, struct task *first, struct task *last) {
  if (ring->last)
    ring->last->link.next = first;
  else
    ring->first = first;
  ring->last = last;
}

static inline void ring_push (struct ring *ring, struct task *task) {
  task->link.next = NULL;
  ring_append (ring, task, task);
}

static inline struct task *ring_pop (struct ring *ring) {
  struct task *task = ring->first;
  if (task) {
    ring->first = task->link.next;
    if (!ring->first)
      ring->last = NULL;
  }
  return task;
}

#endif
