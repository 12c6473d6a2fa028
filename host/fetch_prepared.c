#include "fetch_prepared.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "error.h"
#include "fetch_request.h"
#include "json_read.h"

#define PREPARED "allua.prepared"

enum { MOST_IDLE = 128, MOST_KEPT = 16384 };
enum { VARIED = 3 }; /* the position of the target among the arguments of exchange */

/* Idle handles stand in two lists: those of one request, and those of all, to find the one that has been
   idle for longest. A handle that is under way, or whose reply has not been taken yet, is its task's. */
struct handle {
  struct transfer transfer; /* first */
  struct prepared *prepared;
  CURL *easy;                   /* NULL: libcurl is closed */
  struct handle *next, **place; /* all of the multi handle's */
  struct handle *below, *above; /* idle, of the same request */
  struct handle *older, *newer; /* idle, of all */
  long timeout;                 /* that is set, in milliseconds */
  struct curl_slist *lines,
      *last; /* of this exchange's head alone; those of all exchanges come behind them */
};

/* Of the userdata, and of each of its handles. */
struct prepared {
  struct mem mem;
  __typeof__ (curl_url_cleanup) *cleanup;
  CURLU *url;          /* parsed once, for all of its handles; NULL: not yet */
  struct handle *idle; /* the top of them */
  size_t references;
  bool collected;
};

static void release (struct prepared *prepared) {
  struct mem mem = prepared->mem;
  if (--prepared->references)
    return;
  if (prepared->url)
    prepared->cleanup (prepared->url);
  mem_resize (&mem, prepared, sizeof *prepared, 0);
}

static void remove_idle (struct handle *handle) {
  struct fetch_multi *multi = handle->transfer.multi;
  if (handle->above)
    handle->above->below = handle->below;
  else
    handle->prepared->idle = handle->below;
  if (handle->below)
    handle->below->above = handle->above;
  if (handle->newer)
    handle->newer->older = handle->older;
  else
    multi->newest = handle->older;
  if (handle->older)
    handle->older->newer = handle->newer;
  else
    multi->oldest = handle->newer;
  multi->idle_handles--;
}

static void add_idle (struct handle *handle) {
  struct fetch_multi *multi = handle->transfer.multi;
  handle->above = handle->newer = NULL;
  handle->below = handle->prepared->idle;
  if (handle->below)
    handle->below->above = handle;
  handle->prepared->idle = handle;
  handle->older = multi->newest;
  if (handle->older)
    handle->older->newer = handle;
  else
    multi->oldest = handle;
  multi->newest = handle;
  multi->idle_handles++;
}

static void forget_lines (struct handle *handle) {
  if (!handle->lines)
    return;
  handle->last->next = NULL;
  handle->transfer.multi->curl.slist_free_all (handle->lines);
  handle->lines = handle->last = NULL;
}

/* Give libcurl's part back. */
static void close_easy (struct handle *handle) {
  struct transfer *transfer = &handle->transfer;
  const struct curl *curl = &transfer->multi->curl;
  if (!handle->easy)
    return;
  curl->easy_cleanup (handle->easy);
  forget_lines (handle);
  curl->slist_free_all (transfer->headers);
  handle->easy = NULL;
  transfer->headers = NULL;
  *handle->place = handle->next;
  if (handle->next)
    handle->next->place = handle->place;
}

/* One that is not idle, and not under way. */
static void destroy (struct handle *handle) {
  struct prepared *prepared = handle->prepared;
  close_easy (handle);
  fetch_transfer_free (&handle->transfer);
  mem_resize (&prepared->mem, handle, sizeof *handle, 0);
  release (prepared);
}

/* Its reply has been taken, or nobody wants it. */
static void recycle (struct handle *handle) {
  struct transfer *transfer = &handle->transfer;
  bool good = transfer->result == CURLE_OK && !transfer->too_large;
  if (!handle->easy || handle->prepared->collected || !good
      || transfer->head.size + transfer->body.size > MOST_KEPT) {
    destroy (handle);
    return;
  }
  forget_lines (handle);
  if (transfer->multi->idle_handles == MOST_IDLE) {
    struct handle *oldest = transfer->multi->oldest;
    remove_idle (oldest);
    destroy (oldest);
  }
  add_idle (handle);
}

