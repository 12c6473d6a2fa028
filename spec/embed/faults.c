/* Fails every allocation in turn while a script that uses every part of allua runs:
 *
 *   faults [FAULTS.lua]
 *   faults FAULTS.lua MODE POINT    one run, in this process: for a debugger
 *
 * For n = 1, 2, 3, ... a host is opened on an allocator that fails from its n-th call on: once,
 * twice (Lua asks a second time, after a collection) or for good. A script that has loaded what is
 * not its matter calls from_here (): its calls are counted from there. The script is run and the host is
 * closed. Each run must end, in success or in an error, give all memory back and leave a loop that
 * closes; none may crash. The points end with the first run that makes fewer than n calls. */
#include "counting.h"
#include "sensor.h"
#include <limits.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { RUN_SECONDS = 30, MOST_CRASHES = 10, MOST_LINES = 20 };

static const struct mode {
  const char *name;
  long width; /* how many calls fail, from the n-th on */
} modes[] = { { "one allocation fails", 1 },
              { "an allocation and its second try fail", 2 },
              { "all allocations fail from one on", LONG_MAX / 2 } };

enum { MODES = sizeof modes / sizeof modes[0] };

/* For the leak sanitizer, where there is one: luv loses the block of a new handle when Lua has no
 * memory for the userdata that should own it. */
const char *__lsan_default_suppressions (void);
const char *__lsan_default_suppressions (void) {
  return "leak:lua5.4-luv";
}

/* Shared with the processes that do the runs, so that a crash or a hang is known by its point. */
struct progress {
  long point;   /* the run under way, or the next one           */
  long runs;    /* runs that ended                              */
  long errors;  /* of them: runs that ended in an error         */
  long bad;     /* of them: runs that leaked, say               */
  long crashes; /* runs that did not end                        */
  int finished; /* the last run made fewer calls than its point */
};

static void on_report (allua *host, const char *report, void *data) {
  (void)host, (void)report, (void)data;
}

/* Where the script called from_here: once, when all of it ran for the first time, that it does; then
 * the calls of the run under way begin to be counted. */
static struct {
  struct counting *counting;
  long fail, fail_end;
  int called;
} begin;

static int from_here (lua_State *L) {
  (void)L;
  begin.called = 1;
  begin.counting->calls = 0;
  begin.counting->fail = begin.fail;
  begin.counting->fail_end = begin.fail_end;
  return 0;
}

static int register_functions (lua_State *L) {
  sensor_register (allua_of (L));
  lua_register (L, "from_here", from_here);
  return 0;
}

/* What a program would do, with a host whose memory may end at any call. */
static int use (allua *host, const char *script) {
  lua_State *L = allua_state (host);
  lua_pushcfunction (L, register_functions);
  if (lua_pcall (L, 0, 0, 0) != LUA_OK) {
    lua_pop (L, 1);
    return ALLUA_MEMORY;
  }
  return allua_run_file (host, script, 0, NULL);
}

/* One run. Returns whether the allocator came to its failing. */
static int run (const char *script, const struct mode *mode, struct progress *progress) {
  struct counting counting = { 0 };
  uv_loop_t *loop = malloc (sizeof *loop);
  if (!loop)
    abort ();
  alarm (RUN_SECONDS);
  begin.counting = &counting;
  begin.fail = progress->point;
  begin.fail_end = progress->point + mode->width;
  if (!begin.called) {
    counting.fail = begin.fail;
    counting.fail_end = begin.fail_end;
  }
  memset (&sensors, 0, sizeof sensors);
  uv_loop_init (loop);
  allua *host = allua_open (&(allua_options){ .size = sizeof (allua_options),
                                              .loop = loop,
                                              .alloc = counting_alloc,
                                              .alloc_data = &counting,
                                              .on_error = on_report });
  int status = host ? use (host, script) : ALLUA_MEMORY;
  allua_close (host);
  uv_run (loop, UV_RUN_DEFAULT);
  int loop_status = uv_loop_close (loop);
  if (loop_status == 0)
    free (loop); /* else libuv may still know of it */
  int lost = sensors.started - sensors.pushed - sensors.dropped - sensors.cancelled;
  if (counting.bytes || counting.blocks || counting.wrong || loop_status != 0 || lost) {
    if (progress->bad++ < MOST_LINES)
      printf ("%s, point %ld: %zu bytes in %ld blocks left, %ld sizes told wrongly, "
              "uv_loop_close %d, %d values lost\n",
              mode->name, progress->point, counting.bytes, counting.blocks, counting.wrong,
              loop_status, lost);
  }
  progress->errors += status != ALLUA_OK;
  progress->runs++;
  return counting.failed > 0;
}

