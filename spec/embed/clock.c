/* A virtual clock in a C program: what C has under way comes before time passes, however the loop is run. */
#include "check.h"

struct work {
  uv_timer_t timer;
  allua_promise *promise;
};

static int push_real (lua_State *L, void *data) {
  (void)data;
  if (L)
    lua_pushliteral (L, "real");
  return 1;
}

static void on_work_closed (uv_handle_t *handle) {
  free (handle->data);
}

static void on_work (uv_timer_t *timer) {
  struct work *work = timer->data;
  allua_promise_resolve (work->promise, push_real, NULL);
  uv_close ((uv_handle_t *)timer, on_work_closed);
}

/* real () → "real", after 20 ms of the machine's; its timer does not keep the loop alive by itself. */
static int real (lua_State *L) {
  struct work *work = calloc (1, sizeof *work);
  if (!work)
    abort ();
  uv_timer_init (allua_loop (allua_of (L)), &work->timer);
  uv_unref ((uv_handle_t *)&work->timer);
  work->timer.data = work;
  work->promise = allua_promise_new (L);
  uv_timer_start (&work->timer, on_work, 20, 0);
  return allua_await (L, work->promise);
}

static const char script[]
    = "local allua = require 'allua'\n"
      "clock = allua.clock.virtual()\n"
      "first = allua.race { real, function() allua.sleep(3600) return 'virtual' end }\n"
      "allua.sleep(3600)\n"
      "at = math.tointeger(allua.now())";

static void check_outcome (const char *how, allua *host) {
  char name[100];
  lua_getglobal (allua_state (host), "first");
  snprintf (name, sizeof name, "%s: a promise of C comes before an hour of sleep", how);
  check (name,
         lua_isstring (allua_state (host), -1)
             && strcmp (lua_tostring (allua_state (host), -1), "real") == 0,
         "got %s", lua_tostring (allua_state (host), -1));
  lua_pop (allua_state (host), 1);
  snprintf (name, sizeof name, "%s: which then takes no time", how);
  check_int (name, check_global (allua_state (host), "at"), 3600);
}

static void by_host (void) {
  allua *host = check_open (NULL);
  lua_register (allua_state (host), "real", real);
  check_runs ("a script opens a virtual clock", host, script);
  check_outcome ("allua_run_string", host);
  check_runs ("it is open in the next run", host,
              "require 'allua'.sleep(5) assert(require 'allua'.now() == 3605)");
  check_runs ("and may be closed there", host, "clock:close()");
  allua_close (host);
}

static void on_done (lua_State *L, int status, int results, void *data) {
  (void)L;
  (void)results;
  *(int *)data = status;
}

static void on_connection (uv_stream_t *stream, int status) {
  (void)stream;
  (void)status;
}

static void by_program (uv_run_mode mode) {
  uv_loop_t loop;
  uv_tcp_t listener; /* which only waits for others */
  struct sockaddr_in address;
  int status = -1, turns = 0;
  uv_loop_init (&loop);
  uv_tcp_init (&loop, &listener);
  uv_ip4_addr ("127.0.0.1", 0, &address);
  uv_tcp_bind (&listener, (struct sockaddr *)&address, 0);
  uv_listen ((uv_stream_t *)&listener, 1, on_connection);
  allua *host = check_open (&(allua_options){ .size = sizeof (allua_options), .loop = &loop });
  lua_register (allua_state (host), "real", real);
  luaL_loadstring (allua_state (host), script);
  allua_start (host, 0, on_done, &status);
  if (mode == UV_RUN_DEFAULT) {
    uv_unref ((uv_handle_t *)&listener);
    uv_run (&loop, UV_RUN_DEFAULT);
  } else {
    while (status < 0 && turns++ < 10000)
      uv_run (&loop, mode);
  }
  check_int ("a run by the program's loop ends", status, ALLUA_OK);
  check_outcome (mode == UV_RUN_DEFAULT ? "uv_run, default" : "uv_run, once", host);
  uv_close ((uv_handle_t *)&listener, NULL);
  allua_close (host);
  check_loop_closes ("its loop closes, the clock still open", &loop);
}

int main (void) {
  check_begin ();
  by_host ();
  by_program (UV_RUN_DEFAULT);
  by_program (UV_RUN_ONCE);
  return check_end ();
}