/* ── what is given ── */

/* Whether the type of a body says JSON: yes, no, or that it is to be looked at more closely. */
enum answer { NO, YES, PERHAPS };

static enum answer is_json (const char *type, size_t length) {
  static const char json[] = "application/json";
  size_t i;
  if (length >= sizeof json - 1 && strncasecmp (type, json, sizeof json - 1) == 0
      && (length == sizeof json - 1 || strchr ("; \t", type[sizeof json - 1])))
    return YES;
  for (i = 0; i + 4 <= length; i++)
    if (strncasecmp (type + i, "json", 4) == 0)
      return PERHAPS;
  return NO;
}

/* Arguments: the transfer. All of its reply, or why there is none. */
static int push_all (lua_State *L) {
  const struct transfer *transfer = lua_touserdata (L, 1);
  const struct buffer *head = &transfer->head, *body = &transfer->body;
  const char *words, *word = fetch_transfer_problem (transfer, &words);
  lua_pushnil (L);
  if (word) {
    lua_pushboolean (L, 0);
    lua_pushstring (L, word);
    lua_pushstring (L, words);
    return 4;
  }
  lua_pushinteger (L, transfer->status);
  lua_pushlstring (L, head->bytes ? head->bytes : "", head->length);
  if (transfer->type_length)
    lua_pushlstring (L, head->bytes + transfer->type, transfer->type_length);
  else
    lua_pushnil (L);
  lua_pushlstring (L, body->bytes ? body->bytes : "", body->length);
  return 5;
}

/* The same for a reply that is as it should be: its body, decoded. Raises where that cannot be done. */
static int push_value (lua_State *L) {
  struct transfer *transfer = lua_touserdata (L, 1);
  const struct buffer *body = &transfer->body;
  enum answer json = NO;
  if (transfer->type_length)
    json = is_json (transfer->head.bytes + transfer->type, transfer->type_length);
  if (json == PERHAPS)
    return push_all (L);
  if (json == NO)
    lua_pushlstring (L, body->bytes ? body->bytes : "", body->length);
  else if (body->length)
    json_read (L, body->bytes, body->length);
  else
    lua_pushnil (L);
  return 1;
}

/* What a task that waited gets. */
static int take (lua_State *L, struct handle *handle) {
  struct transfer *transfer = &handle->transfer;
  int status = LUA_ERRRUN, top = lua_gettop (L);
  if (!lua_checkstack (L, LUA_MINSTACK)) {
    recycle (handle);
    return error_raise_memory (L, allua_of (L));
  }
  if (transfer->result == CURLE_OK && !transfer->too_large && transfer->status < 300
      && fetch_transfer_end_text (transfer)) {
    lua_pushcfunction (L, push_value);
    lua_pushlightuserdata (L, transfer);
    status = lua_pcall (L, 1, LUA_MULTRET, 0);
  }
  if (status != LUA_OK) {
    lua_settop (L, top);
    lua_pushcfunction (L, push_all);
    lua_pushlightuserdata (L, transfer);
    status = lua_pcall (L, 1, LUA_MULTRET, 0);
  }
  recycle (handle);
  return status == LUA_OK ? lua_gettop (L) - top : lua_error (L);
}

static int waited (lua_State *L, int status, lua_KContext context) {
  op_waited (L, host_of (L), status); /* where that raises the handle is another's */
  return take (L, (struct handle *)context);
}

static void on_cancel (struct op *op) {
  struct handle *handle = (struct handle *)op;
  handle->transfer.waited_for = false;
  fetch_transfer_drop (&handle->transfer);
  recycle (handle);
}

/* ── asking ── */

static struct prepared *check (lua_State *L) {
  return *(struct prepared **)luaL_checkudata (L, 1, PREPARED);
}

