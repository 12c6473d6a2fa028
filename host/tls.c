#include "tls.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "error.h"
#include "library.h"

/* The functions of libssl and of libcrypto, by these names, without linking them. */
#define SSL_FUNCTIONS(X)                                                                           \
  X (TLS_server_method)                                                                            \
  X (SSL_CTX_new)                                                                                  \
  X (SSL_CTX_free)                                                                                 \
  X (SSL_CTX_ctrl)                                                                                 \
  X (SSL_CTX_set_options)                                                                          \
  X (SSL_CTX_set_alpn_select_cb)                                                                   \
  X (SSL_CTX_use_certificate_chain_file)                                                           \
  X (SSL_CTX_use_PrivateKey_file)                                                                  \
  X (SSL_CTX_check_private_key)                                                                    \
  X (SSL_CTX_set_default_passwd_cb)                                                                \
  X (SSL_new)                                                                                      \
  X (SSL_free)                                                                                     \
  X (SSL_set_bio)                                                                                  \
  X (SSL_set_accept_state)                                                                         \
  X (SSL_read)                                                                                     \
  X (SSL_write)                                                                                    \
  X (SSL_shutdown)                                                                                 \
  X (SSL_get_error)
#define CRYPTO_FUNCTIONS(X)                                                                        \
  X (BIO_new)                                                                                      \
  X (BIO_free)                                                                                     \
  X (BIO_s_mem)                                                                                    \
  X (BIO_write)                                                                                    \
  X (BIO_ctrl)                                                                                     \
  X (ERR_clear_error)                                                                              \
  X (ERR_peek_error)                                                                               \
  X (ERR_reason_error_string)

/* NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration has none. */
#define FUNCTION(name) __typeof__ (&(name)) name;
#define NAME(name) #name,
struct ssl {
  SSL_FUNCTIONS (FUNCTION)
};
struct crypto {
  CRYPTO_FUNCTIONS (FUNCTION)
};

struct tls_context {
  struct ssl ssl;
  struct crypto crypto;
  SSL_CTX *openssl;
  unsigned references;
};

struct tls {
  struct tls_context *context;
  SSL *openssl;
  BIO *in, *out; /* the SSL's */
};

static void load (lua_State *L, struct tls_context *context) {
  static const char *const ssl_names[] = { SSL_FUNCTIONS (NAME) };
  static const char *const crypto_names[] = { CRYPTO_FUNCTIONS (NAME) };
  void *ssl[sizeof ssl_names / sizeof *ssl_names];
  void *crypto[sizeof crypto_names / sizeof *crypto_names];
  _Static_assert(sizeof ssl == sizeof context->ssl, "one pointer a name");
  _Static_assert(sizeof crypto == sizeof context->crypto, "one pointer a name");
  library_load (L, "libcrypto.so.3", "libssl3", crypto_names, crypto,
                sizeof crypto / sizeof *crypto);
  library_load (L, "libssl.so.3", "libssl3", ssl_names, ssl, sizeof ssl / sizeof *ssl);
  memcpy (&context->ssl, ssl, sizeof ssl);
  memcpy (&context->crypto, crypto, sizeof crypto);
}

