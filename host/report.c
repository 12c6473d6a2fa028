#include "report.h"

#include "error.h"

void report_text (lua_State *L, allua *host, const char *report) {
  host->reported++;
  if (host->on_error)
    host->on_error (host, report, host->data);
  else
    lua_warning (L, report, 0);
}

void report_unhandled (lua_State *L, allua *host, int index, const char *what) {
  index = lua_absindex (L, index);
  lua_pushfstring (L, "%s: ", what);
  lua_insert (L, -2);
  error_push_report (L, index);
  lua_concat (L, 2);
  report_text (L, host, lua_tostring (L, -1));
  lua_pop (L, 1);
}
