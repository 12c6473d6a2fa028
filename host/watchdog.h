/* Looks after a program's running task: one that holds the loop is told of, then ended; SIGQUIT shows
   what every task does. For the program only: it installs signal handlers. */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include "state.h"

/* Dump every task to standard error at SIGQUIT, and go on. */
bool watchdog_listen (allua *host);

/* Show them as soon as Lua can be asked, and exit; after a second without that, or when called again, exit at
   once. For signal handlers. */
void watchdog_last_words (int status);

/* Warn of a turn longer than `slow` seconds, raise an error in one longer than `stuck`; 0: never. */
bool watchdog_start (double slow, double stuck);

/* No signal looks at the host any more. */
void watchdog_close (void);

#endif
