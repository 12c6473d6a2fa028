#include "warn.h"

#include <stdio.h>
#include <string.h>

static void warn (void *ud, const char *message, int to_continue) {
  allua *host = ud;
  if (!host->warn_continues && !to_continue && message[0] == '@') {
    if (strcmp (message, "@on") == 0)
      host->warns = true;
    else if (strcmp (message, "@off") == 0)
      host->warns = false;
    return;
  }
  if (host->warns) {
    if (!host->warn_continues)
      fputs ("Lua warning: ", stderr);
    fputs (message, stderr);
    if (!to_continue)
      fputc ('\n', stderr);
    fflush (stderr);
  }
  host->warn_continues = to_continue;
}

void warn_open (allua *host) {
  lua_setwarnf (host->main, warn, host);
}
