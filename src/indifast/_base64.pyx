"""Base64 as INDI carries it: one unwrapped run out, runs or lines of any length in (RFC 4648, section 4).

Buffers are anything with a contiguous buffer: bytes, bytearray, memoryview, NumPy arrays, mmap.  The GIL is released
around bulk work.
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

cdef extern from "base64_codec.h" nogil:
    void b64_codec_encode(const uint8_t *src, size_t n, uint8_t *dst)
    size_t b64_codec_decode(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *written)
    size_t b64_codec_scan(b64_scan_state *st, const uint8_t *src, size_t n)
    void b64_state_init_decode(b64_decode_state *st)
    void b64_state_init_scan(b64_scan_state *st)
    int b64_state_end_decode(const b64_decode_state *st)
    int b64_state_end_scan(const b64_scan_state *st)
    size_t b64_decoded_bound(const uint8_t *src, size_t n)
    void b64_codec_setup()
    int B64_PATHS
    const char *b64_path_name(int index)
    int b64_path_usable(int index)
    int b64_path_current()
    void b64_path_select(int index)

cdef extern from "memory.h" nogil:
    void memory_will_fill(void *block, size_t n)

cdef extern from "Python.h":
    # Cython's own declaration takes an object; here the reference may be replaced.
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t newsize) except -1
    PyObject *PyBytes_FromStringAndSize_ "PyBytes_FromStringAndSize"(const char *v, Py_ssize_t len) except NULL
    char *PyBytes_AS_STRING_ "PyBytes_AS_STRING"(PyObject *o)
    Py_ssize_t PyBytes_GET_SIZE_ "PyBytes_GET_SIZE"(PyObject *o)

__all__ = ["Base64Error", "Decoder", "decode", "decode_into", "encode", "encode_into", "encoded_length", "paths", "use_path"]

cdef enum:
    GIL_BYTES = 8 << 10      # from here on it is worth releasing the GIL
    HINT_BYTES = 16 << 20    # an announced size reserves at most this much
    STEP_BYTES = 16 << 10    # the smallest buffer of a Decoder that was told nothing


# ---------------------------------------------------------------- the C side, for other extension modules

cdef void b64_decode_init(b64_decode_state *state) noexcept nogil:
    b64_state_init_decode(state)


cdef size_t b64_decode_step(b64_decode_state *state, const uint8_t *src, size_t n, uint8_t *dst, size_t dst_cap,
                            size_t *written) noexcept nogil:
    return b64_codec_decode(state, src, n, dst, dst_cap, written)


cdef int b64_decode_end(const b64_decode_state *state) noexcept nogil:
    return b64_state_end_decode(state)


cdef void b64_scan_init(b64_scan_state *state) noexcept nogil:
    b64_state_init_scan(state)


cdef size_t b64_scan_step(b64_scan_state *state, const uint8_t *src, size_t n) noexcept nogil:
    return b64_codec_scan(state, src, n)


cdef int b64_scan_end(const b64_scan_state *state) noexcept nogil:
    return b64_state_end_scan(state)


cdef void b64_encode(const uint8_t *src, size_t n, uint8_t *dst) noexcept nogil:
    b64_codec_encode(src, n, dst)


# ---------------------------------------------------------------- errors

class Base64Error(ValueError):
    """Text that is not base64, or not all of it.

    `offset` is the index of the offending character in the text, white space counted; the length of the text when
    it ends too early.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message, offset)
        self.offset = offset

    def __str__(self) -> str:
        return self.args[0]


cdef object stopped(const b64_decode_state *st, int byte):
    """The error for a decoder that stopped at `byte` (-1: at the end of the text)."""
    at = st.position
    if byte < 0:
        return Base64Error(f"the base64 text ends after {at} bytes within a group of four characters", at)
    shown = f"{chr(byte)!r}" if 32 <= byte < 127 else f"byte 0x{byte:02x}"
    if st.error == B64_ERROR_EARLY_PAD:
        return Base64Error(f"the padding at offset {at} begins too early in its group of four characters", at)
    if st.error == B64_ERROR_AFTER_PAD:
        return Base64Error(f"{shown} at offset {at} stands behind the padding, where base64 text has ended", at)
    if st.error == B64_ERROR_MISSING_PAD:
        return Base64Error(f"{shown} at offset {at} stands where the second '=' of the padding must", at)
    return Base64Error(f"{shown} at offset {at} is neither base64 nor white space", at)


