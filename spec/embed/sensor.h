/* sensor.h: a C function that waits, as a program would write one: read(milliseconds, value). */
#ifndef SENSOR_H
#define SENSOR_H

#include "check.h"

/* What became of the values and the timers; each program has its own. */
static struct {
  int started;   /* timers started                              */
  int pushed;    /* values that Lua took                        */
  int dropped;   /* values given back: push called with L NULL  */
  int cancelled; /* on_cancel called                            */
  int closed;    /* timers closed                               */
} sensors;

struct sensor {
  uv_timer_t timer;
  allua_promise *promise;
  lua_Integer value;
};

static inline void on_sensor_closed (uv_handle_t *handle) {
  sensors.closed++;
  free (handle->data);
}

static inline int sensor_push (lua_State *L, void *data) {
  lua_Integer *value = data;
  if (L) {
    sensors.pushed++;
    lua_pushinteger (L, *value);
  } else {
    sensors.dropped++;
  }
  free (value);
  return L ? 1 : 0;
}

static inline void sensor_resolve (allua_promise *promise, lua_Integer number) {
  lua_Integer *value = malloc (sizeof *value);
  if (!value)
    abort ();
  *value = number;
  allua_promise_resolve (promise, sensor_push, value);
}

static inline void on_sensor_timer (uv_timer_t *timer) {
  struct sensor *sensor = timer->data;
  sensor_resolve (sensor->promise, sensor->value);
  uv_close ((uv_handle_t *)timer, on_sensor_closed);
}

static inline void sensor_cancel (void *data) {
  struct sensor *sensor = data;
  sensors.cancelled++;
  uv_close ((uv_handle_t *)&sensor->timer, on_sensor_closed);
}

/* Pushes the promise of the value at argument 2 after the milliseconds of argument 1. */
static inline allua_promise *sensor_start (lua_State *L, int can_cancel) {
  lua_Integer milliseconds = luaL_checkinteger (L, 1);
  lua_Integer value = luaL_checkinteger (L, 2);
  allua_promise *promise
      = allua_promise_new (L); /* may raise: before anything that Lua does not own */
  struct sensor *sensor = malloc (sizeof *sensor);
  if (!sensor)
    abort ();
  sensor->promise = promise;
  sensor->value = value;
  sensor->timer.data = sensor;
  uv_timer_init (allua_loop (allua_of (L)), &sensor->timer);
  uv_timer_start (&sensor->timer, on_sensor_timer, (uint64_t)milliseconds, 0);
  if (can_cancel)
    allua_promise_on_cancel (promise, sensor_cancel, sensor);
  sensors.started++;
  return promise;
}

/* read(milliseconds, value) -> value, later */
static inline int sensor_read (lua_State *L) {
  return allua_await (L, sensor_start (L, 1));
}

/* the same, for work that cannot be stopped */
static inline int sensor_read_stubborn (lua_State *L) {
  return allua_await (L, sensor_start (L, 0));
}

/* promise(milliseconds, value) -> the promise, at once */
static inline int sensor_promise (lua_State *L) {
  sensor_start (L, 1);
  return 1;
}

static inline void sensor_register (allua *host) {
  lua_State *L = allua_state (host);
  memset (&sensors, 0, sizeof sensors);
  lua_register (L, "read", sensor_read);
  lua_register (L, "read_stubborn", sensor_read_stubborn);
  lua_register (L, "promise", sensor_promise);
}

#endif
