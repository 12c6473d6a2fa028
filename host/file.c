#include "file.h"

#include "error.h"
#include "promise_object.h"
#include "state.h"

#define READER "allua.file_reader"

/* Owned by the userdata, and by the request that is under way. */
struct reader {
  uv_fs_t request;
  struct mem mem; /* a copy: the request may end after its host */
  allua_promise *promise;
  unsigned references;
  bool reading;
  ssize_t result; /* of the last request: bytes, or an error of libuv's */
  size_t size;
  char data[];
};

static void release (struct reader *reader) {
  struct mem mem = reader->mem;
  if (--reader->references == 0)
    mem_resize (&mem, reader, sizeof *reader + reader->size, 0);
}

static void on_read (uv_fs_t *request) {
  struct reader *reader = request->data;
  allua_promise *promise = reader->promise;
  reader->result = request->result;
  reader->promise = NULL;
  reader->reading = false;
  uv_fs_req_cleanup (request);
  if (promise)
    allua_promise_resolve (promise, NULL, NULL);
  release (reader);
}

static void forget_promise (void *data) {
  ((struct reader *)data)->promise = NULL;
}

static struct reader *check (lua_State *L) {
  return *(struct reader **)luaL_checkudata (L, 1, READER);
}

/* reader:wait (fd, length, at): until that has been read. */
static int reader_wait (lua_State *L) {
  struct reader *reader = check (L);
  uv_file fd = (uv_file)luaL_checkinteger (L, 2);
  lua_Integer length = luaL_checkinteger (L, 3), at = luaL_checkinteger (L, 4);
  allua *host = allua_of (L);
  allua_promise *promise;
  uv_buf_t buffer;
  int status;
  luaL_argcheck (L, length > 0 && (size_t)length <= reader->size, 3, "not a length");
  luaL_argcheck (L, !reader->reading, 1, "reading already");
  promise = allua_promise_new (L);
  promise_object_stands_for (promise, "a file");
  buffer = uv_buf_init (reader->data, (unsigned)length);
  reader->request.data = reader;
  status = uv_fs_read (allua_loop (host), &reader->request, fd, &buffer, 1, at, on_read);
  if (status < 0) {
    reader->result = status;
    allua_promise_resolve (promise, NULL, NULL);
  } else {
    reader->promise = promise;
    reader->reading = true;
    reader->references++;
    allua_promise_on_cancel (promise, forget_promise, reader);
  }
  return allua_await (L, promise);
}

/* reader:take () → what has been read, "" at the end; or nil and why not */
static int reader_take (lua_State *L) {
  struct reader *reader = check (L);
  if (reader->result < 0) {
    lua_pushnil (L);
    lua_pushstring (L, uv_strerror ((int)reader->result));
    return 2;
  }
  lua_pushlstring (L, reader->data, reader->reading ? 0 : (size_t)reader->result);
  return 1;
}

static int reader_collect (lua_State *L) {
  struct reader **place = luaL_checkudata (L, 1, READER);
  if (*place)
    release (*place);
  *place = NULL;
  return 0;
}

/* file_reader (size) → a reader of up to so many bytes at once */
static int file_reader (lua_State *L) {
  allua *host = allua_of (L);
  lua_Integer size = luaL_checkinteger (L, 1);
  struct reader **place, *reader;
  luaL_argcheck (L, size > 0 && size <= 1 << 20, 1, "not a size");
  place = lua_newuserdatauv (L, sizeof (struct reader *), 0);
  *place = NULL;
  luaL_setmetatable (L, READER);
  reader = mem_resize (&host->mem, NULL, 0, sizeof *reader + (size_t)size);
  if (!reader)
    return error_raise_memory (L, host);
  reader->mem = host->mem;
  reader->promise = NULL;
  reader->references = 1;
  reader->reading = false;
  reader->result = 0;
  reader->size = (size_t)size;
  *place = reader;
  return 1;
}

void file_open (lua_State *L) {
  static const luaL_Reg methods[]
      = { { "wait", reader_wait }, { "take", reader_take }, { NULL, NULL } };
  luaL_newmetatable (L, READER);
  luaL_newlib (L, methods);
  lua_setfield (L, -2, "__index");
  lua_pushcfunction (L, reader_collect);
  lua_setfield (L, -2, "__gc");
  lua_pop (L, 1);
  lua_pushcfunction (L, file_reader);
  lua_setfield (L, -2, "file_reader");
}
