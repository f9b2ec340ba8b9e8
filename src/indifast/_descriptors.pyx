"""Descriptors of files: who closes them, and what the kernel says about them, with one call for each question.

The functions of `os` would do the same with several calls each, and a frame that is passed on as a descriptor costs a
server little else.
"""

cimport cython
from libc.errno cimport EINTR, errno
from libc.stdio cimport snprintf
from libc.string cimport strerror
from posix.fcntl cimport F_GETFL, O_ACCMODE, O_CLOEXEC, O_RDONLY, O_RDWR, fcntl, open as c_open
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.unistd cimport close

cdef extern from *:
    """
    #include <fcntl.h>
    #ifndef O_PATH
    #define O_PATH 0 /* only Linux has descriptors that are nothing but a path */
    #endif
    """
    const int O_PATH

__all__ = ["NO_FILE", "UNREADABLE", "Descriptor", "reopen_read_only", "size_if_readable", "size_of"]

UNREADABLE = -1
NO_FILE = -2

cdef enum:
    C_UNREADABLE = -1
    C_NO_FILE = -2


cdef int failed() except -1:
    """Raise what `errno` stands for."""
    cdef int number = errno
    raise OSError(number, strerror(number).decode("utf-8", "replace"))


cdef class Descriptor:
    """The owner of a descriptor, which is closed with this object.

    The object exists before its descriptor, so that none is left open if memory runs out.
    """

    cdef public int fd  # -1: none

    def __cinit__(self, *args, **keywords):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            with nogil:  # the file may be gone with its last descriptor, and all its pages are freed then
                close(self.fd)


def size_of(int fd, /) -> int:
    """Return the size of a file. Raise OSError if `fd` is not open."""
    cdef struct_stat status
    cdef int result
    with nogil:
        result = fstat(fd, &status)
    return failed() if result < 0 else status.st_size


def size_if_readable(int fd, /) -> int:
    """Return the size of a regular file that is open for reading.

    Returns:
        The size; `UNREADABLE` if the descriptor is open for writing only, or is nothing but a path; `NO_FILE` if it is
        that of anything but a regular file.

    Raises:
        OSError: `fd` is not open.
    """
    cdef struct_stat status
    cdef int flags, result = 0
    with nogil:
        flags = fcntl(fd, F_GETFL)
        if flags >= 0:
            result = fstat(fd, &status)
    if flags < 0 or result < 0:
        failed()
    if flags & O_PATH or (flags & O_ACCMODE != O_RDONLY and flags & O_ACCMODE != O_RDWR):  # O_PATH has O_RDONLY's mode
        return C_UNREADABLE
    return status.st_size if S_ISREG(status.st_mode) else C_NO_FILE


def reopen_read_only(int fd, /) -> int:
    """Return another descriptor of the same file, through which it can't be written.

    Raises:
        OSError: There is no /proc, no descriptor is free, or the file may not be read.
    """
    cdef char path[32]
    cdef int result
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd)
    with nogil:
        while True:
            result = c_open(path, O_RDONLY | O_CLOEXEC)
            if result >= 0 or errno != EINTR:
                break
    return failed() if result < 0 else result
