/* sensor: a program with its own libuv loop and its own Lua state gives Lua a function that waits.
 *
 *   cc sensor.c $(pkg-config --cflags --libs allua) -o sensor && ./sensor sensor.lua
 *
 * The sensor is made up; its readings come from a uv timer, as those of a real one would come from a
 * callback of some device. In Lua, `sensor.read (name)` suspends the task that calls it, and only that. */
#include <allua.h>

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

/* A reading that is under way. It belongs to the timer until that is closed, and then to `push`. */
struct reading {
  uv_timer_t timer;
  allua_promise *promise; /* NULL: nobody wants the reading any more */
  double degrees;
};

/* Runs on the stack of the Lua coroutine that waits; L is NULL where nobody does. */
static int push_reading (lua_State *L, void *data) {
  struct reading *reading = data;
  double degrees = reading->degrees;

  free (reading);
  if (L == NULL)
    return 0;
  lua_pushnumber (L, degrees);
  return 1;
}

static void on_closed (uv_handle_t *handle) {
  struct reading *reading = handle->data;

  if (reading->promise != NULL)
    allua_promise_resolve (reading->promise, push_reading, reading);
  else
    free (reading);
}

static void on_ready (uv_timer_t *timer) {
  uv_close ((uv_handle_t *)timer, on_closed);
}

/* The task that waits was cancelled: stop the timer. */
static void on_cancel (void *data) {
  struct reading *reading = data;

  reading->promise = NULL;
  if (!uv_is_closing ((uv_handle_t *)&reading->timer))
    uv_close ((uv_handle_t *)&reading->timer, on_closed);
}

/* sensor.read (name) -> degrees */
static int sensor_read (lua_State *L) {
  static const char *const names[] = { "kitchen", "cellar", "attic", NULL };
  static const double degrees[] = { 21.5, 12.0, 17.25 };
  static const unsigned milliseconds[] = { 30, 60, 90 };
  int which = luaL_checkoption (L, 1, NULL, names);
  allua_promise *promise
      = allua_promise_new (L); /* may raise: it comes before what Lua cannot free */
  struct reading *reading = malloc (sizeof *reading);

  if (reading == NULL) {
    allua_promise_reject (promise, "out of memory");
    return allua_await (L, promise);
  }
  reading->promise = promise;
  reading->degrees = degrees[which];
  uv_timer_init (allua_loop (allua_of (L)), &reading->timer);
  reading->timer.data = reading;
  uv_timer_start (&reading->timer, on_ready, milliseconds[which], 0);
  allua_promise_on_cancel (promise, on_cancel, reading);
  return allua_await (L, promise);
}

/* The program's own work on the same loop goes on while tasks wait. */
static void on_tick (uv_timer_t *timer) {
  ++*(int *)timer->data;
}

static void on_script_done (lua_State *L, int status, int results, void *data) {
  (void)results;
  *(int *)data = status;
  if (status != ALLUA_OK)
    fprintf (stderr, "sensor: %s\n", luaL_tolstring (L, -1, NULL));
}

int main (int argc, char **argv) {
  int status = ALLUA_ERROR, ticks = 0;
  uv_loop_t loop;
  uv_timer_t ticker;
  lua_State *L = luaL_newstate ();
  allua *host;

  if (L == NULL || argc < 2 || uv_loop_init (&loop) != 0) {
    fprintf (stderr, "usage: sensor SCRIPT\n");
    return 2;
  }
  luaL_openlibs (L);
  host = allua_open (
      &(allua_options){ .size = sizeof (allua_options), .loop = &loop, .state = L, .globals = 1 });
  if (host == NULL)
    return 1;
  lua_newtable (L);
  lua_pushcfunction (L, sensor_read);
  lua_setfield (L, -2, "read");
  lua_setglobal (L, "sensor");

  uv_timer_init (&loop, &ticker);
  ticker.data = &ticks;
  uv_timer_start (&ticker, on_tick, 10, 10);
  uv_unref ((uv_handle_t *)&ticker);

  /* The script runs as a task, from the program's own loop. */
  if (luaL_loadfile (L, argv[1]) != LUA_OK)
    fprintf (stderr, "sensor: %s\n", lua_tostring (L, -1));
  else if (allua_start (host, 0, on_script_done, &status) != ALLUA_OK)
    fprintf (stderr, "sensor: %s\n", allua_error (host));
  else
    uv_run (&loop, UV_RUN_DEFAULT);
  if (status == ALLUA_OK)
    printf ("the program's own timer went on: %s\n", ticks > 3 ? "yes" : "no");

  allua_close (host);
  uv_close ((uv_handle_t *)&ticker, NULL);
  uv_run (&loop, UV_RUN_DEFAULT);
  lua_close (L);
  return uv_loop_close (&loop) == 0 && status == ALLUA_OK ? 0 : 1;
}
