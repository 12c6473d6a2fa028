/* Promises as values: made by hand, spawned tasks, views of a sibling. */
#ifndef PROMISE_OBJECT_H
#define PROMISE_OBJECT_H

#include "state.h"

struct task;

/* Push a view of a task's promise; its group is at `index`. */
int promise_object_push_view (lua_State *L, allua *host, int index, struct task *task);

/* Report each rejected promise that nobody has awaited. Called when the host closes, or a program
   ends. May raise. */
void promise_report_unhandled (lua_State *L, allua *host);

/* Cancel what is still pending of C's promises, and forget their data: the host closes. */
void promise_object_close (lua_State *L, allua *host);

/* Say what a promise of C's stands for: a string that stays, such as "a query". */
void promise_object_stands_for (allua_promise *promise, const char *what);

/* What was said, or NULL. */
const char *promise_object_what (struct promise *promise);

/* Wait for the promise whose object is alone on L; its values, or its error. */
int promise_object_await (lua_State *L, allua *host);

/* Lua: allua.promise (); core.promise (text), of which a dump says what it stands for; the metatable of all
   promise objects; p:await () for a promise as a task. */
int promise_object_new (lua_State *L);
int promise_object_named (lua_State *L);
void promise_object_open (lua_State *L, allua *host);

#endif
