/* NOLINTNEXTLINE(bugprone-reserved-identifier): the C library's; for sched_getcpu. */
#define _GNU_SOURCE

#include "sqlite_thread.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite_work.h"

/* Not from the host's allocator: that one belongs to the loop's thread. */

enum {
  LATE = 200000,    /* nanoseconds that a job may run before another thread is woken for the next */
  PATIENCE = 20000, /* nanoseconds that a thread looks for work before it sleeps */
  NAP = 100000,     /* nanoseconds that it sleeps at first */
  ENOUGH = 16,      /* jobs to wake one that naps for, where more are about to come */
  PROMPT
  = 50000, /* nanoseconds after which what is done is handed over, while there is more to do */
  MOST_HELD = 16,  /* jobs that are handed over together */
  MOST_TAKEN = 32, /* jobs that a thread takes at once */
  TRIES = 100      /* to lock a mutex, before that sleeps */
};

/* ── shapes and jobs ── */

void sqlite_shape_release (struct sqlite_shape *shape) {
  if (atomic_fetch_sub (&shape->holders, 1) == 1)
    free (shape);
}

static struct sqlite_job *new_block (struct sqlite_pool *pool, size_t size) {
  struct sqlite_job *spare = pool->spare;
  if (size > SQLITE_BLOCK || !spare)
    return malloc (size < SQLITE_BLOCK ? SQLITE_BLOCK : size);
  pool->spare = spare->next;
  pool->spares--;
  return spare;
}

static void free_block (struct sqlite_pool *pool, struct sqlite_job *job) {
  if (job->block > SQLITE_BLOCK || pool->spares == SQLITE_SPARE) {
    free (job);
    return;
  }
  job->next = pool->spare;
  pool->spare = job;
  pool->spares++;
}

struct sqlite_job *sqlite_job_new (struct sqlite_pool *pool, size_t size, enum sqlite_work work,
                                   const char *sql, size_t length, int parameters, size_t bytes) {
  size_t values = (size_t)parameters * sizeof (struct sqlite_value);
  size_t block = size + values + bytes + length + 1;
  struct sqlite_job *job = new_block (pool, block);
  char *text;
  if (!job)
    return NULL;
  memset (job, 0, sizeof *job);
  job->block = block < SQLITE_BLOCK ? SQLITE_BLOCK : block;
  job->parameters = (struct sqlite_value *)((char *)job + size);
  text = (char *)job->parameters + values + bytes;
  memcpy (text, sql, length);
  text[length] = '\0';
  job->sql = text;
  job->bytes = job->room = text + length + 1;
  job->size = job->block - block;
  job->sql_length = length;
  job->pool = pool;
  job->work = work;
  job->parameter_count = parameters;
  job->newer = pool->jobs;
  job->place = &pool->jobs;
  if (job->newer)
    job->newer->place = &job->newer;
  pool->jobs = job;
  return job;
}

void sqlite_job_free (struct sqlite_job *job) {
  *job->place = job->newer;
  if (job->newer)
    job->newer->place = job->place;
  if (job->shape)
    sqlite_shape_release (job->shape);
  free (job->message);
  if (job->bytes != job->room)
    free (job->bytes);
  free_block (job->pool, job);
}

/* ── queues, with the pool's mutex ── */

static void queue_init (struct sqlite_queue *queue) {
  queue->first = NULL;
  queue->end = &queue->first;
  queue->count = 0;
}

static void queue_add (struct sqlite_queue *queue, struct sqlite_job *job) {
  job->next = NULL;
  *queue->end = job;
  queue->end = &job->next;
  queue->count++;
}

static void queue_drop_first (struct sqlite_queue *queue) {
  queue->first = queue->first->next;
  queue->count--;
  if (!queue->first)
    queue->end = &queue->first;
}

/* Not asleep at once: nobody keeps it for long, and to sleep and be woken takes longer. */
static void lock (struct sqlite_pool *pool) {
  int tries;
  for (tries = 0; tries < TRIES; tries++)
    if (uv_mutex_trylock (&pool->mutex) == 0)
      return;
  uv_mutex_lock (&pool->mutex);
}

