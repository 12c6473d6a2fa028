/* Error values, records of who failed because of whom, and their reports. */
#ifndef ERROR_H
#define ERROR_H

#include "state.h"

/* Push an error table: { name = name, message = … } with allua's metatable. Returns its message. */
const char *error_push (lua_State *L, allua *host, const char *name, const char *format, ...);

/* Turn a task's name and a reason, on top of L, into its CancelledError. Its message is made when it is read. */
void error_push_cancelled (lua_State *L, allua *host);

/* Whether the value at `index` is a CancelledError. Never raises, never allocates. */
bool error_is_cancelled (lua_State *L, allua *host, int index);

/* Make the metatables of error tables; L is the scheduler's own thread. */
void error_open (lua_State *L, allua *host);

/* The candidate near enough to `name` to be what was meant: feed each in turn. */
struct near {
  const char *name;
  size_t length;
  int distance; /* of the best so far */
  char best[64];
};
void error_near_open (struct near *near, const char *name, size_t length);
void error_near_add (struct near *near, const char *candidate, size_t length);
const char *error_near_hint (lua_State *L,
                             const struct near *near); /* pushes ` (did you mean "x"?)` or "" */

/* A record tells how one task failed; they hang together by `from`. A table:
   task, label, traceback (of the task that raised first), from (the record of the task whose failure
   it met), awaited (true when that one is a sibling), started ("file:line" of the group). */

/* Remember that the error at `index` of L is about to be raised again because of a failure whose
   record is on top of the stack (nil: none). Pops the record. Never raises. */
void error_raised (lua_State *L, allua *host, int index);

/* Remember that the running task has got the error at `index`, whose record is on top (popped), in another way.
   Never raises. */
void error_seen (lua_State *L, allua *host, int index);

/* The error at `index` leaves a coroutine of a script's, whose stack, from `level` on, still stands on `co`: note its
   traceback. Never raises. */
void error_thrown (lua_State *L, allua *host, int index, lua_State *co, int level);

/* Whether it is the last of those, in this task; then: it is the error on top of the stack now. */
bool error_is_thrown (lua_State *L, allua *host, int index);
void error_thrown_as (lua_State *L, allua *host);

/* Push the traceback of L, from level 1 on, below those of the coroutines that the error at `index` has left. */
void error_push_traceback (lua_State *L, allua *host, int index);

/* Push the record that goes with the error at `index`, which the running task raises, or nil: a string is the
   same error only to a task that got it from another. */
void error_push_record (lua_State *L, allua *host, int index);

/* The same for one that somebody asks about: the last that looks the same, whoever got it. */
void error_find_record (lua_State *L, allua *host, int index);

/* Raise the message on top of L, as luaL_error does; names in it may hold any bytes. */
int error_raise (lua_State *L);

/* Raise that there is no memory, which needs none. */
__attribute__ ((noreturn)) int error_raise_memory (lua_State *L, allua *host);

/* Push the message of any error value, as `lua` would print it. May raise. */
void error_push_message (lua_State *L, int index);

/* Push the whole report: the error at `index`, its record (or nil) on top (popped). May raise. */
const char *error_push_report (lua_State *L, int index);

/* Push "file:line" of the innermost Lua function that runs on `at` from `level` on, or nil. */
void error_push_place (lua_State *L, lua_State *at, int level);

#endif
