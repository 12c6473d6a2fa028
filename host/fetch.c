#include "fetch.h"

#include <math.h>
#include <string.h>

#include "error.h"
#include "fetch_transfer.h"
#include "fetch_url.h"

#define TRANSFER "allua.transfer"

static struct transfer *check (lua_State *L) {
  return luaL_checkudata (L, 1, TRANSFER);
}

static int raise_memory (lua_State *L) {
  host_push (host_of (L), L, SLOT_MEMORY);
  return lua_error (L);
}

/* ── starting ── */

static const char *string_field (lua_State *L, int table, const char *name) {
  const char *value = NULL;
  size_t length;
  if (lua_getfield (L, table, name) != LUA_TNIL) {
    value = luaL_checklstring (L, -1, &length);
    if (strlen (value) != length)
      luaL_error (L, "fetch: %s has a NUL in it", name);
  }
  lua_pop (L, 1); /* the table keeps it */
  return value;
}

static bool boolean_field (lua_State *L, int table, const char *name) {
  bool value;
  lua_getfield (L, table, name);
  value = lua_toboolean (L, -1);
  lua_pop (L, 1);
  return value;
}

/* Seconds as milliseconds; 0 where there is none. */
static long milliseconds_field (lua_State *L, int table, const char *name) {
  const lua_Number most = 1e9;
  lua_Number seconds;
  lua_getfield (L, table, name);
  seconds = lua_tonumber (L, -1);
  lua_pop (L, 1);
  if (!(seconds > 0))
    return 0;
  return (long)ceil ((seconds < most ? seconds : most) * 1000);
}

struct setting {
  struct transfer *transfer;
  const struct curl *curl;
  bool failed;
};

static void set_string (struct setting *setting, CURLoption option, const char *value) {
  if (value && setting->curl->easy_setopt (setting->transfer->easy, option, value))
    setting->failed = true;
}

static void set_long (struct setting *setting, CURLoption option, long value) {
  if (setting->curl->easy_setopt (setting->transfer->easy, option, value))
    setting->failed = true;
}

/* headers: a list of lines. */
static void set_headers (lua_State *L, struct setting *setting, int request) {
  struct transfer *transfer = setting->transfer;
  lua_Integer i;
  lua_getfield (L, request, "headers");
  for (i = 1; lua_geti (L, -1, i) == LUA_TSTRING; i++) {
    struct curl_slist *more = setting->curl->slist_append (transfer->headers, lua_tostring (L, -1));
    if (!more)
      raise_memory (L);
    transfer->headers = more;
    lua_pop (L, 1);
  }
  lua_pop (L, 2);
  if (setting->curl->easy_setopt (transfer->easy, CURLOPT_HTTPHEADER, transfer->headers))
    setting->failed = true;
}

/* parts: a list of { name =, data = or file =, filename =, type = }. Copied by libcurl. */
static bool set_form (lua_State *L, struct setting *setting, int request) {
  const struct curl *curl = setting->curl;
  lua_Integer i;
  int parts;
  if (lua_getfield (L, request, "parts") != LUA_TTABLE) {
    lua_pop (L, 1);
    return false;
  }
  parts = lua_gettop (L);
  setting->transfer->form = curl->mime_init (setting->transfer->easy);
  for (i = 1; lua_geti (L, parts, i) == LUA_TTABLE; i++) {
    curl_mimepart *part = curl->mime_addpart (setting->transfer->form);
    const char *file = string_field (L, parts + 1, "file");
    const char *filename = string_field (L, parts + 1, "filename");
    const char *type = string_field (L, parts + 1, "type");
    size_t length;
    if (!part || curl->mime_name (part, string_field (L, parts + 1, "name")))
      raise_memory (L);
    if (file && curl->mime_filedata (part, file))
      luaL_error (L, "fetch: cannot read the file \"%s\" of the form", file);
    if (!file) {
      const char *data;
      lua_getfield (L, parts + 1, "data");
      data = luaL_checklstring (L, -1, &length);
      if (curl->mime_data (part, data, length))
        raise_memory (L);
    }
    if ((filename && curl->mime_filename (part, filename))
        || (type && curl->mime_type (part, type)))
      raise_memory (L);
    lua_settop (L, parts);
  }
  lua_settop (L, parts - 1);
  if (curl->easy_setopt (setting->transfer->easy, CURLOPT_MIMEPOST, setting->transfer->form))
    setting->failed = true;
  return true;
}

