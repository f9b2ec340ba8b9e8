/* Both ends of measurements with small messages, in C, so that the figures are those of the server between them.
 *
 *   small                                an INDI driver on fd 0 and 1; its device is SMALL_DEVICE
 *   small ask PORT DEVICE SECONDS PAUSE  a client: sends one command at a time, PAUSE microseconds apart; prints one
 *                                        line of JSON: number of commands, and microseconds (median and 99 %)
 *   small count PORT SECONDS             a client: starts the flood of the device Flood unless SMALL_WAIT is set, and
 *                                        counts updates
 *
 * SMALL_ANSWERS: number of answers to a new number, each with a separate write: 1 (Ok) or 2 (Busy, then Ok); default 1.
 * The host, and TLS: see `stream.h`.
 * SMALL_FLOOD=1: from the first new number on, the driver writes numbered updates as fast as they are taken.
 */
#define _GNU_SOURCE
#include <signal.h>

#include "window.h"

#include "stream.h"

static size_t answers = 1;

static void write_all(int fd, const char *data, size_t length)
{
    while (length) {
        struct iovec part = {(void *)data, length};
        ssize_t done = give_some(fd, &part, 1);
        if (done < 0 && errno == EAGAIN) {
            struct pollfd wait = {fd, POLLOUT, 0};
            poll(&wait, 1, -1);
        } else if (done < 0 && errno != EINTR)
            exit(0);
        else if (done > 0)
            data += done, length -= done;
    }
}

static int update(char *out, size_t room, const char *device, const char *state, unsigned long number)
{
    return snprintf(out, room,
                    "<setNumberVector device='%s' name='N' state='%s'><oneNumber name='n'>%lu</oneNumber></setNumberVector>\n",
                    device, state, number);
}

/* ---- Driver ---- */

static void flood(const char *device)
{
    static char block[1 << 16];
    for (unsigned long number = 0;;) {
        size_t length = 0;
        while (length < sizeof block - 256)
            length += update(block + length, 256, device, "Ok", number++);
        write_all(1, block, length);
    }
}

static void drive(void)
{
    const char *device = getenv("SMALL_DEVICE");
    char seen[65536], text[512];
    size_t have = 0;
    device = device ? device : "Small";
    for (;;) {
        struct pollfd wait = {0, POLLIN, 0};
        poll(&wait, 1, -1);
        ssize_t got = read(0, seen + have, sizeof seen - have);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got <= 0)
            exit(0);
        have += got;
        char *from = seen, *end;
        while ((end = memchr(from, '>', seen + have - from))) {
            *end = 0;
            if (strstr(from, "getProperties")) {
                int length = snprintf(text, sizeof text,
                                      "<defNumberVector device='%s' name='N' state='Idle' perm='rw'><defNumber name='n' "
                                      "format='%%g' min='0' max='0' step='0'>0</defNumber></defNumberVector>\n",
                                      device);
                write_all(1, text, length);
            } else if (strstr(from, "/newNumberVector")) {
                if (setting("SMALL_FLOOD", 0))
                    flood(device);
                if (answers > 1)
                    write_all(1, text, update(text, sizeof text, device, "Busy", 1));
                write_all(1, text, update(text, sizeof text, device, "Ok", 1));
            }
            from = end + 1;
        }
        have -= from - seen;
        memmove(seen, from, have);
    }
}

/* ---- Clients ---- */

static char held[1 << 20];
static size_t held_length;

/* Returns whether the element that ends at `end` is about the device: the last `device=` before it is its own. Servers
 * write either kind of quotes. */
static int names(const char *from, const char *end, const char *device)
{
    const char *at = NULL;
    size_t size = strlen(device);
    for (; (from = memmem(from, end - from, "device=", 7)); from += 7)
        at = from;
    return at && (size_t)(end - at) > size + 8 && !memcmp(at + 8, device, size) && at[8 + size] == at[7];
}

/* Reads until an end tag has been seen `count` times in elements about the device, as a server may also send elements
 * about others. Everything up to there is then discarded. */
static void until(int fd, const char *end_tag, const char *device, size_t count)
{
    enum { TAIL = 4096 };
    for (;;) {
        char *at, *from = held;
        size_t length = strlen(end_tag);
        while (count && (at = memmem(from, held + held_length - from, end_tag, length))) {
            count -= names(from, at, device);
            from = at + length;
        }
        held_length -= from - held;
        memmove(held, from, held_length);
        if (!count)
            return;
        if (held_length > sizeof held / 2) {
            memmove(held, held + held_length - TAIL, TAIL);
            held_length = TAIL;
        }
        ssize_t got = take_some(fd, held + held_length, sizeof held - held_length);
        if (got <= 0) {
            fprintf(stderr, "small: no %s of %s\n", end_tag, device);
            exit(1);
        }
        held_length += got;
    }
}

