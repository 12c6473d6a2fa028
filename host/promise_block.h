/* The block of a promise that is settled by hand, in Lua or in C: its life, and its values. */
#ifndef PROMISE_BLOCK_H
#define PROMISE_BLOCK_H

#include <stddef.h>

#include "promise.h"

/* Every promise object begins with a pointer to its promise: a struct group (a spawned task), a struct
   view, or a struct by_hand. Where Lua alone has the last, its promise is in the object itself. Else it is in
   a block of its own, shared by the object and, until it has settled it, C: the one that lets go last
   frees it, if need be after the host. */
struct allua_promise {
  struct promise own;
  allua *host; /* NULL: closed */
  struct mem mem;
  int count;   /* of values, in user value 1 of the object: one, or a table of them; or an error */
  bool stored; /* they are there */
  bool inside; /* the object */
  bool collected; /* the object is gone */
  bool from_c;    /* C has still to settle it */
  bool passive;   /* see promise_object_wait_for_others */
  int anchor;     /* of the object, in SLOT_PENDING, while C has it */
  allua_push push;
  void *data;
  char *message; /* of a rejection, until it is stored; NULL: there was no memory for it */
  void (*cancel) (void *data);
  void *cancel_data;
  const char *what; /* it stands for: a string that stays; NULL: not known */
};

struct by_hand {
  struct promise *promise; /* NULL: there was no memory for the block */
  struct allua_promise inside[];
};

static inline bool promise_is_by_hand (const struct promise *promise) {
  return promise->kind == PROMISE_BY_HAND;
}

static inline struct allua_promise *promise_block_of (struct promise *promise) {
  return (struct allua_promise *)((char *)promise - offsetof (struct allua_promise, own));
}

/* The userdata on top of L is a promise object from now on: its metatable, and its place among those that
   are looked at when the host closes. May raise. */
void promise_register (lua_State *L, allua *host);

/* Push a new promise by hand, for Lua alone, or to be shared with C. May raise. */
struct allua_promise *promise_block_push (lua_State *L, allua *host);
struct allua_promise *promise_block_push_shared (lua_State *L, allua *host);

/* Take it out of the host's pending work. */
void promise_block_unanchor (struct allua_promise *promise);

/* C has settled it, or has been told to stop. */
void promise_block_forget_work (struct allua_promise *promise);

/* Forget what C gave and nobody has taken; free the block, too, if its object is gone and C has let go of it. */
void promise_block_forget_data (struct allua_promise *promise);
void promise_block_free_unused (struct allua_promise *promise);

/* Push the values of a settled one, whose object is alone on L, or raise its error. */
int promise_block_push_values (lua_State *L, struct allua_promise *promise);

#endif
