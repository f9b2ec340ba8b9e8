/* Viewers of live frames: one process that holds thousands of WebSockets, so that they cost as little as they can.
 *
 *   viewers PORT COUNT TARGET FIRST NEXT EVERY JOINING
 *
 * Each viewer asks 127.0.0.1:PORT for TARGET, sends the text FIRST, and the text NEXT with every EVERYth frame unless that is 0.
 * When all have received a frame, a line says so. The next line on standard input begins the measurement; from then on,
 * another viewer joins every JOINING milliseconds (0: none), and leaves when it has received a frame, in the middle of
 * the next one. The line after that ends it, and a JSON object says what was received.
 *
 * Of most viewers, the content is not even copied from the kernel; every 64th looks at all of it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { AT_ONCE = 64, PER_ADDRESS = 20000, EVENTS = 256, BUFFER = 144, CHECKED = 64, MOST_JOINS = 100000 };
enum { CONNECTING, UPGRADING, WATCHING, GONE };

typedef struct viewer {
    int fd, state, joining;
    int have;             /* bytes in `buffer` */
    int opcode;           /* of the frame whose content arrives */
    uint64_t left;        /* bytes of it that are still to come */
    uint64_t size;
    unsigned char last[2];
    unsigned char buffer[BUFFER];
    long frames; /* since the measurement began */
    unsigned got;
    double began;
} viewer;

static int poller, port, opening, every;
static const char *target, *first, *next_ones;
static long frames, wrong, lost, seen;
static uint64_t bytes;
static double *joins;
static long joined;
static unsigned char content[1 << 18];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void watch(viewer *v, int what, int events)
{
    struct epoll_event event = {events, {.ptr = v}};
    if (epoll_ctl(poller, what, v->fd, &event))
        fail("epoll_ctl");
}

