#include "trace.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"
#include "progress.h"
#include "tracer.h"

enum event_kind { EVENT_START, EVENT_WAIT, EVENT_PLACE, EVENT_RESUME, EVENT_END };

struct event {
  uint64_t at; /* ns */
  uint32_t task,
      sibling; /* sibling: index + 1, 0: none of this group; EVENT_PLACE: whose place it gets */
  uint8_t kind, wait;
};

/* The host's memory, and on its list: a finalizer that finds no memory to run in is left out, and the host may go
   before the state does. */
struct events {
  struct events *next, **place;
  size_t count, size;
  struct event list[];
};

/* In a userdata of the group's slots. User value: index of a task + 1 → the records of groups that it began. */
struct trace {
  bool real; /* else on the stream only */
  uint64_t started;
  bool prints;
  struct task *part_of; /* whose waterfall this is part of, or NULL */
  struct events *events;
};

static size_t size_of (const struct events *events) {
  return events ? sizeof *events + events->size * sizeof (struct event) : 0;
}

static void free_events (allua *host, struct events *events) {
  if (!events)
    return;
  *events->place = events->next;
  if (events->next)
    events->next->place = events->place;
  mem_resize (&host->mem, events, size_of (events), 0);
}

void trace_close (allua *host) {
  while (host->events)
    free_events (host, host->events);
}

static int trace_gc (lua_State *L) {
  struct trace *trace = lua_touserdata (L, 1);
  allua *host = *(allua **)lua_touserdata (L, lua_upvalueindex (1));
  if (host)
    free_events (host, trace->events);
  trace->events = NULL;
  return 0;
}

void trace_open (lua_State *L, int index, bool prints) {
  struct group *group = lua_touserdata (L, index);
  struct trace *trace = lua_newuserdatauv (L, sizeof *trace, 1);
  trace->real = true;
  trace->started = clock_now (group->host);
  trace->prints = prints;
  trace->part_of = NULL;
  trace->events = NULL;
  group->host->traces = true;
  lua_createtable (L, 0, 1);
  host_push (group->host, L, SLOT_BOX);
  lua_pushcclosure (L, trace_gc, 1);
  lua_setfield (L, -2, "__gc");
  lua_setmetatable (L, -2);
  group_set (L, index, TRACE);
  group_extend (L, index)->trace = trace;
}

void trace_nest (lua_State *L, int index, struct task *owner) {
  const struct group *group = lua_touserdata (L, index);
  for (; owner; owner = owner->group->owner) {
    const struct trace *trace = trace_of (owner->group);
    if (owner->group->options && owner->group->options->unseen)
      return;
    if (trace && trace->real)
      break;
  }
  if (!owner || (group->options && group->options->unseen))
    return;
  if (!trace_of (group))
    trace_open (L, index, false);
  trace_of (group)->part_of = owner;
}

/* What the waterfall calls a wait. */
enum trace_wait { TRACE_IO, TRACE_SIBLING, TRACE_PLACE };

static const char *const wait_names[] = { "io", "sibling", "place" };

static void add (struct task *task, enum event_kind kind, enum trace_wait wait, uint32_t sibling) {
  struct trace *trace = trace_of (task->group);
  allua *host = task->group->host;
  struct events *events = trace->events;
  if (!trace->real)
    return;
  if (!events || events->count == events->size) {
    size_t size = events ? events->size * 2 : 64;
    struct events *block = mem_resize (&host->mem, events, size_of (events),
                                       sizeof *events + size * sizeof (struct event));
    if (!block)
      return;
    if (!events) {
      block->count = 0;
      block->next = host->events;
      block->place = &host->events;
    }
    block->size = size;
    *block->place = block;
    if (block->next)
      block->next->place = &block->next;
    trace->events = events = block;
  }
  events->list[events->count++] = (struct event){ .at = clock_now (host),
                                                  .task = task->index,
                                                  .sibling = sibling,
                                                  .kind = (uint8_t)kind,
                                                  .wait = (uint8_t)wait };
}

struct trace *trace_streamed (void) {
  static struct trace streamed;
  return &streamed;
}

void trace_start (struct task *task) {
  if (task->group->host->tracer)
    tracer_start (task);
  if (task->group->host->progress)
    progress_start (task);
  add (task, EVENT_START, TRACE_IO, 0);
}

