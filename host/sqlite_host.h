/* What the databases of one host share: results that come from their threads to the loop, and the order in which
   all ends. */
#ifndef SQLITE_HOST_H
#define SQLITE_HOST_H

#include "op.h"
#include "sqlite_thread.h"

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

/* Who uses the connections of a pool, see sqlite_lane.h. */
struct sqlite_lane {
  unsigned serving;                       /* connections that are not lent */
  unsigned shared;                        /* statements under way that stand alone */
  unsigned spare;                         /* connections that may still be opened */
  struct sqlite_host_job *waiting, **end; /* for their turn */
  struct sqlite_host_job *drain;          /* waits until `shared` is 0 */
  bool closed;
};

/* Freed when its connections have ended and its userdata is collected. */
struct sqlite_host_pool {
  struct sqlite_pool shared; /* first */
  struct sqlite_host *module;
  struct sqlite_host_pool *next, **previous; /* all of the module's */
  struct sqlite_lane lane;
  uint64_t busy_time;
  size_t half_pushed;            /* results that are being pushed, or could not be */
  struct sqlite_host_pool **box; /* in the userdata; NULL: collected */
};

struct sqlite_host_connection {
  struct sqlite_connection thread; /* first */
  struct sqlite_host_connection *next_ended;
  struct sqlite_host_connection **box; /* in the userdata; NULL: collected */
};

/* What is made of a result. */
enum sqlite_want {
  SQLITE_WANT_ALL,    /* its rows, whether there are no more, and what SQLITE_WANT_CHANGES says;
                         whether no transaction is open */
  SQLITE_WANT_ROWS,   /* a list */
  SQLITE_WANT_FIRST,  /* the first row, or nil */
  SQLITE_WANT_CHANGES /* how many rows were changed, and the last id */
};

/* Freed when its task has taken what it gave, or does not want that any more and it is done. */
struct sqlite_host_job {
  struct sqlite_job thread; /* first */
  struct op op;
  struct sqlite_host_job *next, **place; /* in its lane's `waiting`; place NULL: not there */
  struct sqlite_connection *lent;        /* what it waited for, if that was one of one's own */
  enum sqlite_want want;
  bool lends;     /* waits for a connection of one's own */
  bool alone;     /* counts in its lane's `shared` */
  bool under_way; /* the thread has it */
  bool forgotten; /* by its task */
  bool refused;   /* the database was closed before its turn came */
  bool pushed;
};

/* The host's, made where there is none. Raises where SQLite is not there, or no memory. */
struct sqlite_host *sqlite_host_of (lua_State *L);

/* A job of the pool's, for that connection, or NULL: for any. Raises where there is no memory. */
struct sqlite_host_job *sqlite_host_job_new (lua_State *L, struct sqlite_host_pool *pool,
                                             struct sqlite_host_connection *connection,
                                             enum sqlite_work work, const char *sql, size_t length,
                                             int parameters, size_t bytes);

/* Have a job done; its operation is settled with that. */
void sqlite_host_submit (struct sqlite_host_job *job);

/* Push what a settled job gave, and free it. Returns how many values; or -1, with an error. Raises where there is no
   memory. */
int sqlite_host_take (lua_State *L, struct sqlite_host_job *job);

/* The thread of a connection calls these when jobs are done, and last of all. */
void sqlite_host_done (struct sqlite_job *jobs);
void sqlite_host_ended (struct sqlite_connection *connection);

/* The thread of the connection has been told to end, or has ended: wait for it, then free the connection. */
void sqlite_host_finish (struct sqlite_host_connection *connection);

/* Free the pool if nobody has it any more. The last one closes what the host's databases share. */
void sqlite_host_release (struct sqlite_host_pool *pool);

/* Interrupt what runs, end every thread and close every database of a host that closes. */
void sqlite_host_close (allua *host);

#endif
