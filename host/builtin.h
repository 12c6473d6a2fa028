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

#endif
