"""C interface of the codec for other extension modules: resumable decoding and scanning of base64, without the GIL.

Both steps consume white space (space, tab, carriage return, line feed) and base64 up to the end of the input, or up to
the first byte that stops them.  The state's `stop` says why a step stopped, and `position` counts the bytes consumed
since the beginning.  A byte that stops a step is not consumed.  The step may be called again with the following
text.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "base64_state.h" nogil:
    # b64_stop: why a step stopped.  b64_error: what is wrong with the padding.
    cdef enum b64_stop:
        B64_STOP_END, B64_STOP_FOREIGN, B64_STOP_FULL, B64_STOP_ERROR

    cdef enum b64_error:
        B64_OK, B64_ERROR_EARLY_PAD, B64_ERROR_AFTER_PAD, B64_ERROR_MISSING_PAD

    ctypedef struct b64_decode_state:
        uint64_t position                 # bytes of text consumed so far
        uint32_t sextets
        uint32_t column
        uint32_t width
        uint8_t carry                     # characters of the unfinished group, 0..3
        uint8_t pads
        uint8_t closed                    # the padding is complete
        uint8_t stop                      # b64_stop, of the last step
        uint8_t error                     # b64_error

    ctypedef struct b64_scan_state:
        uint64_t position                 # bytes of text consumed so far
        uint64_t chars                    # base64 characters so far, padding included
        uint64_t last                     # bytes of text up to and including the last base64 character
        uint32_t column
        uint8_t pads                      # '=' seen, 0..2: the decoded length is chars // 4 * 3 - pads
        uint8_t closed
        uint8_t white
        uint8_t ended
        uint8_t wrapped72                 # exactly 72 characters on every line but the last, single line feeds
        uint8_t unwrapped                 # no white space between the characters
        uint8_t stop                      # b64_stop, of the last step
        uint8_t error                     # b64_error


cdef void b64_decode_init(b64_decode_state *state) noexcept nogil
# Decodes into dst[0:dst_cap] and sets *written to the number of bytes written.  Returns the number of bytes consumed.
cdef size_t b64_decode_step(b64_decode_state *state, const uint8_t *src, size_t n, uint8_t *dst, size_t dst_cap,
                            size_t *written) noexcept nogil
# To be called at the end of the text: B64_OK if it is complete.
cdef b64_error b64_decode_end(const b64_decode_state *state) noexcept nogil

cdef void b64_scan_init(b64_scan_state *state) noexcept nogil
cdef size_t b64_scan_step(b64_scan_state *state, const uint8_t *src, size_t n) noexcept nogil
cdef b64_error b64_scan_end(const b64_scan_state *state) noexcept nogil
