/* Values of Lua's as parameters of PostgreSQL's: numbers and texts as text, db.blob as bytes, nil as NULL. */
#ifndef POSTGRES_PARAMETER_H
#define POSTGRES_PARAMETER_H

#include <lua.h>

#include "postgres_link.h"

/* How many bytes the first `count` items of the table at `index` take. Raises where one cannot be a parameter. */
size_t postgres_parameter_measure (lua_State *L, int index, int count);

/* Make them the request's parameters, of which it has so many; `at`: room for their bytes. */
void postgres_parameter_copy (lua_State *L, int index, struct postgres_request *request, char *at);

#endif
