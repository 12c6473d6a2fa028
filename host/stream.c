#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ns that an event may stay in the buffer of a busy turn */
static const uint64_t PATIENCE = 20000000;

static void write_out (int *output, const char *text, size_t size) {
  while (size && *output >= 0) {
    ssize_t written = write (*output, text, size);
    if (written > 0) {
      text += written;
      size -= (size_t)written;
    } else if (errno != EINTR && errno != EAGAIN) {
      close (*output);
      *output = -1;
    }
  }
}

void stream_flush (struct stream *stream, uint64_t now) {
  write_out (&stream->file, stream->buffer, stream->used);
  write_out (&stream->page, stream->buffer, stream->used);
  stream->used = 0;
  stream->flushed = now;
}

void stream_open (struct stream *stream, uint64_t now) {
  stream->file = stream->page = -1;
  stream->began = stream->flushed = now;
  stream->used = 0;
}

static int create (const char *path) {
  return open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

bool stream_to_file (struct stream *stream, const char *path) {
  stream->file = create (path);
  return stream->file >= 0;
}

bool stream_to_page (struct stream *stream, const char *path, const void *text, size_t size) {
  stream->page = create (path);
  write_out (&stream->page, text, size);
  return stream->page >= 0;
}

void stream_close (struct stream *stream, uint64_t now) {
  static const char end[] = "</script>\n</html>\n";
  stream_word (stream, "\n]\n");
  stream_flush (stream, now);
  write_out (&stream->page, end, sizeof end - 1);
  if (stream->file >= 0)
    close (stream->file);
  if (stream->page >= 0)
    close (stream->page);
}

void stream_add (struct stream *stream, const char *text, size_t size) {
  if (stream->used + size <= STREAM_BUFFER) {
    memcpy (stream->buffer + stream->used, text, size);
    stream->used += size;
  }
}

void stream_word (struct stream *stream, const char *word) {
  stream_add (stream, word, strlen (word));
}

void stream_number (struct stream *stream, uint64_t number) {
  char digits[20];
  size_t at = sizeof digits;
  do
    digits[--at] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  stream_add (stream, digits + at, sizeof digits - at);
}

/* The length of the UTF-8 character at `text`, 0: it is none. */
static size_t character (const unsigned char *text, size_t size) {
  size_t length = *text < 0x80   ? 1
                  : *text < 0xC2 ? 0
                  : *text < 0xE0 ? 2
                  : *text < 0xF0 ? 3
                  : *text < 0xF5 ? 4
                                 : 0,
         i;
  if (length > size)
    return 0;
  for (i = 1; i < length; i++)
    if ((text[i] & 0xC0) != 0x80)
      return 0;
  if ((*text == 0xE0 && text[1] < 0xA0) || (*text == 0xED && text[1] >= 0xA0)
      || (*text == 0xF0 && text[1] < 0x90) || (*text == 0xF4 && text[1] >= 0x90))
    return 0;
  return length;
}

/* As a JSON string, without what would end a script element of HTML. */
static void text_value (struct stream *stream, const char *given, size_t size) {
  const unsigned char *text = (const unsigned char *)given;
  const unsigned char *end = text + (size < STREAM_TEXT ? size : STREAM_TEXT);
  stream_add (stream, "\"", 1);
  while (text < end) {
    size_t length = character (text, (size_t)(end - text));
    if (length == 0) {
      if (size > STREAM_TEXT && end - text < 4)
        break; /* cut inside a character */
      stream_word (stream, "\\ufffd");
      length = 1;
    } else if (*text < 0x20 || *text == 0x7F || strchr ("\"\\<>&", *text)) {
      char escape[8];
      snprintf (escape, sizeof escape, "\\u%04x", *text);
      stream_add (stream, escape, 6);
    } else
      stream_add (stream, (const char *)text, length);
    text += length;
  }
  if (size > STREAM_TEXT)
    stream_word (stream, "…");
  stream_add (stream, "\"", 1);
}

void stream_double (struct stream *stream, double value) {
  char text[40], *point;
  int length = snprintf (text, sizeof text, "%.14g", value);
  if (value - value != 0) {
    stream_word (stream, "null");
    return;
  }
  point = strchr (text, ','); /* as a script's locale may want it */
  if (point)
    *point = '.';
  stream_add (stream, text, (size_t)length);
}

void stream_value (struct stream *stream, lua_State *L, int index) {
  if (lua_type (L, index) == LUA_TSTRING) {
    size_t size;
    const char *text = lua_tolstring (L, index, &size);
    text_value (stream, text, size);
  } else if (lua_isinteger (L, index)) {
    lua_Integer value = lua_tointeger (L, index);
    stream_add (stream, "-", value < 0);
    stream_number (stream, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
  } else if (lua_type (L, index) == LUA_TNUMBER) {
    stream_double (stream, lua_tonumber (L, index));
  } else if (lua_isboolean (L, index))
    stream_word (stream, lua_toboolean (L, index) ? "true" : "false");
  else
    stream_word (stream, "null");
}

void stream_begin (struct stream *stream, uint64_t now, const char *phase, uint32_t track) {
  if (stream->used > STREAM_BUFFER - STREAM_EVENT || now - stream->flushed > PATIENCE)
    stream_flush (stream, now);
  now -= stream->began;
  stream_word (stream, ",\n{\"ph\":\"");
  stream_word (stream, phase);
  stream_word (stream, "\",\"pid\":1,\"tid\":");
  stream_number (stream, track);
  stream_word (stream, ",\"ts\":");
  stream_number (stream, now / 1000);
  now %= 1000;
  if (now) {
    const char digits[4]
        = { '.', (char)('0' + now / 100), (char)('0' + now / 10 % 10), (char)('0' + now % 10) };
    stream_add (stream, digits, sizeof digits);
  }
}

void stream_end (struct stream *stream) {
  stream_add (stream, "}", 1);
}

void stream_field (struct stream *stream, const char *field, const char *word) {
  stream_word (stream, ",\"");
  stream_word (stream, field);
  stream_word (stream, "\":\"");
  stream_word (stream, word);
  stream_add (stream, "\"", 1);
}

void stream_event (struct stream *stream, uint64_t now, const char *phase, uint32_t track,
                   const char *name, const char *category) {
  stream_begin (stream, now, phase, track);
  if (name) {
    stream_field (stream, "name", name);
    stream_field (stream, "cat", category);
  }
  stream_end (stream);
}
