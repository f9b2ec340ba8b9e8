/* Both ends of a relay measurement: a driver that sends prepared BLOB frames as fast as they are taken, and a client
 * that compares every byte of them. Plain C, so that the figures are those of the server between them.
 *
 *   wire                        an INDI driver on fd 0 and 1: sends frames once a newSwitchVector arrives
 *   wire listen                 the same on a free TCP port, which it prints: the baseline without a server
 *   wire serve                  a port for many clients; frames for all of them once one sends a newSwitchVector
 *   wire receive PORT SECONDS   a client: starts the frames, checks them, prints one line of JSON
 *   wire upload PORT SECONDS    a client: sends frames to a driver that takes them, prints one line of JSON
 *   wire discard PORT SECONDS COUNT  many clients that throw everything away within the kernel, which costs nearly nothing
 *   wire print                  the base64 of the frames, for drivers that are not written in C
 *
 * Environment variables define the frames, identically for both ends, because a server gives a driver no arguments:
 *   WIRE_BYTES   raw bytes per frame (default 4194304)
 *   WIRE_WRAP    base64 characters per line, 0: a single line (default 72)
 *   WIRE_ENCLEN  1: state `enclen`, the number of base64 characters (default 0)
 *   WIRE_TAKE    1: the driver instead takes frames (newBLOBVector), compares them, and answers each (default 0)
 *   WIRE_WAIT    1: a client does not start the frames; it prints "ready" and receives; 2: it prints "ready", and
 *                starts the frames after a line on its standard input (default 0)
 *   WIRE_FRAMES  a file with the raw bytes of the four frames, instead of noise of WIRE_BYTES each
 *   WIRE_PACE    microseconds from the start of a frame to that of the next one, at least (default 0)
 *   WIRE_STAMP   1: frames carry the time at which the driver began to write them, and the client tells their age when
 *                it has all of them (default 0)
 *   WIRE_ASK     1: the client also sends commands to the device Beside (a driver of `small.c`) on the connection of the
 *                frames, one at a time with 10 ms between them, and tells how long the slowest took (default 0)
 *
 * The host, and TLS: see `stream.h`.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "window.h"

#include "stream.h"

#define DISTINCT 4 /* frames that differ in every page; together larger than the caches near the cores */

static size_t raw_bytes = 4194304, wrap = 72, characters, text_length;
static int with_enclen, with_stamp, with_commands;
static double pace;
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static char *texts[DISTINCT]; /* base64, line breaks included */

/* Returns the content of WIRE_FRAMES, and sets the size of a frame; NULL without that file. */
static const unsigned char *given_frames(void)
{
    const char *path = getenv("WIRE_FRAMES");
    struct stat about;
    if (!path)
        return NULL;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &about) < 0)
        fail(path);
    raw_bytes = about.st_size / DISTINCT;
    void *content = mmap(NULL, about.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (content == MAP_FAILED || raw_bytes % 3)
        fail(path);
    return content;
}

static void make_frames(void)
{
    uint64_t seed = 88172645463325252ull;
    const unsigned char *given = given_frames();
    if (!given)
        raw_bytes = setting("WIRE_BYTES", raw_bytes) / 3 * 3; /* without padding: all characters carry six bits */
    wrap = setting("WIRE_WRAP", wrap);
    with_enclen = (int)setting("WIRE_ENCLEN", 0);
    with_stamp = (int)setting("WIRE_STAMP", 0);
    with_commands = (int)setting("WIRE_ASK", 0);
    pace = setting("WIRE_PACE", 0) / 1e6;
    characters = raw_bytes / 3 * 4;
    text_length = characters + (wrap ? (characters + wrap - 1) / wrap : 1);
    for (int which = 0; which < DISTINCT; which++) {
        char *out = texts[which] = malloc(text_length);
        if (!out)
            fail("no memory for the frames");
        for (size_t index = 0; index < characters; index++) {
            if (wrap && index && index % wrap == 0)
                *out++ = '\n';
            if (given) { /* the three bytes of these four characters */
                const unsigned char *three = given + which * raw_bytes + index / 4 * 3;
                *out++ = digits[(three[0] << 16 | three[1] << 8 | three[2]) >> (18 - index % 4 * 6) & 63];
                continue;
            }
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            *out++ = digits[seed >> 58];
        }
        *out = '\n';
    }
}

