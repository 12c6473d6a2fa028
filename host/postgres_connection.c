#include "postgres_connection.h"

#include <string.h>

#include "library.h"

#define CONNECTION "allua.postgres"

static const char module_key;

/* What the connections of one host share: a userdata in the registry. */
struct postgres_module {
  struct postgres pq;
  struct postgres_connection *connections;
  struct postgres_request
      *loose; /* whose connections are closed, and whose results nobody has taken yet */
};

/* The host's, or NULL. */
static struct postgres_module *find (lua_State *L) {
  struct postgres_module *module;
  lua_rawgetp (L, LUA_REGISTRYINDEX, &module_key);
  module = lua_touserdata (L, -1);
  lua_pop (L, 1);
  return module;
}

static struct postgres_module *module_of (lua_State *L) {
#define POSTGRES_NAME(name) "PQ" #name,
  static const char *const names[] = { POSTGRES_FUNCTIONS (POSTGRES_NAME) };
#undef POSTGRES_NAME
  void *functions[sizeof names / sizeof *names];
  struct postgres_module *module = find (L);
  _Static_assert(sizeof functions == sizeof module->pq, "one pointer a name");
  if (!module) {
    library_load (L, "libpq.so.5", "libpq5", names, functions, sizeof names / sizeof *names);
    module = lua_newuserdatauv (L, sizeof *module, 0);
    memcpy (&module->pq, functions, sizeof functions);
    module->connections = NULL;
    module->loose = NULL;
    lua_rawsetp (L, LUA_REGISTRYINDEX, &module_key);
  }
  return module;
}

const struct postgres *postgres_library (lua_State *L) {
  return &module_of (L)->pq;
}

struct postgres_connection *postgres_connection_push (lua_State *L, const luaL_Reg *methods) {
  allua *host = allua_of (L);
  struct postgres_module *module;
  struct postgres_connection *connection;
  if (host->tearing)
    luaL_error (L, "this allua host is closed");
  module = module_of (L);
  connection = lua_newuserdatauv (L, sizeof *connection, 0);
  memset (connection, 0, sizeof *connection);
  if (luaL_newmetatable (L, CONNECTION)) {
    lua_pushvalue (L, lua_upvalueindex (1));
    luaL_setfuncs (L, methods, 1);
    lua_pushvalue (L, -1);
    lua_setfield (L, -2, "__index");
  }
  lua_setmetatable (L, -2);
  postgres_link_init (&connection->link, &module->pq, host->loop, &host->mem);
  connection->host = host;
  connection->module = module;
  connection->open = true;
  connection->next = module->connections;
  connection->previous = &module->connections;
  if (connection->next)
    connection->next->previous = &connection->next;
  module->connections = connection;
  return connection;
}

struct postgres_connection *postgres_connection_check (lua_State *L, int index) {
  return luaL_checkudata (L, index, CONNECTION);
}

void postgres_connection_close (struct postgres_connection *connection) {
  if (!connection->open)
    return;
  connection->open = false;
  *connection->previous = connection->next;
  if (connection->next)
    connection->next->previous = connection->previous;
  postgres_link_close (&connection->link, &connection->module->loose);
}

void postgres_close (allua *host) {
  struct postgres_module *module = find (host->main);
  while (module && module->connections)
    postgres_connection_close (module->connections);
  while (module && module->loose)
    postgres_request_free (module->loose);
}
