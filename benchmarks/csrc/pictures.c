/* A sender for `viewers.c`: it sends frames of one size to all who connect, again and again, and does nothing else. So
 * its figures are those of the kernel.
 *
 *   pictures SIZE COUNT     prints the port of 127.0.0.1 on which it listens; frames have SIZE bytes
 *
 * It begins when COUNT have connected.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256 };

typedef struct connection {
    int fd, upgraded;
    size_t sent;
} connection;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

int main(int argc, char **argv)
{
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    if (argc != 3)
        return 2;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    size_t size = atol(argv[1]), length = size + 10;
    int awaited = atoi(argv[2]), waiting = 0;
    connection **all = calloc(awaited, sizeof *all);
    unsigned char *frame = calloc(1, length);
    frame[0] = 0x82, frame[1] = 127;
    for (int at = 0; at < 8; at++)
        frame[2 + at] = (uint64_t)size >> (56 - 8 * at);
    frame[length - 2] = 0xFF, frame[length - 1] = 0xD9;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t room = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poller = epoll_create1(0), yes = 1;
    if (bind(listener, (struct sockaddr *)&address, room) || listen(listener, 1024) ||
        getsockname(listener, (struct sockaddr *)&address, &room))
        fail("listen");
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int found = epoll_wait(poller, events, EVENTS, -1);
        for (int at = 0; at < found; at++) {
            connection *c = events[at].data.ptr;
            char text[4096];
            if (!c) {
                for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                    c = calloc(1, sizeof *c);
                    c->fd = fd;
                    event = (struct epoll_event){EPOLLIN, {.ptr = c}};
                    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
                }
                continue;
            }
            if (!c->upgraded) {
                ssize_t got = recv(c->fd, text, sizeof text - 1, 0);
                text[got > 0 ? got : 0] = 0;
                if (got <= 0 || !strstr(text, "\r\n\r\n") || send(c->fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) {
                    close(c->fd);
                    free(c);
                    continue;
                }
                c->upgraded = 1;
                event = (struct epoll_event){waiting < awaited - 1 ? 0 : EPOLLOUT, {.ptr = c}};
                epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
                if (waiting < awaited)
                    all[waiting++] = c;
                else
                    continue;
                for (int each = 0; waiting == awaited && each < awaited; each++) {
                    event = (struct epoll_event){EPOLLOUT, {.ptr = all[each]}};
                    epoll_ctl(poller, EPOLL_CTL_MOD, all[each]->fd, &event);
                }
                continue;
            }
            ssize_t done = send(c->fd, frame + c->sent, length - c->sent, MSG_NOSIGNAL);
            if (done < 0 && errno != EAGAIN) {
                close(c->fd);
                free(c);
            } else if (done > 0 && (c->sent += done) == length) {
                c->sent = 0;
            }
        }
    }
}
