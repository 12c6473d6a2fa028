/* Work of C's that one task waits for, and that no object of Lua's stands for. */
#ifndef OP_H
#define OP_H

#include "task.h"

/* Begins what is being done; the room that does it has it, and frees it. */
struct op {
  struct promise own; /* of kind PROMISE_OF_OP */
  const char *what;   /* it is, in a dump: a string that stays */
  /* Its task has been cancelled, and does not look at it again: stop the work. May free it. */
  void (*cancel) (struct op *op);
  bool pending; /* counts as pending work of the host's */
};

void op_init (struct op *op, const char *what, void (*cancel) (struct op *op));

/* It is under way: what others do will settle it. */
void op_begin (allua *host, struct op *op);

/* Have its task go on; from the loop's thread, from any callback. Once, unless it is cancelled. */
void op_settle (allua *host, struct op *op);

/* Nobody waits for it any more, and nobody will settle it. */
void op_forget (allua *host, struct op *op);

/* Wait for it, by the task that task_enter gave, or where that is NULL by running the loop; then go on with `k`, which
   asks op_waited first. Raises where nothing could ever settle it, having cancelled it. */
int op_await (lua_State *L, allua *host, struct task *task, struct op *op, lua_KContext ctx,
              lua_KFunction k);

/* What `k` begins with: raises the CancelledError of its task, whose operation is gone then. */
static inline void op_waited (lua_State *L, allua *host, int status) {
  if (status == LUA_YIELD)
    task_resumed (L, host);
}

/* host.abandoned, for these: the task that waits for it was cancelled. */
void op_abandoned (allua *host, struct promise *own);

static inline struct op *op_of (struct promise *own) {
  return (struct op *)own;
}

#endif
