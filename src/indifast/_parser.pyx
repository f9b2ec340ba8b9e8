"""The tokenizer: finds the root elements of an INDI stream and what they are addressed to, and writes their clean form.

The scanning itself is in `csrc/tokens.h`, reading and writing of values in `csrc/rewrite.h`. Here are the buffers, the
text of BLOBs, and the Python objects, which are made as late as possible.
"""

from __future__ import annotations

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyObject_Free, PyObject_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove

from indifast._base64 cimport (
    B64_STOP_END,
    B64_STOP_FOREIGN,
    B64_STOP_FULL,
    b64_decode_end,
    b64_decode_init,
    b64_decode_state,
    b64_decode_step,
    b64_scan_end,
    b64_scan_init,
    b64_scan_state,
    b64_scan_step,
)


cdef extern from "memory.h" nogil:
    void memory_will_fill(void *, size_t)

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    PyObject *PyBytes_New "PyBytes_FromStringAndSize"(const char *, Py_ssize_t) except NULL
    object PyUnicode_New(Py_ssize_t, Py_UCS4)
    uint8_t *PyUnicode_1BYTE_DATA(PyObject *)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *)
    bint PyUnicode_IS_ASCII(PyObject *)
    object PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *)
    char *PyBytes_AS "PyBytes_AS_STRING"(PyObject *)


cdef extern from "rewrite.h" nogil:
    const int TF_HIGH, TF_AMP, TF_CTRL, TF_INK, TF_ODD_ATTR, TF_ODD_TEXT
    const int TK_START, TK_ATTR, TK_TEXT, TK_CDATA, TK_BLOB, TK_END
    const int TZ_MORE, TZ_DONE, TZ_BLOB, TZ_BLOB_END, TZ_SKIP, TZ_JUNK, TZ_REFUSE
    const int TZ_R_TRUNCATED, TZ_R_BASE64, TZ_R_BLOB, TZ_R_ABANDONED, TZ_R_JUNK, TZ_R_MEMORY, TZ_R_ATTACHED
    const int TZ_SLACK, TZ_MAX_DEPTH, TZ_ROOTS, TZ_FIRST_VECTOR, TZ_SET_BLOB, TZ_NEW_BLOB
    const int S_TEXT
    const int TV_ATTR
    const uint8_t tz_class[256]
    const int TC_SPACE
    const char *const tz_roots[]

    ctypedef struct tz_token:
        uint32_t a, v, vlen
        uint16_t alen
        uint8_t kind, flags

    ctypedef struct tz_scan_state:
        size_t lim_attr, lim_elem
        uint32_t lim_depth, lim_members
        tz_token *tok
        uint32_t ntok, captok
        uint8_t state, root, in_blob, elem_flags, reason
        uint32_t depth, nblobs, attached, descriptors, last_attached
        size_t mark, resume
        uint32_t stack[64]
        const uint8_t *old
        size_t old_len
        uint32_t old_ntok
        uint8_t old_root
        uint64_t base, no_comment_end, no_cdata_end

    void tz_init_tables()
    void tz_begin(tz_scan_state *)
    int tz_scan(tz_scan_state *, const uint8_t *, size_t *, size_t)
    const tz_token *tz_attr(const tz_token *, uint32_t, const uint8_t *, const char *, size_t)
    const tz_token *tz_name(const tz_token *, uint32_t, const uint8_t *)
    int64_t tz_integer(const uint8_t *, size_t)
    int tz_attached(const tz_token *, uint32_t, const uint8_t *)
    int tz_descriptor(const tz_token *, uint32_t, const uint8_t *)

    ctypedef struct tz_out:
        uint8_t *p
        size_t n, cap
        int failed

    ctypedef struct tz_blob_info:
        uint64_t chars, decoded
        uint8_t wrapped72
        uint8_t short_line

    ctypedef struct tz_writer:
        const tz_token *tok
        const uint8_t *b
        const tz_blob_info *blobs
        size_t *cuts
        uint32_t ncuts
        int attached, vector, blob_root
        tz_out *out
        tz_out *tmp
        tz_out *tmp2

    int tz_reserve(tz_out *, size_t)
    void tz_put(tz_out *, const void *, size_t)
    uint32_t tz_read_value(tz_out *, const uint8_t *, size_t, int, int)
    void tz_read_text(tz_out *, const uint8_t *, const tz_token *)
    void tz_escape(tz_out *, const uint8_t *, size_t, int)
    void tz_strip(const uint8_t **, size_t *)
    uint32_t tz_gather(tz_out *, const uint8_t *, const tz_token *, uint32_t, const uint8_t **, size_t *, int *)
    uint32_t tz_write_element(tz_writer *, uint32_t, int, int)
    uint32_t tz_count_replaced(const tz_token *, uint32_t, const uint8_t *, tz_out *)


tz_init_tables()

cdef tuple ROOT_NAMES = tuple([None if i == 0 else (<bytes>tz_roots[i]).decode() for i in range(TZ_ROOTS + 1)])

# In the order of the TZ_R_ values.
cdef tuple REASONS = (
    "truncated", "syntax", "mismatched end tag", "attribute too long", "element too large", "too deep",
    "too many members", "comment too long", "duplicate attribute", "base64", "blob too large", "abandoned", "junk",
    "memory", "attached blob with content",
)

cdef enum:
    EXCERPT = 80              # bytes of a damaged element shown to on_skip
    PIECE = 1024              # a partial element takes in at least so many bytes at once
    FIRST_BLOB = 1 << 20      # an announced size reserves at most so many bytes
    GATHER = 1 << 18          # copied slices are gathered up to so many bytes
    NOGIL = 1 << 16           # from so many bytes on, the GIL is released around the codec
    FOLLOW = 1 << 12          # elements up to this size serve as a pattern for the next
    KEEP = 1 << 16            # buffers larger than this are given back after use


# ---------------------------------------------------------------------------------------------------- strings

# Scratch space. TMP and TMP2 are only used with the GIL held and between two calls into Python: what makes an object may
# collect garbage, and that may run anything. OUT is taken away for as long as it is used.
cdef tz_out OUT
cdef tz_out TMP
cdef tz_out TMP2

cdef enum:
    CACHE = 1024              # slots
    CACHED = 48               # longest string kept, bytes

cdef PyObject *cache[CACHE]   # names come again and again: device, property, member and attribute names


cdef enum:
    SMALL = 512               # up to here, Python's allocator is fast and wastes nothing
    SLOT = 1024               # memory of a somewhat larger element
    SLOTS = 256

