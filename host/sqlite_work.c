#include "sqlite_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not from the host's allocator: that one belongs to the loop's thread. */

enum {
  PROGRESS = 4000, /* instructions of SQLite's machine between two looks whether to go on */
  QUICK = 100000   /* nanoseconds: what takes less is not worth another thread */
};

/* ── results ── */

static void fail (struct sqlite_job *job, int code, const char *message) {
  job->code = code;
  free (job->message);
  job->message = strdup (message); /* NULL: there is no memory for the words */
}

static void fail_as_sqlite_says (struct sqlite_worker *worker, struct sqlite_job *job) {
  fail (job, worker->sqlite->extended_errcode (worker->connection->database),
        worker->sqlite->errmsg (worker->connection->database));
}

static bool put (struct sqlite_job *job, const void *data, size_t length) {
  if (job->size - job->length < length) {
    size_t size = (job->length + length) * 2 + 256;
    char *bytes = realloc (job->bytes == job->room ? NULL : job->bytes, size);
    if (!bytes) {
      fail (job, SQLITE_NOMEM, "not enough memory");
      return false;
    }
    if (job->bytes == job->room)
      memcpy (bytes, job->room, job->length);
    job->bytes = bytes;
    job->size = size;
  }
  if (length)
    memcpy (job->bytes + job->length, data, length);
  job->length += length;
  return true;
}

/* The names of a statement's columns, made anew where SQLite has prepared it again: its tables are others. */
static bool put_shape (struct sqlite_worker *worker, struct sqlite_job *job,
                       struct sqlite_cached *cached) {
  const struct sqlite *sqlite = worker->sqlite;
  int i, columns,
      prepared = sqlite->stmt_status (cached->statement, SQLITE_STMTSTATUS_REPREPARE, 0);
  size_t length = 0;
  char *at;
  if (cached->shape && cached->prepared != prepared) {
    sqlite_shape_release (cached->shape);
    cached->shape = NULL;
  }
  columns = sqlite->column_count (cached->statement);
  if (!cached->shape) {
    struct sqlite_shape *shape;
    for (i = 0; i < columns; i++) {
      const char *name = sqlite->column_name (cached->statement, i);
      length += name ? strlen (name) + 1 : 1;
    }
    shape = malloc (sizeof *shape + length);
    if (!shape) {
      fail (job, SQLITE_NOMEM, "not enough memory");
      return false;
    }
    atomic_init (&shape->holders, 1);
    shape->number = atomic_fetch_add (&worker->connection->pool->shapes, 1) + 1;
    shape->columns = columns;
    for (i = 0, at = shape->names; i < columns; i++, at += strlen (at) + 1) {
      const char *name = sqlite->column_name (cached->statement, i);
      strcpy (at, name ? name : "");
    }
    cached->shape = shape;
    cached->prepared = prepared;
  }
  job->shape = cached->shape;
  atomic_fetch_add (&job->shape->holders, 1);
  return true;
}

static bool put_row (struct sqlite_worker *worker, struct sqlite_job *job,
                     sqlite3_stmt *statement) {
  const struct sqlite *sqlite = worker->sqlite;
  int i;
  for (i = 0; i < job->shape->columns; i++) {
    struct sqlite_value value;
    const void *data = NULL;
    size_t length = 0;
    memset (&value, 0, sizeof value);
    switch (sqlite->column_type (statement, i)) {
    case SQLITE_INTEGER:
      value.kind = SQLITE_KIND_INTEGER;
      value.as.integer = sqlite->column_int64 (statement, i);
      break;
    case SQLITE_FLOAT:
      value.kind = SQLITE_KIND_FLOAT;
      value.as.number = sqlite->column_double (statement, i);
      break;
    case SQLITE_NULL:
      value.kind = SQLITE_KIND_NULL;
      break;
    default:
      /* A text comes as it is stored, in UTF-8; it may hold NULs. */
      value.kind = SQLITE_KIND_BLOB;
      data = sqlite->column_blob (statement, i);
      length = (size_t)sqlite->column_bytes (statement, i);
      value.as.length = length;
      break;
    }
    if (!put (job, &value, sizeof value) || !put (job, data, length))
      return false;
  }
  job->rows++;
  return true;
}

