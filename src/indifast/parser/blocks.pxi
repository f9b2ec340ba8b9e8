# Receive buffers.

cdef class BlockPool:
    """Pool of receive buffers of one size, which are reused once nothing refers to them.

    Args:
        size: Size of a block in bytes.
        keep: The largest number of unused blocks to keep.
    """

    def __cinit__(self, Py_ssize_t size=256 << 10, Py_ssize_t keep=16):
        if size <= 0 or keep < 0:
            raise ValueError("size must be positive, and keep must not be negative")
        self.size = size
        self.keep = keep
        self.spare = <void **>PyMem_RawMalloc(max(keep, 1) * sizeof(void *))
        if self.spare == NULL:
            raise MemoryError

    def __dealloc__(self):
        while self.count:
            self.count -= 1
            pages_give(self.spare[self.count], self.size)
        PyMem_RawFree(self.spare)

    def get(self) -> Block:
        """Return a block whose content is undefined."""
        cdef Block block = Block.__new__(Block)
        if self.count:
            self.count -= 1
            self.least = min(self.least, self.count)
            block.mem = self.spare[self.count]
        else:
            block.mem = pages_take(self.size)
            if block.mem == NULL:
                raise MemoryError
            self.blocks += 1
        block.pool = self
        block.size = self.size
        return block

    def trim(self, Py_ssize_t keep) -> None:
        """Free blocks that were not needed since the last call, as long as more than `keep` are unused."""
        while self.least and self.count > keep:
            self.least -= 1
            self.count -= 1
            self.blocks -= 1
            pages_give(self.spare[self.count], self.size)
        self.least = self.count


@cython.no_gc
cdef class Block:
    """A writable buffer from a `BlockPool`; its memory returns to the pool when the last view of it is released."""

    def __len__(self) -> int:
        return self.size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.mem, self.size, 0, flags)

    def __dealloc__(self):
        cdef BlockPool pool = self.pool
        if self.mem == NULL:
            return
        if pool is not None and pool.count < pool.keep:
            pool.spare[pool.count] = self.mem
            pool.count += 1
        else:
            pages_give(self.mem, self.size)
            if pool is not None:
                pool.blocks -= 1


cdef class Arrival:
    """Writable memory for a content of known length, which becomes a `bytes` object without a copy.

    Args:
        size: Bytes of the content, at least one. They are undefined until they are written.
        spares: Earlier contents that may be needed no more. One of this size that nobody else refers to is removed from
            the list, and its memory is used again: for new memory, the system would have to clear every page.

    Raises:
        MemoryError: There is not enough memory.
    """

    def __cinit__(self, Py_ssize_t size, list spares=None):
        cdef Py_ssize_t at
        if size < 1:
            raise ValueError("there must be something that arrives")
        self.size = size
        if spares is not None:
            for at in range(len(spares)):
                self.made = spares[at]
                if len(self.made) == size and Py_REFCNT(<PyObject *>self.made) == 2:  # the list and this object
                    del spares[at]
                    bytes_forget_hash(self.made)
                    return
        self.made = PyBytes_FromStringAndSize(NULL, size)
        pages_will_fill(PyBytes_AS_STRING(self.made), size)

    def __len__(self) -> int:
        return self.size

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.made is None:
            raise BufferError("it has become bytes")
        PyBuffer_FillInfo(view, self, PyBytes_AS_STRING(self.made), self.size, 0, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.views -= 1

    def finish(self) -> bytes:
        """Return the content. Nothing more can be written.

        Raises:
            BufferError: There are still views through which it could be written, or this was called before.
        """
        if self.views or self.made is None:
            raise BufferError("it is still written to" if self.views else "it has become bytes")
        made, self.made = self.made, None
        return made
