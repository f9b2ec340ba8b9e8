/* The least that anything between a driver and a client has to do: it passes on what it reads, and the descriptors that
 * come with it. It looks at nothing and keeps nothing, so its figures are those of the kernel, and the floor for servers.
 *
 *   pass NAME DRIVER    starts the driver on a socket pair, as servers do; prints the TCP port of 127.0.0.1 on which it
 *                       listens. It also listens on the abstract Unix socket NAME unless that is empty. A DRIVER such
 *                       as Stamp@127.0.0.1:7624 is another program that listens, to which it connects.
 *
 * It has one client at a time.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/un.h>

#include "window.h"

#include "stream.h"

#define REMOTE "@127.0.0.1:"

static int epoll;

static void watch(int fd)
{
    struct epoll_event event = {EPOLLIN, {.fd = fd}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
}

static int start(char **command)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        fail("socketpair");
    if (!fork()) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        dup2(pair[1], 0);
        dup2(pair[1], 1);
        execvp(*command, command);
        fail(*command);
    }
    close(pair[1]);
    return pair[0];
}

static int listen_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, 16) ||
        getsockname(fd, (struct sockaddr *)&address, &length))
        fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static int listen_unix(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path + 1, name, length);
    if (bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + length) || listen(fd, 16))
        fail("listen");
    return fd;
}

/* Passes on one read, with its descriptors. Returns 0 at the end of the stream. */
static int pass(int from, int to)
{
    static char data[256 << 10];
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(16 * sizeof(int))];
    } control;
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(from, &message, MSG_CMSG_CLOEXEC), sent;
    if (got <= 0)
        return 0;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    size_t fds = head && head->cmsg_type == SCM_RIGHTS ? (head->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
    for (part.iov_len = got; to >= 0 && part.iov_len && (sent = sendmsg(to, &message, MSG_NOSIGNAL)) >= 0;) {
        part.iov_base = (char *)part.iov_base + sent;
        part.iov_len -= sent;
        message.msg_controllen = 0;
    }
    for (size_t at = 0; at < fds; at++)
        close(((int *)CMSG_DATA(head))[at]);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: pass NAME DRIVER\n");
        return 2;
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    const char *remote = strstr(argv[2], REMOTE);
    int driver = remote ? connect_to_server(remote + strlen(REMOTE)) : start(argv + 2), client = -1, on = 1;
    watch(driver);
    if (*argv[1])
        watch(listen_unix(argv[1]));
    watch(listen_tcp());
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(epoll, &event, 1, -1) != 1)
            continue;
        int fd = event.data.fd;
        if (fd == driver) {
            if (!pass(driver, client))
                return 0;
        } else if (fd == client) {
            if (!pass(client, driver))
                close(client), client = -1;
        } else {
            if (client >= 0)
                close(client);
            client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            watch(client);
        }
    }
}