void trace_wait (struct task *task, enum task_wait wait, const void *on) {
  const struct promise *promise = on;
  if (task->group->host->tracer)
    tracer_wait (task, wait, on);
  if (wait == WAIT_PLACE) {
    add (task, EVENT_WAIT, TRACE_PLACE, 0);
  } else if (wait == WAIT_PROMISE && promise->kind == PROMISE_OF_TASK) {
    const struct task *other = on;
    add (task, EVENT_WAIT, TRACE_SIBLING, other->group == task->group ? other->index + 1 : 0);
  } else {
    add (task, EVENT_WAIT, TRACE_IO, 0);
  }
}

void trace_resume (struct task *task) {
  if (task->group->host->tracer)
    tracer_resume (task);
  add (task, EVENT_RESUME, TRACE_IO, 0);
}

void trace_hand_over (struct task *task, const struct task *giver) {
  if (task->group == giver->group)
    add (task, EVENT_PLACE, TRACE_PLACE, giver->index + 1);
}

const char *trace_status (const struct task *task) {
  const struct group *group = task->group;
  /* task:finish () never returns, so that whoever calls it unwinds. */
  if (group->kind == GROUP_FLOW && group->decided && group->winner == task->index + 1)
    return "fulfilled";
  return task->promise.cancelled ? "cancelled" : task->failed ? "rejected" : "fulfilled";
}

void trace_join (struct task *task) {
  if (task->group->host->tracer)
    tracer_wait (task, WAIT_CHILDREN, NULL);
}

void trace_end (struct task *task) {
  if (task->group->host->tracer)
    tracer_end (task);
  if (task->group->host->progress)
    progress_end (task);
  add (task, EVENT_END, TRACE_IO, 0);
}