/* ── statements ── */

static const char *after_space (const char *text) {
  while (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n' || *text == ';')
    text++;
  return text;
}

static bool is_only_comments (const char *text) {
  for (text = after_space (text); *text; text = after_space (text)) {
    const char *end = NULL;
    if (strncmp (text, "--", 2) == 0)
      end = strchr (text, '\n');
    else if (strncmp (text, "/*", 2) == 0) {
      end = strstr (text, "*/");
      end = end ? end + 2 : NULL;
    } else
      return false;
    if (!end)
      return true;
    text = end;
  }
  return true;
}

static void drop (struct sqlite_worker *worker, struct sqlite_cached *cached) {
  worker->sqlite->finalize (cached->statement);
  if (cached->shape)
    sqlite_shape_release (cached->shape);
  free (cached->sql);
  memset (cached, 0, sizeof *cached);
}

/* From the cache, or made and put there in place of the one longest unused. */
static struct sqlite_cached *prepare (struct sqlite_worker *worker, struct sqlite_job *job) {
  const struct sqlite *sqlite = worker->sqlite;
  struct sqlite_cached *oldest = NULL;
  const char *tail;
  sqlite3_stmt *statement;
  int i;
  for (i = 0; i < SQLITE_CACHED; i++) {
    struct sqlite_cached *cached = &worker->cache[i];
    if (cached == worker->cursor)
      continue;
    if (cached->sql && cached->length == job->sql_length
        && memcmp (cached->sql, job->sql, job->sql_length) == 0) {
      cached->used = ++worker->uses;
      return cached;
    }
    if (!oldest || cached->used < oldest->used)
      oldest = cached;
  }
  if (sqlite->prepare_v2 (worker->connection->database, job->sql, (int)job->sql_length + 1,
                          &statement, &tail)
      != SQLITE_OK) {
    fail_as_sqlite_says (worker, job);
    return NULL;
  }
  if (!statement) {
    fail (job, SQLITE_MISUSE, "there is no statement in this SQL");
    return NULL;
  }
  if (!is_only_comments (tail)) {
    sqlite->finalize (statement);
    fail (job, SQLITE_MISUSE, "one statement at a time: a second one begins behind the first");
    return NULL;
  }
  drop (worker, oldest);
  oldest->statement = statement;
  oldest->sql = strdup (job->sql); /* NULL: it is not found again */
  oldest->length = job->sql_length;
  oldest->used = ++worker->uses;
  return oldest;
}

static bool bind_all (struct sqlite_worker *worker, struct sqlite_job *job,
                      sqlite3_stmt *statement) {
  const struct sqlite *sqlite = worker->sqlite;
  const char *bytes = (const char *)(job->parameters + job->parameter_count);
  /* A cursor outlives the job whose parameters it began with. */
  sqlite3_destructor_type keep = job->work == SQLITE_START ? SQLITE_TRANSIENT : SQLITE_STATIC;
  int i, wanted = sqlite->bind_parameter_count (statement);
  if (wanted != job->parameter_count) {
    char message[96];
    snprintf (message, sizeof message, "the statement wants %d parameter%s (got %d)", wanted,
              wanted == 1 ? "" : "s", job->parameter_count);
    fail (job, SQLITE_RANGE, message);
    return false;
  }
  for (i = 0; i < job->parameter_count; i++) {
    const struct sqlite_value *value = &job->parameters[i];
    int code = SQLITE_OK;
    switch (value->kind) {
    case SQLITE_KIND_NULL:
      code = sqlite->bind_null (statement, i + 1);
      break;
    case SQLITE_KIND_INTEGER:
      code = sqlite->bind_int64 (statement, i + 1, value->as.integer);
      break;
    case SQLITE_KIND_FLOAT:
      code = sqlite->bind_double (statement, i + 1, value->as.number);
      break;
    case SQLITE_KIND_TEXT:
      code = sqlite->bind_text (statement, i + 1, bytes, (int)value->as.length, keep);
      bytes += value->as.length;
      break;
    default:
      code = sqlite->bind_blob (statement, i + 1, bytes, (int)value->as.length, keep);
      bytes += value->as.length;
      break;
    }
    if (code != SQLITE_OK) {
      fail_as_sqlite_says (worker, job);
      return false;
    }
  }
  return true;
}

/* The parameters belong to the job, so no statement keeps them behind it. */
static void let_go (struct sqlite_worker *worker, sqlite3_stmt *statement) {
  worker->sqlite->reset (statement);
  worker->sqlite->clear_bindings (statement);
}

/* Up to `limit` rows. */
static void step (struct sqlite_worker *worker, struct sqlite_job *job,
                  struct sqlite_cached *cached, size_t limit) {
  while (job->rows < limit) {
    int code = worker->sqlite->step (cached->statement);
    if (code != SQLITE_ROW) {
      job->ended = true;
      if (code != SQLITE_DONE)
        fail_as_sqlite_says (worker, job);
      return;
    }
    if (!job->shape && !put_shape (worker, job, cached))
      return;
    if (!put_row (worker, job, cached->statement))
      return;
  }
}

static void stop_cursor (struct sqlite_worker *worker) {
  if (worker->cursor)
    let_go (worker, worker->cursor->statement);
  worker->cursor = NULL;
}

/* ── jobs ── */

static void run_statement (struct sqlite_worker *worker, struct sqlite_job *job) {
  const struct sqlite *sqlite = worker->sqlite;
  sqlite3 *database = worker->connection->database;
  struct sqlite_cached *cached = prepare (worker, job);
  int before;
  if (!cached)
    return;
  if (!cached->quick)
    sqlite_thread_call_another (worker->connection);
  before = sqlite->total_changes (database);
  if (bind_all (worker, job, cached->statement))
    step (worker, job, cached, SIZE_MAX);
  let_go (worker, cached->statement);
  job->changes = sqlite->total_changes (database) != before ? sqlite->changes (database) : 0;
  job->last_id = sqlite->last_insert_rowid (database);
  cached->quick = uv_hrtime () - worker->connection->began < QUICK;
}

static void start_cursor (struct sqlite_worker *worker, struct sqlite_job *job) {
  struct sqlite_cached *cached;
  stop_cursor (worker);
  cached = prepare (worker, job);
  if (!cached)
    return;
  if (bind_all (worker, job, cached->statement)) {
    worker->cursor = cached;
    step (worker, job, cached, job->limit);
  }
  if (job->code != SQLITE_OK || job->ended) {
    worker->cursor = NULL;
    let_go (worker, cached->statement);
  }
}

static void fetch (struct sqlite_worker *worker, struct sqlite_job *job) {
  if (!worker->cursor) {
    job->ended = true;
    return;
  }
  step (worker, job, worker->cursor, job->limit);
  if (job->code != SQLITE_OK || job->ended)
    stop_cursor (worker);
}

/* An interrupt that comes before the statement's first step is forgotten by SQLite; this is not. */
static int on_progress (void *data) {
  return !sqlite_thread_goes_on (((struct sqlite_worker *)data)->connection);
}

static int on_busy (void *data, int count) {
  struct sqlite_worker *worker = data;
  struct sqlite_connection *connection = worker->connection;
  if (count == 0)
    worker->busy_since = uv_hrtime ();
  if (!sqlite_thread_goes_on (connection)
      || uv_hrtime () - worker->busy_since >= connection->busy_time)
    return 0;
  uv_sleep (count < 10 ? 1 : count < 50 ? 5 : 20);
  return 1;
}

static void open_database (struct sqlite_worker *worker, struct sqlite_job *job) {
  struct sqlite_connection *connection = worker->connection;
  const struct sqlite *sqlite = worker->sqlite;
  sqlite3 *database = NULL;
  int code = sqlite->open_v2 (job->sql, &database, job->flags | SQLITE_OPEN_NOMUTEX, NULL);
  if (code != SQLITE_OK) {
    fail (job, database ? sqlite->extended_errcode (database) : code,
          database ? sqlite->errmsg (database) : sqlite->errstr (code));
    sqlite->close_v2 (database);
    return;
  }
  sqlite->extended_result_codes (database, 1);
  sqlite->busy_handler (database, on_busy, worker);
  sqlite->progress_handler (database, PROGRESS, on_progress, worker);
  sqlite_thread_set_database (connection, database);
}

void sqlite_work_close (struct sqlite_worker *worker) {
  struct sqlite_connection *connection = worker->connection;
  sqlite3 *database = connection->database;
  int i;
  for (i = 0; i < SQLITE_CACHED; i++)
    drop (worker, &worker->cache[i]);
  worker->cursor = NULL;
  worker->sqlite->finalize (worker->begin);
  worker->sqlite->finalize (worker->commit);
  worker->begin = worker->commit = NULL;
  sqlite_thread_set_database (connection, NULL);
  worker->sqlite->close_v2 (database);
}

static bool is_outside (const struct sqlite_worker *worker) {
  return worker->sqlite->get_autocommit (worker->connection->database) != 0;
}

/* Scripts begin transactions and end them. */
static void run_script (struct sqlite_worker *worker, struct sqlite_job *job) {
  if (worker->sqlite->exec (worker->connection->database, job->sql, NULL, NULL, NULL) != SQLITE_OK)
    fail_as_sqlite_says (worker, job);
  else
    worker->in_transaction = !is_outside (worker);
}

/* Some errors end the whole transaction. What comes then would stand alone, and stay though that has failed. */
static bool is_lost (const struct sqlite_worker *worker, const struct sqlite_job *job) {
  return worker->in_transaction && job->work != SQLITE_FETCH && job->work != SQLITE_STOP
         && is_outside (worker);
}

void sqlite_work (struct sqlite_worker *worker, struct sqlite_job *job, bool wanted) {
  if (!wanted) {
    fail (job, SQLITE_INTERRUPT, "interrupted");
  } else if (job->work == SQLITE_OPEN) {
    open_database (worker, job);
  } else if (job->work == SQLITE_SHUT) {
    sqlite_work_close (worker); /* also where none was opened */
  } else if (!worker->connection->database) {
    fail (job, SQLITE_MISUSE, "the connection is closed");
  } else if (is_lost (worker, job)) {
    fail (job, SQLITE_ABORT_ROLLBACK,
          "an error before this has rolled back the whole transaction: nothing of it is left");
  } else if (job->work == SQLITE_RUN) {
    run_statement (worker, job);
  } else if (job->work == SQLITE_SCRIPT) {
    run_script (worker, job);
  } else if (job->work == SQLITE_START) {
    start_cursor (worker, job);
  } else if (job->work == SQLITE_FETCH) {
    fetch (worker, job);
  } else {
    stop_cursor (worker);
  }
  job->autocommit = !worker->connection->database || is_outside (worker);
}

void sqlite_work_clean (struct sqlite_worker *worker) {
  const struct sqlite *sqlite = worker->sqlite;
  sqlite3 *database = worker->connection->database;
  stop_cursor (worker);
  if (!database)
    return;
  if (!is_outside (worker))
    sqlite->exec (database, "ROLLBACK", NULL, NULL, NULL);
  worker->in_transaction = false;
  sqlite->exec (database, "PRAGMA query_only = OFF", NULL, NULL, NULL);
}

/* A statement without parameters and rows. */
static void control (struct sqlite_worker *worker, sqlite3_stmt **statement, const char *sql) {
  const struct sqlite *sqlite = worker->sqlite;
  if (!*statement)
    sqlite->prepare_v2 (worker->connection->database, sql, -1, statement, NULL);
  if (!*statement)
    return;
  sqlite->step (*statement);
  sqlite->reset (*statement);
}

void sqlite_work_snapshot (struct sqlite_worker *worker, bool begins) {
  /* Where it fails each job is on its own: with a snapshot of its own, and its own error. */
  if (begins)
    control (worker, &worker->begin, "BEGIN");
  else
    control (worker, &worker->commit, "COMMIT");
}