/* The jobs that the thread does next: one for it alone, or some that are for any. */
static bool take (struct sqlite_connection *connection) {
  struct sqlite_queue *own = &connection->queue, *any = &connection->pool->queue;
  struct sqlite_queue *queue = own->first ? own : any;
  int left = queue == own ? 1 : MOST_TAKEN;
  if (!queue->first || (queue == any && connection->lent))
    return false;
  while (queue->first && left-- > 0) {
    struct sqlite_job *job = queue->first;
    queue_drop_first (queue);
    job->connection = connection;
    queue_add (&connection->taken, job);
  }
  return true;
}

/* What it has taken and not begun is for any again, before all others. */
static void give_back (struct sqlite_connection *connection) {
  struct sqlite_queue *taken = &connection->taken, *queue = &connection->pool->queue;
  struct sqlite_job *job;
  if (!taken->first)
    return;
  for (job = taken->first; job; job = job->next)
    job->connection = NULL;
  atomic_fetch_add (&connection->pool->changes, 1);
  *taken->end = queue->first;
  if (!queue->first)
    queue->end = taken->end;
  queue->first = taken->first;
  queue->count += taken->count;
  queue_init (taken);
}

static void wake (struct sqlite_connection *connection) {
  if (!connection->asleep)
    return;
  connection->asleep = false;
  uv_cond_signal (&connection->wake);
}

/* A thread that sleeps, and may take a job for any; one that naps, if there is one. */
static struct sqlite_connection *find_asleep (struct sqlite_pool *pool) {
  struct sqlite_connection *connection, *found = NULL;
  for (connection = pool->connections; connection; connection = connection->next_in_pool)
    if (connection->asleep && !connection->lent && (!found || connection->naps))
      found = connection;
  return found;
}

/* A job for any has come. While one is awake that will look for it soon, it is left to that one: two threads
   are not faster than one for jobs that are shorter than what it takes to wake another. So it is to one that naps,
   where more are about to come: a thread that is woken for each may run on the core of the loop, before it. */
static void wake_one (struct sqlite_pool *pool, bool more) {
  struct sqlite_connection *connection, *asleep = find_asleep (pool);
  uint64_t now;
  if (!asleep || (asleep->naps && more && pool->queue.count < ENOUGH))
    return;
  now = uv_hrtime ();
  for (connection = pool->connections; connection; connection = connection->next_in_pool) {
    uint64_t began = atomic_load (&connection->began);
    if (!connection->asleep && !connection->lent && (!began || now - began < LATE))
      return;
  }
  wake (asleep);
}

/* ── results ── */

static void hold (struct sqlite_connection *connection, struct sqlite_job *job) {
  job->next = connection->held;
  if (connection->held_count++ == 0)
    connection->held_since = atomic_load (&connection->began);
  connection->held = job;
}

/* None of them is `running` any more: they may be freed at once. */
static void hand_over (struct sqlite_connection *connection) {
  struct sqlite_job *held = connection->held;
  connection->held = NULL;
  connection->held_count = 0;
  if (held)
    connection->done (held);
}

/* ── what the thread asks ── */

void sqlite_thread_set_database (struct sqlite_connection *connection, sqlite3 *database) {
  uv_mutex_lock (&connection->mutex);
  connection->database = database;
  uv_mutex_unlock (&connection->mutex);
}

void sqlite_thread_call_another (struct sqlite_connection *connection) {
  struct sqlite_pool *pool = connection->pool;
  struct sqlite_connection *asleep;
  hand_over (connection);
  lock (pool);
  give_back (connection);
  asleep = pool->queue.first ? find_asleep (pool) : NULL;
  if (asleep)
    wake (asleep);
  uv_mutex_unlock (&pool->mutex);
}

bool sqlite_thread_goes_on (struct sqlite_connection *connection) {
  if (uv_hrtime () - atomic_load (&connection->began) >= LATE)
    sqlite_thread_call_another (connection);
  return !connection->closing && !(connection->running && connection->running->cancelled);
}

/* ── the thread ── */

/* Whether the thread runs where those do that give it work: they stand then, while it runs. */
static bool shares_core (struct sqlite_pool *pool) {
  return sched_getcpu () == pool->core;
}

