"""The table of contents of the parser: its classes, their fields, and what holds of them.

`_parser.pyx` includes one file per concept, in the order of this one: `parser/memory.pxi`, `strings.pxi`, `blocks.pxi`,
`content.pxi`, `element.pxi`, `tokenizer.pxi`. What Python sees of it stands in `_parser.pyi`, the C in `_tokens.pxd`.

Threads: everything here is done by a thread that holds the GIL, but for three steps of the codec
(`Content.feed_decode`, `feed_relay`, on large pieces; `value`), each of which touches nothing but memory that its caller
keeps alive and nobody else writes to. What relies on the GIL:

* `Shared` and the unused blocks of a `BlockPool` are used by all threads, without a lock.
* `Tokenizer.busy` turns a second thread away; that it is set before another thread looks is the GIL's doing.
* an `Element` and its `Member`s may be read by several threads at once. What they note lazily (`_attrs`, `_pieces`,
  `_size`, `Content.data`) is set at most once from nothing to its value, or to another one that is equal; without the
  GIL, a reader could meet the first value while the second replaces it and frees it.

So the module does not declare itself `freethreading_compatible` (`setup.py`): a free-threaded CPython takes the GIL
back when it is imported.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from indifast._base64 cimport b64_decode_state, b64_scan_state
from indifast._tokens cimport TZ_REFUSE, TZ_R_MEMORY, tz_event, tz_out, tz_reason, tz_scan_state, tz_token


# ------------------------------------------------------------------------------------------------------ memory

cdef enum:
    NAMES = 1024              # strings remembered
    SPARES = 256              # unused pieces of memory for elements that are kept


cdef struct Shared:
    # All that the objects of this module have in common, of which there is one: `shared` in memory.pxi.

    # Scratch space of whoever runs, until the next call that may run Python code: what makes an object may collect
    # garbage, and that may run anything. Empty before and after: `trim`, which also gives a large one back. `value` is
    # for one value, `run` for a run of text, which is made of values.
    tz_out value
    tz_out run

    # Scratch space for the form of an element, which outlives calls into Python. So it is taken away while it is used
    # (`borrow`, `give_back`), and whoever wants it meanwhile gets memory of its own.
    tz_out form

    # The last string of each hash that `name_str` has made: a reference each, or NULL.
    PyObject *names[NAMES]

    # Memory for elements of middling size that nobody uses: the first `spare` hold ELEMENT_SLOT bytes each.
    void *slots[SPARES]
    int spare


# ---------------------------------------------------------------------------------------------- receive buffers

cdef class BlockPool:
    # Memory for Blocks. A pool outlives its blocks: each of them refers to it.

    # Fixed: bytes of a block; how many unused ones are kept at most.
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t keep

    # count <= keep unused blocks in spare[:count], out of `blocks` in use or not. `least`: the fewest unused ones at any
    # time since the last `trim`, so that many were not needed.
    cdef readonly Py_ssize_t blocks
    cdef Py_ssize_t count
    cdef Py_ssize_t least
    cdef void **spare


@cython.final
cdef class Block:
    # One receive buffer. Its memory is its own until it dies; views hold a reference, so it dies with the last of them,
    # in whatever thread that is.

    cdef void *mem               # `size` bytes
    cdef readonly Py_ssize_t size
    cdef BlockPool pool


# ----------------------------------------------------------------------------------------------------- content

@cython.final
cdef class Content:
    # The content of one oneBLOB: `feed` until that returns TZ_BLOB_END, `finish`, and from then on it only changes in
    # that `value` may decode it. While it arrives, only the tokenizer knows it.

    # Fixed when it begins.
    cdef bint relay              # the relayed form is kept, else the decoded one
    cdef uint64_t limit          # decoded bytes
    cdef uint64_t hint           # announced by `size`, not believed; 0: nothing

    # Set when `feed` returns TZ_REFUSE.
    cdef tz_reason refused

    # Decoded form (relay: only once `value` was asked for): bytes data[:filled], which nobody else sees before `finish`.
    # `cap` bytes have been allocated; afterwards cap == filled. NULL: nothing yet.
    cdef b64_decode_state decode
    cdef PyObject *data
    cdef size_t filled, cap

    # Relayed form: the text from its first base64 character on is that of `slices` and then that of `small`, `kept`
    # bytes in all. Slices are memoryviews of what was fed, or bytes gathered in `small`. Afterwards, `small` is empty,
    # and the text ends with its last base64 character. None, if not relay.
    cdef b64_scan_state scan
    cdef list slices
    cdef tz_out small
    cdef uint64_t kept

    # While it arrives. Behind a refusal or a MemoryError, it is fit for nothing but being released.
    cdef tz_event feed(self, const uint8_t *src, size_t n, object owner, size_t owner_size, size_t offset,
                       size_t *used) except? TZ_REFUSE
    cdef tz_event feed_decode(self, const uint8_t *src, size_t n, size_t *used) except? TZ_REFUSE
    cdef tz_event feed_relay(self, const uint8_t *src, size_t n, object owner, size_t owner_size, size_t offset,
                             size_t *used) except? TZ_REFUSE
    cdef tz_event refuse(self, tz_reason reason) noexcept
    cdef int grow(self, size_t need) except -1
    cdef int keep(self, const uint8_t *src, size_t n, object owner, size_t owner_size, size_t offset) except -1
    cdef int flush(self) except -1
    cdef tz_reason finish(self) except? TZ_R_MEMORY

    # At any time.
    cdef size_t held(self) noexcept
    cdef bint empty(self) noexcept

    # Afterwards.
    cdef uint64_t decoded(self) noexcept
    cdef object value(self)


# ---------------------------------------------------------------------------------------------------- elements

# None of these can be part of a reference cycle: a member refers to its element, and nothing refers back.

@cython.final
cdef class Element:
    # One complete root element. Fixed once the tokenizer has made it, except for what is noted when first asked for.

    # What everybody asks for; `attached`, `descriptors`: how many oneBLOBs announce content in a descriptor, or bring one.
    cdef readonly str tag
    cdef readonly str device
    cdef readonly str name
    cdef readonly int attached
    cdef readonly int descriptors

    # Its bytes raw[:length], of which TZ_SLACK more can be read, and its tokens tok[:ntok], whose offsets count from
    # `raw`. Both stand in one piece of memory at `tok`: `take_memory`.
    cdef tz_token *tok
    cdef uint8_t *raw
    cdef size_t length
    cdef uint32_t ntok
    cdef uint8_t root            # its kind, index in tz_roots

    # A Content for each oneBLOB that is not self-closing, by the `v` of its TK_BLOB; None: there is no such oneBLOB.
    cdef list contents

    # Noted when first asked for; None, 0: not yet.
    cdef dict _attrs
    cdef tuple _pieces           # the inline form
    cdef Py_ssize_t _size

    cdef Content content(self, uint32_t at)
    cdef list carriers(self)
    cdef tuple _inline(self)


@cython.final
cdef class Member:
    # One element inside a root: a place in the tokens of its element, which it keeps alive.

    cdef readonly str tag
    cdef readonly str name
    cdef Element element
    cdef uint32_t at             # its TK_START in element.tok
    cdef dict _attrs             # noted when first asked for

    cdef Py_ssize_t content_size(self)


# --------------------------------------------------------------------------------------------------- tokenizer

cdef enum:
    EXCERPT = 80              # bytes of a damaged element shown to on_skip


cdef enum Where:
    AT_JUNK                   # between roots: nothing is kept but `buf[off:off + held_n]`, still to be looked at
    AT_ROOT                   # in a root, or behind a '<' that may begin one: `s` scans
    AT_BLOB                   # in the text of a oneBLOB: `content` takes it


@cython.final
cdef class Tokenizer:
    # One stream. Used by one thread at a time, and not by what it calls (`on_skip`): `busy` sees to that.

    # Fixed.
    cdef bint relay
    cdef uint64_t limit_blob
    cdef uint64_t limit_junk
    cdef object on_skip

    # The chunk that is being fed, up to `pos`; valid while `busy`.
    cdef bint busy
    cdef const uint8_t *chunk
    cdef size_t pos

    # The unfinished root, or what may become one: in the chunk alone, from `pos` on (`direct`), or in buf[off:off + held_n],
    # whose last `fresh` bytes stand in the chunk as well, right before `pos`. The text of BLOBs is taken out of it.
    # Its first `p` bytes are scanned; `starved`: all of them, the scan needs more.
    cdef Where where
    cdef tz_scan_state s
    cdef uint8_t *buf
    cdef size_t cap, off, held_n
    cdef size_t fresh
    cdef size_t p
    cdef bint direct
    cdef bint starved

    # The BLOBs of the unfinished root: all of them, the open one, bytes of text so far.
    cdef list contents
    cdef Content content
    cdef uint64_t content_text

    # The last element, while its tokens stand in s.tok: they serve as a guess at those of the next. s.old points into it.
    cdef Element last
    # Of the last element: often those of the next one.
    cdef str device, name

    # Junk since the last root: bytes, how many of them have been told, and the first that have not. `after_damage`:
    # it is the rest of a damaged element, and is not told again.
    cdef uint64_t junk_run, junk_reported
    cdef uint8_t junk_excerpt[EXCERPT]
    cdef size_t junk_shown
    cdef bint after_damage

    # What was skipped so far.
    cdef readonly dict skipped
    cdef readonly uint64_t skipped_bytes
    cdef readonly uint64_t replaced
    cdef readonly uint64_t lost_attached

    # Reading. MemoryError from `run` stands for the unfinished root, which is to be given up; then it may go on.
    cdef int run(self, size_t n, size_t size, object owner, list found) except -1
    cdef const uint8_t *root(self) noexcept
    cdef void begin(self, bint direct) noexcept
    cdef void advance(self, size_t by) noexcept
    cdef int hold(self, size_t n) except -1
    cdef int enter_blob(self) except -1
    cdef void forget(self) noexcept
    cdef Element make(self, const uint8_t *b)

    # Skipping. None of this fails for want of memory: that is a reason to be here.
    cdef void give_up(self, tz_reason reason, size_t by) noexcept
    cdef void tell(self, tz_reason reason, uint64_t nbytes, const uint8_t *excerpt, size_t shown) noexcept
    cdef void call_on_skip(self, str word, uint64_t nbytes, bytes excerpt) noexcept
    cdef void junk(self, const uint8_t *b, size_t n) noexcept
    cdef void end_junk(self) noexcept
    cdef int drop(self, tz_reason reason) except -1