/* Each address of this machine has ports of its own. */
static void join(viewer *v, int number, int joining)
{
    int yes = 1;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / PER_ADDRESS)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memset(v, 0, sizeof *v);
    v->joining = joining;
    v->began = now();
    v->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (v->fd < 0)
        fail("socket");
    setsockopt(v->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(v->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(v->fd, (struct sockaddr *)&from, sizeof from))
        fail("bind");
    if (connect(v->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        fail("connect");
    opening++;
    watch(v, EPOLL_CTL_ADD, EPOLLOUT);
}

static void leave(viewer *v)
{
    if (v->state < WATCHING)
        opening--;
    v->state = GONE;
    close(v->fd);
}

static void lose(viewer *v)
{
    lost++;
    leave(v);
}

static void say(viewer *v, int opcode, const void *text, size_t length)
{
    unsigned char frame[BUFFER + 8] = {0x80 | opcode, 0x80 | length, 0, 0, 0, 0};
    memcpy(frame + 6, text, length);
    if (send(v->fd, frame, 6 + length, MSG_NOSIGNAL) != (ssize_t)(6 + length))
        lose(v);
}

static void ask(viewer *v)
{
    char text[1024];
    int length = snprintf(text, sizeof text,
                          "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", target);
    v->state = UPGRADING;
    watch(v, EPOLL_CTL_MOD, EPOLLIN);
    if (send(v->fd, text, length, MSG_NOSIGNAL) != length)
        lose(v);
}

/* Returns 1 while there is more to read. The answer is read byte by byte: frames may follow it. */
static int upgrade(viewer *v)
{
    char text[1024], *end;
    ssize_t got = recv(v->fd, text, sizeof text - 1, MSG_PEEK);
    if (got <= 0) {
        if (!got || errno != EAGAIN)
            lose(v);
        return 0;
    }
    text[got] = 0;
    if (!(end = strstr(text, "\r\n\r\n")))
        return 0;
    if (strncmp(text, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "%s\n", text);
        lose(v);
        return 0;
    }
    recv(v->fd, text, end + 4 - text, 0);
    v->state = WATCHING;
    opening--;
    say(v, 1, first, strlen(first));
    return v->state == WATCHING;
}

static void over(viewer *v)
{
    if (v->opcode == 9) {
        say(v, 10, v->buffer, v->size);
        return;
    }
    if (v->opcode == 8) {
        lose(v);
        return;
    }
    if (v->opcode == 1 || v->last[0] != 0xFF || v->last[1] != 0xD9)
        wrong += v->opcode == 1 || !(v->joining || (v->fd % CHECKED)); /* no JPEG ends here */
    frames++;
    if (!v->frames++ && !v->joining)
        seen++;
    if (every && ++v->got % every == 0)
        say(v, 1, next_ones, strlen(next_ones));
    if (v->joining && v->frames == 1) {
        if (joined < MOST_JOINS)
            joins[joined++] = now() - v->began;
        leave(v);
    }
}

/* Reads a part of a frame; returns 1 while there is more. */
static int take(viewer *v)
{
    ssize_t got;
    if (!v->left) {
        got = recv(v->fd, v->buffer + v->have, 10 - v->have, 0);
        if (got > 0) {
            bytes += got;
            v->have += got;
            int length = v->buffer[1] & 127, head = length == 127 ? 10 : length == 126 ? 4 : 2;
            if (v->have < 2 || v->have < head)
                return 1;
            v->size = length;
            if (length > 125)
                for (int at = 2, end = (v->size = 0, head); at < end; at++)
                    v->size = v->size << 8 | v->buffer[at];
            v->opcode = v->buffer[0] & 15;
            int rest = v->have - head;
            if ((uint64_t)rest > v->size) { /* only after what is very short: the next frame begins here */
                fprintf(stderr, "frames too short for this program\n");
                exit(1);
            }
            memmove(v->buffer, v->buffer + head, rest);
            v->have = 0;
            v->left = v->size - rest;
            if (v->opcode >= 8 && v->left) {
                got = recv(v->fd, v->buffer + rest, v->left, MSG_WAITALL);
                v->left = 0;
            }
            if (!v->left)
                over(v);
            return v->state == WATCHING;
        }
    } else {
        int looks = v->joining || v->fd % CHECKED == 0;
        size_t room = looks && v->left > sizeof content ? sizeof content : v->left;
        got = recv(v->fd, looks ? content : NULL, room, looks ? 0 : MSG_TRUNC);
        if (got > 0) {
            bytes += got;
            v->left -= got;
            if (looks) {
                v->last[0] = got > 1 ? content[got - 2] : v->last[1];
                v->last[1] = content[got - 1];
            }
            if (!v->left)
                over(v);
            return v->state == WATCHING && (size_t)got == room;
        }
    }
    if (!got || errno != EAGAIN)
        lose(v);
    return 0;
}

static void serve(viewer *v, int events)
{
    if (v->state == GONE)
        return;
    if (v->state == CONNECTING) {
        if (events & (EPOLLERR | EPOLLHUP))
            lose(v);
        else
            ask(v);
        return;
    }
    if (v->state == UPGRADING && !upgrade(v))
        return;
    for (int turns = 0; turns < 4 && take(v); turns++)
        ;
}

static int by_size(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    if (argc != 8)
        return 2;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    port = atoi(argv[1]);
    int count = atoi(argv[2]), begun = 0, started = 0, ready = 0, base = getpid() % 100 * 3 * PER_ADDRESS;
    target = argv[3], first = argv[4], next_ones = argv[5], every = atoi(argv[6]);
    double pause = atof(argv[7]) / 1e3, next = 0, since = 0;
    viewer *viewers = calloc(count, sizeof *viewers), late = {.state = GONE, .fd = -1};
    joins = calloc(MOST_JOINS, sizeof *joins);
    poller = epoll_create1(0);
    struct epoll_event input = {EPOLLIN, {.ptr = NULL}};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input))
        fail("standard input");
    for (;;) {
        struct epoll_event events[EVENTS];
        while (started < count && opening < AT_ONCE) {
            join(&viewers[started], base + started, 0);
            started++;
        }
        int found = epoll_wait(poller, events, EVENTS, 10);
        for (int at = 0; at < found; at++)
            if (events[at].data.ptr) {
                serve(events[at].data.ptr, events[at].events);
            } else {
                char line[64];
                if (read(0, line, sizeof line) <= 0)
                    return 0;
                if (!begun) {
                    begun = 1;
                    frames = bytes = wrong = joined = 0;
                    for (int each = 0; each < count; each++)
                        viewers[each].frames = 0;
                    since = next = now();
                } else {
                    double seconds = now() - since;
                    long least = count ? viewers[0].frames : 0;
                    for (int each = 0; each < count; each++)
                        if (viewers[each].frames < least)
                            least = viewers[each].frames;
                    qsort(joins, joined, sizeof *joins, by_size);
                    printf("{\"seconds\": %.6f, \"bytes\": %llu, \"frames\": %ld, \"least\": %ld, \"wrong\": %ld, "
                           "\"lost\": %ld, \"joined\": %ld, \"join_median\": %.6f, \"join_most\": %.6f}\n",
                           seconds, (unsigned long long)bytes, frames, least, wrong, lost, joined,
                           joined ? joins[joined / 2] : 0, joined ? joins[joined - 1] : 0);
                    return 0;
                }
            }
        if (!ready && seen + lost >= count) {
            ready = 1;
            printf("%ld\n", seen);
            fflush(stdout);
        }
        if (begun && pause && now() >= next && late.state == GONE) {
            join(&late, base + PER_ADDRESS * 2, 1);
            next = now() + pause;
        }
    }
}