/* Whether work has come while it was looked for, without sleeping, for a little: to wake a thread takes longer
   than a job. On the core of those that give it work it would only stand in their way. */
static bool look_for_work (struct sqlite_pool *pool) {
  unsigned changes = atomic_load (&pool->changes);
  uint64_t until = uv_hrtime () + PATIENCE;
  bool found = false;
  uv_mutex_unlock (&pool->mutex);
  while (!found && !shares_core (pool) && uv_hrtime () < until)
    found = atomic_load_explicit (&pool->changes, memory_order_relaxed) != changes;
  lock (pool);
  return found || atomic_load (&pool->changes) != changes;
}

/* Whether work has come within a moment. */
static bool nap (struct sqlite_connection *connection) {
  struct sqlite_pool *pool = connection->pool;
  unsigned changes = atomic_load (&pool->changes);
  connection->asleep = connection->naps = true;
  uv_cond_timedwait (&connection->wake, &pool->mutex, NAP);
  connection->asleep = connection->naps = false;
  return atomic_load (&pool->changes) != changes;
}

/* There is nothing to do. Patience is learned: it grows where it was rewarded. One of the pool's has it at a time. */
static void rest (struct sqlite_connection *connection, int *patience) {
  struct sqlite_pool *pool = connection->pool;
  if (*patience > 0 && !pool->resting) {
    bool found;
    pool->resting = true;
    found = look_for_work (pool) || nap (connection);
    pool->resting = false;
    if (found) {
      *patience = 8;
      return;
    }
    --*patience;
  }
  connection->asleep = true;
  while (connection->asleep)
    uv_cond_wait (&connection->wake, &pool->mutex);
  *patience = *patience < 1 ? 1 : *patience;
}

/* The job that runs now, or NULL. */
static void set_running (struct sqlite_connection *connection, struct sqlite_job *job) {
  uv_mutex_lock (&connection->mutex);
  connection->running = job;
  uv_mutex_unlock (&connection->mutex);
  atomic_store (&connection->began, job ? uv_hrtime () : 0);
}

static bool is_time_to_hand_over (const struct sqlite_connection *connection) {
  if (connection->held_count >= MOST_HELD && !shares_core (connection->pool))
    return true;
  return connection->held && connection->began - connection->held_since >= PROMPT;
}

/* Do what was taken. Jobs that were taken together see one snapshot, which begins after the last of them has come:
   that saves SQLite the locks of each. */
static void work (struct sqlite_worker *worker) {
  struct sqlite_connection *connection = worker->connection;
  bool shares = connection->pool->snapshots && connection->taken.first->next;
  if (shares)
    sqlite_work_snapshot (worker, true);
  while (connection->taken.first && !connection->closing) {
    struct sqlite_job *job = connection->taken.first;
    queue_drop_first (&connection->taken);
    set_running (connection, job);
    if (is_time_to_hand_over (connection))
      hand_over (connection);
    sqlite_work (worker, job, !job->cancelled);
    hold (connection, job);
  }
  set_running (connection, NULL);
  hand_over (connection);
  if (shares)
    sqlite_work_snapshot (worker, false);
}

static void run (void *data) {
  struct sqlite_connection *connection = data;
  struct sqlite_pool *pool = connection->pool;
  struct sqlite_worker worker = { .connection = connection, .sqlite = &connection->sqlite };
  int patience = 1;
  lock (pool);
  while (!connection->closing) {
    bool unclean = connection->unclean;
    connection->unclean = false;
    if (!take (connection) && !unclean) {
      rest (connection, &patience);
      continue;
    }
    uv_mutex_unlock (&pool->mutex);
    if (unclean)
      sqlite_work_clean (&worker);
    if (connection->taken.first)
      work (&worker);
    lock (pool);
  }
  give_back (connection);
  uv_mutex_unlock (&pool->mutex);
  sqlite_work_close (&worker);
  connection->ended (connection);
}

/* ── from outside ── */

int sqlite_pool_init (struct sqlite_pool *pool) {
  memset (pool, 0, sizeof *pool);
  queue_init (&pool->queue);
  atomic_init (&pool->core, -1);
  atomic_init (&pool->changes, 0);
  atomic_init (&pool->shapes, 0);
  return uv_mutex_init (&pool->mutex);
}