cdef void *slots[SLOTS]       # unused memory of such elements
cdef int spare_slots = 0


cdef tz_token *take_memory(size_t n) noexcept:
    """Memory for an element of n bytes, NULL when there is none."""
    global spare_slots
    if n <= SMALL:
        return <tz_token *>PyObject_Malloc(n)
    if n > SLOT:
        return <tz_token *>malloc(n)
    if spare_slots:
        spare_slots -= 1
        return <tz_token *>slots[spare_slots]
    return <tz_token *>malloc(SLOT)


cdef void give_memory(void *memory, size_t n) noexcept:
    global spare_slots
    if n <= SMALL:
        PyObject_Free(memory)
    elif memory != NULL and n <= SLOT and spare_slots < SLOTS:
        slots[spare_slots] = memory
        spare_slots += 1
    else:
        free(memory)


cdef inline void trim(tz_out *out) noexcept:
    """Give a large scratch buffer back."""
    if out.cap > KEEP:
        free(out.p)
        out.p = NULL
        out.cap = 0
    out.n = 0
    out.failed = 0


cdef inline tz_out take_scratch(tz_out *shared) noexcept:
    """Scratch space for oneself alone; another one who wants some meanwhile gets fresh memory."""
    cdef tz_out own = shared[0]
    own.n = 0
    own.failed = 0
    shared.p = NULL
    shared.cap = 0
    return own


cdef inline void give_scratch(tz_out *shared, tz_out *own) noexcept:
    trim(own)
    if shared.p == NULL:
        shared[0] = own[0]
    else:
        free(own.p)


cdef inline str ascii_str(const uint8_t *p, size_t n):
    cdef object s = PyUnicode_New(n, 127)
    if n:
        memcpy(PyUnicode_1BYTE_DATA(<PyObject *>s), p, n)
    return <str>s


cdef str name_str(const uint8_t *p, size_t n):
    """The str of plain ASCII bytes, from the cache where possible."""
    cdef uint64_t h = 0
    cdef uint64_t tail = 0
    cdef size_t i
    cdef PyObject *hit
    cdef object made
    if n == 0 or n > CACHED:
        return ascii_str(p, n)
    if n >= 8:
        memcpy(&h, p, 8)
        memcpy(&tail, p + n - 8, 8)
    elif n >= 4:
        memcpy(&h, p, 4)
        memcpy(&tail, p + n - 4, 4)
    else:
        h = p[0] | p[n >> 1] << 8 | p[n - 1] << 16
    h = (h ^ (tail << 21 | tail >> 43) ^ n) * <uint64_t>0x9E3779B97F4A7C15
    i = h >> 54
    hit = cache[i]
    if hit != NULL and <size_t>PyUnicode_GET_LENGTH(hit) == n and memcmp(PyUnicode_1BYTE_DATA(hit), p, n) == 0:
        return <str><object>hit
    made = ascii_str(p, n)
    Py_INCREF(made)
    cache[i] = <PyObject *>made
    Py_XDECREF(hit)
    return <str>made


cdef str attr_str(const uint8_t *b, const tz_token *t):
    """The value of an attribute."""
    cdef str s
    if not t.flags & TF_ODD_ATTR:
        return name_str(b + t.v, t.vlen)
    TMP.n = 0
    tz_read_value(&TMP, b + t.v, t.vlen, t.flags, TV_ATTR)
    return out_str(&TMP)


cdef str out_str(tz_out *out):
    """The str of clean UTF-8."""
    if out.failed:
        trim(out)
        raise MemoryError
    s = PyUnicode_DecodeUTF8(<const char *>out.p, out.n, NULL)
    trim(out)
    return s


cdef inline bint same(str known, const uint8_t *b, const tz_token *t):
    """Is this the value, in plain ASCII, of the attribute? Wider characters may have the same bytes in memory."""
    return (known is not None and not t.flags & TF_ODD_ATTR and <uint32_t>PyUnicode_GET_LENGTH(<PyObject *>known) == t.vlen
            and PyUnicode_IS_ASCII(<PyObject *>known)
            and memcmp(PyUnicode_1BYTE_DATA(<PyObject *>known), b + t.v, t.vlen) == 0)


cdef dict read_attrs(const uint8_t *b, const tz_token *tok, uint32_t i):
    cdef dict attrs = {}
    cdef uint32_t k
    for k in range(i + 1, i + 1 + tok[i].vlen):
        attrs[name_str(b + tok[k].a, tok[k].alen)] = attr_str(b, &tok[k])
    return attrs


cdef str read_text(const uint8_t *b, const tz_token *tok, uint32_t i, bint strip):
    """The text directly inside the element at token i."""
    cdef uint32_t j = i + 1 + tok[i].vlen
    cdef const uint8_t *p
    cdef size_t n
    cdef uint32_t depth = 0
    if tok[j].kind == TK_END or tok[j].kind == TK_BLOB:
        return ""
    if tok[j].kind == TK_TEXT and tok[j + 1].kind == TK_END and not tok[j].flags & TF_ODD_TEXT:
        p = b + tok[j].v
        n = tok[j].vlen
        if strip:
            tz_strip(&p, &n)
        return ascii_str(p, n)
    TMP.n = 0
    while True:
        if tok[j].kind == TK_START:
            depth += 1
        elif tok[j].kind == TK_END:
            if depth == 0:
                break
            depth -= 1
        elif depth == 0 and (tok[j].kind == TK_TEXT or tok[j].kind == TK_CDATA):
            tz_read_text(&TMP, b, &tok[j])
        j += 1
    cdef str s = out_str(&TMP)
    return s.strip(" \t\r\n") if strip else s


cdef object integer(const uint8_t *p, size_t n):
    cdef int64_t value
    cdef bint negative = False
    tz_strip(&p, &n)
    if n > 1 and (p[0] == 43 or p[0] == 45) and not tz_class[p[1]] & TC_SPACE:
        negative = p[0] == 45
        p += 1
        n -= 1
    value = tz_integer(p, n)
    if value < 0:
        return None
    return -value if negative else value


def read_integer(str text not None, /) -> int | None:
    """The integer that a text stands for: a sign perhaps, and 18 digits at most, between white space; None for all else.

    `int` takes digits of all scripts and underscores between them as well, and `str.isdigit` accepts what it fails on.
    """
    cdef PyObject *held = <PyObject *>text
    if not PyUnicode_IS_ASCII(held):
        return None
    return integer(PyUnicode_1BYTE_DATA(held), PyUnicode_GET_LENGTH(held))


