/* One HTTP exchange: what is sent, what has come of the reply, and the task that waits for more of it. */
#ifndef FETCH_TRANSFER_H
#define FETCH_TRANSFER_H

#include "fetch_multi.h"
#include "op.h"

/* What a task waits for. */
enum transfer_want {
  WANT_NOTHING,
  WANT_HEAD,  /* the reply's head */
  WANT_CHUNK, /* some bytes of its body, or the end */
  WANT_END
};

struct buffer {
  char *bytes;
  size_t length, size;
};

/* A userdata of Lua's, dropped when that is collected, if not before; or a prepared request's. */
struct transfer {
  struct op op; /* first: what the task that wants something waits for */
  struct fetch_multi *multi;
  struct transfer *next, **place; /* among those under way */
  struct mem mem;
  CURL *easy; /* NULL: it has ended */
  struct curl_slist *headers;
  curl_mime *form;
  struct buffer head, body;
  size_t type, type_length; /* of the content, in the head */
  int status;
  bool head_done;
  bool streaming; /* the body waits in bounds until it is taken */
  bool paused;
  bool too_large, dropped;
  bool starved;     /* there is no memory to poll its connection */
  bool kept;        /* the easy handle and the headers are used again, by whoever prepared it */
  bool own_proxy;   /* an option says which proxy, or that there is none */
  bool direct;      /* libcurl is told that there is none, and looks for none */
  bool told_direct; /* … or that there may be one */
  uint64_t received, limit; /* of the body, bytes */
  CURLcode result;
  enum transfer_want want;
  bool waited_for;    /* `op` is to be settled when there is what is wanted */
  struct timer timer; /* its end in virtual time, which libcurl does not know */
  char problem[CURL_ERROR_SIZE];
};

/* Set what any transfer needs, and hand it to libcurl. False: no memory, or libcurl refused. */
bool fetch_transfer_prepare (struct transfer *transfer, struct fetch_multi *multi);
bool fetch_transfer_start (struct transfer *transfer);

/* Have it end with a timeout after so much virtual time. False: no memory. */
bool fetch_transfer_limit (struct transfer *transfer, double seconds);

/* Stop it, if it has not ended; whoever waits is told. Outside of libcurl's callbacks. */
void fetch_transfer_drop (struct transfer *transfer);

/* Drop it and give its memory back. */
void fetch_transfer_free (struct transfer *transfer);

/* libcurl is done with it. */
void fetch_transfer_ended (struct transfer *transfer, CURLcode result);

/* Take what has come of the body: it is the caller's until more is taken. */
void fetch_transfer_resume (struct transfer *transfer);

/* Collect the rest of the body, up to `limit` bytes of it all. */
void fetch_transfer_collect (struct transfer *transfer, uint64_t limit);

/* Put a NUL behind the body. False: no memory. */
bool fetch_transfer_end_text (struct transfer *transfer);

bool fetch_transfer_has (const struct transfer *transfer, enum transfer_want want);

/* Begin an operation that is settled when there is what is wanted, which is not yet; `cancel` drops the transfer. */
void fetch_transfer_want (struct transfer *transfer, enum transfer_want want, const char *what,
                          void (*cancel) (struct op *op));

/* Why it failed: a word for programs, or NULL when it did not; and words for people. */
const char *fetch_transfer_problem (const struct transfer *transfer, const char **words);

#endif
