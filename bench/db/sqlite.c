/* sqlite: the limit of the database benchmark: SQLite alone, one prepared statement, no threads, no Lua.
 *
 *   sqlite PATH read|insert COUNT
 *
 * Prints the seconds that it took and the seconds of processor time. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

static const char body[] = "a note of some words";

static sqlite3 *database;
static sqlite3_stmt *statement;

static void check (int ok) {
  if (ok)
    return;
  fprintf (stderr, "sqlite: %s\n", sqlite3_errmsg (database));
  exit (EXIT_FAILURE);
}

static void read_one (int n) {
  int id = (int)((long)n * 7919 % 10000) + 1;
  check (sqlite3_bind_int (statement, 1, id) == SQLITE_OK);
  check (sqlite3_step (statement) == SQLITE_ROW);
  check (sqlite3_column_int (statement, 0) == id && sqlite3_column_text (statement, 1)
         && sqlite3_column_double (statement, 2) >= 0);
  check (sqlite3_step (statement) == SQLITE_DONE);
  check (sqlite3_reset (statement) == SQLITE_OK);
}

static void insert_one (int n) {
  check (sqlite3_bind_int (statement, 1, n % 10000 + 1) == SQLITE_OK);
  check (sqlite3_bind_text (statement, 2, body, sizeof body - 1, SQLITE_STATIC) == SQLITE_OK);
  check (sqlite3_step (statement) == SQLITE_DONE);
  check (sqlite3_reset (statement) == SQLITE_OK && sqlite3_changes (database) == 1);
}

int main (int argc, char **argv) {
  struct clock began;
  int i, reads = argc == 4 && strcmp (argv[2], "read") == 0, count = argc == 4 ? atoi (argv[3]) : 0;
  const char *sql = reads ? "SELECT id, name, score FROM item WHERE id = ?1"
                          : "INSERT INTO note (item, body) VALUES (?1, ?2)";
  void (*one) (int) = reads ? read_one : insert_one;
  check (sqlite3_open_v2 (argv[1], &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL)
         == SQLITE_OK);
  check (sqlite3_exec (database, "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL", NULL,
                       NULL, NULL)
         == SQLITE_OK);
  check (sqlite3_prepare_v2 (database, sql, -1, &statement, NULL) == SQLITE_OK);
  for (i = 0; i < count / 10; i++)
    one (i);
  began = clock_read ();
  for (i = 0; i < count; i++)
    one (i);
  clock_print (began);
  sqlite3_finalize (statement);
  return sqlite3_close (database);
}
