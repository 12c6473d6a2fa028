/* Databases of SQLite's, and threads of which each alone uses one: jobs in, results out. No Lua. */
#ifndef SQLITE_THREAD_H
#define SQLITE_THREAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <sqlite3.h>
#include <uv.h>

/* sqlite.step is sqlite3_step, and so on. */
#define SQLITE_FUNCTIONS(X)                                                                        \
  X (open_v2)                                                                                      \
  X (close_v2)                                                                                     \
  X (errmsg)                                                                                       \
  X (errstr)                                                                                       \
  X (extended_errcode)                                                                             \
  X (extended_result_codes)                                                                        \
  X (busy_handler)                                                                                 \
  X (progress_handler)                                                                             \
  X (interrupt)                                                                                    \
  X (get_autocommit)                                                                               \
  X (changes)                                                                                      \
  X (total_changes)                                                                                \
  X (last_insert_rowid)                                                                            \
  X (exec)                                                                                         \
  X (prepare_v2)                                                                                   \
  X (step)                                                                                         \
  X (reset)                                                                                        \
  X (clear_bindings)                                                                               \
  X (finalize)                                                                                     \
  X (stmt_status)                                                                                  \
  X (column_count)                                                                                 \
  X (column_name)                                                                                  \
  X (column_type)                                                                                  \
  X (column_int64)                                                                                 \
  X (column_double)                                                                                \
  X (column_blob)                                                                                  \
  X (column_bytes)                                                                                 \
  X (bind_parameter_count)                                                                         \
  X (bind_null)                                                                                    \
  X (bind_int64)                                                                                   \
  X (bind_double)                                                                                  \
  X (bind_text)                                                                                    \
  X (bind_blob)

struct sqlite {
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration has none. */
#define SQLITE_FIELD(name) __typeof__ (&sqlite3_##name) name;
  SQLITE_FUNCTIONS (SQLITE_FIELD)
#undef SQLITE_FIELD
};

enum sqlite_kind {
  SQLITE_KIND_NULL,
  SQLITE_KIND_INTEGER,
  SQLITE_KIND_FLOAT,
  SQLITE_KIND_TEXT,
  SQLITE_KIND_BLOB
};

/* A parameter; or, one behind the other in a result, a column of a row. The bytes of a text or a blob follow
   a result's value. */
struct sqlite_value {
  enum sqlite_kind kind;
  union {
    int64_t integer;
    double number;
    size_t length;
  } as;
};

enum sqlite_work {
  SQLITE_OPEN,   /* the database: sql is its path */
  SQLITE_RUN,    /* one statement, all its rows */
  SQLITE_SCRIPT, /* many statements, without parameters and rows */
  SQLITE_START,  /* one statement, whose rows are fetched: one at a time */
  SQLITE_FETCH,  /* up to `limit` of its rows */
  SQLITE_STOP,   /* no more of its rows */
  SQLITE_SHUT    /* the database is closed; nothing comes after it */
};

/* The names of a statement's columns: of all its results, until its tables are others. */
struct sqlite_shape {
  atomic_int holders;
  uint64_t number; /* of all its pool's */
  int columns;
  char names[]; /* each with its NUL */
};

/* Begins what the room that makes the job knows of it. */
struct sqlite_job {
  struct sqlite_job *next;           /* in a queue */
  struct sqlite_job *newer, **place; /* all of the pool's */
  struct sqlite_pool *pool;
  struct sqlite_connection
      *connection; /* that it is for; NULL: any of the pool's, until one takes it */
  enum sqlite_work work;
  const char *sql; /* behind the job, as are the parameters and, behind those, their bytes */
  size_t sql_length;
  size_t block; /* how large it is with all of that */
  struct sqlite_value *parameters;
  int parameter_count;
  int flags;    /* of SQLITE_OPEN, sqlite3's */
  size_t limit; /* of rows */
  atomic_bool cancelled;

  int code;      /* the result: SQLite's extended code, SQLITE_OK where all went well */
  char *message; /* where it did not */
  char *bytes;   /* the values; in `room`, as long as they fit */
  char *room;    /* behind the job: a thread need not ask for memory that another gives back */
  size_t length, size;
  struct sqlite_shape *shape; /* NULL: there are no columns */
  size_t rows;
  bool ended;      /* there are no more rows */
  bool autocommit; /* no transaction is open */
  int64_t changes, last_id;
};

enum {
  SQLITE_BLOCK
  = 1024, /* bytes of most jobs, with all that stands behind them; kept to be used again */
  SQLITE_SPARE = 256 /* such blocks of a pool's at most */
};

