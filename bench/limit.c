/* limit: the least that a group of tasks can cost in C on Lua 5.4, to measure allua against.
 *
 * Coroutines made with lua_newthread, run with lua_resume, suspended with lua_yieldk, and reused as they
 * are when they have ended; a queue of tasks that can go on, a heap of those that sleep; results in a
 * table. Nothing else: no errors, no cycles, no cancelling, no structure. Two forms:
 *
 *   bare:  tasks are numbers, a task waits by calling a C function;
 *   named: tasks are strings, a task waits by reading a field of a userdata, in a C __index; each run
 *          makes the map from names to numbers, as allua has to.
 *
 * The program runs the script named on its command line, with this as the module "limit". */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NONE = -1 };

struct task {
  lua_State *co;
  int waiters; /* the first of the tasks that wait for this one */
  int next; /* the next in the one list that this task is in: a list of waiters, or the ready queue */
  int settled;
  double deadline; /* while it sleeps */
};

/* One group runs at a time. */
static struct {
  struct task *tasks; /* from 1 */
  int current;
  int ready_first, ready_last;
  int *heap; /* sleepers, the earliest first, from 1 */
  int asleep;
  lua_State **pool; /* ended coroutines; all there are stand in the table `threads` */
  int pooled, made, threads;
} run;

