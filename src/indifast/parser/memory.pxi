# Memory that all objects of this module share: scratch space, and room for elements. See `Shared` in _parser.pxd.

cdef enum:
    KEEP = 1 << 16            # buffers larger than this are given back after use
    ELEMENT_SMALL = 512       # up to here, Python's allocator is fast and wastes nothing
    ELEMENT_SLOT = 1024       # memory of a somewhat larger element


cdef Shared shared


# ---------------------------------------------------------------------------------------------------- scratch

cdef inline void trim(tz_out *out) noexcept:
    """Empty a scratch buffer for the next who uses it; give a large one back."""
    if out.cap > KEEP:
        free(out.p)
        out.p = NULL
        out.cap = 0
    out.n = 0
    out.failed = False


cdef inline tz_out borrow(tz_out *common) noexcept:
    """Scratch space for oneself alone, empty. Another one who wants some meanwhile gets fresh memory."""
    cdef tz_out own = common[0]
    own.n = 0
    own.failed = False
    common.p = NULL
    common.cap = 0
    return own


cdef inline void give_back(tz_out *common, tz_out *own) noexcept:
    """What was borrowed; in its place may be that of another one by now."""
    trim(own)
    if common.p == NULL:
        common[0] = own[0]
    else:
        free(own.p)


# --------------------------------------------------------------------------------------------------- elements

cdef tz_token *take_memory(size_t n) noexcept:
    """Memory for an element of n bytes, NULL when there is none."""
    if n <= ELEMENT_SMALL:
        return <tz_token *>PyObject_Malloc(n)
    if n > ELEMENT_SLOT:
        return <tz_token *>malloc(n)
    if shared.spare:
        shared.spare -= 1
        return <tz_token *>shared.slots[shared.spare]
    return <tz_token *>malloc(ELEMENT_SLOT)


cdef void give_memory(void *memory, size_t n) noexcept:
    """Memory that `take_memory` gave for n bytes, or NULL."""
    if n <= ELEMENT_SMALL:
        PyObject_Free(memory)
    elif memory != NULL and n <= ELEMENT_SLOT and shared.spare < SPARES:
        shared.slots[shared.spare] = memory
        shared.spare += 1
    else:
        free(memory)
