/* A promise: pending, then settled once; a list of the tasks that wait for it. */
#ifndef PROMISE_H
#define PROMISE_H

#include "state.h"

enum promise_status { PROMISE_PENDING, PROMISE_FULFILLED, PROMISE_REJECTED };

enum promise_kind {
  PROMISE_OF_TASK, /* inside a struct task; its values are in the task's group */
  PROMISE_BY_HAND, /* inside a struct allua_promise; its values are in that userdata */
  PROMISE_OF_OP    /* inside a struct op; has no values */
};

/* Settles once. The waiters are a ring through the tasks themselves: waiting allocates nothing. */
struct promise {
  struct task *waiters; /* the first; its `previous` is the last */
  uint8_t status, kind;
  bool handled;   /* somebody awaited it: a rejection is not reported */
  bool cancelled; /* rejected by its owner's cancelling: not reported either */
};

/* Take out of the waiters; promise_add_waiter has put the task there. It and promise_settle are in group.h. */
void promise_remove_waiter (struct promise *promise, struct task *task);

const char *promise_status_name (const struct promise *promise);

#endif
