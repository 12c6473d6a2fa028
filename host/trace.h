/* What ran when: spans and waits of a group with `debug`, for its waterfall. */
#ifndef TRACE_H
#define TRACE_H

#include "group.h"

/* Begin to record the group at `index`. May raise. */
void trace_open (lua_State *L, int index);

/* A task of the group begins (again) or ends a wait for a sibling, starts, or ends. Never raise; what
   there is no memory for is left out. */
void trace_start (struct task *task);
void trace_wait (struct task *task, const struct task *sibling);
void trace_resume (struct task *task);
void trace_end (struct task *task);

/* Print the waterfall of the group at `index`, which has ended, to standard error: the one place where
   the library prints, because the group asked for it. May raise. */
void trace_print (lua_State *L, int index);

static inline struct trace *trace_of (const struct group *group) {
  return group->options ? group->options->trace : NULL;
}

#endif
