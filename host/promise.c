#include "promise.h"

#include <assert.h>

#include "task.h"

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

const char *promise_status_name (const struct promise *promise) {
  static const char *const names[] = { "pending", "fulfilled", "rejected" };
  return names[promise->status];
}
