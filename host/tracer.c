#include "tracer.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "builtin.h"
#include "clock.h"
#include "error.h"
#include "promise_object.h"
#include "stream.h"
#include "trace.h"

enum { LOOP_TRACK = 1 };

struct tracer {
  uint64_t memory_told, flows;
  uint32_t first, next; /* tracks of this stream: those of earlier ones are lower */
  bool turning;
  int shown; /* registry reference: of an error and its message, what may be shown of it */
  struct stream stream;
};

/* ── tasks ── */

static uint32_t track_of (const struct tracer *tracer, const struct task *task) {
  const struct group_options *options = task->group->options;
  return options && tracer && options->track >= tracer->first ? options->track + task->index : 0;
}

/* The task's tracer while it is on the stream and between its beginning and its end, else NULL. */
static struct tracer *of (const struct task *task) {
  struct tracer *tracer = task->group->host->tracer;
  return task->traced && track_of (tracer, task) ? tracer : NULL;
}

/* An arrow to what the other does now (enclosing), or to what it does next. */
static void flow (struct tracer *tracer, uint64_t now, const struct task *from,
                  const struct task *to, const char *name, bool enclosing) {
  static const char *const phases[] = { "s", "f" };
  int i;
  tracer->flows++;
  for (i = 0; i < 2; i++) {
    stream_begin (&tracer->stream, now, phases[i], track_of (tracer, i == 0 ? from : to));
    stream_word (&tracer->stream, ",\"id\":");
    stream_number (&tracer->stream, tracer->flows);
    stream_field (&tracer->stream, "name", name);
    stream_field (&tracer->stream, "cat", "flow");
    if (i == 1 && enclosing)
      stream_field (&tracer->stream, "bp", "e");
    stream_end (&tracer->stream);
  }
}

/* The task's name; where its group has names it is on top of L. */
static void add_name (struct tracer *tracer, lua_State *L, const struct task *task) {
  const struct group *group = task->group;
  if (group->named && lua_type (L, -1) == LUA_TSTRING) {
    stream_value (&tracer->stream, L, -1);
  } else if (group->kind == GROUP_ROOT || group->kind == GROUP_SPAWN || group->kind == GROUP_CALL) {
    stream_word (&tracer->stream, group->kind == GROUP_ROOT    ? "\"main\""
                                  : group->kind == GROUP_SPAWN ? "\"spawned\""
                                                               : "\"call\"");
  } else {
    stream_add (&tracer->stream, "\"", 1);
    if (group->named)
      stream_value (&tracer->stream, L, -1);
    else
      stream_number (&tracer->stream, task->index + 1);
    stream_add (&tracer->stream, "\"", 1);
  }
}