static void write_all(int fd, struct iovec *part, int count)
{
    while (count) {
        ssize_t done = give_some(fd, part, count);
        if (done < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN) { /* the server may have made the shared socket non-blocking */
                struct pollfd wait = {fd, POLLOUT, 0};
                poll(&wait, 1, -1);
                continue;
            }
            exit(0); /* the reader is gone */
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

/* Reads until one of two words has been seen, ignoring other bytes. Returns 0 for the first, 1 for the second. */
static int wait_for(int fd, const char *first, const char *second)
{
    char seen[8192];
    size_t have = 0;
    for (;;) {
        if (wait_to_take(fd, 60000) == 0) {
            fprintf(stderr, "wire: no %s for 60 s\n", first);
            exit(1);
        }
        ssize_t got = take_some(fd, seen + have, sizeof seen - have);
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

static const char definitions[] = "<defSwitchVector device='Wire' name='GO' state='Idle' perm='rw' rule='AnyOfMany'>"
                                  "<defSwitch name='GO'>Off</defSwitch></defSwitchVector>\n"
                                  "<defBLOBVector device='Wire' name='FRAME' state='Idle' perm='ro'>"
                                  "<defBLOB name='FRAME'/></defBLOBVector>\n";

/* Makes the three parts of a frame; `head` has room for 512 bytes. */
static void frame_parts(unsigned long number, char *head, struct iovec *parts)
{
    char enclen[64] = "", stamp[32] = "";
    if (with_enclen)
        snprintf(enclen, sizeof enclen, "    enclen='%zu'\n", characters);
    if (with_stamp)
        snprintf(stamp, sizeof stamp, " %.6f", now());
    int length = snprintf(head, 512,
                          "<setBLOBVector\n  device='Wire'\n  name='FRAME'\n  state='Ok'\n  message='%lu%s'\n>\n"
                          "  <oneBLOB\n    name='FRAME'\n    size='%zu'\n%s    format='.bin'>\n",
                          number, stamp, raw_bytes, enclen);
    parts[0] = (struct iovec){head, length};
    parts[1] = (struct iovec){texts[number % DISTINCT], text_length};
    parts[2] = (struct iovec){"  </oneBLOB>\n</setBLOBVector>\n", 30};
}

static void send_frames(int in, int out)
{
    char head[512];
    struct iovec parts[3];
    while (wait_for(in, "newSwitchVector", "getProperties"))
        write_text(out, definitions);
    for (unsigned long number = 0;; number++) {
        double next = now() + pace, left;
        frame_parts(number, head, parts);
        write_all(out, parts, 3);
        while (pace && (left = next - now()) > 0)
            usleep(left < 0.5 ? left * 1e6 : 500000);
    }
}

/* Listens on a free port, and prints it. */
static int listen_somewhere(int backlog)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = server_address("0");
    socklen_t length = sizeof at;
    if (bind(listener, (struct sockaddr *)&at, length) < 0 || listen(listener, backlog) < 0)
        fail("listen");
    getsockname(listener, (struct sockaddr *)&at, &length);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    return listener;
}

static void listen_and_send(void)
{
    int fd = accept(listen_somewhere(1), NULL, NULL);
    secure(fd, 1);
    send_frames(fd, fd);
}

/* ---- Many clients: the kernel's limit for a server that does nothing else ---- */

enum { MOST = 1024, CHUNK = 256 << 10 }; /* CHUNK: small enough for a receiver to read while it is in the caches */

struct reader {
    int fd, asks; /* asks: the client wants the frames */
    char seen[4096];
    size_t have;
    char head[512]; /* of the frame that is being sent */
    struct iovec parts[3];
    int part;
};

static int mentions(struct reader *r, const char *word)
{
    return memmem(r->seen, r->have, word, strlen(word)) != NULL;
}

/* Answers a client; returns 1 if the frames may start. No request is longer than `seen`. */
static int answer(struct reader *r)
{
    ssize_t got = recv(r->fd, r->seen + r->have, sizeof r->seen - r->have, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0)
            shutdown(r->fd, SHUT_RD);
        return 0;
    }
    r->have += got;
    if (r->seen[r->have - 1] != '>')
        return 0;
    if (mentions(r, "getProperties"))
        write_text(r->fd, definitions);
    if (mentions(r, "enableBLOB"))
        r->asks = 1;
    if (mentions(r, "pingRequest"))
        write_text(r->fd, "<pingReply uid='ready'/>\n");
    int go = mentions(r, "newSwitchVector");
    r->have = 0;
    return go;
}

/* Writes at most CHUNK bytes of this frame; returns 1 if the frame is complete, -1 if the client is gone. */
static int send_some(struct reader *r)
{
    struct iovec *part = r->parts + r->part;
    size_t length = part->iov_len < CHUNK ? part->iov_len : CHUNK;
    ssize_t done = send(r->fd, part->iov_base, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    part->iov_base = (char *)part->iov_base + done;
    part->iov_len -= done;
    if (part->iov_len == 0)
        r->part++;
    return r->part == 3;
}

static void serve(void)
{
    static struct reader *readers[MOST];
    struct epoll_event events[64], event = {.events = EPOLLIN, .data.ptr = NULL};
    int listener = listen_somewhere(MOST), poller = epoll_create1(0), count = 0, go = 0;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    while (!go) {
        int ready = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            struct reader *r = events[i].data.ptr;
            if (r)
                go |= answer(r);
            else if (count < MOST) {
                r = readers[count++] = calloc(1, sizeof *r);
                r->fd = accept(listener, NULL, NULL);
                event.data.ptr = r;
                epoll_ctl(poller, EPOLL_CTL_ADD, r->fd, &event);
            }
        }
    }
    /* All clients get a frame before the next one starts: they share it in the caches, and none falls behind. */
    for (unsigned long number = 0;; number++) {
        int open = 0;
        for (int i = 0; i < count; i++) {
            if (!readers[i]->asks)
                continue;
            frame_parts(number, readers[i]->head, readers[i]->parts);
            readers[i]->part = 0;
            event = (struct epoll_event){.events = EPOLLOUT, .data.ptr = readers[i]};
            epoll_ctl(poller, EPOLL_CTL_MOD, readers[i]->fd, &event);
            open++;
        }
        while (open) {
            int ready = epoll_wait(poller, events, 64, -1);
            for (int i = 0; i < ready; i++) {
                struct reader *r = events[i].data.ptr;
                int done = r && r->asks && r->part < 3 ? send_some(r) : 0;
                if (!done)
                    continue;
                if (done < 0)
                    r->asks = 0;
                event = (struct epoll_event){.events = 0, .data.ptr = r};
                epoll_ctl(poller, EPOLL_CTL_MOD, r->fd, &event);
                open--;
            }
        }
    }
}

/* ---- Client ---- */

enum { HEAD, TEXT, TAIL };

static char *held; /* bytes of an incomplete head or tail */
static size_t held_length;

enum { MOST_TIMES = 1 << 16 };

struct times {
    double *seconds;
    size_t count;
};

struct checker {
    int state, fd;
    unsigned long number, expected, frames, wrong, missed;
    size_t matched; /* bytes of this frame's text */
    int intact, upload, asked;
    unsigned long long bytes;
    struct window *window;
    double stamp, first, last; /* stamp: of this frame; when the first and the last frame were complete */
    double asked_at, pause;    /* asked_at: when the command was sent that has no answer yet; 0: none */
    struct times ages;
    double slowest; /* of the commands */
};

static void note(struct times *times, double seconds)
{
    if (!times->seconds)
        times->seconds = malloc(MOST_TIMES * sizeof *times->seconds);
    if (times->count < MOST_TIMES)
        times->seconds[times->count++] = seconds;
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(struct times *times)
{
    size_t half = times->count / 2;
    if (!times->count)
        return -1;
    qsort(times->seconds, times->count, sizeof *times->seconds, by_size);
    return times->count % 2 ? times->seconds[half] : (times->seconds[half - 1] + times->seconds[half]) / 2;
}

static void send_command(struct checker *c)
{
    c->asked_at = now();
    write_text(c->fd, "<newNumberVector device='Beside' name='N'><oneNumber name='n'>1</oneNumber></newNumberVector>");
}

/* Looks for the answer to the command between frames, and blots out the device in it: it is looked for again with what
 * comes next. Other clients' answers come, too. */
static void look_for_answer(struct checker *c, char *data, size_t length)
{
    char *at = memmem(data, length, "Beside", 6);
    if (!at || !memmem(at, data + length - at, "</setNumberVector>", 18))
        return;
    memset(at, ' ', 6);
    if (c->asked_at && now() - c->asked_at > c->slowest)
        c->slowest = now() - c->asked_at;
    c->asked_at = 0, c->pause = now() + 0.01;
}

static void frame_done(struct checker *c)
{
    if (!c->intact || c->matched != text_length)
        c->wrong++;
    /* The first frame only warms up. */
    c->last = now();
    if (c->frames++ == 0) {
        c->first = c->last;
        arrived(c->window);
    } else if (with_stamp)
        note(&c->ages, c->last - c->stamp);
}

static int blank(char c)
{
    return c == '\n' || c == ' ' || c == '\r' || c == '\t';
}

/* Compares text with the frame, first byte by byte, then ignoring white space; returns the number of bytes taken. */
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
            else if (length) { /* an unexpected character that starts no tag */
                c->intact = 0;
                data++, length--;
            }
            continue;
        }
        const char *word = c->state == HEAD ? "<oneBLOB" : "BLOBVector>";
        held = realloc(held, held_length + length + 1);
        memcpy(held + held_length, data, length);
        size_t have = held_length + length;
        char *at = memmem(held, have, word, strlen(word)), *end = NULL, *message = NULL;
        if (at)
            end = memchr(at, '>', held + have - at);
        if (with_commands && c->state == HEAD)
            look_for_answer(c, held, (at ? at : held + have) - held);
        if (!end) {
            held_length = have;
            char *request = c->upload && c->state == HEAD ? memmem(held, have, "<getProperties", 14) : NULL;
            if (request && memchr(request, '>', held + have - request))
                c->asked = 1, held_length = 0;
            return;
        }
        size_t behind = end + 1 - held;
        if (c->state == HEAD) {
            while (behind < have && blank(held[behind]))
                behind++;
            if (behind == have) { /* more white space may follow before the text */
                held_length = have;
                return;
            }
            *end = 0;
            c->number = c->expected; /* frames of an upload have no numbers: none can be missed */
            char *head = memmem(held, end - held, "BLOBVector", 10); /* skips what a server may have sent before it */
            if (head && (message = memmem(head, end - head, "message=", 8)))
                c->number = strtoul(message + 9, &message, 10), c->stamp = strtod(message, NULL);
            c->missed += c->number - c->expected;
            c->expected = c->number + 1;
            c->matched = 0;
            c->intact = c->upload || message != NULL;
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

/* Reads until the frames and the device Beside are defined, in whichever order. */
static void wait_for_both(int fd)
{
    static char seen[1 << 16];
    size_t have = 0;
    char *at;
    while (!memmem(seen, have, "</defBLOBVector>", 16) || !(at = memmem(seen, have, "Beside", 6)) ||
           !memmem(at, seen + have - at, "</defNumberVector>", 18)) {
        ssize_t got = wait_to_take(fd, 60000) == 1 ? take_some(fd, seen + have, sizeof seen - have) : 0;
        if (got <= 0) {
            fprintf(stderr, "wire: no definitions for 60 s\n");
            exit(1);
        }
        have += got;
    }
}

static void receive(const char *port, double seconds)
{
    size_t capacity = 1 << 20;
    char *buffer = malloc(capacity);
    struct checker c = {.window = open_window()};
    int fd = c.fd = connect_to_server(port);
    struct timeval patience = {60, 0}; /* slow peers on a busy machine take long for their first frame */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    write_text(fd, "<getProperties version='1.7'/>");
    if (with_commands)
        wait_for_both(fd);
    else
        wait_for(fd, "</defBLOBVector>", NULL);
    write_text(fd, "<enableBLOB device='Wire'>Also</enableBLOB>"
                   "<enableBLOB device='Wire' name='FRAME'>Also</enableBLOB>");
    size_t waits = setting("WIRE_WAIT", 0);
    if (waits) {
        write_text(fd, "<pingRequest uid='ready'/>");
        if (wait_to_take(fd, 10000) == 1) /* indipyserver does not answer; a server on a busy machine is late */
            wait_for(fd, "pingReply", "</defBLOBVector>");
        printf("ready\n");
        fflush(stdout);
        if (waits > 1)
            getchar();
    }
    if (waits != 1)
        write_text(fd, "<newSwitchVector device='Wire' name='GO'><oneSwitch name='GO'>On</oneSwitch></newSwitchVector>");
    double deadline = now() + seconds + 90, started = 0, ended = 0;
    for (;;) {
        ssize_t got = take_some(fd, buffer, capacity);
        if (got <= 0)
            break;
        c.bytes += got;
        check(&c, buffer, got);
        if (with_commands && c.frames && !c.asked_at && now() >= c.pause)
            send_command(&c);
        double t = now();
        if (!started && begun(c.window))
            started = t, c.bytes = 0;
        ended = t;
        if (t > deadline || (started && t - started >= seconds && c.frames > 1))
            break;
    }
    if (c.state == TEXT && !c.intact) /* the unfinished frame */
        c.wrong++;
    printf("{\"frames\": %lu, \"wrong\": %lu, \"missed\": %lu, \"seconds\": %.6f, \"wire_bytes\": %llu", c.frames, c.wrong,
           c.missed, started ? ended - started : 0, c.bytes);
    if (with_stamp)
        printf(", \"between\": %.6f, \"age\": %.6f", c.last - c.first, median(&c.ages));
    if (with_commands) { /* an answer that has not come took at least until now */
        if (c.asked_at && ended - c.asked_at > c.slowest)
            c.slowest = ended - c.asked_at;
        printf(", \"slowest\": %.6f", c.slowest);
    }
    printf("}\n");
}

/* ---- Clients that throw everything away, so that what is measured is the sender ---- */

struct discarder {
    int fd;
    unsigned long long bytes;
};

/* Throws away what has arrived, without copying it; returns the number of bytes. */
static ssize_t discard_some(struct discarder *d)
{
    ssize_t got = recv(d->fd, NULL, 1 << 30, MSG_TRUNC | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0) {
        fprintf(stderr, "wire: a connection was lost\n");
        exit(1);
    }
    d->bytes += got;
    return got;
}

static void discard(const char *port, double seconds, int count)
{
    struct discarder *all = calloc(count, sizeof *all);
    struct epoll_event events[64], event = {.events = EPOLLIN};
    int poller = epoll_create1(0), going = 0;
    double start = 0, deadline = now() + seconds + 60;
    for (int i = 0; i < count; i++) {
        int fd = all[i].fd = connect_to_server(port);
        write_text(fd, "<getProperties version='1.7'/>");
        wait_for(fd, "</defBLOBVector>", NULL);
        write_text(fd, "<enableBLOB device='Wire'>Also</enableBLOB>"
                       "<enableBLOB device='Wire' name='FRAME'>Also</enableBLOB>");
        write_text(fd, "<pingRequest uid='ready'/>");
        wait_for(fd, "pingReply", NULL); /* what comes later is counted */
        event.data.ptr = &all[i];
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
    write_text(all[0].fd, "<newSwitchVector device='Wire' name='GO'><oneSwitch name='GO'>On</oneSwitch></newSwitchVector>");
    for (;;) {
        int ready = epoll_wait(poller, events, 64, 10000);
        if (ready < 0) /* the process was stopped */
            continue;
        double t = now();
        if (t > deadline || ready == 0) {
            fprintf(stderr, "wire: frames stopped coming\n");
            exit(1);
        }
        if (start && t - start >= seconds)
            break;
        for (int i = 0; i < ready; i++) {
            struct discarder *d = events[i].data.ptr;
            unsigned long long before = d->bytes;
            ssize_t got = discard_some(d);
            /* The first frame only warms up: time runs once each client has received as many bytes. */
            if (!start && before < text_length && before + got >= text_length && ++going == count) {
                start = now();
                for (int j = 0; j < count; j++)
                    all[j].bytes = 0;
            }
        }
    }
    double elapsed = now() - start;
    unsigned long long total = 0, least = ~0ull, most = 0;
    for (int i = 0; i < count; i++) {
        total += all[i].bytes;
        least = all[i].bytes < least ? all[i].bytes : least;
        most = all[i].bytes > most ? all[i].bytes : most;
    }
    printf("{\"seconds\": %.6f, \"wire_bytes\": %llu, \"least\": %llu, \"most\": %llu}\n", elapsed, total, least, most);
}

/* ---- Uploads ---- */

enum { AHEAD = 3 }; /* frames in flight */

/* Returns the decoded content of a frame, as a driver with descriptors receives it. */
static unsigned char *raw_frame(unsigned long number)
{
    static unsigned char *raw[DISTINCT], value[256];
    int which = number % DISTINCT, bits = 0;
    if (raw[which])
        return raw[which];
    for (int i = 0; i < 64; i++)
        value[(unsigned char)digits[i]] = i;
    unsigned char *out = raw[which] = malloc(raw_bytes);
    unsigned group = 0;
    for (size_t i = 0; i < text_length; i++) {
        if (blank(texts[which][i]))
            continue;
        group = group << 6 | value[(unsigned char)texts[which][i]];
        if ((bits += 6) == 24) {
            *out++ = group >> 16, *out++ = group >> 8, *out++ = group;
            bits = 0, group = 0;
        }
    }
    return raw[which];
}

/* Compares a frame that was received as a descriptor. */
static void check_shared(struct checker *c, int fd)
{
    void *content = mmap(NULL, raw_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (content == MAP_FAILED || memcmp(content, raw_frame(c->expected++), raw_bytes))
        c->wrong++;
    if (content != MAP_FAILED)
        munmap(content, raw_bytes);
    close(fd);
    c->frames++;
    held_length = 0;
}

/* Reads, and checks the frames that come as descriptors; returns the number of bytes read. The C++ server sends nothing
 * else together with a frame. */
static ssize_t read_shared(struct checker *c, char *buffer, size_t capacity)
{
    char control[CMSG_SPACE(16 * sizeof(int))];
    struct iovec part = {buffer, capacity};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(0, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == ENOTSOCK)
        return read(0, buffer, capacity);
    for (struct cmsghdr *h = got > 0 ? CMSG_FIRSTHDR(&message) : NULL; h; h = CMSG_NXTHDR(&message, h))
        for (size_t i = 0; h->cmsg_type == SCM_RIGHTS && CMSG_LEN(i * sizeof(int)) < h->cmsg_len; i++)
            check_shared(c, ((int *)CMSG_DATA(h))[i]);
    return got;
}

static void take(void)
{
    size_t capacity = 1 << 20;
    char *buffer = malloc(capacity), answer[256];
    struct checker c = {.window = open_window(), .upload = 1};
    unsigned long answered = 0;
    for (int which = 0; which < DISTINCT; which++)
        raw_frame(which);
    for (;;) {
        struct pollfd wait = {0, POLLIN, 0};
        poll(&wait, 1, -1);
        unsigned long before = c.frames;
        ssize_t got = read_shared(&c, buffer, capacity);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return;
        if (c.frames == before && !memmem(buffer, got, "attached", 8))
            check(&c, buffer, got);
        if (c.asked)
            write_text(1, "<defBLOBVector device='Wire' name='FRAME' state='Idle' perm='rw'><defBLOB name='FRAME'/></defBLOBVector>\n"
                          "<defNumberVector device='Wire' name='DONE' state='Idle' perm='ro'>"
                          "<defNumber name='N' format='%g' min='0' max='0' step='0'>0</defNumber></defNumberVector>\n");
        c.asked = 0;
        while (answered < c.frames) {
            snprintf(answer, sizeof answer,
                     "<setNumberVector device='Wire' name='DONE' state='%s'><oneNumber name='N'>%lu</oneNumber></setNumberVector>\n",
                     c.wrong ? "Alert" : "Ok", ++answered);
            write_text(1, answer);
        }
    }
}

static void upload(const char *port, double seconds)
{
    static const char answer[] = "</setNumberVector>";
    char seen[65536];
    size_t have = 0;
    unsigned long sent = 0, done = 0, wrong = 0;
    double started = 0, ended = 0, deadline = now() + seconds + 20;
    int fd = connect_to_server(port);
    struct timeval patience = {60, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    write_text(fd, "<getProperties version='1.7'/>");
    wait_for(fd, "</defNumberVector>", NULL);
    while (now() < deadline && (done < 2 || ended - started < seconds)) {
        while (sent < done + AHEAD) {
            char head[512], enclen[64] = "";
            if (with_enclen)
                snprintf(enclen, sizeof enclen, " enclen='%zu'", characters);
            int length = snprintf(head, sizeof head,
                                  "<newBLOBVector device='Wire' name='FRAME'>\n"
                                  "  <oneBLOB name='FRAME' size='%zu'%s format='.bin'>\n",
                                  raw_bytes, enclen);
            struct iovec parts[3] = {
                {head, length},
                {texts[sent++ % DISTINCT], text_length},
                {"  </oneBLOB>\n</newBLOBVector>\n", 30},
            };
            write_all(fd, parts, 3);
        }
        ssize_t got = take_some(fd, seen + have, sizeof seen - have);
        if (got <= 0)
            break;
        have += got;
        char *at, *from = seen;
        while ((at = memmem(from, seen + have - from, answer, sizeof answer - 1))) {
            wrong += memmem(from, at - from, "Alert", 5) != NULL;
            from = at + sizeof answer - 1;
            ended = now();
            if (done++ == 0)
                started = ended;
        }
        have -= from - seen;
        memmove(seen, from, have);
    }
    printf("{\"frames\": %lu, \"wrong\": %lu, \"seconds\": %.6f, \"raw_bytes\": %llu}\n", done, wrong, ended - started,
           (unsigned long long)(done ? done - 1 : 0) * raw_bytes);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    make_frames();
    if (argc == 1 && setting("WIRE_TAKE", 0))
        take();
    else if (argc == 1)
        send_frames(0, 1);
    else if (argc == 2 && !strcmp(argv[1], "listen"))
        listen_and_send();
    else if (argc == 2 && !strcmp(argv[1], "serve"))
        serve();
    else if (argc == 4 && !strcmp(argv[1], "receive"))
        receive(argv[2], atof(argv[3]));
    else if (argc == 5 && !strcmp(argv[1], "discard"))
        discard(argv[2], atof(argv[3]), atoi(argv[4]));
    else if (argc == 4 && !strcmp(argv[1], "upload"))
        upload(argv[2], atof(argv[3]));
    else if (argc == 2 && !strcmp(argv[1], "print"))
        for (int which = 0; which < DISTINCT; which++)
            fwrite(texts[which], 1, text_length, stdout);
    else {
        fprintf(stderr, "usage: wire [listen | serve | print | receive PORT SECONDS | upload PORT SECONDS |"
                        " discard PORT SECONDS COUNT]\n");
        return 2;
    }
    return 0;
}
