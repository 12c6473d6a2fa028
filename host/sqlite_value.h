/* What SQLite stores, and how it looks in Lua: parameters out of a table, rows into tables. */
#ifndef SQLITE_VALUE_H
#define SQLITE_VALUE_H

#include <lua.h>

#include "sqlite_thread.h"

/* The bytes of the texts and blobs among the `count` parameters in the table at `index`.
   Raises where SQLite cannot store one of them. */
size_t sqlite_value_measure (lua_State *L, int index, lua_Integer count);

/* Copy these parameters, which have been measured, into the job. Never raises. */
void sqlite_value_copy (lua_State *L, int index, struct sqlite_job *job);

/* Push the rows of a job that has a shape, a list of { column → value }, NULL being absent. Their metatable tells
   their columns. Raises where there is no memory. */
void sqlite_value_push (lua_State *L, const struct sqlite_job *job);

/* A pool comes, with the shapes of its rows, or goes; the latter needs no memory. */
void sqlite_value_open (lua_State *L, struct sqlite_pool *pool);
void sqlite_value_close (lua_State *L, struct sqlite_pool *pool);

#endif
