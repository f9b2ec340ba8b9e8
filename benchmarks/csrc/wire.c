/* The two ends of a relay measurement: a driver that sends prebuilt BLOB frames as fast as they are taken, and a client
 * that compares every byte of them. Plain C, so that the figures are those of what stands between the two.
 *
 *   wire                        an INDI driver on fd 0 and 1: sends frames once a newSwitchVector arrives
 *   wire listen                 the same on a TCP port of its own, which it prints: the floor, no server in between
 *   wire receive PORT SECONDS   a client: starts the frames, checks them, prints one line of JSON
 *
 * The environment says what a frame is, the same for both ends, as a driver gets no arguments from a server:
 *   WIRE_BYTES   raw bytes per frame (default 4194304)
 *   WIRE_WRAP    base64 characters per line, 0: one run (default 72)
 *   WIRE_ENCLEN  1: state `enclen`, the number of base64 characters (default 0)
 *   WIRE_WAIT    1: a client does not start the frames; it prints "ready" and takes what comes (default 0)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define DISTINCT 4 /* frames that differ in every page; together larger than the caches near the cores */

static size_t raw_bytes = 4194304, wrap = 72, characters, text_length;
static int with_enclen;
static char *texts[DISTINCT]; /* base64, line breaks included */

static void fail(const char *what)
{
    fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
    exit(1);
}

static size_t setting(const char *name, size_t otherwise)
{
    const char *value = getenv(name);
    return value ? strtoull(value, NULL, 10) : otherwise;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void make_frames(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t seed = 88172645463325252ull;
    raw_bytes = setting("WIRE_BYTES", raw_bytes) / 3 * 3; /* without padding: all characters carry six bits */
    wrap = setting("WIRE_WRAP", wrap);
    with_enclen = (int)setting("WIRE_ENCLEN", 0);
    characters = raw_bytes / 3 * 4;
    text_length = characters + (wrap ? (characters + wrap - 1) / wrap : 1);
    for (int which = 0; which < DISTINCT; which++) {
        char *out = texts[which] = malloc(text_length);
        if (!out)
            fail("no memory for the frames");
        for (size_t index = 0; index < characters; index++) {
            if (wrap && index && index % wrap == 0)
                *out++ = '\n';
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            *out++ = digits[seed >> 58];
        }
        *out = '\n';
    }
}

static void write_all(int fd, struct iovec *part, int count)
{
    while (count) {
        ssize_t done = writev(fd, part, count);
        if (done < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN) { /* the server may have made the shared socket non-blocking */
                struct pollfd wait = {fd, POLLOUT, 0};
                poll(&wait, 1, -1);
                continue;
            }
            exit(0); /* nobody reads any more */
        }
        while (count && (size_t)done >= part->iov_len)
            done -= part->iov_len, part++, count--;
        if (count)
            part->iov_base = (char *)part->iov_base + done, part->iov_len -= done;
    }
}

static void write_text(int fd, const char *text)
{
    struct iovec part = {(void *)text, strlen(text)};
    write_all(fd, &part, 1);
}

/* Reads until one of two words has been seen; other bytes are of no interest. Gives 0 for the first, 1 for the second. */
static int wait_for(int fd, const char *first, const char *second)
{
    char seen[8192];
    size_t have = 0;
    for (;;) {
        struct pollfd wait = {fd, POLLIN, 0};
        if (poll(&wait, 1, 20000) == 0) {
            fprintf(stderr, "wire: no %s for 20 s\n", first);
            exit(1);
        }
        ssize_t got = read(fd, seen + have, sizeof seen - have);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            exit(0);
        have += got;
        if (memmem(seen, have, first, strlen(first)))
            return 0;
        if (second && memmem(seen, have, second, strlen(second)))
            return 1;
        if (have > sizeof seen / 2) {
            memmove(seen, seen + have - 64, 64);
            have = 64;
        }
    }
}

static void send_frames(int in, int out)
{
    while (wait_for(in, "newSwitchVector", "getProperties"))
        write_text(out,
                   "<defSwitchVector device='Wire' name='GO' state='Idle' perm='rw' rule='AnyOfMany'>"
                   "<defSwitch name='GO'>Off</defSwitch></defSwitchVector>\n"
                   "<defBLOBVector device='Wire' name='FRAME' state='Idle' perm='ro'>"
                   "<defBLOB name='FRAME'/></defBLOBVector>\n");
    for (unsigned long number = 0;; number++) {
        char head[512], enclen[64] = "";
        if (with_enclen)
            snprintf(enclen, sizeof enclen, "    enclen='%zu'\n", characters);
        snprintf(head, sizeof head,
                 "<setBLOBVector\n  device='Wire'\n  name='FRAME'\n  state='Ok'\n  message='%lu'\n>\n"
                 "  <oneBLOB\n    name='FRAME'\n    size='%zu'\n%s    format='.bin'>\n",
                 number, raw_bytes, enclen);
        struct iovec parts[3] = {
            {head, strlen(head)},
            {texts[number % DISTINCT], text_length},
            {"  </oneBLOB>\n</setBLOBVector>\n", 30},
        };
        write_all(out, parts, 3);
    }
}

static int connect_to(const char *port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static void listen_and_send(void)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof at;
    if (bind(listener, (struct sockaddr *)&at, length) < 0 || listen(listener, 1) < 0)
        fail("listen");
    getsockname(listener, (struct sockaddr *)&at, &length);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    int fd = accept(listener, NULL, NULL);
    send_frames(fd, fd);
}