/* HTTP/1.1 is what we speak; a client that asks only for something else gets no handshake. */
static int select_protocol (SSL *openssl, const unsigned char **chosen,
                            unsigned char *chosen_length, const unsigned char *offered,
                            unsigned offered_length, void *data) {
  static const char known[] = "http/1.1";
  unsigned at;
  (void)openssl;
  (void)data;
  for (at = 0; at < offered_length; at += offered[at] + 1u)
    if (offered[at] == sizeof known - 1
        && memcmp (offered + at + 1, known, sizeof known - 1) == 0) {
      *chosen = offered + at + 1;
      *chosen_length = offered[at];
      return SSL_TLSEXT_ERR_OK;
    }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A server cannot ask: a key with a password is refused. */
static int give_no_password (char *password, int size, int writing, void *data) {
  (void)password;
  (void)size;
  (void)writing;
  (void)data;
  return 0;
}

static int fail (lua_State *L, struct tls_context *context, const char *what, const char *path) {
  const char *reason = context->crypto.ERR_reason_error_string (context->crypto.ERR_peek_error ());
  lua_pushfstring (L, "serve: tls: %s %s: %s", what, path, reason ? reason : "unknown error");
  context->crypto.ERR_clear_error ();
  tls_context_release (context);
  return lua_error (L);
}

struct tls_context *tls_context_new (lua_State *L, const char *certificate, const char *key) {
  struct tls_context loaded = { .references = 1 }, *context;
  SSL_CTX *openssl;
  load (L, &loaded);
  context = malloc (sizeof *context);
  if (!context)
    error_raise_memory (L, allua_of (L));
  *context = loaded;
  context->crypto.ERR_clear_error ();
  openssl = context->openssl = context->ssl.SSL_CTX_new (context->ssl.TLS_server_method ());
  if (!openssl)
    fail (L, context, "cannot start with", certificate);
  context->ssl.SSL_CTX_ctrl (openssl, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
  context->ssl.SSL_CTX_ctrl (openssl, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
  context->ssl.SSL_CTX_set_options (openssl, SSL_OP_NO_RENEGOTIATION);
  context->ssl.SSL_CTX_set_alpn_select_cb (openssl, select_protocol, NULL);
  context->ssl.SSL_CTX_set_default_passwd_cb (openssl, give_no_password);
  if (context->ssl.SSL_CTX_use_certificate_chain_file (openssl, certificate) != 1)
    fail (L, context, "cannot use the certificate", certificate);
  if (context->ssl.SSL_CTX_use_PrivateKey_file (openssl, key, SSL_FILETYPE_PEM) != 1
      || context->ssl.SSL_CTX_check_private_key (openssl) != 1)
    fail (L, context, "cannot use the key", key);
  return context;
}

void tls_context_release (struct tls_context *context) {
  if (!context || --context->references)
    return;
  context->ssl.SSL_CTX_free (context->openssl);
  free (context);
}

struct tls *tls_new (struct tls_context *context) {
  const struct ssl *ssl = &context->ssl;
  const struct crypto *crypto = &context->crypto;
  struct tls *tls = malloc (sizeof *tls);
  if (!tls)
    return NULL;
  tls->openssl = ssl->SSL_new (context->openssl);
  tls->in = crypto->BIO_new (crypto->BIO_s_mem ());
  tls->out = crypto->BIO_new (crypto->BIO_s_mem ());
  if (!tls->openssl || !tls->in || !tls->out) {
    ssl->SSL_free (tls->openssl);
    crypto->BIO_free (tls->in);
    crypto->BIO_free (tls->out);
    free (tls);
    return NULL;
  }
  /* An empty one means "not yet", not the end. */
  crypto->BIO_ctrl (tls->in, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, NULL);
  crypto->BIO_ctrl (tls->out, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, NULL);
  ssl->SSL_set_bio (tls->openssl, tls->in, tls->out);
  ssl->SSL_set_accept_state (tls->openssl);
  tls->context = context;
  context->references++;
  return tls;
}

void tls_free (struct tls *tls) {
  if (!tls)
    return;
  tls->context->ssl.SSL_free (tls->openssl);
  tls_context_release (tls->context);
  free (tls);
}

bool tls_feed (struct tls *tls, const char *data, size_t length) {
  return tls->context->crypto.BIO_write (tls->in, data, (int)length) == (int)length;
}

int tls_read (struct tls *tls, char *data, size_t size) {
  const struct tls_context *context = tls->context;
  int count;
  context->crypto.ERR_clear_error (); /* SSL_get_error looks at the thread's queue of errors */
  count = context->ssl.SSL_read (tls->openssl, data, (int)size);
  if (count > 0)
    return count;
  switch (context->ssl.SSL_get_error (tls->openssl, count)) {
  case SSL_ERROR_WANT_READ:
    return TLS_MORE;
  case SSL_ERROR_ZERO_RETURN:
    return TLS_ENDED;
  default:
    context->crypto.ERR_clear_error ();
    return TLS_BROKEN;
  }
}

bool tls_write (struct tls *tls, const char *data, size_t length) {
  const struct tls_context *context = tls->context;
  context->crypto.ERR_clear_error ();
  while (length) {
    int piece = length > INT_MAX ? INT_MAX : (int)length;
    if (context->ssl.SSL_write (tls->openssl, data, piece) != piece) {
      context->crypto.ERR_clear_error ();
      return false;
    }
    data += piece;
    length -= (size_t)piece;
  }
  return true;
}

void tls_end (struct tls *tls) {
  tls->context->crypto.ERR_clear_error ();
  tls->context->ssl.SSL_shutdown (tls->openssl);
  tls->context->crypto.ERR_clear_error ();
}

size_t tls_pending (struct tls *tls, char **data) {
  long length = tls->context->crypto.BIO_ctrl (tls->out, BIO_CTRL_INFO, 0, data);
  return length > 0 ? (size_t)length : 0;
}

void tls_sent (struct tls *tls) {
  tls->context->crypto.BIO_ctrl (tls->out, BIO_CTRL_RESET, 0, NULL);
}
