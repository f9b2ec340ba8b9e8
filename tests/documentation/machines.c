/* Preloaded into a program to make it believe that it runs on a machine of its own. See machines.py.

   MACHINE is the address in the loopback network that stands for this machine. It replaces 127.0.0.1 and "all
   interfaces", and is appended to the names of abstract Unix sockets. There is no IPv6. MACHINES lists the other machines
   as NAME=ADDRESS, separated by spaces. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

union any {
    struct sockaddr_storage storage;
    struct sockaddr plain;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

/* Return the address to use instead of the one that the program gives. */
static const struct sockaddr *real(const struct sockaddr *given, socklen_t *length, union any *changed) {
    const char *machine = getenv("MACHINE");
    if (machine == NULL || *length > sizeof *changed) return given;
    memset(changed, 0, sizeof *changed);
    memcpy(changed, given, *length);
    if (given->sa_family == AF_INET) {
        in_addr_t address = ntohl(changed->in.sin_addr.s_addr);
        if (address == INADDR_ANY || address == INADDR_LOOPBACK) inet_pton(AF_INET, machine, &changed->in.sin_addr);
    } else if (given->sa_family == AF_UNIX) {
        size_t start = offsetof(struct sockaddr_un, sun_path), suffix = strlen(machine);
        if (*length > start && changed->un.sun_path[0] == 0 && *length + suffix <= sizeof changed->un) {
            memcpy((char *)changed + *length, machine, suffix);
            *length += suffix;
        }
    } else {
        return given;
    }
    return &changed->plain;
}

int bind(int fd, const struct sockaddr *address, socklen_t length) {
    static int (*next)(int, const struct sockaddr *, socklen_t);
    if (next == NULL) next = dlsym(RTLD_NEXT, "bind");
    union any changed;
    address = real(address, &length, &changed);
    return next(fd, address, length);
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    static int (*next)(int, const struct sockaddr *, socklen_t);
    if (next == NULL) next = dlsym(RTLD_NEXT, "connect");
    union any changed;
    address = real(address, &length, &changed);
    return next(fd, address, length);
}

int socket(int family, int type, int protocol) {
    static int (*next)(int, int, int);
    if (next == NULL) next = dlsym(RTLD_NEXT, "socket");
    if (family == AF_INET6 && getenv("MACHINE") != NULL) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return next(family, type, protocol);
}

/* Return the address of the machine of that name as text, or the name itself. */
static const char *address_of(const char *name, char *room, size_t size) {
    const char *at = getenv("MACHINES");
    size_t length = name == NULL ? 0 : strlen(name);
    while (at != NULL && length > 0 && (at = strstr(at, name)) != NULL) {
        int begins = at == getenv("MACHINES") || at[-1] == ' ';
        at += length;
        if (begins && *at == '=') {
            size_t digits = strcspn(++at, " ");
            if (digits >= size) break;
            memcpy(room, at, digits);
            room[digits] = 0;
            return room;
        }
    }
    return name;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    static int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (next == NULL) next = dlsym(RTLD_NEXT, "getaddrinfo");
    char room[INET_ADDRSTRLEN];
    return next(address_of(name, room, sizeof room), service, hints, found);
}

struct hostent *gethostbyname(const char *name) {
    static struct hostent *(*next)(const char *);
    if (next == NULL) next = dlsym(RTLD_NEXT, "gethostbyname");
    char room[INET_ADDRSTRLEN];
    return next(address_of(name, room, sizeof room));
}
