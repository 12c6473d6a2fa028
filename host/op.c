#include "op.h"

#include "deadlock.h"
#include "loop.h"
#include "sched.h"

void op_init (struct op *op, const char *what, void (*cancel) (struct op *op)) {
  *op = (struct op){ .own = { .kind = PROMISE_OF_OP }, .what = what, .cancel = cancel };
}

void op_begin (allua *host, struct op *op) {
  op->pending = true;
  if (host->pending_work++ == 0)
    loop_set_pending (host, true);
}

void op_forget (allua *host, struct op *op) {
  if (!op->pending)
    return;
  op->pending = false;
  if (--host->pending_work == 0 && host->handles)
    loop_set_pending (host, false);
}

void op_settle (allua *host, struct op *op) {
  op_forget (host, op);
  promise_settle (host, &op->own, PROMISE_FULFILLED, sched_wake);
}

void op_abandoned (allua *host, struct promise *own) {
  struct op *op = op_of (own);
  op_forget (host, op);
  op->cancel (op);
}

static bool is_settled (void *op) {
  return ((struct op *)op)->own.status != PROMISE_PENDING;
}

int op_await (lua_State *L, allua *host, struct task *task, struct op *op, lua_KContext ctx,
              lua_KFunction k) {
  if (is_settled (op))
    return k (L, LUA_OK, ctx);
  if (task)
    return sched_wait_promise (L, task, &op->own, ctx, k);
  if (!sched_run (host, L, is_settled, op)) {
    op_abandoned (host, &op->own);
    deadlock_raise (L, host);
  }
  return k (L, LUA_OK, ctx);
}
