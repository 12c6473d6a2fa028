/* A listener and its requests, as Lua sees them: bodies in, replies out. */
#ifndef SERVE_REQUEST_H
#define SERVE_REQUEST_H

#include "reply.h"

#define LISTENER "allua.listener"

/* Push a listener that is closed still, and give the place of its server. */
struct server **serve_new_listener (lua_State *L);

/* The place of the listener's server, which is first among the arguments; raises where it is none. */
struct server **serve_check_listener (lua_State *L);

/* Its server; raises where it is closed. */
struct server *serve_check_server (lua_State *L);

/* Wait for the promise that is made at that place; `what`: for what, in words. */
int serve_await (lua_State *L, allua_promise **place, const char *what);

/* Send the whole reply to that request; raises where that is over, or its client or the server (NULL) has left. */
void serve_send (lua_State *L, struct server *server, lua_Integer id, const struct reply *reply);

/* Methods of a listener's: lua_CFunctions, told of where they are defined. */
int serve_request (lua_State *L);
int serve_answer (lua_State *L);
int serve_drop (lua_State *L);

/* Make the class of that name, if it is not there. Made when it is first used: a program that does not serve
   starts without it. */
void serve_open_class (lua_State *L, const char *name, const luaL_Reg *methods);

/* The class of requests. */
void serve_request_open (lua_State *L);

#endif
