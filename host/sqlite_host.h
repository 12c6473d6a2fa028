/* What the databases of one host share: results that come from their threads to the loop, and the order in which
   all ends. */
#ifndef SQLITE_HOST_H
#define SQLITE_HOST_H

#include "sqlite_thread.h"
#include "state.h"

/* What the pools of one host share, while there are any. Freed in its handle's close callback. */
struct sqlite_host {
  allua *host;
  uv_async_t async;
  struct mem mem;
  struct sqlite sqlite;
  struct sqlite_host_pool *pools;
  size_t under_way;                   /* jobs whose result has not come */
  _Atomic (struct sqlite_job *) done; /* that the threads have handed over, the last one first */
  struct sqlite_queue results;        /* those that the loop has taken from there, in their order */
  uv_mutex_t mutex;
  struct sqlite_host_connection *ended; /* with the mutex; by next_ended */
};

/* Freed when its connections have ended and its userdata is collected. */
struct sqlite_host_pool {
  struct sqlite_pool shared; /* first */
  struct sqlite_host *module;
  struct sqlite_host_pool *next, **previous; /* all of the module's */
  uint64_t busy_time;
  size_t half_pushed;            /* results that are being pushed, or could not be */
  struct sqlite_host_pool **box; /* in the userdata; NULL: collected */
};

struct sqlite_host_connection {
  struct sqlite_connection thread; /* first */
  struct sqlite_host_connection *next_ended;
  struct sqlite_host_connection **box; /* in the userdata; NULL: collected */
};

/* The host's, made where there is none. Raises where SQLite is not there, or no memory. */
struct sqlite_host *sqlite_host_of (lua_State *L);

/* Have a job done. Its promise is resolved with what its rows are in Lua, whether there are no more, how many rows
   were changed, the last id, and whether no transaction is open; or raises a DbError. */
void sqlite_host_submit (struct sqlite_job *job, allua_promise *promise);

/* The thread of a connection calls these when jobs are done, and last of all. */
void sqlite_host_done (struct sqlite_job *jobs);
void sqlite_host_ended (struct sqlite_connection *connection);

/* Free jobs whose values could not be pushed, for lack of memory. */
void sqlite_host_sweep (struct sqlite_host_pool *pool);

/* The thread of the connection has been told to end, or has ended: wait for it, then free the connection. */
void sqlite_host_finish (struct sqlite_host_connection *connection);

/* Free the pool if nobody has it any more. The last one closes what the host's databases share. */
void sqlite_host_release (struct sqlite_host_pool *pool);

/* Interrupt what runs, end every thread and close every database of a host that closes. */
void sqlite_host_close (allua *host);

#endif