/* In a process of its own: every point from progress->point on. */
static void run_points (const char *script, const struct mode *mode, struct progress *progress) {
  signal (SIGALRM, SIG_DFL);
  do {
    progress->finished = !run (script, mode, progress);
    progress->point++;
  } while (!progress->finished);
  exit (EXIT_SUCCESS); /* a leak that a sanitizer finds changes the status */
}

static pid_t start (const char *script, const struct mode *mode, struct progress *progress) {
  pid_t pid = fork ();
  if (pid == 0)
    run_points (script, mode, progress);
  return pid;
}

/* A process ended: well, or by a point that its successor leaves out. */
static int go_on (int status, const struct mode *mode, struct progress *progress) {
  if (status == 0)
    return 0;
  printf ("%s, point %ld: %s %d\n", mode->name, progress->point,
          WIFSIGNALED (status) ? "signal" : "exit status",
          WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status));
  progress->crashes++;
  progress->point++;
  return !progress->finished && progress->crashes < MOST_CRASHES;
}

static int run_one (const char *script, const char *mode, const char *point) {
  struct progress one = { .point = atol (point) };
  int failed = run (script, &modes[atol (mode) % MODES], &one);
  printf ("%s, point %ld: %s, %s\n", modes[atol (mode) % MODES].name, one.point,
          failed ? "reached" : "not reached", one.errors ? "ended in an error" : "ended well");
  return one.bad ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main (int argc, char **argv) {
  check_begin ();
  const char *script = argc > 1 ? argv[1] : "spec/embed/faults.lua";
  if (argc == 4)
    return run_one (script, argv[2], argv[3]);
  struct progress *progress = mmap (NULL, MODES * sizeof *progress, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (progress == MAP_FAILED)
    return EXIT_FAILURE;

  /* the script itself must be right: with enough memory it ends well */
  struct progress whole = { .point = LONG_MAX / 4 };
  run (script, &modes[0], &whole);
  CHECK ("the script runs when nothing fails", whole.errors == 0 && whole.bad == 0);

  pid_t pids[MODES];
  for (int i = 0; i < MODES; i++) {
    progress[i].point = 1;
    pids[i] = start (script, &modes[i], &progress[i]);
  }
  alarm (0); /* each run has its own */
  for (int running = MODES; running > 0;) {
    int status;
    pid_t pid = wait (&status);
    if (pid < 0)
      return EXIT_FAILURE;
    for (int i = 0; i < MODES; i++) {
      if (pids[i] != pid)
        continue;
      if (go_on (status, &modes[i], &progress[i]))
        pids[i] = start (script, &modes[i], &progress[i]);
      else
        running--;
    }
  }

  long points = 0;
  for (int i = 0; i < MODES; i++) {
    points += progress[i].runs;
    check (modes[i].name, progress[i].finished && !progress[i].bad && !progress[i].crashes,
           "%ld of %ld points went wrong, %ld more crashed", progress[i].bad, progress[i].runs,
           progress[i].crashes);
    check ("some of its runs ended in an error", progress[i].errors > 0, "%ld runs",
           progress[i].runs);
  }
  printf ("%ld allocation points tried\n", points);
  return check_end ();
}
