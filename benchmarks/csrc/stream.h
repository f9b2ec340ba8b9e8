/* Shared by the C programs: connections over TCP, and over TLS if compiled with WITH_TLS (and -lssl -lcrypto).
 *
 *   SERVER_HOST       address to connect to or to listen on (default 127.0.0.1)
 *   TLS_TRUST         a client: use TLS; the server must have the certificate in this file
 *   TLS_CERTIFICATE   a listener: use TLS; a file with a certificate and its key
 *
 * A program has at most one connection with TLS. Client and listener insist on TLS 1.3 with one cipher, so that all
 * that are compared do the same work; records have OpenSSL's usual 16 KiB.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>

static SSL *tls;
static int tls_fd = -1;

static void tls_fail(const char *what)
{
    fprintf(stderr, "%s: ", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* Turns TLS on for a connection if the environment says so. */
static void secure(int fd, int listening)
{
    const char *file = getenv(listening ? "TLS_CERTIFICATE" : "TLS_TRUST");
    if (!file)
        return;
    SSL_CTX *context = SSL_CTX_new(listening ? TLS_server_method() : TLS_client_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384"))
        tls_fail("TLS");
    if (listening) {
        if (SSL_CTX_use_certificate_chain_file(context, file) != 1 ||
            SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM) != 1)
            tls_fail(file);
    } else {
        if (SSL_CTX_load_verify_locations(context, file, NULL) != 1)
            tls_fail(file);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    }
    SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY);
    tls = SSL_new(context);
    if (!tls || !SSL_set_fd(tls, fd) || (listening ? SSL_accept(tls) : SSL_connect(tls)) != 1)
        tls_fail("TLS handshake");
    tls_fd = fd;
}

static int is_secure(int fd)
{
    return fd == tls_fd;
}
#else
static void secure(int fd, int listening)
{
    (void)fd;
    if (getenv(listening ? "TLS_CERTIFICATE" : "TLS_TRUST")) {
        fprintf(stderr, "compiled without TLS\n");
        exit(1);
    }
}
#endif

/* As read(2), and writev(2); but a process that was stopped for a while goes on reading. */
static ssize_t take_some(int fd, void *data, size_t room)
{
    for (;;) {
        ssize_t got;
        errno = 0;
#ifdef WITH_TLS
        if (is_secure(fd)) {
            got = SSL_read(tls, data, room < 1 << 30 ? room : 1 << 30);
            got = got > 0 ? got : SSL_get_error(tls, got) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
        } else
#endif
            got = read(fd, data, room);
        if (got >= 0 || errno != EINTR)
            return got;
    }
}

static ssize_t give_some(int fd, const struct iovec *parts, int count)
{
#ifdef WITH_TLS
    if (is_secure(fd)) {
        int done = parts->iov_len ? SSL_write(tls, parts->iov_base, parts->iov_len < 1 << 30 ? parts->iov_len : 1 << 30) : 0;
        if (parts->iov_len && done <= 0)
            errno = EPIPE;
        return parts->iov_len && done <= 0 ? -1 : done;
    }
#endif
    return writev(fd, parts, count);
}

/* As poll(2) for reading; what TLS has decrypted is there at once. */
static int wait_to_take(int fd, int milliseconds)
{
    struct pollfd wait = {fd, POLLIN, 0};
#ifdef WITH_TLS
    if (is_secure(fd) && SSL_pending(tls))
        return 1;
#endif
    int found;
    while ((found = poll(&wait, 1, milliseconds)) < 0 && errno == EINTR)
        ;
    return found;
}

static struct sockaddr_in server_address(const char *port)
{
    const char *host = getenv("SERVER_HOST");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (inet_pton(AF_INET, host ? host : "127.0.0.1", &at.sin_addr) != 1) {
        fprintf(stderr, "SERVER_HOST is no address: %s\n", host);
        exit(1);
    }
    return at;
}

static int connect_to_server(const char *port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in to = server_address(port);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    secure(fd, 0);
    return fd;
}