static double now (void) {
  struct timespec time;

  clock_gettime (CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *grow (void *block, size_t count, size_t size) {
  block = realloc (block, count * size);
  if (block == NULL)
    abort ();
  return block;
}

static void make_ready (int number) {
  run.tasks[number].next = NONE;
  if (run.ready_first == NONE)
    run.ready_first = number;
  else
    run.tasks[run.ready_last].next = number;
  run.ready_last = number;
}

/* Put the running task on another's list of waiters. */
static void wait_for (int number) {
  run.tasks[run.current].next = run.tasks[number].waiters;
  run.tasks[number].waiters = run.current;
}

static int bare_waited (lua_State *L, int status, lua_KContext number) {
  (void)status;
  lua_rawgeti (L, lua_upvalueindex (1), (lua_Integer)number);
  return 1;
}

/* wait (number) -> result; its upvalue is the table of results */
static int bare_wait (lua_State *L) {
  int number = (int)lua_tointeger (L, 1);

  if (run.tasks[number].settled)
    return bare_waited (L, LUA_OK, number);
  wait_for (number);
  return lua_yieldk (L, 0, number, bare_waited);
}

static int named_waited (lua_State *L, int status, lua_KContext context) {
  (void)status, (void)context;
  lua_getiuservalue (L, 1, 1);
  lua_pushvalue (L, 2);
  lua_rawget (L, -2);
  return 1;
}

/* self[name] -> result; the user values of self are the results and the map from names to numbers */
static int named_index (lua_State *L) {
  lua_getiuservalue (L, 1, 1);
  lua_pushvalue (L, 2);
  if (lua_rawget (L, -2) != LUA_TNIL)
    return 1;
  lua_getiuservalue (L, 1, 2);
  lua_pushvalue (L, 2);
  lua_rawget (L, -2);
  wait_for ((int)lua_tointeger (L, -1));
  lua_settop (L, 2);
  return lua_yieldk (L, 0, 0, named_waited);
}

static int limit_yield (lua_State *L) {
  make_ready (run.current);
  return lua_yield (L, 0);
}

/* sleep (seconds) */
static int limit_sleep (lua_State *L) {
  double deadline = now () + lua_tonumber (L, 1);
  int i = ++run.asleep;

  for (; i > 1 && run.tasks[run.heap[i / 2]].deadline > deadline; i /= 2)
    run.heap[i] = run.heap[i / 2];
  run.heap[i] = run.current;
  run.tasks[run.current].deadline = deadline;
  return lua_yield (L, 0);
}

/* Take the earliest sleeper off the heap. */
static int wake (void) {
  int number = run.heap[1], moved = run.heap[run.asleep--], i = 1, child;

  for (; (child = 2 * i) <= run.asleep; i = child) {
    if (child < run.asleep
        && run.tasks[run.heap[child + 1]].deadline < run.tasks[run.heap[child]].deadline)
      child++;
    if (run.tasks[run.heap[child]].deadline >= run.tasks[moved].deadline)
      break;
    run.heap[i] = run.heap[child];
  }
  run.heap[i] = moved;
  return number;
}

/* The arguments of run, and what else it keeps on its stack. */
enum { ORDER = 1, TASKS, NAMED, RESULTS, READ };

/* Resume a task; when it ends, keep its result, let its waiters go on and its coroutine be reused. */
static void go_on (lua_State *L, int number, int arguments) {
  struct task *task = &run.tasks[number];
  int results, status, waiter;

  run.current = number;
  status = lua_resume (task->co, L, arguments, &results);
  if (status == LUA_YIELD)
    return;
  if (status != LUA_OK) {
    lua_xmove (task->co, L, 1);
    lua_error (L);
  }
  if (lua_toboolean (L, NAMED)) {
    lua_rawgeti (L, ORDER, number);
    lua_xmove (task->co, L, 1);
    lua_rawset (L, RESULTS);
  } else {
    lua_xmove (task->co, L, 1);
    lua_rawseti (L, RESULTS, number);
  }
  lua_settop (task->co, 0);
  run.pool[run.pooled++] = task->co;
  task->settled = 1;
  for (waiter = task->waiters; waiter != NONE;) {
    int next = run.tasks[waiter].next;

    make_ready (waiter);
    waiter = next;
  }
}

static lua_State *coroutine (lua_State *L) {
  lua_State *co;

  if (run.pooled > 0)
    return run.pool[--run.pooled];
  lua_rawgeti (L, LUA_REGISTRYINDEX, run.threads);
  co = lua_newthread (L);
  lua_rawseti (L, -2, ++run.made);
  lua_pop (L, 1);
  if ((run.made & (run.made - 1)) == 0) /* at each power of two */
    run.pool = grow (run.pool, 2 * (size_t)run.made, sizeof *run.pool);
  return co;
}

static void prepare (lua_State *L, int count) {
  static int room;

  if (count > room) {
    run.tasks = grow (run.tasks, (size_t)count + 1, sizeof *run.tasks);
    run.heap = grow (run.heap, (size_t)count + 1, sizeof *run.heap);
    room = count;
  }
  run.ready_first = run.ready_last = NONE;
  run.asleep = 0;

  for (int number = 1; number <= count; number++) {
    run.tasks[number].waiters = NONE;
    run.tasks[number].settled = 0;
  }
  if (lua_toboolean (L, NAMED)) {
    lua_createtable (L, 0, count);
    lua_newuserdatauv (L, 0, 2);
    lua_pushvalue (L, RESULTS);
    lua_setiuservalue (L, READ, 1);
    lua_createtable (L, 0, count);
    for (int number = 1; number <= count; number++) {
      lua_rawgeti (L, ORDER, number);
      lua_pushinteger (L, number);
      lua_rawset (L, -3);
    }
    lua_setiuservalue (L, READ, 2);
    luaL_setmetatable (L, "limit.self");
  } else {
    lua_createtable (L, count, 0);
    lua_pushvalue (L, RESULTS);
    lua_pushcclosure (L, bare_wait, 1);
  }
}

/* run (order, tasks, named) -> results: the tasks order[1], order[2], … of the table tasks */
static int limit_run (lua_State *L) {
  int count = (int)lua_rawlen (L, ORDER);

  lua_settop (L, NAMED);
  prepare (L, count);
  for (int number = 1; number <= count; number++) {
    lua_State *co = run.tasks[number].co = coroutine (L);

    if (lua_toboolean (L, NAMED)) {
      lua_rawgeti (L, ORDER, number);
      lua_rawget (L, TASKS);
    } else {
      lua_rawgeti (L, TASKS, number);
    }
    lua_pushvalue (L, READ);
    lua_xmove (L, co, 2);
    go_on (L, number, 1);
  }
  for (;;) {
    while (run.ready_first != NONE) {
      int number = run.ready_first;

      run.ready_first = run.tasks[number].next;
      go_on (L, number, 0);
    }
    if (run.asleep == 0)
      break;
    double time = now (), left = run.tasks[run.heap[1]].deadline - time;
    if (left > 0) {
      nanosleep (&(struct timespec){ (time_t)left, (long)((left - (double)(time_t)left) * 1e9) },
                 NULL);
      time = now ();
    }
    while (run.asleep > 0 && run.tasks[run.heap[1]].deadline <= time)
      make_ready (wake ());
  }
  lua_settop (L, RESULTS);
  return 1;
}

static int limit_now (lua_State *L) {
  lua_pushnumber (L, now ());
  return 1;
}

static int open_limit (lua_State *L) {
  static const luaL_Reg functions[] = { { "run", limit_run },
                                        { "yield", limit_yield },
                                        { "sleep", limit_sleep },
                                        { "now", limit_now },
                                        { NULL, NULL } };

  luaL_newmetatable (L, "limit.self");
  lua_pushcfunction (L, named_index);
  lua_setfield (L, -2, "__index");
  lua_newtable (L);
  run.threads = luaL_ref (L, LUA_REGISTRYINDEX);
  luaL_newlib (L, functions);
  return 1;
}

int main (int argc, char **argv) {
  lua_State *L = luaL_newstate ();

  if (L == NULL || argc < 2)
    return 2;
  luaL_openlibs (L);
  luaL_requiref (L, "limit", open_limit, 0);
  lua_createtable (L, argc, 0);
  for (int i = 1; i < argc; i++) {
    lua_pushstring (L, argv[i]);
    lua_rawseti (L, -2, i - 1);
  }
  lua_setglobal (L, "arg");
  if (luaL_dofile (L, argv[1]) != LUA_OK) {
    fprintf (stderr, "limit: %s\n", lua_tostring (L, -1));
    return 1;
  }
  lua_close (L);
  return 0;
}
