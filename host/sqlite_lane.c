#include "sqlite_lane.h"

static struct sqlite_host_pool *pool_of (const struct sqlite_host_job *job) {
  return (struct sqlite_host_pool *)job->thread.pool;
}

static void settle (struct sqlite_host_job *job) {
  op_settle (pool_of (job)->module->host, &job->op);
}

void sqlite_lane_init (struct sqlite_host_pool *pool) {
  pool->lane.end = &pool->lane.waiting;
}

static void add (struct sqlite_lane *lane, struct sqlite_host_job *job) {
  job->place = lane->end;
  *lane->end = job;
  lane->end = &job->next;
}

static void take_out (struct sqlite_lane *lane, struct sqlite_host_job *job) {
  *job->place = job->next;
  if (job->next)
    job->next->place = job->place;
  else
    lane->end = job->place;
  job->next = NULL;
  job->place = NULL;
}

/* One that is to be lent must not run what others wait for. */
static bool is_its_turn (const struct sqlite_lane *lane, const struct sqlite_host_job *job) {
  return lane->serving > (job->lends ? lane->shared : 0);
}

static void begin (struct sqlite_lane *lane, struct sqlite_host_job *job) {
  if (job->lends) {
    lane->serving--;
    job->lent = sqlite_pool_lend (job->thread.pool);
    settle (job);
  } else {
    lane->shared++;
    job->alone = true;
    sqlite_host_submit (job);
  }
}

/* Those whose turn has come. */
static void go_on (struct sqlite_lane *lane) {
  struct sqlite_host_job *job;
  while ((job = lane->waiting) && is_its_turn (lane, job)) {
    take_out (lane, job);
    begin (lane, job);
  }
}

static void refuse (struct sqlite_host_job *job) {
  job->refused = true;
  settle (job);
}

void sqlite_lane_enter (struct sqlite_host_job *job) {
  struct sqlite_lane *lane = &pool_of (job)->lane;
  if (lane->closed)
    refuse (job);
  else if (!lane->waiting && is_its_turn (lane, job))
    begin (lane, job);
  else
    add (lane, job);
}

void sqlite_lane_leave (struct sqlite_host_pool *pool) {
  struct sqlite_lane *lane = &pool->lane;
  struct sqlite_host_job *drain = lane->drain;
  lane->shared--;
  go_on (lane);
  if (drain && lane->shared == 0) {
    lane->drain = NULL;
    settle (drain);
  }
}

void sqlite_lane_forget (struct sqlite_host_job *job) {
  struct sqlite_lane *lane = &pool_of (job)->lane;
  if (job == lane->drain)
    lane->drain = NULL;
  if (!job->place)
    return;
  take_out (lane, job);
  go_on (lane); /* it may have stood in the way of the next */
}

void sqlite_lane_serve (struct sqlite_host_pool *pool, struct sqlite_host_connection *connection,
                        bool clean) {
  sqlite_thread_serve (&connection->thread, clean);
  pool->lane.serving++;
  go_on (&pool->lane);
}

void sqlite_lane_close (struct sqlite_host_job *drain) {
  struct sqlite_lane *lane = &pool_of (drain)->lane;
  struct sqlite_host_job *job;
  lane->closed = true;
  while ((job = lane->waiting)) {
    take_out (lane, job);
    refuse (job);
  }
  if (lane->shared == 0)
    settle (drain);
  else
    lane->drain = drain;
}
