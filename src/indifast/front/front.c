/* `indifast-server`: listens immediately, then becomes Python.
 *
 * A program that starts a server connects to it a moment later, KStars after 1.5 ms.  The interpreter alone takes
 * longer than that to start.  So this program opens the sockets that its options name, as `indifast.cli.serve` would,
 * and then executes the interpreter, which finds them open.  Clients that connect in the meantime wait in the kernel.
 *
 * The program only knows what this requires: where options end and which of them name sockets.  All other decisions and
 * messages (a configuration file, a socket that is a file, a host name to be resolved, an unknown option, a port in
 * use) are left to Python.  In these cases nothing is open, and Python does everything.
 *
 * It passes information to Python in the environment variable INDIFAST_FRONT, which `indifast.cli.serve.front` removes
 * before anything else, so that no driver inherits it:
 *
 *   pid=PID held=NUMBERS sockets=DESCRIPTORS fifo=DESCRIPTOR
 *
 *   pid     of this process; the variable is ignored if it comes from another process
 *   held    signals that are blocked now but were not at the start.  Those that arrive once `main` has begun wait
 *           until Python can handle them.  Their dispositions are unchanged: an ignored signal stays ignored
 *   sockets, fifo
 *           open descriptors, separated by commas; empty if none is open
 *
 * KStars and INDI Web Manager find a server by its process name ("comm"), which the kernel sets to the last component
 * of the executed path.  To keep the name, the interpreter is executed through a symbolic link of that name; Python
 * finds its environment by the first argument.  The second argument is the path of this file, as if it were a script:
 * the section .python contains a ZIP archive with the script, and Python runs any file that contains a ZIP archive,
 * whatever its position.
 *
 * The interpreter is the one named in the first lines of `indifast`, which is installed in the same folder as this
 * file, at the same time; otherwise `python3` in that folder.
 *
 * setup.py defines the macros that are not defined here, mostly from `indifast.cli.serve.options`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Writable, because such sections come last in a file: Python looks for the archive in the last 64 KiB. */
__asm__(".section .python,\"aw\"\n.incbin \"" SCRIPT_ARCHIVE "\"\n.previous");

/* -- Options */

static const char *const long_values[] = {LONG_VALUES, NULL};
static const char *const long_flags[] = {LONG_FLAGS, NULL};

struct wanted {
    const char *host; /* "": all interfaces */
    in_port_t port;   /* 0: any free port */
    const char *local;
    const char *fifo;
    bool driver; /* an option names a driver */
};

static bool is(const char *name, size_t length, const char *other)
{
    return strlen(other) == length && !memcmp(name, other, length);
}

static bool is_one_of(const char *name, size_t length, const char *const *others)
{
    while (*others && !is(name, length, *others))
        others++;
    return *others;
}

static bool read_port(const char *text, in_port_t *port)
{
    size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 5 || text[digits])
        return false;
    long number = strtol(text, NULL, 10);
    *port = (in_port_t)number;
    return number <= 65535;
}

static bool read_letter(char letter, const char *value, struct wanted *wanted)
{
    switch (letter) {
    case 'p':
        return read_port(value, &wanted->port);
    case 'u':
        wanted->local = value;
        return true;
    case 'f':
        wanted->fifo = value;
        return true;
    }
    return true;
}

/* Finds the sockets that the arguments name.  False: leave the arguments to Python. */
static bool read_words(char **words, struct wanted *wanted)
{
    for (char **word = words; *word; word++)
        if (!strcmp(*word, "--help") || !strcmp(*word, "--version"))
            return false;
    while (*words && **words == '-') {
        const char *word = *words++;
        if (word[1] == '-') {
            const char *name = word + 2;
            size_t length = strcspn(name, "=");
            if (is_one_of(name, length, long_values)) {
                const char *value = name[length] ? name + length + 1 : *words++;
                if (!value || !*value || is(name, length, "config") || is(name, length, "socket"))
                    return false;
                if (is(name, length, "host"))
                    wanted->host = value;
                if (is(name, length, "pipes"))
                    wanted->driver = true;
            } else if (!is_one_of(name, length, long_flags) || is(name, length, "no-abstract"))
                return false;
            continue;
        }
        for (const char *letter = word + 1; *letter; letter++)
            if (strchr(SHORT_VALUES, *letter)) {
                if (!*words || !read_letter(*letter, *words++, wanted))
                    return false;
            } else if (!strchr(SHORT_FLAGS, *letter))
                return false;
    }
    return *words || wanted->driver || wanted->fifo; /* a driver, or a way to start drivers */
}

