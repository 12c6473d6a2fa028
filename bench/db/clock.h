/* The seconds that have passed, and those of processor time that this process has used. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

struct clock {
  double time, processor;
};

static inline struct clock clock_read (void) {
  struct timespec time;
  struct rusage usage;
  struct clock now;
  clock_gettime (CLOCK_MONOTONIC, &time);
  getrusage (RUSAGE_SELF, &usage);
  now.time = (double)time.tv_sec + (double)time.tv_nsec / 1e9;
  now.processor = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
                  + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  return now;
}

/* Print both, since `began`. */
static inline void clock_print (struct clock began) {
  struct clock now = clock_read ();
  printf ("%f %f\n", now.time - began.time, now.processor - began.processor);
}

#endif
