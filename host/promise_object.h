/* Promises as values: made by hand in Lua or in C, spawned tasks, views of a sibling. */
#ifndef PROMISE_OBJECT_H
#define PROMISE_OBJECT_H

#include "state.h"

struct task;

/* Push a view of a task's promise; its group is at `index`. */
int promise_object_push_view (lua_State *L, allua *host, int index, struct task *task);

/* The userdata on top of L (a group of one task) is a promise object from now on: its metatable, and
   its place among those that are looked at when the host closes. May raise. */
void promise_register (lua_State *L, allua *host);

/* Report each rejected promise that nobody has awaited. Called when the host closes, or a program
   ends. May raise. */
void promise_report_unhandled (lua_State *L, allua *host);

/* Cancel what is still pending of C's promises, and forget their data: the host closes. */
void promise_object_close (lua_State *L, allua *host);

/* Lua: allua.promise (); the metatable of all promise objects; p:await () for a promise as a task. */
int promise_object_new (lua_State *L);
void promise_object_open (lua_State *L, allua *host);

#endif