/* -- Sockets */

struct opened {
    int sockets[3]; /* IPv4, IPv6, local */
    int count;
    int fifo;
};

union address {
    struct sockaddr any;
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
    struct sockaddr_un local;
};

/* Closes a descriptor that is of no use, and preserves errno. */
static int give_up(int fd)
{
    int reason = errno;
    if (fd >= 0)
        close(fd);
    errno = reason;
    return -1;
}

/* Moves a descriptor that has the number of a standard stream, which may be closed. */
static int beyond_standard_streams(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int higher = fcntl(fd, F_DUPFD, STDERR_FILENO + 1);
    give_up(fd);
    return higher;
}

static int listen_on(const union address *address, socklen_t length)
{
    int one = 1;
    int fd = beyond_standard_streams(socket(address->any.sa_family, SOCK_STREAM, 0));
    if (fd < 0)
        return fd;
    if (address->any.sa_family != AF_UNIX && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one))
        return give_up(fd);
    if (address->any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one))
        return give_up(fd);
    if (bind(fd, &address->any, length) || listen(fd, BACKLOG))
        return give_up(fd);
    return fd;
}

static in_port_t *port_in(union address *address)
{
    return address->any.sa_family == AF_INET ? &address->ipv4.sin_port : &address->ipv6.sin6_port;
}

/* Opens all addresses of a host on the same port.  A family that this machine lacks is skipped if the other exists. */
static bool open_tcp(const struct wanted *wanted, struct opened *opened)
{
    union address ipv4 = {.ipv4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_ANY)}}};
    union address ipv6 = {.ipv6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT}};
    bool has_ipv4 = true, has_ipv6 = true;
    if (!strcmp(wanted->host, "localhost")) {
        ipv4.ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ipv6.ipv6.sin6_addr = in6addr_loopback;
    } else if (*wanted->host) {
        has_ipv4 = inet_pton(AF_INET, wanted->host, &ipv4.ipv4.sin_addr) == 1;
        has_ipv6 = inet_pton(AF_INET6, wanted->host, &ipv6.ipv6.sin6_addr) == 1;
    }
    struct {
        bool there;
        union address *address;
        socklen_t length;
    } all[] = {{has_ipv4, &ipv4, sizeof ipv4.ipv4}, {has_ipv6, &ipv6, sizeof ipv6.ipv6}};
    in_port_t port = htons(wanted->port);
    for (int i = 0; i < 2; i++) {
        if (!all[i].there)
            continue;
        *port_in(all[i].address) = port;
        int fd = listen_on(all[i].address, all[i].length);
        if (fd < 0 && has_ipv4 && has_ipv6 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
            continue;
        if (fd < 0)
            return false;
        opened->sockets[opened->count++] = fd;
        if (getsockname(fd, &all[i].address->any, &all[i].length))
            return false;
        port = *port_in(all[i].address); /* in case it was chosen by the kernel */
    }
    return opened->count > 0;
}

