#include "postgres_link.h"

#include <stdlib.h>
#include <string.h>

/* A poll handle is made for each socket, and for each step of connecting: libpq may close one socket and open
   another with the same number, which libuv would take for the old one. */
struct postgres_watch {
  uv_poll_t poll; /* first */
  struct postgres_link *link;
  int events; /* that it waits for */
  struct mem mem;
};

/* Asks the server to cancel. libpq's call blocks, so a thread makes it; it may outlive the connection. */
struct postgres_canceller {
  uv_work_t work;             /* first */
  struct postgres_link *link; /* NULL: closed */
  PGcancel *cancel;
  __typeof__ (&PQcancel) send;
  __typeof__ (&PQfreeCancel) free;
  unsigned delay; /* milliseconds */
  struct mem mem;
};

/* Looks, ten times a second, whether the first request keeps others waiting. */
struct postgres_guard {
  uv_timer_t timer; /* first */
  struct postgres_link *link;
  unsigned done_count; /* the link's, when it looked last */
  struct mem mem;
};

enum { GUARD = 100 }; /* milliseconds between two looks */

static void dispatch (struct postgres_link *link);
static void start_cancel (struct postgres_link *link, unsigned delay);

/* ── requests ── */

static void enter (struct postgres_request **list, struct postgres_request *request) {
  request->newer = *list;
  request->place = list;
  if (request->newer)
    request->newer->place = &request->newer;
  *list = request;
}

static void leave (struct postgres_request *request) {
  if (!request->place)
    return;
  *request->place = request->newer;
  if (request->newer)
    request->newer->place = request->place;
  request->place = NULL;
}

struct postgres_request *postgres_request_new (struct postgres_link *link, enum postgres_work work,
                                               const char *sql, int count, size_t bytes,
                                               char **bytes_at) {
  size_t arrays = (size_t)count * (sizeof (char *) + 2 * sizeof (int) + sizeof (Oid));
  size_t length = strlen (sql) + 1;
  struct postgres_request *request = malloc (sizeof *request + arrays + length + bytes);
  if (!request)
    return NULL;
  memset (request, 0, sizeof *request + arrays);
  enter (&link->requests, request);
  request->link = link;
  request->pq = link->pq;
  request->clear = link->pq->clear;
  request->work = work;
  request->count = count;
  request->values = (const char **)(request + 1);
  request->lengths = (int *)(request->values + count);
  request->formats = request->lengths + count;
  request->types = (Oid *)(request->formats + count);
  request->sql = (char *)(request->types + count);
  memcpy (request->sql, sql, length);
  if (bytes_at)
    *bytes_at = request->sql + length;
  return request;
}

void postgres_request_free (struct postgres_request *request) {
  leave (request);
  request->clear (request->result); /* or NULL */
  free (request->message);
  free (request);
}

static void add (struct postgres_link *link, struct postgres_request *request) {
  request->next = NULL;
  *link->end = request;
  link->end = &request->next;
  if (!link->unsent)
    link->unsent = request;
}

static void take_out (struct postgres_link *link, struct postgres_request *request) {
  struct postgres_request **place = &link->first;
  if (*place == request)
    link->done_count++;
  while (*place != request)
    place = &(*place)->next;
  *place = request->next;
  if (link->end == &request->next)
    link->end = place;
  if (link->unsent == request)
    link->unsent = request->next;
}

static void complete (struct postgres_link *link, struct postgres_request *request) {
  take_out (link, request);
  if (request->cancelled)
    postgres_request_free (request);
  else
    link->done (request);
}

static void fail (struct postgres_request *request, const char *code, const char *message) {
  if (request->failed)
    return;
  request->failed = true;
  request->code = code;
  request->message = strdup (message);
}

/* ── the socket ── */

static void on_watch_closed (uv_handle_t *handle) {
  struct postgres_watch *watch = (struct postgres_watch *)handle;
  struct mem mem = watch->mem;
  mem_resize (&mem, watch, sizeof *watch, 0);
}

static void close_watch (struct postgres_link *link) {
  struct postgres_watch *watch = link->watch;
  if (!watch)
    return;
  link->watch = NULL;
  watch->link = NULL;
  uv_close ((uv_handle_t *)&watch->poll, on_watch_closed);
}

/* ── the guard ── */

/* Its result is not waited for any more, or not here. */
static bool is_unwanted (const struct postgres_request *request) {
  return request && request->sent && (request->cancelled || request->evicted);
}

static void on_guard_closed (uv_handle_t *handle) {
  struct postgres_guard *guard = (struct postgres_guard *)handle;
  struct mem mem = guard->mem;
  mem_resize (&mem, guard, sizeof *guard, 0);
}

