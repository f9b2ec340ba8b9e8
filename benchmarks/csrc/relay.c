/* The least that a server has to do, in C: reads frames from a driver, finds where each begins and ends, and sends them to
 * all clients by several threads. What it gives is what a server in C with as many threads could give.
 *
 *   relay THREADS DRIVER   starts the driver, prints the port on which it listens, and serves until it is ended
 *
 * It knows nothing of INDI: it looks for `<`, and takes what ends with the driver's last tag (LAST) for a frame. Clients get
 * definitions when they connect, and all frames once one of them sends a newSwitchVector. All must be connected before.
 * A client that is behind holds up the driver, when it is AHEAD frames behind: nothing is left out.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "window.h"

#include "stream.h"

#define LAST "</setBLOBVector>"

enum {
    MOST = 1024,
    MOST_THREADS = 64,
    AHEAD = 4,         /* frames that are kept at most: one arrives, one is sent, two for those who are faster or slower */
    READ = 256 << 10,  /* bytes read at once, as servers do */
    SLICE = 256 << 10, /* bytes sent at once: small enough for the next thread to find them in a cache */
};

struct frame {
    char *data;
    size_t length, room;
    int left; /* clients that have not got all of it */
};

struct client {
    int fd, blocked;
    unsigned long frame; /* the frame that is being sent */
    size_t sent;         /* bytes of it */
};

struct sender {
    pthread_t id;
    int event, poller, first, step;
};

static struct frame frames[AHEAD];
static struct client clients[MOST];
static int count, threads;
static struct sender senders[MOST_THREADS];
static unsigned long complete; /* frames that may be sent */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t freed = PTHREAD_COND_INITIALIZER;

static void write_text(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0)
        fail("write");
}

/* Sends a slice to a client; returns 1 if there may be more to send. */
static int serve_one(struct sender *s, struct client *c)
{
    if (c->blocked || c->frame == __atomic_load_n(&complete, __ATOMIC_ACQUIRE))
        return 0;
    struct frame *frame = &frames[c->frame % AHEAD];
    size_t length = frame->length - c->sent < SLICE ? frame->length - c->sent : SLICE;
    ssize_t done = send(c->fd, frame->data + c->sent, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done < 0 && errno != EAGAIN)
        exit(0); /* the measurement is over */
    if (done > 0)
        c->sent += done;
    if (done < (ssize_t)length) {
        struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.ptr = c};
        c->blocked = 1;
        epoll_ctl(s->poller, EPOLL_CTL_MOD, c->fd, &event);
        return 0;
    }
    if (c->sent == frame->length) {
        c->frame++;
        c->sent = 0;
        if (__atomic_sub_fetch(&frame->left, 1, __ATOMIC_ACQ_REL) == 0) {
            pthread_mutex_lock(&lock);
            pthread_cond_signal(&freed);
            pthread_mutex_unlock(&lock);
        }
    }
    return 1;
}

/* Sends to every client whose number leaves the same remainder. */
static void *serve(void *argument)
{
    struct sender *s = argument;
    struct epoll_event events[64];
    for (int more = 0;;) {
        int ready = epoll_wait(s->poller, events, 64, more ? 0 : -1);
        for (int i = 0; i < ready; i++) {
            struct client *c = events[i].data.ptr;
            uint64_t ignored;
            if (c)
                c->blocked = 0;
            else if (read(s->event, &ignored, sizeof ignored) < 0)
                fail("read");
        }
        more = 0;
        for (int i = s->first; i < count; i += s->step)
            more |= serve_one(s, &clients[i]);
    }
    return NULL;
}

