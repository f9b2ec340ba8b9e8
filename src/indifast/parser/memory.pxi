# Memory shared by all objects of this module: scratch space, and memory for elements. See `Shared` in _parser.pxd.

cdef enum:
    KEEP = 1 << 16            # buffers larger than this are freed after use
    ELEMENT_SMALL = 512       # up to this size, Python's allocator is fast and wastes nothing
    ELEMENT_SLOT = 1024       # allocation for somewhat larger elements


cdef Shared shared


# ---------------------------------------------------------------------------------------------------- Scratch

cdef inline void trim(tz_out *out) noexcept:
    """Empty a scratch buffer for its next user; free a large one."""
    if out.cap > KEEP:
        free(out.p)
        out.p = NULL
        out.cap = 0
    out.n = 0
    out.failed = False


cdef inline void borrow(tz_out *common, tz_out *own) noexcept:
    """Take over a scratch buffer, emptied. Other users get fresh memory in the meantime."""
    own[0] = common[0]
    own.n = 0
    own.failed = False
    common.p = NULL
    common.cap = 0


cdef inline void give_back(tz_out *common, tz_out *own) noexcept:
    """Return a borrowed buffer, or free it if another user has returned one in the meantime."""
    trim(own)
    if common.p == NULL:
        common[0] = own[0]
    else:
        free(own.p)


# --------------------------------------------------------------------------------------------------- Elements

cdef tz_token *take_memory(size_t n) noexcept:
    """Return memory for an element of n bytes, or NULL if memory runs out."""
    if n <= ELEMENT_SMALL:
        return <tz_token *>PyObject_Malloc(n)
    if n > ELEMENT_SLOT:
        return <tz_token *>malloc(n)
    if shared.spare:
        shared.spare -= 1
        return <tz_token *>shared.slots[shared.spare]
    return <tz_token *>malloc(ELEMENT_SLOT)


cdef void give_memory(void *memory, size_t n) noexcept:
    """Release memory that `take_memory` returned for n bytes; it may be NULL."""
    if n <= ELEMENT_SMALL:
        PyObject_Free(memory)
    elif memory != NULL and n <= ELEMENT_SLOT and shared.spare < SPARES:
        shared.slots[shared.spare] = memory
        shared.spare += 1
    else:
        free(memory)