static void close_guard (struct postgres_link *link) {
  if (link->guard)
    uv_close ((uv_handle_t *)&link->guard->timer, on_guard_closed);
  link->guard = NULL;
}

static void on_guard (uv_timer_t *timer) {
  struct postgres_guard *guard = (struct postgres_guard *)timer;
  struct postgres_link *link = guard->link;
  struct postgres_request *first = link->first;
  bool same = guard->done_count == link->done_count;
  guard->done_count = link->done_count;
  if (!first) {
    uv_timer_stop (timer);
  } else if (same && first->shared && first->next && first->sent && !is_unwanted (first)) {
    first->evicted = true;
    start_cancel (link, 0);
  }
}

/* Others wait behind the first. Where there is no memory for the guard, they wait as long as it takes. */
static void set_guard (struct postgres_link *link) {
  struct postgres_guard *guard = link->guard;
  if (!guard) {
    guard = mem_resize (&link->mem, NULL, 0, sizeof *guard);
    if (!guard)
      return;
    uv_timer_init (link->loop, &guard->timer);
    uv_unref ((uv_handle_t *)&guard->timer);
    guard->link = link;
    guard->mem = link->mem;
    link->guard = guard;
  }
  if (!uv_is_active ((uv_handle_t *)&guard->timer)) {
    guard->done_count = link->done_count;
    uv_timer_start (&guard->timer, on_guard, GUARD, GUARD);
  }
}

/* The connection cannot be used any more: so say all its requests. */
static void break_off (struct postgres_link *link, const char *code, const char *message) {
  close_watch (link);
  close_guard (link);
  link->state = POSTGRES_BROKEN;
  link->unsent = NULL;
  while (link->first) {
    fail (link->first, code, message);
    complete (link, link->first);
  }
}

static void lose (struct postgres_link *link) {
  const char *message
      = link->connection ? link->pq->errorMessage (link->connection) : "out of memory";
  break_off (link, "08006", *message ? message : "the connection to the server was lost");
}

static void on_poll (uv_poll_t *poll, int status, int events);

static bool watch_for (struct postgres_link *link, int events) {
  struct postgres_watch *watch = link->watch;
  if (!watch) {
    watch = mem_resize (&link->mem, NULL, 0, sizeof *watch);
    if (!watch)
      return false;
    if (uv_poll_init (link->loop, &watch->poll, link->pq->socket (link->connection)) != 0) {
      mem_resize (&link->mem, watch, sizeof *watch, 0);
      return false;
    }
    watch->link = link;
    watch->events = 0;
    watch->mem = link->mem;
    link->watch = watch;
  }
  if (watch->events == events)
    return true;
  watch->events = events;
  return uv_poll_start (&watch->poll, events, on_poll) == 0;
}

/* A connection that waits for nothing does not keep the loop alive. */
static void count_requests (struct postgres_link *link) {
  if (!link->watch)
    return;
  if (link->first)
    uv_ref ((uv_handle_t *)&link->watch->poll);
  else
    uv_unref ((uv_handle_t *)&link->watch->poll);
}

static void flush (struct postgres_link *link) {
  int left = link->pq->flush (link->connection);
  if (left < 0 || !watch_for (link, left ? UV_READABLE | UV_WRITABLE : UV_READABLE))
    lose (link);
}

/* ── connecting ── */

static void ignore_notice (void *arg, const PGresult *result) {
  (void)arg;
  (void)result;
}

static void go_on_connecting (struct postgres_link *link, PostgresPollingStatusType status) {
  if (status == PGRES_POLLING_OK) {
    link->state = POSTGRES_READY;
    link->pq->setnonblocking (link->connection, 1);
    if (!watch_for (link, UV_READABLE)) {
      lose (link);
      return;
    }
    complete (link, link->first);
    count_requests (link);
  } else if (status == PGRES_POLLING_FAILED
             || !watch_for (link, status == PGRES_POLLING_READING ? UV_READABLE : UV_WRITABLE)) {
    break_off (link, "08001", link->pq->errorMessage (link->connection));
  }
}

void postgres_link_connect (struct postgres_link *link, const char *const *keywords,
                            const char *const *values, struct postgres_request *request) {
  request->sent = true;
  add (link, request);
  link->unsent = NULL;
  link->state = POSTGRES_CONNECTING;
  link->connection = link->pq->connectStartParams (keywords, values, 0);
  if (!link->connection) {
    break_off (link, "53200", "out of memory");
    return;
  }
  link->pq->setNoticeReceiver (link->connection, ignore_notice, NULL); /* else they are printed */
  go_on_connecting (link, link->pq->status (link->connection) == CONNECTION_BAD
                              ? PGRES_POLLING_FAILED
                              : PGRES_POLLING_WRITING);
}

/* ── sending ── */

