/* Who uses the connections of a pool, first come, first served. Statements that stand alone share those that serve,
   whichever thread is free; transactions and cursors have a connection lent, for themselves. */
#ifndef SQLITE_LANE_H
#define SQLITE_LANE_H

#include "sqlite_host.h"

void sqlite_lane_init (struct sqlite_host_pool *pool);

/* A job that is for any, or `lends`: it begins when its turn has come. */
void sqlite_lane_enter (struct sqlite_host_job *job);

/* One that stood alone is done. */
void sqlite_lane_leave (struct sqlite_host_pool *pool);

/* One that waits for its turn does so no more. */
void sqlite_lane_forget (struct sqlite_host_job *job);

/* A connection has come (back); `clean`: see sqlite_thread_serve. */
void sqlite_lane_serve (struct sqlite_host_pool *pool, struct sqlite_host_connection *connection,
                        bool clean);

/* From now on all are refused, those that wait too; this job is settled when what is under way is done. */
void sqlite_lane_close (struct sqlite_host_job *drain);

/* Whether one more statement would have to wait, though there may be more connections. */
static inline bool sqlite_lane_is_short (const struct sqlite_lane *lane) {
  return lane->spare > 0 && lane->shared >= lane->serving;
}

#endif