def escape_text(str text not None, /) -> str:
    """`text` as XML character data: ``& < >`` as references, characters that XML forbids as U+FFFD."""
    return escaped(text, False)


def escape_attr(str text not None, /) -> str:
    """`text` as an attribute value between double quotes; line breaks and tabs survive as numeric references."""
    return escaped(text, True)


cdef str escaped(str text, bint attr):
    cdef Py_ssize_t i
    cdef Py_UCS4 c
    cdef bint clean = True
    for i in range(len(text)):
        c = text[i]
        if c < 0x20:
            if attr or not (c == 9 or c == 10 or c == 13):
                clean = False
                break
        elif c == 38 or c == 60 or c == 62 or (attr and c == 34) or (0xD800 <= c <= 0xDFFF) or 0xFFFE <= c <= 0xFFFF:
            clean = False
            break
    if clean:
        return text
    cdef list out = []
    for i in range(len(text)):
        c = text[i]
        if c == 38:
            out.append("&amp;")
        elif c == 60:
            out.append("&lt;")
        elif c == 62:
            out.append("&gt;")
        elif attr and c == 34:
            out.append("&quot;")
        elif c == 9 or c == 10 or c == 13:
            out.append(("&#09;" if c == 9 else "&#10;" if c == 10 else "&#13;") if attr else text[i])
        elif c < 0x20 or 0xD800 <= c <= 0xDFFF or 0xFFFE <= c <= 0xFFFF:
            out.append("\ufffd")
        else:
            out.append(text[i])
    return "".join(out)


# ---------------------------------------------------------------------------------------------- receive buffers


cdef class BlockPool:
    """Receive buffers of one size that are used again once nobody sees them any more.

    `size`: bytes of a block. `keep`: how many unused blocks are kept at most.
    """

    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t keep
    cdef readonly Py_ssize_t blocks  # how many there are, in use or not
    cdef Py_ssize_t count
    cdef Py_ssize_t least        # unused ones at any time since the last `trim`
    cdef void **spare

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


@cython.final
@cython.no_gc
cdef class Block:
    """A writable buffer from a `BlockPool`; its memory goes back there when the last view of it is gone."""

    cdef void *mem
    cdef readonly Py_ssize_t size
    cdef BlockPool pool

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


# ------------------------------------------------------------------------------------------------------- BLOBs


