# Receive buffers.

cdef class BlockPool:
    """Receive buffers of one size that are used again once nobody sees them any more.

    `size`: bytes of a block. `keep`: how many unused blocks are kept at most.
    """

    def __cinit__(self, Py_ssize_t size=256 << 10, Py_ssize_t keep=16):
        if size <= 0 or keep < 0:
            raise ValueError("size must be positive and keep not negative")
        self.size = size
        self.keep = keep
        self.spare = <void **>PyMem_RawMalloc(max(keep, 1) * sizeof(void *))
        if self.spare == NULL:
            raise MemoryError

    def __dealloc__(self):
        while self.count:
            self.count -= 1
            PyMem_RawFree(self.spare[self.count])
        PyMem_RawFree(self.spare)

    def get(self) -> Block:
        """A block whose content is undefined."""
        cdef Block block = Block.__new__(Block)
        if self.count:
            self.count -= 1
            self.least = min(self.least, self.count)
            block.mem = self.spare[self.count]
        else:
            block.mem = PyMem_RawMalloc(self.size)
            if block.mem == NULL:
                raise MemoryError
            self.blocks += 1
        block.pool = self
        block.size = self.size
        return block

    def trim(self, Py_ssize_t keep) -> None:
        """Free the blocks that were not needed since the last call, as long as more than `keep` are unused."""
        while self.least and self.count > keep:
            self.least -= 1
            self.count -= 1
            self.blocks -= 1
            PyMem_RawFree(self.spare[self.count])
        self.least = self.count


@cython.no_gc
cdef class Block:
    """A writable buffer from a `BlockPool`; its memory goes back there when the last view of it is gone."""

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
            PyMem_RawFree(self.mem)
            if pool is not None:
                pool.blocks -= 1
