/* What SQLite stores, and how it looks in Lua: parameters out of a table, rows into tables. */
#ifndef SQLITE_VALUE_H
#define SQLITE_VALUE_H

#include <lua.h>

#include "sqlite_thread.h"

/* Add the bytes of the texts and blobs among the `count` values from `index` of the stack on. Returns 0, or the number
   of a parameter that SQLite cannot store. */
int sqlite_value_measure (lua_State *L, int index, int count, size_t *bytes);

/* Raise that. */
int sqlite_value_refuse (lua_State *L, int index, int number);

/* Copy these parameters, which have been measured, into the job. Never raises. */
void sqlite_value_copy (lua_State *L, int index, struct sqlite_job *job);

/* Push the rows of a job, a list of { column → value }, NULL being absent. Their metatable tells their columns. Raises
   where there is no memory. */
void sqlite_value_push_rows (lua_State *L, const struct sqlite_job *job);

/* The same with the first of them, or nil. */
void sqlite_value_push_first (lua_State *L, const struct sqlite_job *job);

/* A pool comes, with the shapes of its rows, or goes; the latter needs no memory. */
void sqlite_value_open (lua_State *L, struct sqlite_pool *pool);
void sqlite_value_close (lua_State *L, struct sqlite_pool *pool);

#endif