/* The parsed URL, so that libcurl need not parse it anew for each transfer. The handle is closed before it. */
static bool set_url (struct handle *handle, const char *text) {
  struct prepared *prepared = handle->prepared;
  const struct curl *curl = &handle->transfer.multi->curl;
  if (!prepared->url) {
    prepared->cleanup = curl->url_cleanup;
    prepared->url = curl->url ();
    if (!prepared->url || curl->url_set (prepared->url, CURLUPART_URL, text, 0))
      return false;
  }
  return curl->easy_setopt (handle->easy, CURLOPT_CURLU, prepared->url) == CURLE_OK;
}

/* Arguments: the request, the handle. */
static int apply (lua_State *L) {
  struct handle *handle = lua_touserdata (L, 2);
  fetch_request_apply (L, 1, &handle->transfer);
  lua_getfield (L, 1, "url");
  return set_url (handle, lua_tostring (L, -1)) ? 0 : error_raise_memory (L, allua_of (L));
}

/* The request is the prepared userdata's user value. */
static struct handle *make (lua_State *L, struct prepared *prepared) {
  struct fetch_multi *multi = fetch_multi_of (L, allua_of (L));
  struct handle *handle = mem_resize (&prepared->mem, NULL, 0, sizeof *handle);
  struct transfer *transfer;
  if (!handle) {
    error_raise_memory (L, allua_of (L));
    return NULL;
  }
  memset (handle, 0, sizeof *handle);
  transfer = &handle->transfer;
  if (!fetch_transfer_prepare (transfer, multi)) {
    fetch_transfer_free (transfer);
    mem_resize (&prepared->mem, handle, sizeof *handle, 0);
    error_raise_memory (L, allua_of (L));
  }
  transfer->kept = true;
  handle->prepared = prepared;
  prepared->references++;
  handle->easy = transfer->easy;
  handle->next = multi->handles;
  handle->place = &multi->handles;
  if (handle->next)
    handle->next->place = &handle->next;
  multi->handles = handle;
  lua_pushcfunction (L, apply);
  lua_getiuservalue (L, 1, 1);
  lua_pushlightuserdata (L, handle);
  if (lua_pcall (L, 2, 0, 0) != LUA_OK) {
    destroy (handle);
    lua_error (L);
  }
  return handle;
}

/* As it was before its first exchange. */
static void begin (struct handle *handle) {
  struct transfer *transfer = &handle->transfer;
  transfer->easy = handle->easy;
  transfer->head.length = transfer->body.length = 0;
  transfer->type = transfer->type_length = 0;
  transfer->status = 0;
  transfer->head_done = transfer->too_large = transfer->dropped = transfer->starved = false;
  transfer->received = 0;
  transfer->result = CURLE_OK;
  transfer->problem[0] = '\0';
}

static bool set_timeout (struct handle *handle, double seconds) {
  const double most = 1e9;
  long milliseconds = seconds > 0 ? (long)ceil ((seconds < most ? seconds : most) * 1000) : 0;
  if (milliseconds == handle->timeout)
    return true;
  handle->timeout = milliseconds;
  return handle->transfer.multi->curl.easy_setopt (handle->easy, CURLOPT_TIMEOUT_MS, milliseconds)
         == CURLE_OK;
}

/* The lines at `index`, with those of all exchanges behind them. */
static bool set_lines (lua_State *L, int index, struct handle *handle) {
  const struct curl *curl = &handle->transfer.multi->curl;
  lua_Integer i;
  for (i = 1; lua_rawgeti (L, index, i) == LUA_TSTRING; i++) {
    struct curl_slist *more = curl->slist_append (NULL, lua_tostring (L, -1));
    lua_pop (L, 1);
    if (!more)
      return false;
    if (handle->last)
      handle->last->next = more;
    else
      handle->lines = more;
    handle->last = more;
  }
  lua_pop (L, 1);
  if (handle->last)
    handle->last->next = handle->transfer.headers;
  return curl->easy_setopt (handle->easy, CURLOPT_HTTPHEADER,
                            handle->lines ? handle->lines : handle->transfer.headers)
         == CURLE_OK;
}