/* ---- the client ---- */

enum { HEAD, TEXT, TAIL };

static char *held; /* bytes of a head or tail that is not complete yet */
static size_t held_length;

struct checker {
    int state;
    unsigned long number, expected, frames, wrong, missed;
    size_t matched; /* of the text of this frame */
    int intact;
    unsigned long long bytes;
    double started, ended;
};

static void frame_done(struct checker *c)
{
    if (!c->intact || c->matched != text_length)
        c->wrong++;
    if (c->frames++ == 0) { /* the first frame warms up; time runs from its end */
        c->bytes = 0;
        c->started = now();
    }
    c->ended = now();
}

static int blank(char c)
{
    return c == '\n' || c == ' ' || c == '\r' || c == '\t';
}

/* Compares text with the frame, first as it stands, then without regard to white space; gives the bytes taken. */
static size_t match(struct checker *c, const char *data, size_t length)
{
    const char *text = texts[c->number % DISTINCT];
    size_t part = text_length - c->matched < length ? text_length - c->matched : length;
    if (memcmp(data, text + c->matched, part) == 0) {
        c->matched += part;
        return part;
    }
    size_t taken = 0;
    for (; taken < length && data[taken] != '<'; taken++) {
        if (blank(data[taken]))
            continue;
        while (c->matched < text_length && blank(text[c->matched]))
            c->matched++;
        if (c->matched < text_length && text[c->matched] == data[taken])
            c->matched++;
        else
            c->intact = 0;
    }
    if (taken < length)
        while (c->matched < text_length && blank(text[c->matched]))
            c->matched++;
    return taken;
}

static void check(struct checker *c, const char *data, size_t length)
{
    while (length) {
        if (c->state == TEXT) {
            size_t taken = match(c, data, length);
            data += taken, length -= taken;
            if (length && (*data == '<' || c->matched == text_length))
                c->state = TAIL;
            else if (length) { /* a foreign character that is no tag */
                c->intact = 0;
                data++, length--;
            }
            continue;
        }
        const char *word = c->state == HEAD ? "<oneBLOB" : "</setBLOBVector>";
        held = realloc(held, held_length + length + 1);
        memcpy(held + held_length, data, length);
        size_t have = held_length + length;
        char *at = memmem(held, have, word, strlen(word)), *end = NULL, *message = NULL;
        if (at)
            end = memchr(at, '>', held + have - at);
        if (!end) {
            held_length = have;
            return;
        }
        size_t behind = end + 1 - held;
        if (c->state == HEAD) {
            while (behind < have && blank(held[behind]))
                behind++;
            if (behind == have) { /* the text may still be preceded by white space */
                held_length = have;
                return;
            }
            *end = 0;
            if ((message = memmem(held, end - held, "message=", 8)))
                c->number = strtoul(message + 9, NULL, 10);
            c->missed += c->number - c->expected;
            c->expected = c->number + 1;
            c->matched = 0;
            c->intact = message != NULL;
            c->state = TEXT;
        } else {
            frame_done(c);
            c->state = HEAD;
        }
        size_t used = behind - held_length;
        data += used, length -= used;
        held_length = 0;
    }
}

static void receive(const char *port, double seconds)
{
    size_t capacity = 1 << 20;
    char *buffer = malloc(capacity);
    struct checker c = {0};
    int fd = connect_to(port);
    struct timeval patience = {10, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    write_text(fd, "<getProperties version='1.7'/>");
    wait_for(fd, "</defBLOBVector>", NULL);
    write_text(fd, "<enableBLOB device='Wire'>Also</enableBLOB>"
                   "<enableBLOB device='Wire' name='FRAME'>Also</enableBLOB>");
    if (setting("WIRE_WAIT", 0)) {
        write_text(fd, "<pingRequest uid='ready'/>");
        wait_for(fd, "pingReply", NULL);
        printf("ready\n");
        fflush(stdout);
    } else
        write_text(fd, "<newSwitchVector device='Wire' name='GO'><oneSwitch name='GO'>On</oneSwitch></newSwitchVector>");
    double deadline = now() + seconds + 10;
    for (;;) {
        ssize_t got = recv(fd, buffer, capacity, 0);
        if (got <= 0)
            break;
        c.bytes += got;
        check(&c, buffer, got);
        double t = now();
        if (t > deadline || (c.frames && t - c.started >= seconds))
            break;
    }
    double elapsed = c.frames > 1 ? c.ended - c.started : 0;
    printf("{\"frames\": %lu, \"wrong\": %lu, \"missed\": %lu, \"seconds\": %.6f, \"wire_bytes\": %llu, \"raw_bytes\": %llu}\n",
           c.frames, c.wrong, c.missed, elapsed, c.bytes, (unsigned long long)(c.frames ? c.frames - 1 : 0) * raw_bytes);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    make_frames();
    if (argc == 1)
        send_frames(0, 1);
    else if (argc == 2 && !strcmp(argv[1], "listen"))
        listen_and_send();
    else if (argc == 4 && !strcmp(argv[1], "receive"))
        receive(argv[2], atof(argv[3]));
    else {
        fprintf(stderr, "usage: wire [listen | receive PORT SECONDS]\n");
        return 2;
    }
    return 0;
}
