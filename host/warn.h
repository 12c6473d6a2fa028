/* Lua's warnings in a state of the host's own: off until "@on", then to standard error. */
#ifndef WARN_H
#define WARN_H

#include "state.h"

void warn_open (allua *host);

#endif
