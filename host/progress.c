#include "progress.h"

#include <math.h>

#include "error.h"
#include "promise_object.h"
#include "trace.h"

enum { MOST_DEPTH = 16 };

/* A task that has started and not ended, in the order of their starts. rows[task->row - 1] is its own. */
struct row {
  struct task *task;          /* NULL: it has ended */
  uint64_t started;           /* ns */
  double done;                /* as it said; < 0: it has said nothing, … */
  double total;               /* … only that */
  uint32_t child, last, next; /* of the tree, while it is made: rows from 1, 0: none */
};

struct progress {
  struct row *rows;
  size_t count, size, ended;
  uint64_t began;
  lua_Integer under_way, finished, failed, cancelled;
  int tell; /* registry reference */
};

static double seconds_since (uint64_t then) {
  return (double)(uv_hrtime () - then) / 1e9;
}

/* The root task is the program itself; the one inside `timeout` or `run` is its caller's. */
static bool is_shown (const struct task *task) {
  return task->group->kind != GROUP_ROOT && task->group->kind != GROUP_CALL;
}

static const struct task *shown_owner (const struct task *task) {
  do
    task = task->group->owner;
  while (task && !is_shown (task));
  return task;
}

static void push_name (lua_State *L, const struct task *task) {
  group_push_name (L, task);
  luaL_tolstring (L, -1, NULL);
  lua_remove (L, -2);
}

/* Push "outer/inner". */
static void push_path (lua_State *L, const struct task *task) {
  const struct task *chain[MOST_DEPTH];
  luaL_Buffer text;
  int depth = 0;
  while (task && depth < MOST_DEPTH) {
    chain[depth++] = task;
    task = shown_owner (task);
  }
  luaL_buffinit (L, &text);
  while (depth-- > 0) {
    push_name (L, chain[depth]);
    luaL_addvalue (&text);
    if (depth)
      luaL_addchar (&text, '/');
  }
  luaL_pushresult (&text);
}

/* ── what happens ── */

struct news {
  const struct task *task;
  const char *event;
  double seconds;
};

/* Arguments: the news, the error of a task that failed. */
static int tell (lua_State *L) {
  const struct news *news = lua_touserdata (L, 1);
  lua_settop (L, 2);
  luaL_checkstack (L, LUA_MINSTACK + MOST_DEPTH, NULL);
  lua_rawgeti (L, LUA_REGISTRYINDEX, news->task->group->host->progress->tell);
  lua_pushstring (L, news->event);
  push_path (L, news->task);
  lua_pushnumber (L, news->seconds);
  error_push_message (L, 2);
  lua_call (L, 4, 0);
  return 0;
}

/* Called by the scheduler, so protected, on its worker; news that there is no memory for is left out. */
static void spread (const struct news *news, lua_State *error) {
  lua_State *L = news->task->group->host->worker;
  int top = lua_gettop (L);
  if (!lua_checkstack (L, 4))
    return;
  lua_pushcfunction (L, tell);
  lua_pushlightuserdata (L, (void *)news);
  if (error && lua_gettop (error) > 0 && lua_checkstack (error, 1)) {
    lua_pushvalue (error, -1);
    lua_xmove (error, L, 1);
  } else {
    lua_pushnil (L);
  }
  lua_pcall (L, 2, 0, 0);
  lua_settop (L, top);
}

/* Close the gaps. */
static void compact (struct progress *progress) {
  size_t from, to = 0;
  for (from = 0; from < progress->count; from++)
    if (progress->rows[from].task) {
      progress->rows[to] = progress->rows[from];
      progress->rows[to].task->row = (uint32_t)to + 1;
      to++;
    }
  progress->count = to;
  progress->ended = 0;
}

static bool has_room (allua *host, struct progress *progress) {
  const size_t item = sizeof *progress->rows;
  size_t size = progress->size ? progress->size * 2 : 64;
  struct row *rows;
  if (progress->count < progress->size)
    return true;
  if (progress->ended > progress->count / 2) {
    compact (progress);
    return true;
  }
  if (size > UINT32_MAX / 2)
    return false;
  rows = mem_resize (&host->mem, progress->rows, progress->size * item, size * item);
  if (!rows)
    return false;
  progress->rows = rows;
  progress->size = size;
  return true;
}

