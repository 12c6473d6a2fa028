/* start: how long a program takes from its start to its end; a part of the benchmark.
 *
 *   start PROGRAM [ARGUMENTS]     prints the median of 15 runs, in milliseconds */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

enum { RUNS = 15 };

static double now (void) {
  struct timespec time;

  clock_gettime (CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static int compare (const void *a, const void *b) {
  double left = *(const double *)a, right = *(const double *)b;

  return (left > right) - (left < right);
}

int main (int argc, char **argv) {
  double took[RUNS];

  for (int i = -1; argc > 1 && i < RUNS; i++) { /* the first is a warm-up */
    double began = now ();
    int status;
    pid_t child;

    if (posix_spawnp (&child, argv[1], NULL, NULL, argv + 1, environ) != 0
        || waitpid (child, &status, 0) != child || status != 0)
      return 1;
    if (i >= 0)
      took[i] = now () - began;
  }
  if (argc < 2)
    return 2;
  qsort (took, RUNS, sizeof *took, compare);
  printf ("%.4f\n", took[RUNS / 2]);
  return 0;
}
