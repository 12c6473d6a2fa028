/* Error values, records of who failed because of whom, and their reports. */
#ifndef ERROR_H
#define ERROR_H

#include "state.h"

/* Push an error table: { name = name, message = … } with allua's metatable. Returns its message. */
const char *error_push (lua_State *L, allua *host, const char *name, const char *format, ...);

/* Turn a task's name and a reason, on top of L, into its CancelledError. */
void error_push_cancelled (lua_State *L, allua *host);

/* Whether the value at `index` is a CancelledError. Never raises, never allocates. */
bool error_is_cancelled (lua_State *L, allua *host, int index);

/* Set the metatable of error tables (top of L's stack, left there). */
void error_open (lua_State *L);

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

/* Push the record that goes with the error at `index`, or nil. */
void error_push_record (lua_State *L, allua *host, int index);

/* Raise the message on top of L, as luaL_error does; names in it may hold any bytes. */
int error_raise (lua_State *L);

/* Push the message of any error value, as `lua` would print it. May raise. */
void error_push_message (lua_State *L, int index);

/* Push the whole report: the error at `index`, its record (or nil) on top (popped). May raise. */
const char *error_push_report (lua_State *L, int index);

/* Push "file:line" of the innermost Lua function that runs on `at` from `level` on, or nil. */
void error_push_place (lua_State *L, lua_State *at, int level);

#endif
