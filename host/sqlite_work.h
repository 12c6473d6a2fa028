/* What a thread does with its database: statements run, rows put into results. No Lua. */
#ifndef SQLITE_WORK_H
#define SQLITE_WORK_H

#include "sqlite_thread.h"

enum { SQLITE_CACHED = 64 }; /* statements */

struct sqlite_cached {
  char *sql;
  size_t length;
  sqlite3_stmt *statement;
  struct sqlite_shape *shape; /* of its rows, when there has been one */
  int prepared;               /* how often SQLite had prepared it again by then */
  bool quick;                 /* the last time */
  uint64_t used;
};

/* What only the thread knows. */
struct sqlite_worker {
  struct sqlite_connection *connection;
  const struct sqlite *sqlite;
  struct sqlite_cached cache[SQLITE_CACHED];
  uint64_t uses;
  struct sqlite_cached *cursor;
  sqlite3_stmt *begin, *commit; /* of snapshots; NULL until the first */
  uint64_t busy_since;
  bool in_transaction; /* since a script began one: what comes belongs to it, or is refused */
};

/* Do the job; it has its result then. Where it is not wanted any more, the result is that it was interrupted. */
void sqlite_work (struct sqlite_worker *worker, struct sqlite_job *job, bool wanted);

/* End what somebody has left open: rows that are not fetched, a transaction, that nothing may be written. */
void sqlite_work_clean (struct sqlite_worker *worker);

/* Begin a transaction that only reads, or end it. */
void sqlite_work_snapshot (struct sqlite_worker *worker, bool begins);

/* Close the database, if it is open. */
void sqlite_work_close (struct sqlite_worker *worker);

#endif