# ---------------------------------------------------------------- encoding

def encoded_length(nbytes: int, /) -> int:
    """The number of base64 characters, padding included, for so many bytes."""
    if nbytes < 0:
        raise ValueError(f"a length of {nbytes} bytes makes no sense")
    return (nbytes + 2) // 3 * 4


def encode(data, /) -> bytes:
    """The base64 text of a buffer: one run without line breaks."""
    cdef Py_buffer src
    cdef bytes out
    cdef uint8_t *dst
    PyObject_GetBuffer(data, &src, PyBUF_SIMPLE)
    try:
        out = PyBytes_FromStringAndSize(NULL, (src.len + 2) // 3 * 4)
        dst = <uint8_t *>PyBytes_AS_STRING(out)
        memory_will_fill(dst, (src.len + 2) // 3 * 4)
        if src.len < GIL_BYTES:
            b64_codec_encode(<const uint8_t *>src.buf, src.len, dst)
        else:
            with nogil:
                b64_codec_encode(<const uint8_t *>src.buf, src.len, dst)
    finally:
        PyBuffer_Release(&src)
    return out


def encode_into(data, out, /) -> int:
    """Writes the base64 text of `data` to the beginning of the writable buffer `out`; returns its length.

    The two must not overlap.  ValueError when `out` is too small.
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


# ---------------------------------------------------------------- decoding

def decode(data, /) -> bytes:
    """The bytes that a base64 text stands for; white space may stand anywhere.

    Base64Error when there is any other foreign character, or when the padding is missing or wrong.
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
        out = PyBytes_FromStringAndSize_(NULL, cap)
        dst = <uint8_t *>PyBytes_AS_STRING_(out)
        memory_will_fill(dst, cap)
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
    """Decodes a whole base64 text to the beginning of the writable buffer `out`; returns the number of bytes.

    What lies behind them in `out` is left alone.  The two must not overlap.  Base64Error as in `decode`, ValueError
    when `out` is too small; then `out` holds what was decoded so far.
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
                raise ValueError(f"the output buffer has {dst.len} bytes, which the text exceeds")
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
    """The bytes of a caller's buffer, whatever its own shape and format; what `Decoder.finish` gives a view of."""

    cdef Py_buffer view
    cdef Py_ssize_t length

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.view.buf, self.length, 0, flags)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef class Decoder:
    """Decodes a text that arrives in pieces, split anywhere.

    `size_hint` is the expected number of decoded bytes: it saves growing, and may be wrong.  `limit` is the largest
    number of decoded bytes accepted.  `into` is a writable buffer for the result; ValueError when it proves too small.
    After an error every further call raises it again, and the decoder holds no memory and no buffer any more.
    """

    cdef b64_decode_state state
    cdef PyObject *out           # bytes object under construction, or NULL
    cdef Py_buffer view          # of `into`
    cdef bint has_view
    cdef object failure          # what further calls raise
    cdef size_t done             # decoded bytes so far
    cdef size_t limit
    cdef size_t hint
    cdef bint busy

    def __cinit__(self, size_hint: int = 0, *, limit: int = 1 << 30, into=None):
        if limit < 0:
            raise ValueError(f"a limit of {limit} bytes makes no sense")
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
        """The failure, without the traceback of the call before, which would hold on to the variables of the caller."""
        return type(self.failure)(*self.failure.args)

    cdef object fail(self, object failure):
        """The end: returns what to raise."""
        self.failure = failure
        self.release()
        return self.again()

    cdef int reserve(self, size_t more) except -1:
        """Room for `more` decoded bytes behind those that are there, as far as the limit allows."""
        cdef size_t have = PyBytes_GET_SIZE_(self.out) if self.out != NULL else 0
        cdef size_t need = min(self.done + more, self.limit)
        cdef size_t size
        if self.hint and self.done <= self.hint < need:
            need = self.hint  # the rest is line feeds; if not, the buffer fills up, and grows then
        if need <= have and self.out != NULL:
            return 0
        # what was announced, as far as what has arrived makes it credible; beyond it, in growing steps
        size = min(self.hint, max(<size_t>HINT_BYTES, have * 16))
        if size < need:
            size = min(max(need, have + have // 2, <size_t>STEP_BYTES), max(need, self.limit))
        if self.out == NULL:
            self.out = PyBytes_FromStringAndSize_(NULL, size)
        else:
            _PyBytes_Resize(&self.out, size)
        if size == self.hint:  # it will not grow again, which costs a copy from then on
            memory_will_fill(PyBytes_AS_STRING_(self.out), size)
        return 0

    def feed(self, data, /) -> int:
        """Decodes the next piece of the text; returns the number of decoded bytes so far.

        Base64Error at a foreign character, at wrong padding, and beyond the limit.
        """
        cdef Py_buffer src
        cdef size_t cap, used, written
        cdef uint8_t *dst
        if self.failure is not None:
            raise self.again()
        if self.busy:
            raise RuntimeError("this Decoder is being fed by another thread")
        PyObject_GetBuffer(data, &src, PyBUF_SIMPLE)
        self.busy = True
        try:
            used = 0
            while True:
                if self.has_view:
                    dst = <uint8_t *>self.view.buf
                    cap = min(<size_t>self.view.len, self.limit)
                else:
                    # every four characters make three bytes; up to three characters are carried
                    self.reserve((<size_t>src.len - used + self.state.carry) // 4 * 3)
                    dst = <uint8_t *>PyBytes_AS_STRING_(self.out)
                    cap = min(<size_t>PyBytes_GET_SIZE_(self.out), self.limit)
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
                self.hint = 0  # more than was announced
            if used < <size_t>src.len:
                if self.state.stop != B64_STOP_FULL:
                    raise self.fail(stopped(&self.state, (<const uint8_t *>src.buf)[used]))
                if cap < self.limit:
                    raise self.fail(ValueError(f"the output buffer has {cap} bytes, which the text exceeds"))
                raise self.fail(Base64Error(f"the decoded text exceeds the limit of {self.limit} bytes",
                                            self.state.position))
        except MemoryError:
            raise self.fail(MemoryError()) from None
        finally:
            self.busy = False
            PyBuffer_Release(&src)
        return self.done

    def finish(self):
        """The whole result: bytes, or a memoryview of the part of `into` that was filled.

        Base64Error when the text is not complete.  Ends the decoder.
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
            filled.view = self.view  # with its reference
            filled.length = self.done
            self.has_view = False
            return memoryview(filled)
        if self.out == NULL:
            return b""
        if self.done < <size_t>PyBytes_GET_SIZE_(self.out):
            _PyBytes_Resize(&self.out, self.done)
        return <object>self.out


# ---------------------------------------------------------------- paths

def paths() -> tuple:
    """The implementations that this processor can run, the fastest first."""
    cdef list found = []
    for i in range(B64_PATHS):  # a comprehension of Cython 3.3 releases an item twice when there is no memory
        if b64_path_usable(i):
            found.append(b64_path_name(i).decode())
    return tuple(found)


def use_path(name: str, /) -> str:
    """Selects an implementation for the whole process; returns the name of the one used before."""
    cdef int i
    previous = b64_path_name(b64_path_current()).decode()
    for i in range(B64_PATHS):
        if b64_path_usable(i) and b64_path_name(i).decode() == name:
            b64_path_select(i)
            return previous
    raise ValueError(f"there is no base64 path {name!r} on this machine; there are {', '.join(paths())}")


b64_codec_setup()
