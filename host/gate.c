#include "gate.h"

#include "op.h"

#define GATE "allua.gate"

/* A userdata, which those who wait have on their stacks; its user value is the text that `what` is. */
struct gate {
  struct op op; /* first */
  allua *host;
};

static struct gate *check (lua_State *L) {
  return luaL_checkudata (L, 1, GATE);
}

static bool is_open (const struct gate *gate) {
  return gate->op.own.status != PROMISE_PENDING;
}

/* One of those who waited does so no more. */
static void on_cancel (struct op *op) {
  (void)op;
}

/* gate:is_open () */
static int gate_is_open (lua_State *L) {
  lua_pushboolean (L, is_open (check (L)));
  return 1;
}

static int waited (lua_State *L, int status, lua_KContext host) {
  op_waited (L, (allua *)host, status);
  return 0;
}

/* gate:wait (): until it is open */
static int gate_wait (lua_State *L) {
  struct gate *gate = check (L);
  struct task *task;
  if (is_open (gate))
    return 0;
  task = task_enter (L, gate->host);
  lua_settop (L, 1);
  return op_await (L, gate->host, task, &gate->op, (lua_KContext)gate->host, waited);
}

/* gate:open (), and when its variable is closed */
static int gate_settle (lua_State *L) {
  struct gate *gate = check (L);
  if (!is_open (gate))
    op_settle (gate->host, &gate->op);
  return 0;
}

/* gate (what) → a gate that is closed; `what` it stands for in a report */
static int new_gate (lua_State *L) {
  const char *what = luaL_checkstring (L, 1);
  struct gate *gate = lua_newuserdatauv (L, sizeof *gate, 1);
  op_init (&gate->op, what, on_cancel);
  gate->host = host_of (L);
  lua_pushvalue (L, 1);
  lua_setiuservalue (L, -2, 1);
  luaL_setmetatable (L, GATE);
  return 1;
}

void gate_open (lua_State *L) {
  static const luaL_Reg methods[] = { { "is_open", gate_is_open },
                                      { "open", gate_settle },
                                      { "wait", gate_wait },
                                      { "__close", gate_settle },
                                      { NULL, NULL } };
  luaL_newmetatable (L, GATE);
  luaL_setfuncs (L, methods, 0);
  lua_pushvalue (L, -1);
  lua_setfield (L, -2, "__index");
  lua_pop (L, 1);
  lua_pushvalue (L, lua_upvalueindex (1));
  lua_pushcclosure (L, new_gate, 1);
  lua_setfield (L, -2, "gate");
}
