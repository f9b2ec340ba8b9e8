/* Threads that send large amounts of data on sockets, so that the copies into the kernel run on several cores at once.
 *
 * A job is data for one socket. It is in one place at a time: in the queue, in the hand of a thread, or among those that
 * are over. Threads take jobs from the front of the queue, send a slice, and put them back at its end, so no job waits
 * for the whole of another one. A job is over when everything was sent, when the socket takes no more for now, or after
 * an error. No thread ever waits for a socket.
 *
 * The threads have a lower priority than the program that they belong to. So where cores are scarce, programs of its
 * priority that receive on this machine come first. With equal priorities, the threads run ahead of them until all
 * sockets are full. What is read then was written long ago and has left the processors' caches, which costs both sides
 * several times as much.
 *
 * Everything except `senders_run` belongs to one thread, which also owns the data and the sockets. It is told by an
 * eventfd that jobs are over. The lock protects the lists and what the jobs in them say; a thread changes a job without
 * the lock while it has the job in its hand.
 */
#ifndef SENDERS_H
#define SENDERS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { SENDER_JOB_NEW, SENDER_JOB_QUEUED, SENDER_JOB_HELD, SENDER_JOB_OVER };

typedef struct sender_job {
    struct sender_job *before, *behind; /* in the list that it is in */
    void *owner;                        /* for the owner of the job */
    struct iovec *parts;                /* what is left to be sent: changed by the threads */
    size_t count;
    size_t sent;
    int fd;
    int error; /* 0: everything was sent, EAGAIN: the socket takes no more for now, ECANCELED: the threads ended before */
    int place;
} sender_job;

typedef struct sender_list {
    sender_job *first, *last;
    size_t length;
} sender_list;

static void sender_list_add(sender_list *list, sender_job *job)
{
    job->behind = NULL;
    job->before = list->last;
    if (list->last)
        list->last->behind = job;
    else
        list->first = job;
    list->last = job;
    list->length++;
}

static void sender_list_remove(sender_list *list, sender_job *job)
{
    if (job->before)
        job->before->behind = job->behind;
    else
        list->first = job->behind;
    if (job->behind)
        job->behind->before = job->before;
    else
        list->last = job->before;
    list->length--;
}

/* Marks bytes as sent. */
static void sender_job_advance(sender_job *job, size_t nbytes)
{
    job->sent += nbytes;
    while (job->count && nbytes >= job->parts->iov_len) {
        nbytes -= job->parts->iov_len;
        job->parts++, job->count--;
    }
    if (nbytes) {
        job->parts->iov_base = (char *)job->parts->iov_base + nbytes;
        job->parts->iov_len -= nbytes;
    }
}

#ifdef __linux__
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SENDERS_SUPPORTED = 1,
    SENDERS_MOST = 64,         /* threads */
    SENDERS_PARTS = 64,        /* per system call */
    SENDERS_STACK = 256 << 10, /* bytes; the threads need less, but sanitizers more */
    SENDERS_NICE = 5           /* a third of the weight: less does not help, more starves them on a busy machine */
};

typedef struct senders {
    pthread_mutex_t lock;
    pthread_cond_t work;   /* there is a job in the queue, or the threads are to end */
    pthread_cond_t let_go; /* a job that `senders_withdraw` waits for is no longer in a thread's hand */
    sender_list queue, over;
    sender_job *awaited; /* the job that `senders_withdraw` waits for */
    size_t slice;
    int event;         /* readable while jobs are over */
    int most, threads; /* how many there may be, and are */
    int idle;
    int ending;
    pid_t process; /* threads do not survive a fork */
    pthread_t ids[SENDERS_MOST];
} senders;

/* Sends a slice of a job; returns 1 if the job is over. */
static int sender_job_send(sender_job *job, size_t slice)
{
    struct iovec parts[SENDERS_PARTS];
    struct msghdr message = {.msg_iov = parts};
    size_t asked = 0;
    while (message.msg_iovlen < SENDERS_PARTS && message.msg_iovlen < job->count && asked < slice) {
        struct iovec *part = &parts[message.msg_iovlen];
        *part = job->parts[message.msg_iovlen++];
        if (part->iov_len > slice - asked)
            part->iov_len = slice - asked;
        asked += part->iov_len;
    }
    ssize_t done;
    do
        done = sendmsg(job->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (done < 0 && errno == EINTR);
    if (done < 0) {
        job->error = errno == EWOULDBLOCK ? EAGAIN : errno;
        return 1;
    }
    sender_job_advance(job, (size_t)done);
    if ((size_t)done < asked)
        job->error = EAGAIN;
    return job->error || !job->count;
}

static void senders_signal(senders *s)
{
    uint64_t one = 1;
    ssize_t done = write(s->event, &one, sizeof one); /* the counter cannot overflow: it is reset by each read */
    (void)done;
}

static void *senders_run(void *argument)
{
    senders *s = argument;
    id_t thread = (id_t)syscall(SYS_gettid);
    setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + SENDERS_NICE);
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->queue.first && !s->ending) {
            s->idle++;
            pthread_cond_wait(&s->work, &s->lock);
            s->idle--;
        }
        if (s->ending)
            break;
        sender_job *job = s->queue.first;
        sender_list_remove(&s->queue, job);
        job->place = SENDER_JOB_HELD;
        pthread_mutex_unlock(&s->lock);
        int over = sender_job_send(job, s->slice), first = 0;
        pthread_mutex_lock(&s->lock);
        if (s->awaited == job) { /* its owner takes it back, and may free it as soon as the lock is free */
            s->awaited = NULL;
            pthread_cond_signal(&s->let_go);
        } else if (over) {
            job->place = SENDER_JOB_OVER;
            sender_list_add(&s->over, job);
            first = s->over.length == 1;
        } else {
            job->place = SENDER_JOB_QUEUED;
            sender_list_add(&s->queue, job);
        }
        if (first) { /* without the lock: whoever wakes up may take this core, and would be the next to need the lock */
            pthread_mutex_unlock(&s->lock);
            senders_signal(s);
            pthread_mutex_lock(&s->lock);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Prepares for at most `most` threads, none of which is started yet; returns 0, or an error number. */
static int senders_open(senders *s, int most, size_t slice)
{
    memset(s, 0, sizeof *s);
    s->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->event < 0)
        return errno;
    s->most = most < SENDERS_MOST ? most : SENDERS_MOST;
    s->slice = slice;
    s->process = getpid();
    pthread_mutex_init(&s->lock, NULL); /* these cannot fail on Linux */
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->let_go, NULL);
    return 0;
}