void sqlite_pool_destroy (struct sqlite_pool *pool) {
  struct sqlite_job *job, *next;
  for (job = pool->jobs; job; job = next) {
    next = job->newer;
    sqlite_job_free (job);
  }
  for (job = pool->spare; job; job = next) {
    next = job->next;
    free (job);
  }
  uv_mutex_destroy (&pool->mutex);
}

int sqlite_thread_start (struct sqlite_connection *connection) {
  struct sqlite_pool *pool = connection->pool;
  int failed = uv_cond_init (&connection->wake);
  if (failed)
    return failed;
  failed = uv_mutex_init (&connection->mutex);
  if (!failed) {
    queue_init (&connection->queue);
    queue_init (&connection->taken);
    connection->lent = true; /* until it has a database */
    failed = uv_thread_create (&connection->thread, run, connection);
    if (failed)
      uv_mutex_destroy (&connection->mutex);
  }
  if (failed) {
    uv_cond_destroy (&connection->wake);
    return failed;
  }
  uv_mutex_lock (&pool->mutex);
  connection->next_in_pool = pool->connections;
  pool->connections = connection;
  uv_mutex_unlock (&pool->mutex);
  return 0;
}

void sqlite_thread_join (struct sqlite_connection *connection) {
  struct sqlite_pool *pool = connection->pool;
  struct sqlite_connection **place = &pool->connections;
  uv_thread_join (&connection->thread);
  uv_mutex_lock (&pool->mutex);
  while (*place != connection)
    place = &(*place)->next_in_pool;
  *place = connection->next_in_pool;
  uv_mutex_unlock (&pool->mutex);
  uv_mutex_destroy (&connection->mutex);
  uv_cond_destroy (&connection->wake);
}

void sqlite_thread_submit (struct sqlite_job *job, bool more) {
  struct sqlite_pool *pool = job->pool;
  pool->core = sched_getcpu ();
  lock (pool);
  if (job->connection) {
    queue_add (&job->connection->queue, job);
    wake (job->connection);
  } else {
    queue_add (&pool->queue, job);
    wake_one (pool, more);
  }
  atomic_fetch_add (&pool->changes, 1);
  uv_mutex_unlock (&pool->mutex);
}

void sqlite_thread_serve (struct sqlite_connection *connection, bool clean) {
  struct sqlite_pool *pool = connection->pool;
  lock (pool);
  connection->lent = false;
  connection->unclean = !clean;
  if (!clean || pool->queue.first)
    wake (connection);
  atomic_fetch_add (&pool->changes, 1);
  uv_mutex_unlock (&pool->mutex);
}

struct sqlite_connection *sqlite_pool_lend (struct sqlite_pool *pool) {
  struct sqlite_connection *connection, *found = NULL;
  lock (pool);
  for (connection = pool->connections; connection; connection = connection->next_in_pool)
    if (!connection->lent && (!found || found->began))
      found = connection;
  if (found)
    found->lent = true;
  uv_mutex_unlock (&pool->mutex);
  return found;
}

static void interrupt (struct sqlite_connection *connection) {
  if (connection->running && connection->database)
    connection->sqlite.interrupt (connection->database);
}

void sqlite_thread_cancel (struct sqlite_job *job) {
  struct sqlite_connection *connection;
  job->cancelled = true;
  lock (job->pool);
  connection = job->connection;
  uv_mutex_unlock (&job->pool->mutex);
  if (!connection)
    return;
  uv_mutex_lock (&connection->mutex);
  if (connection->running == job)
    interrupt (connection);
  uv_mutex_unlock (&connection->mutex);
}

void sqlite_thread_end (struct sqlite_connection *connection) {
  struct sqlite_pool *pool = connection->pool;
  connection->closing = true;
  uv_mutex_lock (&connection->mutex);
  interrupt (connection);
  uv_mutex_unlock (&connection->mutex);
  lock (pool);
  wake (connection);
  atomic_fetch_add (&pool->changes, 1);
  uv_mutex_unlock (&pool->mutex);
}
