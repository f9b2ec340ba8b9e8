"""Overview of the parser: its classes, their fields and invariants.

`_parser.pyx` includes one file per concept, in the order used here: `parser/memory.pxi`, `strings.pxi`, `blocks.pxi`,
`content.pxi`, `element.pxi`, `tokenizer.pxi`. `_parser.pyi` declares the Python interface, `_tokens.pxd` the C code.

Threads: everything here runs in a thread that holds the GIL, except for three steps of the codec
(`Content.feed_decode` and `feed_relay` on large pieces, and `value`). Each of these only touches memory that its caller
keeps alive and that nothing else writes to. The following relies on the GIL:

* All threads use `Shared` and the unused blocks of a `BlockPool` without a lock.
* `Tokenizer.busy` turns a second thread away; only the GIL ensures that it is set before another thread checks it.
* Several threads may read an `Element` and its `Member`s at once. What these cache (`_attrs`, `_pieces`, `_size`,
  `Content.data`) changes at most once from nothing to its value, or is replaced by an equal one. Without the GIL, a
  reader could be using the first value while the second one replaces and frees it.

So the module does not declare itself `freethreading_compatible` (`setup.py`): a free-threaded CPython re-enables the
GIL when it imports the module.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from indifast._base64 cimport b64_decode_state, b64_scan_state
from indifast._tokens cimport TZ_REFUSE, TZ_R_MEMORY, tz_event, tz_out, tz_reason, tz_scan_state, tz_token


# ------------------------------------------------------------------------------------------------------ Memory

cdef enum:
    NAMES = 1024              # number of cached strings
    SPARES = 256              # number of unused pieces of memory kept for elements


cdef struct Shared:
    # Everything that the objects of this module share. There is one instance: `shared` in memory.pxi.

    # Scratch space for the running function, valid until the next call that may run Python code: creating an object may
    # trigger garbage collection, which may run anything. The buffers are empty before and after use; `trim` empties
    # them and frees large ones. `value` is for one value, `run` for a run of text, which consists of values.
    tz_out value
    tz_out run

    # Scratch space for the serialized form of an element, which stays in use during calls into Python. So a function
    # that uses it takes it away (`borrow`, `give_back`); any other one in the meantime gets fresh memory.
    tz_out form

    # The last string that `name_str` created for each hash: an owned reference, or NULL.
    PyObject *names[NAMES]

    # Unused memory for elements of medium size: the first `spare` slots point to ELEMENT_SLOT bytes each.
    void *slots[SPARES]
    int spare


# ---------------------------------------------------------------------------------------------- Receive buffers

cdef class BlockPool:
    # Memory for Blocks. A pool outlives its blocks because each block holds a reference to it.

    # Fixed: size of a block in bytes; the largest number of unused blocks to keep.
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t keep

    # spare[:count] are the unused blocks, count <= keep; `blocks` counts all blocks, in use or not. `least` is the
    # lowest `count` since the last `trim`: that many blocks were not needed.
    cdef readonly Py_ssize_t blocks
    cdef Py_ssize_t count
    cdef Py_ssize_t least
    cdef void **spare


@cython.final
cdef class Block:
    # One receive buffer. It owns its memory until it is deallocated. Views hold a reference, so it is deallocated with
    # the last view, in any thread.

    cdef void *mem               # `size` bytes
    cdef readonly Py_ssize_t size
    cdef BlockPool pool


@cython.final
cdef class Arrival:
    # Memory of a content as it arrives. `made` is None once it was handed out; until then, nobody else has it.

    cdef bytes made
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t views        # exported and not yet released


# ----------------------------------------------------------------------------------------------------- Content

@cython.final
cdef class Content:
    # The content of one oneBLOB. Call `feed` until it returns TZ_BLOB_END, then `finish`. After that, the only possible
    # change is that `value` decodes the content. While content arrives, only the tokenizer has access to it.

    # Fixed at the beginning.
    cdef bint relay              # keep the relayed form, otherwise the decoded one
    cdef uint64_t limit          # in decoded bytes
    cdef uint64_t hint           # what `size` announces, not trusted; 0: nothing

    # Set when `feed` returns TZ_REFUSE.
    cdef tz_reason refused

    # Decoded form (in relay mode only after `value` has been called): the bytes data[:filled], not visible elsewhere
    # before `finish`. `cap` bytes are allocated; after `finish`, cap == filled. NULL: nothing yet.
    cdef b64_decode_state decode
    cdef PyObject *data
    cdef size_t filled, cap

    # Relayed form: the text, starting with its first base64 character, consists of `slices` followed by `small`, `kept`
    # bytes in total. Slices are memoryviews of the buffers that were fed, or bytes gathered in `small`. After `finish`,
    # `small` is empty and the text ends with its last base64 character. `slices` is None unless in relay mode.
    cdef b64_scan_state scan
    cdef list slices
    cdef tz_out small
    cdef uint64_t kept

    # Used while content arrives. After a refusal or a MemoryError, the object can only be released.
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

    # Usable at any time.
    cdef size_t held(self) noexcept
    cdef bint empty(self) noexcept

    # Usable after `finish`.
    cdef uint64_t decoded(self) noexcept
    cdef object value(self)


# ---------------------------------------------------------------------------------------------------- Elements

# None of these can be part of a reference cycle: a member refers to its element, but nothing refers back.

@cython.final
cdef class Element:
    # One complete root element. It does not change once the tokenizer has created it, except for cached values.

    # What every user needs. `attached`, `descriptors` and `raws`: the number of oneBLOBs that announce content beside the
    # message, of those that come with a descriptor, and of those whose content follows as raw bytes.
    cdef readonly str tag
    cdef readonly str device
    cdef readonly str name
    cdef readonly int attached
    cdef readonly int descriptors
    cdef readonly int raws

    # Its bytes raw[:length], followed by TZ_SLACK more readable bytes, and its tokens tok[:ntok], whose offsets
    # count from `raw`. Both are in one piece of memory that begins at `tok`, see `take_memory`.
    cdef tz_token *tok
    cdef uint8_t *raw
    cdef size_t length
    cdef uint32_t ntok
    cdef uint8_t root            # its kind, an index into tz_roots

    # A Content for each oneBLOB that is not self-closing, indexed by the `v` of its TK_BLOB. None: no such oneBLOB.
    cdef list contents

    # Cached on first use; None or 0: not yet.
    cdef dict _attrs
    cdef tuple _pieces           # the inline form
    cdef Py_ssize_t _size

    # Its members: positions in the tokens.
    cdef bint next_member(self, uint32_t *at) noexcept
    cdef bint next_carrier(self, uint32_t *at) except -1
    cdef bint one_blob(self, uint32_t at) noexcept
    cdef bint beside(self, uint32_t at) noexcept
    cdef Member member(self, uint32_t at)
    cdef Content content(self, uint32_t at)
    cdef Py_ssize_t content_size(self, uint32_t at) except -1
    cdef str format_at(self, uint32_t at)
    cdef object size_at(self, uint32_t at)
    cdef object length_at(self, uint32_t at)
    cdef int64_t stored_length(self, uint32_t at) noexcept

    cdef tuple _inline(self)


@cython.final
cdef class Member:
    # One element inside a root: a position in the tokens of its root element, which it keeps alive.

    cdef readonly str tag
    cdef readonly str name
    cdef Element element
    cdef uint32_t at             # index of its TK_START in element.tok
    cdef dict _attrs             # cached on first use


# --------------------------------------------------------------------------------------------------- Tokenizer

cdef enum:
    EXCERPT = 80              # bytes of a damaged element that on_skip gets
    SHAPES = 4                # number of elements that are kept because their like may come again


cdef enum Where:
    AT_JUNK                   # between roots: nothing is kept but `buf[off:off + held_n]`, not yet examined
    AT_ROOT                   # in a root, or after a '<' that may begin one: `s` scans
    AT_BLOB                   # in the text of a oneBLOB: `content` consumes it


@cython.final
cdef class Tokenizer:
    # One stream. `busy` ensures that only one thread at a time uses it, and that `on_skip`, which it calls, does not.

    # Fixed.
    cdef bint relay
    cdef uint64_t limit_blob
    cdef uint64_t limit_junk
    cdef object on_skip

    # May be set between two calls of `feed`, and by what `on_instruction` calls.
    cdef public object on_instruction
    cdef public bint raw
    cdef public bint halt

    # The chunk that is being fed, processed up to `pos`; valid while `busy`.
    cdef bint busy
    cdef const uint8_t *chunk
    cdef size_t pos

    # Where the last `feed` stopped, counted from the beginning of its buffer: before raw bytes, after an
    # instruction that asked for it, or at its end.
    cdef readonly Py_ssize_t stopped

    # The last `feed` has found nothing but elements without content and descriptors, and nothing is left over.
    cdef readonly bint plain

    # Raw bytes may follow that nobody can tell from elements: everything from here on is ignored.
    cdef readonly bint broken

    # The unfinished root, or what may become one: either only in the chunk, from `pos` on (`direct`), or in
    # buf[off:off + held_n], whose last `fresh` bytes are also in the chunk, right before `pos`. The text of BLOBs is
    # removed from it. Its first `p` bytes have been scanned; `starved`: all of them have, and the scan needs more.
    cdef Where where
    cdef tz_scan_state s
    cdef uint8_t *buf
    cdef size_t cap, off, held_n
    cdef size_t fresh
    cdef size_t p
    cdef bint direct
    cdef bint starved

    # The BLOBs of the unfinished root: all of them, the open one, and the bytes of their text so far.
    cdef list contents
    cdef Content content
    cdef uint64_t content_text

    # The element whose tokens are in s.tok: they predict those of the next one. s.old points into it. None: nothing is
    # predicted.
    cdef Element last
    # One small element of each shape that has come lately, in the first `known` of SHAPES slots; `next_slot` is replaced
    # next. `shape` is the slot of the last element, `expected` that of `last`; after[k] is the slot of what came after
    # an element of shape k.
    cdef list shapes
    cdef int known, next_slot, shape, expected
    cdef int after[SHAPES]
    # Device and name of the last element, often the same as those of the next one.
    cdef str device, name

    # Junk since the last root: its bytes, how many of them have been reported, and the first unreported ones.
    # `after_damage`: the junk is the rest of a damaged element and is not reported again.
    cdef uint64_t junk_run, junk_reported
    cdef uint8_t junk_excerpt[EXCERPT]
    cdef size_t junk_shown
    cdef bint after_damage

    # Counts of what has been skipped or replaced so far.
    cdef readonly dict skipped
    cdef readonly uint64_t skipped_bytes
    cdef readonly uint64_t replaced
    cdef readonly uint64_t lost_attached

    # Reading. A MemoryError from `run` means that the unfinished root must be given up. Then `run` may continue.
    cdef int run(self, size_t n, size_t size, object owner, list found) except -1
    cdef const uint8_t *root(self) noexcept
    cdef void begin(self, bint direct) noexcept
    cdef void advance(self, size_t by) noexcept
    cdef int hold(self, size_t n) except -1
    cdef int enter_blob(self) except -1
    cdef void forget(self) noexcept
    cdef Element make(self, const uint8_t *b)
    cdef void predict(self, Element element) noexcept
    cdef int shape_of(self, Element element) noexcept

    # Skipping. None of this may fail if memory runs out, as that is one of the reasons for skipping.
    cdef void give_up(self, tz_reason reason, size_t by) noexcept
    cdef void tell(self, tz_reason reason, uint64_t nbytes, const uint8_t *excerpt, size_t shown) noexcept
    cdef void call_on_skip(self, str word, uint64_t nbytes, bytes excerpt) noexcept
    cdef void junk(self, const uint8_t *b, size_t n) noexcept
    cdef void end_junk(self) noexcept
    cdef void instruction(self, const uint8_t *b, size_t n) noexcept
    cdef int drop(self, tz_reason reason) except -1