@cython.final
@cython.no_gc
cdef class Content:
    """The content of one oneBLOB while it arrives and afterwards."""

    cdef bint relay
    cdef b64_decode_state decode
    cdef b64_scan_state scan
    cdef uint64_t limit          # decoded bytes
    cdef uint64_t hint           # the announced size
    # decoded form
    cdef PyObject *data          # bytes; longer than what is decoded so far
    cdef size_t filled, cap
    # relayed form: slices of what was fed, small ones gathered in `small`
    cdef list slices
    cdef tz_out small
    cdef uint64_t kept           # bytes of text in slices and small

    def __dealloc__(self):
        Py_XDECREF(self.data)
        free(self.small.p)

    cdef size_t held(self) noexcept:
        return <size_t>self.kept if self.relay else self.cap

    cdef uint64_t chars(self) noexcept:
        return self.scan.chars if self.relay else (1 if self.filled else 0)

    cdef int feed(self, const uint8_t *src, size_t n, object owner, size_t owner_size, size_t offset, size_t *used) except -1:
        """Take text in. Returns TZ_MORE, TZ_BLOB_END (at a '<'), TZ_R_BASE64 + 100 or TZ_R_BLOB + 100.

        `owner`: the object whose memory `src` is, at `offset`, when slices of it may be kept; else None.
        """
        if self.relay:
            return self.feed_relay(src, n, owner, owner_size, offset, used)
        return self.feed_decode(src, n, used)

    cdef int feed_decode(self, const uint8_t *src, size_t n, size_t *used) except -1:
        cdef size_t k, got, room, need
        cdef uint8_t *dst
        used[0] = 0
        while True:
            need = (n - used[0]) // 4 * 3 + 64
            if self.hint and self.filled <= self.hint and self.hint - self.filled + 64 < need:
                need = self.hint - self.filled + 64  # the rest is markup; if not, the buffer fills up, and grows then
            if self.cap - self.filled < need and self.cap < self.limit + 64:
                self.grow(need)
            got = 0
            dst = <uint8_t *>PyBytes_AS(self.data) + self.filled
            room = self.cap - self.filled
            if n - used[0] >= NOGIL:
                with nogil:
                    k = b64_decode_step(&self.decode, src + used[0], n - used[0], dst, room, &got)
            else:
                k = b64_decode_step(&self.decode, src + used[0], n - used[0], dst, room, &got)
            used[0] += k
            self.filled += got
            if self.filled > self.limit:
                return TZ_R_BLOB + 100
            if self.decode.stop == B64_STOP_END:
                return TZ_MORE
            if self.decode.stop == B64_STOP_FOREIGN:
                return TZ_BLOB_END if src[used[0]] == 60 else TZ_R_BASE64 + 100
            if self.decode.stop != B64_STOP_FULL:
                return TZ_R_BASE64 + 100
            if self.cap >= self.limit + 64:
                return TZ_R_BLOB + 100

    cdef int grow(self, size_t need) except -1:
        """Make room: for what has arrived, doubled; for an announced size once a sixteenth of it has arrived."""
        cdef size_t cap = self.filled + need
        if self.data == NULL:
            if self.hint + 64 > cap:
                cap = min(self.hint + 64, cap + FIRST_BLOB)
        else:
            cap = max(cap, self.cap * 2)
            if self.cap < self.hint + 64:
                cap = max(self.filled + need, min(self.hint + 64, self.cap * 16))
        cap = min(cap, self.limit + 64)
        if self.data == NULL:
            self.data = PyBytes_New(NULL, cap)
        else:
            _PyBytes_Resize(&self.data, cap)
        if cap == self.hint + 64:  # it will not grow again, which costs a copy from then on
            memory_will_fill(PyBytes_AS(self.data), cap)
        self.cap = cap
        return 0

    cdef int feed_relay(self, const uint8_t *src, size_t n, object owner, size_t owner_size, size_t offset, size_t *used) except -1:
        cdef size_t k
        cdef size_t first = 0
        cdef bint begun = self.scan.chars != 0
        if n >= NOGIL:
            with nogil:
                k = b64_scan_step(&self.scan, src, n)
        else:
            k = b64_scan_step(&self.scan, src, n)
        used[0] = k
        if not begun:  # a slice starts right at the first base64 character
            while first < k and tz_class[src[first]] & TC_SPACE:
                first += 1
        if self.scan.chars // 4 * 3 > self.limit + 2 or self.kept > self.limit * 3 + NOGIL:  # or mere white space
            return TZ_R_BLOB + 100
        if first < k:
            self.keep(src + first, k - first, owner, owner_size, offset + first)
        if self.scan.stop == B64_STOP_END:
            return TZ_MORE
        if self.scan.stop == B64_STOP_FOREIGN and src[k] == 60:
            return TZ_BLOB_END
        return TZ_R_BASE64 + 100

    cdef int keep(self, const uint8_t *src, size_t n, object owner, size_t owner_size, size_t offset) except -1:
        """Keep a slice by reference, or a copy where the slice would hold a much larger buffer in memory."""
        self.kept += n
        if owner is None or n < owner_size // 4 or n < 4096:
            if self.small.n + n > GATHER:
                self.flush()
            tz_put(&self.small, src, n)
            if self.small.failed:
                raise MemoryError
        else:
            self.flush()
            self.slices.append(memoryview(owner)[offset:offset + n])
        return 0

    cdef int flush(self) except -1:
        if self.small.n:
            self.slices.append(PyBytes_FromStringAndSize(<char *>self.small.p, self.small.n))
            self.small.n = 0
        return 0

    cdef int finish(self) except -1:
        """At the end of the oneBLOB: 0, or the TZ_R_ reason to refuse it."""
        cdef const uint8_t[::1] view
        cdef Py_ssize_t n
        if not self.relay:
            if b64_decode_end(&self.decode):
                return TZ_R_BASE64
            if self.data != NULL:
                _PyBytes_Resize(&self.data, self.filled)
                self.cap = self.filled
            return 0
        if b64_scan_end(&self.scan):
            return TZ_R_BASE64
        if self.scan.chars // 4 * 3 - self.scan.pads > self.limit:
            return TZ_R_BLOB
        self.flush()
        free(self.small.p)
        self.small.p = NULL
        self.small.cap = 0
        while self.slices:  # no white space at the end
            last = self.slices[len(self.slices) - 1]
            view = last
            n = view.shape[0]
            while n and tz_class[view[n - 1]] & TC_SPACE:
                n -= 1
            if n == view.shape[0]:
                break
            self.slices.pop()
            self.kept -= <uint64_t>(view.shape[0] - n)
            if n:
                self.slices.append(last[:n])
        return 0

    cdef object value(self):
        """The decoded content; None when there is none."""
        cdef b64_decode_state state
        cdef size_t got, at, n, total
        cdef const uint8_t[::1] view
        cdef uint8_t *dst
        cdef PyObject *made
        if self.data == NULL:
            if not self.relay or self.scan.chars == 0:
                return None
            total = <size_t>(self.scan.chars // 4 * 3 - self.scan.pads)
            made = PyBytes_New(NULL, total + 64)
            try:
                dst = <uint8_t *>PyBytes_AS(made)
                at = 0
                b64_decode_init(&state)
                for piece in self.slices:
                    view = piece
                    n = view.shape[0]
                    got = 0
                    with nogil:
                        b64_decode_step(&state, &view[0], n, dst + at, total + 64 - at, &got)
                    at += got
                _PyBytes_Resize(&made, total)
                if self.data == NULL:  # else another thread was faster
                    self.data = made
                    made = NULL
                    self.filled = self.cap = total
            finally:
                Py_XDECREF(made)
        if self.filled == 0:
            return None
        return <object>self.data


# ---------------------------------------------------------------------------------------------------- elements


# None of these can be part of a reference cycle: a member refers to its element, and nothing refers back.


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Element:
    """One complete root element. Its bytes are kept; what is in them is read when asked for."""

    cdef readonly str tag
    cdef readonly str device
    cdef readonly str name
    cdef readonly int attached
    cdef readonly int descriptors
    cdef tz_token *tok           # the tokens, and behind them the bytes: one allocation
    cdef uint8_t *raw
    cdef size_t length
    cdef uint32_t ntok
    cdef uint8_t root
    cdef list contents           # Content per oneBLOB that is not self-closing; None: no BLOBs
    cdef dict _attrs
    cdef tuple _pieces
    cdef Py_ssize_t _size

    def __dealloc__(self):
        give_memory(self.tok, self.ntok * sizeof(tz_token) + self.length + TZ_SLACK)

    @property
    def attrs(self) -> dict[str, str]:
        """The attributes in document order."""
        if self._attrs is None:
            self._attrs = read_attrs(self.raw, self.tok, 0)
        return self._attrs

    @property
    def members(self) -> list[Member]:
        """The elements directly inside the root, made anew by each call."""
        cdef uint32_t i, depth = 0
        cdef Member member
        cdef const tz_token *t
        cdef list members = []
        for i in range(1, self.ntok):
            t = &self.tok[i]
            if t.kind == TK_START:
                if depth == 0:
                    member = Member.__new__(Member)
                    member.element = self
                    member.at = i
                    member.tag = name_str(self.raw + t.a, t.alen)
                    t = tz_name(self.tok, i, self.raw)
                    member.name = "" if t == NULL else attr_str(self.raw, t)
                    members.append(member)
                depth += 1
            elif t.kind == TK_END:
                depth -= 1
        return members

    @property
    def text(self) -> str:
        """The text of the root itself, stripped: the choice of an enableBLOB."""
        return read_text(self.raw, self.tok, 0, True)

    def values(self) -> dict[str, str]:
        """Member name -> stripped text, of the members that have a name."""
        cdef dict values = {}
        cdef uint32_t i = 1 + self.tok[0].vlen
        cdef uint32_t depth
        cdef const tz_token *t
        cdef const tz_token *name
        cdef const uint8_t *p
        cdef size_t n
        while i < self.ntok:
            t = &self.tok[i]
            if t.kind != TK_START:
                i += 1
                continue
            name = tz_name(self.tok, i, self.raw)
            t += 1 + t.vlen
            if t.kind == TK_TEXT and t[1].kind == TK_END and not t.flags & TF_ODD_TEXT:  # as it mostly is
                if name != NULL and name.vlen:
                    p = self.raw + t.v
                    n = t.vlen
                    tz_strip(&p, &n)
                    values[attr_str(self.raw, name)] = ascii_str(p, n)
                i = <uint32_t>(t - self.tok) + 2
                continue
            if name != NULL and name.vlen:
                values[attr_str(self.raw, name)] = read_text(self.raw, self.tok, i, True)
            depth = 0
            while True:
                if self.tok[i].kind == TK_START:
                    depth += 1
                elif self.tok[i].kind == TK_END:
                    depth -= 1
                i += 1
                if depth == 0:
                    break
        return values

    cdef Content content(self, uint32_t at):
        """The content of the oneBLOB at token `at`, None when it has none."""
        cdef uint32_t j = at + 1 + self.tok[at].vlen
        cdef Content content
        if self.contents is None or self.tok[j].kind != TK_BLOB:
            return None
        content = self.contents[self.tok[j].v]
        return content if content.chars() else None

    cdef list carriers(self):
        """The members with content, inline or attached."""
        cdef Member member
        cdef list found = []
        if self.root == TZ_SET_BLOB or self.root == TZ_NEW_BLOB:
            for member in self.members:
                if self.content(member.at) is not None or member.attached:
                    found.append(member)
        return found

    @property
    def blob(self) -> bool:
        """Carries content of at least one BLOB member, inline or attached."""
        return bool(self.carriers()) if self.contents is not None or self.attached else False

    @property
    def growing(self) -> bool:
        """False: all of it is there."""
        return False

    @property
    def formats(self) -> tuple[str, ...]:
        """`format` of each member with content."""
        cdef Member member
        cdef list formats = []
        for member in self.carriers():  # a comprehension of Cython 3.3 releases an item twice when there is no memory
            item = member.format
            formats.append(item)
        return tuple(formats)

    @property
    def carried(self) -> frozenset[str]:
        """Names of the members with content."""
        cdef Member member
        cdef list names = []
        for member in self.carriers():  # no comprehension, as in `formats`
            names.append(member.name)
        return frozenset(names)

    def envelope(self, bint attached, /) -> tuple[bytes, ...]:
        """The clean form without the content of BLOBs.

        Inline form (`attached` false): the pieces between which the base64 of each member of `blobs` stands, one more
        than there are; an announced descriptor (`attached='true'`) counts as such a member. Attached form: one piece,
        each such member announcing a descriptor.
        """
        cdef tz_writer w
        cdef tz_out out
        cdef tz_blob_info *info = NULL
        cdef size_t *cuts = NULL
        cdef uint32_t k, n
        cdef size_t at
        cdef Content content
        TMP.n = TMP2.n = 0
        w.tok = self.tok
        w.b = self.raw
        w.out = &out
        w.tmp = &TMP
        w.tmp2 = &TMP2
        w.ncuts = 0
        w.attached = attached
        w.vector = self.root >= TZ_FIRST_VECTOR
        w.blob_root = self.root == TZ_SET_BLOB or self.root == TZ_NEW_BLOB
        n = 0 if self.contents is None else <uint32_t>len(self.contents)
        if n or self.attached:
            info = <tz_blob_info *>malloc((n + 1) * sizeof(tz_blob_info))
            cuts = <size_t *>malloc((n + self.attached + 1) * sizeof(size_t))
            if info == NULL or cuts == NULL:
                free(info)
                free(cuts)
                raise MemoryError
            for k in range(n):
                content = self.contents[k]
                info[k].chars = content.chars()
                info[k].decoded = content.scan.chars // 4 * 3 - content.scan.pads if content.relay else content.filled
                info[k].wrapped72 = content.scan.wrapped72
                info[k].short_line = (
                    content.scan.unwrapped and content.scan.chars <= 72 and content.scan.position > content.scan.last
                )
        w.blobs = info
        w.cuts = cuts
        out = take_scratch(&OUT)
        tz_write_element(&w, 0, 0, False)
        out.failed |= TMP.failed | TMP2.failed
        trim(&TMP)
        trim(&TMP2)
        try:
            if out.failed:
                raise MemoryError
            if w.ncuts == 0:
                return (PyBytes_FromStringAndSize(<char *>out.p, out.n),)
            pieces = []
            at = 0
            for k in range(w.ncuts):
                pieces.append(PyBytes_FromStringAndSize(<char *>out.p + at, cuts[k] - at))
                at = cuts[k]
            pieces.append(PyBytes_FromStringAndSize(<char *>out.p + at, out.n - at))
            return tuple(pieces)
        finally:
            free(info)
            free(cuts)
            give_scratch(&OUT, &out)

    @property
    def blobs(self) -> list[Member]:
        """The members with content, inline or attached, in document order."""
        return self.carriers()

    @property
    def size(self) -> int:
        """Bytes of the inline form; where content is attached, an estimate."""
        cdef Member member
        cdef Py_ssize_t size = 0
        if self._size == 0:
            if self.attached or self._inline() is None:
                size = self.length
                for member in self.carriers():
                    size += (member.content_size() + 2) // 3 * 4
            else:
                for piece in self._pieces:
                    size += len(piece)
            self._size = size
        return self._size

    cdef tuple _inline(self):
        """The pieces of the inline form; None when the content was decoded or is attached."""
        cdef list pieces
        cdef tuple around
        cdef Content content
        cdef Py_ssize_t i = 0
        if self._pieces is None:
            if self.attached:
                return None
            if self.contents is None:
                self._pieces = self.envelope(False)
                return self._pieces
            for content in self.contents:
                if not content.relay and content.chars():
                    return None
            around = self.envelope(False)
            pieces = [around[0]]
            for content in self.contents:
                if content.chars():
                    i += 1
                    pieces.extend(content.slices)
                    pieces.append(around[i])
            self._pieces = tuple(pieces)
        return self._pieces

    def parts(self, bint attached) -> tuple[bytes | memoryview, ...] | None:
        """The clean form in pieces; None for a form with BLOBs that has to be made (see `BlobMessage`)."""
        if attached and (self.contents is not None or self.attached) and self.blob:
            return None
        return self._inline()

    def fds(self) -> tuple[int, ...]:
        """Descriptors of the attached form: none, a bare element has no such form."""
        return ()

    def when_ready(self, bint attached, callback) -> None:
        """A bare element makes no forms; `BlobMessage` does."""
        raise RuntimeError("an element with BLOBs goes through a BlobMessage, which makes its other form")

    def element(self) -> Element:
        """The element itself."""
        return self

    def __repr__(self) -> str:
        return f"<Element {self.tag} {self.attrs!r}>"


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Member:
    """One element inside a root: oneNumber, defSwitch, oneBLOB and so on."""

    cdef readonly str tag
    cdef readonly str name
    cdef Element element
    cdef uint32_t at
    cdef dict _attrs

    @property
    def attrs(self) -> dict[str, str]:
        """The attributes in document order."""
        if self._attrs is None:
            self._attrs = read_attrs(self.element.raw, self.element.tok, self.at)
        return self._attrs

    @property
    def text(self) -> str:
        """The text as it stands, references resolved, not stripped."""
        return read_text(self.element.raw, self.element.tok, self.at, False)

    @property
    def data(self) -> bytes | None:
        """Decoded content of an inline BLOB, None when there is none."""
        content = self.element.content(self.at)
        return None if content is None else content.value()

    @property
    def slices(self) -> tuple[bytes | memoryview, ...]:
        """The base64 text of an inline BLOB as it came, in pieces (relay mode)."""
        cdef Content content = self.element.content(self.at)
        return () if content is None or content.slices is None else tuple(content.slices)

    @property
    def blob_size(self) -> int | None:
        """The `size` attribute; None when it is absent or no integer."""
        cdef const tz_token *t = tz_attr(self.element.tok, self.at, self.element.raw, "size", 4)
        return None if t == NULL else integer(self.element.raw + t.v, t.vlen)

    @property
    def blob_length(self) -> int | None:
        """Bytes of the file of an attached BLOB that are its content: `len`, or `size` where that is absent or empty.

        None when this is not a non-negative integer.
        """
        cdef const tz_token *t = tz_attr(self.element.tok, self.at, self.element.raw, "len", 3)
        cdef int64_t length
        if t == NULL or t.vlen == 0:
            t = tz_attr(self.element.tok, self.at, self.element.raw, "size", 4)
        length = -1 if t == NULL else tz_integer(self.element.raw + t.v, t.vlen)
        return None if length < 0 else length

    @property
    def format(self) -> str:
        """The `format` attribute, "" when absent."""
        return <str>self.attrs.get("format", "")

    @property
    def attached(self) -> bool:
        """Announces content in a descriptor: attached='true' and a size above 0."""
        return bool(self.element.attached and self.tag == "oneBLOB"
                    and tz_attached(self.element.tok, self.at, self.element.raw))

    @property
    def descriptor(self) -> bool:
        """A descriptor belongs to it: attached='true', whatever the size."""
        return bool(self.element.descriptors and self.tag == "oneBLOB"
                    and tz_descriptor(self.element.tok, self.at, self.element.raw))

    cdef Py_ssize_t content_size(self):
        cdef Content content = self.element.content(self.at)
        if content is not None:
            return content.filled if not content.relay else content.scan.chars // 4 * 3
        length = self.blob_length
        return 0 if length is None else min(length, 1 << 50)

    def __repr__(self) -> str:
        return f"<Member {self.tag} {self.attrs!r}>"


# --------------------------------------------------------------------------------------------------- tokenizer

cdef enum:
    AT_JUNK, AT_ROOT, AT_BLOB


@cython.final
cdef class Tokenizer:
    """Cuts a stream of bytes, fed in chunks of any size, into root elements.

    Bytes never raise: what is damaged or exceeds a limit is skipped, counted in `skipped` and told to `on_skip`.

    `relay`: keep the base64 of BLOBs as it came, in slices of the chunks, which must not change any more; otherwise it
    is decoded as it arrives.
    `attribute`: longest attribute value; also the longest comment, CDATA section, instruction or declaration (bytes).
    `element`: largest element without the text of its BLOBs (bytes). `blob`: largest decoded BLOB (bytes).
    `depth`: of nested elements, the root counts. `members`: elements inside a root.
    `junk`: a run of bytes between elements is reported each time it has grown by so many bytes.
    `on_skip(reason, skipped, excerpt)`: called for each skip.
    """

    cdef tz_scan_state s
    cdef uint8_t *buf            # the unfinished root is buf[off:off + held_n]
    cdef size_t cap, off, held_n
    cdef const uint8_t *chunk    # what is being fed
    cdef size_t pos              # where we are in it
    cdef size_t fresh            # so many of the last bytes of the unfinished root stand in the chunk as well, right before `pos`
    cdef size_t p                # scanned so far
    cdef int where
    cdef bint direct             # the unfinished root stands in the current chunk alone
    cdef bint starved            # all of it is scanned
    cdef bint busy
    cdef bint relay
    cdef uint64_t limit_blob
    cdef uint64_t limit_junk
    cdef uint64_t junk_run, junk_reported
    cdef uint8_t junk_excerpt[EXCERPT]
    cdef size_t junk_shown
    cdef bint after_damage       # junk that is the rest of a damaged element
    cdef list contents
    cdef Content content
    cdef uint64_t content_text   # bytes of BLOB text of the unfinished root
    cdef object on_skip
    cdef Element last            # the tokens of the last element serve as a guess at those of the next
    cdef str device, name        # of the last element: often those of the next one
    cdef readonly dict skipped
    cdef readonly uint64_t skipped_bytes
    cdef readonly uint64_t replaced
    cdef readonly uint64_t lost_attached

    def __cinit__(self, *, bint relay=False, Py_ssize_t attribute=64 << 10, Py_ssize_t element=16 << 20,
                  Py_ssize_t blob=1 << 30, Py_ssize_t depth=8, Py_ssize_t members=100_000, Py_ssize_t junk=1 << 20,
                  on_skip=None):
        if min(attribute, element, blob, depth, members, junk) < 1:
            raise ValueError("limits must be positive")
        self.relay = relay
        self.s.lim_attr = attribute
        self.s.lim_elem = min(element, 1 << 31)
        self.s.lim_depth = min(depth, TZ_MAX_DEPTH)
        self.s.lim_members = min(members, 1 << 31)
        self.limit_blob = min(blob, 1 << 48)
        self.limit_junk = junk
        self.on_skip = on_skip
        self.skipped = {}
        self.where = AT_JUNK

    def __dealloc__(self):
        free(self.buf)
        free(self.s.tok)

    @property
    def held(self) -> int:
        """Bytes kept for the unfinished element, the notes about it included."""
        cdef size_t n = self.held_n + self.s.ntok * sizeof(tz_token) if self.where != AT_JUNK else self.held_n
        cdef Content content
        if self.where != AT_JUNK and self.contents is not None:
            for content in self.contents:
                n += content.held()
        return n

    def feed(self, data, Py_ssize_t start=0, end=None, /) -> list[Element]:
        """Take in `data[start:end]`; returns the elements that are complete now.

        Raises ValueError for a slice outside of `data`, TypeError when `data` is no buffer, RuntimeError when called
        from two threads at once.
        """
        cdef Py_buffer view
        cdef Py_ssize_t stop
        cdef list found = []
        if self.busy:
            raise RuntimeError("the tokenizer is being fed already")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            stop = view.len if end is None else end
            if not 0 <= start <= stop <= view.len:
                raise ValueError(f"no such slice: {start}:{stop} of {view.len} bytes")
            self.busy = True
            self.chunk = <const uint8_t *>view.buf
            self.pos = start
            self.fresh = 0
            try:
                while True:
                    try:
                        self.run(stop, view.len, data if type(data) is Block or type(data) is bytes else None, found)
                        break
                    except MemoryError:
                        self.give_up(TZ_R_MEMORY, self.p)
            finally:
                self.busy = False
        finally:
            PyBuffer_Release(&view)
        return found

    cdef int run(self, size_t n, size_t size, object owner, list found) except -1:
        """Go through the chunk, up to `n`. `owner`, `size`: the buffer that it is part of, see `Content.feed`.

        MemoryError stands for the unfinished root, which is to be given up; then it may go on.
        """
        cdef const uint8_t *hit
        cdef size_t take, used
        cdef int event
        while True:
            if self.where == AT_ROOT:
                if self.direct:
                    event = tz_scan(&self.s, self.chunk + self.pos, &self.p, n - self.pos)
                else:
                    if self.starved:
                        if self.pos >= n:
                            return 0
                        take = min(n - self.pos, max(<size_t>PIECE, self.held_n))
                        self.hold(take)
                        self.fresh += take
                        self.starved = False
                    event = tz_scan(&self.s, self.buf + self.off, &self.p, self.held_n)
                if event == TZ_MORE:
                    if self.direct:
                        self.hold(n - self.pos)
                        self.direct = False
                    self.starved = True
                elif event == TZ_DONE:
                    if self.junk_run:
                        self.end_junk()
                    self.after_damage = False
                    found.append(self.make(self.root()))
                    self.advance(self.p)
                elif event == TZ_BLOB:
                    if self.direct:
                        self.hold(self.p)
                        self.direct = False
                        self.fresh = 0
                    elif self.held_n - self.p <= self.fresh:
                        self.pos -= self.held_n - self.p
                        self.held_n = self.p
                        self.fresh = 0
                    self.enter_blob()
                elif event == TZ_BLOB_END:
                    self.starved = self.p >= self.held_n
                    event = self.content.finish()
                    if event == 0 and self.content.chars() and self.s.last_attached:
                        event = TZ_R_ATTACHED
                    self.content = None
                    if event:
                        self.give_up(event, self.p)
                elif event == TZ_REFUSE:
                    self.give_up(self.s.reason, self.s.resume)
                else:
                    if event == TZ_JUNK:
                        self.junk(self.root(), self.s.resume)
                    self.advance(self.s.resume)
            elif self.where == AT_BLOB:
                if self.held_n > self.p:  # bytes of earlier chunks, scanned again behind an abandoned comment
                    take = self.held_n - self.p
                    event = self.content.feed(self.buf + self.off + self.p, take, None, 0, 0, &used)
                    memmove(self.buf + self.off + self.p, self.buf + self.off + self.p + used, take - used)
                    self.held_n -= used
                    self.fresh = min(self.fresh, take - used)
                else:
                    if self.pos >= n:
                        return 0
                    event = self.content.feed(self.chunk + self.pos, n - self.pos, owner, size, self.pos, &used)
                    self.pos += used
                    self.fresh = 0
                self.s.base += used
                self.content_text += used
                if event == TZ_BLOB_END:
                    self.where = AT_ROOT
                    self.s.state = S_TEXT
                    self.s.mark = self.p
                    self.starved = self.p >= self.held_n
                elif event != TZ_MORE:
                    self.give_up(event - 100, self.p)
            elif self.held_n:
                hit = <const uint8_t *>memchr(self.buf + self.off, 60, self.held_n)
                take = self.held_n if hit == NULL else hit - (self.buf + self.off)
                self.junk(self.buf + self.off, take)
                self.advance(take)
                if self.held_n:
                    self.begin(False)
            else:
                if self.pos >= n:
                    return 0
                hit = <const uint8_t *>memchr(self.chunk + self.pos, 60, n - self.pos)
                take = n - self.pos if hit == NULL else hit - (self.chunk + self.pos)
                if take:
                    self.junk(self.chunk + self.pos, take)
                    self.pos += take
                    self.s.base += take
                if hit != NULL:
                    self.begin(True)

    cdef const uint8_t *root(self) noexcept:
        """Where the unfinished root begins."""
        return self.chunk + self.pos if self.direct else self.buf + self.off

    cdef void begin(self, bint direct) noexcept:
        """A '<' between roots: perhaps the next one."""
        tz_begin(&self.s)
        self.p = 1
        self.where = AT_ROOT
        self.direct = direct
        self.starved = False

    cdef void advance(self, size_t by) noexcept:
        """Leave `by` bytes of the root or candidate behind, release what is kept for it, and look for the next."""
        self.s.base += by
        self.where = AT_JUNK
        if self.direct:
            self.direct = False
            self.pos += by
        else:
            self.off += by
            self.held_n -= by
            if self.held_n <= self.fresh:  # the rest is in the chunk as well
                self.pos -= self.held_n
                self.held_n = 0
            if self.held_n == 0:
                self.off = self.fresh = 0
        if self.contents is not None:
            self.contents = None
            self.content = None
        self.content_text = 0
        if self.held_n == 0 and self.cap > KEEP:
            free(self.buf)
            self.buf = NULL
            self.cap = 0
        if self.s.ntok:  # the notes of the last element are overwritten
            self.forget()
        if self.s.captok > KEEP // sizeof(tz_token):
            self.forget()
            free(self.s.tok)
            self.s.tok = NULL
            self.s.captok = 0
        self.s.ntok = 0

    cdef int hold(self, size_t n) except -1:
        """Append the next bytes of the chunk to those of the unfinished root."""
        cdef size_t cap
        cdef uint8_t *grown
        if self.off + self.held_n + n > self.cap:
            if self.off:
                memmove(self.buf, self.buf + self.off, self.held_n)
                self.off = 0
            if self.held_n + n > self.cap:
                cap = max(self.cap * 2, self.held_n + n, <size_t>512)
                grown = <uint8_t *>realloc(self.buf, cap)
                if grown == NULL:
                    raise MemoryError
                self.buf = grown
                self.cap = cap
        memcpy(self.buf + self.off + self.held_n, self.chunk + self.pos, n)
        self.held_n += n
        self.pos += n
        return 0

    cdef int enter_blob(self) except -1:
        cdef const tz_token *size
        cdef int64_t hint = 0
        cdef Content content
        self.where = AT_BLOB
        if self.content is not None:  # a comment inside the text has ended
            return 0
        content = Content.__new__(Content)
        content.relay = self.relay
        content.limit = self.limit_blob
        if self.relay:
            content.slices = []
            b64_scan_init(&content.scan)
        else:
            b64_decode_init(&content.decode)
            size = tz_attr(self.s.tok, self.s.stack[1], self.buf + self.off, "size", 4)
            if size != NULL:
                hint = tz_integer(self.buf + self.off + size.v, size.vlen)
            content.hint = max(0, min(hint, <int64_t>self.limit_blob))
        if self.contents is None:
            self.contents = []
        self.contents.append(content)
        self.content = content
        return 0

    cdef void forget(self) noexcept:
        self.last = None
        self.s.old = NULL

    cdef Element make(self, const uint8_t *b):
        """The element b[:p]."""
        cdef Element element = Element.__new__(Element)
        cdef size_t notes = self.s.ntok * sizeof(tz_token)
        cdef const tz_token *t
        cdef uint32_t k
        element.tok = take_memory(notes + self.p + TZ_SLACK)
        if element.tok == NULL:
            raise MemoryError
        memcpy(element.tok, self.s.tok, notes)
        element.raw = <uint8_t *>element.tok + notes
        memcpy(element.raw, b, self.p)
        if self.p <= FOLLOW and self.s.root != TZ_SET_BLOB and self.s.root != TZ_NEW_BLOB:
            self.last = element
            self.s.old = element.raw
            self.s.old_len = self.p
            self.s.old_ntok = self.s.ntok
            self.s.old_root = self.s.root
        else:
            self.forget()
        element.ntok = self.s.ntok
        self.s.ntok = 0
        element.length = self.p
        element.root = self.s.root
        element.tag = <str>ROOT_NAMES[self.s.root]
        element.attached = self.s.attached
        element.descriptors = self.s.descriptors
        element.contents = self.contents
        for k in range(1, 1 + element.tok[0].vlen):
            t = &element.tok[k]
            if t.alen == 6 and memcmp(b + t.a, b"device", 6) == 0:
                if not same(self.device, b, t):
                    self.device = attr_str(b, t)
                element.device = self.device
            elif t.alen == 4 and memcmp(b + t.a, b"name", 4) == 0:
                if not same(self.name, b, t):
                    self.name = attr_str(b, t)
                element.name = self.name
        if self.s.elem_flags & (TF_HIGH | TF_AMP | TF_CTRL):
            self.replaced += tz_count_replaced(element.tok, element.ntok, element.raw, &TMP)
            trim(&TMP)
        return element

    # ------------------------------------------------------------------------------------------------- skipping

    # None of this fails for want of memory: that is a reason to be here.

    cdef void give_up(self, int reason, size_t by) noexcept:
        """Refuse the unfinished root, of which `by` bytes are looked at: all that is kept for it is released first."""
        cdef uint64_t nbytes = by + self.content_text
        cdef uint8_t excerpt[EXCERPT]
        cdef size_t shown = min(by, <size_t>EXCERPT)
        memcpy(excerpt, self.root(), shown)
        self.lost_attached += self.s.descriptors
        self.s.descriptors = 0
        self.skipped_bytes += nbytes
        self.advance(by)
        if self.junk_run:
            self.end_junk()
        self.after_damage = True
        self.tell(reason, nbytes, excerpt, shown)

    cdef void tell(self, int reason, uint64_t nbytes, const uint8_t *excerpt, size_t shown) noexcept:
        word = <str>REASONS[reason]
        try:
            self.skipped[word] = self.skipped.get(word, 0) + 1
            if self.on_skip is not None:
                self.call_on_skip(word, nbytes, PyBytes_FromStringAndSize(<const char *>excerpt, shown))
        except MemoryError:  # not even a few bytes: `skipped_bytes` has it
            pass

    cdef void call_on_skip(self, str word, uint64_t nbytes, bytes excerpt) noexcept:
        self.on_skip(word, nbytes, excerpt)  # what it raises goes to sys.unraisablehook

    cdef void junk(self, const uint8_t *b, size_t n) noexcept:
        """Bytes between roots that are skipped; white space is nothing to speak of."""
        cdef size_t i = 0
        cdef size_t shown
        if not self.junk_run:
            while i < n and tz_class[b[i]] & TC_SPACE:
                i += 1
        if i == n:
            return
        n -= i
        shown = min(n, EXCERPT - self.junk_shown)
        memcpy(self.junk_excerpt + self.junk_shown, b + i, shown)
        self.junk_shown += shown
        self.junk_run += n
        self.skipped_bytes += n
        if self.junk_run - self.junk_reported >= self.limit_junk:
            self.tell(TZ_R_JUNK, self.junk_run - self.junk_reported, self.junk_excerpt, self.junk_shown)
            self.junk_reported = self.junk_run
            self.junk_shown = 0

    cdef void end_junk(self) noexcept:
        """A run of junk has ended. What follows a damaged element is its rest, and has been told with it."""
        cdef uint64_t n = self.junk_run - self.junk_reported
        cdef size_t shown = self.junk_shown
        self.junk_run = self.junk_reported = 0
        self.junk_shown = 0
        if n and not self.after_damage:
            self.tell(TZ_R_JUNK, n, self.junk_excerpt, shown)

    def abandon(self) -> None:
        """Refuse the unfinished element, release what is kept for it, and go on with the next root."""
        self.drop(TZ_R_ABANDONED)

    def close(self) -> None:
        """The stream has ended: an unfinished element counts as skipped ("truncated")."""
        self.drop(TZ_R_TRUNCATED)
        if self.junk_run:
            self.end_junk()
        self.after_damage = False

    cdef int drop(self, int reason) except -1:
        if self.busy:
            raise RuntimeError("the tokenizer is being fed")
        self.busy = True  # as seen by on_skip
        self.fresh = 0
        if self.where == AT_BLOB or (self.where == AT_ROOT and self.s.depth):
            self.give_up(reason, self.held_n)
        else:
            if self.where == AT_ROOT:
                self.junk(self.buf + self.off, self.held_n)
            self.advance(self.held_n)
        self.busy = False
        return 0