/* The method and the body, which stays the transfer's first user value. */
static void set_method (lua_State *L, struct setting *setting, int request) {
  const char *method = string_field (L, request, "method"), *body;
  size_t length;
  if (!method)
    luaL_error (L, "fetch: no method");
  if (set_form (L, setting, request)) {
    set_string (setting, CURLOPT_CUSTOMREQUEST, method);
    return;
  }
  if (lua_getfield (L, request, "body") == LUA_TSTRING) {
    body = lua_tolstring (L, -1, &length);
    lua_setiuservalue (L, request + 1, 1);
    set_long (setting, CURLOPT_POST, 1);
    if (setting->curl->easy_setopt (setting->transfer->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                    (curl_off_t)length)
        || setting->curl->easy_setopt (setting->transfer->easy, CURLOPT_POSTFIELDS, body))
      setting->failed = true;
    set_string (setting, CURLOPT_CUSTOMREQUEST, method);
    return;
  }
  lua_pop (L, 1);
  if (strcmp (method, "HEAD") == 0)
    set_long (setting, CURLOPT_NOBODY, 1);
  else if (strcmp (method, "GET") != 0)
    set_string (setting, CURLOPT_CUSTOMREQUEST, method);
}

static void set_security (lua_State *L, struct setting *setting, int request) {
  const char *text = string_field (L, request, "ca_text");
  if (text) {
    struct curl_blob blob = { (void *)text, strlen (text), CURL_BLOB_COPY };
    if (setting->curl->easy_setopt (setting->transfer->easy, CURLOPT_CAINFO_BLOB, &blob))
      setting->failed = true;
  }
  set_string (setting, CURLOPT_CAINFO, string_field (L, request, "ca_file"));
  set_string (setting, CURLOPT_CAPATH, string_field (L, request, "ca_folder"));
  if (boolean_field (L, request, "insecure")) {
    set_long (setting, CURLOPT_SSL_VERIFYPEER, 0);
    set_long (setting, CURLOPT_SSL_VERIFYHOST, 0);
  }
  /* Over HTTP/2 many transfers share a connection: wait for one that is being made. */
  if (boolean_field (L, request, "secure"))
    set_long (setting, CURLOPT_PIPEWAIT, 1);
}

/* core.fetch (request) → a transfer under way. What Lua checked is not checked again. */
static int fetch_start (lua_State *L) {
  allua *host = host_of (L);
  struct fetch_multi *multi = fetch_multi_of (L, host);
  struct setting setting = { NULL, &multi->curl, false };
  struct transfer *transfer;
  long milliseconds;
  luaL_checktype (L, 1, LUA_TTABLE);
  lua_settop (L, 1);
  transfer = lua_newuserdatauv (L, sizeof *transfer, 1);
  memset (transfer, 0, sizeof *transfer);
  luaL_setmetatable (L, TRANSFER);
  setting.transfer = transfer;
  if (!fetch_transfer_prepare (transfer, multi))
    return raise_memory (L);
  transfer->streaming = boolean_field (L, 1, "stream");
  lua_getfield (L, 1, "limit");
  transfer->limit = (uint64_t)luaL_optinteger (L, -1, LUA_MAXINTEGER);
  lua_pop (L, 1);
  set_string (&setting, CURLOPT_URL, string_field (L, 1, "url"));
  set_string (&setting, CURLOPT_USERNAME, string_field (L, 1, "user"));
  set_string (&setting, CURLOPT_PASSWORD, string_field (L, 1, "password"));
  set_string (&setting, CURLOPT_PROXY, string_field (L, 1, "proxy"));
  set_string (&setting, CURLOPT_ACCEPT_ENCODING, string_field (L, 1, "encodings"));
  set_headers (L, &setting, 1);
  set_method (L, &setting, 1);
  set_security (L, &setting, 1);
  milliseconds = milliseconds_field (L, 1, "timeout");
  if (milliseconds)
    set_long (&setting, CURLOPT_TIMEOUT_MS, milliseconds);
  milliseconds = milliseconds_field (L, 1, "connect_timeout");
  if (milliseconds)
    set_long (&setting, CURLOPT_CONNECTTIMEOUT_MS, milliseconds);
  if (setting.failed)
    return luaL_error (L, "fetch: libcurl refuses an option of this request");
  if (!fetch_transfer_start (transfer))
    return raise_memory (L);
  return 1;
}