struct sqlite_queue {
  struct sqlite_job *first, **end;
  unsigned count;
};

/* Connections of which each may do what is asked of all. */
struct sqlite_pool {
  uv_mutex_t mutex; /* of what follows, and of its connections */
  struct sqlite_queue queue;
  struct sqlite_connection *connections; /* by next_in_pool */
  atomic_uint changes;                   /* of queues: what a thread that rests looks at */
  atomic_ullong shapes;                  /* how many were made */
  bool resting;                          /* one of the threads looks for work, or naps */
  atomic_int core;                       /* that jobs came from */
  bool snapshots; /* jobs for any only read: those that wait together may see the same snapshot */
  /* The loop's thread's. */
  struct sqlite_job *jobs;  /* all that are not freed */
  struct sqlite_job *spare; /* blocks, by `next` */
  unsigned spares;
};

struct sqlite_connection {
  struct sqlite sqlite;
  struct sqlite_pool *pool;
  uint64_t busy_time; /* nanoseconds to wait for others' locks */
  /* Called on the thread: these jobs have their results; by `next`, from the last one to the first. */
  void (*done) (struct sqlite_job *jobs);
  void (*ended) (struct sqlite_connection *); /* called on the thread, last */
  bool is_shut; /* of the room that made the connection; the thread does not look at it */

  uv_thread_t thread;
  uv_cond_t wake;
  atomic_bool closing;
  atomic_ullong began; /* when it began to run what it runs; 0: nothing */
  /* With the pool's mutex: */
  struct sqlite_connection *next_in_pool;
  struct sqlite_queue queue; /* jobs for this one alone; they come first */
  bool asleep;               /* until it is woken … */
  bool naps;                 /* … or a moment has passed */
  bool lent;                 /* takes no job that is for any */
  bool unclean;              /* see sqlite_thread_serve */
  /* The thread's, who changes them with this mutex, so that others may interrupt what runs: */
  uv_mutex_t mutex;
  struct sqlite_job *running;
  sqlite3 *database;
  /* The thread's alone: */
  struct sqlite_queue taken; /* jobs that it does next */
  struct sqlite_job
      *held; /* those that are done, until they are handed over; by `next`, the last one first */
  unsigned held_count;
  uint64_t held_since;
};

int sqlite_pool_init (struct sqlite_pool *pool);

/* Its connections have ended. Frees its jobs. */
void sqlite_pool_destroy (struct sqlite_pool *pool);

/* Start its thread, in its pool. 0, or libuv's error. */
int sqlite_thread_start (struct sqlite_connection *connection);

/* The thread has ended, or is about to: wait for that, and take it out of its pool. */
void sqlite_thread_join (struct sqlite_connection *connection);

/* Any thread: add a job for its connection, or for any of its pool's; its result comes through `done`. `more`: others
   are likely to follow at once. */
void sqlite_thread_submit (struct sqlite_job *job, bool more);

/* Any thread: have it take jobs that are for any, until it is lent. Before that its thread ends what is open still, if
   it is not known to be `clean`: a transaction, rows that are not fetched. */
void sqlite_thread_serve (struct sqlite_connection *connection, bool clean);

/* Any thread: a connection that is not lent, preferably one without work; it is lent now. NULL: there is none. */
struct sqlite_connection *sqlite_pool_lend (struct sqlite_pool *pool);

/* Any thread: a job is not wanted any more; its result comes all the same, soon. */
void sqlite_thread_cancel (struct sqlite_job *job);

/* The thread's own: whether its job is still wanted. Where that takes long nothing else waits for it: what is done
   is handed over, and what is not begun left to other threads. */
bool sqlite_thread_goes_on (struct sqlite_connection *connection);

/* The thread's own: its job may take long, see above. */
void sqlite_thread_call_another (struct sqlite_connection *connection);

/* The thread's own: set the database that is interrupted, or NULL. */
void sqlite_thread_set_database (struct sqlite_connection *connection, sqlite3 *database);

/* Any thread: do not begin another job; close the database and end. What runs is interrupted. */
void sqlite_thread_end (struct sqlite_connection *connection);

/* In the list of its pool's, at the beginning of `size` bytes; the caller fills in what is behind it there, the
   parameters, and the bytes of texts and blobs behind those. NULL: there is no memory. */
struct sqlite_job *sqlite_job_new (struct sqlite_pool *pool, size_t size, enum sqlite_work work,
                                   const char *sql, size_t length, int parameters, size_t bytes);
void sqlite_job_free (struct sqlite_job *job);

/* Any thread: one that holds it holds it no more. */
void sqlite_shape_release (struct sqlite_shape *shape);

#endif
