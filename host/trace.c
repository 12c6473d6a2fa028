#include "trace.h"

#include <stdio.h>

enum event_kind { EVENT_START, EVENT_WAIT, EVENT_RESUME, EVENT_END };

struct event {
  uint64_t at; /* ns */
  uint32_t task, sibling;
  uint8_t kind;
};

/* In a userdata of the group's slots; the events are the host's memory, freed with it. */
struct trace {
  struct mem *mem;
  uint64_t started;
  struct event *events;
  size_t count, size;
};

static int trace_gc (lua_State *L) {
  struct trace *trace = lua_touserdata (L, 1);
  mem_resize (trace->mem, trace->events, trace->size * sizeof *trace->events, 0);
  trace->events = NULL;
  trace->count = trace->size = 0;
  return 0;
}

void trace_open (lua_State *L, int index) {
  struct group *group = lua_touserdata (L, index);
  struct trace *trace = lua_newuserdatauv (L, sizeof *trace, 0);
  trace->mem = &group->host->mem;
  trace->started = uv_hrtime ();
  trace->events = NULL;
  trace->count = trace->size = 0;
  lua_createtable (L, 0, 1);
  lua_pushcfunction (L, trace_gc);
  lua_setfield (L, -2, "__gc");
  lua_setmetatable (L, -2);
  group_set (L, index, TRACE);
  group_extend (L, index)->trace = trace;
}

static void add (struct task *task, enum event_kind kind, uint32_t sibling) {
  struct trace *trace = trace_of (task->group);
  if (trace->count == trace->size) {
    size_t size = trace->size ? trace->size * 2 : 64;
    void *block = mem_resize (trace->mem, trace->events, trace->size * sizeof *trace->events,
                              size * sizeof *trace->events);
    if (!block)
      return;
    trace->events = block;
    trace->size = size;
  }
  trace->events[trace->count++] = (struct event){
    .at = uv_hrtime (), .task = task->index, .sibling = sibling, .kind = (uint8_t)kind
  };
}

void trace_start (struct task *task) {
  add (task, EVENT_START, 0);
}

void trace_wait (struct task *task, const struct task *sibling) {
  if (sibling->group == task->group)
    add (task, EVENT_WAIT, sibling->index);
}

void trace_resume (struct task *task) {
  add (task, EVENT_RESUME, 0);
}

void trace_end (struct task *task) {
  add (task, EVENT_END, 0);
}

static void set_time (lua_State *L, const struct trace *trace, uint64_t at, const char *field) {
  lua_pushnumber (L, (double)(at - trace->started) / 1e9);
  lua_setfield (L, -2, field);
}

/* Push the record that the waterfall is drawn from. */
static void push_record (lua_State *L, int index) {
  struct group *group = lua_touserdata (L, index);
  struct trace *trace = trace_of (group);
  uint64_t now = uv_hrtime ();
  uint32_t i;
  size_t at;
  int tasks;
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
  lua_createtable (L, (int)group->size, 0);
  tasks = lua_gettop (L);
  for (i = 0; i < group->size; i++) {
    const struct task *task = &group->tasks[i];
    lua_createtable (L, 0, 5);
    group_push_name_at (L, index, task);
    lua_setfield (L, -2, "name");
    set_time (L, trace, trace->started, "started");
    set_time (L, trace, now, "ended");
    lua_pushstring (L,
                    task->promise.cancelled ? "cancelled" : promise_status_name (&task->promise));
    lua_setfield (L, -2, "status");
    lua_newtable (L);
    lua_setfield (L, -2, "waits");
    lua_rawseti (L, tasks, (lua_Integer)i + 1);
  }
  for (at = 0; at < trace->count; at++) {
    const struct event *event = &trace->events[at];
    lua_rawgeti (L, tasks, (lua_Integer)event->task + 1);
    if (event->kind == EVENT_START) {
      set_time (L, trace, event->at, "started");
    } else if (event->kind == EVENT_END) {
      set_time (L, trace, event->at, "ended");
    } else {
      lua_getfield (L, -1, "waits");
      if (event->kind == EVENT_WAIT) {
        lua_createtable (L, 0, 3);
        group_push_name_at (L, index, &group->tasks[event->sibling]);
        lua_setfield (L, -2, "on");
        set_time (L, trace, event->at, "from");
        set_time (L, trace, now, "to");
        lua_rawseti (L, -2, (lua_Integer)lua_rawlen (L, -2) + 1);
      } else if (lua_rawgeti (L, -1, (lua_Integer)lua_rawlen (L, -1)) == LUA_TTABLE) {
        set_time (L, trace, event->at, "to");
        lua_pop (L, 1);
      } else {
        lua_pop (L, 1);
      }
      lua_pop (L, 1);
    }
    lua_pop (L, 1);
  }
  lua_setfield (L, -2, "tasks");
}

void trace_print (lua_State *L, int index) {
  lua_getfield (L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield (L, -1, "allua");
  lua_getfield (L, -1, "waterfall");
  push_record (L, index);
  lua_call (L, 1, 1);
  fputs (luaL_checkstring (L, -1), stderr);
  fflush (stderr);
  lua_pop (L, 3);
}