/* Opens a socket with an abstract name: a NUL, then the path. */
static bool open_local(const char *path, struct opened *opened)
{
    union address address = {.local = {.sun_family = AF_UNIX}};
    size_t length = strlen(path);
    if (1 + length > sizeof address.local.sun_path)
        return false;
    memcpy(address.local.sun_path + 1, path, length);
    int fd = listen_on(&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
    if (fd < 0)
        return false;
    opened->sockets[opened->count++] = fd;
    return true;
}

static bool open_fifo(const char *path, struct opened *opened)
{
    struct stat found;
    opened->fifo = beyond_standard_streams(open(path, O_RDONLY | O_NONBLOCK));
    return opened->fifo >= 0 && !fstat(opened->fifo, &found) && S_ISFIFO(found.st_mode);
}

/* Opens everything that is wanted, or nothing. */
static void open_wanted(const struct wanted *wanted, struct opened *opened)
{
    if (open_tcp(wanted, opened) && open_local(wanted->local, opened) &&
        (!wanted->fifo || open_fifo(wanted->fifo, opened)))
        return;
    while (opened->count)
        close(opened->sockets[--opened->count]);
    opened->fifo = give_up(opened->fifo);
}

/* -- Python */

struct interpreter {
    const char *path;
    const char *argument; /* NULL: none */
};

/* Returns whether this is Python, like "/usr/bin/env python3", and not the shell of a wrapper script. */
static bool is_python(const struct interpreter *interpreter)
{
    if (!interpreter->path || *interpreter->path != '/')
        return false;
    return strstr(strrchr(interpreter->path, '/'), "py") || (interpreter->argument && strstr(interpreter->argument, "py"));
}

/* Reads the first lines of a console script: "#!PATH", "#!PATH ARGUMENT", or, if the path contains blanks or is too
 * long for the kernel, a shell script that executes it: "'''exec' "PATH" "$0" "$@"". */
static bool read_first_lines(char *text, struct interpreter *interpreter)
{
    static const char by_shell[] = "#!/bin/sh\n'''exec' ";
    if (!strncmp(text, by_shell, strlen(by_shell))) {
        text += strlen(by_shell);
        char end = *text == '"' || *text == '\'' ? *text++ : ' ';
        interpreter->path = text;
        if (!(text = strchr(text, end)))
            return false;
        *text = '\0';
    } else if (!strncmp(text, "#!", 2)) {
        text += 2 + strspn(text + 2, " \t");
        text[strcspn(text, "\n")] = '\0';
        for (size_t length = strlen(text); length && strchr(" \t\r", text[length - 1]); length--)
            text[length - 1] = '\0';
        interpreter->path = text;
        text += strcspn(text, " \t");
        if (*text) {
            *text++ = '\0';
            interpreter->argument = text + strspn(text, " \t");
        }
    }
    return is_python(interpreter);
}

/* Reads the beginning of a file into a buffer. */
static bool read_beginning(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, buffer, size - 1);
    close(fd);
    buffer[length > 0 ? length : 0] = '\0';
    return length > 0;
}

/* Returns whether no other user can replace our files in a folder.  $XDG_RUNTIME_DIR may belong to the user who called
 * `su`. */
static bool is_safe(const char *path)
{
    struct stat found;
    return !stat(path, &found) && (found.st_uid == geteuid() || found.st_uid == 0) &&
           (!(found.st_mode & 022) || found.st_mode & S_ISVTX);
}

/* Returns whether a folder, created if necessary, is owned by this user and writable by nobody else. */
static bool own_folder(const char *path)
{
    struct stat found;
    if (mkdir(path, 0700) && errno != EEXIST)
        return false;
    return !lstat(path, &found) && S_ISDIR(found.st_mode) && found.st_uid == geteuid() && !(found.st_mode & 022);
}

static bool is_file(const char *path, const struct stat *file)
{
    struct stat found;
    return !stat(path, &found) && found.st_dev == file->st_dev && found.st_ino == file->st_ino;
}

/* Creates a symbolic link to the interpreter, with the current name of this process.  The link is kept for the next
 * start, in a place that the system clears.  Each interpreter has its own, shared by all environments that use it. */
static bool make_link(const char *interpreter, char *link, size_t size)
{
    const char *places[] = {getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/tmp"};
    char name[16] = ""; /* the longest possible name */
    char new[PATH_MAX];
    struct stat file;
    if (prctl(PR_GET_NAME, name) || !*name || stat(interpreter, &file))
        return false;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!places[i] || *places[i] != '/' || !is_safe(places[i]))
            continue;
        int length = snprintf(link, size, "%s/indifast-%lu", places[i], (unsigned long)geteuid());
        if (length < 0 || (size_t)length + 80 > size || !own_folder(link))
            continue;
        length += sprintf(link + length, "/%llx-%llx", (unsigned long long)file.st_dev, (unsigned long long)file.st_ino);
        if (!own_folder(link))
            continue;
        sprintf(link + length, "/%s", name);
        if (is_file(link, &file))
            return true;
        /* Atomically, because another server may be about to execute the link. */
        snprintf(new, sizeof new, "%.*s/.%ld", length, link, (long)getpid());
        if (symlink(interpreter, new) || rename(new, link))
            unlink(new);
        else if (is_file(link, &file))
            return true;
    }
    return false;
}

