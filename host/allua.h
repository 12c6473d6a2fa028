/* allua: one primitive, all{}, on Lua 5.4 and libuv. The whole public C interface.
 *
 * Threads: a host belongs to the thread of its loop. Every function here is called on that thread,
 * except allua_post, which any thread may call. No function exits, prints, or installs a signal
 * handler. Sizes are bytes. */
#ifndef ALLUA_H
#define ALLUA_H

#include <stddef.h>

#include <lua.h>
#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ALLUA_VERSION "0.1.0"

#if defined(__GNUC__)
#define ALLUA_API __attribute__ ((visibility ("default")))
#define ALLUA_PRINTF(string, first) __attribute__ ((format (printf, string, first)))
#else
#define ALLUA_API
#define ALLUA_PRINTF(string, first)
#endif

#define ALLUA_OK 0
#define ALLUA_ERROR 1
#define ALLUA_MEMORY 2

typedef struct allua allua;
typedef struct allua_promise allua_promise;

typedef struct allua_options {
  /* sizeof (allua_options), or 0: later versions add fields at the end. */
  size_t size;
  /* Borrowed: it must outlive the host, and be run until the host's handles have closed after
     allua_close. NULL: a loop of the host's own. */
  uv_loop_t *loop;
  /* Borrowed, its main thread or any coroutine of it. NULL: a state of the host's own, with the
     standard libraries, luv on the host's loop and cjson. */
  lua_State *state;
  /* For a state of its own, and for the host itself; NULL: malloc. */
  lua_Alloc alloc;
  void *alloc_data;
  /* Bytes of Lua memory (a state of its own only), 0: no limit. Past it scripts get an error. */
  size_t memory_limit;
  /* Where to look for allua's Lua half (PATH/allua/NAME.lua) instead of the built-in one. */
  const char *path;
  /* Nonzero: set the globals `allua` and `all`. On a borrowed state it also makes `coroutine` and
     `require` await-transparent and gives `require "luv"` the host's loop; without it a borrowed
     state is left as it was, but for `require "allua"`. */
  int globals;
  /* A report of an error that nobody caught: a rejected promise that nobody awaited, an error in
     a luv callback. May be called inside a collection: it must not call Lua. NULL: Lua's warn. */
  void (*on_error) (allua *host, const char *report, void *data);
  void *data;
  /* Seconds, 0: never. A task that computes for longer than slow_turn without giving way is told of; one
     that does for longer than stuck_turn is ended by a StuckError. While either is set, what tasks compute
     in Lua takes about twice as long: no signal and no thread looks, the tasks do. */
  double slow_turn, stuck_turn;
  /* A report of a task that is slow, with its traceback and the chain of its owners. It must not call Lua.
     NULL: Lua's warn. */
  void (*on_slow) (allua *host, const char *report, void *data);
} allua_options;

/* Open a host. `options` may be NULL: all defaults; it is copied.
   Returns NULL when there is no memory, or when libuv cannot make a loop. */
ALLUA_API allua *allua_open (const allua_options *options);

/* Cancel every task, join them, close every handle and give all memory back. `host` may be NULL.
   Safe in any state. From inside a task or a callback of allua's it takes effect when the
   outermost call of allua's (or turn of the loop) ends. On a borrowed loop tasks that still wait
   after their cancelling are stopped at once, and the loop must run once more to close the
   handles; a state of the host's own is closed with the last of them. */
ALLUA_API void allua_close (allua *host);

ALLUA_API lua_State *allua_state (allua *host);
ALLUA_API uv_loop_t *allua_loop (allua *host);
ALLUA_API void *allua_data (allua *host); /* options.data */

/* The host of a state, from any coroutine of its; NULL when it has none. */
ALLUA_API allua *allua_of (lua_State *L);

/* Run a chunk as a root task, and the loop with it, until the task and what it spawned have ended.
   Not to be called from inside a task, nor from a callback of the loop, which libuv cannot run inside
   itself: ALLUA_ERROR, as far as the host can tell.
   `name` is the chunk's name as in luaL_loadbuffer ("=app", "@app.lua"), NULL: the chunk itself.
   argv[0 .. argc-1] become the chunk's arguments. */
ALLUA_API int allua_run_file (allua *host, const char *path, int argc, char **argv);
ALLUA_API int allua_run_string (allua *host, const char *chunk, const char *name);

/* Start the function and `arguments` values on top of the state's stack (they are popped) as a root
   task, and return; the task runs in turns of the loop. `done` (may be NULL) is called once, on the
   loop's thread, with ALLUA_OK and the results, or ALLUA_ERROR or ALLUA_MEMORY and the error (1),
   on top of L's stack. It may not raise. Returns ALLUA_OK; else nothing started, `done` is not
   called, and allua_error tells why. */
ALLUA_API int allua_start (allua *host, int arguments,
                           void (*done) (lua_State *L, int status, int results, void *data),
                           void *data);

/* The report of the last run's error, with traceback and chain of tasks, or NULL when it had none.
   Belongs to the host; valid until the next run or allua_close. */
ALLUA_API const char *allua_error (const allua *host);

/* A C function that waits: make a promise, start the work, return allua_await (L, promise).
   A promise belongs to the collector and is kept until it is settled; until then it counts as
   pending work (it keeps the loop alive), and nobody but C can settle it. It is to be settled once, if
   need be after allua_close, which then only frees. After that, and after its on_cancel, the pointer
   is not to be used any more, unless the promise is on a Lua stack: then settling it again does
   nothing but free. Pushes the promise, which
   Lua can await, and returns it. Raises when there is no memory. */
ALLUA_API allua_promise *allua_promise_new (lua_State *L);

/* Suspend the running task until the promise is settled, then return its values or raise its error
   from the calling C function. To be used as `return allua_await (L, promise);`. Outside a task it
   runs the loop until then. Raises when the caller cannot suspend, or is cancelled. */
ALLUA_API int allua_await (lua_State *L, allua_promise *promise);

/* Pushes the values and returns how many; may raise. Called exactly once for each resolve, and with
   L == NULL where nobody can take the values any more, so that data can be freed. */
typedef int (*allua_push) (lua_State *L, void *data);

/* Fulfil: `push` (NULL: no values) will be run on the stack of the coroutine that waits, in its
   own time; no Lua runs inside this call. From any callback of the loop. */
ALLUA_API void allua_promise_resolve (allua_promise *promise, allua_push push, void *data);

/* Reject with a message, formatted as by printf. */
ALLUA_API void allua_promise_reject (allua_promise *promise, const char *format, ...)
    ALLUA_PRINTF (2, 3);

/* `cancel` is called at most once, before the promise is settled, when the last task that waited
   for it is cancelled or the host closes: stop the work. Nothing may be settled after. Without it a
   cancelled wait leaves the promise pending, to be settled as if nothing had happened. It may not
   call Lua. */
ALLUA_API void allua_promise_on_cancel (allua_promise *promise, void (*cancel) (void *data),
                                        void *data);

/* The one call that any thread may make: run fn on the loop's thread, in the order of the posts.
   Returns 0, or a libuv error (UV_ENOMEM, UV_ECANCELED once the host is closing). What is posted
   but has not run when the host closes is run by allua_close. The caller sees to it that no thread
   posts after allua_close has returned. */
ALLUA_API int allua_post (allua *host, void (*fn) (allua *host, void *data), void *data);

#ifdef __cplusplus
}
#endif

#endif
