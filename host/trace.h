/* What ran when: spans and waits of a group with `debug`, for its waterfall. */
#ifndef TRACE_H
#define TRACE_H

#include "group.h"

/* Begin to record the group at `index`; `prints`: for a waterfall of its own. May raise. */
void trace_open (lua_State *L, int index, bool prints);

/* Have the group at `index`, which `owner` is about to begin, be part of the waterfall that its owner is in, if
   it is in one. May raise. */
void trace_nest (lua_State *L, int index, struct task *owner);

/* A task of the group starts, begins a wait (for `on`, see task_wait), is resumed, or ends. Never raise; what
   there is no memory for is left out. */
void trace_start (struct task *task);
void trace_wait (struct task *task, enum task_wait wait, const void *on);
void trace_resume (struct task *task);
void trace_end (struct task *task);

/* `task` gets the place of `giver`, of the same group or another. The same holds. */
void trace_hand_over (struct task *task, const struct task *giver);

/* How it ended: "fulfilled", "rejected", "cancelled". */
const char *trace_status (const struct task *task);

/* Its function is done, and it waits for what it spawned. */
void trace_join (struct task *task);

/* What stands for the trace of a group that is on the stream only, see tracer.h. */
struct trace *trace_streamed (void);

/* The group at `index` has ended: print its waterfall to standard error, the one place where the library
   prints, because the group asked for it; or hand its record to the waterfall that it is part of. May raise. */
void trace_finish (lua_State *L, int index);

/* Free what waterfalls have left: the state is closed. */
void trace_close (allua *host);

static inline struct trace *trace_of (const struct group *group) {
  return group->options ? group->options->trace : NULL;
}

#endif
