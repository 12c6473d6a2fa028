/* The handles by which a host hangs on its loop. */
#ifndef LOOP_H
#define LOOP_H

#include "state.h"

/* What the handles call, on the loop's thread. */
struct loop_calls {
  void (*turn) (allua *host);   /* before each poll */
  void (*polled) (allua *host); /* after it */
  void (*timer) (allua *host);  /* the armed deadline has come, or is near */
  void (*posts) (allua *host);  /* another thread posted */
  bool (*rest) (allua *host);   /* every second, once asked for, until it returns false */
  void (*still) (allua *host);  /* a virtual clock has stood still for long */
};

/* Returns 0 or a libuv error. */
int loop_open (allua *host, const struct loop_calls *calls);

/* Begin to close the handles; `closed` (may be NULL) is called once, when the last is closed. After
   it the host may be gone: the handles live in a block of their own, freed there. */
void loop_close (allua *host, void (*closed) (allua *host));

/* Have the loop call back at `due` (ns, as clock_now), or, with 0, not any more. */
void loop_arm_timer (allua *host, uint64_t due);

/* Have `rest` called, for as long as the loop is kept alive by something else. */
void loop_rest (allua *host);

/* Keep the loop from sleeping in its poll: there are tasks to run. */
void loop_set_busy (allua *host, bool busy);

/* Keep the loop alive: something outside libuv's sight will come back to us. */
void loop_set_pending (allua *host, bool pending);

/* From any thread: have `posts` called. */
void loop_notify (allua *host);

/* A virtual clock stands still, or goes on: keep the loop alive while it does, and have `still` called once it
   has done so for 3 s. */
void loop_watch_still (allua *host, bool still);

/* Whether another thread's post waits to be run. */
bool loop_has_posts (allua *host);

/* Whether a handle is one of ours. */
bool loop_owns (const allua *host, const uv_handle_t *handle);

/* How many of ours are active. */
size_t loop_count_active (const allua *host);

#endif
