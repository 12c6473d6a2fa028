#include "loop.h"

#include "clock.h"

/* Freed in the last close callback, never before: libuv knows of it until then. */
struct handles {
  allua *host;
  struct loop_calls calls;
  struct mem mem; /* a copy: the host may be gone by then */
  void (*closed) (allua *host);
  int open;
  bool busy, resting, complained;
  uv_prepare_t prepare;
  uv_check_t check;
  uv_idle_t idle;
  uv_timer_t timer, rest, still;
  uv_async_t async;
};

static void on_prepare (uv_prepare_t *prepare) {
  struct handles *handles = prepare->data;
  handles->calls.turn (handles->host);
}

static void on_check (uv_check_t *check) {
  struct handles *handles = check->data;
  handles->calls.polled (handles->host);
}

static void on_idle (uv_idle_t *idle) {
  (void)idle; /* its being active is all that is wanted */
}

static void on_timer (uv_timer_t *timer) {
  struct handles *handles = timer->data;
  handles->calls.timer (handles->host);
}

static void on_rest (uv_timer_t *rest) {
  struct handles *handles = rest->data;
  handles->resting = handles->calls.rest (handles->host);
  if (!handles->resting)
    uv_timer_stop (rest);
}

static void on_still (uv_timer_t *still) {
  struct handles *handles = still->data;
  if (!handles->complained)
    handles->calls.still (handles->host);
  handles->complained = true;
}

static void on_async (uv_async_t *async) {
  struct handles *handles = async->data;
  handles->calls.posts (handles->host);
}

static void on_closed (uv_handle_t *handle) {
  struct handles *handles = handle->data;
  if (--handles->open == 0) {
    struct mem mem = handles->mem;
    allua *host = handles->host;
    void (*closed) (allua *) = handles->closed;
    mem_resize (&mem, handles, sizeof *handles, 0);
    if (closed)
      closed (host);
  }
}

int loop_open (allua *host, const struct loop_calls *calls) {
  struct handles *handles = mem_resize (&host->mem, NULL, 0, sizeof *handles);
  int failed;
  if (!handles)
    return UV_ENOMEM;
  handles->host = host;
  handles->calls = *calls;
  handles->mem = host->mem;
  handles->closed = NULL;
  handles->busy = handles->resting = handles->complained = false;
  /* The one that may fail goes first: after it there is nothing to undo. */
  failed = uv_async_init (host->loop, &handles->async, on_async);
  if (failed) {
    mem_resize (&host->mem, handles, sizeof *handles, 0);
    return failed;
  }
  uv_prepare_init (host->loop, &handles->prepare);
  uv_check_init (host->loop, &handles->check);
  uv_idle_init (host->loop, &handles->idle);
  uv_timer_init (host->loop, &handles->timer);
  uv_timer_init (host->loop, &handles->rest);
  uv_timer_init (host->loop, &handles->still);
  handles->prepare.data = handles->check.data = handles->idle.data = handles->timer.data
      = handles->rest.data = handles->still.data = handles->async.data = handles;
  handles->open = 7;
  uv_prepare_start (&handles->prepare, on_prepare);
  uv_check_start (&handles->check, on_check);
  uv_unref ((uv_handle_t *)&handles->prepare);
  uv_unref ((uv_handle_t *)&handles->check);
  uv_unref ((uv_handle_t *)&handles->rest);
  uv_unref ((uv_handle_t *)&handles->async);
  host->handles = handles;
  return 0;
}

void loop_close (allua *host, void (*closed) (allua *host)) {
  struct handles *handles = host->handles;
  handles->closed = closed;
  uv_close ((uv_handle_t *)&handles->prepare, on_closed);
  uv_close ((uv_handle_t *)&handles->check, on_closed);
  uv_close ((uv_handle_t *)&handles->idle, on_closed);
  uv_close ((uv_handle_t *)&handles->timer, on_closed);
  uv_close ((uv_handle_t *)&handles->rest, on_closed);
  uv_close ((uv_handle_t *)&handles->still, on_closed);
  uv_close ((uv_handle_t *)&handles->async, on_closed);
  host->handles = NULL;
}

void loop_arm_timer (allua *host, uint64_t due) {
  const uint64_t ms = 1000000;
  struct handles *handles = host->handles;
  uint64_t now = clock_now (host);
  if (!due) {
    uv_timer_stop (&handles->timer);
    return;
  }
  /* libuv counts from its own idea of now, taken at the start of the loop's turn. */
  uv_update_time (host->loop);
  uv_timer_start (&handles->timer, on_timer, due > now ? (due - now + ms - 1) / ms : 0, 0);
}

void loop_rest (allua *host) {
  const uint64_t period = 1000; /* ms */
  struct handles *handles = host->handles;
  if (handles->resting)
    return;
  handles->resting = true;
  uv_timer_start (&handles->rest, on_rest, period, period);
}

void loop_set_busy (allua *host, bool busy) {
  struct handles *handles = host->handles;
  if (handles->busy == busy)
    return;
  handles->busy = busy;
  if (busy)
    uv_idle_start (&handles->idle, on_idle);
  else
    uv_idle_stop (&handles->idle);
}

void loop_set_pending (allua *host, bool pending) {
  if (pending)
    uv_ref ((uv_handle_t *)&host->handles->async);
  else
    uv_unref ((uv_handle_t *)&host->handles->async);
}

void loop_notify (allua *host) {
  uv_async_send (&host->handles->async);
}

void loop_watch_still (allua *host, bool still) {
  const uint64_t patience = 3000; /* ms */
  struct handles *handles = host->handles;
  if (!still) {
    uv_timer_stop (&handles->still);
    handles->complained = false;
  } else if (!uv_is_active ((const uv_handle_t *)&handles->still)) {
    uv_timer_start (&handles->still, on_still, patience, patience);
  }
}

bool loop_has_posts (allua *host) {
  bool has;
  uv_mutex_lock (&host->post_mutex);
  has = host->posts != NULL;
  uv_mutex_unlock (&host->post_mutex);
  return has;
}

/* By where it is: what others' handles hold in `data` may not even be set. */
bool loop_owns (const allua *host, const uv_handle_t *handle) {
  uintptr_t first = (uintptr_t)host->handles, place = (uintptr_t)handle;
  return place >= first && place < first + sizeof *host->handles;
}

size_t loop_count_active (const allua *host) {
  const struct handles *handles = host->handles;
  size_t always = 3; /* prepare, check, async */
  return always + handles->busy + handles->resting
         + (uv_is_active ((const uv_handle_t *)&handles->timer) != 0)
         + (uv_is_active ((const uv_handle_t *)&handles->still) != 0);
}
