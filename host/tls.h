/* TLS of a server's connections (OpenSSL): what came in is opened, what goes out is sealed, all of it in
   memory. Knows no sockets. */
#ifndef TLS_H
#define TLS_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

struct tls_context; /* a certificate and its key, and what all connections share */
struct tls;         /* one connection */

/* From two files in PEM: the chain of certificates, the server's first, and its key. Raises where one
   cannot be read, or where they do not belong together. The caller releases it. */
struct tls_context *tls_context_new (lua_State *L, const char *certificate, const char *key);
void tls_context_release (struct tls_context *context); /* NULL: nothing */

/* NULL: no memory. It keeps its context until it is freed. */
struct tls *tls_new (struct tls_context *context);
void tls_free (struct tls *tls); /* NULL: nothing */

/* What came from the client. False: no memory. */
bool tls_feed (struct tls *tls, const char *data, size_t length);

enum { TLS_MORE = 0, TLS_ENDED = -1, TLS_BROKEN = -2 };

/* Open some of what was fed into `data`: how many bytes, or TLS_MORE: it needs more; TLS_ENDED: the client
   sends nothing after this; TLS_BROKEN: this is not TLS, or not one that we take. Each may leave bytes to
   send. */
int tls_read (struct tls *tls, char *data, size_t size);

/* Seal all of it. False: no memory, or the connection is broken. */
bool tls_write (struct tls *tls, const char *data, size_t length);

/* Say that no more comes. */
void tls_end (struct tls *tls);

/* What is to be sent to the client; valid until tls_sent, which forgets it, or the next call. */
size_t tls_pending (struct tls *tls, char **data);
void tls_sent (struct tls *tls);

#endif