static void tell_python(const sigset_t *held, const struct opened *opened)
{
    char text[400];
    char *end = text + sizeof text, *at = text;
    at += snprintf(at, (size_t)(end - at), "pid=%ld held=", (long)getpid());
    const char *comma = "";
    for (int number = 1; number < NSIG; number++)
        if (sigismember(held, number) == 1) {
            at += snprintf(at, (size_t)(end - at), "%s%d", comma, number);
            comma = ",";
        }
    at += snprintf(at, (size_t)(end - at), " sockets=");
    for (int i = 0; i < opened->count; i++)
        at += snprintf(at, (size_t)(end - at), "%s%d", i ? "," : "", opened->sockets[i]);
    at += snprintf(at, (size_t)(end - at), " fifo=");
    if (opened->fifo >= 0)
        snprintf(at, (size_t)(end - at), "%d", opened->fifo);
    setenv("INDIFAST_FRONT", text, 1);
}

/* Executes the interpreter; returns only if that fails. */
static void become(const struct interpreter *interpreter, char **argv)
{
    size_t words = 0, n = 0;
    while (argv[words])
        words++;
    char *arguments[words + 4];
    arguments[n++] = (char *)interpreter->path;
    if (interpreter->argument)
        arguments[n++] = (char *)interpreter->argument;
    arguments[n++] = (char *)getauxval(AT_EXECFN); /* as the kernel passes it to the interpreter of a script */
    for (size_t i = 1; i < words; i++)
        arguments[n++] = argv[i];
    arguments[n] = NULL;
    char link[PATH_MAX];
    if (make_link(interpreter->path, link, sizeof link))
        execv(link, arguments);
    execv(interpreter->path, arguments);
}

static int start_python(char **argv)
{
    char path[PATH_MAX], beginning[2 * PATH_MAX];
    struct interpreter interpreter = {NULL, NULL};
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "/indifast");
    if (length < 0) {
        fprintf(stderr, "%s: cannot find its own location: /proc/self/exe: %s\n", argv[0], strerror(errno));
        return 127;
    }
    path[length] = '\0';
    char *name = strrchr(path, '/') + 1;
    strcpy(name, "indifast");
    if (read_beginning(path, beginning, sizeof beginning) && read_first_lines(beginning, &interpreter))
        become(&interpreter, argv);
    strcpy(name, "python3");
    interpreter = (struct interpreter){path, NULL};
    become(&interpreter, argv);
    fprintf(stderr, "%s: cannot start Python: neither the interpreter of the command indifast nor %s: %s\n", argv[0],
            path, strerror(errno));
    return errno == ENOENT ? 127 : 126;
}

int main(int argc, char **argv)
{
    sigset_t held, before;
    sigemptyset(&held);
    sigaddset(&held, SIGTERM); /* ends the server */
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGHUP);
    sigaddset(&held, SIGUSR1); /* asks for statistics */
    sigprocmask(SIG_BLOCK, &held, &before);
    for (int number = 1; number < NSIG; number++)
        if (sigismember(&before, number) == 1)
            sigdelset(&held, number);

    struct wanted wanted = {.host = "", .port = PORT, .local = LOCAL_SOCKET};
    struct opened opened = {.fifo = -1};
    /* If LISTEN_FDS is set, systemd has opened sockets; Python decides how to use them (`indifast.cli.serve.systemd`). */
    if (argc > 0 && !getenv("LISTEN_FDS") && read_words(argv + 1, &wanted))
        open_wanted(&wanted, &opened);
    tell_python(&held, &opened);
    return start_python(argv);
}
