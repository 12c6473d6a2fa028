#include "fetch_request.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "error.h"

extern char **environ;

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

static void add_line (lua_State *L, struct setting *setting, const char *line) {
  struct transfer *transfer = setting->transfer;
  struct curl_slist *more = setting->curl->slist_append (transfer->headers, line);
  if (!more)
    error_raise_memory (L, allua_of (L));
  transfer->headers = more;
}

/* Has libcurl decode what it can. It would write the line itself, twice for each transfer. */
static void accept_encodings (lua_State *L, struct setting *setting) {
  int features = setting->curl->version_info (CURLVERSION_NOW)->features;
  char line[64];
  snprintf (line, sizeof line, "Accept-Encoding: %s%s%s",
            features & CURL_VERSION_LIBZ ? "deflate, gzip" : "identity",
            features & CURL_VERSION_BROTLI ? ", br" : "",
            features & CURL_VERSION_ZSTD ? ", zstd" : "");
  set_string (setting, CURLOPT_ACCEPT_ENCODING, "");
  add_line (L, setting, line);
}

/* headers: a list of lines; agent, encodings: two more. */
static void set_headers (lua_State *L, struct setting *setting, int request) {
  struct transfer *transfer = setting->transfer;
  const char *agent = string_field (L, request, "agent");
  lua_Integer i;
  if (agent) {
    lua_pushfstring (L, "User-Agent: %s", agent);
    add_line (L, setting, lua_tostring (L, -1));
    lua_pop (L, 1);
    if (!transfer->direct) /* for a proxy that is to make a tunnel */
      set_string (setting, CURLOPT_USERAGENT, agent);
  }
  if (boolean_field (L, request, "encodings"))
    accept_encodings (L, setting);
  lua_getfield (L, request, "headers");
  for (i = 1; lua_geti (L, -1, i) == LUA_TSTRING; i++) {
    add_line (L, setting, lua_tostring (L, -1));
    lua_pop (L, 1);
  }
  lua_pop (L, 2);
  if (transfer->headers
      && setting->curl->easy_setopt (transfer->easy, CURLOPT_HTTPHEADER, transfer->headers))
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
      error_raise_memory (L, allua_of (L));
    if (file && curl->mime_filedata (part, file))
      luaL_error (L, "fetch: cannot read the file \"%s\" of the form", file);
    if (!file) {
      const char *data;
      lua_getfield (L, parts + 1, "data");
      data = luaL_checklstring (L, -1, &length);
      if (curl->mime_data (part, data, length))
        error_raise_memory (L, allua_of (L));
    }
    if ((filename && curl->mime_filename (part, filename))
        || (type && curl->mime_type (part, type)))
      error_raise_memory (L, allua_of (L));
    lua_settop (L, parts);
  }
  lua_settop (L, parts - 1);
  if (curl->easy_setopt (setting->transfer->easy, CURLOPT_MIMEPOST, setting->transfer->form))
    setting->failed = true;
  return true;
}

/* The method and the body, which stays the first user value of the transfer above the request. custom: a body may come
   later, which must not make a POST of a GET. */
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
  else if (strcmp (method, "GET") != 0 || boolean_field (L, request, "custom"))
    set_string (setting, CURLOPT_CUSTOMREQUEST, method);
}

/* Whom to trust: the server, and a proxy that is spoken to by TLS. */
static void set_security (lua_State *L, struct setting *setting, int request) {
  const char *text = string_field (L, request, "ca_text");
  const char *file = string_field (L, request, "ca_file");
  const char *folder = string_field (L, request, "ca_folder");
  if (text) {
    struct curl_blob blob = { (void *)text, strlen (text), CURL_BLOB_COPY };
    if (setting->curl->easy_setopt (setting->transfer->easy, CURLOPT_CAINFO_BLOB, &blob)
        || setting->curl->easy_setopt (setting->transfer->easy, CURLOPT_PROXY_CAINFO_BLOB, &blob))
      setting->failed = true;
  }
  set_string (setting, CURLOPT_CAINFO, file);
  set_string (setting, CURLOPT_PROXY_CAINFO, file);
  set_string (setting, CURLOPT_CAPATH, folder);
  set_string (setting, CURLOPT_PROXY_CAPATH, folder);
  if (boolean_field (L, request, "insecure")) {
    set_long (setting, CURLOPT_SSL_VERIFYPEER, 0);
    set_long (setting, CURLOPT_SSL_VERIFYHOST, 0);
    set_long (setting, CURLOPT_PROXY_SSL_VERIFYPEER, 0);
    set_long (setting, CURLOPT_PROXY_SSL_VERIFYHOST, 0);
  }
  /* Over HTTP/2 many transfers share a connection: wait for one that is being made. */
  if (boolean_field (L, request, "secure"))
    set_long (setting, CURLOPT_PIPEWAIT, 1);
}

