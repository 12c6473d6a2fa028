/* postgres: the limit of the database benchmark: libpq alone, one connection, one prepared statement, no Lua.
 *
 *   postgres URL read|insert DEPTH COUNT
 *
 * DEPTH: how many statements are under way at once, in a pipeline, each with a sync of its own; 0: none waits
 * behind another, libpq's blocking call. Prints the seconds that it took and the seconds of processor time. */
#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

static PGconn *connection;
static bool reads;

static void check (bool ok) {
  if (ok)
    return;
  fprintf (stderr, "postgres: %s\n", PQerrorMessage (connection));
  exit (EXIT_FAILURE);
}

static int id_of (int n) {
  return reads ? (int)((long)n * 7919 % 10000) + 1 : n % 10000 + 1;
}

static void take (PGresult *result, int n) {
  if (reads)
    check (PQresultStatus (result) == PGRES_TUPLES_OK && PQntuples (result) == 1
           && atoi (PQgetvalue (result, 0, 0)) == id_of (n));
  else
    check (PQresultStatus (result) == PGRES_COMMAND_OK && strcmp (PQcmdTuples (result), "1") == 0);
  PQclear (result);
}

/* The values of the statement's parameters, in static memory. */
static const char *const *values_of (int n) {
  static char id[16];
  static const char *values[2] = { id, "a note of some words" };
  snprintf (id, sizeof id, "%d", id_of (n));
  return values;
}

static void run_one_by_one (int count) {
  int n;
  for (n = 0; n < count; n++)
    take (PQexecPrepared (connection, "it", reads ? 1 : 2, values_of (n), NULL, NULL, 0), n);
}

static void wait_until_readable (void) {
  struct pollfd poll_on = { .fd = PQsocket (connection), .events = POLLIN };
  int left;
  while ((left = PQflush (connection)) == 1) {
    struct pollfd both = { .fd = poll_on.fd, .events = POLLIN | POLLOUT };
    check (poll (&both, 1, -1) > 0);
    if (both.revents & POLLIN)
      check (PQconsumeInput (connection));
  }
  check (left == 0 && poll (&poll_on, 1, -1) > 0 && PQconsumeInput (connection));
}

static void run_pipelined (int count, int depth) {
  int sent = 0, n = 0;
  check (PQsetnonblocking (connection, 1) == 0 && PQenterPipelineMode (connection));
  while (n < count) {
    for (; sent < count && sent - n < depth; sent++)
      check (PQsendQueryPrepared (connection, "it", reads ? 1 : 2, values_of (sent), NULL, NULL, 0)
             && PQpipelineSync (connection));
    wait_until_readable ();
    while (n < sent && !PQisBusy (connection)) {
      PGresult *result = PQgetResult (connection);
      if (!result)
        continue; /* between two statements */
      if (PQresultStatus (result) != PGRES_PIPELINE_SYNC) {
        take (result, n);
        continue;
      }
      PQclear (result);
      n++;
    }
  }
  check (PQexitPipelineMode (connection) && PQsetnonblocking (connection, 0) == 0);
}

static void run (int count, int depth) {
  if (depth)
    run_pipelined (count, depth);
  else
    run_one_by_one (count);
}

int main (int argc, char **argv) {
  struct clock began;
  int depth = argc == 5 ? atoi (argv[3]) : 0, count = argc == 5 ? atoi (argv[4]) : 0;
  PGresult *result;
  reads = count && strcmp (argv[2], "read") == 0;
  connection = PQconnectdb (argc == 5 ? argv[1] : "");
  check (PQstatus (connection) == CONNECTION_OK);
  result = PQprepare (connection, "it",
                      reads ? "SELECT id, name, score FROM item WHERE id = $1"
                            : "INSERT INTO note (item, body) VALUES ($1, $2)",
                      0, NULL);
  check (PQresultStatus (result) == PGRES_COMMAND_OK);
  PQclear (result);
  run (count / 10, depth);
  began = clock_read ();
  run (count, depth);
  clock_print (began);
  PQfinish (connection);
  return EXIT_SUCCESS;
}
