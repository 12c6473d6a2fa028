/* The program's life: how signals and os.exit end it. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "host.h"

enum { STATUS_ERROR = 1, STATUS_USAGE = 2, STATUS_INTERRUPTED = 130 };

/* The signals that a script's libraries may ask for: the others, and these where nobody asks, do what they
   do in any program. */
enum { LISTENED = 2 };

struct program {
  allua *host;
  uv_async_t interrupt;
  bool interrupted; /* by Ctrl-C */
  bool exiting;     /* by os.exit, with this status */
  int status;
  bool left;        /* the host is closed, or will be when its run has ended */
  size_t reports;   /* errors that nobody caught */
  int on_interrupt; /* registry reference of the prompt's handler */
  struct listener {
    uv_signal_t handle;
    bool open;
    int handler;         /* registry reference */
  } listeners[LISTENED]; /* in the order of program.c's list */
};

/* Open its host, which lives as long as it runs something. False: there is no memory. */
bool program_open (struct program *program, allua_options *options);

/* From now on a Ctrl-C is the program's. */
void program_listen (struct program *program);

/* os.exit, core.on_interrupt and core.on_signal; the table of the core is on top of the stack. */
void program_register (lua_State *L);

/* Close the host, now or when the run that this is inside has ended; tasks are unwound first. */
void program_leave (struct program *program);

#endif
