#include "promise.h"

#include <assert.h>

#include "task.h"

void promise_add_waiter (struct promise *promise, struct task *task) {
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

void promise_remove_waiter (struct promise *promise, struct task *task) {
  if (task->link.next == task) {
    promise->waiters = NULL;
  } else {
    task->link.previous->link.next = task->link.next;
    task->link.next->link.previous = task->link.previous;
    if (promise->waiters == task)
      promise->waiters = task->link.next;
  }
}

void promise_settle (allua *host, struct promise *promise, enum promise_status status,
                     void (*wake) (allua *host, struct task *task)) {
  assert (promise->status == PROMISE_PENDING);
  promise->status = (uint8_t)status;
  while (promise->waiters) {
    struct task *task = promise->waiters;
    promise_remove_waiter (promise, task);
    wake (host, task);
  }
}

const char *promise_status_name (const struct promise *promise) {
  static const char *const names[] = { "pending", "fulfilled", "rejected" };
  return names[promise->status];
}
