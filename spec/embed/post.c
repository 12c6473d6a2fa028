/* allua_post: the one call that any thread may make. */
#include "check.h"

enum { THREADS = 4, POSTS = 2000 };

static uv_thread_t loop_thread;
static allua *posting_host;
static int next_of[THREADS];
static int received, out_of_order, on_other_thread, wrong_host;

struct message {
  int thread, number;
};

static void on_message (allua *host, void *data) {
  struct message *message = data;
  uv_thread_t self = uv_thread_self ();
  if (!uv_thread_equal (&self, &loop_thread))
    on_other_thread++;
  if (host != posting_host)
    wrong_host++;
  if (message->number != next_of[message->thread]++)
    out_of_order++;
  received++;
  free (message);
}

static int refused[THREADS];

static void on_posting_thread (void *data) {
  int thread = *(int *)data;
  for (int number = 0; number < POSTS; number++) {
    struct message *message = malloc (sizeof *message);
    if (!message)
      abort ();
    *message = (struct message){ thread, number };
    if (allua_post (posting_host, on_message, message) != 0) {
      refused[thread]++;
      free (message);
    }
  }
}

static void several_threads (void) {
  allua *host = posting_host = check_open (NULL);
  loop_thread = uv_thread_self ();
  uv_thread_t threads[THREADS];
  int numbers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    numbers[i] = i;
    uv_thread_create (&threads[i], on_posting_thread, &numbers[i]);
  }
  int turns = 0;
  while (received < THREADS * POSTS && turns++ < 30000)
    allua_run_string (host, "require('allua').sleep(0.001)", "=wait");
  for (int i = 0; i < THREADS; i++)
    uv_thread_join (&threads[i]);
  check_int ("what four threads post all arrives", received, THREADS * POSTS);
  check_int ("none is refused", refused[0] + refused[1] + refused[2] + refused[3], 0);
  check_int ("in each thread's order", out_of_order, 0);
  check_int ("on the loop's thread", on_other_thread, 0);
  check_int ("with its host", wrong_host, 0);
  allua_close (host);
}

/* A promise that a thread settles, by posting: from_thread(value) -> value */
struct job {
  uv_thread_t thread;
  allua *host;
  allua_promise *promise;
  lua_Integer value;
};

static int push_value (lua_State *L, void *data) {
  struct job *job = data;
  if (L)
    lua_pushinteger (L, job->value);
  free (job);
  return L ? 1 : 0;
}

static void on_job_done (allua *host, void *data) {
  struct job *job = data;
  (void)host;
  uv_thread_join (&job->thread);
  allua_promise_resolve (job->promise, push_value, job);
}

static void on_job (void *data) {
  struct job *job = data;
  struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
  nanosleep (&pause, NULL);
  allua_post (job->host, on_job_done, job);
}

static int from_thread (lua_State *L) {
  lua_Integer value = luaL_checkinteger (L, 1);
  allua_promise *promise = allua_promise_new (L);
  struct job *job = calloc (1, sizeof *job);
  if (!job)
    abort ();
  job->host = allua_of (L);
  job->promise = promise;
  job->value = value;
  uv_thread_create (&job->thread, on_job, job);
  return allua_await (L, promise);
}

static void on_done (lua_State *L, int status, int results, void *data) {
  if (status == ALLUA_OK && results == 1)
    *(lua_Integer *)data = lua_tointeger (L, -1);
}

static void promises (void) {
  allua *host = check_open (NULL);
  lua_register (allua_state (host), "from_thread", from_thread);
  check_runs ("a task waits for a thread's post, with nothing else on the loop", host,
              "assert(require('allua').all { function() return from_thread(3) end }[1] == 3)");
  lua_Integer result = -1;
  luaL_loadstring (allua_state (host), "return from_thread(4)");
  allua_start (host, 0, on_done, &result);
  uv_run (allua_loop (host), UV_RUN_DEFAULT);
  check_int ("the program's uv_run waits for it as well", result, 4);
  allua_close (host);
}

static void count (allua *host, void *data) {
  (void)host;
  ++*(int *)data;
}

static void post_again (allua *host, void *data) {
  if (++*(int *)data < 100)
    allua_post (host, post_again, data);
}

static void post_and_start (allua *host, void *data) {
  luaL_loadstring (allua_state (host), "require('allua').sleep(0.001) return 5");
  allua_start (host, 0, on_done, data);
}

static void on_nothing (uv_timer_t *timer) {
  (void)timer;
}

static void from_the_loop (void) {
  uv_loop_t loop;
  uv_loop_init (&loop);
  allua *host = check_open (&(allua_options){ .size = sizeof (allua_options), .loop = &loop });
  int called = 0;
  check_int ("the loop's own thread may post", allua_post (host, count, &called), 0);
  check_int ("nothing is called inside allua_post", called, 0);
  uv_timer_t timer;
  uv_timer_init (&loop, &timer);
  uv_timer_start (&timer, on_nothing, 20, 0);
  uv_run (&loop, UV_RUN_DEFAULT);
  check_int ("an idle host calls it when the program runs the loop", called, 1);

  called = 0;
  allua_post (host, post_again, &called);
  check_runs ("what is posted may post again", host, "require('allua').sleep(0.1)");
  check_int ("and all of it is called", called, 100);

  lua_Integer result = -1;
  allua_post (host, post_and_start, &result);
  check_runs ("what is posted may start a task", host, "require('allua').sleep(0.1)");
  check_int ("which ends", result, 5);
  uv_close ((uv_handle_t *)&timer, NULL);
  allua_close (host);
  check_loop_closes ("the loop closes", &loop);
}

/* while closing: what allua_post took is called, what it refused is not */
static int late_status = -1, late_called;

static void on_ended (lua_State *L, int status, int results, void *data) {
  (void)status, (void)results, (void)data;
  late_status = allua_post (allua_of (L), count, &late_called);
}

static void around_close (void) {
  int called = 0;
  allua *host = check_open (NULL);
  for (int i = 0; i < 10; i++)
    allua_post (host, count, &called);
  allua_close (host);
  check_int ("posted before closing: called, at the latest while it closes", called, 10);

  host = check_open (NULL);
  luaL_loadstring (allua_state (host), "require('allua').sleep(600)");
  allua_start (host, 0, on_ended, NULL);
  uv_run (allua_loop (host), UV_RUN_NOWAIT);
  allua_close (host);
  check ("posted while closing: taken and called, or refused and not",
         late_called == (late_status == 0), "allua_post gave %d, called %d times", late_status,
         late_called);
}

int main (void) {
  check_begin ();
  several_threads ();
  promises ();
  from_the_loop ();
  around_close ();
  return check_end ();
}
