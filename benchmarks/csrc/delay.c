/* A link with a delay between two network namespaces: packets from a TUN device in one of them come out of a TUN device
 * in the other one a fixed time later, in their order.
 *
 *   delay NAME MILLISECONDS OTHER_NAMESPACE   NAME: of both devices; OTHER_NAMESPACE: a file as /proc/PID/ns/net
 *
 * The program prints "ready" when both devices exist, and runs until its standard input ends; the devices go with it.
 * What limits the rate is not here but in the queueing disciplines of the devices (tbf).
 *
 * Packets may be as large as 64 KiB: the kernel's TCP segments them only where it has to, as it does for a network card.
 * So a gigabit per second needs only a few thousand reads and writes. Each direction holds at most HELD bytes; what is
 * too much is lost, as in a router.
 */
#define _GNU_SOURCE
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "window.h"

enum { LARGEST = 65536 + sizeof(struct virtio_net_hdr), BATCH = 64 };
#define HELD ((size_t)64 << 20)

struct packet {
    double due;
    size_t length;
};

/* A ring: packets lie one behind the other. None is split: if the rest of the ring is too small for the largest, it is
 * left out. */
struct direction {
    int from, to;
    char *ring;
    size_t first, next, end; /* end: of the packets before the ring starts again */
    int wrapped;             /* next is before first */
};

static size_t room_for(size_t length)
{
    return (sizeof(struct packet) + length + 7) & ~(size_t)7;
}

static int open_tun(const char *name)
{
    struct ifreq wanted = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        fail("/dev/net/tun");
    snprintf(wanted.ifr_name, sizeof wanted.ifr_name, "%s", name);
    if (ioctl(fd, TUNSETIFF, &wanted) < 0)
        fail("TUNSETIFF");
    if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0)
        fail("TUNSETOFFLOAD");
    return fd;
}

/* Returns where the next packet goes; NULL if there is no room. */
static char *place(struct direction *d)
{
    size_t largest = room_for(LARGEST);
    if (!d->wrapped && HELD - d->next < largest)
        d->end = d->next, d->next = 0, d->wrapped = 1;
    return d->wrapped && d->first - d->next <= largest ? NULL : d->ring + d->next;
}

/* Reads what has come, at most BATCH packets. */
static void take(struct direction *d, double delay)
{
    static char lost[LARGEST];
    for (int count = 0; count < BATCH; count++) {
        char *at = place(d);
        ssize_t got = read(d->from, at ? at + sizeof(struct packet) : lost, LARGEST);
        if (got <= 0)
            return;
        if (!at)
            continue;
        *(struct packet *)at = (struct packet){now() + delay, got};
        d->next += room_for(got);
    }
}

static struct packet *oldest(struct direction *d)
{
    if (d->wrapped && d->first == d->end)
        d->first = 0, d->wrapped = 0;
    return d->first == d->next && !d->wrapped ? NULL : (struct packet *)(d->ring + d->first);
}

/* Writes what is due; returns when the next packet is. */
static double give(struct direction *d)
{
    struct packet *packet;
    while ((packet = oldest(d)) && packet->due <= now()) {
        if (write(d->to, packet + 1, packet->length) < 0 && errno == EAGAIN)
            return now() + 100e-6;
        d->first += room_for(packet->length);
    }
    return packet ? packet->due : 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: delay NAME MILLISECONDS OTHER_NAMESPACE\n");
        return 2;
    }
    double delay = atof(argv[2]) / 1e3;
    int near = open_tun(argv[1]), other = open(argv[3], O_RDONLY | O_CLOEXEC);
    if (other < 0 || setns(other, CLONE_NEWNET) < 0)
        fail(argv[3]);
    int far = open_tun(argv[1]);
    struct direction ways[2] = {{.from = near, .to = far}, {.from = far, .to = near}};
    for (int i = 0; i < 2; i++) {
        ways[i].ring = mmap(NULL, HELD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (ways[i].ring == MAP_FAILED)
            fail("no memory");
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        double next = 0;
        for (int i = 0; i < 2; i++) {
            double due = give(&ways[i]);
            if (due && (!next || due < next))
                next = due;
        }
        struct pollfd waits[3] = {{near, POLLIN, 0}, {far, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        double left = next ? next - now() : 1;
        left = left > 0 ? left : 0;
        struct timespec patience = {(time_t)left, (left - (time_t)left) * 1e9};
        ppoll(waits, 3, &patience, NULL);
        if (waits[2].revents)
            return 0;
        for (int i = 0; i < 2; i++)
            if (waits[i].revents & POLLIN)
                take(&ways[i], delay);
    }
}
