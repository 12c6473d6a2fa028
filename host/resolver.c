#include "resolver.h"

#include <string.h>

#include "error.h"
#include "promise_object.h"
#include "state.h"

#define RESOLVER "allua.resolver"

/* Owned by the userdata, and by the request that is under way. */
struct resolver {
  uv_getaddrinfo_t request;
  struct mem mem; /* a copy: the request may end after its host */
  allua_promise *promise;
  unsigned references;
  int status; /* 0, or an error of libuv's */
  struct addrinfo *found;
};

static void release (struct resolver *resolver) {
  struct mem mem = resolver->mem;
  if (--resolver->references > 0)
    return;
  uv_freeaddrinfo (resolver->found); /* or NULL */
  mem_resize (&mem, resolver, sizeof *resolver, 0);
}

static void on_found (uv_getaddrinfo_t *request, int status, struct addrinfo *found) {
  struct resolver *resolver = request->data;
  allua_promise *promise = resolver->promise;
  resolver->status = status;
  resolver->found = found;
  resolver->promise = NULL;
  if (promise)
    allua_promise_resolve (promise, NULL, NULL);
  release (resolver);
}

static void forget_promise (void *data) {
  struct resolver *resolver = data;
  resolver->promise = NULL;
  uv_cancel ((uv_req_t *)&resolver->request); /* where it has not begun; it ends in any case */
}

static struct resolver *check (lua_State *L) {
  struct resolver *resolver = *(struct resolver **)luaL_checkudata (L, 1, RESOLVER);
  if (!resolver)
    error_raise_memory (L, allua_of (L));
  return resolver;
}

/* resolver:wait (name): until it is known; once. */
static int resolver_wait (lua_State *L) {
  struct resolver *resolver = check (L);
  const char *name = luaL_checkstring (L, 2);
  struct addrinfo hints;
  allua_promise *promise;
  int status;
  luaL_argcheck (L, !resolver->request.data, 1, "used already");
  promise = allua_promise_new (L);
  promise_object_stands_for (promise, "a host's address");
  memset (&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  resolver->request.data = resolver;
  status = uv_getaddrinfo (allua_loop (allua_of (L)), &resolver->request, on_found, name, NULL,
                           &hints);
  if (status < 0) {
    resolver->status = status;
    allua_promise_resolve (promise, NULL, NULL);
  } else {
    resolver->promise = promise;
    resolver->references++;
    allua_promise_on_cancel (promise, forget_promise, resolver);
  }
  return allua_await (L, promise);
}

/* resolver:take () → the addresses, a list of texts; or nil and why there is none */
static int resolver_take (lua_State *L) {
  struct resolver *resolver = check (L);
  const struct addrinfo *at;
  lua_Integer count = 0;
  if (resolver->status < 0) {
    lua_pushnil (L);
    lua_pushstring (L, uv_strerror (resolver->status));
    return 2;
  }
  lua_newtable (L);
  for (at = resolver->found; at; at = at->ai_next) {
    char text[INET6_ADDRSTRLEN];
    const void *address = at->ai_family == AF_INET6
                              ? (const void *)&((const struct sockaddr_in6 *)at->ai_addr)->sin6_addr
                              : (const void *)&((const struct sockaddr_in *)at->ai_addr)->sin_addr;
    if (uv_inet_ntop (at->ai_family, address, text, sizeof text) == 0) {
      lua_pushstring (L, text);
      lua_rawseti (L, -2, ++count);
    }
  }
  return 1;
}

static int resolver_collect (lua_State *L) {
  struct resolver **place = luaL_checkudata (L, 1, RESOLVER);
  if (*place)
    release (*place);
  *place = NULL;
  return 0;
}

/* resolver () → a resolver of one name */
static int new_resolver (lua_State *L) {
  allua *host = allua_of (L);
  struct resolver **place = lua_newuserdatauv (L, sizeof (struct resolver *), 0), *resolver;
  *place = NULL;
  luaL_setmetatable (L, RESOLVER);
  resolver = mem_resize (&host->mem, NULL, 0, sizeof *resolver);
  if (!resolver)
    return error_raise_memory (L, host);
  memset (resolver, 0, sizeof *resolver);
  resolver->mem = host->mem;
  resolver->references = 1;
  *place = resolver;
  return 1;
}

void resolver_open (lua_State *L) {
  static const luaL_Reg methods[]
      = { { "wait", resolver_wait }, { "take", resolver_take }, { NULL, NULL } };
  luaL_newmetatable (L, RESOLVER);
  luaL_newlib (L, methods);
  lua_setfield (L, -2, "__index");
  lua_pushcfunction (L, resolver_collect);
  lua_setfield (L, -2, "__gc");
  lua_pop (L, 1);
  lua_pushcfunction (L, new_resolver);
  lua_setfield (L, -2, "resolver");
}
