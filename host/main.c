/* The program: command line in, exit status out. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "host.h"
#include "prompt.h"
#include "report.h"
#include "script.h"
#include "task.h"

enum { STATUS_ERROR = 1, STATUS_USAGE = 2, STATUS_INTERRUPTED = 130 };

static const char usage[]
    = "usage: allua [options] [script.lua [arguments]]\n"
      "       allua test [arguments]   run specs with busted, each as a task\n"
      "\n"
      "With no script: a prompt, or, where standard input is not a terminal, the script there.\n"
      "\n"
      "  -e CODE      run CODE (and then the script, if there is one)\n"
      "  -            run standard input\n"
      "  --           end of options\n"
      "  -h, --help   this text\n"
      "  -v, --version\n"
      "\n"
      "ALLUA_PATH=DIR takes allua's Lua half from DIR/allua instead of the built-in one.\n";

struct program {
  allua *host;
  uv_async_t interrupt;
  bool interrupted; /* by Ctrl-C */
  bool exiting;     /* by os.exit, with this status */
  int status;
  bool left;        /* the host is closed, or will be when its run has ended */
  size_t reports;   /* errors that nobody caught */
  int on_interrupt; /* registry reference of the prompt's handler */
};

/* What a signal handler may look at. */
static struct program *volatile signalled;
static volatile sig_atomic_t signals, asked;

/* Call the prompt's handler, once for each Ctrl-C. */
static void call_handler (struct program *program, lua_State *L) {
  if (!asked)
    return;
  asked = 0;
  lua_rawgeti (L, LUA_REGISTRYINDEX, program->on_interrupt);
  if (lua_pcall (L, 0, 0, 0) != LUA_OK)
    lua_pop (L, 1);
}

static void stop_computing (lua_State *L, lua_Debug *info) {
  allua *host = allua_of (L);
  (void)info;
  lua_sethook (L, NULL, 0, 0);
  if (!host || !host->current || host->running != L)
    return;
  if (((struct program *)allua_data (host))->on_interrupt == LUA_NOREF) {
    ((struct program *)allua_data (host))->interrupted = true;
    host_cancel_all (host, SLOT_INTERRUPTED);
  } else
    call_handler (allua_data (host), L);
  host->current->cancelled = true;
  if (task_is_cancelled (host->current)) {
    task_push_cancelled (L, host->current);
    lua_error (L);
  }
}

