/* Abort controllers and signals. */
#ifndef SIGNAL_H
#define SIGNAL_H

#include "sched.h"

/* User values: 1 the reason, 2 the listeners in their order (a table, or nil). */
struct signal {
  bool aborted;
  struct group_options *groups; /* that listen: aborted with it */
  lua_Integer last;             /* listener */
};

/* Push a new signal and return it. */
struct signal *signal_new (lua_State *L, allua *host);

/* The signal at `index`, or NULL. */
struct signal *signal_at (lua_State *L, allua *host, int index);

/* Have a group listen; aborted already: it is aborted at once. The signal is at `index`. */
void signal_listen (lua_State *L, int index, struct group *group);

/* Push a group's own signal, made when first asked for. The group is at `index`. */
void signal_push_of (lua_State *L, int index);

/* A group is cancelled: abort its own signal. Runs no Lua: listeners become a task. */
void signal_abort_group (struct group *group);

/* Lua: allua.abort_controller (); the metatables' functions. */
int signal_controller (lua_State *L);
void signal_open (lua_State *L, allua *host);

#endif
