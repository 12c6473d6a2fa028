#include "reply.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "connection_write.h"

enum { ROOM = 256 }; /* for the lines that are made here */

/* Returns its length, or -1 where the year is beyond all dates. */
static int write_date (char *to, size_t size, time_t time) {
  static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
  static const char months[][4]
      = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
  struct tm at;
  if (!gmtime_r (&time, &at))
    return -1;
  return snprintf (to, size, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[at.tm_wday], at.tm_mday,
                   months[at.tm_mon], at.tm_year + 1900, at.tm_hour, at.tm_min, at.tm_sec);
}

int reply_date (lua_State *L) {
  char text[64];
  int length = write_date (text, sizeof text, (time_t)luaL_checkinteger (L, 1));
  luaL_argcheck (L, length > 0, 1, "a time that no date can say");
  lua_pushlstring (L, text, (size_t)length);
  return 1;
}

static char *add (char *at, const char *bytes, size_t length) {
  memcpy (at, bytes, length);
  return at + length;
}

static char *add_text (char *at, const char *text) {
  return add (at, text, strlen (text));
}

static char *add_date (char *at, struct server *server) {
  time_t now = time (NULL);
  if (now != server->dated_at) {
    char text[64];
    write_date (text, sizeof text, now);
    snprintf (server->date, sizeof server->date, "Date: %.29s\r\n", text);
    server->dated_at = now;
  }
  return add_text (at, server->date);
}

static char *add_length (char *at, size_t length) {
  char text[24], *digit = text + sizeof text;
  do
    *--digit = (char)('0' + length % 10);
  while (length /= 10);
  at = add_text (at, "Content-Length: ");
  at = add (at, digit, (size_t)(text + sizeof text - digit));
  return add_text (at, "\r\n");
}

static bool is_head (const struct http_parser *parser) {
  return parser->method.length == 4 && memcmp (parser->head + parser->method.at, "HEAD", 4) == 0;
}

size_t reply_size (const struct reply *reply) {
  return reply->start.length + reply->fields.length + reply->body.length + ROOM;
}

bool reply_send (struct connection *connection, const struct reply *reply, char *place) {
  const struct http_parser *parser = &connection->parser;
  bool keep = parser->keep_alive;
  char *at = add (place, reply->start.bytes, reply->start.length);
  if (!reply->dated)
    at = add_date (at, connection->server);
  if (!reply->bare)
    at = add_length (at, reply->body.length);
  if (!keep)
    at = add_text (at, "Connection: close\r\n");
  else if (parser->minor == 0)
    at = add_text (at, "Connection: keep-alive\r\n");
  at = add (at, reply->fields.bytes, reply->fields.length);
  at = add_text (at, "\r\n");
  if (!reply->bare && !is_head (parser))
    at = add (at, reply->body.bytes, reply->body.length);
  if (!connection_write (connection, place, (size_t)(at - place)))
    return false;
  connection_finish (connection, keep);
  return true;
}