static bool send_statement (struct postgres_link *link, struct postgres_request *request) {
  const struct postgres *pq = link->pq;
  PGconn *connection = link->connection;
  if (request->prepare
      && !pq->sendPrepare (connection, request->name, request->sql, request->count, request->types))
    return false;
  if (request->work == POSTGRES_DESCRIBE) {
    if (!pq->sendDescribePrepared (connection, request->name))
      return false;
  } else if (*request->name) {
    if (!pq->sendQueryPrepared (connection, request->name, request->count, request->values,
                                request->lengths, request->formats, 0))
      return false;
  } else if (!pq->sendQueryParams (connection, request->sql, request->count, request->types,
                                   request->values, request->lengths, request->formats, 0)) {
    return false;
  }
  return pq->pipelineSync (connection) == 1;
}

static bool send_request (struct postgres_link *link, struct postgres_request *request) {
  const struct postgres *pq = link->pq;
  request->cancels = link->cancels;
  request->sent = true;
  if (request->work != POSTGRES_SCRIPT)
    return pq->enterPipelineMode (link->connection) && send_statement (link, request);
  return pq->exitPipelineMode (link->connection) && pq->sendQuery (link->connection, request->sql);
}

/* Send what may be sent: a script alone, statements one behind the other. While the server is asked to cancel,
   nothing: it might hit the next. */
static void dispatch (struct postgres_link *link) {
  bool any = false;
  while (link->state == POSTGRES_READY && link->unsent && !link->canceller) {
    struct postgres_request *request = link->unsent, *first = link->first;
    if (first && first != request
        && (request->work == POSTGRES_SCRIPT || first->work == POSTGRES_SCRIPT))
      break;
    if (!send_request (link, request)) {
      lose (link);
      return;
    }
    link->unsent = request->next;
    any = true;
  }
  if (any)
    flush (link);
  if (link->first && link->first->shared && link->first->next)
    set_guard (link);
  count_requests (link);
}

void postgres_link_submit (struct postgres_link *link, struct postgres_request *request) {
  add (link, request);
  if (link->state == POSTGRES_READY) {
    dispatch (link);
    return;
  }
  link->unsent = NULL;
  fail (request, "08003", "this connection is closed");
  complete (link, request);
}

/* ── receiving ── */

static bool is_error (ExecStatusType status) {
  return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE
         || status == PGRES_NONFATAL_ERROR;
}

static void keep (struct postgres_link *link, struct postgres_request *request, PGresult *result) {
  const struct postgres *pq = link->pq;
  ExecStatusType status = pq->resultStatus (result);
  if (request->failed || status == PGRES_PIPELINE_ABORTED) {
    pq->clear (result);
    return;
  }
  if (request->prepare && !request->prepared && !is_error (status)) {
    request->prepared = true; /* the answer to that, not to the statement */
    pq->clear (result);
    return;
  }
  pq->clear (request->result);
  request->result = result;
  request->failed = is_error (status);
}

/* The server says that a cancel has hit it: it did nothing. */
static bool was_hit (const struct postgres_link *link, const struct postgres_request *request) {
  const char *code = request->failed && request->result
                         ? link->pq->resultErrorField (request->result, PG_DIAG_SQLSTATE)
                         : NULL;
  return code && strcmp (code, "57014") == 0;
}

/* By a cancel that was meant for another: it is sent once more. */
static bool is_victim (const struct postgres_link *link, const struct postgres_request *request) {
  return !request->cancelled && !request->evicted && request->cancels != link->cancels
         && was_hit (link, request);
}

static void end_first (struct postgres_link *link) {
  struct postgres_request *request = link->first;
  if (is_victim (link, request)) {
    take_out (link, request);
    link->pq->clear (request->result);
    request->result = NULL;
    request->failed = false;
    request->sent = false;
    request->prepare = request->prepare && !request->prepared;
    add (link, request);
  } else {
    if (request->evicted && was_hit (link, request))
      request->code = POSTGRES_GAVE_WAY;
    complete (link, request);
  }
  if (link->state == POSTGRES_READY && is_unwanted (link->first))
    start_cancel (link, 0);
}

/* Whether the first request's results are not all there yet, or there are more to take. */
static bool take_result (struct postgres_link *link) {
  struct postgres_request *request = link->first;
  PGresult *result = link->pq->getResult (link->connection);
  ExecStatusType status;
  if (!result && link->pq->status (link->connection) == CONNECTION_BAD) {
    lose (link);
    return false;
  }
  if (!result) {
    if (request->work == POSTGRES_SCRIPT)
      end_first (link);
    return true;
  }
  status = link->pq->resultStatus (result);
  if (status == PGRES_PIPELINE_SYNC) {
    link->pq->clear (result);
    end_first (link);
  } else if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
    link->pq->clear (result);
    break_off (link, "0A000", "COPY from and to the client is not supported");
    return false;
  } else {
    keep (link, request, result);
  }
  return true;
}

