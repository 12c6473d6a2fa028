/* The fields of a query, or of a form, as text. */
#ifndef FETCH_FIELDS_H
#define FETCH_FIELDS_H

#include <lua.h>

/* core.fetch_fields (what, fields) → "name=value&…", in the order of the names; lists as they stand. Raises, beginning
   with `what`, for a name or a value that has no text. */
int fetch_fields (lua_State *L);

#endif
