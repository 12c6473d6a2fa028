/* Tasks that do anything, while memory fails at any moment:
 *
 *   chaos [FIRST LAST [SCRIPT LONGEST]]    for each seed from FIRST to LAST; at most so many fail in a row
 *
 * The script, spec/support/chaos.lua, runs on an allocator that fails now and then, once or for a while; how often and
 * for how long depends on the seed. Whatever is raised, no task may stay when its group has ended; the host
 * closes, gives all memory back, and leaves a loop that closes. What one seed does may differ from run to
 * run: Lua hashes strings by a seed of its own. */
#include "counting.h"
#include <limits.h>

enum { SEED_SECONDS = 120, SEEDS = 20 };

static struct {
  uint64_t state; /* xorshift */
  unsigned period, longest;
  unsigned left; /* calls that fail now */
  long failed;
  int scarce;
} chance;

static unsigned roll (unsigned sides) {
  chance.state ^= chance.state << 13;
  chance.state ^= chance.state >> 7;
  chance.state ^= chance.state << 17;
  return (unsigned)(chance.state >> 20) % sides;
}

static void begin_chance (long seed, unsigned most) {
  static const unsigned periods[] = { 20, 50, 100, 300, 1000, 3000, 10000 };
  static const unsigned longest[] = { 1, 2, 3, 8, 40, 300 };
  memset (&chance, 0, sizeof chance);
  chance.state = 88172645463325252u ^ ((uint64_t)seed * 0x9E3779B97F4A7C15u);
  for (int i = 0; i < 20; i++)
    roll (1);
  chance.period = periods[roll (sizeof periods / sizeof periods[0])];
  chance.longest = longest[roll (sizeof longest / sizeof longest[0])];
  if (chance.longest > most)
    chance.longest = most;
}

static void *scarce_alloc (void *data, void *pointer, size_t old_size, size_t new_size) {
  if (chance.scarce && new_size && (!pointer || new_size > old_size)) {
    if (chance.left == 0 && roll (chance.period) == 0)
      chance.left = 1 + roll (chance.longest);
    if (chance.left) {
      chance.left--;
      chance.failed++;
      return NULL;
    }
  }
  return counting_alloc (data, pointer, old_size, new_size);
}

/* Lua: scarce (whether) */
static int set_scarce (lua_State *L) {
  chance.scarce = lua_toboolean (L, 1);
  chance.left = 0;
  return 0;
}

static void on_report (allua *host, const char *report, void *data) {
  (void)host, (void)report, (void)data;
}

/* Returns whether all was well; prints what was not. */
static int run (const char *script, long seed, unsigned most) {
  struct counting counting = { 0 };
  char text[24];
  char *arguments[] = { text, "10", NULL };
  snprintf (text, sizeof text, "%ld", seed);
  begin_chance (seed, most);
  alarm (SEED_SECONDS);
  uv_loop_t loop;
  uv_loop_init (&loop);
  allua *host = check_open (&(allua_options){ .size = sizeof (allua_options),
                                              .loop = &loop,
                                              .alloc = scarce_alloc,
                                              .alloc_data = &counting,
                                              .on_error = on_report });
  lua_register (allua_state (host), "scarce", set_scarce);
  int status = allua_run_file (host, script, 2, arguments);
  const char *error = allua_error (host);
  /* Only an error of memory may come through: all others are caught, or are the script's findings. */
  int good = status != ALLUA_ERROR || strstr (error, "not enough memory");
  if ((status == ALLUA_OK) != !error || !good)
    printf ("seed %ld: status %d, %s\n", seed, status, error ? error : "no error");
  good &= (status == ALLUA_OK) == !error;
  allua_close (host);
  uv_run (&loop, UV_RUN_DEFAULT);
  int closed = uv_loop_close (&loop);
  if (counting.bytes || counting.blocks || counting.wrong || closed != 0) {
    printf ("seed %ld: %zu bytes in %ld blocks left, %ld sizes told wrongly, uv_loop_close %d\n",
            seed, counting.bytes, counting.blocks, counting.wrong, closed);
    good = 0;
  }
  return good;
}

int main (int argc, char **argv) {
  long first = argc > 2 ? atol (argv[1]) : 1, last = argc > 2 ? atol (argv[2]) : SEEDS;
  long bad = 0, failed = 0;
  check_begin ();
  for (long seed = first; seed <= last; seed++) {
    bad += !run (argc > 3 ? argv[3] : "spec/support/chaos.lua", seed,
                 argc > 4 ? (unsigned)atol (argv[4]) : UINT_MAX);
    failed += chance.failed;
  }
  check ("tasks that do anything end with their groups while memory fails", bad == 0,
         "%ld of %ld seeds", bad, last - first + 1);
  CHECK ("allocations failed", failed > 0);
  return check_end ();
}