/* Whether the environment may have a proxy for us: then libcurl looks closer. */
static bool has_proxies (void) {
  char **variable;
  for (variable = environ; variable && *variable; variable++) {
    const char *name = *variable;
    if ((name[0] | 0x20) == 'h' && (name[1] | 0x20) == 't') {
      if (strncasecmp (name, "http_proxy=", 11) == 0 || strncasecmp (name, "https_proxy=", 12) == 0)
        return true;
    } else if ((name[0] | 0x20) == 'a' && (name[1] | 0x20) == 'l'
               && strncasecmp (name, "all_proxy=", 10) == 0) {
      return true;
    }
  }
  return false;
}

/* libcurl 7.88 looks for the name of a SOCKS proxy under the server's among those that it remembers: it would go to the
   server itself, and tell it the proxy's password. So behind proxies it remembers none. */
static bool set_direct (struct transfer *transfer, bool direct) {
  const struct curl *curl = &transfer->multi->curl;
  const long remembered = direct ? 60 : 0; /* seconds */
  if (direct == transfer->direct && transfer->told_direct)
    return true;
  transfer->direct = direct;
  transfer->told_direct = true;
  return curl->easy_setopt (transfer->easy, CURLOPT_NOPROXY, direct ? "*" : NULL) == CURLE_OK
         && curl->easy_setopt (transfer->easy, CURLOPT_DNS_CACHE_TIMEOUT, remembered) == CURLE_OK;
}

bool fetch_request_look_for_proxies (struct transfer *transfer) {
  return transfer->own_proxy || set_direct (transfer, !has_proxies ());
}

/* proxy: a URL, or "" for none; without it the environment's. */
static void set_proxy (lua_State *L, struct setting *setting, int request) {
  struct transfer *transfer = setting->transfer;
  const char *proxy = string_field (L, request, "proxy");
  transfer->own_proxy = proxy != NULL;
  set_string (setting, CURLOPT_PROXY, proxy);
  if (!(proxy ? set_direct (transfer, !*proxy) : fetch_request_look_for_proxies (transfer)))
    setting->failed = true;
}

void fetch_request_apply (lua_State *L, int request, struct transfer *transfer) {
  allua *host = allua_of (L);
  struct setting setting = { transfer, &transfer->multi->curl, false };
  long milliseconds;
  lua_getfield (L, request, "limit");
  transfer->limit = (uint64_t)luaL_optinteger (L, -1, LUA_MAXINTEGER);
  lua_pop (L, 1);
  set_string (&setting, CURLOPT_URL, string_field (L, request, "url"));
  set_string (&setting, CURLOPT_USERNAME, string_field (L, request, "user"));
  set_string (&setting, CURLOPT_PASSWORD, string_field (L, request, "password"));
  set_proxy (L, &setting, request);
  set_headers (L, &setting, request);
  set_method (L, &setting, request);
  set_security (L, &setting, request);
  milliseconds = milliseconds_field (L, request, "timeout");
  if (milliseconds && !host->clocks)
    set_long (&setting, CURLOPT_TIMEOUT_MS, milliseconds);
  else if (milliseconds && !fetch_transfer_limit (transfer, (double)milliseconds / 1e3))
    error_raise_memory (L, allua_of (L));
  milliseconds = milliseconds_field (L, request, "connect_timeout");
  if (milliseconds)
    set_long (&setting, CURLOPT_CONNECTTIMEOUT_MS, milliseconds);
  if (setting.failed)
    luaL_error (L, "fetch: libcurl refuses an option of this request");
}