/* Starts one more thread, with all signals blocked: they are for the threads of the program. */
static void senders_start_thread(senders *s)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    if (pthread_attr_init(&attributes))
        return;
    pthread_attr_setstacksize(&attributes, SENDERS_STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&s->ids[s->threads], &attributes, senders_run, s) == 0)
        s->threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* Returns 1 in a process that was forked: there are no threads here, and one of them may have held the lock. */
static int senders_forked(const senders *s)
{
    return s->process != getpid();
}

/* Puts a job into the queue; returns 0 if there are no threads that could send it. */
static int senders_submit(senders *s, sender_job *job)
{
    if (senders_forked(s) || s->ending)
        return 0;
    pthread_mutex_lock(&s->lock);
    if (s->queue.length >= (size_t)s->idle && s->threads < s->most)
        senders_start_thread(s);
    int possible = s->threads > 0, wakes = s->idle > 0;
    if (possible) {
        job->place = SENDER_JOB_QUEUED;
        sender_list_add(&s->queue, job);
    }
    pthread_mutex_unlock(&s->lock);
    if (wakes)
        pthread_cond_signal(&s->work);
    return possible;
}

/* Begins to take jobs that are over; returns how many there are. */
static size_t senders_count_over(senders *s)
{
    uint64_t ignored;
    if (senders_forked(s)) /* the eventfd is that of the other process, too */
        return 0;
    ssize_t done = read(s->event, &ignored, sizeof ignored);
    (void)done;
    pthread_mutex_lock(&s->lock);
    size_t length = s->over.length;
    pthread_mutex_unlock(&s->lock);
    return length;
}

/* Returns a job that is over, and no longer among the others; NULL if there is none. */
static sender_job *senders_take_over(senders *s)
{
    if (senders_forked(s))
        return NULL;
    pthread_mutex_lock(&s->lock);
    sender_job *job = s->over.first;
    if (job) {
        sender_list_remove(&s->over, job);
        job->place = SENDER_JOB_NEW;
    }
    pthread_mutex_unlock(&s->lock);
    return job;
}

/* Makes the eventfd readable again if there are still jobs that are over. */
static void senders_signal_rest(senders *s)
{
    if (senders_forked(s))
        return;
    pthread_mutex_lock(&s->lock);
    if (s->over.first)
        senders_signal(s);
    pthread_mutex_unlock(&s->lock);
}

/* Takes a job back, wherever it is; waits for a thread that has it in its hand to finish a system call. */
static void senders_withdraw(senders *s, sender_job *job)
{
    if (!senders_forked(s)) {
        pthread_mutex_lock(&s->lock);
        if (job->place == SENDER_JOB_QUEUED)
            sender_list_remove(&s->queue, job);
        else if (job->place == SENDER_JOB_OVER)
            sender_list_remove(&s->over, job);
        else if (job->place == SENDER_JOB_HELD)
            for (s->awaited = job; s->awaited;)
                pthread_cond_wait(&s->let_go, &s->lock);
        pthread_mutex_unlock(&s->lock);
    }
    job->place = SENDER_JOB_NEW;
}

/* Ends the threads. Jobs that they have not finished are over then, with ECANCELED. */
static void senders_end(senders *s)
{
    if (senders_forked(s) || s->ending)
        return;
    pthread_mutex_lock(&s->lock);
    s->ending = 1;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (int number = 0; number < s->threads; number++)
        pthread_join(s->ids[number], NULL);
    for (sender_job *job; (job = s->queue.first);) { /* there are no other threads anymore */
        sender_list_remove(&s->queue, job);
        job->error = ECANCELED;
        job->place = SENDER_JOB_OVER;
        sender_list_add(&s->over, job);
    }
}

/* Frees what `senders_open` has taken. */
static void senders_close(senders *s)
{
    senders_end(s);
    close(s->event);
    if (senders_forked(s))
        return;
    pthread_cond_destroy(&s->let_go);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
}

#else /* without eventfd, everything is sent by the event loop */

enum { SENDERS_SUPPORTED = 0 };

typedef struct senders {
    int event, threads;
} senders;

static int senders_open(senders *s, int most, size_t slice)
{
    return ENOSYS;
}

static int senders_submit(senders *s, sender_job *job)
{
    return 0;
}

static size_t senders_count_over(senders *s)
{
    return 0;
}

static sender_job *senders_take_over(senders *s)
{
    return NULL;
}

static void senders_signal_rest(senders *s)
{
}

static void senders_withdraw(senders *s, sender_job *job)
{
}

static void senders_end(senders *s)
{
}

static void senders_close(senders *s)
{
}

#endif
#endif
