/* A connection to PostgreSQL on the loop: libpq's non-blocking calls, requests in, results out. No Lua. */
#ifndef POSTGRES_LINK_H
#define POSTGRES_LINK_H

#include <stdbool.h>

#include <libpq-fe.h>

#include "op.h"

/* pq.getResult is PQgetResult, and so on. */
#define POSTGRES_FUNCTIONS(X)                                                                      \
  X (connectStartParams)                                                                           \
  X (connectPoll)                                                                                  \
  X (conninfoParse)                                                                                \
  X (conninfoFree)                                                                                 \
  X (freemem)                                                                                      \
  X (status)                                                                                       \
  X (transactionStatus)                                                                            \
  X (socket)                                                                                       \
  X (errorMessage)                                                                                 \
  X (finish)                                                                                       \
  X (setnonblocking)                                                                               \
  X (setNoticeReceiver)                                                                            \
  X (consumeInput)                                                                                 \
  X (isBusy)                                                                                       \
  X (getResult)                                                                                    \
  X (flush)                                                                                        \
  X (enterPipelineMode)                                                                            \
  X (exitPipelineMode)                                                                             \
  X (pipelineStatus)                                                                               \
  X (pipelineSync)                                                                                 \
  X (sendQuery)                                                                                    \
  X (sendPrepare)                                                                                  \
  X (sendQueryParams)                                                                              \
  X (sendQueryPrepared)                                                                            \
  X (sendDescribePrepared)                                                                         \
  X (getCancel)                                                                                    \
  X (cancel)                                                                                       \
  X (freeCancel)                                                                                   \
  X (clear)                                                                                        \
  X (resultStatus)                                                                                 \
  X (resultErrorField)                                                                             \
  X (resultErrorMessage)                                                                           \
  X (cmdStatus)                                                                                    \
  X (cmdTuples)                                                                                    \
  X (ntuples)                                                                                      \
  X (nfields)                                                                                      \
  X (fname)                                                                                        \
  X (ftype)                                                                                        \
  X (getvalue)                                                                                     \
  X (getlength)                                                                                    \
  X (getisnull)                                                                                    \
  X (nparams)                                                                                      \
  X (paramtype)

struct postgres {
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration has none. */
#define POSTGRES_FIELD(name) __typeof__ (&PQ##name) name;
  POSTGRES_FUNCTIONS (POSTGRES_FIELD)
#undef POSTGRES_FIELD
};

enum postgres_work {
  POSTGRES_CONNECT,
  POSTGRES_RUN,      /* one statement with its parameters; several are under way at once */
  POSTGRES_DESCRIBE, /* the types of a prepared statement's parameters */
  POSTGRES_SCRIPT    /* many statements, without parameters and rows; alone */
};

/* The code of a request that gave way: it did nothing, and may be sent again. */
#define POSTGRES_GAVE_WAY "gave way"

struct postgres_link;

struct postgres_request {
  struct op op;                            /* first: of the room that made the request */
  struct postgres_request *next;           /* in the queue */
  struct postgres_request *newer, **place; /* all of the connection's */
  struct postgres_link *link;              /* NULL: it is closed */
  const struct postgres *pq;
  void (*clear) (PGresult *); /* PQclear: a request may outlive pq */
  enum postgres_work work;
  char *sql;
  char name[16]; /* of the prepared statement; "": it has none */
  bool prepare;  /* under that name, first */
  int count;     /* of parameters; their arrays, and the SQL, stand behind the request */
  const char **values;
  int *lengths, *formats;
  Oid *types;

  bool
      shared; /* others may be sent behind it, and shall not have to wait long: then it gives way */
  bool sent, cancelled;
  bool evicted;     /* it is to give way: it fails with POSTGRES_GAVE_WAY, or ends before */
  unsigned cancels; /* the connection's when it was sent */
  bool prepared;    /* the statement is known by its name now */

  PGresult *result; /* what came: the first error, else the last result */
  bool failed;
  const char *code; /* where the connection failed, and the message; NULL: result tells */
  char *message;

  /* Of the room that made the request. */
  bool waited_for; /* by a task: `op` is to be settled */
  bool pushed;
};

enum postgres_state { POSTGRES_NEW, POSTGRES_CONNECTING, POSTGRES_READY, POSTGRES_BROKEN };

struct postgres_link {
  const struct postgres *pq;
  uv_loop_t *loop;
  struct mem mem;
  void (*done) (struct postgres_request *); /* it has its result, and is out of the queue */

  enum postgres_state state;
  PGconn *connection;
  struct postgres_watch *watch;
  struct postgres_guard *guard;
  unsigned done_count;                   /* requests that were the first, and are done */
  struct postgres_canceller *canceller;  /* runs */
  struct postgres_request *first, **end; /* the queue: those that are sent stand first */
  struct postgres_request *unsent;       /* the first that is not */
  struct postgres_request *requests;     /* all that are not freed */
  unsigned cancels;                      /* how many cancels were sent */
};

/* Set up: no connection yet. */
void postgres_link_init (struct postgres_link *link, const struct postgres *pq, uv_loop_t *loop,
                         const struct mem *mem);

/* Connect, once; the request, of POSTGRES_CONNECT, is done when that is over. Keywords and values as for
   PQconnectStartParams. */
void postgres_link_connect (struct postgres_link *link, const char *const *keywords,
                            const char *const *values, struct postgres_request *request);

/* Any other request. It may be done before this returns. */
void postgres_link_submit (struct postgres_link *link, struct postgres_request *request);

/* Its result is not wanted any more: it is freed, at once or when the server has given it up. */
void postgres_link_cancel (struct postgres_request *request);

/* Close the connection; requests that are not done fail. The link may be freed after: requests whose results have not
   been taken are in the list of the `loose` then. */
void postgres_link_close (struct postgres_link *link, struct postgres_request **loose);

/* A request in the list of its connection, or NULL: no memory. `bytes` of parameters' values can be put at
   the returned request's values[0] … by the caller through *bytes_at. */
struct postgres_request *postgres_request_new (struct postgres_link *link, enum postgres_work work,
                                               const char *sql, int count, size_t bytes,
                                               char **bytes_at);
void postgres_request_free (struct postgres_request *request);

#endif
