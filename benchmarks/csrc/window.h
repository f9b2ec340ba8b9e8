/* Shared by the C programs: a clock, settings from the environment, and a time window for several clients.
 *
 *   WINDOW   a file of 16 bytes that clients share: two numbers of 8 bytes, the number of clients that wait for their
 *            first message, and 0. The time runs for all of them together, from when the last one has its first
 *            message.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
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

struct window {
    int64_t waiting;
    double start; /* 0 until all have their first message */
};

/* Returns the window that clients share, or a private one without WINDOW. */
static struct window *open_window(void)
{
    static struct window own = {1, 0};
    const char *path = getenv("WINDOW");
    if (!path)
        return &own;
    int fd = open(path, O_RDWR);
    struct window *window = mmap(NULL, sizeof *window, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || window == MAP_FAILED)
        fail(path);
    return window;
}

/* Notes that this client has its first message. */
static void arrived(struct window *window)
{
    if (__atomic_sub_fetch(&window->waiting, 1, __ATOMIC_SEQ_CST) == 0) {
        double start = now();
        __atomic_store(&window->start, &start, __ATOMIC_SEQ_CST);
    }
}

/* Returns the start of the time for all clients; 0 if it has not started. */
static double begun(struct window *window)
{
    double start;
    __atomic_load(&window->start, &start, __ATOMIC_SEQ_CST);
    return start;
}
