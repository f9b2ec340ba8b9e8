"""Threads in C that send large amounts of data on sockets, without the GIL and without running any Python code."""

cimport cython
from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_DECREF, Py_INCREF

cdef extern from "senders.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

    ctypedef struct sender_job:
        void *owner
        iovec *parts
        size_t count
        size_t sent
        int fd
        int error

    ctypedef struct senders:
        int event
        int threads

    int SENDERS_SUPPORTED
    int senders_open(senders *s, int most, size_t slice)
    bint senders_submit(senders *s, sender_job *job)
    size_t senders_count_over(senders *s)
    sender_job *senders_take_over(senders *s)
    void senders_signal_rest(senders *s)
    void senders_withdraw(senders *s, sender_job *job)
    void senders_end(senders *s)
    void senders_close(senders *s)

__all__ = ["SUPPORTED", "Job", "Pool"]

SUPPORTED = bool(SENDERS_SUPPORTED)


@cython.final
cdef class Job:
    """Data that is being sent on one socket. It is kept alive and unchanged until the job is over or withdrawn."""

    cdef sender_job c
    cdef iovec *parts      # all of them; `c.parts` moves on
    cdef Py_buffer *views
    cdef size_t held       # views that are to be released
    cdef object callback   # None if the pool does not have the job: while it does, the pool owns a reference

    def __dealloc__(self):
        self.release()
        PyMem_Free(self.views)
        PyMem_Free(self.parts)

    cdef bint hold(self, parts) except -1:
        """Take hold of the data."""
        cdef size_t count = len(parts)
        self.parts = <iovec *>PyMem_Malloc((count or 1) * sizeof(iovec))
        self.views = <Py_buffer *>PyMem_Malloc((count or 1) * sizeof(Py_buffer))
        if self.parts == NULL or self.views == NULL:
            raise MemoryError()
        for part in parts:
            PyObject_GetBuffer(part, &self.views[self.held], PyBUF_SIMPLE)
            self.parts[self.held].iov_base = self.views[self.held].buf
            self.parts[self.held].iov_len = self.views[self.held].len
            self.held += 1
        self.c.parts = self.parts
        self.c.count = count
        return True

    cdef void release(self) noexcept:
        """Let go of the data."""
        while self.held:
            self.held -= 1
            PyBuffer_Release(&self.views[self.held])

    cdef object end(self):
        """Take the job from the pool, which has let go of it, and return its callback."""
        callback, self.callback = self.callback, None
        self.release()
        Py_DECREF(self)
        return callback


@cython.final
cdef class Pool:
    """A pool of threads that send.

    All methods must be called in one thread. `event` is a descriptor that becomes readable when jobs are over; `reap`
    then tells their owners. Threads are started as they are needed, and wait without using processor time.

    Args:
        threads: The maximum number of threads.
        slice: Bytes that a thread sends of one job before it takes the next one, if others wait.

    Raises:
        OSError: The system has no more descriptors, or it is none with which this works (see `SUPPORTED`).
    """

    cdef senders c
    cdef bint opened

    def __cinit__(self, int threads, size_t slice = 512 << 10):
        cdef int error
        if threads < 1 or slice < 1:
            raise ValueError("a pool needs at least one thread, and slices of at least one byte")
        error = senders_open(&self.c, threads, slice)
        if error:
            raise OSError(error, "no threads for sending")
        self.opened = True

    def __dealloc__(self):
        if self.opened:
            self.finish()
            senders_close(&self.c)

    @property
    def event(self) -> int:
        """The descriptor that is readable while jobs are over."""
        return self.c.event

    @property
    def threads(self) -> int:
        """How many threads have been started."""
        return self.c.threads

    def submit(self, int fd, parts, callback):
        """Begin to send data on a socket that stays open until the job is over or withdrawn.

        Args:
            fd: The socket.
            parts: Buffers, which are sent one after the other. Their content must not change.
            callback: Called by `reap` with the number of bytes that were sent, and an error number: 0 after
                everything was sent, EAGAIN if the socket takes no more for now, ECANCELED if the pool was closed.

        Returns:
            The job, or None if there are no threads: the pool is closed, the process was forked, or the system allows
            no more threads.

        Raises:
            MemoryError: There is not enough memory.
        """
        cdef Job job = Job.__new__(Job)
        job.hold(parts)
        job.c.fd = fd
        job.c.owner = <void *>job
        job.callback = callback
        if not senders_submit(&self.c, &job.c):
            job.callback = None
            return None
        Py_INCREF(job)  # no thread touches it before `reap` or `withdraw`, which need the GIL
        return job

    def withdraw(self, Job job not None):
        """Take a job back; do nothing if it is over. Afterwards, its data and its socket are its owner's again.

        If a thread is just sending, this waits until its system call returns. That is soon if the socket was shut down.
        """
        if job.callback is None:
            return
        with nogil:
            senders_withdraw(&self.c, &job.c)
        job.end()

    def reap(self) -> None:
        """Tell the owners of the jobs that are over."""
        cdef size_t count = senders_count_over(&self.c)
        try:
            while count:  # not until there are none: their owners begin new ones, which others would wait for
                count -= 1
                self.tell_next()
        finally:
            senders_signal_rest(&self.c)

    def close(self) -> None:
        """End the threads, each after its current system call, and tell the owners of all jobs."""
        with nogil:
            senders_end(&self.c)
        while self.tell_next():
            pass

    cdef bint tell_next(self) except -1:
        """Tell the owner of the next job that is over; return whether there was one."""
        cdef sender_job *c = senders_take_over(&self.c)
        if c == NULL:
            return False
        job = <Job>c.owner
        callback = job.end()
        callback(job.c.sent, job.c.error)
        return True

    cdef void finish(self) noexcept:
        """End the threads and let go of all jobs, without telling anybody."""
        cdef sender_job *c
        with nogil:
            senders_end(&self.c)
        while True:
            c = senders_take_over(&self.c)
            if c == NULL:
                return
            (<Job>c.owner).end()
