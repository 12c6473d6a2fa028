/* The program: command line in, exit status out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "display.h"
#include "program.h"
#include "prompt.h"
#include "watchdog.h"

static const char usage[]
    = "usage: allua [options] [script.lua [arguments]]\n"
      "       allua test [arguments]   run specs with busted, each as a task\n"
      "\n"
      "With no script: a prompt, or, where standard input is not a terminal, the script there.\n"
      "\n"
      "  -e CODE      run CODE (and then the script, if there is one)\n"
      "  -            run standard input\n"
      "  --           end of options\n"
      "  --waterfall  print what ran when, for each outermost group, to standard error\n"
      "  --trace FILE  write what happens to FILE, as Chrome trace events\n"
      "  --report FILE  the same as a page for a browser\n"
      "  --progress   show the tasks under way at the bottom of the terminal\n"
      "  --slow-turn SECONDS   warn of a task that holds the loop longer, with its traceback\n"
      "  --stuck-turn SECONDS  raise an error in it\n"
      "  -h, --help   this text\n"
      "  -v, --version\n"
      "\n"
      "ALLUA_PATH=DIR takes allua's Lua half from DIR/allua instead of the built-in one.\n"
      "ALLUA_WATERFALL=1 is --waterfall, ALLUA_TRACE=FILE is --trace FILE,\n"
      "ALLUA_PROGRESS=1 is --progress.\n"
      "ALLUA_SLOW_TURN and ALLUA_STUCK_TURN are --slow-turn and --stuck-turn.\n";

static void complain (const char *what) {
  fflush (stdout);
  fprintf (stderr, "allua: %s\n", what);
}

/* options.on_slow */
static void on_slow (allua *host, const char *report, void *data) {
  (void)host;
  (void)data;
  complain (report);
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
  bool is_test, is_stdin, has_code, waterfall, progress;
  const char *trace, *report;
  const char *slow_turn, *stuck_turn; /* seconds, as given */
};

/* Call a function with that, before anything runs. False: it failed, and said so. */
static bool prepare (struct program *program, lua_CFunction function, void *data) {
  lua_State *L = program->host->main;
  lua_pushcfunction (L, function);
  lua_pushlightuserdata (L, data);
  if (lua_pcall (L, 1, 0, 0) == LUA_OK)
    return true;
  complain (lua_tostring (L, -1));
  return false;
}