static void take_results (struct postgres_link *link) {
  while (link->state == POSTGRES_READY && link->first && link->first->sent
         && !link->pq->isBusy (link->connection))
    if (!take_result (link))
      return;
  if (link->state != POSTGRES_READY)
    return;
  if (!link->first)
    link->pq->isBusy (link->connection); /* reads what the server says unasked */
  if (link->pq->status (link->connection) == CONNECTION_BAD)
    lose (link);
  else
    dispatch (link);
}

static void on_poll (uv_poll_t *poll, int status, int events) {
  struct postgres_watch *watch = (struct postgres_watch *)poll;
  struct postgres_link *link = watch->link;
  if (link->state == POSTGRES_CONNECTING) {
    close_watch (link);
    go_on_connecting (link, link->pq->connectPoll (link->connection));
    return;
  }
  if ((status < 0 || events & UV_READABLE) && !link->pq->consumeInput (link->connection)) {
    take_results (link); /* what came before the end; then the connection is known to be lost */
    if (link->state == POSTGRES_READY)
      lose (link);
    return;
  }
  if (events & UV_WRITABLE)
    flush (link);
  if (link->state == POSTGRES_READY)
    take_results (link);
  /* At an error libuv stops the handle, though there may be more to read. */
  if (status < 0 && link->watch == watch) {
    watch->events = 0;
    flush (link);
  }
}

/* ── cancelling ── */

static void run_cancel (uv_work_t *work) {
  struct postgres_canceller *canceller = (struct postgres_canceller *)work;
  char message[256];
  if (canceller->delay)
    uv_sleep (canceller->delay);
  /* Where it fails the request runs to its end, or the next attempt succeeds. */
  canceller->send (canceller->cancel, message, sizeof message);
}

static void on_cancel_sent (uv_work_t *work, int status) {
  struct postgres_canceller *canceller = (struct postgres_canceller *)work;
  struct postgres_link *link = canceller->link;
  unsigned delay = canceller->delay;
  struct mem mem = canceller->mem;
  (void)status;
  canceller->free (canceller->cancel);
  mem_resize (&mem, canceller, sizeof *canceller, 0);
  if (!link)
    return;
  link->canceller = NULL;
  /* The server takes no notice of a cancel that comes before the statement. */
  if (is_unwanted (link->first))
    start_cancel (link, delay < 500 ? delay * 2 + 20 : 1000);
  else
    dispatch (link);
}

static void start_cancel (struct postgres_link *link, unsigned delay) {
  struct postgres_canceller *canceller;
  PGcancel *cancel;
  if (link->canceller || link->state != POSTGRES_READY)
    return;
  cancel = link->pq->getCancel (link->connection);
  canceller = cancel ? mem_resize (&link->mem, NULL, 0, sizeof *canceller) : NULL;
  if (!canceller) {
    link->pq->freeCancel (cancel); /* or NULL */
    break_off (link, "53200", "out of memory");
    return;
  }
  memset (canceller, 0, sizeof *canceller);
  canceller->link = link;
  canceller->send = link->pq->cancel;
  canceller->free = link->pq->freeCancel;
  canceller->cancel = cancel;
  canceller->delay = delay;
  canceller->mem = link->mem;
  link->cancels++;
  link->canceller = canceller;
  uv_queue_work (link->loop, &canceller->work, run_cancel, on_cancel_sent);
}

void postgres_link_cancel (struct postgres_request *request) {
  struct postgres_link *link = request->link;
  if (!request->sent) {
    take_out (link, request);
    postgres_request_free (request);
    count_requests (link);
    return;
  }
  request->cancelled = true;
  if (request->work == POSTGRES_CONNECT)
    break_off (link, "08001", "cancelled");
  else if (link->first == request)
    start_cancel (link, 0);
}

/* ── the whole ── */

void postgres_link_init (struct postgres_link *link, const struct postgres *pq, uv_loop_t *loop,
                         const struct mem *mem) {
  memset (link, 0, sizeof *link);
  link->pq = pq;
  link->loop = loop;
  link->mem = *mem;
  link->end = &link->first;
}

void postgres_link_close (struct postgres_link *link, struct postgres_request **loose) {
  struct postgres_request *request, *next;
  break_off (link, "08003", "this connection is closed");
  if (link->canceller)
    link->canceller->link = NULL;
  link->canceller = NULL;
  for (request = link->requests; request; request = next) {
    next = request->newer;
    request->link = NULL;
    if (request->pushed) {
      postgres_request_free (request);
      continue;
    }
    leave (request);
    enter (loose, request);
  }
  if (link->connection)
    link->pq->finish (link->connection);
  link->connection = NULL;
}