/* How wide the terminal at standard error is; 0: it is none. */
static int terminal_width (void) {
  struct winsize size;
  if (!isatty (STDERR_FILENO))
    return 0;
  return ioctl (STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

static void set_time (lua_State *L, const struct trace *trace, uint64_t at, const char *field) {
  lua_pushnumber (L, (double)(at - trace->started) / 1e9);
  lua_setfield (L, -2, field);
}

/* The task on top of the stack waits no longer; `order` tells apart what happens at one time. Returns whether it
   did wait. */
static bool end_wait (lua_State *L, const struct trace *trace, uint64_t at, size_t order) {
  bool waited;
  lua_getfield (L, -1, "waits");
  waited = lua_rawgeti (L, -1, (lua_Integer)lua_rawlen (L, -1)) == LUA_TTABLE;
  if (waited) {
    set_time (L, trace, at, "to");
    lua_pushinteger (L, (lua_Integer)order);
    lua_setfield (L, -2, "order");
  }
  lua_pop (L, 2);
  return waited;
}

/* Push the records of the groups that those of the one at `index` began, if there are any. */
static bool nested_of (lua_State *L, int index) {
  group_get (L, index, TRACE);
  if (lua_getiuservalue (L, -1, 1) == LUA_TTABLE) {
    lua_remove (L, -2);
    return true;
  }
  lua_pop (L, 2);
  return false;
}

/* Push the record that the waterfall is drawn from. */
static void push_record (lua_State *L, int index) {
  struct group *group = lua_touserdata (L, index);
  struct trace *trace = trace_of (group);
  uint64_t now = clock_now (group->host);
  uint32_t i;
  size_t at;
  int tasks, nested = 0;
  lua_createtable (L, 0, 5);
  group_get (L, index, LABEL);
  lua_setfield (L, -2, "label");
  lua_pushstring (L, group_kind_name (group->kind));
  lua_setfield (L, -2, "kind");
  lua_pushstring (L, group->failed                         ? "rejected"
                     : group->cancelled && !group->decided ? "cancelled"
                                                           : "fulfilled");
  lua_setfield (L, -2, "status");
  set_time (L, trace, trace->started, "started");
  set_time (L, trace, now, "ended");
  if (terminal_width ()) {
    lua_pushinteger (L, terminal_width ());
    lua_setfield (L, -2, "terminal");
  }
  lua_createtable (L, (int)group->size, 0);
  tasks = lua_gettop (L);
  if (nested_of (L, index))
    nested = lua_gettop (L);
  for (i = 0; i < group->size; i++) {
    const struct task *task = &group->tasks[i];
    lua_createtable (L, 0, 5);
    group_push_name_at (L, index, task);
    lua_setfield (L, -2, "name");
    set_time (L, trace, trace->started, "started");
    set_time (L, trace, now, "ended");
    lua_pushstring (L, trace_status (task));
    lua_setfield (L, -2, "status");
    lua_newtable (L);
    lua_setfield (L, -2, "waits");
    if (nested) {
      lua_rawgeti (L, nested, (lua_Integer)i + 1);
      lua_setfield (L, -2, "groups");
    }
    lua_rawseti (L, tasks, (lua_Integer)i + 1);
  }
  for (at = 0; trace->events && at < trace->events->count; at++) {
    const struct event *event = &trace->events->list[at];
    lua_rawgeti (L, tasks, (lua_Integer)event->task + 1);
    switch ((enum event_kind)event->kind) {
    case EVENT_START:
      /* One that had to wait for its place first is there since then. */
      if (!end_wait (L, trace, event->at, at))
        set_time (L, trace, event->at, "started");
      break;
    case EVENT_WAIT:
      lua_getfield (L, -1, "waits");
      lua_createtable (L, 0, 4);
      lua_pushstring (L, wait_names[event->wait]);
      lua_setfield (L, -2, "kind");
      if (event->sibling) {
        group_push_name_at (L, index, &group->tasks[event->sibling - 1]);
        lua_setfield (L, -2, "on");
      }
      set_time (L, trace, event->at, "from");
      set_time (L, trace, now, "to");
      lua_rawseti (L, -2, (lua_Integer)lua_rawlen (L, -2) + 1);
      lua_pop (L, 1);
      break;
    case EVENT_RESUME:
      end_wait (L, trace, event->at, at);
      break;
    case EVENT_PLACE:
      lua_getfield (L, -1, "waits");
      if (lua_rawgeti (L, -1, (lua_Integer)lua_rawlen (L, -1)) == LUA_TTABLE) {
        group_push_name_at (L, index, &group->tasks[event->sibling - 1]);
        lua_setfield (L, -2, "by");
      }
      lua_pop (L, 2);
      break;
    case EVENT_END:
      set_time (L, trace, event->at, "ended");
      break;
    }
    lua_pop (L, 1);
  }
  lua_settop (L, tasks);
  lua_setfield (L, -2, "tasks");
}

/* Hand the record on top of the stack, of the group at `index`, to the waterfall that it is part of. */
static void hand_in (lua_State *L, const struct trace *trace) {
  struct task *task = trace->part_of;
  const struct trace *whole = trace_of (task->group);
  lua_pushnumber (L, ((double)trace->started - (double)whole->started) / 1e9);
  lua_setfield (L, -2, "at");
  group_peek (L, task->group, TRACE);
  if (lua_getiuservalue (L, -1, 1) != LUA_TTABLE) {
    lua_pop (L, 1);
    lua_newtable (L);
    lua_pushvalue (L, -1);
    lua_setiuservalue (L, -3, 1);
  }
  if (lua_rawgeti (L, -1, (lua_Integer)task->index + 1) != LUA_TTABLE) {
    lua_pop (L, 1);
    lua_newtable (L);
    lua_pushvalue (L, -1);
    lua_rawseti (L, -3, (lua_Integer)task->index + 1);
  }
  lua_pushvalue (L, -4);
  lua_rawseti (L, -2, (lua_Integer)lua_rawlen (L, -2) + 1);
  lua_pop (L, 3);
}

void trace_finish (lua_State *L, int index) {
  const struct trace *trace = trace_of (lua_touserdata (L, index));
  if (!trace->real)
    return;
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  push_record (L, index);
  if (trace->prints) {
    lua_getfield (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield (L, -1, "allua");
    lua_getfield (L, -1, "waterfall");
    lua_pushvalue (L, -4);
    lua_call (L, 1, 1);
    fputs (luaL_checkstring (L, -1), stderr);
    fflush (stderr);
    lua_pop (L, 3);
  }
  if (trace->part_of)
    hand_in (L, trace);
  lua_pop (L, 1);
}
