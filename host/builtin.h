/* The Lua half, built in: one entry a file of lua/allua, made by the Makefile. */
#ifndef BUILTIN_H
#define BUILTIN_H

#include <stddef.h>

struct builtin {
  const char *name; /* as for require; the last entry's is NULL */
  const unsigned char *text;
  size_t size;
};

extern const struct builtin builtin_modules[];

/* The page of a report, which the stream of events follows. */
extern const unsigned char builtin_report[];
extern const size_t builtin_report_size;

#endif