/* In what this exchange differs from the others, from position VARIED on. Raises nothing. */
static bool vary (lua_State *L, struct handle *handle) {
  const struct curl *curl = &handle->transfer.multi->curl;
  size_t length;
  const char *body;
  if (lua_isnil (L, VARIED))
    return true;
  body = lua_tolstring (L, VARIED + 2, &length);
  return curl->easy_setopt (handle->easy, CURLOPT_REQUEST_TARGET, lua_tostring (L, VARIED))
             == CURLE_OK
         && set_lines (L, VARIED + 1, handle)
         && (!body
             || (curl->easy_setopt (handle->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)length)
                     == CURLE_OK
                 && curl->easy_setopt (handle->easy, CURLOPT_COPYPOSTFIELDS, body) == CURLE_OK));
}

/* prepared:exchange ([timeout [, target, lines [, body]]]), in seconds */
static int exchange (lua_State *L) {
  allua *host = host_of (L);
  struct prepared *prepared = check (L);
  double seconds = luaL_optnumber (L, 2, 0);
  struct handle *handle = prepared->idle;
  struct transfer *transfer;
  struct task *task = task_enter (L, host);
  lua_settop (L, VARIED + 2);
  if (!handle) {
    handle = make (L, prepared);
    add_idle (handle); /* what raises below finds it there */
  }
  transfer = &handle->transfer;
  begin (handle);
  if (!fetch_request_look_for_proxies (transfer))
    return error_raise_memory (L, host);
  if (!transfer->direct && !lua_isnil (L, VARIED)) { /* a proxy's target is the whole URL */
    lua_pushnil (L);
    lua_pushboolean (L, 1);
    return 2;
  }
  remove_idle (handle);
  if (!set_timeout (handle, host->clocks ? 0 : seconds) || !vary (L, handle)
      || (host->clocks && seconds > 0 && !fetch_transfer_limit (transfer, seconds))
      || !fetch_transfer_start (transfer)) {
    fetch_transfer_drop (transfer);
    destroy (handle);
    return error_raise_memory (L, host);
  }
  fetch_transfer_want (transfer, WANT_END, "the response of a fetch", on_cancel);
  return op_await (L, host, task, &transfer->op, (lua_KContext)handle, waited);
}

int fetch_prepare (lua_State *L) {
  struct mem *mem = &allua_of (L)->mem;
  struct prepared **place, *prepared;
  luaL_checktype (L, 1, LUA_TTABLE);
  lua_settop (L, 1);
  place = lua_newuserdatauv (L, sizeof *place, 1);
  *place = NULL;
  luaL_setmetatable (L, PREPARED);
  lua_pushvalue (L, 1);
  lua_setiuservalue (L, 2, 1);
  prepared = mem_resize (mem, NULL, 0, sizeof *prepared);
  if (!prepared)
    return error_raise_memory (L, allua_of (L));
  memset (prepared, 0, sizeof *prepared);
  prepared->mem = *mem;
  prepared->references = 1;
  *place = prepared;
  return 1;
}

static int collect (lua_State *L) {
  struct prepared **place = luaL_checkudata (L, 1, PREPARED), *prepared = *place;
  if (!prepared)
    return 0;
  *place = NULL;
  prepared->collected = true;
  while (prepared->idle) {
    struct handle *handle = prepared->idle;
    remove_idle (handle);
    destroy (handle);
  }
  release (prepared);
  return 0;
}

void fetch_prepared_close (struct fetch_multi *multi) {
  while (multi->newest) {
    struct handle *handle = multi->newest;
    remove_idle (handle);
    destroy (handle);
  }
  while (multi->handles)
    destroy (multi->handles); /* whose replies nobody will take */
}

void fetch_prepared_open (lua_State *L) {
  luaL_newmetatable (L, PREPARED);
  lua_pushcfunction (L, collect);
  lua_setfield (L, -2, "__gc");
  lua_createtable (L, 0, 1);
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushcclosure (L, exchange, 1);
  lua_setfield (L, -2, "exchange");
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
}
