"""Base64 as INDI carries it: one unwrapped run out, runs or lines of any length in (RFC 4648, section 4)."""

from libc.stdint cimport uint8_t

cdef extern from "base64_codec.h" nogil:
    void b64_codec_encode(const uint8_t *src, size_t n, uint8_t *dst)
    size_t b64_codec_decode(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *written)
    size_t b64_codec_scan(b64_scan_state *st, const uint8_t *src, size_t n)
    void b64_state_init_decode(b64_decode_state *st)
    void b64_state_init_scan(b64_scan_state *st)
    int b64_state_end_decode(const b64_decode_state *st)
    int b64_state_end_scan(const b64_scan_state *st)


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
