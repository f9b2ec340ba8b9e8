"""Base64 as INDI uses it: encodes to one unwrapped run, decodes runs or lines of any length (RFC 4648, section 4).

Any object with a contiguous buffer is accepted: bytes, bytearray, memoryview, NumPy arrays, mmap.  The GIL is released
while large data is processed.
"""

from cpython.buffer cimport (
    Py_buffer,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_XDECREF, PyObject
from libc.stdint cimport uint8_t

from indifast._cpython cimport PyBytes_AS, PyBytes_New, PyBytes_SIZE, _PyBytes_Resize, pages_will_fill

cdef extern from "base64_codec.h" nogil:
    void b64_codec_encode(const uint8_t *src, size_t n, uint8_t *dst)
    size_t b64_codec_decode(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *written)
    size_t b64_codec_scan(b64_scan_state *st, const uint8_t *src, size_t n)
    void b64_state_init_decode(b64_decode_state *st)
    void b64_state_init_scan(b64_scan_state *st)
    b64_error b64_state_end_decode(const b64_decode_state *st)
    b64_error b64_state_end_scan(const b64_scan_state *st)
    size_t b64_decoded_bound(const uint8_t *src, size_t n)
    void b64_codec_setup()
    int B64_PATHS
    const char *b64_path_name(int index)
    int b64_path_usable(int index)
    int b64_path_current()
    void b64_path_select(int index)

__all__ = ["Base64Error", "Decoder", "decode", "decode_into", "encode", "encode_into", "encoded_length", "paths", "use_path"]

cdef enum:
    GIL_BYTES = 8 << 10      # from this size on, releasing the GIL pays off
    HINT_BYTES = 16 << 20    # limit on what is allocated for an announced size
    STEP_BYTES = 16 << 10    # smallest buffer of a Decoder without a size hint


# ---------------------------------------------------------------- C interface for other extension modules

cdef void b64_decode_init(b64_decode_state *state) noexcept nogil:
    b64_state_init_decode(state)


cdef size_t b64_decode_step(b64_decode_state *state, const uint8_t *src, size_t n, uint8_t *dst, size_t dst_cap,
                            size_t *written) noexcept nogil:
    return b64_codec_decode(state, src, n, dst, dst_cap, written)


cdef b64_error b64_decode_end(const b64_decode_state *state) noexcept nogil:
    return b64_state_end_decode(state)


cdef void b64_scan_init(b64_scan_state *state) noexcept nogil:
    b64_state_init_scan(state)


cdef size_t b64_scan_step(b64_scan_state *state, const uint8_t *src, size_t n) noexcept nogil:
    return b64_codec_scan(state, src, n)


cdef b64_error b64_scan_end(const b64_scan_state *state) noexcept nogil:
    return b64_state_end_scan(state)


# ---------------------------------------------------------------- Errors

class Base64Error(ValueError):
    """Text that is not base64, or is incomplete.

    Attributes:
        offset: Index of the offending character in the text, counting white space; the length of the text if it ends
            too early.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message, offset)
        self.offset = offset

    def __str__(self) -> str:
        return self.args[0]


cdef object stopped(const b64_decode_state *st, int byte):
    """Return the error for a decoder that stopped at `byte`, or at the end of the text if `byte` is -1."""
    at = st.position
    if byte < 0:
        return Base64Error(f"the base64 text ends after {at} bytes within a group of four characters", at)
    shown = f"{chr(byte)!r}" if 32 <= byte < 127 else f"byte 0x{byte:02x}"
    if st.error == B64_ERROR_EARLY_PAD:
        return Base64Error(f"the padding at offset {at} begins too early in its group of four characters", at)
    if st.error == B64_ERROR_AFTER_PAD:
        return Base64Error(f"{shown} at offset {at} follows the padding, which ends the base64 text", at)
    if st.error == B64_ERROR_MISSING_PAD:
        return Base64Error(f"{shown} at offset {at} is where the second '=' of the padding should be", at)
    return Base64Error(f"{shown} at offset {at} is neither base64 nor white space", at)


# ---------------------------------------------------------------- Encoding

def encoded_length(nbytes: int, /) -> int:
    """Return the number of base64 characters, including padding, that `nbytes` bytes are encoded to."""
    if nbytes < 0:
        raise ValueError(f"the length must not be negative ({nbytes} bytes)")
    return (nbytes + 2) // 3 * 4


def encode(data, /) -> bytes:
    """Return the base64 text of a buffer as one run without line breaks."""
    cdef Py_buffer src
    cdef bytes out
    cdef uint8_t *dst
    PyObject_GetBuffer(data, &src, PyBUF_SIMPLE)
    try:
        out = PyBytes_FromStringAndSize(NULL, (src.len + 2) // 3 * 4)
        dst = <uint8_t *>PyBytes_AS_STRING(out)
        pages_will_fill(dst, (src.len + 2) // 3 * 4)
        if src.len < GIL_BYTES:
            b64_codec_encode(<const uint8_t *>src.buf, src.len, dst)
        else:
            with nogil:
                b64_codec_encode(<const uint8_t *>src.buf, src.len, dst)
    finally:
        PyBuffer_Release(&src)
    return out


def encode_into(data, out, /) -> int:
    """Write the base64 text of `data` to the beginning of a buffer.

    Args:
        data: The bytes to encode.
        out: Writable buffer for the text; must not overlap `data`.

    Returns:
        The length of the text.

    Raises:
        ValueError: If `out` is too small.
    """
    cdef Py_buffer src, dst
    cdef Py_ssize_t length
    PyObject_GetBuffer(data, &src, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &dst, PyBUF_WRITABLE)
        try:
            length = (src.len + 2) // 3 * 4
            if dst.len < length:
                raise ValueError(f"the output buffer has {dst.len} bytes, but {length} are needed")
            if src.len < GIL_BYTES:
                b64_codec_encode(<const uint8_t *>src.buf, src.len, <uint8_t *>dst.buf)
            else:
                with nogil:
                    b64_codec_encode(<const uint8_t *>src.buf, src.len, <uint8_t *>dst.buf)
        finally:
            PyBuffer_Release(&dst)
    finally:
        PyBuffer_Release(&src)
    return length


# ---------------------------------------------------------------- Decoding

def decode(data, /) -> bytes:
    """Return the bytes that a base64 text encodes; white space is allowed anywhere.

    Raises:
        Base64Error: If the text contains any other foreign character, or its padding is missing or wrong.
    """
    cdef Py_buffer src
    cdef PyObject *out = NULL
    cdef b64_decode_state st
    cdef size_t cap, used, written
    cdef uint8_t *dst
    PyObject_GetBuffer(data, &src, PyBUF_SIMPLE)
    try:
        b64_state_init_decode(&st)
        cap = b64_decoded_bound(<const uint8_t *>src.buf, src.len)
        out = PyBytes_New(NULL, cap)
        dst = <uint8_t *>PyBytes_AS(out)
        pages_will_fill(dst, cap)
        if src.len < GIL_BYTES:
            used = b64_codec_decode(&st, <const uint8_t *>src.buf, src.len, dst, cap, &written)
        else:
            with nogil:
                used = b64_codec_decode(&st, <const uint8_t *>src.buf, src.len, dst, cap, &written)
        if used < <size_t>src.len:
            raise stopped(&st, (<const uint8_t *>src.buf)[used])
        if b64_state_end_decode(&st):
            raise stopped(&st, -1)
        if written < cap:
            _PyBytes_Resize(&out, written)
        return <object>out
    finally:
        Py_XDECREF(out)
        PyBuffer_Release(&src)


def decode_into(data, out, /) -> int:
    """Decode a complete base64 text to the beginning of a buffer.

    Args:
        data: The text.
        out: Writable buffer for the result; must not overlap `data`.  The rest of it is left unchanged.

    Returns:
        The number of decoded bytes.

    Raises:
        Base64Error: As in `decode`.
        ValueError: If `out` is too small; it then holds what was decoded so far.
    """
    cdef Py_buffer src, dst
    cdef b64_decode_state st
    cdef size_t used, written
    PyObject_GetBuffer(data, &src, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &dst, PyBUF_WRITABLE)
        try:
            b64_state_init_decode(&st)
            if src.len < GIL_BYTES:
                used = b64_codec_decode(&st, <const uint8_t *>src.buf, src.len, <uint8_t *>dst.buf, dst.len, &written)
            else:
                with nogil:
                    used = b64_codec_decode(&st, <const uint8_t *>src.buf, src.len, <uint8_t *>dst.buf, dst.len,
                                            &written)
            if st.stop == B64_STOP_FULL:
                raise ValueError(f"the output buffer has {dst.len} bytes, too few for the decoded text")
            if used < <size_t>src.len:
                raise stopped(&st, (<const uint8_t *>src.buf)[used])
            if b64_state_end_decode(&st):
                raise stopped(&st, -1)
        finally:
            PyBuffer_Release(&dst)
    finally:
        PyBuffer_Release(&src)
    return written


cdef class Filled:
    """The filled bytes of a caller's buffer, whatever its shape and format; `Decoder.finish` returns a view of them."""

    cdef Py_buffer view
    cdef Py_ssize_t length

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.view.buf, self.length, 0, flags)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef class Decoder:
    """Decoder for text that arrives in pieces, which may be split anywhere.

    After an error, every further call raises the same error again.  By then the decoder has released its memory and
    the buffer `into`.

    Args:
        size_hint: The expected number of decoded bytes, to avoid reallocation.  It may be wrong.
        limit: The largest number of decoded bytes to accept.
        into: Writable buffer for the result; `feed` raises ValueError if it is too small.
    """

    cdef b64_decode_state state
    cdef PyObject *out           # bytes object being filled, or NULL
    cdef Py_buffer view          # of `into`
    cdef bint has_view
    cdef object failure          # the error that further calls raise
    cdef size_t done             # decoded bytes so far
    cdef size_t limit
    cdef size_t hint
    cdef bint busy

    def __cinit__(self, size_hint: int = 0, *, limit: int = 1 << 30, into=None):
        if limit < 0:
            raise ValueError(f"the limit must not be negative ({limit} bytes)")
        b64_state_init_decode(&self.state)
        self.limit = limit
        self.hint = min(max(size_hint, 0), limit)
        if into is not None:
            PyObject_GetBuffer(into, &self.view, PyBUF_WRITABLE)
            self.has_view = True

    def __dealloc__(self):
        self.release()

    cdef void release(self) noexcept:
        cdef PyObject *out = self.out
        self.out = NULL
        Py_XDECREF(out)
        if self.has_view:
            self.has_view = False
            PyBuffer_Release(&self.view)

    cdef object again(self):
        """Return a new copy of the failure: the traceback of the first one keeps its caller's variables alive."""
        return type(self.failure)(*self.failure.args)

    cdef object fail(self, object failure):
        """Enter the failed state; return the exception to raise."""
        self.failure = failure
        self.release()
        return self.again()

    cdef int reserve(self, size_t more) except -1:
        """Make room for `more` decoded bytes after the present ones, up to the limit."""
        cdef size_t have = PyBytes_SIZE(self.out) if self.out != NULL else 0
        cdef size_t need = min(self.done + more, self.limit)
        cdef size_t size
        if self.hint and self.done <= self.hint < need:
            need = self.hint  # assume that the rest is line feeds; if not, the buffer fills up and then grows
        if need <= have and self.out != NULL:
            return 0
        # Believe the announced size only in proportion to what has arrived; beyond it, grow in increasing steps.
        size = min(self.hint, max(<size_t>HINT_BYTES, have * 16))
        if size < need:
            size = min(max(need, have + have // 2, <size_t>STEP_BYTES), max(need, self.limit))
        if self.out == NULL:
            self.out = PyBytes_New(NULL, size)
        else:
            _PyBytes_Resize(&self.out, size)
        if size == self.hint:  # the final size: growing after this call would cost a copy
            pages_will_fill(PyBytes_AS(self.out), size)
        return 0

    def feed(self, data, /) -> int:
        """Decode the next piece of the text.

        Returns:
            The number of bytes decoded so far, over all pieces.

        Raises:
            Base64Error: If there is a foreign character or wrong padding, or the limit is exceeded.
            ValueError: If the buffer `into` is too small, or the decoder is finished.
        """
        cdef Py_buffer src
        cdef size_t cap, used, written
        cdef uint8_t *dst
        PyObject_GetBuffer(data, &src, PyBUF_SIMPLE)
        if self.busy or self.failure is not None:  # only now: getting the buffer may have called Python code
            PyBuffer_Release(&src)
            if self.busy:
                raise RuntimeError("this Decoder is being fed by another thread")
            raise self.again()
        self.busy = True
        try:
            used = 0
            while True:
                if self.has_view:
                    dst = <uint8_t *>self.view.buf
                    cap = min(<size_t>self.view.len, self.limit)
                else:
                    # Four characters make three bytes; up to three characters are carried over from the last piece.
                    self.reserve((<size_t>src.len - used + self.state.carry) // 4 * 3)
                    dst = <uint8_t *>PyBytes_AS(self.out)
                    cap = min(<size_t>PyBytes_SIZE(self.out), self.limit)
                if src.len < GIL_BYTES:
                    used += b64_codec_decode(&self.state, <const uint8_t *>src.buf + used, src.len - used,
                                             dst + self.done, cap - self.done, &written)
                else:
                    with nogil:
                        used += b64_codec_decode(&self.state, <const uint8_t *>src.buf + used, src.len - used,
                                                 dst + self.done, cap - self.done, &written)
                self.done += written
                if self.state.stop != B64_STOP_FULL or self.has_view or cap >= self.limit:
                    break
                self.hint = 0  # there is more than was announced
            if used < <size_t>src.len:
                if self.state.stop != B64_STOP_FULL:
                    raise self.fail(stopped(&self.state, (<const uint8_t *>src.buf)[used]))
                if cap < self.limit:
                    raise self.fail(ValueError(f"the output buffer has {cap} bytes, too few for the decoded text"))
                raise self.fail(Base64Error(f"the decoded text exceeds the limit of {self.limit} bytes",
                                            self.state.position))
        except MemoryError:
            raise self.fail(MemoryError()) from None
        finally:
            self.busy = False
            PyBuffer_Release(&src)
        return self.done

    def finish(self):
        """Return the whole result and end the decoder.

        Returns:
            Bytes, or a memoryview of the filled part of `into`.

        Raises:
            Base64Error: If the text is not complete.
        """
        if self.failure is not None:
            raise self.again()
        if self.busy:
            raise RuntimeError("this Decoder is being fed by another thread")
        if b64_state_end_decode(&self.state):
            raise self.fail(stopped(&self.state, -1))
        try:
            result = self.result()
        except MemoryError:
            raise self.fail(MemoryError()) from None
        self.failure = ValueError("this Decoder is finished")
        self.release()
        return result

    cdef object result(self):
        cdef Filled filled
        if self.has_view:
            filled = Filled.__new__(Filled)
            filled.view = self.view  # takes over the reference
            filled.length = self.done
            self.has_view = False
            return memoryview(filled)
        if self.out == NULL:
            return b""
        if self.done < <size_t>PyBytes_SIZE(self.out):
            _PyBytes_Resize(&self.out, self.done)
        return <object>self.out


# ---------------------------------------------------------------- Paths

def paths() -> tuple:
    """Return the names of the implementations that this processor can run, fastest first."""
    cdef list found = []
    for i in range(B64_PATHS):  # a comprehension would release an item twice in Cython 3.3 if memory runs out
        if b64_path_usable(i):
            found.append(b64_path_name(i).decode())
    return tuple(found)


def use_path(name: str, /) -> str:
    """Select an implementation for the whole process.

    Args:
        name: One of `paths()`.

    Returns:
        The name of the implementation used before.

    Raises:
        ValueError: If this machine has no such implementation.
    """
    cdef int i
    previous = b64_path_name(b64_path_current()).decode()
    for i in range(B64_PATHS):
        if b64_path_usable(i) and b64_path_name(i).decode() == name:
            b64_path_select(i)
            return previous
    raise ValueError(f"there is no base64 path {name!r} on this machine; there are {', '.join(paths())}")


b64_codec_setup()