/* ── waiting ── */

static void push_content_type (lua_State *L, const struct transfer *transfer) {
  if (transfer->type_length)
    lua_pushlstring (L, transfer->head.bytes + transfer->type, transfer->type_length);
  else
    lua_pushnil (L);
}

/* For the head: status, head, content type. For the end: these and the body. For a chunk: a string, or nil
   at the end. Where it failed: nil, a word, words. */
static int push_wanted (lua_State *L, struct transfer *transfer, enum transfer_want want) {
  const char *words, *word = NULL;
  struct buffer *body = &transfer->body;
  luaL_checkstack (L, 6, NULL);
  if (want == WANT_CHUNK && body->length) {
    lua_pushlstring (L, body->bytes, body->length);
    body->length = 0;
    fetch_transfer_resume (transfer);
    return 1;
  }
  if (want != WANT_HEAD || !transfer->head_done)
    word = fetch_transfer_problem (transfer, &words);
  if (word) {
    lua_pushnil (L);
    lua_pushstring (L, word);
    lua_pushstring (L, words);
    return 3;
  }
  if (want == WANT_CHUNK)
    return 0;
  lua_pushinteger (L, transfer->status);
  lua_pushlstring (L, transfer->head.bytes ? transfer->head.bytes : "", transfer->head.length);
  push_content_type (L, transfer);
  if (want == WANT_HEAD)
    return 3;
  lua_pushlstring (L, body->bytes ? body->bytes : "", body->length);
  return 4;
}

int fetch_push (lua_State *L, void *data) {
  struct transfer *transfer = data;
  enum transfer_want want;
  if (!L)
    return 0; /* the transfer may be gone */
  want = transfer->want;
  transfer->want = WANT_NOTHING;
  return push_wanted (L, transfer, want);
}

static void on_cancel (void *data) {
  struct transfer *transfer = data;
  transfer->promise = NULL;
  fetch_transfer_drop (transfer);
}

static int wait_for (lua_State *L, struct transfer *transfer, enum transfer_want want) {
  if (transfer->promise)
    return luaL_error (L, "another task waits for this response already");
  if (fetch_transfer_has (transfer, want))
    return push_wanted (L, transfer, want);
  transfer->want = want;
  transfer->promise = allua_promise_new (L);
  allua_promise_on_cancel (transfer->promise, on_cancel, transfer);
  return allua_await (L, transfer->promise);
}

static int transfer_head (lua_State *L) {
  return wait_for (L, check (L), WANT_HEAD);
}

static int transfer_read (lua_State *L) {
  return wait_for (L, check (L), WANT_CHUNK);
}

/* transfer:finish ([limit]): collect the rest of a streamed body. */
static int transfer_finish (lua_State *L) {
  struct transfer *transfer = check (L);
  if (transfer->streaming)
    fetch_transfer_collect (transfer, (uint64_t)luaL_optinteger (L, 2, LUA_MAXINTEGER));
  return wait_for (L, transfer, WANT_END);
}

static int transfer_close (lua_State *L) {
  fetch_transfer_drop (check (L));
  return 0;
}

static int transfer_gc (lua_State *L) {
  struct transfer *transfer = check (L);
  allua_promise *promise = transfer->promise;
  transfer->promise = NULL;
  fetch_transfer_free (transfer);
  if (promise)
    allua_promise_resolve (promise, NULL, NULL);
  return 0;
}

void fetch_open (lua_State *L) {
  static const luaL_Reg functions[] = { { "fetch", fetch_start },
                                        { "fetch_url", fetch_url },
                                        { "fetch_date", fetch_date },
                                        { NULL, NULL } };
  static const luaL_Reg methods[] = { { "head", transfer_head },
                                      { "read", transfer_read },
                                      { "finish", transfer_finish },
                                      { "close", transfer_close },
                                      { NULL, NULL } };
  static const luaL_Reg meta[]
      = { { "__gc", transfer_gc }, { "__close", transfer_close }, { NULL, NULL } };
  luaL_newmetatable (L, TRANSFER);
  luaL_setfuncs (L, meta, 0);
  luaL_newlib (L, methods);
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
  fetch_url_open (L);
  lua_pushvalue (L, lua_upvalueindex (1));
  luaL_setfuncs (L, functions, 1);
}
