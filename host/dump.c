#include "dump.h"

#include "error.h"
#include "group.h"
#include "promise_object.h"

enum { MOST_TOLD = 50, MOST_DEPTH = 20 };

/* What is being made: the text, and how many tasks stand in it. */
struct dump {
  lua_State *L;
  luaL_Buffer text;
  bool waiting; /* only those that wait */
  bool times;
  uint32_t now; /* as task.since */
  size_t told;
};

/* Add the string on top. */
static void add_top (struct dump *dump) {
  luaL_addvalue (&dump->text);
}

static int get_raw (lua_State *L, int index, const char *name) {
  lua_pushstring (L, name);
  return lua_rawget (L, index);
}

static void add_name (struct dump *dump, const struct task *task) {
  group_push_name (dump->L, task);
  luaL_tolstring (dump->L, -1, NULL);
  lua_remove (dump->L, -2);
  add_top (dump);
}

/* Whom a server's task answers. Its event may be any table. */
static void add_request (struct dump *dump, const struct task *task) {
  lua_State *L = dump->L;
  int top = lua_gettop (L);
  if (task->group->kind == GROUP_SPAWN && group_peek (L, task->group, AUX) == LUA_TTABLE
      && lua_rawgeti (L, top + 1, 1) == LUA_TTABLE && get_raw (L, top + 2, "method") == LUA_TSTRING
      && get_raw (L, top + 2, "path") == LUA_TSTRING) {
    lua_pushfstring (L, " (%s %s)", lua_tostring (L, top + 3), lua_tostring (L, top + 4));
    lua_replace (L, top + 1);
    lua_settop (L, top + 1);
    add_top (dump);
  } else {
    lua_settop (L, top);
  }
}

static void add_line (struct dump *dump, int depth) {
  luaL_addstring (&dump->text, "\n  ");
  while (depth-- > 0)
    luaL_addstring (&dump->text, "  ");
}

static const char *waited_for (const struct task *task) {
  switch (task->state == TASK_HELD ? WAIT_PLACE : (enum task_wait)task->wait) {
  case WAIT_PROMISE: {
    const char *what = promise_object_what (task->on);
    return what ? what : "a promise";
  }
  case WAIT_GROUP:
  case WAIT_NEXT:
    return "the tasks that it started";
  case WAIT_CHILDREN:
    return "the tasks that it spawned";
  case WAIT_PLACE:
    return "a place among its siblings";
  default:
    return "a timer";
  }
}

static void add_state (struct dump *dump, const struct task *task) {
  const struct promise *promise = task->on;
  if (task->state == TASK_RUNNING) {
    luaL_addstring (&dump->text, "runs");
  } else if (task->state == TASK_READY) {
    luaL_addstring (&dump->text, task->co ? "is ready to go on" : "is ready to start");
  } else {
    luaL_addstring (&dump->text, "waits for ");
    if (task->state == TASK_WAITING && task->wait == WAIT_PROMISE
        && promise->kind == PROMISE_OF_TASK) {
      luaL_addstring (&dump->text, "task \"");
      add_name (dump, (const struct task *)promise);
      luaL_addchar (&dump->text, '"');
    } else {
      luaL_addstring (&dump->text, waited_for (task));
    }
  }
}

static void add_time (struct dump *dump, uint32_t ms) {
  if (ms < 1000)
    lua_pushfstring (dump->L, ", for %d ms", (int)ms);
  else if (ms < 120000)
    lua_pushfstring (dump->L, ", for %d.%d s", (int)(ms / 1000), (int)(ms / 100 % 10));
  else
    lua_pushfstring (dump->L, ", for %d min", (int)(ms / 60000));
  add_top (dump);
}

/* Add a place, which is on top, or nil. */
static void add_place (struct dump *dump, const char *before) {
  if (!lua_isstring (dump->L, -1)) {
    lua_pop (dump->L, 1);
    return;
  }
  lua_pushstring (dump->L, before);
  lua_insert (dump->L, -2);
  lua_concat (dump->L, 2);
  add_top (dump);
}

static void add_task (struct dump *dump, struct task *task, int depth) {
  const struct group *group = task->group;
  lua_State *at = task->co ? task->at : NULL;
  add_line (dump, depth);
  luaL_addstring (&dump->text, "task \"");
  add_name (dump, task);
  luaL_addchar (&dump->text, '"');
  add_request (dump, task);
  luaL_addchar (&dump->text, ' ');
  add_state (dump, task);
  if (task->cancelled && task->state != TASK_RUNNING)
    luaL_addstring (&dump->text, ", cancelled");
  if (task->state == TASK_RUNNING)
    at = group->host->current == task ? group->host->running : NULL;
  if (at) {
    error_push_place (dump->L, at, 0);
    add_place (dump, ", at ");
  }
  if (dump->times && task->state == TASK_WAITING)
    add_time (dump, dump->now - task->since);
}

/* What a group is: its kind, its name, how much of it is left, where it was started. */
static void add_header (struct dump *dump, struct group *group, int depth) {
  add_line (dump, depth);
  luaL_addstring (&dump->text, group_kind_name ((enum group_kind)group->kind));
  if (group_peek (dump->L, group, LABEL) == LUA_TSTRING) {
    lua_pushfstring (dump->L, " \"%s\"", lua_tostring (dump->L, -1));
    lua_remove (dump->L, -2);
    add_top (dump);
  } else {
    lua_pop (dump->L, 1);
  }
  lua_pushfstring (dump->L, ", %d of %d tasks left", (int)group->pending, (int)group->size);
  add_top (dump);
  if (group->kind == GROUP_SPAWN) {
    group_peek (dump->L, group, STARTED);
    add_place (dump, ", started at ");
  }
}

static bool is_told (const struct dump *dump, const struct task *task) {
  return task->state == TASK_WAITING || (!dump->waiting && task->state != TASK_ENDED);
}

static bool has_told (const struct dump *dump, const struct group *group) {
  uint32_t i;
  for (i = 0; i < group->size; i++)
    if (is_told (dump, &group->tasks[i]))
      return true;
  return false;
}

/* The tasks of the group and, each below its owner, those of the groups inside it; what is deeper than
   MOST_DEPTH is left out. */
static void add_group (struct dump *dump, struct group *group, int depth) {
  uint32_t i;
  if (group->kind != GROUP_ROOT && dump->told < MOST_TOLD && has_told (dump, group))
    add_header (dump, group, depth++);
  for (i = 0; i < group->size; i++) {
    struct task *task = &group->tasks[i];
    struct group *child;
    if (is_told (dump, task) && ++dump->told <= MOST_TOLD)
      add_task (dump, task, depth);
    if (task->state == TASK_ENDED || depth >= MOST_DEPTH)
      continue;
    for (child = task->children; child; child = child->next)
      add_group (dump, child, depth + 1);
  }
}

void dump_push (lua_State *L, allua *host, bool waiting, bool times) {
  struct dump dump = { .L = L, .waiting = waiting, .times = times };
  struct group *group;
  luaL_checkstack (L, LUA_MINSTACK, NULL);
  /* The loop's own time, at its next look. */
  dump.now = (uint32_t)(uv_hrtime () / 1000000);
  luaL_buffinit (L, &dump.text);
  for (group = host->roots; group; group = group->next)
    add_group (&dump, group, 0);
  if (dump.told > MOST_TOLD) {
    lua_pushfstring (L, "\n  ... and %I tasks more", (LUAI_UACINT)(dump.told - MOST_TOLD));
    add_top (&dump);
  }
  luaL_pushresult (&dump.text);
}
