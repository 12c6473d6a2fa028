/* The stream of what happens in a host, as Chrome trace events: a track for each task. Written as it happens, so
   that what is there opens though a crash cut it off. */
#ifndef TRACER_H
#define TRACER_H

#include "group.h"

/* Lua: core.trace_start (shown, trace file or nil, report or nil), trace_stop (), trace_begin (name, category,
   arguments) → whether there is something for trace_end () to end, and so on: what lua/allua/trace.lua is made
   of. In the table on top of the stack. */
void tracer_open (lua_State *L);

/* Have the group at `index`, which is about to begin, on the stream. May raise. */
void tracer_add_group (lua_State *L, int index);

/* As in trace.h, for tasks of a group on the stream. */
void tracer_start (struct task *task);
void tracer_wait (struct task *task, enum task_wait wait, const void *on);
void tracer_resume (struct task *task);
void tracer_end (struct task *task);

/* The task's error is at 1, its record at 2 of its own stack. May raise. */
void tracer_failed (lua_State *L, struct task *task);

/* Something happens in the running task, or outside of all: its name, and its one argument, the value at `index`. */
void tracer_instant (lua_State *L, allua *host, const char *name, const char *argument, int index);

/* A turn of the loop begins, or ends. */
void tracer_begin_turn (allua *host);
void tracer_end_turn (allua *host);

/* Write what is left and free it all. */
void tracer_close (allua *host);

#endif
