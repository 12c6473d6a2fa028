#include "promise.h"

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

const char *promise_status_name (const struct promise *promise) {
  static const char *const names[] = { "pending", "fulfilled", "rejected" };
  return names[promise->status];
}
