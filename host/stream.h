/* Chrome trace events as bytes: written to buffer and files so that what is there opens, whatever cut it off. */
#ifndef STREAM_H
#define STREAM_H

#include "state.h"

enum {
  STREAM_BUFFER = 131072,
  STREAM_EVENT = 65536, /* the most bytes of one event: whoever makes one keeps to it */
  STREAM_TEXT = 480     /* of a name or an argument; an escaped byte takes at most six */
};

struct stream {
  int file, page;          /* descriptors; -1: none. The page ends after the stream */
  uint64_t began, flushed; /* ns */
  size_t used;
  char buffer[STREAM_BUFFER];
};

void stream_open (struct stream *stream, uint64_t now);

/* Take a file to write to, or a page, which begins with this text. False, and errno, where it cannot be written. */
bool stream_to_file (struct stream *stream, const char *path);
bool stream_to_page (struct stream *stream, const char *path, const void *text, size_t size);

/* Write what is left, and the end. */
void stream_close (struct stream *stream, uint64_t now);

void stream_flush (struct stream *stream, uint64_t now);

/* An event without its end; then its fields; then its end. A phase is one of the format's letters. */
void stream_begin (struct stream *stream, uint64_t now, const char *phase, uint32_t track);
void stream_end (struct stream *stream);

/* As it stands; a plain word as a field; the Lua value at `index` as JSON. */
void stream_add (struct stream *stream, const char *text, size_t size);
void stream_word (struct stream *stream, const char *word);
void stream_number (struct stream *stream, uint64_t number);
void stream_double (struct stream *stream, double value);
void stream_field (struct stream *stream, const char *field, const char *word);
void stream_value (struct stream *stream, lua_State *L, int index);

/* A whole event; name and category may be NULL. */
void stream_event (struct stream *stream, uint64_t now, const char *phase, uint32_t track,
                   const char *name, const char *category);

#endif