/* Viewers put tracks in alphabetical order, unless told. */
static void put_in_order (struct tracer *tracer, const struct task *task, uint64_t now) {
  uint32_t track = track_of (tracer, task);
  stream_begin (&tracer->stream, now, "M", track);
  stream_word (&tracer->stream, ",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":");
  stream_number (&tracer->stream, track);
  stream_add (&tracer->stream, "}", 1);
  stream_end (&tracer->stream);
}

static void begin_name (struct tracer *tracer, const struct task *task, uint64_t now) {
  stream_begin (&tracer->stream, now, "M", track_of (tracer, task));
  stream_word (&tracer->stream, ",\"name\":\"thread_name\",\"args\":{\"name\":");
}

/* The track's name, then the task's span. Nothing here allocates. */
static void begin_task (struct tracer *tracer, struct task *task, uint64_t now) {
  struct group *group = task->group;
  lua_State *L = group->host->L;
  uint32_t track = track_of (tracer, task);
  int top = lua_gettop (L);
  group_peek (L, group, LABEL);
  if (group->named)
    group_push_name (L, task);
  begin_name (tracer, task, now);
  add_name (tracer, L, task);
  stream_add (&tracer->stream, "}", 1);
  stream_end (&tracer->stream);
  put_in_order (tracer, task, now);
  stream_begin (&tracer->stream, now, "B", track);
  stream_word (&tracer->stream, ",\"name\":");
  add_name (tracer, L, task);
  stream_field (&tracer->stream, "cat", "task");
  stream_word (&tracer->stream, ",\"args\":{\"group\":");
  stream_number (&tracer->stream, group->options->track);
  stream_field (&tracer->stream, "kind", group_kind_name (group->kind));
  if (lua_type (L, top + 1) == LUA_TSTRING) {
    stream_word (&tracer->stream, ",\"label\":");
    stream_value (&tracer->stream, L, top + 1);
  }
  if (group->owner && of (group->owner)) {
    stream_word (&tracer->stream, ",\"owner\":");
    stream_number (&tracer->stream, track_of (tracer, group->owner));
  }
  stream_add (&tracer->stream, "}", 1);
  stream_end (&tracer->stream);
  lua_settop (L, top);
  task->traced = true;
  task->spans = 0;
}

/* Close what the task does, running or a wait, and go on with another. */
static void turn_to (struct tracer *tracer, struct task *task, uint64_t now, const char *name,
                     const char *category) {
  uint32_t track = track_of (tracer, task);
  stream_event (&tracer->stream, now, "E", track, NULL, NULL);
  stream_event (&tracer->stream, now, "B", track, name, category);
}

static void begin_running (struct tracer *tracer, struct task *task, uint64_t now) {
  stream_event (&tracer->stream, now, "B", track_of (tracer, task), "running", "running");
}

void tracer_start (struct task *task) {
  struct tracer *tracer = task->group->host->tracer;
  uint64_t now = clock_now (task->group->host);
  if (!track_of (tracer, task))
    return;
  if (task->traced) {
    turn_to (tracer, task, now, "running", "running"); /* it has waited for a place */
  } else {
    begin_task (tracer, task, now);
    begin_running (tracer, task, now);
  }
  if (task->group->owner && of (task->group->owner))
    flow (tracer, now, task->group->owner, task, "starts", true);
}

/* A wait: its name, its category in *category. */
static const char *wait_name (enum task_wait wait, const struct promise *on,
                              const char **category) {
  *category = "io";
  switch (wait) {
  case WAIT_NOTHING:
    *category = "ready";
    return "yield";
  case WAIT_TIMER:
    *category = "timer";
    return "sleep";
  case WAIT_PLACE:
    *category = "place";
    return "waiting for a place";
  case WAIT_GROUP:
  case WAIT_NEXT:
  case WAIT_CHILDREN:
    *category = "children";
    return "waiting for own tasks";
  case WAIT_PROMISE:
    break;
  }
  if (on->kind != PROMISE_OF_TASK) {
    const char *what = promise_object_what ((struct promise *)on);
    return what ? what : "a promise";
  }
  *category = "sibling";
  return "waiting for another task";
}

/* How long a task that begins to sleep will. */
static double sleeps_for (const struct task *task, uint64_t now) {
  const struct timer_entry *entry = deadlines_find (task->group->host, &task->timer);
  return entry && entry->due > now ? (double)(entry->due - now) / 1e9 : 0;
}

static void begin_wait (struct tracer *tracer, struct task *task, uint64_t now, enum task_wait wait,
                        const void *on) {
  const char *category, *name = wait_name (wait, on, &category);
  stream_begin (&tracer->stream, now, "B", track_of (tracer, task));
  stream_field (&tracer->stream, "name", name);
  stream_field (&tracer->stream, "cat", category);
  if (wait == WAIT_TIMER) {
    stream_word (&tracer->stream, ",\"args\":{\"seconds\":");
    stream_double (&tracer->stream, round (sleeps_for (task, now) * 1e4) / 1e4);
    stream_add (&tracer->stream, "}", 1);
  } else if (wait == WAIT_PROMISE && ((const struct promise *)on)->kind == PROMISE_OF_TASK
             && track_of (tracer, (const struct task *)on)) {
    stream_word (&tracer->stream, ",\"args\":{\"on\":");
    stream_number (&tracer->stream, track_of (tracer, (const struct task *)on));
    stream_add (&tracer->stream, "}", 1);
  }
  stream_end (&tracer->stream);
}

void tracer_wait (struct task *task, enum task_wait wait, const void *on) {
  struct tracer *tracer = task->group->host->tracer;
  uint64_t now = clock_now (task->group->host);
  if (!track_of (tracer, task))
    return;
  if (task->traced)
    stream_event (&tracer->stream, now, "E", track_of (tracer, task), NULL, NULL);
  else if (wait == WAIT_PLACE)
    begin_task (tracer, task, now);
  else
    return;
  begin_wait (tracer, task, now, wait, on);
}

void tracer_resume (struct task *task) {
  struct tracer *tracer = of (task);
  if (tracer)
    turn_to (tracer, task, clock_now (task->group->host), "running", "running");
}

/* Close all that is open on the task's track. */
static void close_track (struct tracer *tracer, struct task *task, uint64_t now,
                         const char *status) {
  uint32_t track = track_of (tracer, task);
  int open;
  for (open = task->spans + 1; open > 0; open--)
    stream_event (&tracer->stream, now, "E", track, NULL, NULL);
  stream_begin (&tracer->stream, now, "E", track);
  stream_word (&tracer->stream, ",\"args\":{\"status\":\"");
  stream_word (&tracer->stream, status);
  stream_word (&tracer->stream, "\"}");
  stream_end (&tracer->stream);
  task->traced = false;
  task->spans = 0;
}

void tracer_end (struct task *task) {
  struct tracer *tracer = of (task);
  struct group *group = task->group;
  struct task *waiter = task->promise.waiters;
  uint64_t now = clock_now (task->group->host);
  if (!tracer)
    return;
  if (waiter)
    do {
      if (of (waiter))
        flow (tracer, now, task, waiter, "result", false);
      waiter = waiter->link.next;
    } while (waiter && waiter != task->promise.waiters);
  if (group->pending == 1 && group_is_waited (group) && of (group->owner))
    flow (tracer, now, task, group->owner, "all ended", false);
  close_track (tracer, task, now, trace_status (task));
}

void tracer_failed (lua_State *L, struct task *task) {
  struct tracer *tracer = of (task);
  int chain;
  if (!tracer)
    return;
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  lua_rawgeti (L, LUA_REGISTRYINDEX, tracer->shown);
  lua_pushvalue (L, 1);
  error_push_message (L, 1);
  if (lua_pcall (L, 2, 1, 0) != LUA_OK) {
    lua_pop (L, 1);
    lua_pushliteral (L, "an error");
  }
  stream_begin (&tracer->stream, clock_now (task->group->host), "i", track_of (tracer, task));
  stream_word (&tracer->stream,
               ",\"s\":\"t\",\"name\":\"error\",\"cat\":\"error\",\"args\":{\"message\":");
  stream_value (&tracer->stream, L, -1);
  stream_word (&tracer->stream, ",\"chain\":[");
  lua_pushvalue (L, 2);
  for (chain = 0; chain < 10 && lua_istable (L, -1); chain++) {
    stream_add (&tracer->stream, ",", chain > 0);
    lua_getfield (L, -1, "task");
    stream_value (&tracer->stream, L, -1);
    lua_pop (L, 1);
    lua_getfield (L, -1, "from");
    lua_remove (L, -2);
  }
  stream_add (&tracer->stream, "]", 1);
  if (lua_getfield (L, 2, "started") == LUA_TSTRING) {
    stream_word (&tracer->stream, ",\"started\":");
    stream_value (&tracer->stream, L, -1);
  }
  stream_add (&tracer->stream, "}", 1);
  stream_end (&tracer->stream);
  lua_pop (L, 3);
}

void tracer_instant (lua_State *L, allua *host, const char *name, const char *argument, int index) {
  struct stream *stream = &host->tracer->stream;
  bool traced = host->current && of (host->current);
  stream_begin (stream, clock_now (host), "i",
                traced ? track_of (host->tracer, host->current) : LOOP_TRACK);
  stream_field (stream, "s", "t");
  stream_field (stream, "name", name);
  stream_field (stream, "cat", "io");
  stream_word (stream, ",\"args\":{\"");
  stream_word (stream, argument);
  stream_word (stream, "\":");
  stream_value (stream, L, index);
  stream_add (stream, "}", 1);
  stream_end (stream);
}

/* ── the loop and the collector ── */

void tracer_begin_turn (allua *host) {
  if (!host->ready.first)
    return;
  host->tracer->turning = true;
  stream_event (&host->tracer->stream, clock_now (host), "B", LOOP_TRACK, "turn", "loop");
}

static void tell_memory (allua *host, uint64_t now) {
  const uint64_t period = 1000000;
  struct tracer *tracer = host->tracer;
  if (now - tracer->memory_told < period)
    return;
  tracer->memory_told = now;
  stream_begin (&tracer->stream, now, "C", LOOP_TRACK);
  stream_word (&tracer->stream, ",\"name\":\"Lua memory\",\"args\":{\"KiB\":");
  stream_number (&tracer->stream, (uint64_t)lua_gc (host->worker, LUA_GCCOUNT));
  stream_word (&tracer->stream, "}");
  stream_end (&tracer->stream);
}

void tracer_end_turn (allua *host) {
  struct tracer *tracer = host->tracer;
  uint64_t now;
  if (!tracer->turning)
    return;
  now = clock_now (host);
  tracer->turning = false;
  stream_event (&tracer->stream, now, "E", LOOP_TRACK, NULL, NULL);
  tell_memory (host, now);
  if (!host->ready.first)
    stream_flush (&tracer->stream, now); /* it may be long until the next */
}

/* __gc of an object that nobody has: the collector has been through once more. Its upvalue is the box. */
static int collected (lua_State *L) {
  allua *host = *(allua **)lua_touserdata (L, lua_upvalueindex (1));
  if (!host || !host->tracer || host->closing)
    return 0;
  stream_begin (&host->tracer->stream, clock_now (host), "i", LOOP_TRACK);
  stream_word (&host->tracer->stream,
               ",\"s\":\"p\",\"name\":\"garbage collected\",\"cat\":\"gc\",\"args\":{\"KiB\":");
  stream_number (&host->tracer->stream, (uint64_t)lua_gc (L, LUA_GCCOUNT));
  stream_word (&host->tracer->stream, "}");
  stream_end (&host->tracer->stream);
  lua_getmetatable (L, 1);
  lua_newtable (L);
  lua_insert (L, -2);
  lua_setmetatable (L, -2);
  return 0;
}

/* ── beginning and end ── */

void tracer_add_group (lua_State *L, int index) {
  struct group *group = lua_touserdata (L, index);
  struct tracer *tracer = group->host->tracer;
  struct group_options *options = group_extend (L, index);
  if (UINT32_MAX - tracer->next < group->size)
    return;
  options->track = tracer->next;
  tracer->next += group->size;
  if (!options->trace)
    options->trace = trace_streamed ();
}

/* Tasks that have begun already are on the stream from now on. */
static void add_live (lua_State *L, allua *host) {
  struct tracer *tracer = host->tracer;
  struct group *group;
  uint64_t now = clock_now (host);
  host_push (host, L, SLOT_LIVE);
  for (group = host->roots; group; group = group_walk (group)) {
    uint32_t i;
    lua_rawgeti (L, -1, group->anchor);
    tracer_add_group (L, lua_gettop (L));
    lua_pop (L, 1);
    for (i = 0; i < group->size; i++) {
      struct task *task = &group->tasks[i];
      task->traced = false;
      if (task->promise.status != PROMISE_PENDING || !task->co
          || (!task->at && task->state != TASK_RUNNING))
        continue;
      begin_task (tracer, task, now);
      if (task->state == TASK_WAITING)
        begin_wait (tracer, task, now, (enum task_wait)task->wait, task->on);
      else
        begin_running (tracer, task, now);
    }
  }
  lua_pop (L, 1);
}

/* core.trace_start (shown, trace file or nil, report or nil) */
static int trace_start_stream (lua_State *L) {
  static const char head[] = "[\n{\"ph\":\"M\",\"pid\":1,\"tid\":1,\"ts\":0,\"name\":\"process_"
                             "name\",\"args\":{\"name\":\"allua\"}}"
                             ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":1,\"ts\":0,\"name\":\"thread_"
                             "name\",\"args\":{\"name\":\"loop\"}}"
                             ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":1,\"ts\":0,\"name\":\"thread_"
                             "sort_index\",\"args\":{\"sort_index\":1}}";
  allua *host = host_of (L);
  struct tracer *tracer;
  int output;
  luaL_checktype (L, 1, LUA_TFUNCTION);
  lua_settop (L, 3);
  if (host->tracer)
    return luaL_error (L, "trace: there is one already: stop it first");
  /* Made once a stream: the collector's passes. */
  lua_newtable (L);
  lua_createtable (L, 0, 1);
  host_push (host, L, SLOT_BOX);
  lua_pushcclosure (L, collected, 1);
  lua_setfield (L, -2, "__gc");
  lua_setmetatable (L, -2);
  lua_pop (L, 1);
  tracer = mem_resize (&host->mem, NULL, 0, sizeof *tracer);
  if (!tracer)
    return error_raise_memory (L, host);
  memset (tracer, 0, offsetof (struct tracer, stream));
  tracer->shown = LUA_NOREF;
  stream_open (&tracer->stream, clock_now (host));
  tracer->first = tracer->next = host->next_track > LOOP_TRACK ? host->next_track : LOOP_TRACK + 1;
  host->tracer = tracer;
  for (output = 2; output <= 3; output++) {
    const char *path = lua_tostring (L, output);
    if (!path
        || (output == 2
                ? stream_to_file (&tracer->stream, path)
                : stream_to_page (&tracer->stream, path, builtin_report, builtin_report_size)))
      continue;
    lua_pushfstring (L, "trace: cannot write %s: %s", path, strerror (errno));
    tracer_close (host);
    return lua_error (L);
  }
  lua_pushvalue (L, 1);
  tracer->shown = luaL_ref (L, LUA_REGISTRYINDEX);
  stream_add (&tracer->stream, head, sizeof head - 1);
  add_live (L, host);
  return 0;
}

void tracer_close (allua *host) {
  struct tracer *tracer = host->tracer;
  struct group *group;
  uint64_t now = clock_now (host);
  if (!tracer)
    return;
  for (group = host->roots; group; group = group_walk (group)) {
    uint32_t at;
    for (at = 0; at < group->size; at++)
      if (of (&group->tasks[at]))
        close_track (tracer, &group->tasks[at], now, "pending");
  }
  if (tracer->turning)
    stream_event (&tracer->stream, now, "E", LOOP_TRACK, NULL, NULL);
  stream_close (&tracer->stream, now);
  luaL_unref (host->main, LUA_REGISTRYINDEX, tracer->shown);
  host->next_track = tracer->next;
  host->tracer = NULL;
  mem_resize (&host->mem, tracer, sizeof *tracer, 0);
}

static int trace_stop_stream (lua_State *L) {
  allua *host = host_of (L);
  lua_pushboolean (L, host->tracer != NULL);
  tracer_close (host);
  return 1;
}

/* core.trace_name (name): what the running task's track is called from now on. */
static int trace_name (lua_State *L) {
  allua *host = host_of (L);
  struct tracer *tracer = host->current ? of (host->current) : NULL;
  luaL_checkstring (L, 1);
  if (tracer) {
    begin_name (tracer, host->current, clock_now (host));
    stream_value (&tracer->stream, L, 1);
    stream_add (&tracer->stream, "}", 1);
    stream_end (&tracer->stream);
  }
  return 0;
}

/* core.trace_begin (name, category, a table of arguments or nil) */
static int trace_begin_span (lua_State *L) {
  allua *host = host_of (L);
  struct task *task = host->current;
  struct tracer *tracer = task ? of (task) : NULL;
  uint64_t now = clock_now (host);
  bool first = true;
  luaL_checkstring (L, 1);
  luaL_checkstring (L, 2);
  lua_settop (L, 3);
  if (!tracer || task->spans == UINT8_MAX)
    return 0;
  stream_event (&tracer->stream, now, "E", track_of (tracer, task), NULL,
                NULL); /* what runs goes inside */
  stream_begin (&tracer->stream, now, "B", track_of (tracer, task));
  stream_word (&tracer->stream, ",\"name\":");
  stream_value (&tracer->stream, L, 1);
  stream_word (&tracer->stream, ",\"cat\":");
  stream_value (&tracer->stream, L, 2);
  if (lua_istable (L, 3)) {
    int most = 8;
    stream_word (&tracer->stream, ",\"args\":{");
    for (lua_pushnil (L); most-- && lua_next (L, 3); lua_pop (L, 1)) {
      if (lua_type (L, -2) != LUA_TSTRING)
        continue;
      stream_add (&tracer->stream, ",", !first);
      first = false;
      stream_value (&tracer->stream, L, -2);
      stream_add (&tracer->stream, ":", 1);
      stream_value (&tracer->stream, L, -1);
    }
    stream_add (&tracer->stream, "}", 1);
    lua_settop (L, 3);
  }
  stream_end (&tracer->stream);
  begin_running (tracer, task, now);
  task->spans++;
  lua_pushboolean (L, 1);
  return 1;
}

static int trace_end_span (lua_State *L) {
  allua *host = host_of (L);
  struct task *task = host->current;
  struct tracer *tracer = task ? of (task) : NULL;
  uint64_t now = clock_now (host);
  if (!tracer || !task->spans)
    return 0;
  stream_event (&tracer->stream, now, "E", track_of (tracer, task), NULL, NULL);
  stream_event (&tracer->stream, now, "E", track_of (tracer, task), NULL, NULL);
  begin_running (tracer, task, now);
  task->spans--;
  return 0;
}

void tracer_open (lua_State *L) {
  static const luaL_Reg functions[]
      = { { "trace_start", trace_start_stream }, { "trace_stop", trace_stop_stream },
          { "trace_name", trace_name },          { "trace_begin", trace_begin_span },
          { "trace_end", trace_end_span },       { NULL, NULL } };
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, functions, 1);
}