static int say(int fd, const char *form, const char *device)
{
    char text[512];
    write_all(fd, text, snprintf(text, sizeof text, form, device));
    return 0;
}

/* Connects, and waits for the definition of the device. The server may not know it yet: then it is asked again. */
static int connect_to(const char *port, const char *device)
{
    struct timeval patience = {60, 0};
    for (int tries = 0; tries < 40; tries++) {
        int fd = connect_to_server(port);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        say(fd, "<getProperties version='1.7' device='%s'/>", device);
        if (wait_to_take(fd, 500) == 1) {
            until(fd, "</defNumberVector>", device, 1);
            return fd;
        }
        close(fd);
    }
    fprintf(stderr, "small: the server does not know %s\n", device);
    exit(1);
}

static const char command[] = "<newNumberVector device='%s' name='N'><oneNumber name='n'>1</oneNumber></newNumberVector>";

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void ask(const char *port, const char *device, double seconds, unsigned pause)
{
    enum { MOST = 1 << 20 };
    static double times[MOST];
    size_t count = 0;
    int fd = connect_to(port, device);
    say(fd, command, device), until(fd, "</setNumberVector>", device, answers); /* warms up */
    for (double start, end = now() + seconds; ((start = now()) < end || !count) && count < MOST;) {
        say(fd, command, device);
        until(fd, "</setNumberVector>", device, answers);
        times[count++] = (now() - start) * 1e6;
        if (pause)
            usleep(pause);
    }
    qsort(times, count, sizeof *times, by_size);
    printf("{\"count\": %zu, \"p50\": %.3f, \"p99\": %.3f}\n", count, times[count / 2], times[count * 99 / 100]);
}

/* Updates are numbered in sequence: numbers that never come are missed, those that come late are out of order. */
static void count_updates(const char *port, double seconds)
{
    static const char word[] = "<oneNumber", tail[] = "</setNumberVector>";
    static char seen[(1 << 20) + 1];
    size_t have = 0;
    unsigned long counted = 0, disordered = 0, missed = 0, expected = 0;
    int fd = connect_to(port, "Flood"), first = 1;
    double started = 0, ended = 0, deadline = now() + seconds + 90;
    struct window *window = open_window();
    printf("ready\n");
    fflush(stdout);
    if (!setting("SMALL_WAIT", 0))
        say(fd, command, "Flood");
    while (!started || ended - started < seconds) {
        ssize_t got = take_some(fd, seen + have, sizeof seen - 1 - have);
        ended = now();
        if (got <= 0 || ended > deadline)
            break;
        have += got;
        seen[have] = 0;
        char *from = seen, *end, *at;
        while ((end = memmem(from, seen + have - from, tail, sizeof tail - 1))) {
            char *root = from, *next; /* anything but an update of Flood comes before the last root element, or is it */
            while ((next = memmem(root + 1, end - root - 1, "<set", 4)))
                root = next;
            at = memmem(root, end - root, word, sizeof word - 1);
            char *value = at && memmem(root, at - root, "Flood", 5) ? memchr(at, '>', end - at) : NULL;
            from = end + sizeof tail - 1;
            if (!value)
                continue;
            unsigned long number = strtoul(value + 1, NULL, 10);
            if (!first && number < expected)
                disordered++;
            else if (!first)
                missed += number - expected;
            expected = number + 1;
            if (first)
                arrived(window);
            first = 0;
            counted++;
        }
        have -= from - seen;
        memmove(seen, from, have);
        if (!started && begun(window))
            started = ended, counted = 0;
    }
    printf("{\"count\": %lu, \"missed\": %lu, \"disordered\": %lu, \"seconds\": %.6f}\n", counted, missed, disordered, started ? ended - started : 0);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    answers = setting("SMALL_ANSWERS", 1);
    if (argc == 1)
        drive();
    else if (argc == 6 && !strcmp(argv[1], "ask"))
        ask(argv[2], argv[3], atof(argv[4]), atoi(argv[5]));
    else if (argc == 4 && !strcmp(argv[1], "count"))
        count_updates(argv[2], atof(argv[3]));
    else {
        fprintf(stderr, "usage: small [ask PORT DEVICE SECONDS PAUSE | count PORT SECONDS]\n");
        return 2;
    }
    return 0;
}