/* Everything the program adds to a plain host. Argument: the command. */
static int add_program (lua_State *L) {
  const struct command *command = lua_touserdata (L, 1);
  int i;
  luaL_getsubtable (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield (L, -1, "allua.core");
  program_register (L);
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

/* Argument: the command. */
static int start_trace (lua_State *L) {
  const struct command *command = lua_touserdata (L, 1);
  lua_getfield (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield (L, -1, "allua");
  lua_getfield (L, -1, "trace");
  lua_getfield (L, -1, "start");
  lua_createtable (L, 0, 2);
  lua_pushstring (L, command->trace);
  lua_setfield (L, -2, "trace");
  lua_pushstring (L, command->report);
  lua_setfield (L, -2, "report");
  lua_call (L, 1, 0);
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

/* Options that are read before anything runs, and whose value follows them. */
static bool takes_value (const char *argument) {
  return strcmp (argument, "--trace") == 0 || strcmp (argument, "--report") == 0
         || strcmp (argument, "--slow-turn") == 0 || strcmp (argument, "--stuck-turn") == 0;
}

static bool is_prompt (const struct command *command) {
  return command->script == command->argc && !command->is_stdin && !command->has_code
         && isatty (STDIN_FILENO);
}

static int run_command (struct program *program, const struct command *command) {
  char **argv = command->argv;
  int i, status = 0;
  for (i = 1; i < command->script && status == 0; i++)
    if (takes_value (argv[i])) {
      i++;
    } else if (strcmp (argv[i], "-e") == 0) {
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
  if (command->has_code)
    return status;
  if (is_prompt (command))
    return run_module (program, "prompt");
  return run (program, NULL, NULL, NULL, 0, NULL);
}

/* Seconds given by an option, or else by the environment; 0: not given. False: it is no such number. */
static bool read_seconds (const char *option, const char *text, const char *variable,
                          double *seconds) {
  char *end;
  if (!text) {
    option = variable;
    text = getenv (variable);
    if (!text || !*text)
      return true;
  }
  *seconds = strtod (text, &end);
  if (end != text && !*end && *seconds > 0 && *seconds < 1e9)
    return true;
  fprintf (stderr, "allua: %s needs a number of seconds, more than 0 (got \"%s\")\n", option, text);
  return false;
}

/* Whether an option that takes no value is given by the environment. */
static bool is_asked (const char *variable) {
  const char *value = getenv (variable);
  return value && strcmp (value, "1") == 0;
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
    if (strcmp (argument, "--waterfall") == 0) {
      command->waterfall = true;
    } else if (strcmp (argument, "--progress") == 0) {
      command->progress = true;
    } else if (strcmp (argument, "--trace") == 0 || strcmp (argument, "--report") == 0) {
      if (++i == argc) {
        fprintf (stderr, "allua: %s needs the name of a file\n%s", argument, usage);
        return STATUS_USAGE;
      }
      *(argument[2] == 't' ? &command->trace : &command->report) = argv[i];
    } else if (strcmp (argument, "--slow-turn") == 0 || strcmp (argument, "--stuck-turn") == 0) {
      const char **turn = argument[3] == 'l' ? &command->slow_turn : &command->stuck_turn;
      *turn = ++i < argc ? argv[i] : "";
    } else if (strcmp (argument, "-e") == 0) {
      if (++i == argc) {
        fprintf (stderr, "allua: -e needs an argument\n%s", usage);
        return STATUS_USAGE;
      }
      command->has_code = true;
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
    program_leave (program);
  if (program->exiting)
    return program->status;
  if (program->interrupted)
    return STATUS_INTERRUPTED;
  return status == 0 && program->reports ? STATUS_ERROR : status;
}

int main (int argc, char **argv) {
  struct program program = { 0 };
  struct command command = { 0 };
  allua_options options
      = { .size = sizeof options, .globals = 1, .on_error = on_report, .on_slow = on_slow };
  double slow = 0, stuck = 0;
  int status = parse (&command, argc, argv);
  if (status >= 0)
    return status;
  mem_keep_some ();
  if (!read_seconds ("--slow-turn", command.slow_turn, "ALLUA_SLOW_TURN", &slow)
      || !read_seconds ("--stuck-turn", command.stuck_turn, "ALLUA_STUCK_TURN", &stuck))
    return STATUS_USAGE;
  if (is_asked ("ALLUA_WATERFALL"))
    command.waterfall = true;
  if (is_asked ("ALLUA_PROGRESS"))
    command.progress = true;
  command.trace = command.trace ? command.trace : getenv ("ALLUA_TRACE");
  if (command.trace && !*command.trace)
    command.trace = NULL;
  options.path = getenv ("ALLUA_PATH");
  if (!program_open (&program, &options) || !watchdog_listen (program.host)
      || !watchdog_start (slow, stuck)) {
    complain ("cannot start: not enough memory");
    return STATUS_ERROR;
  }
  program.host->waterfall = command.waterfall;
  program.host->stress = getenv ("ALLUA_STRESS_GC") != NULL;
  program_listen (&program);
  if (command.trace || command.report)
    unsetenv ("ALLUA_TRACE"); /* a program that this one starts would write to the same file */
  if (is_prompt (&command))
    command.progress = false;
  if (command.progress)
    unsetenv ("ALLUA_PROGRESS"); /* there is one terminal */
  if (!prepare (&program, add_program, &command)
      || ((command.trace || command.report) && !prepare (&program, start_trace, &command))
      || (command.progress && !prepare (&program, display_open, program.host))) {
    program_leave (&program);
    return STATUS_ERROR;
  }
  return finish (&program, run_command (&program, &command));
}