void progress_start (struct task *task) {
  allua *host = task->group->host;
  struct progress *progress = host->progress;
  struct news news = { .task = task, .event = "started" };
  if (task->row || task->group->kind == GROUP_CALL || !has_room (host, progress))
    return;
  progress->rows[progress->count++]
      = (struct row){ .task = task, .started = uv_hrtime (), .done = -1, .total = -1 };
  task->row = (uint32_t)progress->count;
  if (!is_shown (task))
    return;
  progress->under_way++;
  spread (&news, NULL);
}

void progress_end (struct task *task) {
  struct progress *progress = task->group->host->progress;
  struct news news = { .task = task };
  struct row *row;
  if (!task->row)
    return;
  row = &progress->rows[task->row - 1];
  news.seconds = seconds_since (row->started);
  row->task = NULL;
  progress->ended++;
  task->row = 0;
  if (!is_shown (task))
    return;
  progress->under_way--;
  if (task->promise.cancelled) {
    news.event = "cancelled";
    progress->cancelled++;
  } else if (task->failed) {
    news.event = "failed";
    progress->failed++;
  } else {
    news.event = "finished";
    progress->finished++;
  }
  spread (&news, task->failed ? task->co : NULL);
}

void progress_add_group (lua_State *L, int index) {
  const struct group *group = lua_touserdata (L, index);
  struct group_options *options;
  if (group->kind == GROUP_CALL)
    return;
  options = group_extend (L, index);
  if (!options->trace)
    options->trace = trace_streamed ();
}

/* ── how it stands ── */

/* Set row.wait, row.on of the table on top: what the task does. */
static void set_wait (lua_State *L, const struct task *task) {
  const char *wait = "running", *on = NULL;
  /* One that waits inside `timeout` waits for what that waits for. */
  while (task->state == TASK_WAITING && task->wait == WAIT_GROUP
         && ((struct group *)task->on)->kind == GROUP_CALL)
    task = &((struct group *)task->on)->tasks[0];
  if (task->state == TASK_WAITING) {
    struct promise *promise = task->on;
    switch ((enum task_wait)task->wait) {
    case WAIT_TIMER:
      wait = "sleep";
      break;
    case WAIT_PLACE:
      wait = "place";
      break;
    case WAIT_PROMISE:
      if (promise->kind == PROMISE_OF_TASK) {
        wait = "sibling";
        push_name (L, (struct task *)promise);
        lua_setfield (L, -2, "on");
      } else {
        wait = "io";
        on = promise_object_what (promise);
      }
      break;
    case WAIT_GROUP:
    case WAIT_NEXT: {
      const struct group *group = task->on;
      lua_pushinteger (L, group->size - group->pending);
      lua_setfield (L, -2, "ended");
      lua_pushinteger (L, group->size);
      lua_setfield (L, -2, "tasks");
    }
      /* fall through */
    default:
      wait = "tasks";
    }
  }
  if (on) {
    lua_pushstring (L, on);
    lua_setfield (L, -2, "on");
  }
  lua_pushstring (L, wait);
  lua_setfield (L, -2, "wait");
}

static void set_number (lua_State *L, const char *field, double number) {
  if (number < 0)
    return;
  if (number == floor (number) && number < 1e15)
    lua_pushinteger (L, (lua_Integer)number);
  else
    lua_pushnumber (L, number);
  lua_setfield (L, -2, field);
}

static void push_row (lua_State *L, const struct row *row, int depth) {
  lua_createtable (L, 0, 8);
  push_name (L, row->task);
  lua_setfield (L, -2, "name");
  lua_pushinteger (L, depth);
  lua_setfield (L, -2, "depth");
  lua_pushnumber (L, seconds_since (row->started));
  lua_setfield (L, -2, "seconds");
  set_number (L, "done", row->done);
  set_number (L, "total", row->total);
  set_wait (L, row->task);
}

/* Link the rows to a tree; returns the first at the top. The root task is in it where it has something to say,
   or is alone. */
static uint32_t make_tree (struct progress *progress) {
  uint32_t i, first = 0, last = 0;
  for (i = 0; i < progress->count; i++)
    progress->rows[i].child = progress->rows[i].last = progress->rows[i].next = 0;
  for (i = 1; i <= progress->count; i++) {
    const struct row *row = &progress->rows[i - 1];
    const struct task *owner = shown_owner (row->task);
    uint32_t *head = &first, *tail = &last;
    if (!is_shown (row->task) && row->done < 0 && progress->under_way)
      continue;
    if (owner && owner->row) {
      head = &progress->rows[owner->row - 1].child;
      tail = &progress->rows[owner->row - 1].last;
    }
    if (*tail)
      progress->rows[*tail - 1].next = i;
    else
      *head = i;
    *tail = i;
  }
  return first;
}

