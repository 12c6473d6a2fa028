/* Task-local values: which table of them a task sees. */
#ifndef CONTEXT_H
#define CONTEXT_H

#include "group.h"

struct context {
  size_t uses;
  int anchor; /* of the table in SLOT_LIVE */
};

/* One more, one less user; both accept NULL (no values). Never raise. */
struct context *context_keep (struct context *context);
void context_release (allua *host, struct context *context);

/* Lua's allua.with (values, fn, …) and allua.context. */
int context_with (lua_State *L);
int context_index (lua_State *L);

#endif
