/* Every deadline of a server's connections. */
#ifndef CONNECTION_SWEEP_H
#define CONNECTION_SWEEP_H

#include "connection.h"

/* The timer that enforces them, twice a second. */
void on_sweep (uv_timer_t *timer);

#endif