/* Add the rows from `at` on, and what is below each, to the list on top, until there are `most`. */
static void add_rows (lua_State *L, const struct progress *progress, uint32_t at, int depth,
                      lua_Integer most) {
  for (; at && (lua_Integer)lua_rawlen (L, -1) < most; at = progress->rows[at - 1].next) {
    push_row (L, &progress->rows[at - 1], depth);
    lua_rawseti (L, -2, (lua_Integer)lua_rawlen (L, -2) + 1);
    if (depth < MOST_DEPTH)
      add_rows (L, progress, progress->rows[at - 1].child, depth + 1, most);
  }
}

static void set_integer (lua_State *L, const char *field, lua_Integer value) {
  lua_pushinteger (L, value);
  lua_setfield (L, -2, field);
}

/* core.progress_rows (most) */
static int rows (lua_State *L) {
  struct progress *progress = host_of (L)->progress;
  lua_Integer most = luaL_checkinteger (L, 1);
  luaL_checkstack (L, LUA_MINSTACK + 2 * MOST_DEPTH, NULL);
  if (!progress)
    return 0;
  compact (progress);
  lua_createtable (L, (int)(progress->count < 64 ? progress->count : 64), 0);
  add_rows (L, progress, make_tree (progress), 0, most);
  lua_createtable (L, 0, 5);
  set_integer (L, "under_way", progress->under_way);
  set_integer (L, "finished", progress->finished);
  set_integer (L, "failed", progress->failed);
  set_integer (L, "cancelled", progress->cancelled);
  lua_pushnumber (L, seconds_since (progress->began));
  lua_setfield (L, -2, "seconds");
  return 2;
}

static double check_amount (lua_State *L, int index, const char *what) {
  double amount = lua_tonumber (L, index);
  if (lua_type (L, index) != LUA_TNUMBER || !(amount >= 0) || amount == HUGE_VAL)
    luaL_error (L, "progress: expected a number, 0 or more, for %s (got %s)", what,
                luaL_tolstring (L, index, NULL));
  return amount;
}

int progress_set (lua_State *L) {
  allua *host = host_of (L);
  const struct task *task = host->current;
  double done, total;
  struct row *row;
  lua_settop (L, 2);
  done = check_amount (L, 1, "done");
  total = lua_isnil (L, 2) ? -1 : check_amount (L, 2, "total");
  while (task && task->group->kind == GROUP_CALL)
    task = task->group->owner;
  if (!host->progress || !task || !task->row)
    return 0;
  row = &host->progress->rows[task->row - 1];
  row->done = done;
  row->total = total;
  return 0;
}

/* ── beginning and end ── */

/* core.progress_start (tell) */
static int begin (lua_State *L) {
  allua *host = host_of (L);
  struct progress *progress;
  luaL_checktype (L, 1, LUA_TFUNCTION);
  lua_settop (L, 1);
  if (host->progress)
    return luaL_error (L, "progress is seen already");
  progress = mem_resize (&host->mem, NULL, 0, sizeof *progress);
  if (!progress)
    return error_raise_memory (L, host);
  *progress = (struct progress){ .began = uv_hrtime (), .tell = LUA_NOREF };
  host->progress = progress;
  progress->tell = luaL_ref (L, LUA_REGISTRYINDEX);
  return 0;
}

void progress_close (allua *host) {
  struct progress *progress = host->progress;
  size_t i;
  if (!progress)
    return;
  for (i = 0; i < progress->count; i++)
    if (progress->rows[i].task)
      progress->rows[i].task->row = 0;
  host->progress = NULL;
  luaL_unref (host->main, LUA_REGISTRYINDEX, progress->tell);
  mem_resize (&host->mem, progress->rows, progress->size * sizeof *progress->rows, 0);
  mem_resize (&host->mem, progress, sizeof *progress, 0);
}

void progress_functions (lua_State *L) {
  static const luaL_Reg functions[]
      = { { "progress_start", begin }, { "progress_rows", rows }, { NULL, NULL } };
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, functions, 1);
}