/* The first Ctrl-C asks; the second does not. */
static void on_sigint (int number) {
  struct program *program = signalled;
  (void)number;
  if (!program || (signals++ && program->on_interrupt == LUA_NOREF))
    _exit (STATUS_INTERRUPTED);
  asked = 1;
  uv_async_send (&program->interrupt);
  if (program->host->running)
    lua_sethook (program->host->running, stop_computing,
                 LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* Close the host, now or when the run that this is inside has ended; tasks are unwound first. */
static void leave (struct program *program) {
  signalled = NULL; /* from now on a Ctrl-C exits at once */
  program->left = true;
  if (!uv_is_closing ((uv_handle_t *)&program->interrupt))
    uv_close ((uv_handle_t *)&program->interrupt, NULL);
  allua_close (program->host);
}

static void on_interrupt (uv_async_t *async) {
  struct program *program = async->data;
  lua_State *L = program->host->main;
  if (program->on_interrupt == LUA_NOREF) {
    program->interrupted = true;
    host_cancel_all (program->host, SLOT_INTERRUPTED);
    leave (program);
    return;
  }
  call_handler (program, L);
}

/* core.on_interrupt (fn): call fn at Ctrl-C, instead of cancelling the root task; nil: no more. */
static int set_on_interrupt (lua_State *L) {
  struct program *program = allua_data (allua_of (L));
  int before = program->on_interrupt;
  lua_settop (L, 1);
  program->on_interrupt = lua_isnil (L, 1) ? LUA_NOREF : luaL_ref (L, LUA_REGISTRYINDEX);
  luaL_unref (L, LUA_REGISTRYINDEX, before);
  return 0;
}

static int never_back (lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return luaL_error (L, "os.exit came back");
}

/* os.exit ([code]): every task is unwound first, its <close> handlers run. */
static int os_exit (lua_State *L) {
  allua *host = allua_of (L);
  struct program *program = allua_data (host);
  if (lua_isboolean (L, 1))
    program->status = lua_toboolean (L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
  else
    program->status = (int)luaL_optinteger (L, 1, EXIT_SUCCESS);
  program->exiting = true;
  if (!host->current || !lua_isyieldable (L) || host->running != L)
    exit (program->status);
  host->stopping = true; /* nothing of the script goes on after this */
  leave (program);
  host->current->stop = true;
  return task_suspend (L, host->current, WAIT_TIMER, NULL, 0, never_back);
}

static void complain (const char *what) {
  fflush (stdout);
  fprintf (stderr, "allua: %s\n", what);
}

static void on_report (allua *host, const char *report, void *data) {
  struct program *program = data;
  (void)host;
  program->reports++;
  complain (report);
}

struct command {
  int argc;
  char **argv;
  int script; /* index of the script's name, or of the first argument after -e; argc: none */
  bool is_test, is_stdin;
};

/* Everything the program adds to a plain host. Arguments: the program, the command. */
static int add_program (lua_State *L) {
  const struct command *command = lua_touserdata (L, 2);
  int i;
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield (L, -1, "allua.core");
  lua_pushcfunction (L, set_on_interrupt);
  lua_setfield (L, -2, "on_interrupt");
  lua_getglobal (L, "os");
  lua_pushcfunction (L, os_exit);
  lua_setfield (L, -2, "exit");
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction (L, prompt_open);
  lua_setfield (L, -2, "allua.line");
  lua_createtable (L, command->argc, command->script + 1);
  for (i = 0; i < command->argc; i++) {
    lua_pushstring (L, command->argv[i]);
    lua_rawseti (L, -2, i - command->script);
  }
  lua_setglobal (L, "arg");
  lua_warning (L, "@on", 0);
  return 0;
}

/* One run; prints its error. When os.exit or Ctrl-C ends it, the host is gone afterwards. */
static int run (struct program *program, const char *path, const char *code, const char *name,
                int argc, char **argv) {
  int status = code ? allua_run_string (program->host, code, name)
                    : allua_run_file (program->host, path, argc, argv);
  if (program->left)
    program->host = NULL;
  if (program->exiting || program->interrupted)
    return STATUS_ERROR;
  if (status == ALLUA_OK)
    return 0;
  complain (allua_error (program->host) ? allua_error (program->host) : "not enough memory");
  return STATUS_ERROR;
}

/* Run a module of the Lua half that gives a function from the arguments to an exit status. */
static int run_module (struct program *program, const char *name) {
  char code[256];
  snprintf (code, sizeof code,
            "local main = require(\"allua.core\").load(\"allua.%s\")\n"
            "local status = main(table.pack(table.unpack(arg, 1)))\n"
            "if math.type(status) == \"integer\" and status ~= 0 then os.exit(status) end",
            name);
  return run (program, NULL, code, "=allua", 0, NULL);
}

static int run_command (struct program *program, const struct command *command) {
  char **argv = command->argv;
  int i, status = 0;
  for (i = 1; i < command->script && status == 0; i++)
    if (strcmp (argv[i], "-e") == 0) {
      status = run (program, NULL, argv[i + 1], "=(command line)", 0, NULL);
      i++;
    }
  if (status != 0)
    return status;
  if (command->is_test)
    return run_module (program, "test");
  if (command->script < command->argc || command->is_stdin) {
    int rest = command->script + 1;
    return run (program, command->is_stdin ? NULL : argv[command->script], NULL, NULL,
                command->argc > rest ? command->argc - rest : 0, argv + rest);
  }
  if (i > 1)
    return status;
  if (isatty (STDIN_FILENO))
    return run_module (program, "prompt");
  return run (program, NULL, NULL, NULL, 0, NULL);
}

/* Returns the exit status to leave with, or -1 to go on. */
static int parse (struct command *command, int argc, char **argv) {
  int i;
  command->argc = argc;
  command->argv = argv;
  for (i = 1; i < argc; i++) {
    const char *argument = argv[i];
    if (argument[0] != '-')
      break;
    if (strcmp (argument, "-") == 0) {
      command->is_stdin = true;
      break;
    }
    if (strcmp (argument, "--") == 0) {
      i++;
      break;
    }
    if (strcmp (argument, "-e") == 0) {
      if (++i == argc) {
        fprintf (stderr, "allua: -e needs an argument\n%s", usage);
        return STATUS_USAGE;
      }
    } else if (strcmp (argument, "-h") == 0 || strcmp (argument, "--help") == 0) {
      fputs (usage, stdout);
      return EXIT_SUCCESS;
    } else if (strcmp (argument, "-v") == 0 || strcmp (argument, "--version") == 0) {
      printf ("allua %s (%s, libuv %s)\n", ALLUA_VERSION, LUA_RELEASE, uv_version_string ());
      return EXIT_SUCCESS;
    } else {
      fprintf (stderr, "allua: unknown option %s\n%s", argument, usage);
      return STATUS_USAGE;
    }
  }
  command->script = i;
  command->is_test = i == 1 && i < argc && strcmp (argv[i], "test") == 0;
  return -1;
}

/* The script has ended: wait for what it left active, then close. */
static int finish (struct program *program, int status) {
  if (program->host && status == 0 && host_finish (program->host) != ALLUA_OK) {
    complain (allua_error (program->host));
    status = STATUS_ERROR;
  }
  if (program->host)
    leave (program);
  if (program->exiting)
    return program->status;
  if (program->interrupted)
    return STATUS_INTERRUPTED;
  return status == 0 && program->reports ? STATUS_ERROR : status;
}

int main (int argc, char **argv) {
  struct program program = { .on_interrupt = LUA_NOREF };
  struct command command = { 0 };
  struct sigaction action;
  allua_options options = { .size = sizeof options, .globals = 1, .on_error = on_report };
  int status = parse (&command, argc, argv);
  if (status >= 0)
    return status;
  options.path = getenv ("ALLUA_PATH");
  options.data = &program;
  program.host = allua_open (&options);
  if (!program.host
      || uv_async_init (allua_loop (program.host), &program.interrupt, on_interrupt) != 0) {
    complain ("cannot start: not enough memory");
    return STATUS_ERROR;
  }
  uv_unref ((uv_handle_t *)&program.interrupt);
  program.interrupt.data = &program;
  program.host->stress = getenv ("ALLUA_STRESS_GC") != NULL;
  signalled = &program;
  memset (&action, 0, sizeof action);
  action.sa_handler = on_sigint;
  sigaction (SIGINT, &action, NULL);
  lua_pushcfunction (program.host->main, add_program);
  lua_pushlightuserdata (program.host->main, &program);
  lua_pushlightuserdata (program.host->main, &command);
  if (lua_pcall (program.host->main, 2, 0, 0) != LUA_OK) {
    complain (lua_tostring (program.host->main, -1));
    leave (&program);
    return STATUS_ERROR;
  }
  return finish (&program, run_command (&program, &command));
}