static void start_threads(void)
{
    for (int i = 0; i < threads; i++) {
        struct sender *s = &senders[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        *s = (struct sender){.event = eventfd(0, EFD_NONBLOCK), .poller = epoll_create1(0), .first = i, .step = threads};
        epoll_ctl(s->poller, EPOLL_CTL_ADD, s->event, &event);
        for (int j = i; j < count; j += threads) {
            event = (struct epoll_event){.events = 0, .data.ptr = &clients[j]};
            epoll_ctl(s->poller, EPOLL_CTL_ADD, clients[j].fd, &event);
        }
        if (pthread_create(&s->id, NULL, serve, s))
            fail("pthread_create");
    }
}

/* Lets the threads send a frame that is complete, and returns the next one, when all clients have got what it held. */
static struct frame *pass_on(struct frame *frame)
{
    uint64_t one = 1;
    __atomic_store_n(&frame->left, count, __ATOMIC_RELEASE);
    unsigned long next = __atomic_add_fetch(&complete, 1, __ATOMIC_ACQ_REL);
    for (int i = 0; i < threads; i++)
        if (write(senders[i].event, &one, sizeof one) < 0)
            fail("write");
    frame = &frames[next % AHEAD];
    pthread_mutex_lock(&lock);
    while (__atomic_load_n(&frame->left, __ATOMIC_ACQUIRE))
        pthread_cond_wait(&freed, &lock);
    pthread_mutex_unlock(&lock);
    frame->length = 0;
    return frame;
}

static void make_room(struct frame *frame)
{
    if (frame->room >= frame->length + READ)
        return;
    frame->room = 2 * frame->length + READ;
    frame->data = realloc(frame->data, frame->room);
    if (!frame->data)
        fail("no memory for a frame");
}

static void relay(int driver)
{
    struct frame *frame = frames;
    size_t looked_at = 0; /* bytes of the frame in which there is no end */
    for (;;) {
        make_room(frame);
        ssize_t got = read(driver, frame->data + frame->length, READ);
        if (got <= 0)
            exit(0);
        frame->length += got;
        for (char *at; (at = memchr(frame->data + looked_at, '<', frame->length - looked_at));) {
            looked_at = at - frame->data;
            if (frame->length - looked_at < sizeof LAST) /* the tag, and the line break behind it */
                break;
            looked_at++;
            if (memcmp(at, LAST, sizeof LAST - 1))
                continue;
            struct frame *whole = frame;
            size_t end = at + sizeof LAST - whole->data, behind = whole->length - end;
            static char begun[READ];
            memcpy(begun, whole->data + end, behind);
            whole->length = end;
            frame = pass_on(whole);
            make_room(frame);
            memcpy(frame->data, begun, behind);
            frame->length = behind;
            looked_at = 0;
        }
        if (frame->length && !memchr(frame->data + looked_at, '<', frame->length - looked_at))
            looked_at = frame->length;
    }
}

static int start_driver(char *program)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        fail("socketpair");
    if (fork() == 0) {
        dup2(pair[1], 0), dup2(pair[1], 1);
        close(pair[0]), close(pair[1]);
        execl(program, program, NULL);
        fail(program);
    }
    close(pair[1]);
    return pair[0];
}

/* Reads what a client sends, and answers; returns 1 if the frames are to start. */
static int answer(int fd)
{
    static char seen[4096];
    ssize_t got = recv(fd, seen, sizeof seen, MSG_DONTWAIT);
    if (got <= 0)
        return 0;
    if (memmem(seen, got, "getProperties", 13))
        write_text(fd, "<defBLOBVector device='Wire' name='FRAME' state='Idle' perm='ro'><defBLOB name='FRAME'/></defBLOBVector>\n");
    if (memmem(seen, got, "pingRequest", 11))
        write_text(fd, "<pingReply uid='ready'/>\n");
    return memmem(seen, got, "newSwitchVector", 15) != NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3 || (threads = atoi(argv[1])) < 1 || threads > MOST_THREADS) {
        fprintf(stderr, "usage: relay THREADS DRIVER\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in at = server_address("0");
    socklen_t length = sizeof at;
    if (bind(listener, (struct sockaddr *)&at, length) < 0 || listen(listener, MOST) < 0)
        fail("listen");
    getsockname(listener, (struct sockaddr *)&at, &length);
    int driver = start_driver(argv[2]);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    struct pollfd polls[MOST + 1] = {{.fd = listener, .events = POLLIN}};
    for (int go = 0; !go;) {
        if (poll(polls, count + 1, -1) < 0) /* the process was stopped: nothing is known */
            continue;
        for (int i = 1; i <= count; i++)
            if (polls[i].revents)
                go |= answer(polls[i].fd);
        if (polls[0].revents && count < MOST) {
            int fd = accept(listener, NULL, NULL);
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            clients[count].fd = fd;
            polls[++count] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
    }
    start_threads();
    write_text(driver, "<newSwitchVector device='Wire' name='GO'/>");
    relay(driver);
}
